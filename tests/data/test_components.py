from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, HeteroData

from hyperlearn_pyg.data import MultiModalHeteroData


def test_labels(town: MultiModalHeteroData) -> None:
    labels = town.component_labels()
    assert labels["user"].tolist() == [0, 0, 0, 0, 1]
    assert labels["film"].tolist() == [0, 0, 0]
    assert labels["tag"].tolist() == [0, 2]
    assert labels["visits"].tolist() == [0, 3, 0]


def test_components_are_the_parts(town: MultiModalHeteroData) -> None:
    labels, parts = town.component_labels(), town.connected_components()
    assert len(parts) == 4
    for number, part in enumerate(parts):
        assert part.validate()
        assert part.year == 2026
        for name, label in labels.items():
            assert part[name].num_nodes == int((label == number).sum())
    ids = [part["user"].item_id for part in parts]
    assert sorted(ids[0]) == list("abcd")
    assert ids[1:] == [["e"], [], []]
    assert sum(part["user", "knn", "user"].edge_weight.sum() for part in parts) == pytest.approx(0.6)
    assert sorted(parts[0]["rates"].value.tolist()) == [1.0, 2.0, 3.0]


def test_sizes_zero_and_one() -> None:
    data = MultiModalHeteroData()
    assert data.connected_components() == []
    assert data.component_labels() == {}
    data.add_modality("a", num_nodes=0).add_hyperedges("r", {"a": []})
    assert data.connected_components() == []
    assert data.largest_components().validate()
    assert not data.has_isolated_nodes()
    data = MultiModalHeteroData().add_modality("a", num_nodes=1).add_hyperedges("r", {"a": [0]})
    (part,) = data.connected_components()
    assert part.relation("r").index.tolist() == [[0]]
    assert not data.has_isolated_nodes()


def test_largest(town: MultiModalHeteroData, assert_same: Any) -> None:
    out = town.largest_components()
    assert out["user"].item_id == list("abcd")
    assert len(out.relation("visits")) == 2
    assert out.validate()
    out = town.largest_components(2)
    assert out["user"].item_id == list("abcde")
    assert out["tag"].num_nodes == 1
    assert_same(town.largest_components(9), town)
    with pytest.raises(ValueError, match="at least 1"):
        town.largest_components(0)


def test_isolated(town: MultiModalHeteroData) -> None:
    masks = town.isolated_items()
    assert masks["user"].tolist() == [False, False, False, False, True]
    assert masks["tag"].tolist() == [False, True]
    assert not masks["film"].any()
    assert town.has_isolated_nodes()
    kept = town.subgraph({name: ~mask for name, mask in masks.items()})
    assert not kept.has_isolated_nodes()
    assert len(kept.relation("visits")) == 3  # an empty hyperedge is no item
    kept["user", "likes", "film"].edge_index = torch.tensor([[0], [0]])
    kept = kept.hyperedge_subgraph({name: [] for name in kept.hyperedge_types})
    assert kept.isolated_items()["film"].tolist() == [False, True, True]


def test_a_batch_has_the_components_of_its_graphs(town: MultiModalHeteroData) -> None:
    parts = Batch.from_data_list([town, town]).connected_components()
    assert len(parts) == 8
    assert sum(part["film"].num_nodes for part in parts) == 6
    assert sorted(i for part in parts for i in part["film"].item_id) == list("xxyyzz")


def _random(cls: type[HeteroData], edges: list[tuple[int, int, int]]) -> HeteroData:
    data = cls()
    data["p"].x, data["q"].num_nodes = torch.arange(4.0).view(-1, 1), 3
    for number, edge_type in enumerate([("p", "to", "p"), ("p", "to", "q"), ("q", "to", "p")]):
        ends = [
            (a % data[edge_type[0]].num_nodes, b % data[edge_type[2]].num_nodes) for n, a, b in edges if n == number
        ]
        data[edge_type].edge_index = torch.tensor(ends, dtype=torch.long).view(-1, 2).t().contiguous()
        data[edge_type].edge_attr = torch.arange(len(ends))
    return data


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11), st.integers(0, 11)), max_size=6))
def test_as_pyg_and_as_networkx(edges: list[tuple[int, int, int]]) -> None:
    ours, theirs = _random(MultiModalHeteroData, edges), _random(HeteroData, edges)
    assert [repr(part.to_dict()) for part in ours.connected_components()] == [
        repr(part.to_dict()) for part in theirs.connected_components()
    ]
    assert ours.has_isolated_nodes() == theirs.has_isolated_nodes()
    graph = nx.Graph()
    graph.add_nodes_from((name, i) for name in "pq" for i in range(ours[name].num_nodes))
    for (source, _, target), index in ours.edge_index_dict.items():
        graph.add_edges_from(((source, a), (target, b)) for a, b in index.t().tolist())
    labels = ours.component_labels()
    for nodes in nx.connected_components(graph):
        assert len({int(labels[name][i]) for name, i in nodes}) == 1
    assert len({int(v) for label in labels.values() for v in label}) == nx.number_connected_components(graph)
