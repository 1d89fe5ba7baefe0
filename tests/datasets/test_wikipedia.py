from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperlearn_pyg.datasets import WikipediaImageText, checksums
from hyperlearn_pyg.errors import InputError


def test_form(fake: Callable[[str], Any]) -> None:
    wikipedia = fake("wikipedia")
    data = wikipedia.load()[0]
    pair = data.relation("pair")
    assert data.validate()
    assert data["image"].x.tolist() == [[0.5, 0.5], [1, 0], [1, 0]]
    assert data["text"].x.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert (data["image"].item_id, data["text"].item_id) == (["i1", "i2", "i3"], ["t1", "t2", "t3"])
    assert data["text"].y.tolist() == data["image"].y.tolist() == [1, 0, 1]
    assert data["image"].item_label == ["biology", "art", "biology"]
    assert (pair.modalities, pair.index.tolist()) == (("image", "text"), [[0, 1, 2], [0, 1, 2]])
    assert pair.mask("test").tolist() == [False, False, True]
    dataset = wikipedia.load(order=3)
    pair = dataset[0].relation("pair")
    assert (pair.modalities[2], pair.index[2].tolist(), repr(dataset)) == (
        "category",
        [1, 0, 1],
        "WikipediaImageText(order=3)",
    )


def test_without_test_pairs(fake: Callable[[str], Any]) -> None:
    wikipedia = fake("wikipedia")
    wikipedia.write("testset_txt_img_cat.list", b"")
    with pytest.raises(InputError, match=r"testset_txt_img_cat\.list' is empty"):
        wikipedia.load()
    with pytest.raises(ValueError, match="'order' must be 2 or 3"):
        wikipedia.load(order=4)


@pytest.mark.parametrize(
    ("key", "matrix", "text"),
    [
        ("I_te", np.eye(2), r"'I_te' must hold numbers and have 1 rows, as the list of pairs .got .* \[2, 2\]"),
        ("T_tr", np.array([[1, 2, 3], [4, np.inf, 6]]), "'T_tr' must be finite .got inf at row 1, column 1"),
        ("T_te", np.ones((1, 4)), r"as many columns as each other .got \{'T_tr': 3, 'T_te': 4\}"),
    ],
)
def test_bad_matrices(fake: Callable[[str], Any], key: str, matrix: Any, text: str) -> None:
    wikipedia = fake("wikipedia")
    good = {"I_tr": np.ones((2, 2)), "T_tr": np.ones((2, 3)), "I_te": np.ones((1, 2)), "T_te": np.ones((1, 3))}
    wikipedia.write("raw_features.mat", wikipedia.mat(**{**good, key: matrix}))
    with pytest.raises(InputError, match=rf"raw_features\.mat'.*{text}"):
        wikipedia.load()


def test_download_checks_the_files_of_the_archive(
    fake: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wikipedia = fake("wikipedia")
    with zipfile.ZipFile(tmp_path / "wikipedia_dataset.zip", "w") as archive:
        for name, content in wikipedia.files.items():
            archive.writestr(f"wikipedia_dataset/{name}", content)
    monkeypatch.setattr(WikipediaImageText, "url", (tmp_path / "wikipedia_dataset.zip").as_uri())
    with pytest.raises(InputError, match=r"'wiki/raw_features\.mat' has the sha256 checksum"):
        WikipediaImageText(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for name, content in wikipedia.files.items():
        monkeypatch.setitem(checksums.CHECKSUMS, f"wiki/{name}", ("sha256", hashlib.sha256(content).hexdigest()))
    assert len(WikipediaImageText(tmp_path / "new")[0].relation("pair")) == 3


def test_the_real_files(linked: Callable[[str], Path]) -> None:
    root = linked("wikipedia-xmodal")
    data = WikipediaImageText(root)[0]
    pair = data.relation("pair")
    assert data.validate()
    assert (data["image"].x.shape, data["text"].x.shape) == ((2_866, 128), (2_866, 10))
    assert (int(pair.mask("train").sum()), int(pair.mask("test").sum())) == (2_173, 693)
    assert data["image"].y.unique().numel() == 10
    assert float((data["image"].x.sum(1) - 1).abs().max()) < 1e-5
    assert WikipediaImageText(root, order=3)[0].relation("pair").sizes == (2_866, 2_866, 10)
    for path in (root / "raw").iterdir():
        checksums.verify(path, f"wiki/{path.name}")
