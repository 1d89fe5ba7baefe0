from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import _sparse, clique_expansion, line_graph, star_expansion


def incidence(data: MultiModalHeteroData, name: str) -> dict[str, Tensor]:
    """Dense and binary, by modality."""
    view = data.relation(name)
    out = {m: torch.zeros(n, len(view), dtype=torch.float64) for m, n in zip(view.modalities, view.sizes, strict=True)}
    for slot, modality in enumerate(view.modalities):
        for item, hyperedge in view.incidence(slot).t().tolist():
            out[modality][item, hyperedge] = 1
    return out


def dense(edge_index: Tensor, edge_weight: Tensor, shape: tuple[int, int]) -> Tensor:
    out = torch.zeros(shape, dtype=torch.float64)
    assert edge_index.unique(dim=1).size(1) == edge_index.size(1)
    assert bool((edge_weight > 0).all())
    out[edge_index[0], edge_index[1]] = edge_weight.double()
    return out


@settings(deadline=None, max_examples=20)
@given(draw=st.data(), weight=st.sampled_from(["count", "normalized"]))
def test_clique_expansion_equals_the_dense_one(arbitrary: Any, draw: st.DataObject, weight: Any) -> None:
    data = draw.draw(arbitrary())
    for name in data.hyperedge_types:
        members = incidence(data, name)
        size = torch.cat(list(members.values())).sum(0)
        scale = torch.ones_like(size) if weight == "count" else 1 / (size - 1).clamp(min=1)
        found = clique_expansion(data, name, weight=weight)
        names = list(members)
        assert list(found) == [(a, f"clique_{name}", b) for i, a in enumerate(names) for b in names[i:]]
        for (a, _, b), (edge_index, edge_weight) in found.items():
            expected = members[a] * scale @ members[b].t()
            if a == b:
                expected.fill_diagonal_(0)
            shape = (len(members[a]), len(members[b]))
            torch.testing.assert_close(dense(edge_index, edge_weight, shape), expected, rtol=1e-6, atol=1e-7)


@settings(deadline=None, max_examples=20)
@given(draw=st.data())
def test_line_graph_equals_the_dense_one(arbitrary: Any, draw: st.DataObject) -> None:
    data = draw.draw(arbitrary())
    for name in data.hyperedge_types:
        members = torch.cat(list(incidence(data, name).values()))
        graph = line_graph(data, name)
        size = data.relation(name).num_hyperedges
        assert graph.num_nodes == size
        assert graph.validate()
        expected = (members.t() @ members).fill_diagonal_(0)
        assert torch.equal(dense(graph.edge_index, graph.edge_weight, (size, size)), expected)


@settings(deadline=None, max_examples=20)
@given(draw=st.data())
def test_star_expansion_leads_back(arbitrary: Any, draw: st.DataObject) -> None:
    data = draw.draw(arbitrary())
    for name in data.hyperedge_types:
        view = data.relation(name)
        for undirected in (True, False):
            star = star_expansion(data, name, undirected=undirected)
            assert star.validate()
            types = [*dict.fromkeys(view.modalities), name]
            assert star.num_nodes == sum(data[t].num_nodes for t in types)
            assert star.edge_index.size(1) == (1 + undirected) * sum(
                view.incidence(i).size(1) for i in range(view.order)
            )
            for i, slot in enumerate(view.slots):
                item, hyperedge = star.edge_index[:, star.edge_type == i]
                assert torch.equal(torch.stack([star.node_index[item], star.node_index[hyperedge]]), view.incidence(i))
                assert all(star._node_type_names[t] == slot[0] for t in star.node_type[item].tolist())
                if "edge_weight" in star and "edge_weight" in data[slot]:
                    assert torch.equal(star.edge_weight[star.edge_type == i], data[slot].edge_weight)
            if undirected:
                half = star.edge_index.size(1) // 2
                assert torch.equal(star.edge_index[:, half:], star.edge_index[:, :half].flip(0))


def test_star_expansion_of_pyg_leads_back(small: MultiModalHeteroData) -> None:
    for name in small.hyperedge_types:
        back = star_expansion(small, name).to_heterogeneous()
        for slot in small.relation(name).slots:
            # PyG leaves out types without an edge only where their names are not given.
            assert torch.equal(back[slot].edge_index, small[slot].edge_index)


def test_star_features(small: MultiModalHeteroData) -> None:
    assert "x" not in star_expansion(small, "rates")  # films have none
    star = star_expansion(small, "follows")
    assert torch.equal(star.x, torch.cat([small["user"].x, torch.zeros(3, 2)]))
    small["follows"].x = torch.ones(3, 2)
    assert torch.equal(star_expansion(small, "follows").x[4:], torch.ones(3, 2))
    small["film"].x = torch.ones(3, 5)
    assert "x" not in star_expansion(small, "rates")  # not of one width


def test_an_item_in_two_roles_counts_once(small: MultiModalHeteroData) -> None:
    edge_index, edge_weight = clique_expansion(small, "follows", weight="normalized")["user", "clique_follows", "user"]
    assert edge_index.tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]
    assert edge_weight.tolist() == [1, 1, 1, 1]


def test_limits(small: MultiModalHeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"hyperedge 0 of 'visits' has too many items: 4, above 'max_size' \(3; 1 s"):
        clique_expansion(small, "visits", max_size=3)
    assert clique_expansion(small, "visits", max_size=4).keys()
    rest = clique_expansion(small, "visits", max_size=3, oversize="drop")
    assert {key: edge_index.tolist() for key, (edge_index, _) in rest.items()} == {
        ("user", "clique_visits", "user"): [[], []],
        ("user", "clique_visits", "film"): [[], []],
        ("film", "clique_visits", "film"): [[0, 1], [1, 0]],
    }
    with pytest.raises(ValueError, match=r"item 1 of 'film' is in too many hyperedges of 'visits': 2, above"):
        line_graph(small, "visits", max_degree=1)
    assert line_graph(small, "visits", max_degree=1, oversize="drop").num_edges == 0
    monkeypatch.setattr(_sparse, "MAX_PAIRS", 5)
    with pytest.raises(ValueError, match=r"may have up to 17 pairs \(the largest count is 3\), more than 5: set"):
        clique_expansion(small, "visits")
    monkeypatch.setattr(_sparse, "MAX_PAIRS", 2)
    with pytest.raises(ValueError, match="the line graph of 'rates' may have up to"):
        line_graph(small, "rates")
    assert clique_expansion(small, "visits", max_size=9)


def test_pairs_are_counted_before_the_product(small: MultiModalHeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all modalities together: 5 of users and 5 of films."""
    monkeypatch.setattr(_sparse, "MAX_PAIRS", 8)
    with pytest.raises(ValueError, match=r"the line graph of 'rates' may have up to 9 pairs .*set 'max_degree'"):
        line_graph(small, "rates")
    assert line_graph(small, "rates", max_degree=2).num_edges == 4
    monkeypatch.setattr(_sparse, "memory", lambda: 300.0)
    with pytest.raises(ValueError, match=r"more than the memory .*: lower 'max_degree' \(now 2\)"):
        line_graph(small, "rates", max_degree=2)
    assert line_graph(small, "rates", max_degree=1, oversize="drop").num_edges == 0


def test_memory() -> None:
    assert 2**20 < _sparse.memory() < float("inf")


def test_bad_arguments(small: MultiModalHeteroData) -> None:
    with pytest.raises(ValueError, match=r"there is no relation 'rate'.*Did you mean 'rates'"):
        clique_expansion(small, "rate")
    with pytest.raises(ValueError, match=r"'weight' must be one of 'count', 'normalized' \(got 'sum'\)"):
        clique_expansion(small, "rates", weight="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'oversize' must be one of"):
        clique_expansion(small, "rates", oversize="keep")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'max_size' must be an integer of at least 0"):
        clique_expansion(small, "rates", max_size=-1)
    with pytest.raises(ValueError, match=r"'mask' of relation 'rates' must be of shape \[3\] \(got \[2\]\)"):
        line_graph(small, "rates", mask=torch.ones(2).bool())
    with pytest.raises(ValueError, match="must be of dtype bool"):
        star_expansion(small, "rates", mask=torch.ones(3))


def test_only_the_hyperedges_of_a_mask_are_read(small: MultiModalHeteroData) -> None:
    train = small.relation("rates").mask("train")
    edge_index, _ = clique_expansion(small, "rates", mask=train)["user", "clique_rates", "film"]
    assert edge_index.tolist() == [[0, 0], [0, 2]]
    star = star_expansion(small, "rates", mask=train)
    assert star.num_nodes == 10
    assert star.edge_index.size(1) == 8
    graph = line_graph(small, "rates", mask=train)
    assert graph.edge_index.tolist() == [[0, 1], [1, 0]]
    assert graph.num_nodes == 3


def test_no_incidences_squared() -> None:
    """One film that all rate: the clique of items is small, that of hyperedges is refused."""
    size = 60_000
    data = MultiModalHeteroData().add_modality("user", num_nodes=size).add_modality("film", num_nodes=1)
    index = torch.stack([torch.arange(size), torch.zeros(size, dtype=torch.long)])
    data.add_hyperedges("rates", index, modalities=("user", "film"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = clique_expansion(data, "rates")
    assert found["user", "clique_rates", "film"][0].size(1) == size
    assert found["user", "clique_rates", "user"][0].size(1) == 0
    with pytest.raises(ValueError, match=r"up to 3\.6e\+09 pairs"):
        line_graph(data, "rates")
    assert line_graph(data, "rates", max_degree=10, oversize="drop").num_edges == 0
