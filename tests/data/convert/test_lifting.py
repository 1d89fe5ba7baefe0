from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.utils import k_hop_subgraph

from hyperlearn_pyg.data.convert import _sparse, from_k_hop, from_knn


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 7), st.integers(0, 12), st.integers(0, 3), st.booleans(), st.integers(0, 999))
def test_k_hop_equals_that_of_pyg(size: int, edges: int, k: int, include_self: bool, seed: int) -> None:
    gen = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(max(size, 1), (2, edges if size else 0), generator=gen)
    data = from_k_hop(edge_index, k, num_nodes=size, include_self=include_self)
    members = data.relation("hyperedge").incidence(0)
    assert len(data.relation("hyperedge")) == size
    for i in range(size):
        expected = set(k_hop_subgraph(i, k, edge_index, num_nodes=size)[0].tolist()) | {i}
        assert sorted(members[0, members[1] == i].tolist()) == sorted(expected - (set() if include_self else {i}))


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 7), st.integers(0, 4), st.sampled_from(["cosine", "euclidean"]), st.booleans(), st.integers(0, 999)
)
def test_knn_equals_the_plain_version(size: int, k: int, metric: str, include_self: bool, seed: int) -> None:
    x = torch.randn(size, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    data = from_knn(x, k, metric=metric, include_self=include_self)
    assert torch.equal(data["node"].x, x)
    unit = x / x.norm(dim=1, keepdim=True)
    distance = 1 - unit @ unit.T if metric == "cosine" else torch.cdist(x, x)
    members = data.relation("hyperedge").incidence(0)
    for i in range(size):
        near = [j for _, j in sorted((float(distance[i, j]), j) for j in range(size) if j != i)][:k]
        assert members[0, members[1] == i].tolist() == [i] * include_self + near


def graph() -> Data:
    return Data(
        x=torch.tensor([[1.0, 0], [0, 1], [1, 1]]),
        edge_index=torch.tensor([[0, 1], [1, 2]]),
        edge_attr=torch.ones(2, 4),
        y=torch.tensor([0, 1, 0]),
        pos=torch.tensor([[0.0], [1.0], [5.0]]),
        train_mask=torch.tensor([True, False, True]),
        name="a graph",
    )


def test_attributes_of_the_graph_are_kept() -> None:
    for data in (
        from_k_hop(graph(), 2, modality="paper", relation="near"),
        from_knn(graph(), 1, by="pos", modality="paper"),
    ):
        assert data.validate()
        assert set(data["paper"]) == {"num_nodes", "x", "y", "pos", "train_mask"}
        assert data["paper", "edge", "paper"].edge_attr.shape == (2, 4)
        assert data.name == "a graph"
    members = from_knn(graph(), 1, by="pos").relation("hyperedge").incidence(0)
    assert members.tolist() == [[0, 1, 1, 0, 2, 1], [0, 0, 1, 1, 2, 2]]
    members = from_k_hop(graph(), 2, modality="paper", relation="near").relation("near").incidence(0)
    assert members.tolist() == [[0, 0, 1, 0, 1, 2], [0, 1, 1, 2, 2, 2]]
    assert from_knn(torch.tensor([[1, 2]]))["node"].x.dtype == torch.float32


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    star = torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0]])
    with pytest.raises(ValueError, match="the hyperedge of node 0 is too large: 5, above 'max_size'"):
        from_k_hop(star, num_nodes=5, max_size=3)
    data = from_k_hop(star, num_nodes=5, max_size=3, oversize="drop")
    assert data.relation("hyperedge").incidence(0).tolist() == [[1, 2, 3, 4], [1, 2, 3, 4]]
    monkeypatch.setattr(_sparse, "MAX_PAIRS", 6)
    with pytest.raises(ValueError, match="the hypergraph of neighbourhoods may have up to 9 pairs"):
        from_k_hop(star, num_nodes=5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: from_k_hop(torch.zeros(2, 1).long()), "'num_nodes' of the graph is missing"),
        (lambda: from_k_hop(torch.tensor([[0], [3]]), num_nodes=3), r"index 3 at position \(1, 0\) is out of range"),
        (lambda: from_k_hop(torch.zeros(2, 1)), "'edge_index' must hold integer indices"),
        (lambda: from_k_hop(Data(x=torch.ones(1, 1))), r"must be a tensor of shape \[2, M\]"),
        (lambda: from_k_hop(graph(), -1), "'k' must be an integer of at least 0"),
        (lambda: from_k_hop(Batch.from_data_list([graph()])), "'data' is a batch"),
        (lambda: from_knn(Batch.from_data_list([graph()])), "'data' is a batch"),
        (lambda: from_knn(graph(), metric="manhattan"), "'metric' must be one of 'euclidean', 'cosine'"),
        (lambda: from_knn(graph(), by="z"), "the graph has no attribute 'z' to find neighbours by"),
        (lambda: from_knn(torch.ones(2)), r"'x' must be of shape \[num_nodes, num_features\]"),
        (lambda: from_knn(torch.tensor([[torch.nan]])), "'x' must be finite"),
    ],
)
def test_errors(call: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()
