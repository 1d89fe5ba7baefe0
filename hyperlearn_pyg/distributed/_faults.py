from __future__ import annotations

import logging
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hyperlearn_pyg.distributed.plan import ModalityPlan, as_size
from hyperlearn_pyg.errors import ModalityError

if TYPE_CHECKING:
    from hyperlearn_pyg.distributed.ranks import Ranks

logger = logging.getLogger("hyperlearn_pyg")
#: A rank is named as slow where it takes so many times, and so many seconds, longer than the others.
SLOW_FACTOR, SLOW_SECONDS = 3.0, 0.5


@dataclass(frozen=True)
class Fault:
    """What went wrong on this rank: in the encoder of a modality, or in scoring (None)."""

    error: Exception
    modality: str | None
    text: str


def describe_fault(
    error: Exception, modality: str | None, rank: int, device: torch.device, plan: ModalityPlan
) -> Fault:
    """Put into words what an encoder, or the scoring of tuples, raised."""
    what = f"the encoder of modality {modality!r}" if modality is not None else "scoring its tuples"
    where = f"on rank {rank} ({device})"
    if is_out_of_memory(error):
        needed = as_size(plan.memory()[plan.coordinates(rank)[0]]) if plan.loads else "unknown"
        limit = as_size(memory_limit(device))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        text = (
            f"out of memory in {what} {where}: the plan's estimate for this rank is {needed}, the limit {limit} "
            f"({reason}). Spread the modalities over more ranks, or lower the rank of the model or the batch size"
        )
    else:
        text = f"{what} {where} raised {type(error).__name__}: {error}"
    return Fault(error, modality, text)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def memory_limit(device: torch.device) -> int:
    """Return the bytes that this process may have on a device."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        import resource
    except ImportError:  # not on this system
        return total
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return total if soft == resource.RLIM_INFINITY else min(total, soft)


def raise_together(ranks: Ranks, fault: Fault | None) -> None:
    """Raise the same error on every rank where one of them had a fault; every rank must call this."""
    told = ranks.tell(None if fault is None else [fault.text, fault.modality])
    faults = {rank: entry for rank, entry in enumerate(told) if entry is not None}
    if faults:
        text = "; ".join(entry[0] for entry in faults.values())
        names = [entry[1] for entry in faults.values() if entry[1] is not None]
        cause = None if fault is None else fault.error
        raise ModalityError(f"{text}. No rank took this step", faults, names) from cause


def name_straggler(seconds: Sequence[float], ranks: Ranks) -> None:
    """Log which rank the others waited for, where it is far behind them."""
    slow = max(range(len(seconds)), key=seconds.__getitem__)
    others = statistics.median(s for rank, s in enumerate(seconds) if rank != slow)
    if seconds[slow] > max(SLOW_FACTOR * others, others + SLOW_SECONDS):
        logger.warning(
            "%s, was slow in this step: %.2f s before the exchange, the others %.2f s",
            ranks.describe([slow]),
            seconds[slow],
            others,
        )
