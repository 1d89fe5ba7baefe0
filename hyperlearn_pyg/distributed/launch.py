"""The processes that torchrun (or Slurm, or any launcher that sets its variables) started."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from hyperlearn_pyg.errors import InputError, RankLostError

#: Seconds that a rank is waited for, where nothing else is said: a rank may read its data for minutes.
TIMEOUT = 600.0
#: Seconds at the end in which gloo's threads put down their last message. One that does so while Python ends, which a
#: busy machine makes likely, aborts the process ("terminate called without an active exception"), all work being done.
LINGER = 0.1


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together.

    Attributes:
        rank: number of this process.
        world_size: number of processes.
        local_rank: number of this process on its machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """This process speaks for all of them."""
        return self.rank == 0

    def tell(self, value: Any) -> Any:
        """Return what rank 0 told; every rank must ask.

        Raises:
            RankLostError: a rank has ended or does not answer.
        """
        if self.world_size == 1:
            return value
        box = [value]
        with _lost():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Return what every rank told, in order of rank; every rank must ask.

        Raises:
            RankLostError: a rank has ended or does not answer.
        """
        if self.world_size == 1:
            return [value]
        box: list[Any] = [None] * self.world_size
        with _lost():
            dist.all_gather_object(box, value)
        return box

    def device(self, name: str = "auto") -> str:
        """Return the device of this rank: the card of its number where there are cards, or what was named."""
        if name not in ("auto", "cuda"):
            return name
        count = torch.cuda.device_count()
        if count == 0 and name == "cuda":
            raise InputError("--device: there is no CUDA device here: use 'auto' or 'cpu'")
        return f"cuda:{self.local_rank % count}" if count else "cpu"


@contextmanager
def _lost() -> Iterator[None]:
    """Say in our words that a message failed: the rank at fault has said why."""
    try:
        yield
    except RuntimeError as error:
        raise RankLostError(f"another rank has ended or does not answer ({str(error).splitlines()[0]})") from error


def launched() -> bool:
    """Tell whether a launcher started several processes of which this is one."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def _meeting_place(launch: Launch, limit: datetime.timedelta) -> Any:
    """Return the store in which the ranks find each other.

    torchrun may keep one store for all its attempts: without a part of its own an attempt would find there the
    addresses of ranks that have ended (https://github.com/pytorch/pytorch/issues/135712).
    """
    named: Any = vars(dist)  # the package names its public 'rendezvous' and 'PrefixStore' in no __all__
    store, _, _ = next(iter(named["rendezvous"]("env://", launch.rank, launch.world_size, timeout=limit)))
    store.set_timeout(limit)
    return named["PrefixStore"](f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


@contextmanager
def connected(timeout: float | None = None) -> Iterator[Launch]:
    """Join the processes that were started together, for the length of a block; alone where there is no launcher.

    Messages go by gloo on the CPU and by nccl between cards.

    Args:
        timeout: seconds that a rank is waited for; :data:`TIMEOUT` where absent.

    Raises:
        InputError: the launcher's variables are not complete, or the others cannot be reached.
    """
    if not launched():
        yield Launch()
        return
    numbers = {}
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        text = os.environ.get(key, "0")
        if not text.isdigit():
            raise InputError(
                f"the environment variable {key} must be a whole number (got {text!r}): start with torchrun"
            )
        numbers[key] = int(text)
    if numbers["RANK"] >= numbers["WORLD_SIZE"]:
        raise InputError(
            f"the environment variable RANK must be below WORLD_SIZE (got {numbers['RANK']} and "
            f"{numbers['WORLD_SIZE']}): start with torchrun"
        )
    for key in ("MASTER_ADDR", "MASTER_PORT"):
        if key not in os.environ:
            raise InputError(
                f"the environment variable {key} is not set: start with torchrun, or set it (see the docs)"
            )
    launch = Launch(*numbers.values())
    started = not dist.is_initialized()
    if started:
        limit = datetime.timedelta(seconds=TIMEOUT if timeout is None else timeout)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            store = _meeting_place(launch, limit)
            dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.world_size, timeout=limit)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"the other ranks cannot be reached: {str(error).splitlines()[0]}") from error
    try:
        yield launch
    finally:
        if started and dist.is_initialized():
            time.sleep(LINGER)
            dist.destroy_process_group()
