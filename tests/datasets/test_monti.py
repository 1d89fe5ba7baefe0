from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperlearn_pyg.datasets import MontiSplit, MovieLens100K
from hyperlearn_pyg.errors import InputError


def matrix(name: str, cells: list[tuple[int, int, float]], shape: tuple[int, int]) -> dict[str, Any]:
    row, col, val = np.array(cells).reshape(-1, 3).T
    arrays = (row.astype(np.int32), col.astype(np.int32), val.astype(np.float32), np.array(shape))
    return dict(zip((f"{name}_{part}" for part in ("row", "col", "val", "shape")), arrays, strict=True))


def small() -> dict[str, Any]:
    return {
        **matrix("M", [(0, 0, 5), (0, 2, 3), (1, 1, 4)], (2, 3)),
        **matrix("Otraining", [(0, 0, 1), (1, 1, 1)], (2, 3)),
        **matrix("Otest", [(0, 2, 1)], (2, 3)),
        **matrix("W_users", [(0, 1, 0.5), (1, 0, 0.5)], (2, 2)),
    }


def test_form(tmp_path: Path) -> None:
    np.savez(tmp_path / "split.npz", **small())
    for path in (tmp_path, tmp_path / "split.npz", str(tmp_path)):
        data = MontiSplit(path)[0]
        assert data.validate()
        assert data.modalities == ["user", "item"]
        assert data["item"].item_id == ["1", "2", "3"]
        assert data.relation("rates").index.tolist() == [[0, 0, 1], [0, 2, 1]]
        assert data["rates"].value.tolist() == [5, 3, 4]
        assert data["rates"].train_mask.tolist() == [True, False, True]
        assert data["rates"].test_mask.tolist() == [False, True, False]
        assert data["user", "knn", "user"].edge_index.tolist() == [[0, 1], [1, 0]]
        assert data["user", "knn", "user"].edge_weight.tolist() == [0.5, 0.5]
        assert data.intra_edge_types("item") == []
    assert MontiSplit(tmp_path, transform=lambda data: data.modalities)[0] == ["user", "item"]


def test_movielens(data_dir: Callable[[str], Path], tmp_path: Path) -> None:
    data = MontiSplit(data_dir("mgcnn-movielens") / "split_1.npz")[0]
    assert data.validate()
    assert data["user", "knn", "user"].edge_index.shape == (2, 12_594)
    assert data["item", "knn", "item"].edge_index.shape == (2, 28_928)
    (tmp_path / "raw").mkdir()
    for path in data_dir("ml-100k").iterdir():
        (tmp_path / "raw" / path.name).symlink_to(path)

    def rows(data: Any) -> torch.Tensor:
        store = data["rates"]
        table = torch.cat([data.relation("rates").index, torch.stack([store.value.long(), store.test_mask.long()])])
        return table[:, (table[0] * 2000 + table[1]).argsort()]

    assert torch.equal(rows(data), rows(MovieLens100K(tmp_path, "u1")[0]))


def test_douban(data_dir: Callable[[str], Path]) -> None:
    data = MontiSplit(data_dir("monti-douban"))[0]
    assert data.validate()
    assert data.relation("rates").sizes == (3000, 3000)
    assert [int(data["rates"][f"{split}_mask"].sum()) for split in ("train", "test")] == [123_202, 13_689]
    assert data["user", "knn", "user"].edge_index.size(1) == 2_690
    assert data.intra_edge_types("item") == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"M_val": None}, r"lacks \['M_val'\]"),
        ({"M_val": np.ones(2)}, "do not agree"),
        ({"M_row": np.zeros(3)}, "must be integers"),
        ({"M_col": np.array([0, 7, 1])}, r"'M_col' must lie in \[0, 3\) .got 0 to 7"),
        ({"M_row": np.array([0, -1, 1])}, r"'M_row' must lie in \[0, 2\) .got -1"),
        ({"M_col": np.array([0, 0, 1])}, "'M' gives 1 cells more than once"),
        ({"M_val": np.array([1, np.nan, 1])}, "'value' of relation 'rates' must be finite"),
        ({"Otest_shape": np.array([3, 3])}, r"'Otest' must be of shape \(2, 3\)"),
        ({"Otest_col": np.array([1])}, "'Otest' names 1 cells without a rating"),
        ({"Otest_col": np.array([0])}, "1 cells stand in both"),
        ({"W_users_shape": np.array([3, 3])}, r"'W_users' must be of shape \(2, 2\)"),
        ({"M_val": np.array([None, 1, 2])}, "without pickled objects"),
    ],
)
def test_bad_arrays(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    arrays = {key: array for key, array in {**small(), **change}.items() if array is not None}
    np.savez(tmp_path / "split.npz", **arrays)
    with pytest.raises(InputError, match=text):
        MontiSplit(tmp_path)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must hold one \.npz file"):
        MontiSplit(tmp_path)
    with pytest.raises(InputError, match="is missing"):
        MontiSplit(tmp_path / "split.npz")
    for content in (b"", b"PK\x03\x04 cut off", b"text"):
        (tmp_path / "split.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"no intact \.npz file"):
            MontiSplit(tmp_path / "split.npz")
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(InputError, match=r"no intact \.npz file"):
        MontiSplit(tmp_path / "array.npy")
