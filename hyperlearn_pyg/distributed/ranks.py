from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.wire import CommStats, Wire
from hyperlearn_pyg.errors import ParallelError, RankLostError

#: Seconds that a rank is given to answer the roll call after a collective failed.
GRACE = 5.0
_numbers = itertools.count()


class Ranks:
    """The ranks of one wrapper: who they are, the groups they talk in, and what becomes of them when one is lost.

    Args:
        plan: who holds what; its world is this group.
        process_group: the ranks; the default group where absent, or this process alone where there is none.
        mesh: a mesh with the axes ``("modality", "data")``, or ``("modality",)``, in place of ``process_group``.
        timeout: seconds that a message may take; the group's own where absent.
        dtype: what rows and their gradients are sent as.

    Attributes:
        rank, world_size: this rank, and how many there are, within the group.
        group, replica: its place in the mesh of the plan.
        world, row, data: wires of all ranks, of those that share its tuples, of those that hold its modalities.
        control: the wire of all ranks for small messages on the CPU.
        stats: what all of them have sent.
    """

    def __init__(
        self,
        plan: ModalityPlan,
        *,
        process_group: Any = None,
        mesh: DeviceMesh | None = None,
        timeout: float | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.plan, self.stats, self.key = plan, CommStats(), f"hyperlearn/{next(_numbers)}"
        self.broken: ParallelError | None = None
        self.together = dist.is_available() and dist.is_initialized() and dist.get_world_size(process_group) > 1
        self._own: list[Any] = []
        every = _members(process_group, mesh) if self.together else [0]
        self.members = every
        world, row, data = self._groups(process_group, mesh, timeout) if self.together else (None, None, None)
        self._group = world
        self.world = self._wire(world)
        self.control = self._wire(self._control_group(world, timeout)) if self.together else self.world
        self.rank, self.world_size = self.world.rank, self.world.world_size
        self.group, self.replica = plan.coordinates(self.rank)
        self.row, self.data = self._wire(row, dtype), self._wire(data)
        self._host: Any = self._store(world) if self.together else None

    def _wire(self, group: Any, dtype: torch.dtype | None = None) -> Wire:
        return Wire(group, stats=self.stats, dtype=dtype, failed=self.lost, alone=group is None)

    def _groups(self, group: Any, mesh: DeviceMesh | None, timeout: float | None) -> tuple[Any, Any, Any]:
        """Return the groups of all ranks, of this replica and of this group of modalities."""
        replicas, members = self.plan.replicas, self.members
        if mesh is not None:
            names = mesh.mesh_dim_names or ()
            row = mesh.get_group("modality")
            data = mesh.get_group("data") if "data" in names else None
            return (row if data is None else self._new(members, timeout)), row, data
        if timeout is not None or (replicas > 1 and group is None):
            group = self._new(members, timeout)
        group = dist.group.WORLD if group is None else group
        if replicas == 1:
            return group, group, None
        number, replica = divmod(members.index(dist.get_rank()), replicas)
        row = self._new(members[replica::replicas], timeout)
        return group, row, self._new(members[number * replicas : (number + 1) * replicas], timeout)

    def _new(self, members: Sequence[int], timeout: float | None, backend: str | None = None) -> Any:
        limit = None if timeout is None else datetime.timedelta(seconds=timeout)
        made = dist.new_group(list(members), timeout=limit, backend=backend, use_local_synchronization=True)
        self._own.append(made)
        return made

    def _control_group(self, world: Any, timeout: float | None) -> Any:
        """Return a group that takes tensors on the CPU: that of all ranks, unless it speaks to cards alone."""
        if "nccl" in dist.get_backend(world) and "cpu" not in str(dist.get_backend_config(world)):
            return self._new(self.members, timeout, "gloo")
        return world

    def _store(self, world: Any) -> Any:
        """Return the key-value store of the group, or where torch has no public way to it, one that rank 0 serves."""
        found = getattr(world, "get_group_store", None)
        return found() if found is not None else self._served_store()

    def _served_store(self) -> Any:
        tcp: Any = vars(dist)["TCPStore"]  # public, and named in no __all__
        limit = datetime.timedelta(seconds=30)
        store = None
        if self.rank == 0:
            store = tcp("0.0.0.0", 0, None, True, timeout=limit, wait_for_workers=False)
        hosts = self.tell([socket.gethostname(), os.environ.get("MASTER_ADDR"), store.port if store else 0])
        name, master, port = hosts[0]
        near = all(host[0] == name for host in hosts)
        return store or tcp("127.0.0.1" if near else master or name, port, None, False, timeout=limit)

    # ------------------------------------------------------------------ words

    def describe(self, ranks: Sequence[int]) -> str:
        """Return ``rank 1, which holds 'film'``, and so on for each of ``ranks``."""
        parts = []
        for rank in ranks:
            held = ", ".join(map(repr, self.plan.modalities_of(rank)))
            parts.append(f"rank {rank}, which holds {'modality ' + held if held else 'no modality'}")
        return "; ".join(parts)

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
        """Return the error to raise after a collective failed: it names the ranks that do not answer any more."""
        if self.broken is not None:
            return self.broken
        self._leave()
        notes = self._roll_call({"error": None})
        missing = [rank for rank in range(self.world_size) if rank not in notes]
        raised = [rank for rank, note in notes.items() if note["error"]]
        first = str(error).splitlines()[0]
        ranks = missing or raised
        if missing:
            text = f"lost {self.describe(missing)}: it died or does not answer ({first})"
        elif raised:
            text = f"{self.describe(raised)}, raised {notes[raised[0]]['error']}"
        else:
            text = f"a message between the ranks failed, though all of them answer: {first}"
        held = [name for rank in ranks for name in self.plan.modalities_of(rank)]
        self.broken = RankLostError(f"{text}. Start again from the last checkpoint", ranks, held)
        return self.broken

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Let the other ranks know at once when something in the block raises here, in place of their time-out."""
        try:
            yield
        except ParallelError:
            raise
        except BaseException as error:
            if self.together and self.broken is None:
                self._leave()
                self._note({"error": f"{type(error).__name__}: {error}"})
                self.broken = ParallelError(f"{type(error).__name__}: {error}", [self.rank])
            raise

    def _leave(self) -> None:
        """Close the connections: who waits for this rank is told at once."""
        for group in [*self._own, self._group]:
            with contextlib.suppress(RuntimeError, AttributeError):  # older torch: they close when the process ends
                group.abort()

    def _note(self, note: dict[str, Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the rank that serves the store is gone
            self._host.set(f"{self.key}/{self.rank}", json.dumps(note))

    def _roll_call(self, own: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """Write down that this rank lives; return the notes of those that do so within the time of grace."""
        self._note(own)
        notes, end = {self.rank: own}, time.monotonic() + GRACE
        while len(notes) < self.world_size and time.monotonic() < end:
            try:
                for rank in set(range(self.world_size)) - notes.keys():
                    if self._host.check([f"{self.key}/{rank}"]):
                        notes[rank] = json.loads(self._host.get(f"{self.key}/{rank}"))
            except RuntimeError:
                break
            time.sleep(0.02)
        return notes


def _members(group: Any, mesh: DeviceMesh | None) -> list[int]:
    if mesh is not None:
        names = mesh.mesh_dim_names or ()
        if names not in (("modality",), ("modality", "data")):
            raise ValueError(f"'mesh' must have the axes ('modality',) or ('modality', 'data') (got {names})")
        return [int(rank) for rank in mesh.mesh.flatten()]
    return list(dist.get_process_group_ranks(dist.group.WORLD if group is None else group))
