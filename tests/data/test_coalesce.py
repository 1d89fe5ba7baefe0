from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from hyperlearn_pyg.data import MultiModalHeteroData


def test_weights_of_memberships_add_up() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=3)
    index = torch.tensor([[2, 0, 2, 0, 1], [0, 1, 0, 0, 1]])
    data.add_hyperedges("r", {"a": index}, num_hyperedges=2, incidence_weight={"a": [1.0, 2.0, 4.0, 8.0, 16.0]})
    store = data["a", "member", "r"]
    store.note, store.step, store.num_edges = list("pqrst"), torch.arange(5), 5
    assert not data.is_coalesced()
    out = data.coalesce()
    assert out.is_coalesced()
    assert out.validate()
    store = out["a", "member", "r"]
    assert store.edge_index.tolist() == [[0, 0, 1, 2], [0, 1, 1, 0]]
    assert store.edge_weight.tolist() == [8.0, 2.0, 16.0, 5.0]
    assert (store.note, store.step.tolist(), store.num_edges) == (list("sqtp"), [3, 1, 4, 0], 4)
    assert data["a", "member", "r"].num_edges == 5  # the given data stays as it is

    def dense(each: MultiModalHeteroData) -> torch.Tensor:
        membership = each["a", "member", "r"]
        return torch.zeros(3, 2).index_put_(tuple(membership.edge_index), membership.edge_weight, accumulate=True)

    assert torch.equal(dense(data), dense(out))


def test_the_relation_stays(town: MultiModalHeteroData, assert_same: Any) -> None:
    out = town.coalesce()
    for name in ("rates", "follows", "marks"):
        assert torch.equal(out.relation(name).index, town.relation(name).index)
    assert_same(out.coalesce(), out)


@pytest.mark.parametrize("size", [0, 1])
def test_small(size: int) -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=size).add_hyperedges("r", {"a": [[0, 0]] * size})
    out = data.coalesce()
    assert out.is_coalesced()
    assert out["a", "member", "r"].num_edges == size
    assert MultiModalHeteroData().coalesce().is_coalesced()


def test_plain_data_as_pyg() -> None:
    outs = []
    for cls in (HeteroData, MultiModalHeteroData):
        data = cls()
        data["p"].num_nodes = 4
        data["p", "to", "p"].edge_index = torch.tensor([[3, 1, 3, 0], [0, 1, 0, 2]])
        data["p", "to", "p"].edge_attr = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]])
        outs.append(repr(data.coalesce().to_dict()))
    assert outs[0] == outs[1]


def test_other_layouts() -> None:
    data = MultiModalHeteroData()
    data["p"].num_nodes = 2
    with torch.sparse.check_sparse_tensor_invariants(True):
        data["p", "of", "p"].adj_t = torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (2, 2))
        out = data.coalesce()
        assert out["p", "of", "p"].adj_t.values().tolist() == [3.0]
        assert not data.is_coalesced()
        assert out.is_coalesced()
    data["p", "of", "p"].adj_t = None
    assert data.coalesce()["p", "of", "p"].num_edges == 0
