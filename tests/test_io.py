from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hyperlearn_pyg._io import _Watched, atomic_path, new_folders, safe_extract_zip, save_torch, sha256
from hyperlearn_pyg.errors import InputError


def write_and_fail(path, fault):
    path.write_text("half")
    raise fault


def test_atomic_path_is_whole_or_absent(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "one"
    for fault in (ValueError, KeyboardInterrupt):
        with pytest.raises(fault), atomic_path(path) as temporary:
            write_and_fail(temporary, fault)
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_atomic_path_has_the_mode_of_a_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_atomic_path_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as error, atomic_path(tmp_path / "no" / "a"):
        pass
    assert error.value.filename == str(tmp_path / "no" / "a")
    with pytest.raises(OSError, match="full") as full, atomic_path(tmp_path / "a"):
        raise OSError(28, "full")
    assert full.value.filename == str(tmp_path / "a")
    with pytest.raises(OSError, match="gone") as other, atomic_path(tmp_path / "a"):
        raise OSError(2, "gone", "another file")
    assert other.value.filename == "another file"


def test_new_folders(tmp_path):
    (tmp_path / "there").mkdir()
    paths = [tmp_path / "there", tmp_path / "a" / "b", tmp_path / "a" / "c"]
    with pytest.raises(KeyboardInterrupt), new_folders(*paths):
        write_and_fail(tmp_path / "there" / "f", KeyboardInterrupt)
    (tmp_path / "there" / "f").unlink()
    assert os.listdir(tmp_path) == ["there"]
    with pytest.raises(ValueError, match="x"), new_folders(*paths):
        write_and_fail(tmp_path / "a" / "b" / "f", ValueError("x"))
    assert os.listdir(tmp_path / "a") == ["b"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), new_folders(tmp_path / "n", tmp_path / "file" / "m"):
        pass
    assert not (tmp_path / "n").exists()


def test_save_torch(tmp_path):
    value = {"a": torch.arange(5), "b": [1, "x"]}
    save_torch(value, tmp_path / "a.pt")
    loaded = torch.load(tmp_path / "a.pt", weights_only=True)
    assert torch.equal(loaded["a"], value["a"])
    assert loaded["b"] == value["b"]


class Full:
    def write(self, block):
        raise OSError(28, "No space left")


def test_save_torch_tells_the_fault_of_the_write(tmp_path, monkeypatch):
    def as_torch_does(value, file):
        file.flush()
        file.file = Full()
        try:
            file.write(b"1")
        except OSError:
            raise RuntimeError("unexpected pos") from None

    def otherwise(value, file):
        raise RuntimeError("other")

    monkeypatch.setattr(torch, "save", as_torch_does)
    with pytest.raises(OSError, match="No space left"):
        save_torch(1, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "save", otherwise)
    with pytest.raises(RuntimeError, match="other"):
        save_torch(1, tmp_path / "a.pt")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_sha256(tmp_path, size):
    (tmp_path / "f").write_bytes(b"x" * size)
    assert sha256(tmp_path / "f") == hashlib.sha256(b"x" * size).hexdigest()


def archive(path: Path, *names: str, mode: int = 0o644) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            zipped.writestr(member, "text")
    return path


def test_safe_extract(tmp_path):
    written = safe_extract_zip(archive(tmp_path / "a.zip", "d/", "d/one", "two"), tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == ["d/one", "two"]
    assert written[0].read_text() == "text"
    assert safe_extract_zip(archive(tmp_path / "b.zip"), tmp_path / "out") == []


@pytest.mark.parametrize(("name", "mode"), [("../x", 0o644), ("/x", 0o644), ("a/../../x", 0o644), ("x", 0o120777)])
def test_extract_refuses_what_leads_outside(tmp_path, name, mode):
    with pytest.raises(InputError, match="would be written outside"):
        safe_extract_zip(archive(tmp_path / "a.zip", "fine", name, mode=mode), tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("damage", [lambda b: b[:50], lambda b: b.replace(b"text", b"tent", 1), lambda b: b""])
def test_extract_refuses_damage(tmp_path, damage):
    path = archive(tmp_path / "a.zip", "one")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"a\.zip' is (damaged|no intact zip archive)"):
        safe_extract_zip(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.zip"]


def test_save_torch_writes_all_that_a_disk_takes_in_pieces(tmp_path, monkeypatch):
    """As Linux does with more than 2 GiB."""
    init = _Watched.__init__

    def short(self, file, digest=None):
        init(self, SimpleNamespace(write=lambda block: file.write(block[:100]), flush=file.flush), digest)

    monkeypatch.setattr(_Watched, "__init__", short)
    digest, value = hashlib.sha256(), torch.arange(1000)
    save_torch(value, tmp_path / "a.pt", digest)
    assert torch.equal(torch.load(tmp_path / "a.pt", weights_only=True), value)
    assert digest.hexdigest() == sha256(tmp_path / "a.pt")
