from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import CoAuthorship, CoCitation
from hyperlearn_pyg.errors import InputError


def small() -> dict[str, Any]:
    """Four papers, two hyperedges {0, 2} and {}, paper 1 and 3 in none; two splits."""
    return {
        "edge_ptr": np.array([0, 2, 2]),
        "edge_idx": np.array([2, 0]),
        "edge_name": np.array(["A Author", "B Author"]),
        "x_data": np.array([1.0, 1.0, 2.0], dtype=np.float32),
        "x_indices": np.array([0, 2, 1], dtype=np.int32),
        "x_indptr": np.array([0, 2, 2, 3, 3], dtype=np.int32),
        "x_shape": np.array([4, 3]),
        "y": np.array([1, 0, 1, 2]),
        "train": np.array([[0], [3]]),
        "test": np.array([[1, 2], [0, 1]]),
    }


def write(root: Path, arrays: dict[str, Any], name: str = "coauthorship_cora") -> Path:
    (root / "raw").mkdir(parents=True, exist_ok=True)
    np.savez(root / "raw" / f"{name}.npz", **arrays)
    return root


def test_form(tmp_path: Path) -> None:
    dataset = CoAuthorship(write(tmp_path, small()))
    data = dataset[0]
    assert isinstance(data, MultiModalHeteroData)
    assert data.validate()
    assert (len(dataset), dataset.num_classes, repr(dataset)) == (1, 3, "CoAuthorship()")
    assert (data.modalities, data.hyperedge_types) == (["paper"], ["author"])
    assert data["paper"].x.tolist() == [[1, 0, 1], [0, 0, 0], [0, 2, 0], [0, 0, 0]]
    assert data["paper"].y.tolist() == [1, 0, 1, 2]
    assert data["paper"].train_mask.t().tolist() == [[True, False, False, False], [False, False, False, True]]
    assert data["paper"].test_mask.t().tolist() == [[False, True, True, False], [True, True, False, False]]
    assert data["author"].item_id == ["A Author", "B Author"]
    assert data["author"].num_nodes == 2
    assert dataset.hyperedge_index().tolist() == [[2, 0], [0, 0]]
    assert dataset.hyperedge_index(singletons=True).tolist() == [[2, 0, 1, 3], [0, 0, 2, 3]]


def test_names_are_optional_and_both_kinds_share_a_folder(tmp_path: Path) -> None:
    arrays = {key: value for key, value in small().items() if key != "edge_name"}
    write(write(tmp_path, small()), arrays, "cocitation_pubmed")
    assert CoAuthorship(tmp_path)[0]["author"].item_id == ["A Author", "B Author"]
    assert CoCitation(tmp_path, "pubmed")[0]["citing"].item_id == ["0", "1"]


def test_transforms_and_the_processed_file(tmp_path: Path) -> None:
    def mark(data: Any) -> Any:
        data.marked = True
        return data

    write(tmp_path, small())
    dataset = CoAuthorship(tmp_path, transform=lambda data: data.modalities, pre_transform=mark)
    assert dataset[0] == ["paper"]
    assert CoAuthorship(tmp_path, pre_transform=mark)[0].marked
    (tmp_path / "raw" / "coauthorship_cora.npz").write_bytes(b"")  # not read again
    assert CoAuthorship(tmp_path, pre_transform=mark).num_classes == 3
    with pytest.raises(InputError, match=r"no intact \.npz"):
        CoAuthorship(tmp_path, pre_transform=mark, force_reload=True)
    (tmp_path / "processed" / "coauthorship_cora.pt").write_bytes(b"PK cut off")
    with pytest.raises(InputError, match="delete it or pass 'force_reload=True'"):
        CoAuthorship(tmp_path, pre_transform=mark)


def test_no_papers(tmp_path: Path) -> None:
    ends, none = np.zeros(1, dtype=int), np.zeros(0, dtype=int)
    splits = {"train": np.zeros((1, 0), dtype=int), "test": np.zeros((1, 0), dtype=int)}
    features = {"x_data": none, "x_indices": none, "x_indptr": ends, "x_shape": np.array([0, 3])}
    write(tmp_path, {"edge_ptr": ends, "edge_idx": none, "y": none, **features, **splits})
    dataset = CoAuthorship(tmp_path)
    assert dataset.num_classes == 0
    assert dataset[0]["paper"].x.shape == (0, 3)
    assert dataset.hyperedge_index(singletons=True).shape == (2, 0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"edge_ptr": None, "y": None}, r"lacks \['edge_ptr', 'y'\]"),
        ({"y": np.zeros((4, 1), dtype=int)}, r"'y' must have 1 dimension\(s\) and hold integers"),
        ({"y": np.array([0, 1, -1, 0])}, "'y' must be at least 0 .got -1 at position 2"),
        ({"train": np.array([0, 3])}, r"'train' must have 2 dimension\(s\)"),
        ({"edge_idx": np.array([0, 4])}, r"'edge_idx' must be in \[0, 4\) .got 4 at position 1"),
        ({"edge_ptr": np.array([0, 1])}, r"'edge_ptr' must begin with 0 and end with 2 .its ends are \[0, 1\]"),
        ({"edge_ptr": np.zeros(0, dtype=int)}, r"its ends are \[\]"),
        ({"edge_ptr": np.array([0, 3, 2])}, "'edge_ptr' must not fall .it does behind position 1"),
        ({"edge_name": np.array(["one"])}, r"'edge_name' must be of shape \(2,\) .got \(1,\)"),
        ({"edge_name": np.array(["same", "same"])}, "must differ: 'same' stands at 0 and 1"),
        ({"x_shape": np.array([5, 3])}, r"the features do not agree: 'x_shape' is \[5, 3\]"),
        ({"x_indices": np.array([0, 3, 1])}, r"'x_indices' must be in \[0, 3\) .got 3 at position 1"),
        (
            {"x_data": np.array([1.0, np.nan, 1.0])},
            "'x' of modality 'paper' must be finite .got nan at row 0, column 2",
        ),
        ({"train": np.array([[0]])}, "'train' has 1 splits, 'test' 2"),
        ({"test": np.array([[1, 2], [9, 1]])}, r"'test' must be in \[0, 4\) .got 9 at position 1, 0"),
        ({"test": np.array([[1, 2], [3, 1]])}, "node 3 is in both 'train' and 'test' of split 1"),
        ({"edge_name": np.array([None, 1])}, "without pickled objects"),
    ],
)
def test_bad_arrays(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    write(tmp_path, {key: value for key, value in {**small(), **change}.items() if value is not None})
    with pytest.raises(InputError, match=text):
        CoAuthorship(tmp_path)
    assert not list(tmp_path.glob("processed/*cora*"))


def test_damaged_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, small()) / "raw" / "coauthorship_cora.npz"
    whole = path.read_bytes()
    at = whole.index(np.array([2, 0]).tobytes())
    for content in (whole[: len(whole) // 2], b"", whole[:at] + b"\x07" + whole[at + 1 :]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"coauthorship_cora\.npz' is no intact \.npz file"):
            CoAuthorship(tmp_path)


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("harm").touch, ())


def test_a_pickle_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    stream = io.BytesIO()
    pickle.dump(_Harmful(), stream)
    (tmp_path / "raw" / "hypergraph.pickle").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match=r"coauthorship_cora\.npz' is missing.* are pickles: .*edge_ptr, edge_idx"):
        CoAuthorship(tmp_path)
    (tmp_path / "raw" / "coauthorship_cora.npz").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match=r"no intact \.npz"):
        CoAuthorship(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_a_missing_file_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        CoCitation(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'name' must be one of .* Did you mean 'cora'\?"):
        CoAuthorship(tmp_path, "kora")


@pytest.mark.parametrize(
    ("dataset", "hyperedges", "incidences", "isolated"),
    [(CoAuthorship, 1_072, 4_585, 320), (CoCitation, 1_579, 4_786, 1_274)],
)
def test_cora(
    data_dir: Callable[[str], Path], tmp_path: Path, dataset: Any, hyperedges: int, incidences: int, isolated: int
) -> None:
    (tmp_path / "raw").symlink_to(data_dir("hypergcn").resolve())
    cora = dataset(tmp_path)
    data = cora[0]
    assert data.validate()
    papers = data["paper"]
    assert (papers.x.shape, cora.num_classes) == ((2_708, 1_433), 7)
    assert papers.x.unique().tolist() == [0, 1]
    assert data[cora.hyperedge_type].num_nodes == hyperedges
    assert cora.hyperedge_index().shape == (2, incidences)
    assert cora.hyperedge_index(singletons=True).shape == (2, incidences + isolated)
    assert papers.train_mask.sum(0).tolist() == [140] * 10
    assert torch.equal(papers.test_mask, ~papers.train_mask)
    for split in range(10):
        assert papers.y[papers.train_mask[:, split]].bincount().tolist() == [20] * 7
