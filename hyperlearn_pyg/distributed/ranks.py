from __future__ import annotations

import atexit
import contextlib
import datetime
import json
import os
import re
import secrets
import socket
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from hyperlearn_pyg.distributed._board import Board, served
from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.wire import CommStats, Wire
from hyperlearn_pyg.errors import ParallelError, RankLostError, RanksDifferError


class Ranks:
    """The ranks of one wrapper: who they are, the groups they talk in, and what becomes of them when one is lost.

    They can talk as soon as this object is there, so that all hear of it when one of them cannot use its plan;
    :meth:`settle` then gives each its place.

    What goes wrong on one rank reaches the others in one of three ways. Errors that a vote finds (:meth:`all_or_none`,
    and the votes of a step) are raised by all ranks at the same place, and they can go on. What :meth:`guard` sees is
    noted in the store of the group: who waits for a message looks there twice a second. A rank that died or hangs is
    noticed by the closed connection, or after the time-out: then the others call the roll, and name who has not
    answered after 5 seconds.

    All of this holds with gloo. With nccl votes and notes are the same, as they go over gloo, and communicators are
    aborted. But a message between cards that never comes is noticed by nobody until a result is read, and torch's
    watchdog may end the process (after the time-out) before it has named the rank that was lost.

    Args:
        process_group: the ranks; the default group where absent, or this process alone where there is none.
        mesh: a mesh with the axes ``("modality", "data")``, or ``("modality",)``, in place of ``process_group``.
        timeout: seconds that a message may take; the group's own where absent, and torch's default (half an hour with
            gloo) in the groups that a mesh of modalities and replicas needs besides.
        dtype: what rows and their gradients are sent as.

    Attributes:
        rank, world_size: this rank, and how many there are, within the group.
        group, replica: its place in the mesh of the plan.
        world, row, data: wires of all ranks, of those that share its tuples, of those that hold its modalities.
        control: the wire of all ranks for small messages on the CPU.
        stats: what all of them have sent.

    Raises:
        ValueError: this rank is not in the group or mesh, or the mesh counts its ranks in another order.
        RankLostError: a rank did not come to make the groups.
    """

    def __init__(
        self,
        *,
        process_group: Any = None,
        mesh: DeviceMesh | None = None,
        timeout: float | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.plan: ModalityPlan | None = None
        self.stats, self.dtype, self.mesh, self.timeout = CommStats(), dtype, mesh, timeout
        self.broken: ParallelError | None = None
        self.members = _members(process_group, mesh)
        self.together = len(self.members) > 1
        self.rank, self.world_size = 0, len(self.members)
        self._used: list[Any] = []
        self._board: Board | None = None
        self.world = self.control = self.row = self.data = self._wire(None)
        self.group = self.replica = 0
        if self.together:
            self._meet(process_group)

    def _meet(self, group: Any) -> None:
        """Make the groups of all ranks, and the board for their notes."""
        if not _parting:
            _parting.append(atexit.register(_part))
        _met.add(self)
        mesh = self.mesh
        if mesh is not None and mesh.ndim == 1:
            group = mesh.get_group()
        base: Any = dist.group.WORLD if group is None else group
        whole = len(self.members) == dist.get_world_size(base)
        self._limit = None if self.timeout is None else datetime.timedelta(seconds=self.timeout)
        self.rank = self.members.index(dist.get_rank())
        world = base if whole and self.timeout is None else self._new(self.members)
        self.world = self.control = self._wire(world)
        if "nccl" in dist.get_backend(world) and "cpu" not in str(dist.get_backend_config(world)):
            self.control = self._wire(self._new(self.members, "gloo"))
        store, host = self._store(world)
        # a name that no attempt before has used: torchrun may keep the store over restarts, with the notes of the dead
        name = self.tell(secrets.token_hex(8) if self.rank == 0 else None)[0]
        self._board = Board(store, f"hyperlearn_pyg/{name}", self.rank, host)

    def settle(self, plan: ModalityPlan) -> None:
        """Take the place that a plan gives this rank; all ranks have agreed on it."""
        self.plan = plan
        self.group, self.replica = plan.coordinates(self.rank)
        if not self.together:
            return
        replicas, data = plan.replicas, None
        row = self.world.group
        if replicas > 1 and self.mesh is not None and self.mesh.ndim == 2 and self.timeout is None:
            row, data = self.mesh.get_group("modality"), self.mesh.get_group("data")
        elif replicas > 1:
            row = self._new(self.members[self.replica :: replicas])
            data = self._new(self.members[self.group * replicas : (self.group + 1) * replicas])
        self.row, self.data = self._wire(row, self.dtype), self._wire(data)

    def _wire(self, group: Any, dtype: torch.dtype | None = None) -> Wire:
        if group is not None:
            self._used.append(group)
        return Wire(group, stats=self.stats, dtype=dtype, failed=self.lost, alarm=self._alarm, alone=group is None)

    def _new(self, members: Sequence[int], backend: str | None = None) -> Any:
        try:
            return dist.new_group(list(members), timeout=self._limit, backend=backend, use_local_synchronization=True)
        except RuntimeError as error:
            raise self.lost(error) from error

    def _store(self, world: Any) -> tuple[Any, int | None]:
        """Return the key-value store of the group, and the rank that serves it, where one of these does."""
        found = getattr(world, "get_group_store", None)
        if found is None:
            return self._served_store(), 0
        store = found()
        by_rank = served(store) and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and 0 in self.members
        return store, self.members.index(0) if by_rank else None

    def _served_store(self) -> Any:
        """Return a store that rank 0 serves, where torch has no public way to that of the group."""
        tcp: Any = vars(dist)["TCPStore"]  # public, and named in no __all__
        limit = datetime.timedelta(seconds=30)
        store = None
        if self.rank == 0:
            store = tcp("0.0.0.0", 0, None, True, timeout=limit, wait_for_workers=False)
        master = os.environ.get("MASTER_ADDR") if self.members[0] == 0 else None
        hosts = self.tell([socket.gethostname(), master, store.port if store else 0])
        name, master, port = hosts[0]
        near = all(host[0] == name for host in hosts)
        return store or tcp("127.0.0.1" if near else master or name, port, None, False, timeout=limit)

    # ------------------------------------------------------------------ words

    def describe(self, ranks: Sequence[int]) -> str:
        """Return ``rank 1, which holds modality 'film'``, and so on for each of ``ranks``."""
        return "; ".join(f"rank {rank}{self._holding(rank)}" for rank in ranks)

    def _holding(self, rank: int) -> str:
        held = ", ".join(map(repr, self.modalities_of([rank])))
        return "" if self.plan is None else f", which holds {'modality ' + held if held else 'no modality'}"

    def modalities_of(self, ranks: Sequence[int]) -> list[str]:
        """Return the modalities that some ranks hold."""
        return [] if self.plan is None else [name for rank in ranks for name in self.plan.modalities_of(rank)]

    def tell(self, value: Any) -> list[Any]:
        """Return what every rank told, in order of rank: anything that JSON holds."""
        if self.world_size == 1:
            return [value]
        text = json.dumps(value).encode()
        sizes = self.control.all_gather(torch.tensor([len(text)]), "agreement").tolist()
        block = torch.zeros(max(sizes), dtype=torch.uint8)
        block[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        table = self.control.all_gather(block, "agreement").view(self.world_size, -1)
        return [json.loads(bytes(row[:size].tolist())) for row, size in zip(table, sizes, strict=True)]

    def bytes_to(self, content: Tensor, root: int = 0) -> list[Tensor]:
        """Send bytes ``[n]`` to one rank; there return those of every rank, elsewhere nothing."""
        if self.world_size == 1:
            return [content]
        sizes = self.control.all_gather(torch.tensor([len(content)]), "agreement").tolist()
        send = [len(content) if rank == root else 0 for rank in range(self.world_size)]
        receive = sizes if self.rank == root else [0] * self.world_size
        got = self.control.all_to_all(content, send, receive, "agreement")
        return list(got.split(receive)) if self.rank == root else []

    @contextmanager
    def all_or_none(self, what: str) -> Iterator[None]:
        """Let a block in which no messages are sent succeed on all ranks or raise on all of them.

        Every rank must come here. Where the block raised, that rank raises what it was, and the others a
        :class:`ParallelError` that tells it; they can go on.

        Args:
            what: begins that message, as in ``"the checkpoint was not saved"``.
        """
        fault: Exception | None = None
        try:
            yield
        except Exception as error:
            if not self.together:
                raise
            fault = error
        if not self.together:
            return
        told = self.tell(None if fault is None else _words(fault))
        if fault is not None:
            raise fault
        failed = [rank for rank, text in enumerate(told) if text is not None]
        if failed:
            text = "; ".join(f"{self.describe([rank])}, raised {told[rank]}" for rank in failed)
            raise ParallelError(f"{what}: {text}", failed, self.modalities_of(failed))

    # ------------------------------------------------------------------ losses

    def check(self) -> None:
        """Raise what broke the group before: after a failure it cannot be used."""
        if self.broken is not None:
            raise type(self.broken)(
                f"these ranks cannot go on since an earlier failure ({self.broken}): start anew from a checkpoint",
                self.broken.ranks,
                self.broken.modalities,
            )

    def lost(self, error: BaseException) -> ParallelError:
        """Return the error to raise after a message failed: it names the ranks that raised or do not answer."""
        if self.broken is None:
            notes: dict[int, Any] = {}
            if self._board is not None:
                self._board.post()
                self._abort()
                notes = self._board.roll_call(self.world_size)
            text, ranks = self._verdict(notes, _first_words(error))
            if self._board is not None:
                self._board.post(lost=ranks)
                self._board.leave(notes)
            text = f"{text}. Start again from the last checkpoint"
            self.broken = RankLostError(text, ranks, self.modalities_of(ranks))
        return self.broken

    def _verdict(self, notes: dict[int, Any], first: str) -> tuple[str, list[int]]:
        """Put into words what the notes of the ranks tell, and whose fault it is."""
        raised = [rank for rank, note in notes.items() if note["error"]]
        lost = sorted({rank for note in notes.values() for rank in note["lost"]})
        if raised:
            return f"{self.describe(raised[:1])}, raised {notes[raised[0]]['error']}", raised[:1]
        if self.rank in lost:
            return f"the others gave up {self.describe([self.rank])}: it did not answer in time ({first})", [self.rank]
        missing = lost or [rank for rank in range(self.world_size) if rank not in {*notes, self.rank}]
        if self._board is None and self.world_size > 2:
            return f"a message between the ranks failed before they could ask one another ({first})", []
        host = self._board.host if self._board is not None and self._board.gone else None
        if not lost and host not in (None, self.rank) and self.world_size > 2:
            text = f"lost {self.describe([host])}: it died or does not answer, and nobody else can be asked without it"
            return f"{text} ({first})", [host]
        if missing:
            return f"lost {self.describe(missing)}: it died or does not answer ({first})", missing
        return f"a message between the ranks failed, though all of them answer ({first})", []

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Let the other ranks know when something in the block raises here, in place of their time-out."""
        try:
            yield
        except (ParallelError, RanksDifferError):  # the others know
            raise
        except BaseException as error:
            if self._board is not None and self.broken is None:
                held = self.modalities_of([self.rank])
                self.broken = ParallelError(f"{self.describe([self.rank])}, raised {_words(error)}", [self.rank], held)
                self._board.post(error=_words(error))
                self._abort()
                self._board.leave(range(self.world_size))
            raise

    def _alarm(self) -> bool:
        return self._board is not None and self._board.alarm()

    def _abort(self) -> None:
        """Close the connections, where the backend does so: who waits for this rank is told at once."""
        for group in self._used:
            with contextlib.suppress(RuntimeError, AttributeError):  # older torch: they close when the process ends
                group.abort()


#: Those that talk in this process.
_met: weakref.WeakSet[Ranks] = weakref.WeakSet()
_parting: list[Any] = []
#: Seconds that gloo's threads are given to end before Python does.
_PAUSE = 0.1


def _part() -> None:
    """Let go of all groups before Python ends.

    A thread of gloo that drops what it has sent while Python is ending aborts the process (``terminate called without
    an active exception``). Groups that nobody holds any more end their threads; the others get a moment.
    """
    for ranks in _met:
        for wire in (ranks.world, ranks.control, ranks.row, ranks.data):
            wire.group = None
        ranks._used.clear()
    time.sleep(_PAUSE)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _first_words(error: BaseException) -> str:
    """Return what torch says without the place in its sources and its advice."""
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return re.sub(r"^\[\S+\] ", "", first).partition(". This is typically caused")[0]


def _members(group: Any, mesh: DeviceMesh | None) -> list[int]:
    """Return the ranks of the default group that talk, in order."""
    if not (dist.is_available() and dist.is_initialized()):
        return [0]
    if mesh is None:
        if dist.get_rank(group) < 0:
            raise ValueError("'process_group' must be one that this rank is in")
        return list(dist.get_process_group_ranks(dist.group.WORLD if group is None else group))
    names, members = mesh.mesh_dim_names or (), [int(rank) for rank in mesh.mesh.flatten()]
    if names not in (("modality",), ("modality", "data")):
        raise ValueError(f"'mesh' must have the axes ('modality',) or ('modality', 'data') (got {names})")
    if dist.get_rank() not in members or members != sorted(members):
        raise ValueError(f"'mesh' must hold this rank, {dist.get_rank()}, and count upwards (got {members})")
    return members
