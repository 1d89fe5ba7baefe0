from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import from_frames, to_frames
from hyperlearn_pyg.errors import InputError


@settings(deadline=None, max_examples=25)
@given(draw=st.data())
def test_round_trip(arbitrary: Any, same: Any, draw: st.DataObject) -> None:
    data = draw.draw(arbitrary())
    for name in data.modalities:  # what has no column
        if "x" in data[name] and data[name].x.size(1) == 0:
            del data[name].x
    for name in data.hyperedge_types:
        view = data.relation(name)
        if any("edge_weight" in data[slot] for slot in view.slots):
            for slot in view.slots:
                data[slot].edge_weight = data[slot].get("edge_weight", torch.ones(data[slot].edge_index.size(1)))
        elif view.is_uniform:  # the rows of a table have the order of the hyperedges
            for slot, row in zip(view.slots, view.index, strict=True):
                data[slot].edge_index = torch.stack([row, torch.arange(len(view))])
    frames = to_frames(data)
    assert {name: len(frame) for name, frame in frames.items.items()} == {m: data[m].num_nodes for m in data.modalities}
    same(from_frames(*frames), data)


def test_the_frames(small: MultiModalHeteroData) -> None:
    frames = to_frames(small)
    assert list(frames.items["user"].columns) == ["x_0", "x_1", "item_id", "item_name"]
    assert list(frames.relations["rates"].columns) == ["user", "film", "value", "time", "train_mask"]
    assert frames.relations["rates"]["user"].tolist() == ["a", "a", "b"]
    assert list(frames.relations["follows"].columns) == ["user.follower", "user.followee", "weight"]
    visits = frames.relations["visits"]
    assert list(visits.columns) == ["hyperedge", "slot", "item", "incidence_weight"]
    assert visits["item"].tolist() == ["a", "b", "c", "c", "y", "x", "y"]
    assert list(visits["slot"].cat.categories) == ["user", "film"]
    assert frames.edges["user", "knn", "user"]["target"].tolist() == ["b", "a"]


def test_a_hyperedge_without_members() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=2)
    data.add_hyperedges("meets", {"user": [[], [1, 0], []]}, value=[1.0, 2.0, 3.0])
    frame = to_frames(data).relations["meets"]
    assert frame["slot"].isna().tolist() == [False, False, True, True]
    back = from_frames(to_frames(data).items, {"meets": frame.sample(frac=1, random_state=0)})
    assert len(back.relation("meets")) == 3
    assert back["meets"].value.tolist() == [1.0, 2.0, 3.0]


def test_frames_of_ones_own() -> None:
    users = pd.DataFrame({"item_id": [7, 8], "age": [30, 40], "city": ["x", None], "x_0": [1, 2], "x_1": [0.5, 1.5]})
    items = {"user": users, "film": pd.DataFrame(index=range(3))}
    rates = pd.DataFrame({"film": [2, 0], "user": ["8", "7"], "value": [4, 5], "note": ["a", "b"]}, index=[5, 9])
    data = from_frames(
        items, {"rates": rates}, {("user", "knows", "user"): pd.DataFrame({"source": [7], "target": [8]})}
    )
    assert data.validate()
    assert data["user"].item_id == ["7", "8"]
    assert data["user"].x.tolist() == [[1.0, 0.5], [2.0, 1.5]]
    assert data["user"].x.dtype == torch.float32
    kept = from_frames(items, {}, dtype=None)
    assert kept["user"].x.dtype == torch.float64
    assert data["user"].age.tolist() == [30, 40]
    assert data.relation("rates").modalities == ("film", "user")
    assert data.relation("rates").index.tolist() == [[2, 0], [1, 0]]
    assert data["rates"].note == ["a", "b"]
    assert isinstance(data["rates"].value, Tensor)
    assert data["user", "knows", "user"].edge_index.tolist() == [[0], [1]]


def test_size_zero(same: Any) -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=0, item_id=[])
    data.add_hyperedges("r", {"user": []}, value=[])
    same(from_frames(*to_frames(data)), data)
    assert from_frames({}, {}).node_types == []


USERS = {"user": pd.DataFrame({"item_id": ["anna", "ben"]}), "film": pd.DataFrame(index=range(2))}


@pytest.mark.parametrize(
    ("relation", "text"),
    [
        ({"users": ["anna"]}, r"no column is called as a modality \['user', 'film'\]"),
        (
            {"user": ["anna", "bem"]},
            r"'bem' at row 1 is not an 'item_id' of modality 'user' \(1 such\)\. Did.*'ben'",
        ),
        ({"film": [0, 2]}, r"column 'film': 2 at row 1 is not a position in \[0, 2\)"),
        ({"film": [0, 0.5]}, r"0\.5 at row 1 is not a position"),
        ({"film": [0, None]}, r"column 'film': cell at row 1 is empty"),
        ({"film": [0, 1], "value": [1, None]}, r"column 'value': cell at row 1 is empty \(1 such\)"),
        ({"hyperedge": [0, 2], "slot": ["user", "user"], "item": ["anna", "ben"]}, "column 'hyperedge': 1 has no row"),
        (
            {"hyperedge": [0, -1], "slot": ["user", "user"], "item": ["anna", "ben"]},
            "row 1 is no number",
        ),
        ({"hyperedge": [0], "slot": ["usr"], "item": ["anna"]}, "'usr' is no modality and no .* Did you mean 'user'"),
    ],
)
def test_errors(relation: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        from_frames(USERS, {"r": pd.DataFrame(relation)})


def test_a_misspelt_slot(same: Any) -> None:
    with pytest.warns(
        UserWarning, match=r"'r' has one slot alone, 'film': column 'usr' is no modality\. Did.*'user'"
    ) as r:
        from_frames(USERS, {"r": pd.DataFrame({"film": [0], "usr": ["anna"], "value": [1.0]})})
    assert r[0].filename == __file__
    with pytest.raises(InputError, match=r"no column is called as a modality.* column 'users' .*Did you mean 'user'"):
        from_frames(USERS, {"r": pd.DataFrame({"users": ["anna"]})})
    assert from_frames(USERS, {"r": pd.DataFrame({"film": [0], "note": ["x"]})}).relation("r").order == 1


def test_the_frames_alone(small: MultiModalHeteroData, same: Any) -> None:
    frames = to_frames(small)
    same(from_frames(frames), from_frames(*frames))
    with pytest.raises(ValueError, match="pass the Frames alone"):
        from_frames(frames, frames.relations)


def test_more_errors(small: MultiModalHeteroData) -> None:
    edges = {("user", "knows", "user"): pd.DataFrame({"source": ["anna"]})}
    with pytest.raises(InputError, match="column 'target' is missing"):
        from_frames(USERS, {}, edges)
    with pytest.raises(InputError, match=r"unknown modality 'usr'\. Did you mean 'user'"):
        from_frames(USERS, {}, {("usr", "knows", "user"): pd.DataFrame({"source": ["a"], "target": ["b"]})})
    with pytest.raises(InputError, match="column 'item_id': cell at row 1 is empty"):
        from_frames({"user": pd.DataFrame({"item_id": ["a", None]})}, {})
    with pytest.raises(ValueError, match="must differ"):
        from_frames({"user": pd.DataFrame({"item_id": ["a", "a"]})}, {})
    small["rates"].user = torch.ones(3)
    with pytest.raises(ValueError, match=r"attributes \['user'\] are called as columns"):
        to_frames(small)
