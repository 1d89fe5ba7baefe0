from __future__ import annotations

import errno
import os
import runpy
import shutil
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
from hyperlearn_pyg.distributed.checkpoint import load, load_latest, new_directory, save
from hyperlearn_pyg.errors import InputError

saves = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("saves.py"))))
latest_step, save_step, save_ranks = saves.latest_step, saves.save_step, saves.save_ranks


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk():
    with mock.patch("os.fsync"):
        yield


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


@pytest.mark.parametrize("fault", [saves.full_disk, Killed])
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
        init(self, mock.Mock(write=mock.Mock(side_effect=saves.full_disk())), digest)

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


def test_a_file_that_comes_while_a_checkpoint_is_deleted_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "save", disk.shutil.rmtree
    folder.mkdir()
    (folder / "part").touch()
    calls: list[Path] = []

    def slow(path: Path) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise OSError(errno.ENOTEMPTY, "a rank wrote its receipt meanwhile")
        if len(calls) == 2:
            raise FileNotFoundError(errno.ENOENT, "a rank renamed its part meanwhile")
        real(path)

    monkeypatch.setattr(disk.shutil, "rmtree", slow)
    errors: list[OSError] = []
    disk.remove(folder, errors.append)
    assert not folder.exists()
    assert len(calls) == 3
    disk.remove(folder, errors.append)  # it is not there
    assert [error.errno for error in errors] == [errno.ENOENT]
    folder.mkdir()
    monkeypatch.setattr(disk.shutil, "rmtree", lambda path: (_ for _ in ()).throw(OSError(errno.ENOTEMPTY, "again")))
    disk.remove(folder, errors.append)
    assert [error.errno for error in errors] == [errno.ENOENT, errno.ENOTEMPTY]
