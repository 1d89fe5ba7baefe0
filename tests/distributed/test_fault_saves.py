"""Saving and loading with two ranks, while files are damaged, disks fill up and ranks die: never a mix of two steps."""

from __future__ import annotations

import json
import runpy
import shutil
import signal
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hyperlearn_pyg.distributed import _checkpoint_files as disk
from hyperlearn_pyg.distributed.checkpoint import load, load_latest

faults = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("faults.py"))))
fault, train, resume = faults.fault, faults.train, faults.resume
GRACE, SLACK = 1.0, 8.0


def newest(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_latest(folder)


def run(ranks: Any, folder: Path, *struck: dict[str, Any], **spec: Any) -> list[Any]:
    """Two ranks that train and save after every step into ``saves``; return their diaries, or the signal."""
    spec = {"folder": str(folder), "checkpoints": str(folder / "saves"), "save_every": 1, "steps": 3, **spec}
    spec |= {"faults": struck, "grace": GRACE}
    found = ranks.outcomes(train, 2, spec, init=False, limit=60.0, grace=60.0)
    assert len(faults.hits(folder)) == len(struck), [outcome.error for outcome in found]
    return [SimpleNamespace(**outcome.value) if outcome.value else outcome.status for outcome in found]


@pytest.fixture(scope="module")
def saved(ranks: Any, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Three saves of two ranks, and the whole state at each of them."""
    folder = tmp_path_factory.mktemp("saved")
    first, second = run(ranks, folder)
    states = {step + 1: {**first.states[step]["values"], **second.states[step]["values"]} for step in first.states}
    moments = {step + 1: [first.states[step]["moments"], second.states[step]["moments"]] for step in first.states}
    return SimpleNamespace(folder=folder / "saves", states=states, moments=moments)


def same(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def loads(ranks: Any, folder: Path, checkpoints: Path, saved: Any, step: int | None, world_size: int = 2) -> list[Any]:
    """Let all ranks load what is there; it must be the whole state of that step."""
    folder.mkdir(exist_ok=True)
    spec = {"folder": str(folder), "checkpoints": str(checkpoints)}
    found = ranks.run(resume, world_size, spec, init=False)
    for rank, entry in enumerate(found):
        if step is None:
            continue
        assert entry["loaded"] == {"step": step}
        values = entry["state"]["values"]
        same(values, {name: saved.states[step][name] for name in values})
        if world_size == 2:
            same(entry["state"]["moments"], saved.moments[step][rank])
    return found


# ---------------------------------------------------------------- damaged files


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "flipped bit": lambda new, old: flip(new / "part-00001-of-00002.pt"),
    "flipped bit of the manifest": lambda new, old: flip(new / "manifest.json"),
    "half a part": lambda new, old: (new / "part-00000-of-00002.pt").write_bytes(b"PK"),
    "a part is gone": lambda new, old: (new / "part-00001-of-00002.pt").unlink(),
    "a part of another step": lambda new, old: shutil.copy(old / "part-00001-of-00002.pt", new),
    "not committed": lambda new, old: (new / "COMMIT").unlink(),
}
NAMED = ["part-00001-of-00002.pt", "manifest.json", "part-00000-of-00002.pt", "part-00001-of-00002.pt"]
NAMED += ["part-00001-of-00002.pt", "COMMIT"]


@pytest.mark.parametrize(("kind", "name"), list(zip(DAMAGE, NAMED, strict=True)))
def test_the_last_whole_one_is_loaded_and_the_bad_file_named(
    ranks: Any, saved: Any, tmp_path: Path, kind: str, name: str
) -> None:
    copy = shutil.copytree(saved.folder, tmp_path / "saves")
    new, old = disk.directories(copy)[:2]
    DAMAGE[kind](new, old)
    first, second = loads(ranks, tmp_path / "run", copy, saved, 2)
    assert len(first["warned"]) == 1
    assert "checkpoint left out: " in first["warned"][0]
    assert new.name in first["warned"][0]
    assert name in first["warned"][0]
    assert second["warned"] == []


def test_undamaged(ranks: Any, saved: Any, tmp_path: Path) -> None:
    found = loads(ranks, tmp_path / "two", saved.folder, saved, 3)
    assert [entry["warned"] for entry in found] == [[], []]


def test_none_is_whole_is_told_to_all(ranks: Any, saved: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(saved.folder, tmp_path / "saves")
    for directory in disk.directories(copy):
        flip(directory / "manifest.json")
    before = [entry["state"] for entry in loads(ranks, tmp_path / "none", tmp_path / "empty", saved, None)]
    found = loads(ranks, tmp_path / "run", copy, saved, None)
    first, second = (entry["error"] for entry in found)
    assert first["type"] == "InputError"
    assert "no checkpoint is intact" in first["text"]
    assert second["type"] == "ParallelError"
    assert "rank 0, which holds modality 'a', raised InputError: no checkpoint is intact" in second["text"]
    same([entry["state"] for entry in found], before)  # nobody took anything of it


def unreadable_for_rank_1(rank: int, world_size: int, spec: dict[str, Any]) -> Any:
    """The file system of one rank loses the checkpoint after rank 0 has chosen it."""
    from unittest import mock

    module = runpy.run_path(str(Path(__file__).with_name("faults.py")))
    broken = mock.patch("hyperlearn_pyg.distributed.checkpoint.load", side_effect=OSError(5, "Input/output error"))
    if rank == 1:
        with broken:
            return module["resume"](rank, world_size, spec)
    return module["resume"](rank, world_size, spec)


def test_what_one_rank_cannot_read_nobody_takes(ranks: Any, saved: Any, tmp_path: Path) -> None:
    before = [entry["state"] for entry in loads(ranks, tmp_path / "none", tmp_path / "empty", saved, None)]
    spec = {"folder": str(tmp_path), "checkpoints": str(saved.folder)}
    found = ranks.run(unreadable_for_rank_1, 2, spec, init=False)
    first, second = (entry["error"] for entry in found)
    assert (first["type"], first["ranks"], first["modalities"]) == ("ParallelError", (1,), ("b",))
    assert "raised OSError: [Errno 5] Input/output error" in first["text"]
    assert (second["type"], second["text"]) == ("OSError", "[Errno 5] Input/output error")
    same([entry["state"] for entry in found], before)


# ---------------------------------------------------------------- saving goes wrong


@pytest.mark.parametrize("rank", [0, 1])
def test_full_disk_of_one_rank_is_told_to_all_and_on_it_goes(ranks: Any, saved: Any, tmp_path: Path, rank: int) -> None:
    found = run(ranks, tmp_path, fault("full", "part", rank, 1))
    own, other = found[rank].errors[1], found[1 - rank].errors[1]
    assert own["type"] == "OSError"
    assert "No space left on device" in own["text"]
    assert (other["type"], other["ranks"], other["modalities"]) == ("ParallelError", (rank,), ("ab"[rank],))
    name = f"rank {rank}, which holds modality '{'ab'[rank]}'"
    assert other["text"].startswith(f"the checkpoint of step 2 was not saved: {name}, raised OSError: [Errno 28] No sp")
    assert other["seconds"] < SLACK
    for diary in found:
        assert list(diary.errors) == [1]
        assert list(diary.losses) == [0, 2]
    steps = [(disk.numbers(path) or (0, 0))[1] for path in disk.directories(tmp_path / "saves")]
    assert steps == [3, 1]  # nothing is left of step 2, and the training took that step all the same
    for directory, step in zip(disk.directories(tmp_path / "saves"), steps, strict=True):
        same(load(directory).tensors, saved.states[step])


@pytest.mark.parametrize(
    ("where", "rank", "last"),
    [("part", 1, 1), ("written", 1, 1), ("part", 0, 1), ("commit", 0, 1), ("user", 1, 1)],
)
def test_killed_while_saving(ranks: Any, saved: Any, tmp_path: Path, where: str, rank: int, last: int) -> None:
    found = run(ranks, tmp_path, fault("kill", where, rank, 1))
    assert found[rank] == -signal.SIGKILL
    error = found[1 - rank].errors[1]
    assert error["type"] == "RankLostError"
    assert (error["ranks"], error["modalities"]) == ((rank,), ("ab"[rank],))
    assert error["seconds"] < GRACE + SLACK
    loaded = newest(tmp_path / "saves")
    assert loaded.step == last
    same(loaded.tensors, saved.states[last])


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", [False, True])
def test_full_disk_among_four(ranks: Any, tmp_path: Path, asynchronous: bool) -> None:
    spec = {"folder": str(tmp_path), "checkpoints": str(tmp_path / "saves"), "save_every": 1, "steps": 3}
    spec |= {"faults": [fault("full", "part", 2, 0)], "asynchronous": asynchronous}
    found = ranks.run(train, 4, spec, init=False)
    assert faults.hits(tmp_path)
    step = 1 if asynchronous else 0  # told by the next save
    for rank, diary in enumerate(found):
        error = diary["errors"][step]
        assert "No space left on device" in error["text"]
        assert error["type"] == ("OSError" if rank == 2 or (asynchronous and rank == 0) else "ParallelError")
        assert list(diary["errors"]) == [step]
    loaded = newest(tmp_path / "saves")
    assert loaded.step == 3
    assert set(json.loads((loaded.directory / "manifest.json").read_text())["files"]) == {
        f"part-{rank:05d}-of-00004.pt" for rank in range(4)
    }
