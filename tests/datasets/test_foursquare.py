from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperlearn_pyg.datasets import FoursquareCheckins, checksums
from hyperlearn_pyg.errors import InputError

MAT = "dataset_connected_NYC.mat"


def matrices(**changes: Any) -> dict[str, Any]:
    return {
        "selected_checkins": np.array([[1, 168, 90, 4]]),
        "selected_users_IDs": np.array([[19], [54]]),
        "friendship_old": np.array([[1, 2]]),
        "friendship_new": np.array([[2, 1]]),
        **changes,
    }


def test_form(fake: Callable[[str], Any]) -> None:
    dataset = fake("checkins").load()
    data = dataset[0]
    checkin = data.relation("checkin")
    assert data.validate()
    assert repr(dataset) == "FoursquareCheckins('NYC')"
    assert checkin.modalities == ("user", "hour", "venue", "category")
    assert checkin.sizes == (3, 168, 2, 2)
    assert checkin.index.tolist() == [[0, 2, 0], [167, 0, 167], [1, 0, 1], [0, 1, 0]]
    assert data["user"].item_id == ["19", "54", "58"]
    assert data["venue"].item_id == ["17", "90"]
    assert data["hour"].item_id[::167] == ["1", "168"]
    assert data["user", "friend_before", "user"].edge_index.tolist() == [[0, 1, 2], [1, 0, 2]]
    assert data["user", "friend_after", "user"].edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]


def test_no_checkins_and_one(fake: Callable[[str], Any]) -> None:
    checkins = fake("checkins")
    empty = {key: np.zeros((0, columns)) for key, columns in (("selected_checkins", 4), ("friendship_old", 2))}
    for changes, count in (({}, 1), (empty, 0)):
        checkins.write(MAT, checkins.mat(**matrices(**changes)))
        data = checkins.load(force_reload=True)[0]
        assert data.validate()
        assert (len(data.relation("checkin")), data["user"].num_nodes, data["venue"].num_nodes) == (count, 2, count)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"selected_checkins": np.array([[1, 1, 1, 1], [3, 1, 1, 1]])}, r"user must be in \[1, 2\] .got 3 at row 1"),
        ({"selected_checkins": np.array([[1, 169, 1, 1]])}, r"hour must be in \[1, 168\] .got 169 at row 0, column 1"),
        ({"selected_checkins": np.array([[1, 1, 0, 1]])}, r"'selected_checkins': venue must be at least 1 .got 0"),
        ({"selected_checkins": np.array([[1, 1, 1.5, 1]])}, r"whole numbers .got 1.5 at row 0, column 2"),
        ({"selected_checkins": np.array([[1, 1, np.nan, 1]])}, r"whole numbers .got nan at row 0"),
        ({"selected_checkins": np.array([[1, 1, 1]])}, r"shape \[E, 4\] .got .* of shape \[1, 3\]"),
        ({"selected_checkins": np.array([["a"]], dtype=object)}, r"must hold numbers .* .got"),
        ({"friendship_new": np.array([[1, 3]])}, r"'friendship_new': user must be in \[1, 2\] .got 3"),
        ({"selected_users_IDs": np.array([[19], [19]])}, "'selected_users_IDs' holds an id twice"),
    ],
)
def test_bad_matrices(fake: Callable[[str], Any], changes: dict[str, Any], text: str) -> None:
    checkins = fake("checkins")
    checkins.write(MAT, checkins.mat(**matrices(**changes)))
    with pytest.raises(InputError, match=rf"dataset_connected_NYC\.mat'.*{text}"):
        checkins.load()
    assert not list(checkins.root.glob("processed/*.pt"))


def test_a_missing_matrix_and_other_versions(fake: Callable[[str], Any]) -> None:
    checkins = fake("checkins")
    some = matrices()
    del some["friendship_new"]
    checkins.write(MAT, checkins.mat(**some))
    with pytest.raises(InputError, match=r"lacks \['friendship_new'\] .it holds \['friendship_old', 'selected_check"):
        checkins.load()
    checkins.write(MAT, b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF")
    with pytest.raises(InputError, match=r"no intact MATLAB file of version 5 to 7 .*at byte \d+ of 132"):
        checkins.load()


def test_cities(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'city' must be one of .* Did you mean 'Jakarta'\?"):
        FoursquareCheckins(tmp_path, "jakarta")
    with pytest.raises(InputError, match=r"_Jakarta\.mat' not found .* knows no checksum"):
        FoursquareCheckins(tmp_path / "new", "Jakarta")
    assert not (tmp_path / "new").exists()


def test_the_real_file(linked: Callable[[str], Path]) -> None:
    root = linked("lbsn2vec")
    data = FoursquareCheckins(root)[0]
    checkin = data.relation("checkin")
    assert data.validate()
    assert checkin.sizes == (4_024, 168, 3_628, 300)
    assert len(checkin) == 105_961
    assert checkin.index.unique(dim=1).size(1) == 86_342
    assert [row.unique().numel() for row in checkin.index] == [3_785, 168, 3_628, 300]
    pairs = {}
    for name in ("friend_before", "friend_after"):
        edges = data["user", name, "user"].edge_index
        pairs[name] = {(a, b) for a, b in edges.t().tolist() if a <= b}
        assert {(b, a) for a, b in edges.t().tolist()} == {(a, b) for a, b in edges.t().tolist()}
    assert {name: len(found) for name, found in pairs.items()} == {"friend_before": 8_723, "friend_after": 10_545}
    assert len(pairs["friend_after"] - pairs["friend_before"]) == 4_603
    categories = checkin.index[2:].unique(dim=1)[0].bincount()
    assert int((categories == 1).sum()) == 3_413
    checksums.verify(root / "raw" / MAT, MAT)
