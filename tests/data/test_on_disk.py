from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hyperlearn_pyg.data import MultiModalHeteroData, on_disk, open_features, save_features
from hyperlearn_pyg.errors import InputError


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
@pytest.mark.parametrize("shape", [(5, 3), (0, 3), (1, 1), (4,), (2, 0)])
def test_round_trip(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = (torch.rand(shape) * 4).to(dtype)
    assert save_features(tmp_path / "x.npy", x) == shape
    out = open_features(tmp_path / "x.npy", dtype=dtype)
    assert (out.dtype, tuple(out.shape)) == (dtype, shape)
    assert torch.equal(out, x)
    if dtype != torch.bfloat16:
        assert np.array_equal(np.load(tmp_path / "x.npy"), x.numpy())


def test_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    blocks = (torch.full((n, 2), float(n)) for n in (3, 0, 1))
    assert save_features(path, blocks) == (4, 2)
    assert open_features(path)[:, 0].tolist() == [3.0, 3.0, 3.0, 1.0]
    assert save_features(path, np.ones((2, 1))) == (2, 1)
    assert open_features(path).dtype == torch.float64
    for wrong, text in (
        ([], "no block"),
        ([torch.ones(1, 2), torch.ones(1, 3)], r"block 1 is torch.float32 \[3\]"),
        ([torch.ones(1, 2), torch.ones(1, 2).int()], "block 1 is torch.int32"),
        ([torch.tensor(1.0)], "must be dense and have rows"),
        (torch.eye(2).to_sparse(), "must be dense"),
    ):
        with pytest.raises(ValueError, match=text):
            save_features(path, wrong)
    assert open_features(path).shape == (2, 1)  # the former file is whole
    assert os.listdir(tmp_path) == ["x.npy"]


def test_writing_never_reaches_the_file(tmp_path: Path) -> None:
    save_features(tmp_path / "x.npy", torch.zeros(3, 2))
    before = (tmp_path / "x.npy").read_bytes()
    x = open_features(tmp_path / "x.npy")
    x += 1
    assert x.sum() == 6
    assert (tmp_path / "x.npy").read_bytes() == before
    save_features(tmp_path / "x.npy", torch.full((3, 2), 7.0))
    assert x.sum() == 6  # what is open keeps the former content
    assert open_features(tmp_path / "x.npy").sum() == 42


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "no intact .npy file"),
        (b"\x93NUMPY", "no intact .npy file"),
        (b"\x93NUMPY\x09\x00" + b" " * 100, "no intact .npy file"),
        (b"\x93NUMPY\x01\x00\x10\x00not a dictionary", "no intact .npy file"),
        ("cut", r"16 bytes of content, expected 24 for the shape \[3, 2\]"),
        ("long", "25 bytes of content, expected 24"),
        (np.array([["a"]]), "no type of a tensor"),
        (np.zeros((2, 2), dtype=">f4"), "no type of a tensor"),
        (np.zeros((2, 2), dtype=np.longdouble), "no type of a tensor"),
        (np.asfortranarray(np.zeros((2, 2))), "columns one after the other"),
        (None, "does not exist"),
    ],
)
def test_damaged_files(tmp_path: Path, content: Any, text: str) -> None:
    path = tmp_path / "x.npy"
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save_features(path, torch.zeros(3, 2))
        whole = path.read_bytes()
        path.write_bytes(whole[:-8] if content == "cut" else whole + b" ")
    with pytest.raises(InputError, match=text):
        open_features(path)


def test_pickled_arrays_and_folders_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="no type of a tensor"):
        open_features(tmp_path / "x.npy")
    with pytest.raises(InputError, match="cannot be read"):
        open_features(tmp_path)
    save_features(tmp_path / "x.npy", torch.zeros(1))
    with pytest.raises(InputError, match=r"holds torch.float32, not torch.bfloat16"):
        open_features(tmp_path / "x.npy", dtype=torch.bfloat16)


def test_a_whole_folder(tmp_path: Path, town: MultiModalHeteroData, assert_same: Callable[..., None]) -> None:
    town.add_modality("a/b.c", x=torch.rand(2, 2).bfloat16())
    folder = tmp_path / "deep" / "town"
    town.to_disk(folder)
    assert len(list(folder.glob("*.npy"))) == 3
    out = MultiModalHeteroData.from_disk(folder)
    assert_same(out, town)
    assert out.validate
    out["user"].x[0] = 9.0  # a copy in memory
    assert_same(MultiModalHeteroData.from_disk(folder), town)
    out["user"].item_id[0] = "changed"
    out.to_disk(folder, keys=["x", "value"])  # over itself
    assert len(list(folder.glob("*.npy"))) == 4
    assert_same(MultiModalHeteroData.from_disk(folder), out)
    assert town["user"].item_id[0] == "a"


def test_sizes_zero_and_one_on_disk(tmp_path: Path, assert_same: Callable[..., None]) -> None:
    for size in (0, 1):
        data = MultiModalHeteroData().add_modality("a", x=torch.ones(size, 2)).add_hyperedges("r", {"a": [0] * size})
        data.to_disk(tmp_path)
        assert_same(MultiModalHeteroData.from_disk(tmp_path), data)
    MultiModalHeteroData().to_disk(tmp_path)
    assert MultiModalHeteroData.from_disk(tmp_path).node_types == []
    assert os.listdir(tmp_path) == ["data.pt"]


def test_a_damaged_folder(tmp_path: Path, town: MultiModalHeteroData) -> None:
    with pytest.raises(InputError, match=r"holds no 'data.pt': write the folder again"):
        MultiModalHeteroData.from_disk(tmp_path)
    town.to_disk(tmp_path)
    (file,) = tmp_path.glob("tag.x.*.npy")
    save_features(file, torch.ones(3, 2))
    with pytest.raises(InputError, match=r"holds the shape \[3, 2\], expected \[2, 2\]"):
        MultiModalHeteroData.from_disk(tmp_path)
    file.unlink()
    with pytest.raises(InputError, match=r"tag\.x\..*does not exist"):
        MultiModalHeteroData.from_disk(tmp_path)
    (tmp_path / "data.pt").write_bytes((tmp_path / "data.pt").read_bytes()[:100])
    with pytest.raises(InputError, match="is damaged"):
        MultiModalHeteroData.from_disk(tmp_path)
    torch.save({"format": 1, "data": 3, "files": []}, tmp_path / "data.pt")
    with pytest.raises(InputError, match="holds a int, not a MultiModalHeteroData"):
        MultiModalHeteroData.from_disk(tmp_path)


def test_a_failure_leaves_what_was_there(
    tmp_path: Path, town: MultiModalHeteroData, monkeypatch: pytest.MonkeyPatch, assert_same: Callable[..., None]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    town.to_disk(tmp_path / "town")
    before = sorted(os.listdir(tmp_path / "town"))
    with monkeypatch.context() as patch:
        patch.setattr(on_disk, "save_torch", full)
        with pytest.raises(OSError, match="No space left"):
            town.to_disk(tmp_path / "town")
        with pytest.raises(OSError, match="No space left"):
            town.to_disk(tmp_path / "new" / "town")
    assert sorted(os.listdir(tmp_path / "town")) == before
    assert_same(MultiModalHeteroData.from_disk(tmp_path / "town"), town)
    assert os.listdir(tmp_path) == ["town"]


def test_put_on_disk(tmp_path: Path, town: MultiModalHeteroData, assert_same: Callable[..., None]) -> None:
    before = copy.deepcopy(town)
    assert town.put_on_disk("user", tmp_path / "user.npy") is town
    assert town.put_on_disk("user", tmp_path / "user.npy") is town  # from the file into the file
    assert_same(town, before)
    assert town.validate()
    assert_same(town.subgraph({"user": [3, 1]}), before.subgraph({"user": [3, 1]}))
    assert_same(town.subgraph({"film": [1]}), before.subgraph({"film": [1]}))
    for name, key in (("user", "y"), ("film", "x"), ("usr", "x"), ("user", "item_id")):
        with pytest.raises(ValueError, match=f"no dense tensor '{key}' in '{name}'"):
            town.put_on_disk(name, tmp_path / "y.npy", key=key)
    assert town.node_types == before.node_types


def test_other_subsets_do_not_copy_the_features(tmp_path: Path, town: MultiModalHeteroData) -> None:
    town.put_on_disk("user", tmp_path / "user.npy")
    out = town.subgraph({"film": [0], "rates": [0]}, hyperedges="drop")
    assert out["user"].x.data_ptr() == town["user"].x.data_ptr()


def test_workers_share_the_file(tmp_path: Path) -> None:
    save_features(tmp_path / "x.npy", torch.arange(12.0).view(6, 2))
    x = open_features(tmp_path / "x.npy")
    batches = list(DataLoader(x, batch_size=4, num_workers=1, multiprocessing_context="fork"))  # type: ignore[arg-type]
    assert torch.equal(torch.cat(batches), x)


LARGE = """
import resource, sys
import numpy as np, torch
from hyperlearn_pyg.data import MultiModalHeteroData, open_features

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

path, rows, columns = sys.argv[1], 4_000_000, 512
with open(path, "wb") as file:  # 8 GB of zeros that take no room on the disk
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)})
    file.truncate(file.tell() + 4 * rows * columns)
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_DATA, (2**32, 2**32))
x = open_features(path)
data = MultiModalHeteroData()
data["film"].update({"x": x, "num_nodes": rows})
data.add_hyperedges("r", {"film": torch.arange(0, rows, 1000)})
layer = torch.nn.Linear(columns, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
before = peak()
for batch in torch.randint(rows, (20, 256)):
    loss = (layer(data["film"].x[batch]) - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
part = data.subgraph({"film": torch.arange(0, rows, 100_000)}, hyperedges="drop")
assert part["film"].x.shape == (40, columns) and len(part.relation("r")) == 40
print(peak() - before, loss.item())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory as Linux tells it")
@pytest.mark.parametrize("limit", ["none", "limit"])
def test_only_the_rows_asked_for_are_read(tmp_path: Path, limit: str) -> None:
    """Training on 8 GB of features takes tens of MB, also where data memory is limited to 4 GiB."""
    ignored = "ignore:`torch.jit:DeprecationWarning"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", ignored, "-c", LARGE, str(tmp_path / "x.npy"), limit],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    grown, loss = map(float, done.stdout.split())
    assert grown < 100  # MB; 5,120 rows of 2 KB, by pages of 4 KB
    assert loss < 1


def test_keys_and_folders_that_cannot_be_meant(tmp_path: Path, town: MultiModalHeteroData) -> None:
    with pytest.raises(ValueError, match=r"'keys' names 'xx', which no store has"):
        town.to_disk(tmp_path / "d", keys=("xx",))
    with pytest.raises(ValueError, match=r"write \['value'\]"):
        town.to_disk(tmp_path / "d", keys="value")
    assert not (tmp_path / "d").exists()
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"file' is a file: pass a folder"):
            town.to_disk(folder)
