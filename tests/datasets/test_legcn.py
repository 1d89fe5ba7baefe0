from __future__ import annotations

import gzip
import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperlearn_pyg.datasets import NTU2012, Zoo, checksums
from hyperlearn_pyg.errors import InputError

CONTENT = ["a\t0.5\t1\t7", "b\t0\t-1e-1\t2", "c\t0\t0\t7", "d\t1\t1\t3"]
EDGES = ["b\t11", "a\t9", "c\t11"]


def write(root: Path, content: list[str] = CONTENT, edges: list[str] = EDGES, *, end: str = "") -> Path:
    (root / "raw").mkdir(parents=True, exist_ok=True)
    (root / "raw" / "zoo.content").write_text("\n".join(content) + end, encoding="utf-8")
    (root / "raw" / "zoo.edges").write_text("\n".join(edges) + end, encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = urllib.request.urlopen

    def only_files(url: str, **kwargs: Any) -> Any:
        if not url.startswith("file://"):
            raise OSError("no network in tests")
        return opened(url, **kwargs)

    monkeypatch.setattr(urllib.request, "urlopen", only_files)


@pytest.mark.parametrize("end", ["", "\n"])
def test_form(tmp_path: Path, end: str) -> None:
    dataset = Zoo(write(tmp_path, end=end))
    data = dataset[0]
    assert data.validate()
    assert (data.modalities, data.hyperedge_types, dataset.num_classes) == (["animal"], ["attribute"], 3)
    torch.testing.assert_close(data["animal"].x, torch.tensor([[0.5, 1], [0, -0.1], [0, 0], [1, 1]]))
    assert data["animal"].y.tolist() == [2, 0, 2, 1]
    assert (data["animal"].item_id, data["attribute"].item_id) == (["a", "b", "c", "d"], ["9", "11"])
    assert dataset.hyperedge_index().tolist() == [[1, 0, 2], [1, 0, 1]]
    assert dataset.hyperedge_index(singletons=True).tolist() == [[1, 0, 2, 3], [1, 0, 1, 2]]


def test_gz_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "raw" / "zoo.edges"
    (tmp_path / "raw" / "zoo.edges.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert Zoo(tmp_path).hyperedge_index().shape == (2, 3)


def test_splits_are_seeded_and_disjoint(tmp_path: Path) -> None:
    write(tmp_path, [f"{i}\t0\t{i % 3}" for i in range(41)], [f"{i}\t{i % 5}" for i in range(41)])

    def masks(**settings: Any) -> list[torch.Tensor]:
        store = Zoo(tmp_path, **settings)[0]["animal"]
        return [store.train_mask, store.val_mask, store.test_mask]

    ten = masks()
    assert [mask.sum(0).tolist() for mask in ten] == [[20] * 10, [10] * 10, [11] * 10]
    assert torch.equal(sum(mask.long() for mask in ten), torch.ones(41, 10, dtype=torch.long))
    for mask, three in zip(ten, masks(num_splits=3), strict=True):
        assert torch.equal(mask[:, :3], three)
    assert not torch.equal(ten[0], masks(seed=1)[0])
    for settings, text in (({"num_splits": 0}, "'num_splits' must be .* at least 1"), ({"seed": -1}, "'seed'")):
        with pytest.raises(ValueError, match=text):
            masks(**settings)


@pytest.mark.parametrize(
    ("content", "edges", "text"),
    [
        ([*CONTENT, "e\t1\t1"], EDGES, r"zoo\.content', line 5: expected 4 fields"),
        (["a\t1"], EDGES, r"zoo\.content', line 1: expected an id, features and a class between tabs, got 2"),
        ([*CONTENT, "a\t1\t1\t1"], EDGES, r"line 5, column 'id': 'a' stands in line 1 already"),
        ([CONTENT[0], "b\t1\tx\t1"], EDGES, r"line 2, column 'feature 2': expected a finite number, got 'x'"),
        ([CONTENT[0], "b\tinf\t1\t1"], EDGES, r"line 2, column 'feature 1': expected a finite number, got 'inf'"),
        ([CONTENT[0], "b\t1\t1\t1.5"], EDGES, r"line 2, column 'class': expected an integer, got '1.5'"),
        (CONTENT, [*EDGES, "z\t9"], r"zoo\.edges', line 4, column 'item': 'z' is not in 'zoo\.content'"),
        (CONTENT, [*EDGES, "b\t11"], r"zoo\.edges', line 4: 'b' is in hyperedge '11' already by line 1"),
        (CONTENT, ["a\t-1"], r"zoo\.edges', line 1, column 'hyperedge': expected an integer, got '-1'"),
        (CONTENT, ["a 1"], r"zoo\.edges', line 1: expected 2 fields"),
    ],
)
def test_bad_lines(tmp_path: Path, content: list[str], edges: list[str], text: str) -> None:
    write(tmp_path, content, edges)
    with pytest.raises(InputError, match=text):
        Zoo(tmp_path)
    assert not list(tmp_path.glob("processed/*zoo*"))


def test_empty_and_damaged_files(tmp_path: Path) -> None:
    write(tmp_path)
    for content, text in ((b"", r"zoo\.content' is empty"), (b"a\t\xff\t1\n", "line 1: is not utf-8 text .* byte 2")):
        (tmp_path / "raw" / "zoo.content").write_bytes(content)
        with pytest.raises(InputError, match=text):
            Zoo(tmp_path)


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'zoo\.content' not found in .*no network in tests.*put the files there"):
        Zoo(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    source = write(tmp_path / "server")
    (source / "raw").rename(source / "zoo")
    monkeypatch.setattr(Zoo, "url", source.as_uri())
    with pytest.raises(InputError, match=r"'zoo\.content' has the sha256 checksum"):
        Zoo(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for path in (source / "zoo").iterdir():
        monkeypatch.setitem(checksums.CHECKSUMS, path.name, ("sha256", hashlib.sha256(path.read_bytes()).hexdigest()))
    (tmp_path / "new" / "raw").mkdir(parents=True)
    (tmp_path / "new" / "raw" / "zoo.edges").write_text("d\t1\n", encoding="utf-8")  # is there: not fetched again
    assert Zoo(tmp_path / "new").hyperedge_index().tolist() == [[3], [0]]


@pytest.mark.parametrize(
    ("dataset", "folder", "counts"),
    [(NTU2012, "NTU2012", (2_012, 100, 2_012, 10_060, 67)), (Zoo, "zoo", (101, 16, 43, 1_717, 7))],
)
def test_counts(
    data_dir: Callable[[str], Path], tmp_path: Path, dataset: Any, folder: str, counts: tuple[int, ...]
) -> None:
    (tmp_path / "raw").symlink_to((data_dir("legcn") / folder).resolve())
    loaded = dataset(tmp_path)
    data = loaded[0]
    assert data.validate()
    sizes = (*data[loaded.item_type].x.shape, data[loaded.hyperedge_type].num_nodes)
    assert (*sizes, loaded.hyperedge_index().size(1), loaded.num_classes) == counts
    assert loaded.hyperedge_index()[0].unique().numel() == counts[0]
    for path in (data_dir("legcn") / folder).iterdir():
        checksums.verify(path, path.name)


def test_the_last_hyperedges_of_zoo_are_its_classes(data_dir: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "raw").symlink_to((data_dir("legcn") / "zoo").resolve())
    data = Zoo(tmp_path)[0]
    node, edge = data.relation("attribute").incidence(0)
    for label in range(7):
        members = torch.zeros(101, dtype=torch.bool).index_fill(0, node[edge == 36 + label], True)
        assert torch.equal(members, data["animal"].y == label)
    assert data["attribute"].item_id[36:] == [str(i) for i in range(137, 144)]
    rest = data.subgraph({"attribute": torch.arange(36)})
    assert rest.relation("attribute").incidence(0).shape == (2, 1_616)
