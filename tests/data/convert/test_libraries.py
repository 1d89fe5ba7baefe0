"""networkx, xgi and hypergraphx: the round trip through the objects of each."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from hyperlearn_pyg import _optional
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import (
    from_hypergraphx,
    from_networkx,
    from_xgi,
    to_hypergraphx,
    to_networkx,
    to_xgi,
)
from hyperlearn_pyg.errors import InputError


def load(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed")


def in_order(data: HeteroData) -> HeteroData:
    """Sort memberships by hyperedge, then slotwise by item: sets have no order."""
    for store in data.edge_stores:
        key = store.edge_index[0] + store.edge_index[1] * 1000
        if "edge_weight" in store:
            order = store.edge_weight.argsort(stable=True)
            order = order[key[order].argsort(stable=True)]
            store.edge_weight = store.edge_weight[order]
        else:
            order = key.argsort(stable=True)
        store.edge_index = store.edge_index[:, order]
    return data


@settings(deadline=None, max_examples=25)
@given(draw=st.data())
def test_networkx_round_trip(arbitrary: Any, same: Any, draw: st.DataObject) -> None:
    load("networkx")
    data = draw.draw(arbitrary())
    graph = to_networkx(data)
    assert graph.number_of_edges() == sum(store.edge_index.size(1) for store in data.edge_stores) + sum(
        data[t].edge_index.size(1) for t in data.edge_types if t[1] == "knn"
    )
    same(from_networkx(graph), data)


@settings(deadline=None, max_examples=25)
@given(draw=st.data())
def test_xgi_round_trip(arbitrary: Any, same: Any, draw: st.DataObject) -> None:
    load("xgi")
    data = draw.draw(arbitrary())
    if ("user", "knn", "user") in data.edge_types:
        del data["user", "knn", "user"]
    there = to_xgi(data)
    assert there.num_nodes == sum(data[m].num_nodes for m in data.modalities)
    assert there.num_edges == sum(data[n].num_nodes for n in data.hyperedge_types)
    same(in_order(from_xgi(there)), in_order(data))


@settings(deadline=None, max_examples=25)
@given(draw=st.data())
def test_hypergraphx_round_trip(arbitrary: Any, same: Any, draw: st.DataObject) -> None:
    load("hypergraphx")
    data = draw.draw(arbitrary())
    if ("user", "knn", "user") in data.edge_types:
        del data["user", "knn", "user"]
    members = []
    for name in data.hyperedge_types:
        view = data.relation(name)
        pairs = [(int(e), slot[0], int(i)) for slot in view.slots for i, e in data[slot].edge_index.t()]
        members += [frozenset((m, i) for e, m, i in pairs if e == j) for j in range(len(view))]
    filled = [m for m in members if m]
    if len(set(filled)) < len(filled):
        with pytest.raises(ValueError, match="have the same members"):
            to_hypergraphx(data)
        merged = to_hypergraphx(data, duplicates="merge")
        assert merged.num_edges() == len(set(filled))
        return
    same(in_order(from_hypergraphx(to_hypergraphx(data))), in_order(data))


def test_networkx_graph(small: MultiModalHeteroData) -> None:
    networkx = load("networkx")
    graph = to_networkx(small, relations=["rates", "follows"])
    assert networkx.is_bipartite(graph)
    assert graph.nodes["user", "a"] == {"bipartite": 0, "modality": "user", "x": [0.0, 1.0], "item_name": "A"}
    assert graph.nodes["rates", 1]["value"] == 2.0
    assert {d["role"] for *_, d in graph.edges(("follows", 0), data=True)} == {"follower", "followee"}
    assert to_networkx(small).nodes["user knn user", 0]["bipartite"] == 1


def test_networkx_of_ones_own() -> None:
    networkx = load("networkx")
    graph = networkx.Graph()
    graph.add_nodes_from(["ann", "bob"], bipartite=0)
    graph.add_node("film", bipartite=0, modality="film")
    graph.add_nodes_from([("e", {"cost": 2.0}), ("f", {"cost": 3.0})], bipartite=1)
    graph.add_edges_from([("e", "ann"), ("film", "e")])
    data = from_networkx(graph)
    assert data.modalities == ["node", "film"]
    assert data["node"].item_id == ["ann", "bob"]
    assert data["hyperedge"].cost.tolist() == [2, 3]
    assert data["hyperedge"].hyperedge_id == ["e", "f"]
    assert data.relation("hyperedge").modalities == ("node", "film")
    graph.add_edge("ann", "bob")
    with pytest.raises(InputError, match="edge 'ann' - 'bob' joins two items"):
        from_networkx(graph)
    graph.add_node("what")
    with pytest.raises(InputError, match="node 'what': attribute 'bipartite' must be 0"):
        from_networkx(graph)


def test_xgi_of_ones_own() -> None:
    xgi = load("xgi")
    data = from_xgi(xgi.Hypergraph({"e": [1, 2, 3], "f": [3, 4]}))
    assert data["node"].item_id == ["1", "2", "3", "4"]
    assert data["hyperedge"].hyperedge_id == ["e", "f"]
    assert data.relation("hyperedge").incidence(0).tolist() == [[0, 1, 2, 2, 3], [0, 0, 0, 1, 1]]
    directed = xgi.DiHypergraph([([0, 1], [2])])
    assert from_xgi(directed).relation("hyperedge").roles == ("tail", "head")
    assert from_xgi(xgi.SimplicialComplex([[0, 1]])).relation("hyperedge").num_hyperedges == 1


def test_xgi_that_was_changed(small: MultiModalHeteroData) -> None:
    load("xgi")
    there = to_xgi(small, relations=["follows"])
    assert there.edges[0]["incidences"] == [["user/a", "follower", None], ["user/c", "followee", None]]
    there.add_node_to_edge(0, "user/d")  # what 'incidences' says fits no longer
    changed = from_xgi(there).relation("follows")
    assert changed.roles == ("follower", "followee", None)
    assert changed.incidence(2).tolist() == [[0, 2, 3], [0, 0, 0]]


def test_hypergraphx_of_ones_own() -> None:
    hypergraphx = load("hypergraphx")
    there = hypergraphx.Hypergraph([(0, 1, 2), (2, 3)], weighted=True, weights=[1.0, 2.5])
    data = from_hypergraphx(there)
    assert data["node"].num_nodes == 4
    assert data["hyperedge"].weight.tolist() == [1, 2.5]
    assert data.relation("hyperedge").incidence(0).tolist() == [[0, 1, 2, 2, 3], [0, 0, 0, 1, 1]]
    with pytest.raises(ValueError, match=r"must be a hypergraphx\.Hypergraph \(got int\)"):
        from_hypergraphx(3)


def test_size_zero() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=0).add_hyperedges("r", {"user": []})
    for name, there, back in (
        ("networkx", to_networkx, from_networkx),
        ("xgi", to_xgi, from_xgi),
        ("hypergraphx", to_hypergraphx, from_hypergraphx),
    ):
        if _optional.available(name):
            load(name)
            assert len(back(there(data)).relation("r")) == 0  # type: ignore[operator]
