from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import from_hetero, to_hetero_data


def plain() -> HeteroData:
    data = HeteroData()
    data["user"].x = torch.ones(3, 2)
    data["film"].num_nodes = 2
    data["user", "rates", "film"].edge_index = torch.tensor([[0, 2], [1, 0]])
    data["user", "rates", "film"].edge_label = torch.tensor([4, 5])
    data["user", "rates", "film"].edge_attr = torch.ones(2, 3)
    data["user", "knows", "user"].edge_index = torch.tensor([[0, 1], [1, 1]])
    data["user", "knows", "user"].edge_weight = torch.tensor([0.5, 2.0])
    return data


@settings(deadline=None, max_examples=25)
@given(draw=st.data())
def test_round_trip(arbitrary: Any, same: Any, draw: st.DataObject) -> None:
    data = draw.draw(arbitrary())
    there = to_hetero_data(data)
    assert type(there) is HeteroData
    same(from_hetero(there), data)


@settings(deadline=None, max_examples=25)
@given(draw=st.data())
def test_round_trip_of_relations_of_order_two(arbitrary: Any, draw: st.DataObject) -> None:
    data = draw.draw(arbitrary(uniform=True))
    names = [n for n in data.hyperedge_types if data.relation(n).order == 2]
    there = to_hetero_data(data, relations=names)
    assert not set(names) & set(there.node_types)
    back = from_hetero(there, relations=[t for t in there.edge_types if t[1] in names])
    assert set(back.hyperedge_types) == set(data.hyperedge_types)
    for name in names:
        assert torch.equal(back.relation(name).index, data.relation(name).index)
        assert set(back[name]) == set(data[name])
        assert all(torch.equal(back[name][k], v) for k, v in data[name].items() if k != "num_nodes")


def test_edges_become_hyperedges() -> None:
    hetero = plain()
    data = from_hetero(hetero, relations=[("user", "rates", "film"), ("user", "knows", "user")])
    assert data.relation("rates").index.tolist() == [[0, 2], [1, 0]]
    assert data["rates"].x.shape == (2, 3)
    assert data["rates"].edge_label.tolist() == [4, 5]
    assert data.relation("knows").roles == ("source", "target")
    assert data["knows"].weight.tolist() == [0.5, 2.0]
    assert data["user"].num_nodes == 3
    assert data.edge_types == [slot for name in ("rates", "knows") for slot in data.relation(name).slots]
    assert hetero.edge_types == plain().edge_types
    data = from_hetero(hetero, relations={"score": ("user", "rates", "film")}, rename={"edge_label": "value"})
    assert data.relation("score").value.tolist() == [4.0, 5.0]  # type: ignore[union-attr]
    assert data.edge_types[0] == ("user", "knows", "user")
    back = to_hetero_data(data, relations={"score": ("user", "rates", "film")}, rename={"edge_label": "value"})
    assert back["user", "rates", "film"].edge_label.tolist() == [4.0, 5.0]
    assert torch.equal(back["user", "rates", "film"].edge_index, hetero["user", "rates", "film"].edge_index)


def test_a_name_that_fits_one_edge_type(same: Any) -> None:
    hetero = plain()
    same(from_hetero(hetero, relations=["rates"]), from_hetero(hetero, relations=[("user", "rates", "film")]))
    hetero["film", "rates", "user"].edge_index = torch.zeros(2, 1).long()
    with pytest.raises(
        ValueError, match=r"'rates' is the middle of 2 edge types .*give edge types, such as \('user', 'r"
    ):
        from_hetero(hetero, relations=["rates"])


def test_counts_are_not_guessed() -> None:
    hetero = plain()
    del hetero["film"].num_nodes
    with pytest.raises(ValueError, match="'num_nodes' of 'film' is missing and never guessed"):
        from_hetero(hetero)
    hetero["film"].item_id = ["a", "b"]
    assert from_hetero(hetero)["film"].num_nodes == 2


def test_size_zero() -> None:
    assert from_hetero(HeteroData()).node_types == []
    hetero = HeteroData()
    hetero["a"].num_nodes = 0
    hetero["a", "r", "a"].edge_index = torch.empty(2, 0, dtype=torch.long)
    data = from_hetero(hetero, relations=[("a", "r", "a")])
    assert data.relation("r").index.shape == (2, 0)
    assert to_hetero_data(data, relations=["r"])["a", "r", "a"].edge_index.shape == (2, 0)


def test_errors(small: MultiModalHeteroData) -> None:
    with pytest.raises(ValueError, match=r"there is no edge type \('user', 'rate', 'film'\).*Did you mean"):
        from_hetero(plain(), relations=[("user", "rate", "film")])
    with pytest.raises(ValueError, match=r"'rate' is the middle of no edge types .*such as .*Did you mean 'rates'"):
        from_hetero(plain(), relations=["rate"])
    with pytest.raises(ValueError, match="an edge type has three names"):
        from_hetero(plain(), relations=[("user", "film")])
    for wrong in (from_hetero, to_hetero_data):
        with pytest.raises(ValueError, match=r"'relations' must be a list of names \(got 'rates'\): write \['rates'\]"):
            wrong(small, relations="rates")
    with pytest.raises(ValueError, match="two edge types are called 'rates': pass a mapping"):
        from_hetero(plain(), relations=[("user", "rates", "film"), ("user", "rates", "film")])
    with pytest.raises(ValueError, match="'user' is already present"):
        from_hetero(plain(), relations={"user": ("user", "rates", "film")})
    hetero = plain()
    hetero["user", "knows", "user"].edge_index = None
    with pytest.raises(ValueError, match="has no 'edge_index' tensor"):
        from_hetero(hetero, relations=[("user", "knows", "user")])
    hetero = plain()
    hetero["user", "knows", "user"].edge_index[1, 1] = 7
    with pytest.raises(ValueError, match=r"index 7 at position 1 is out of range \[0, 3\)"):
        from_hetero(hetero)
    with pytest.raises(ValueError, match="relation 'visits' has no index"):
        to_hetero_data(small, relations=["visits"])
    small.add_hyperedges("three", torch.zeros(3, 1).long(), modalities=("user", "film", ("user", "b")))
    with pytest.raises(ValueError, match=r"must be of order 2 .* \(got order 3\)"):
        to_hetero_data(small, relations=["three"])
    with pytest.raises(ValueError, match="is no free edge type"):
        to_hetero_data(small, relations={"rates": ("user", "knn", "user")})
    with pytest.raises(ValueError, match="must join its modalities"):
        to_hetero_data(small, relations={"rates": ("film", "rates", "user")})
