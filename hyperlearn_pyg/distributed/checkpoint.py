"""Checkpoints that are whole or not there: written by one process or by many ranks, read under any placement.

Every save makes a directory of its own, such as ``save-00003-step-00000042`` (third save of the folder, step 42):

========================== ===========================================================================
``part-00000-of-00002.pt``  tensors and optimizer state of rank 0, by name; a weights-only load reads it
``part-00001-of-00002.pt``  those of rank 1
``manifest.json``           step, extra values, and for each part its size, SHA-256 and names
``COMMIT``                  SHA-256 of the manifest; renamed to this name after all else is on the disk
========================== ===========================================================================

A directory without ``COMMIT`` counts for nothing. The newest is the one saved last, whatever its step.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor
from typing_extensions import Self

from hyperlearn_pyg._io import load_torch
from hyperlearn_pyg.distributed import _checkpoint_files as disk
from hyperlearn_pyg.distributed._plain import check_json, check_tensors, to_plain
from hyperlearn_pyg.errors import InputError, did_you_mean

__all__ = [
    "Checkpoint",
    "CheckpointWriter",
    "committed",
    "load",
    "load_latest",
    "names",
    "new_directory",
    "newest",
    "prune",
    "save",
]

#: Seconds that the parts of other ranks are waited for, at most, when this rank ends.
_GRACE = 5.0


@dataclass(frozen=True)
class Checkpoint:
    """What was read of a checkpoint, on the CPU.

    Attributes:
        directory: where it lies.
        step: the training step at which it was saved.
        tensors: parameters and buffers by their plain names, of all ranks or as many as were asked for.
        optimizer: optimizer state by the name of the parameter, of the same names, where it was saved.
        extra: the further values of all ranks.
    """

    directory: Path
    step: int
    tensors: dict[str, Tensor] = field(repr=False)
    optimizer: dict[str, dict[str, Any]] = field(repr=False)
    extra: dict[str, Any] = field(repr=False)


def new_directory(folder: str | os.PathLike[str], step: int) -> Path:
    """Make the directory of a save by several ranks: one rank calls this and tells the others the name.

    Args:
        folder: the folder of all checkpoints of a run; made where it is missing.
        step: the training step, at least 0.
    """
    return disk.make_directory(Path(folder), _whole("step", step, 0))


def save(
    folder: str | os.PathLike[str],
    step: int,
    tensors: Mapping[str, Tensor],
    *,
    optimizer: Mapping[str, Mapping[str, Any]] | None = None,
    extra: Mapping[str, Any] | None = None,
    rank: int = 0,
    world_size: int = 1,
    directory: str | os.PathLike[str] | None = None,
    keep: int | None = None,
    timeout: float = 600.0,
) -> Path:
    """Save a checkpoint; until it is whole and on the disk, the one before it is the newest.

    With several ranks each calls this with its own tensors, on a file system that all of them see. Rank 0 waits for
    the parts of the others, by their files alone, and commits; the others return when their part is written. A name
    belongs to one rank: of what all ranks share, let one save it. ``extra`` may come from any rank.

    Args:
        folder: the folder of all checkpoints of a run; made where it is missing.
        step: the training step, at least 0.
        tensors: by plain parameter and buffer names, as ``module.state_dict()`` gives them.
        optimizer: by parameter name, from :func:`~hyperlearn_pyg.distributed.optimizers.optimizer_state`.
        extra: anything that JSON holds, with texts as keys.
        rank: which part this is.
        world_size: number of parts.
        directory: from :func:`new_directory`, the same on all ranks; needed where ``world_size`` is above 1.
        keep: after the commit, delete what is older than this many checkpoints; None deletes nothing.
        timeout: seconds that rank 0 waits for the parts of the others.

    Returns:
        The directory of the checkpoint.

    Raises:
        ValueError: an argument is out of range, or two ranks save the same name.
        OSError: a file cannot be written or does not read back, on this rank or (rank 0) on another.
        TimeoutError: a rank wrote no part in time; the message names it.
    """
    writer = CheckpointWriter(folder, rank=rank, world_size=world_size, keep=keep, timeout=timeout, asynchronous=False)
    return writer.save(step, tensors, optimizer=optimizer, extra=extra, directory=directory)


class CheckpointWriter:
    """Saves checkpoints one after the other, by default in a thread while the training goes on.

    :meth:`save` copies the values to the CPU and returns. What goes wrong later is raised by the next call of
    :meth:`save` or :meth:`wait`; leaving the ``with`` block waits too. As in :func:`save`, several ranks have a
    writer each. The process does not end before its part is written; rank 0 then waits a few seconds for the others.

    Args:
        folder: see :func:`save`.
        rank: see :func:`save`.
        world_size: see :func:`save`.
        keep: see :func:`save`.
        timeout: see :func:`save`.
        asynchronous: write in a thread; else :meth:`save` returns when all is written.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        rank: int = 0,
        world_size: int = 1,
        keep: int | None = None,
        timeout: float = 600.0,
        asynchronous: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.world_size = _whole("world_size", world_size, 1)
        self.rank = _whole("rank", rank, 0)
        self.keep = None if keep is None else _whole("keep", keep, 1)
        self.timeout, self.asynchronous, self._seen = timeout, asynchronous, False
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None
        self._given_up = threading.Event()
        #: Around what one rank alone may fail in; ranks that can talk let it succeed on all of them or on none.
        self.together: Callable[[], AbstractContextManager[None]] = nullcontext
        if rank >= world_size:
            raise ValueError(f"'rank' must be below 'world_size' (got {rank} and {world_size})")

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        *,
        optimizer: Mapping[str, Mapping[str, Any]] | None = None,
        extra: Mapping[str, Any] | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> Path:
        """Save a checkpoint, as :func:`save` does, after the one before is written.

        Returns:
            Its directory; nothing is in it for sure before :meth:`wait`.

        Raises:
            ValueError, OSError, TimeoutError: as :func:`save`; in a thread, of the save before (then this one is not
                begun).
        """
        with self.together():
            self.wait()
            extra = dict(extra or {})
            check_json(extra, "'extra'")
            content = {
                "tensors": to_plain(check_tensors(tensors), "'tensors'", copy=self.asynchronous),
                "optimizer": to_plain(optimizer or {}, "'optimizer'", copy=self.asynchronous),
            }
            directory = self._directory(step, directory)
        if not self.asynchronous:
            self._write(directory, step, content, extra)
            return directory
        self._thread = threading.Thread(
            target=self._keep_fault, args=(directory, step, content, extra), name=f"save of {directory.name}"
        )
        self._thread.start()
        return directory

    def wait(self) -> None:
        """Wait until the last save is written.

        Raises:
            ValueError, OSError, TimeoutError: as :func:`save`, once.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return self.wait()
        self._given_up.set()  # other ranks may have gone too
        try:
            self.wait()
        except Exception as fault:
            warnings.warn(f"the last checkpoint was not saved: {fault}", stacklevel=2)
        return None

    def _directory(self, step: int, directory: str | os.PathLike[str] | None) -> Path:
        _whole("step", step, 0)
        if directory is None:
            if self.world_size > 1:
                raise ValueError("'directory' is needed where several ranks save: call new_directory on one of them")
            return disk.make_directory(self.folder, step)
        directory = Path(directory)
        if (disk.numbers(directory) or (0, None))[1] != step or directory.parent != self.folder:
            raise ValueError(
                f"'directory' must be from new_directory for folder '{self.folder}' and step {step}, got '{directory}'"
            )
        self._seen = self.folder.is_dir()  # else the ranks do not see one file system
        return directory

    def _keep_fault(self, *arguments: Any) -> None:
        try:
            self._write(*arguments)
        except BaseException as fault:
            if not threading.main_thread().is_alive():  # nobody will ask any more: let it be printed
                raise
            self._fault = fault

    def _write(self, directory: Path, step: int, content: dict[str, Any], extra: dict[str, Any]) -> None:
        together = nullcontext if self.asynchronous else self.together  # a thread must send no messages
        try:
            with together():
                disk.write_part(directory, content, extra, disk.part_name(self.rank, self.world_size))
            with together():
                if self.rank == 0:
                    names = [disk.part_name(rank, self.world_size) for rank in range(self.world_size)]
                    disk.commit(directory, step, self._receipts(directory, names))
        except BaseException as fault:
            late = isinstance(fault, FileNotFoundError) and self.asynchronous and self.rank
            if late and self._seen and disk.vanishes(directory):
                return  # it was there: rank 0 has given this save up, and says why
            if self.rank == 0 and not (directory / disk.COMMIT).exists():
                disk.remove(directory)
            raise
        if self.rank == 0 and self.keep is not None:
            disk.prune(self.folder, self.keep)

    def _receipts(self, directory: Path, names: list[str]) -> dict[str, dict[str, Any]]:
        end, ends = time.monotonic() + self.timeout, False
        while len(receipts := disk.read_receipts(directory, names)) < len(names):
            if not ends and (self._given_up.is_set() or not threading.main_thread().is_alive()):
                end, ends = min(end, time.monotonic() + _GRACE), True
            if time.monotonic() >= end:
                missing = [rank for rank, name in enumerate(names) if name not in receipts]
                raise TimeoutError(f"'{directory}' is not committed: no part came from ranks {missing}")
            time.sleep(0.02)
        return receipts


def load(
    directory: str | os.PathLike[str], names: Iterable[str] | None = None, *, optimizer_of: Iterable[str] | None = None
) -> Checkpoint:
    """Read one checkpoint, whoever wrote it, after checking the files that are read.

    Args:
        directory: of the checkpoint.
        names: the tensors to read; None reads all. Only the parts that hold them are opened.
        optimizer_of: the names whose optimizer state is read, as far as it was saved; ``names`` where absent.

    Raises:
        InputError: it is not committed, a file is damaged, missing or of another save (the file is named), or it holds
            no tensor of such a name.
    """
    directory = Path(directory)
    manifest = disk.read_manifest(directory)
    return _read(directory, manifest, names, lambda parts: disk.check_files(directory, manifest, parts), optimizer_of)


def load_latest(folder: str | os.PathLike[str], names: Iterable[str] | None = None) -> Checkpoint | None:
    """Read the newest checkpoint of a folder that is committed and undamaged in all its files.

    Warns of every newer one that is not, with the file and the reason. Never reads files of two.

    Args:
        folder: of the checkpoints of a run.
        names: as in :func:`load`.

    Returns:
        The checkpoint; None where none was ever committed, so that a first start and a restart are one call.

    Raises:
        InputError: there are committed checkpoints, but none is intact; or it holds no tensor of such a name.
    """
    found = disk.newest(Path(folder))
    return None if found is None else _read(*found, names)


def newest(folder: str | os.PathLike[str]) -> Path | None:
    """Return the directory of the newest checkpoint that is committed and undamaged; None where there is none.

    Warns of every newer one that is not, with the file and the reason.

    Args:
        folder: of the checkpoints of a run.

    Raises:
        InputError: there are committed checkpoints, but none is intact.
    """
    found = disk.newest(Path(folder))
    return None if found is None else found[0]


def names(directory: str | os.PathLike[str]) -> list[str]:
    """Return the names of the tensors in a checkpoint.

    Raises:
        InputError: it is not committed, or its manifest is damaged.
    """
    return list(disk.holders(disk.read_manifest(Path(directory))["files"], "tensors"))


def committed(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the directories of the committed checkpoints of a folder, newest first; damaged ones among them."""
    return [directory for directory in disk.directories(Path(folder)) if (directory / disk.COMMIT).exists()]


def prune(folder: str | os.PathLike[str], keep: int) -> None:
    """Delete what is older than the newest checkpoints whose files are all there; warn of what cannot be deleted.

    Args:
        folder: of the checkpoints of a run; nobody may be saving in it.
        keep: how many checkpoints stay; with 0 none does.

    Raises:
        ValueError: ``keep`` is no whole number of at least 0.
    """
    disk.prune(Path(folder), _whole("keep", keep, 0))


def _read(
    directory: Path,
    manifest: Mapping[str, Any],
    names: Iterable[str] | None,
    check: Callable[[Iterable[str]], None] = lambda parts: None,
    optimizer_of: Iterable[str] | None = None,
) -> Checkpoint:
    where = disk.holders(manifest["files"], "tensors")
    asked = list(where) if names is None else list(dict.fromkeys(names))
    for name in asked:
        if name not in where:
            raise InputError(f"'{directory}' holds no tensor {name!r}.{did_you_mean(name, where)}")
    wanted = set(asked)
    state_where = disk.holders(manifest["files"], "optimizer")
    every = state_where if names is None else wanted
    chosen = set(every if optimizer_of is None else optimizer_of) & set(state_where)
    parts = {where[name] for name in wanted} | {state_where[name] for name in chosen}
    parts = set(manifest["files"]) if names is None else parts
    check(sorted(parts))
    tensors: dict[str, Tensor] = {}
    optimizer: dict[str, dict[str, Any]] = {}
    for part in sorted(parts):
        keys = {"tensors", "optimizer"}
        state = load_torch(directory / part, disk.FORMAT, keys, "checkpoint", "use an older checkpoint")
        tensors.update({name: value for name, value in state["tensors"].items() if name in wanted})
        optimizer.update({name: value for name, value in state["optimizer"].items() if name in chosen})
        del state
    return Checkpoint(
        directory, manifest["step"], {name: tensors[name] for name in asked}, optimizer, manifest["extra"]
    )


def _whole(name: str, value: int, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name!r} must be a whole number of at least {least}, got {value!r}")
    return value
