from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hyperlearn_pyg.distributed.traffic import reduced_bytes

#: How long a message is waited for before the other ranks' notes are looked at, again and again.
PATIENCE = datetime.timedelta(seconds=0.5)


@dataclass
class CommStats:
    """What one rank has sent to others.

    Attributes:
        num_bytes: bytes of payload by kind: ``"rows"``, ``"row gradients"``, ``"shared gradients"``, ``"values"``,
            ``"sums"``, ``"data gradients"``, ``"votes"``, ``"agreement"``.
        calls: number of collectives by kind.
        seconds: wall time within them by kind, waiting for others included; on a GPU the time to enqueue them.
    """

    num_bytes: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, num_bytes: int, seconds: float) -> None:
        """Count one collective."""
        self.num_bytes[kind] = self.num_bytes.get(kind, 0) + num_bytes
        self.calls[kind] = self.calls.get(kind, 0) + 1
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    @property
    def exchanged(self) -> int:
        """Bytes of rows and of their gradients: what a :class:`~hyperlearn_pyg.distributed.route.Route` foretells."""
        return self.num_bytes.get("rows", 0) + self.num_bytes.get("row gradients", 0)

    @property
    def total(self) -> int:
        """Bytes of all kinds."""
        return sum(self.num_bytes.values())

    def reset(self) -> None:
        """Start anew from zero."""
        for counter in (self.num_bytes, self.calls, self.seconds):
            counter.clear()


class Wire:
    """The collectives among the ranks of one group, counted; no message where the group is one process.

    Args:
        group: the process group; where absent the default one, or this process alone if there is none.
        stats: what counts; several wires may share one.
        dtype: send rows and their gradients as this type, ``torch.bfloat16`` say; as they are where absent.
        failed: makes of what a collective raised the error to raise in its place.
        alarm: tells whether another rank is known to have failed; asked while a message on the CPU is waited for.
        alone: this process alone, whatever groups there are.
    """

    def __init__(
        self,
        group: Any = None,
        *,
        stats: CommStats | None = None,
        dtype: torch.dtype | None = None,
        failed: Callable[[RuntimeError], Exception] | None = None,
        alarm: Callable[[], bool] | None = None,
        alone: bool = False,
    ) -> None:
        self.group = group
        self.stats = CommStats() if stats is None else stats
        self.dtype = dtype
        self.failed, self.alarm = failed, alarm
        there = not alone and dist.is_available() and dist.is_initialized()
        self.rank: int = dist.get_rank(group) if there else 0
        self.world_size: int = dist.get_world_size(group) if there else 1
        if self.rank < 0:
            raise ValueError("'group' must be one that this rank is in")

    def all_to_all(self, rows: Tensor, send: Sequence[int], receive: Sequence[int], kind: str) -> Tensor:
        """Send the first ``send[0]`` rows ``[sum(send), C]`` to rank 0 and so on; return ``[sum(receive), C]``."""
        if self.world_size == 1:
            return rows
        sent = rows.contiguous() if self.dtype is None else rows.to(self.dtype).contiguous()
        out = sent.new_empty(sum(receive), *rows.shape[1:])
        away = sum(send) - send[self.rank]
        if rows.shape[1:].numel():
            bytes_sent = away * rows.shape[1:].numel() * sent.element_size()
            self._timed(kind, bytes_sent, dist.all_to_all_single, out, sent, list(receive), list(send))
        return out.to(rows.dtype)

    def begin_all_to_all(
        self, rows: Tensor, send: Sequence[int], receive: Sequence[int], kind: str
    ) -> Callable[[], Tensor]:
        """Begin what :meth:`all_to_all` does, and return what waits for it; rows are sent as they are.

        Call it once, in the same order among the messages on every rank; ``rows`` must not change before that.
        """
        if self.world_size == 1:
            return lambda: rows
        sent = rows.contiguous()
        out = sent.new_empty(sum(receive), *rows.shape[1:])
        bytes_sent = (sum(send) - send[self.rank]) * rows.shape[1:].numel() * sent.element_size()
        with self._counted(kind):
            work = dist.all_to_all_single(out, sent, list(receive), list(send), group=self.group, async_op=True)

        def wait(held: Tensor = sent) -> Tensor:  # which holds what is sent until it has gone
            with self._counted(kind, bytes_sent):
                self._finish(work, held.device.type == "cpu")
            return out

        return wait

    def broadcast_(self, tensor: Tensor, kind: str, root: int = 0) -> Tensor:
        """Overwrite a tensor with that of one rank, which is counted to send it to each of the others."""
        if self.world_size > 1 and tensor.numel():
            bytes_sent = (self.world_size - 1) * tensor.numel() * tensor.element_size() * (self.rank == root)
            self._timed(kind, bytes_sent, partial(dist.broadcast, group_src=root), tensor)
        return tensor

    def all_gather(self, block: Tensor, kind: str) -> Tensor:
        """Return the blocks of all ranks, of one shape ``[n, ...]``, one after the other ``[world_size * n, ...]``."""
        if self.world_size == 1 or block.numel() == 0:
            return block.repeat(self.world_size, *[1] * (block.dim() - 1)) if self.world_size > 1 else block
        out = block.new_empty(self.world_size * block.size(0), *block.shape[1:])
        bytes_sent = (self.world_size - 1) * block.numel() * block.element_size()
        gather = public("all_gather_single", "all_gather_into_tensor")
        self._timed(kind, bytes_sent, gather, out, block.contiguous())
        return out

    def all_reduce_(self, tensor: Tensor, kind: str) -> Tensor:
        """Sum over the ranks in place; counted as a ring: ``2 (P - 1) / P`` times the tensor."""
        if self.world_size > 1 and tensor.numel():
            bytes_sent = reduced_bytes(tensor.numel(), self.world_size, itemsize=tensor.element_size())
            self._timed(kind, bytes_sent, dist.all_reduce, tensor)
        return tensor

    def _timed(self, kind: str, num_bytes: int, call: Callable[..., Any], *args: Any) -> None:
        with self._counted(kind, num_bytes):
            if self.alarm is None or args[0].device.type != "cpu":
                call(*args, group=self.group)
            else:
                self._finish(call(*args, group=self.group, async_op=True), True)

    @contextmanager
    def _counted(self, kind: str, num_bytes: int | None = None) -> Iterator[None]:
        """Count what a block sends, if anything; raise in our words what went wrong there."""
        start = time.perf_counter()
        try:
            yield
        except RuntimeError as error:  # torch.distributed's own errors are of this kind
            if self.failed is None:
                raise
            raise self.failed(error) from None  # it says all that torch did
        if num_bytes is not None:
            self.stats.add(kind, num_bytes, time.perf_counter() - start)

    def _finish(self, work: Any, on_cpu: bool) -> None:
        if self.alarm is None or not on_cpu:
            work.wait()
            return
        while not _ended(work):
            if self.alarm():
                raise RuntimeError("another rank left while a message was waited for")


def _ended(work: Any) -> bool:
    """Wait for a message for a while; raise what went wrong with it."""
    try:
        work.wait(PATIENCE)
    except RuntimeError:
        if not work.is_completed():
            return False
        work.wait()  # raises again, unless it came just then
    return True


def public(name: str, older: str) -> Callable[..., Any]:
    """Return a function of ``torch.distributed`` by the name it has in torch 2.13, or else by its older name."""
    found: Callable[..., Any] = getattr(dist, name, None) or getattr(dist, older)
    return found
