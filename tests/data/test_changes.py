from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch_geometric.data import Batch, HeteroData

from hyperlearn_pyg.data import MultiModalHeteroData


def test_remove_a_modality_that_nothing_spans(town: MultiModalHeteroData) -> None:
    town.remove_hyperedges("marks")
    assert town.remove_modality("tag") is town
    assert town.modalities == ["user", "film"]
    assert town.hyperedge_types == ["rates", "visits", "follows"]
    assert town.validate()


def test_removal_is_refused_unless_asked(town: MultiModalHeteroData, assert_same: Any) -> None:
    before = copy.copy(town)
    with pytest.raises(ValueError, match=r"'tag' is spanned by the hyperedge sets \['marks'\].*hyperedges='keep'"):
        town.remove_modality("tag")
    with pytest.raises(ValueError, match=r"no modality 'tga'.*Did you mean 'tag'"):
        town.remove_modality("tga")
    with pytest.raises(ValueError, match="must be 'keep', 'drop'"):
        town.remove_modality("tag", hyperedges="some")
    with pytest.raises(ValueError, match="no modality 'rates'"):
        town.remove_modality("rates")
    with pytest.raises(ValueError, match="no relation 'tag'"):
        town.remove_hyperedges("tag")
    assert_same(town, before)


def test_remove_a_modality_with_its_slots(town: MultiModalHeteroData) -> None:
    other = copy.deepcopy(town)
    assert town.remove_modality("user", hyperedges="keep") is town
    assert town.hyperedge_types == ["rates", "visits", "marks"]  # 'follows' had no other slot
    assert town.relation("marks").modalities == ("tag", "film")
    assert len(town.relation("rates")) == 3
    assert town.edge_types == [("film", "member", "rates"), ("film", "member", "visits"), *town.relation("marks").slots]
    assert all(store._parent() is town for store in town.stores)
    assert town.validate()
    other.remove_modality("user", hyperedges={"rates": "drop", "visits": 2})
    assert [len(other.relation(name)) for name in other.hyperedge_types] == [0, 2, 1]
    assert other["visits"].weight.tolist() == [2.0, 3.0]  # the empty one lost nothing


def test_a_modality_of_no_items_is_removed() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=0)
    assert data.remove_modality("a").node_types == []


def test_rename_keeps_places(town: MultiModalHeteroData, assert_same: Any) -> None:
    before = copy.deepcopy(town)
    assert town.rename("user", "person") is town
    assert town.modalities == ["person", "film", "tag"]
    assert town.relation("rates").modalities == ("person", "film")
    assert town.relation("follows").roles == ("follower", "followee")
    assert town.relation("marks").modalities == ("tag", "person", "film")
    assert torch.equal(town.relation("rates").index, before.relation("rates").index)
    assert ("person", "knn", "person") in town.edge_types
    assert town.validate()
    town.rename("rates", "scores")
    assert town.hyperedge_types == ["scores", "visits", "follows", "marks"]
    assert_same(town.rename("scores", "rates").rename("person", "user"), before)
    assert town.rename("user", "user") is town


@pytest.mark.parametrize(
    ("name", "new", "text"),
    [
        ("usr", "x", "no node type 'usr'.*Did you mean 'user'"),
        ("user", "film", "'film' is already present"),
        ("user", "rates", "'rates' is already present"),
        ("user", "year", "'year' is already present"),
        ("user", "", "non-empty string"),
    ],
)
def test_bad_rename(town: MultiModalHeteroData, assert_same: Any, name: str, new: str, text: str) -> None:
    before = copy.copy(town)
    with pytest.raises(ValueError, match=text):
        town.rename(name, new)
    assert_same(town, before)


def test_rename_in_a_batch(town: MultiModalHeteroData, assert_same: Any) -> None:
    other = copy.deepcopy(town).remove_modality("tag", hyperedges="keep").remove_hyperedges("follows")
    batch = Batch.from_data_list([town, other]).rename("user", "person").rename("marks", "tells")
    for graph, data in zip(batch.to_data_list(), (town, other), strict=True):
        del graph["year"], data["year"]
        assert_same(graph, copy.deepcopy(data).rename("user", "person").rename("marks", "tells"))


def test_plain_data_is_renamed_as_pyg_does() -> None:
    order = []
    for cls in (HeteroData, MultiModalHeteroData):
        data = cls()
        data["p"].num_nodes = data["q"].num_nodes = 2
        data["p", "to", "q"].edge_index = data["q", "to", "q"].edge_index = torch.tensor([[0], [1]])
        data.put_edge_index(torch.tensor([[0], [1]]), edge_type=("p", "in", "q"), layout="coo", size=(2, 2))
        data.rename("p", "r")
        order.append((data.node_types, data.edge_types))
    assert order[0] == order[1]
    assert [attr.edge_type for attr in data.get_all_edge_attrs()] == data.edge_types


def marked() -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("a", num_nodes=2).add_modality("b", num_nodes=2)
    data["a", "knn", "a"].edge_index = torch.tensor([[0], [1]])
    data.add_hyperedges("r", {"a": [0, 1], "b": [1, 0]}).add_hyperedges("s", {"b": [0]})
    data["r"].seen_by_a_knn = torch.tensor([True, False])
    data["r"].seen_by_s = torch.tensor([False, True])
    data["r"].value = torch.ones(2)
    return data


def test_marks_of_graphs_are_renamed_with_them() -> None:
    data = marked().rename("a", "film club").rename("s", "t").rename("r", "q").rename("b", "c")
    assert list(data["q"].keys()) == ["num_nodes", "seen_by_film_club_knn", "seen_by_t", "value"]
    assert data["q"].seen_by_t.tolist() == [False, True]
    other = marked()
    del other["a", "knn", "a"]
    batch = Batch.from_data_list([marked(), other]).rename("a", "z").rename("s", "t")
    for graph in batch.to_data_list():
        assert set(graph["r"].keys()) == {"num_nodes", "seen_by_z_knn", "seen_by_t", "value"}
    both = marked()
    both["r"].seen_by_t = torch.tensor([True, False])  # of a graph that was there under the new name
    assert both.rename("s", "t")["r"].seen_by_t.tolist() == [True, True]


def test_marks_of_removed_graphs_go() -> None:
    assert "seen_by_s" not in marked().remove_hyperedges("s")["r"]
    data = marked().remove_modality("a", hyperedges="keep")
    assert list(data["r"].keys()) == ["num_nodes", "seen_by_s", "value"]
    batch = Batch.from_data_list([marked(), marked()])
    again = copy.copy(batch).remove_hyperedges("s").to_data_list()
    assert [graph["r"].seen_by_a_knn.tolist() for graph in again] == [[True, False]] * 2
    assert "seen_by_s" in batch.to_data_list()[1]["r"]
