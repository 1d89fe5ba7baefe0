"""Ranks that stay alive between measurements, each a process of its own."""

from __future__ import annotations

import ctypes
import datetime
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist
from typing_extensions import Self

#: What the server imports once, before it forks ranks from itself. (It finds no modules beside a script.)
PRELOAD = ["hyperlearn_pyg.cli.plan", "hyperlearn_pyg.cli.source", "torch.distributed"]
#: Seconds that an answer may take.
LIMIT = 300.0


class World:
    """Some ranks, each with an object that answers calls.

    Processes are forked from a server that runs no model itself: autograd does not survive a fork.

    Args:
        size: number of ranks; one rank alone has no process group.
        make: ``make(rank, size, *arguments)`` gives the object of a rank; at the top of a module.
        arguments: the same for all ranks.
    """

    def __init__(self, size: int, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._folder = tempfile.TemporaryDirectory()
        store = os.path.join(self._folder.name, "store")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for rank in range(size):
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, rank, size, store, make, arguments), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)
        self._made = False

    def ready(self) -> Self:
        """Wait until every rank has made its object.

        Raises:
            RuntimeError: some rank raised, died, or gave no answer in time.
        """
        if not self._made:
            try:
                self._answers()
            except BaseException:
                self.close()
                raise
            self._made = True
        return self

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method on all ranks at once; return what each gave.

        Raises:
            RuntimeError: some rank raised, died, or gave no answer in time.
        """
        self.ready()
        for pipe in self._pipes:
            pipe.send((method, arguments))
        return self._answers()

    def in_turn(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method on one rank after the other, while the rest sleeps; return what each gave. See :meth:`ask`."""
        self.ready()
        out = []
        for rank, pipe in enumerate(self._pipes):
            pipe.send((method, arguments))
            out += self._answers([rank])
        return out

    def _answers(self, ranks: Sequence[int] | None = None) -> list[Any]:
        out, errors = [], []
        for rank in range(len(self._pipes)) if ranks is None else ranks:
            pipe = self._pipes[rank]
            try:
                good, value = pipe.recv() if pipe.poll(LIMIT) else (False, "no answer in time")
            except EOFError:
                good, value = False, "died"
            out.append(value)
            if not good:
                errors.append(f"rank {rank} of {len(self._pipes)}: {value}")
        if errors:
            raise RuntimeError("\n".join(errors))
        return out

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def keep_memory() -> None:
    """Let the allocator of this process keep what is freed: pages that fault anew make times that vary with the load.

    This is the setting "tuned" of ``harness.ALLOCATORS``, for a process that runs already.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def _serve(
    pipe: Connection, rank: int, size: int, store: str, make: Callable[..., Any], arguments: Sequence[Any]
) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        if size > 1:
            limit = datetime.timedelta(seconds=LIMIT)
            dist.init_process_group(
                "gloo", store=dist.FileStore(store, size), rank=rank, world_size=size, timeout=limit
            )
        served = make(rank, size, *arguments)
        pipe.send((True, None))
        while True:
            method, values = pipe.recv()
            pipe.send((True, getattr(served, method)(*values)))
    except EOFError:  # the asking process has ended
        pass
    except BaseException:
        pipe.send((False, traceback.format_exc()))
