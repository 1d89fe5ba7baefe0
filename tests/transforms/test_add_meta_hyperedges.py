from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Batch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms import AddMetaHyperedges


def sets(data: MultiModalHeteroData, name: str) -> list[list[int]]:
    item, hyperedge = data.relation(name).incidence(0)
    return [item[hyperedge == e].tolist() for e in range(data[name].num_nodes)]


def items() -> MultiModalHeteroData:
    x = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [5.1, 5.0]])
    data = MultiModalHeteroData().add_modality("a", x=x, item_label=["red", "", "blue", "red"])
    return data.add_modality("b", num_nodes=2)


def test_labels() -> None:
    data = AddMetaHyperedges()(items())
    assert data.hyperedge_types == ["a_by_item_label"]  # 'b' has no labels
    assert sets(data, "a_by_item_label") == [[2], [0, 3]]
    assert data["a_by_item_label"].category == ["blue", "red"]
    assert data["a_by_item_label"].num_nodes == 2
    again = AddMetaHyperedges("item_label", "a", min_size=2)(data)
    assert sets(again, "a_by_item_label") == [[0, 3]]
    assert again["a_by_item_label"].category == ["red"]
    assert sets(AddMetaHyperedges(max_size=1)(data), "a_by_item_label") == [[2]]


def test_numbers_and_several_categories_an_item() -> None:
    data = items()
    data["a"].y = torch.tensor([3, -1, 0, 3])
    data["a"].genre = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]).bool()
    out = AddMetaHyperedges("genre")(AddMetaHyperedges("y", "a", name="class")(data))
    assert sets(out, "class") == [[2], [0, 3]]
    assert out["class"].category.tolist() == [0, 3]
    assert sets(out, "a_by_genre") == [[0, 2], [0, 3]]
    assert out["a_by_genre"].category.tolist() == [0, 2]
    data["a"].genre = data["a"].genre.float()
    assert sets(AddMetaHyperedges("genre")(data), "a_by_genre") == [[0, 2], [0, 3]]


def test_clusters() -> None:
    data = AddMetaHyperedges("kmeans", num_clusters=2)(items())
    assert sorted(sets(data, "a_by_kmeans")) == [[0, 1], [2, 3]]
    again = AddMetaHyperedges("kmeans", num_clusters=2)(items())
    assert torch.equal(again["a", "member", "a_by_kmeans"].edge_index, data["a", "member", "a_by_kmeans"].edge_index)
    one_place = MultiModalHeteroData().add_modality("a", x=torch.ones(3, 2).to_sparse())
    assert sets(AddMetaHyperedges("kmeans")(one_place), "a_by_kmeans") == [[0, 1, 2]]
    no_column = MultiModalHeteroData().add_modality("a", x=torch.ones(3, 0))
    assert sets(AddMetaHyperedges("kmeans")(no_column), "a_by_kmeans") == [[0, 1, 2]]


def test_the_whole_modality_of_each_graph() -> None:
    data = AddMetaHyperedges("all")(items())
    assert sets(data, "a_by_all") == [[0, 1, 2, 3]]
    assert sets(data, "b_by_all") == [[0, 1]]
    batch = Batch.from_data_list([items(), items()])
    assert sets(AddMetaHyperedges("all", "a")(batch), "a_by_all") == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert sets(AddMetaHyperedges()(batch), "a_by_item_label") == [[2], [0, 3], [6], [4, 7]]


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("by", ["item_label", "all", "kmeans", "y", "z"])
def test_small_sizes(size: int, by: str) -> None:
    data = MultiModalHeteroData().add_modality("a", x=torch.ones(size, 2), item_label=["x"] * size)
    data["a"].y, data["a"].z = torch.zeros(size, dtype=torch.long), torch.ones(size, 1, dtype=torch.bool)
    out = AddMetaHyperedges(by)(data)
    assert sets(out, f"a_by_{by}") == [[0]] * size
    assert out.validate()


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        (("all", "z"), {}, "no modality 'z'"),
        (("kmeans", "b"), {}, "modality 'b' has no attribute 'x'"),
        (("colour", "a"), {}, "modality 'a' has no attribute 'colour'"),
        (("x", "a"), {}, r"'x' of modality 'a' must hold whole numbers \[4\] or a bool matrix \[4, C\]"),
        (("item_lable",), {}, "'by' is 'item_lable': no modality has .* Did you mean 'item_label'"),
        (("item_lable", "a"), {}, "has no attribute 'item_lable' .* Did you mean 'item_label'"),
        (("short", "a"), {}, "'short' of modality 'a' must have one entry an item: 4 .*3"),
        (("all",), {"name": "n"}, "'name' goes with one modality"),
        (("all",), {"num_clusters": 0}, "'num_clusters' must be at least 1"),
        (("all",), {"min_size": 3, "max_size": 2}, "'min_size' must be at least 1"),
        (("all", "a"), {"name": "b"}, "'b' is already present"),
    ],
)
def test_bad_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], text: str) -> None:
    data = items()
    data["a"].short = ["x"] * 3
    with pytest.raises(ValueError, match=text):
        AddMetaHyperedges(*args, **kwargs)(data)


def test_repr() -> None:
    assert repr(AddMetaHyperedges("all", "a")) == "AddMetaHyperedges('all', 'a')"
