from __future__ import annotations

import json
import math
import os
import runpy
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import torch.distributed as dist

from hyperlearn_pyg import _io
from hyperlearn_pyg.distributed import _checkpoint_files as disk
from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.distributed.checkpoint import CheckpointWriter, load, load_latest, new_directory, save
from hyperlearn_pyg.errors import InputError

saves = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("saves.py"))))
state, moments, same, latest_step = saves.state, saves.moments, saves.same, saves.latest_step
save_step, save_ranks = saves.save_step, saves.save_ranks


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk():
    with mock.patch("os.fsync"):
        yield


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_what_was_saved_comes_back_whatever_the_ranks(tmp_path, world_size):
    directory = save_ranks(tmp_path, 7, world_size)
    for found in (load(directory), load_latest(tmp_path)):
        assert found.step == 7
        assert found.directory == directory
        assert same(found.tensors, state(7))
        assert found.optimizer == moments(7)
        assert found.extra == {"step": 7}
    parts = [f"part-{rank:05d}-of-{world_size:05d}.pt" for rank in range(world_size)]
    assert sorted(os.listdir(directory)) == sorted([*parts, "COMMIT", "manifest.json"])
    manifest = json.loads((directory / "manifest.json").read_text())
    for part in parts:
        assert manifest["files"][part]["sha256"] == _io.sha256(directory / part)
        torch.load(directory / part, weights_only=True)


def test_only_names_asked_for(tmp_path):
    directory = save_ranks(tmp_path, 7, 3)
    name = "encoders.film.weight"
    (directory / "part-00000-of-00003.pt").write_bytes(b"")  # holds another name, so it is not opened
    found = load(directory, [name])
    assert list(found.tensors) == list(found.optimizer) == [name]
    assert load(directory, []).tensors == {}
    with pytest.raises(InputError, match=r"no tensor 'decoder.bia'. Did you mean 'decoder.bias'\?"):
        load(directory, ["decoder.bia"])
    with pytest.raises(InputError, match=r"part-00000-of-00003.pt' is damaged or of another save: 0 bytes"):
        load(directory)


def test_values_of_every_kind(tmp_path):
    base = torch.arange(1000.0)
    tensors = {
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "half": torch.randn(3).bfloat16(),
        "bool": torch.tensor([True, False]),
        "view": base[3:5],
        "stride": base[::500],
        "expanded": torch.zeros(1).expand(4),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "sparse": torch.eye(2).to_sparse_coo().coalesce(),
    }
    optimizer = {"p": {"state": {"step": 3, "none": None, "list": [torch.ones(1), 2.5]}, "options": {"name": "x"}}}
    extra = {"best": math.inf, "nan": math.nan, "list": [1, None, {"a": "ü"}], "float": 0.1 + 0.2}
    for kind in (True, False):
        with CheckpointWriter(tmp_path, asynchronous=kind) as writer:
            directory = writer.save(0, tensors, optimizer=optimizer, extra=extra)
        found = load(directory)
        for name, value in tensors.items():
            assert torch.equal(found.tensors[name].to_dense(), value.to_dense()), name
            assert found.tensors[name].dtype == value.dtype
        assert found.optimizer == optimizer
        assert math.isnan(found.extra.pop("nan"))
        assert found.extra == {key: value for key, value in extra.items() if key != "nan"}
        assert (directory / "part-00000-of-00001.pt").stat().st_size < 6000  # a view brings only its own numbers
    assert load(save(tmp_path, 1, {})).tensors == {}


def test_newest_is_the_one_saved_last(tmp_path):
    assert load_latest(tmp_path / "none") is None
    assert load_latest(tmp_path) is None
    (tmp_path / "other").mkdir()
    for step in (10, 20, 15):  # set back to 10 after 20
        save_step(tmp_path, step)
        assert latest_step(tmp_path) == step
    save_step(tmp_path, 15)
    assert len(disk.directories(tmp_path)) == 4


@pytest.mark.parametrize(("keep", "left"), [(1, [4]), (3, [4, 3, 2]), (9, [4, 3, 2, 1]), (None, [4, 3, 2, 1])])
def test_keep(tmp_path, keep, left):
    for step in (1, 2, 3, 4):
        save_step(tmp_path, step, keep=keep)
    assert [load(directory).step for directory in disk.directories(tmp_path)] == left


def test_keep_counts_intact_ones(tmp_path):
    directories = [save_step(tmp_path, step) for step in (1, 2, 3, 4)]
    (directories[2] / "COMMIT").unlink()
    (directories[3] / "part-00000-of-00001.pt").unlink()
    new_directory(tmp_path, 5)
    newest = save_step(tmp_path, 6, keep=2)
    assert not directories[0].exists()
    assert load(directories[1]).step == 2
    assert load(newest).step == 6


def test_committed_ones_and_pruning(tmp_path):
    first, second, third = (save_step(tmp_path, step) for step in (1, 2, 3))
    (second / "COMMIT").unlink()
    (third / "manifest.json").write_text("damaged")
    assert checkpoint.committed(tmp_path) == [third, first]
    checkpoint.prune(tmp_path, 1)
    assert disk.directories(tmp_path) == [third, second, first]  # the first is the newest that is whole
    checkpoint.prune(tmp_path, 0)
    assert disk.directories(tmp_path) == checkpoint.committed(tmp_path / "none") == []
    checkpoint.prune(tmp_path / "none", 0)
    with pytest.raises(ValueError, match="'keep' must be a whole number of at least 0, got -1"):
        checkpoint.prune(tmp_path, -1)


def test_a_directory_that_cannot_be_deleted_is_warned_of(tmp_path, monkeypatch):
    old = save_step(tmp_path, 1)
    monkeypatch.setattr(shutil, "rmtree", mock.Mock(side_effect=PermissionError(13, "denied", str(old))))
    with pytest.warns(UserWarning, match="old checkpoint not deleted.*denied"):
        save_step(tmp_path, 2, keep=1)
    assert latest_step(tmp_path) == 2
    with pytest.raises(InputError, match="no COMMIT"):
        load(old)


# Ranks


def test_a_rank_that_writes_nothing_is_named(tmp_path):
    save_step(tmp_path, 1)
    directory = new_directory(tmp_path, 2)
    for rank in (1, 3):
        save(tmp_path, 2, {}, rank=rank, world_size=4, directory=directory)
    with pytest.raises(TimeoutError, match=r"no part came from ranks \[2\]"):
        save(tmp_path, 2, {}, world_size=4, directory=directory, timeout=0.05)
    assert not directory.exists()
    with pytest.raises(FileNotFoundError, match="part-00002"):
        save(tmp_path, 2, {}, rank=2, world_size=4, directory=directory)
    assert latest_step(tmp_path) == 1


def test_a_rank_that_cannot_write_is_named_at_once(tmp_path, monkeypatch):
    directory = new_directory(tmp_path, 2)
    monkeypatch.setattr(disk, "save_torch", mock.Mock(side_effect=saves.full_disk()))
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2, {}, rank=1, world_size=2, directory=directory)
    monkeypatch.undo()
    with pytest.raises(OSError, match=r"could not be written.*No space.*part-00001-of-00002"):
        save(tmp_path, 2, {}, world_size=2, directory=directory)
    assert latest_step(tmp_path) == 0


def test_a_name_belongs_to_one_rank(tmp_path):
    directory = new_directory(tmp_path, 2)
    save(tmp_path, 2, {"shared": torch.ones(1)}, rank=1, world_size=2, directory=directory)
    with pytest.raises(ValueError, match=r"'shared' \(tensors\) is in part-00000-of-00002.pt and in part-00001-of"):
        save(tmp_path, 2, {"shared": torch.ones(1)}, world_size=2, directory=directory)


def test_extra_of_the_ranks_is_merged(tmp_path):
    for last, fails in ((3, False), (4, True)):
        directory = new_directory(tmp_path, 2)
        save(tmp_path, 2, {}, extra={"b": 2, "c": 3}, rank=1, world_size=2, directory=directory)
        options = {"extra": {"a": 1, "c": last}, "world_size": 2, "directory": directory}
        if fails:
            with pytest.raises(ValueError, match="'extra' has 'c': 4, but 3 in part-00001"):
                save(tmp_path, 2, {}, **options)
        else:
            assert load(save(tmp_path, 2, {}, **options)).extra == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": -1}, "'step' must be a whole number of at least 0, got -1"),
        ({"step": 1.5}, "'step'"),
        ({"world_size": 0}, "'world_size'"),
        ({"rank": 2, "world_size": 2}, "'rank' must be below 'world_size'"),
        ({"keep": 0}, "'keep' must be a whole number of at least 1, got 0"),
        ({"world_size": 2}, "'directory' is needed"),
        ({"directory": "elsewhere"}, "'directory' must be from new_directory"),
        ({"tensors": {"a": 1}}, "'tensors' must hold tensors, got 'a': 1"),
        ({"optimizer": {"a": {"state": {"f": len}}}}, r"'optimizer'\['a'\]\['state'\]\['f'\] must be a tensor"),
        ({"extra": {"a": [torch.ones(1)]}}, r"'extra'\['a'\]\[0\] must be a number"),
        ({"extra": {"a": {1: 2}}}, r"the keys of 'extra'\['a'\] must be texts, got 1"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        save(tmp_path, **({"step": 1, "tensors": {}} | options))
    assert not list(tmp_path.iterdir())


def save_twice(rank, world_size, folder, killed):
    """Save steps 1 and 2, each rank a name of its own; one is killed while it writes the second."""
    names = list(state(0))[:world_size]
    patience = 30.0 if killed is None else 3.0
    with CheckpointWriter(folder, rank=rank, world_size=world_size, timeout=patience) as writer:
        for step in (1, 2):
            directory = [new_directory(folder, step) if rank == 0 else None]
            dist.broadcast_object_list(directory)
            if (rank, step) == (killed, 2):
                disk.save_torch = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
            writer.save(step, {names[rank]: state(step)[names[rank]]}, directory=directory[0])


def test_ranks_of_processes(ranks, tmp_path):
    ranks.run(save_twice, 2, tmp_path, None)
    found = load_latest(tmp_path)
    assert found.step == 2
    assert same(found.tensors, state(2, list(state(0))[:2]))


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_killed_while_it_saves(ranks, tmp_path, killed):
    outcomes = ranks.outcomes(save_twice, 2, tmp_path, killed)
    assert outcomes[killed].status == -signal.SIGKILL  # the fault was hit
    if killed == 1:
        assert "TimeoutError" in outcomes[0].error
        assert "no part came from ranks [1]" in outcomes[0].error
        assert load_latest(tmp_path).step == 1
    else:
        with pytest.warns(UserWarning, match="save-00002-step-00000002' has no COMMIT: saving was cut short"):
            assert load_latest(tmp_path).step == 1


# In a thread


def test_later_changes_are_not_saved(tmp_path):
    tensors, go = state(1), threading.Event()
    write = disk.write_part
    with (
        mock.patch.object(disk, "write_part", lambda *args: go.wait(10) and write(*args)),
        CheckpointWriter(tmp_path) as writer,
    ):
        directory = writer.save(1, tensors, extra={"step": 1})
        for value in tensors.values():
            value.zero_()
        assert not (directory / "COMMIT").exists()
        go.set()
        writer.wait()
        assert latest_step(tmp_path) == 1


def test_faults_of_the_thread_are_raised_by_the_next_call(tmp_path, monkeypatch):
    writer = CheckpointWriter(tmp_path, keep=1)
    writer.save(1, state(1), extra={"step": 1})
    writer.wait()
    for call in (lambda: writer.save(3, {}), writer.wait):
        monkeypatch.setattr(disk, "save_torch", mock.Mock(side_effect=saves.full_disk()))
        writer.save(2, state(2))
        with pytest.raises(OSError, match="No space"):
            call()
        monkeypatch.undo()
        writer.wait()
        assert latest_step(tmp_path) == 1
    with writer:
        for step in (4, 5):
            writer.save(step, state(step), extra={"step": step})
    assert latest_step(tmp_path) == 5
    assert len(disk.directories(tmp_path)) == 1


def test_ranks_in_threads(tmp_path):
    writers = [CheckpointWriter(tmp_path, rank=rank, world_size=3, keep=1) for rank in range(3)]
    whole = list(state(0))
    for step in (1, 2):
        directory = new_directory(tmp_path, step)
        for writer, name in zip(writers, whole, strict=True):
            writer.save(step, {name: state(step)[name]}, extra={"step": step}, directory=directory)
        for writer in writers:
            writer.wait()
        assert latest_step(tmp_path) == step


def save_and_fail(writer, *args, **kwargs):
    with writer:
        writer.save(*args, **kwargs)
        raise ZeroDivisionError


def test_who_leaves_with_an_error_does_not_wait_long(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_GRACE", 0.05)
    writer, directory = CheckpointWriter(tmp_path, world_size=2), new_directory(tmp_path, 1)
    with (
        pytest.warns(UserWarning, match=r"the last checkpoint was not saved.*ranks \[1\]"),
        pytest.raises(ZeroDivisionError),
    ):
        save_and_fail(writer, 1, {}, directory=directory)


def test_who_leaves_with_an_error_still_saves(tmp_path):
    with pytest.raises(ZeroDivisionError):
        save_and_fail(CheckpointWriter(tmp_path), 1, state(1), extra={"step": 1})
    assert latest_step(tmp_path) == 1


def test_a_save_that_rank_0_gave_up_is_no_fault_of_another_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = checkpoint.new_directory(tmp_path / "saves", 1)
    writer = checkpoint.CheckpointWriter(tmp_path / "saves", rank=1, world_size=2)

    def taken_away(where: Path, *_: object) -> None:
        where.rmdir()
        (where / "part").write_text("")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_part", taken_away)
        assert writer.save(1, {"a": torch.ones(1)}, directory=directory) == directory
        writer.wait()
