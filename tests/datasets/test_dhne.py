from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperlearn_pyg.datasets import DHNE
from hyperlearn_pyg.datasets.dhne import _lists_of_pickle
from hyperlearn_pyg.errors import InputError


def tuples(data: Any, split: str) -> list[list[int]]:
    relation = data.relation("event")
    rows: list[list[int]] = relation.index[:, relation.mask(split)].t().tolist()
    return rows


def test_form(fake: Callable[[str], Any]) -> None:
    dataset = fake("gps").load()
    data = dataset[0]
    assert data.validate()
    assert repr(dataset) == "DHNE('GPS')"
    assert data.modalities == ["user", "location", "activity"]
    assert data.relation("event").sizes == (3, 2, 2)
    assert data["user"].item_id == ["0", "1", "2"]
    assert tuples(data, "train") == [[0, 1, 0], [2, 0, 1]]
    assert tuples(data, "test") == [[1, 1, 1]]


def test_rows_as_given(fake: Callable[[str], Any]) -> None:
    gps = fake("gps")
    assert len(gps.load()[0].relation("event")) == 3
    dataset = gps.load(deduplicate=False)
    assert repr(dataset) == "DHNE('GPS', deduplicate=False)"
    assert tuples(dataset[0], "train") == [[0, 1, 0], [2, 0, 1], [0, 1, 0]]
    assert tuples(dataset[0], "test") == [[2, 0, 1], [1, 1, 1], [1, 1, 1]]


def test_genres_are_read_without_running_the_pickle(
    fake: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    movies = fake("movies")
    monkeypatch.setattr(pickle, "loads", lambda *a, **k: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "load", lambda *a, **k: pytest.fail("unpickled"))
    data = movies.load()[0]
    assert data.modalities == ["user", "movie", "tag"]
    assert data["movie"].y.tolist() == [[0, 1], [0, 0], [1, 1]]
    assert data["movie"].item_label == ["Sci-Fi", "unknown", "Drama"]
    assert "y" not in data["user"]


def test_genres_are_optional(fake: Callable[[str], Any]) -> None:
    movies = fake("movies")
    sizes = np.array([1, 3, 1])
    movies.write("MovieLens/train_data.npz", movies.npz(train_data=np.zeros((1, 3)), nums_type=sizes))
    assert "y" not in movies.load()[0]["movie"]


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("harm",))


@pytest.mark.parametrize("value", [[[1], _Harmful()], _Harmful(), [[1], ["a"]], [1, 2], [[1.5]], [(1, 2)], "", [[[1]]]])
def test_anything_but_lists_of_numbers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, fake: Callable[[str], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    movies = fake("movies")
    content = movies.with_objects(b"", "labels", [[1]])
    head = b"\x93NUMPY" + content.split(b"\x93NUMPY", 1)[1].split(b"\n", 1)[0] + b"\n"
    with pytest.raises(InputError, match="expected lists of numbers in 'labels'"):
        _lists_of_pickle(head + pickle.dumps(value, protocol=2), Path("x.npz"))
    assert not (tmp_path / "harm").exists()


def test_a_cut_pickle(fake: Callable[[str], Any]) -> None:
    content = fake("movies").with_objects(b"", "labels", [[1], [0]])
    whole = zipfile.ZipFile(io.BytesIO(content)).read("labels.npy")
    assert _lists_of_pickle(whole, Path("x.npz")) == [[1], [0]]
    for cut in range(0, whole.rindex(b"t"), 3):  # up to the end of the list
        with pytest.raises(InputError, match=r"'x\.npz': expected lists of numbers"):
            _lists_of_pickle(whole[:cut], Path("x.npz"))


def test_no_tuples_and_one(fake: Callable[[str], Any]) -> None:
    gps = fake("gps")
    sizes = np.array([0, 0, 0])
    for name in ("train", "test"):
        array = {f"{name}_data": np.zeros((0, 3), dtype=int)}
        gps.write(f"GPS/{name}_data.npz", gps.npz(nums_type=sizes, **array))
    data = gps.load()[0]
    assert data.validate()
    assert len(data.relation("event")) == 0
    for name, row in (("train", [[0, 0, 0]]), ("test", [[0, 0, 0]])):
        gps.write(f"GPS/{name}_data.npz", gps.npz(nums_type=sizes + 1, **{f"{name}_data": np.array(row)}))
    data = gps.load(force_reload=True)[0]
    assert (tuples(data, "train"), tuples(data, "test")) == ([[0, 0, 0]], [])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"train_data": np.array([[0, 1, 0], [3, 0, 0]])}, r"'train_data': user must be in \[0, 2\] .got 3 at row 1"),
        ({"train_data": np.array([[0, 1, -1]])}, r"'train_data': activity must be in \[0, 1\] .got -1 at row 0"),
        ({"train_data": np.array([[0, 1]])}, r"of shape \[E, 3\] .got int64 of shape \[1, 2\]"),
        ({"train_data": np.array([[0.5, 1, 0]])}, "whole numbers .got 0.5 at row 0, column 0"),
        ({"train_data": np.array([["0", "1", "0"]])}, "must hold numbers"),
        ({"train_data": None}, r"lacks \['train_data'\] .it holds \['nums_type'\]"),
        ({"train_data": np.array([[None, 1, 0]])}, "without pickled objects"),
        ({"nums_type": np.array([3, 2])}, r"'nums_type' must hold three numbers of items .got \[3, 2\]"),
        ({"nums_type": np.array([4, 2, 2])}, r"'nums_type' differs: \[4, 2, 2\] in .*train.*, \[3, 2, 2\] in .*test"),
    ],
)
def test_bad_arrays(fake: Callable[[str], Any], changes: dict[str, Any], text: str) -> None:
    gps = fake("gps")
    arrays = {"train_data": np.array([[0, 1, 0]]), "nums_type": np.array([3, 2, 2]), **changes}
    given = {key: value for key, value in arrays.items() if value is not None}
    gps.write("GPS/train_data.npz", gps.npz(**given))
    with pytest.raises(InputError, match=text):
        gps.load()
    assert not list(gps.root.glob("processed/*.pt"))


@pytest.mark.parametrize(
    ("lists", "text"),
    [
        ([[0]], r"'labels' must have one entry a movie: 3 .got 1"),
        ([[0], [2], []], r"'labels' must be in \[0, 2\) .got \[2\] at position 1"),
    ],
)
def test_bad_genres(fake: Callable[[str], Any], lists: list[list[int]], text: str) -> None:
    movies = fake("movies")
    arrays = {"train_data": np.zeros((1, 3)), "nums_type": np.array([1, 3, 1])}
    content = movies.npz(**arrays, label_name=np.array([b"Drama", b"War"]))
    movies.write("MovieLens/train_data.npz", movies.with_objects(content, "labels", lists))
    with pytest.raises(InputError, match=text):
        movies.load()


def test_genres_of_damaged_bytes(fake: Callable[[str], Any]) -> None:
    movies = fake("movies")
    content = movies.files["MovieLens/train_data.npz"]
    at = content.index(b"numpy")  # in the pickle
    movies.write("MovieLens/train_data.npz", content[:at] + b"X" + content[at + 1 :])
    with pytest.raises(InputError, match=r"train_data\.npz': array 'labels' is damaged .Bad CRC"):
        movies.load()


def test_missing_files_are_asked_for(tmp_path: Path) -> None:
    for name in ("GPS", "wordnet"):
        with pytest.raises(InputError, match=rf"'{name}/train_data.npz', .* not found .* Fetch http"):
            DHNE(tmp_path / "new", name)
        assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=r"'name' must be one of .* Did you mean 'drug'\?"):
        DHNE(tmp_path, "drugs")


def test_wordnet_is_read_from_the_same_form(fake: Callable[[str], Any]) -> None:
    gps = fake("gps")
    for name in ("train", "test"):
        gps.write(f"wordnet/{name}_data.npz", gps.files[f"GPS/{name}_data.npz"])
    assert gps.load(name="wordnet")[0].modalities == ["head", "relation", "tail"]


@pytest.mark.parametrize(
    ("name", "sizes", "unique", "given"),
    [
        ("GPS", (146, 70, 5), (1_154, 282), (1_154, 282)),
        ("MovieLens", (1_943, 5_610, 8_040), (38_365, 8_047), (38_365, 8_047)),
        ("drug", (12, 1_077, 6_398), (61_713, 10_929), (137_404, 34_352)),
    ],
)
def test_the_real_files(
    linked: Callable[[str], Path], name: str, sizes: tuple[int, ...], unique: tuple[int, ...], given: tuple[int, ...]
) -> None:
    root = linked("dhne")
    for deduplicate, counts in ((True, unique), (False, given)):
        data = DHNE(root, name, deduplicate=deduplicate)[0]
        event = data.relation("event")
        assert data.validate()
        assert event.sizes == sizes
        assert (int(event.mask("train").sum()), int(event.mask("test").sum())) == counts
        distinct = event.index.unique(dim=1).size(1)
        assert (distinct == len(event)) == (deduplicate or name != "drug")
        if not deduplicate:
            test = event.index[:, event.mask("test")]
            both, where = torch.cat([event.index[:, event.mask("train")].unique(dim=1), test], dim=1).unique(
                dim=1, return_inverse=True
            )
            trained = torch.zeros(both.size(1), dtype=torch.bool)
            trained[where[: -test.size(1)]] = True
            assert int(trained[where[-test.size(1) :]].sum()) == (23_025 if name == "drug" else 0)


def test_the_genres_of_the_real_files(linked: Callable[[str], Path]) -> None:
    movie = DHNE(linked("dhne"), "MovieLens")[0]["movie"]
    assert movie.y.shape == (5_610, 19)
    assert movie.item_label[0] == "Adventure"
    assert movie.y[0].nonzero().view(-1).tolist() == [8, 10, 12, 14, 16]
    assert int(movie.y[:, 1].sum()) == 2_894  # dramas
