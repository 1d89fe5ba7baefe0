from __future__ import annotations

import json
import math
import os
import shutil
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg import _io
from hyperlearn_pyg.distributed import _checkpoint_files as disk
from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.distributed.checkpoint import CheckpointWriter, load, load_latest, new_directory, save
from hyperlearn_pyg.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk():
    with mock.patch("os.fsync"):
        yield


def state(step, names=("encoders.user.weight", "encoders.film.weight", "decoder.bias")):
    return {name: torch.full((3, 2), float(step * 10 + i)) for i, name in enumerate(names)}


def moments(step, names=("encoders.user.weight", "encoders.film.weight")):
    return {
        name: {"state": {"step": torch.tensor(float(step))}, "options": {"lr": 0.1, "betas": (0.9, 0.99)}}
        for name in names
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def latest_step(folder):
    """The step of the newest checkpoint, all of whose values must be of it; 0 where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_latest(folder)
    if found is None:
        return 0
    assert same(found.tensors, state(found.step))
    assert found.extra == {"step": found.step}
    return found.step


def save_step(folder, step, **options):
    return save(folder, step, state(step), optimizer=moments(step), extra={"step": step}, **options)


def save_ranks(folder, step, world_size, **options):
    """Save the state over several ranks, one after the other; rank 0 comes last."""
    directory = new_directory(folder, step)
    whole, optimizer = state(step), moments(step)
    for rank in reversed(range(world_size)):
        tensors = {name: value for i, (name, value) in enumerate(whole.items()) if i % world_size == rank}
        mine = {name: value for name, value in optimizer.items() if name in tensors}
        extra = {"step": step} if rank else {}
        save(
            folder,
            step,
            tensors,
            optimizer=mine,
            extra=extra or {"step": step},
            rank=rank,
            world_size=world_size,
            directory=directory,
            **options,
        )
    return directory


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


def test_a_directory_that_cannot_be_deleted_is_warned_of(tmp_path, monkeypatch):
    old = save_step(tmp_path, 1)
    monkeypatch.setattr(shutil, "rmtree", mock.Mock(side_effect=PermissionError(13, "denied", str(old))))
    with pytest.warns(UserWarning, match="old checkpoint not deleted.*denied"):
        save_step(tmp_path, 2, keep=1)
    assert latest_step(tmp_path) == 2
    with pytest.raises(InputError, match="no COMMIT"):
        load(old)


# What can happen to files


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with steps 1 and 2 of two ranks each."""
    folder = tmp_path_factory.mktemp("two")
    return folder, save_ranks(folder, 1, 2), save_ranks(folder, 2, 2)


@contextmanager
def replaced(path, content):
    before = path.read_bytes()
    try:
        path.unlink() if content is None else path.write_bytes(content)
        yield
    finally:
        path.write_bytes(before)


def files(directory):
    return sorted(directory.iterdir())


def assert_left_out(folder, directory, name):
    with pytest.warns(UserWarning, match=f"checkpoint left out: .*{directory.name}") as caught:
        assert load_latest(folder).step == 1
    assert len(caught) == 1
    assert name in str(caught[0].message)
    with pytest.raises(InputError, match=directory.name):
        load(directory)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_flipped_bit_is_found(two, data):
    folder, _, directory = two
    path = data.draw(st.sampled_from(files(directory)))
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    with replaced(path, bytes(content)):
        assert_left_out(folder, directory, path.name)


@pytest.mark.parametrize("name", ["COMMIT", "manifest.json"])
def test_flipped_bits_of_the_small_files_are_found(two, name):
    path = two[2] / name
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 1 if name == "COMMIT" else 7):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(InputError):
            disk.read_manifest(two[2])
    path.write_bytes(whole)
    assert load_latest(two[0]).step == 2


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_every_truncation_is_found(two, data):
    folder, _, directory = two
    path = data.draw(st.sampled_from(files(directory)))
    content = path.read_bytes()
    with replaced(path, content[: data.draw(st.integers(0, len(content) - 1))]):
        assert_left_out(folder, directory, path.name)
    with replaced(path, None):
        assert_left_out(folder, directory, path.name)
    with replaced(path, content + b"\0"):
        assert_left_out(folder, directory, path.name)


@pytest.mark.parametrize("chosen", range(1, 16))
def test_files_of_two_steps_are_never_mixed(two, chosen):
    folder, old, new = two
    taken = [path for i, path in enumerate(files(old)) if chosen >> i & 1]
    before = {path.name: (new / path.name).read_bytes() for path in taken}
    for path in taken:
        shutil.copyfile(path, new / path.name)
    assert_left_out(folder, new, "")
    for name, content in before.items():
        (new / name).write_bytes(content)
    assert latest_step(folder) == 2


def test_all_are_damaged(tmp_path):
    first, second = save_step(tmp_path, 1), save_step(tmp_path, 2)
    (first / "manifest.json").unlink()
    (second / "part-00000-of-00001.pt").unlink()
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError, match=r"no checkpoint is intact.*part"):
        load_latest(tmp_path)
    for directory in (first, second):
        (directory / "COMMIT").unlink()
    with pytest.warns(UserWarning, match="no COMMIT"):
        assert load_latest(tmp_path) is None  # none was ever committed: a first start


def test_another_format(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "FORMAT", 99)
    directory = save_step(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(InputError, match="format 99, expected 1"):
        load(directory)


def test_a_renamed_copy_loads(tmp_path):
    directory = save_step(tmp_path, 3)
    assert load(shutil.copytree(directory, tmp_path / "best")).step == 3
    assert [path.name for path in disk.directories(tmp_path)] == ["save-00001-step-00000003"]


# Saving is cut short

#: Every call that changes the disk.
POINTS = ["os.fsync", "os.open", "pathlib.Path.replace", "pathlib.Path.mkdir", "pathlib.Path.unlink", "shutil.rmtree"]


@contextmanager
def watched(action):
    """Call ``action(number of the call)`` before every call that changes the disk."""
    count = iter(range(10**6))

    def before(real):
        def call(*args, **kwargs):
            action(next(count))
            return real(*args, **kwargs)

        return call

    init, real_write = _io._Watched.__init__, before(lambda file, block: file.write(block))

    def short(self, file, digest=None):  # a disk that takes a block in pieces
        half = SimpleNamespace(write=lambda block: real_write(file, block[:200]), flush=file.flush)
        init(self, half, digest)

    real = {"os.fsync": os.fsync, "os.open": os.open, "shutil.rmtree": shutil.rmtree}
    real |= {f"pathlib.Path.{name}": getattr(Path, name) for name in ("replace", "mkdir", "unlink")}
    patches = [mock.patch(point, before(real[point])) for point in POINTS]
    patches.append(mock.patch.object(_io._Watched, "__init__", short))
    with patches[0], patches[1], patches[2], patches[3], patches[4], patches[5], patches[6]:
        yield count


class Killed(BaseException):
    pass


def count_points(folder):
    save_step(folder, 1)
    with watched(lambda number: None) as count:
        save_step(folder, 2, keep=1)
    return next(count)


def full_disk():
    return OSError(28, "No space left on device")


@pytest.mark.parametrize("fault", [full_disk, Killed])
def test_a_fault_at_every_point(tmp_path, fault):
    points = count_points(tmp_path / "count")
    assert 20 < points < 100
    template = tmp_path / "template"
    save_step(template, 1)
    for point in range(points):
        folder = shutil.copytree(template, tmp_path / str(point))

        def fail(number, point=point):
            if number == point:
                raise fault()

        failed = False
        with watched(fail) as count, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                save_step(folder, 2, keep=1)
            except type(fault()):
                failed = True
        assert next(count) > point  # the fault was hit
        assert failed or caught or point == points - 1
        steps = [latest_step(folder)]
        assert steps[0] in (1, 2) if failed else steps[0] == 2
        if point % 7 == 0:
            save_step(folder, 3, keep=1)
            assert latest_step(folder) == 3
            assert len(disk.directories(folder)) == 1


def test_killed_at_every_point(tmp_path):
    """No clean-up runs: the disk as it stands before each change."""
    folder, images = tmp_path / "run", tmp_path / "images"
    images.mkdir()
    save_step(folder, 1)
    copy = []

    def image(number):
        if not copy:  # copying changes the disk too
            copy.append(1)
            shutil.copytree(folder, images / f"{number:03d}")
            copy.clear()

    with watched(image):
        save_step(folder, 2, keep=1)
    found = [latest_step(path) for path in sorted(images.iterdir())]
    assert len(found) > 20
    assert found == sorted(found)
    assert set(found) == {1, 2}


def test_full_disk_frees_what_it_took(tmp_path):
    init = _io._Watched.__init__

    def full(self, file, digest=None):
        init(self, mock.Mock(write=mock.Mock(side_effect=full_disk())), digest)

    save_step(tmp_path, 1)
    with (
        mock.patch.object(_io._Watched, "__init__", full),
        pytest.raises(OSError, match=r"No space left.*part-00000-of-00001.pt"),
    ):
        save_step(tmp_path, 2)
    assert len(disk.directories(tmp_path)) == 1
    assert latest_step(tmp_path) == 1


def test_what_does_not_read_back_is_not_committed(tmp_path, monkeypatch):
    save_step(tmp_path, 1)
    monkeypatch.setattr(disk, "sha256", lambda path: "0" * 64)
    with pytest.raises(OSError, match="does not read back") as error:
        save_step(tmp_path, 2, keep=1)
    assert error.value.filename.endswith("part-00000-of-00001.pt")
    monkeypatch.undo()
    assert latest_step(tmp_path) == 1


def test_a_part_that_shrinks_before_the_commit(tmp_path):
    directory = new_directory(tmp_path, 1)
    save(tmp_path, 1, {"a": torch.ones(1)}, rank=1, world_size=2, directory=directory)
    (directory / "part-00001-of-00002.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"part-00001-of-00002\.pt"):
        save(tmp_path, 1, {"b": torch.ones(1)}, world_size=2, directory=directory)
    assert latest_step(tmp_path) == 0


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
    monkeypatch.setattr(disk, "save_torch", mock.Mock(side_effect=full_disk()))
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
        monkeypatch.setattr(disk, "save_torch", mock.Mock(side_effect=full_disk()))
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
