from __future__ import annotations

import hashlib
import os
import secrets
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from hyperlearn_pyg.errors import InputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside ``path``: renamed to it on success, removed on any failure."""
    path = Path(path)
    temporary: Path | None = None
    try:
        temporary = _new_file(path)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if temporary is None or error.filename in (None, str(temporary)):
            error.filename = str(path)  # a write does not say to which file, and nobody knows the temporary one
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folders(*paths: str | os.PathLike[str]) -> Iterator[None]:
    """Make folders, with those above them; on any failure take away again those that are new and empty."""
    made = [folder for path in map(Path, paths) for folder in (path, *path.parents) if not folder.exists()]
    try:
        for path in paths:
            Path(path).mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


class _Watched:
    """A file that remembers the fault of a write, which torch turns into a RuntimeError about positions.

    Every block is written whole: the operating system takes at most 2 GiB in one call, and torch does not look at
    how much was taken.
    """

    def __init__(self, file: BinaryIO, digest: hashlib._Hash | None = None) -> None:
        self.file = file
        self.digest = digest
        self.fault: BaseException | None = None

    def write(self, block: bytes) -> int:
        left = memoryview(block)
        try:
            while len(left):
                left = left[self.file.write(left) :]
        except BaseException as error:
            self.fault = self.fault or error
            raise
        if self.digest is not None:
            self.digest.update(block)
        return len(block)

    def flush(self) -> None:
        self.file.flush()


def save_torch(value: Any, path: str | os.PathLike[str], digest: hashlib._Hash | None = None) -> None:
    """``torch.save``, whole or not at all; ``digest`` takes in the bytes on their way to the file.

    Raises:
        OSError: the file cannot be written, for instance because the disk is full.
    """
    with atomic_path(path) as temporary, open(temporary, "wb", buffering=0) as file:
        watched = _Watched(file, digest)
        try:
            torch.save(value, watched)  # type: ignore[arg-type]
        except RuntimeError:
            if watched.fault is not None:
                raise watched.fault from None
            raise


def load_torch(path: Path, version: int, keys: set[str], what: str, way_out: str) -> dict[str, Any]:
    """Read a dict that this package wrote with ``torch.save``; nothing but tensors and plain values is unpickled.

    Args:
        path: the file.
        version: its entry ``format`` must be this.
        keys: further entries that it must have.
        what: what the file is called in messages.
        way_out: what a reader of a message can do.

    Raises:
        InputError: the file is damaged, something else, or of another format.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(f"'{path}' is damaged ({type(error).__name__}): {way_out}") from error
    if not isinstance(state, dict) or not {"format", *keys} <= state.keys():
        raise InputError(f"'{path}' is no {what} of hyperlearn_pyg: {way_out}")
    if state["format"] != version:
        raise InputError(
            f"'{path}' has format {state['format']!r}, expected {version}: use the version of hyperlearn_pyg that "
            f"wrote it, or {way_out}"
        )
    return state


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 digest of a file in hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def safe_extract_zip(archive: str | os.PathLike[str], dest: str | os.PathLike[str]) -> list[Path]:
    """Extract a zip archive below ``dest``; return the files written.

    Raises:
        InputError: the archive is damaged, or a member is a link or would land outside ``dest``.
    """
    dest = Path(dest).resolve()
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            for member in members:
                target = (dest / member.filename).resolve()
                if not target.is_relative_to(dest) or stat.S_ISLNK(member.external_attr >> 16):
                    raise InputError(f"'{archive}': member {member.filename!r} would be written outside '{dest}'")
            damaged = zipped.testzip()
            if damaged is not None:
                raise InputError(f"'{archive}' is damaged at member {damaged!r}: delete it and download it again")
            return [Path(zipped.extract(member, dest)) for member in members if not member.is_dir()]
    except (zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"'{archive}' is no intact zip archive ({error}): delete it and download it again") from error


def _new_file(path: Path) -> Path:
    """Make an empty file beside another, hidden; its mode is that of any new file."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}{path.suffix}")
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return new
