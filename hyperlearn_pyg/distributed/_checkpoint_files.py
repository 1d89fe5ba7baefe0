"""The folder of a checkpoint on disk: names, parts, manifest, COMMIT marker, checks, pruning."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from hyperlearn_pyg._io import atomic_path, save_torch, sha256
from hyperlearn_pyg.errors import InputError

FORMAT = 1
MANIFEST = "manifest.json"
COMMIT = "COMMIT"
#: Which save it was, counted over the folder, and the training step. The first is the order of age: a run that was
#: set back, or started anew in the same folder, saves smaller steps later.
_NAME = re.compile(r"save-(\d{5,})-step-(\d{8,})")


def directories(folder: Path) -> list[Path]:
    """Return the directories of checkpoints in a folder, committed or not, newest first."""
    if not folder.exists():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: numbers(path) or (0, 0), reverse=True)


def numbers(directory: Path) -> tuple[int, int] | None:
    """Return the number of the save and the step that the name of a directory tells; None where it tells none."""
    match = _NAME.fullmatch(directory.name)
    return None if match is None else (int(match[1]), int(match[2]))


def make_directory(folder: Path, step: int) -> Path:
    """Make the directory of the next save."""
    newest = next(iter(directories(folder)), None)
    save = 1 + ((numbers(newest) or (0, 0))[0] if newest else 0)
    directory = folder / f"save-{save:05d}-step-{step:08d}"
    directory.mkdir(parents=True)
    return directory


def part_name(rank: int, world_size: int) -> str:
    """Return the name of the file of a rank."""
    return f"part-{rank:05d}-of-{world_size:05d}.pt"


def write_part(directory: Path, content: Mapping[str, Any], extra: Mapping[str, Any], name: str) -> None:
    """Write the tensors of a rank, read them back, and leave a receipt for whoever commits.

    Raises:
        OSError: the file cannot be written or does not read back.
    """
    path, receipt = directory / name, (directory / name).with_suffix(".json")
    try:
        digest = hashlib.sha256()
        save_torch({"format": FORMAT, **content}, path, digest)
        _sync(path)
        if sha256(path) != digest.hexdigest():
            raise OSError(errno.EIO, "the file does not read back as it was written", str(path))
        entry = {"size": path.stat().st_size, "sha256": digest.hexdigest()}
        names = {key: sorted(content[key]) for key in ("tensors", "optimizer")}
        _write(receipt, json.dumps({"file": {**entry, **names}, "extra": extra}))
    except BaseException as error:
        with suppress(OSError):  # who commits need not wait until its time is out
            _write(receipt, json.dumps({"error": f"{type(error).__name__}: {error}"}))
        raise


def read_receipts(directory: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the receipts that are there, by the name of the part.

    Raises:
        OSError: a part could not be written.
    """
    receipts = {}
    for name in names:
        with suppress(FileNotFoundError):
            receipts[name] = json.loads((directory / name).with_suffix(".json").read_bytes())
            if "error" in receipts[name]:
                raise OSError(errno.EIO, f"the part could not be written ({receipts[name]['error']})", name)
    return receipts


def commit(directory: Path, step: int, receipts: Mapping[str, Mapping[str, Any]]) -> None:
    """Write manifest and COMMIT: from the rename of the latter on, and not before, the checkpoint exists.

    Raises:
        ValueError: two parts hold the same name, or different values of the same entry of ``extra``.
        InputError: a part does not have the size that its writer saw.
        OSError: a file cannot be written.
    """
    save = (numbers(directory) or (0, 0))[0]
    files = {name: receipt["file"] for name, receipt in receipts.items()}
    for key in ("tensors", "optimizer"):
        holders(files, key)
    manifest = {
        "format": FORMAT,
        "save": save,
        "step": step,
        "torch": str(torch.__version__),
        "files": files,
        "extra": _merge({name: receipt["extra"] for name, receipt in receipts.items()}),
    }
    check_files(directory, manifest, digests=False)
    for name in files:
        (directory / name).with_suffix(".json").unlink()
    text = json.dumps(manifest, indent=1)
    _write(directory / MANIFEST, text)
    _sync(directory)
    _sync(directory.parent)
    _write(directory / COMMIT, _seal(text.encode()))
    _sync(directory)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read and check COMMIT and manifest.

    Raises:
        InputError: the directory is not committed, or one of the two files is damaged or of another save.
    """
    try:
        seal, text = (directory / COMMIT).read_bytes(), (directory / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        name = Path(error.filename).name
        meaning = "saving was cut short or still goes on" if name == COMMIT else "the checkpoint is damaged"
        raise InputError(f"'{directory}' has no {name}: {meaning}") from None
    if seal != _seal(text).encode():
        raise InputError(f"'{directory}' is damaged: {COMMIT} does not hold the SHA-256 of {MANIFEST}")
    manifest: dict[str, Any] = json.loads(text)
    if manifest["format"] != FORMAT:
        raise InputError(
            f"'{directory}' has format {manifest['format']!r}, expected {FORMAT}: use the version of hyperlearn_pyg "
            "that wrote it"
        )
    told = numbers(directory)
    if told is not None and told != (manifest["save"], manifest["step"]):
        raise InputError(
            f"'{directory}' is mixed up: its {MANIFEST} is of save {manifest['save']} at step {manifest['step']}"
        )
    return manifest


def check_files(
    directory: Path, manifest: Mapping[str, Any], names: Iterable[str] | None = None, *, digests: bool = True
) -> None:
    """Compare files with the manifest: all or those named, sizes and (unless switched off) digests.

    Raises:
        InputError: a file is missing or differs; it is named.
    """
    for name in manifest["files"] if names is None else names:
        path, told = directory / name, manifest["files"][name]
        try:
            size = path.stat().st_size
            digest = sha256(path) if digests and size == told["size"] else told["sha256"]
        except OSError as error:
            raise InputError(f"'{path}' cannot be read: {error.strerror}") from error
        if size != told["size"]:
            raise InputError(f"'{path}' is damaged or of another save: {size} bytes, expected {told['size']}")
        if digest != told["sha256"]:
            raise InputError(f"'{path}' is damaged or of another save: SHA-256 {digest}, expected {told['sha256']}")


def holders(files: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, str]:
    """Return which part holds which name.

    Raises:
        ValueError: two parts hold the same.
    """
    found: dict[str, str] = {}
    for part, told in files.items():
        for name in told[key]:
            if name in found:
                raise ValueError(f"{name!r} ({key}) is in {found[name]} and in {part}: let one rank save it")
            found[name] = part
    return found


def prune(folder: Path, keep: int) -> None:
    """Delete what is older than the ``keep`` newest checkpoints whose files are all there; warn where that fails."""
    intact = 0
    for directory in directories(folder):
        if intact < keep:
            with suppress(InputError):
                check_files(directory, read_manifest(directory), digests=False)
                intact += 1
        else:
            remove(directory, lambda error: warnings.warn(f"old checkpoint not deleted: {error}", stacklevel=4))


def remove(directory: Path, report: Callable[[OSError], None] = lambda error: None) -> None:
    """Delete a checkpoint, COMMIT first: what is left when that is cut short counts for nothing.

    A rank that is still writing into it may add or take away a file meanwhile: then once more, for half a second.
    """
    end = time.monotonic() + 0.5
    while True:
        try:
            (directory / COMMIT).unlink(missing_ok=True)
            shutil.rmtree(directory)
            return
        except OSError as error:
            changed = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) and directory.exists()
            if not changed or time.monotonic() >= end:
                report(error)
                return
        time.sleep(0.01)


def _merge(extras: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part, extra in extras.items():
        for key, value in extra.items():
            if json.dumps(merged.setdefault(key, value)) != json.dumps(value):
                raise ValueError(f"'extra' has {key!r}: {merged[key]!r}, but {value!r} in {part}: agree on one value")
    return merged


def _seal(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest() + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no directories
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest intact checkpoint and its manifest."""
    faults = []
    committed = False
    for directory in directories(folder):
        try:
            manifest = read_manifest(directory)
            check_files(directory, manifest)
        except (InputError, OSError) as error:
            warnings.warn(f"checkpoint left out: {error}", stacklevel=4)
            faults.append(str(error))
            committed = committed or (directory / COMMIT).exists()
        else:
            return directory, manifest
    if committed:
        raise InputError("no checkpoint is intact, start anew in another folder: " + "; ".join(faults))
    return None


def vanishes(directory: Path) -> bool:
    """Tell whether another process is taking a directory away: it is gone, or will be within a second."""
    end = time.monotonic() + 1.0
    while directory.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return not directory.exists()
