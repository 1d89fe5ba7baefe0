from __future__ import annotations

import copy
import io
import pickle
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, HeteroData

from hyperlearn_pyg.data import MultiModalHeteroData


def small() -> MultiModalHeteroData:
    """An isolated item, an empty hyperedge, an empty relation, roles, an intra-modal graph."""
    data = MultiModalHeteroData()
    data.add_modality("user", x=torch.arange(8.0).view(4, 2), item_id=list("abcd"))
    data.add_modality("film", num_nodes=3, item_id=["x", "y", "z"], item_label=["u", "v", "u"])
    data.add_hyperedges(
        "rates", torch.tensor([[0, 0, 1], [0, 2, 2]]), modalities=("user", "film"), value=[1.0, 2.0, 3.0]
    )
    data.add_hyperedges("visits", {"user": [[0, 1, 2], []], "film": [[1], [0, 1]]})
    data.add_hyperedges("follows", {("user", "follower"): [0, 1], ("user", "followee"): [2, 0]}, weight=[1, 2])
    data.add_hyperedges("never", torch.empty(2, 0, dtype=torch.long), modalities=("film", "user"))
    data["user", "knn", "user"].edge_index = torch.tensor([[0, 1], [1, 0]])
    return data


def assert_equal(left: HeteroData, right: HeteroData) -> None:
    assert left.node_types == right.node_types
    assert left.edge_types == right.edge_types
    for a, b in zip(left.stores, right.stores, strict=True):
        assert set(a) == set(b)
        for key in a:
            assert torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key]


def test_words() -> None:
    data = small()
    assert data.modalities == ["user", "film"]
    assert data.hyperedge_types == ["rates", "visits", "follows", "never"]
    assert data.intra_edge_types("user") == [("user", "knn", "user")]
    assert data.intra_edge_types("film") == []
    assert data.relation("follows").roles == ("follower", "followee")
    assert data.relation("never").index.shape == (2, 0)
    assert data["rates"].num_nodes == 3
    assert data.validate()


def test_repr() -> None:
    text = repr(small())
    assert "rates(user, film)={" in text
    assert "follows(user:follower, user:followee)" in text
    assert "(user, knn, user)={ edge_index=[2, 2] }" in text
    assert "member" not in text
    plain, ours = HeteroData(), MultiModalHeteroData()
    for each in (plain, ours):
        each["user"].num_nodes = 2
    assert repr(ours) == repr(plain).replace("HeteroData", "MultiModalHeteroData")


def test_clone_copy_to_and_pickle() -> None:
    data = small()
    for other in (
        data.clone(),
        copy.copy(data),
        copy.deepcopy(data),
        data.clone().to("cpu"),
        pickle.loads(pickle.dumps(data)),
    ):
        assert type(other) is MultiModalHeteroData
        assert_equal(other, data)
        other.add_modality("tag", num_nodes=0)
    assert "tag" not in data.node_types
    assert_equal(MultiModalHeteroData.from_dict(data.to_dict()), data)


def test_torch_save_and_load_of_weights_only() -> None:
    file = io.BytesIO()
    torch.save(small(), file)
    file.seek(0)
    other = torch.load(file, weights_only=True)
    assert type(other) is MultiModalHeteroData
    assert_equal(other, small())
    assert other.validate()


def test_to_namedtuple_takes_roles() -> None:
    out = small().to_namedtuple()
    assert out.user__member_follower__follows.edge_index.tolist() == [[0, 1], [0, 1]]  # type: ignore[attr-defined]


def test_batch_round_trip() -> None:
    first, second = small(), small()
    second["rates"].value = torch.tensor([7.0, 8.0, 9.0])
    batch = Batch.from_data_list([first, second, first])
    assert batch.validate()
    assert batch.modalities == first.modalities
    assert batch.relation("rates").index.tolist() == [
        [0, 0, 1, 4, 4, 5, 8, 8, 9],
        [0, 2, 2, 3, 5, 5, 6, 8, 8],
    ]
    assert batch.relation("visits").incidence(0).tolist() == [
        [0, 1, 2, 4, 5, 6, 8, 9, 10],
        [0, 0, 0, 2, 2, 2, 4, 4, 4],
    ]
    for i, data in enumerate([first, second, first]):
        assert_equal(batch[i], data)
        assert type(batch[i]) is MultiModalHeteroData


@st.composite
def _random_data(draw: st.DrawFn) -> MultiModalHeteroData:
    sizes = [draw(st.integers(0, 3)) for _ in range(2)]
    members = {}
    count = draw(st.integers(0, 3))
    for modality, size in zip("ab", sizes, strict=True):
        row = st.lists(st.integers(0, size - 1), max_size=3) if size else st.just([])
        members[modality] = draw(st.lists(row, min_size=count, max_size=count))
    data = MultiModalHeteroData()
    for modality, size in zip("ab", sizes, strict=True):
        data.add_modality(modality, num_nodes=size, item_id=[str(i) for i in range(size)])
    return data.add_hyperedges("r", members)


@settings(deadline=None, max_examples=50)
@given(st.lists(_random_data(), min_size=1, max_size=4))
def test_batch_round_trip_of_any_structure(several: list[MultiModalHeteroData]) -> None:
    batch = Batch.from_data_list(several)
    assert batch.validate()
    assert len(batch.relation("r")) == sum(len(data.relation("r")) for data in several)
    for data, other in zip(several, batch.to_data_list(), strict=True):
        assert_equal(other, data)


@settings(deadline=None, max_examples=50)
@given(_random_data())
def test_lists_and_incidence_say_the_same(data: MultiModalHeteroData) -> None:
    again = MultiModalHeteroData()
    for modality in data.modalities:
        again.add_modality(modality, num_nodes=data[modality].num_nodes)
    members = {m: data.relation("r").incidence(i) for i, m in enumerate("ab")}
    again.add_hyperedges("r", members, num_hyperedges=len(data.relation("r")))
    for i in range(2):
        assert torch.equal(again.relation("r").incidence(i), members["ab"[i]])


def test_subgraph_takes_strings_along() -> None:
    out = small().subgraph({"user": torch.tensor([3, 0]), "film": torch.tensor([True, False, True])})
    assert out.validate()
    assert out["user"].item_id == ["d", "a"]
    assert out["film"].item_id == ["x", "z"]
    assert out["film"].item_label == ["u", "u"]
    assert out.relation("rates").incidence(0).tolist() == [[1, 1], [0, 1]]
    out = small().subgraph({"rates": torch.tensor([2, 0])})
    assert out.relation("rates").index.tolist() == [[1, 0], [2, 0]]
    assert out["rates"].value.tolist() == [3.0, 1.0]


def test_undirected_memberships_change_no_relation() -> None:
    data = T.ToUndirected()(small())
    assert ("rates", "rev_member", "user") in data.edge_types
    assert data.modalities == ["user", "film"]
    assert data.relation("rates").modalities == ("user", "film")


def test_size_zero() -> None:
    data = MultiModalHeteroData().add_modality("user", x=torch.empty(0, 3)).add_hyperedges("r", {"user": []})
    assert data.validate()
    assert data.relation("r").index.shape == (1, 0)
    assert MultiModalHeteroData().validate()
    assert MultiModalHeteroData().modalities == []


def test_forms_of_members() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=4)
    data.add_hyperedges("array", np.array([[0, 1]], dtype=np.int32), modalities=["user"], value=np.array([1, 2]))
    data.add_hyperedges("lists", {"user": [torch.tensor([0, 1]), [2], 3]})
    data.add_hyperedges("weighted", {"user": [[0, 1], [2]]}, incidence_weight={"user": [1.0, 2.0, 3.0]})
    data.add_hyperedges("rows", torch.tensor([[0, 1]]), modalities=["user"], incidence_weight=torch.ones(1, 2).int())
    assert data["array"].value.dtype == torch.float32
    assert data["user", "member", "array"].edge_index.dtype == torch.int64
    assert data.relation("lists").incidence(0).tolist() == [[0, 1, 2, 3], [0, 0, 1, 2]]
    assert data["user", "member", "weighted"].edge_weight.tolist() == [1.0, 2.0, 3.0]
    assert data["user", "member", "rows"].edge_weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"name": ""}, "non-empty string"),
        ({"name": "user", "num_nodes": 1}, "'user' is already present"),
        ({"name": "new"}, "'num_nodes' of modality 'new' is missing"),
        ({"name": "new", "num_nodes": -1}, "integer of at least 0"),
        ({"name": "new", "num_nodes": 2.0}, "integer of at least 0"),
        ({"name": "new", "num_nodes": 3, "x": torch.ones(2, 2)}, "one row an item: 3"),
        ({"name": "new", "x": torch.ones(2)}, r"shape \[num_nodes, num_features\]"),
        (
            {"name": "new", "x": torch.tensor([[0.0, 1.0], [1.0, float("nan")]])},
            "nan at row 1, column 1, 1 such",
        ),
        ({"name": "new", "x": torch.tensor([[float("inf")]]).to_sparse()}, "must be finite"),
        ({"name": "new", "x": "features"}, "must be a tensor"),
        ({"name": "new", "x": [["a"]]}, "tensor of numbers"),
        ({"name": "new", "item_id": ["a", "a"]}, "'a' stands at 0 and 1"),
        ({"name": "new", "item_id": ["a", 1]}, "must hold strings"),
        ({"name": "new", "num_nodes": 2, "item_name": ["a"]}, "one entry an item: 2"),
        ({"name": "new", "num_nodes": 2, "y": torch.ones(3)}, "must have 2 rows"),
    ],
)
def test_bad_modality(kwargs: dict[str, Any], text: str) -> None:
    data = small()
    with pytest.raises(ValueError, match=text):
        data.add_modality(kwargs.pop("name"), **kwargs)
    assert_equal(data, small())


PAIR = {"members": torch.tensor([[0, 1], [0, 1]]), "modalities": ("user", "film")}


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({**PAIR, "name": "rates"}, "'rates' is already present"),
        ({**PAIR, "modalities": ("user", "flim")}, "unknown modality 'flim'.*Did you mean 'film'"),
        ({**PAIR, "modalities": ("user", "rates")}, "'rates' in 'new' is a hyperedge set"),
        ({**PAIR, "modalities": ("user",)}, "one modality for each of the 2 rows"),
        ({**PAIR, "modalities": None}, "one modality for each of the 2 rows"),
        ({**PAIR, "modalities": ("user", "user")}, "name roles"),
        ({**PAIR, "modalities": ("user", 3)}, "modality or a pair"),
        ({**PAIR, "members": torch.rand(2, 2)}, "integer indices.*float32"),
        ({**PAIR, "members": torch.tensor([0, 1])}, r"shape \[k, E\]"),
        (
            {**PAIR, "members": torch.tensor([[0, 4], [0, 1]])},
            r"'user': index 4 at position 1 is out of range \[0, 4\)",
        ),
        (
            {**PAIR, "members": torch.tensor([[0, 1], [-1, 1]])},
            r"'film': index -1 at position 0 is out of range \[0, 3\)",
        ),
        ({**PAIR, "value": [1.0]}, "the number of hyperedges of 'new' must agree"),
        ({**PAIR, "value": [[1.0, 2.0]]}, r"must be of shape \[2\]"),
        ({**PAIR, "value": [1.0, float("nan")]}, "must be finite.*position 1"),
        ({**PAIR, "value": ["a", "b"]}, "tensor of numbers"),
        ({**PAIR, "value": torch.ones(2, dtype=torch.complex64)}, "must be real"),
        ({**PAIR, "weight": [1.0, -1.0]}, "at least 0 .got -1 at position 1"),
        ({**PAIR, "time": [1]}, r"'time' of relation 'new' must be of shape \[2\]"),
        ({**PAIR, "train_mask": [0, 1]}, "dtype bool"),
        ({**PAIR, "num_hyperedges": 3}, "must agree"),
        ({**PAIR, "incidence_weight": [1.0, 2.0]}, "or a mapping by slot"),
        ({**PAIR, "incidence_weight": {"tag": [1.0]}}, "no such slot"),
        ({**PAIR, "incidence_weight": {"user": [1.0]}}, "one entry a member"),
        ({"members": {}}, "at least one slot"),
        ({"members": {"user": [0]}, "modalities": ("user",)}, "names its slots itself"),
        ({"members": {"user": [0], "film": [0, 1]}}, "must agree"),
        ({"members": {"user": torch.tensor([[0], [0]])}}, "'num_hyperedges' of 'new' is missing"),
        (
            {"members": {"user": torch.tensor([[0], [2]])}, "num_hyperedges": 2},
            r"row 1 \(hyperedges\): index 2",
        ),
        ({"members": {"user": torch.zeros(3, 1).long()}, "num_hyperedges": 2}, r"shape \[E\] or \[2, nnz\]"),
        ({"members": {"user": [[0], [9]]}}, "hyperedge 1: index 9"),
        ({"members": {"user": 3}, "num_hyperedges": 2}, "tensor or a list of lists"),
    ],
)
def test_bad_hyperedges_change_nothing(kwargs: dict[str, Any], text: str) -> None:
    data = small()
    kwargs = {"name": "new", **kwargs}
    with pytest.raises(ValueError, match=text):
        data.add_hyperedges(kwargs.pop("name"), kwargs.pop("members"), **kwargs)
    assert_equal(data, small())


def test_modality_without_a_count() -> None:
    data = MultiModalHeteroData()
    data["user"].y = torch.ones(3)
    with pytest.raises(ValueError, match="'num_nodes' of modality 'user' is missing"):
        data.add_hyperedges("r", {"user": [0]})


@pytest.mark.parametrize("method", ["relation", "intra_edge_types"])
def test_unknown_name(method: str) -> None:
    with pytest.raises(ValueError, match=r"there is no (relation|modality) 'usr'"):
        getattr(small(), method)("usr")


def _set(store: Any, key: str, value: Any) -> Any:
    def change(data: MultiModalHeteroData) -> None:
        data[store][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            _set("user", "num_nodes", 1),
            r"\('user', 'member', 'rates'\), row of 'user': index 1 at position 2.*\[0, 1\)",
        ),
        (_set("rates", "num_nodes", 2), r"row of 'rates': index 2 at position 2 is out of range \[0, 2\)"),
        (_set("rates", "num_nodes", None), "'num_nodes' of hyperedge set 'rates' is missing"),
        (_set("rates", "value", torch.ones(2)), r"'value' of relation 'rates' must be of shape \[3\]"),
        (
            _set("rates", "train_mask", torch.ones(3)),
            "'train_mask' of relation 'rates' must be of dtype bool",
        ),
        (_set("user", "x", torch.full((4, 2), torch.nan)), "'x' of modality 'user' must be finite"),
        (_set("user", "x", torch.ones(5, 2)), "'x' of modality 'user' must have 4 rows"),
        (_set("user", "item_id", list("aabc")), "'item_id' of modality 'user' must differ"),
        (_set(("user", "member", "rates"), "edge_index", None), "has no 'edge_index'"),
        (_set(("user", "member", "rates"), "edge_index", torch.rand(2, 3)), "must hold integers"),
        (_set(("user", "member", "rates"), "edge_index", torch.ones(3).long()), "shape"),
        (
            _set(("user", "member", "rates"), "edge_weight", torch.ones(2)),
            "'edge_weight' of .* must have 3 rows",
        ),
        (_set(("user", "knn", "user"), "edge_index", torch.tensor([[0], [7]])), "index 7 at position 0"),
        (_set(("rates", "member", "user"), "edge_index", torch.tensor([[0], [0]])), "is a hyperedge set"),
    ],
)
def test_validate(change: Any, text: str) -> None:
    data = small()
    change(data)
    with pytest.raises(ValueError, match=text):
        data.validate()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not data.validate(raise_on_error=False)
    assert any(re.search(text, str(warning.message)) for warning in caught)


def test_a_dotted_role_is_told_to_be_a_pair():
    data = MultiModalHeteroData().add_modality("user", num_nodes=3)
    with pytest.raises(ValueError, match=r"A slot with a role is a pair here: \('user', 'follower'\)"):
        data.add_hyperedges("follows", torch.tensor([[0], [1]]), modalities=("user.follower", "user.followee"))


def test_a_name_that_an_edge_type_bears_makes_a_store_of_its_own() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=3)
    data["user", "knn", "user"].edge_index = torch.tensor([[0], [1]])
    data["user", "likes", "user"].edge_index = torch.tensor([[0], [2]])
    data = data.add_hyperedges("knn", {"user": [[0, 1], [2]]}).add_modality("likes", num_nodes=2)
    assert data["knn"].num_nodes == 2
    assert data["likes"].num_nodes == 2
    assert data["user", "knn", "user"].edge_index.tolist() == [[0], [1]]
    assert data.hyperedge_types == ["knn"]
    assert data.modalities == ["user", "likes"]


def test_saved_after_pyg_has_looked_at_the_attributes() -> None:
    data = small()
    assert data["user"].node_attrs()
    assert data["user", "knn", "user"].edge_attrs()
    for value in (data, Batch.from_data_list([data, data])):
        assert value["user"].is_node_attr("x")
        file = io.BytesIO()
        torch.save(value, file)
        file.seek(0)
        out = torch.load(file, weights_only=True)
        assert_equal(out, value)
        assert out["user"].is_node_attr("x")


def test_counts_of_modalities_are_explicit() -> None:
    data = small()
    del data["user"].num_nodes
    with pytest.raises(ValueError, match=r"'num_nodes' of modality 'user' is missing: set data\['user'\].num_nodes"):
        data.validate()


def test_a_modality_without_relations_is_valid() -> None:
    assert small().add_modality("tag", num_nodes=2).validate()  # a warning would be an error


def test_items_may_repeat_among_the_graphs_of_a_batch() -> None:
    data = small()
    data["user"].item_id = list("abca")
    data["user"].batch = torch.tensor([0, 0, 0, 1])
    assert data.validate()
