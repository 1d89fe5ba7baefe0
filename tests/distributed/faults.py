"""A small model, a training loop that keeps a diary, and faults that strike it at a given rank, step and place.

Every fault leaves a marker before it strikes, so that a test sees that it was hit. Functions that ranks run
(``train`` and others) come from this file, which they load by its path.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import resource
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from hyperlearn_pyg.distributed import ModalityParallel, _board
from hyperlearn_pyg.distributed._share import digest
from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.typing import TupleBatch

__all__ = ["digest"]
NAMES = "abcd"
ITEMS, WIDTH, TUPLES = 6, 3, 8
DOUBLE = torch.float64


def fault(kind: str, where: str, rank: int | tuple[int, ...], step: int, **more: Any) -> dict[str, Any]:
    """Say what strikes: ``kind`` at the place ``where`` on ``rank`` in ``step``."""
    return {"kind": kind, "where": where, "ranks": (rank,) if isinstance(rank, int) else rank, "step": step, **more}


class Strikes:
    """Where and when faults strike on this rank."""

    def __init__(self, folder: Path, rank: int, faults: list[dict[str, Any]]) -> None:
        self.folder, self.rank, self.faults, self.step = folder, rank, faults, -1

    def here(self, where: str) -> str | None:
        """Strike, where a fault is due; return the kind of one that the caller does itself."""
        for entry in self.faults:
            if entry["where"] == where and self.rank in entry["ranks"] and self.step == entry["step"]:
                (self.folder / f"hit-{where}-{self.rank}-{self.step}").write_text(f"{os.getpid()} {time.time()}")
                return self._strike(entry)
        return None

    def _strike(self, entry: dict[str, Any]) -> str | None:
        kind = entry["kind"]
        if kind in ("kill", "stop"):
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[kind])
        if kind == "raise":
            raise ZeroDivisionError("broken on purpose")
        if kind == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        if kind == "limit":
            allocate_too_much()
        if kind == "sleep":
            time.sleep(entry["seconds"])
        return kind


def allocate_too_much() -> None:
    """Really run out of memory: allow this process 1 GiB more than it has, and ask for 8."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, before[1]))
    try:
        torch.empty(2**30, dtype=DOUBLE)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class StrikeInBackward(Function):
    """Passes values; strikes when their gradient comes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, strikes: Strikes) -> Tensor:
        ctx.strikes = strikes
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        ctx.strikes.here("backward")
        return grads[0], None


class Toy(torch.nn.Module):
    """A table of features, dropout and a map for each modality; weights that all share; a squared loss."""

    def __init__(self, names: str, strikes: Strikes) -> None:
        super().__init__()
        kinds = {"dtype": DOUBLE}
        self.encoders = torch.nn.ModuleDict(
            {name: torch.nn.Sequential(torch.nn.Linear(4, WIDTH, **kinds), torch.nn.Dropout(0.2)) for name in names}
        )
        self.weight = torch.nn.Parameter(torch.linspace(0.5, 1.5, WIDTH, **kinds))
        self.strikes = strikes

    def features(self, name: str) -> Tensor:
        start = NAMES.index(name)
        return torch.linspace(-1, 1 + start, ITEMS * 4, dtype=DOUBLE).view(ITEMS, 4).sin()

    def encode(self, name: str, data: Any) -> Tensor:
        kind = self.strikes.here("encode")
        factors = self.encoders[name](self.features(name))
        if kind in ("nan", "inf"):
            factors = factors * float(kind)
        return StrikeInBackward.apply(factors, self.strikes)

    def decode(self, rows: Any, tuples: Any) -> Tensor:
        self.strikes.here("decode")
        product = self.weight
        for slot, name in enumerate(tuples.modalities):
            product = product * rows[name][tuples.index[slot]]
        return product.sum(-1)

    def targets(self, data: Any, batch: Any = None, *, generator: Any = None) -> list[TupleBatch]:
        self.strikes.here("targets")
        return [batch]

    def target_loss(self, rows: Any, target: TupleBatch) -> Tensor:
        return (self.decode(rows, target) - target.value).square().sum()

    def columns(self, relation: str, slot: int, factors: Tensor) -> Tensor:
        return factors

    def penalty(self, name: str, factors: Tensor, data: Any) -> Tensor:
        return 1e-3 * factors.square().sum()


def batch_of(step: int, names: str, other: bool = False) -> TupleBatch:
    generator = torch.Generator().manual_seed(100 + step + 1000 * other)
    index = torch.randint(ITEMS, (len(names), TUPLES), generator=generator)
    value = torch.rand(TUPLES, dtype=DOUBLE, generator=generator)
    return TupleBatch("r", tuple(names), index, value)


def start_group(folder: Path, rank: int, world_size: int, seconds: float, port: int | None = None) -> None:
    """Make the default group: it meets in a file, or in a store that rank 0 serves."""
    limit = datetime.timedelta(seconds=seconds)
    if port is None:
        store = dist.FileStore(str(folder / "store"), world_size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=limit)
    else:
        where = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=where, rank=rank, world_size=world_size, timeout=limit)


def build(strikes: Strikes, world_size: int, **options: Any) -> ModalityParallel:
    torch.manual_seed(3)
    names = NAMES[: max(2, world_size)]
    plan = options.pop("plan", ModalityPlan([[name] for name in names]))
    return ModalityParallel(Toy(names, strikes), plan, seed=5, **options)


def error_entry(error: BaseException, began: float) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "text": str(error),
        "ranks": getattr(error, "ranks", ()),
        "modalities": getattr(error, "modalities", ()),
        "seconds": time.time() - began,
        "at": time.time(),
        "cause": type(error.__cause__).__name__,
    }


def train(rank: int, world_size: int, spec: dict[str, Any]) -> dict[str, Any]:
    """Train, and go on after an error where that is possible; return a diary.

    Spec: folder, steps, faults, options (of the wrapper), group_timeout, port, guard ("backward", "step" or absent),
    catch (go on after errors), linger (stay so long, or until all others are done), save_every, grace, skip (steps
    left out).
    """
    torch.manual_seed(0)
    folder = Path(spec["folder"])
    _board.GRACE = spec.get("grace") or _board.GRACE
    start_group(folder, rank, world_size, spec.get("group_timeout", 60.0), spec.get("port"))
    strikes = Strikes(folder, rank, spec.get("faults", []))
    diary: dict[str, Any] = {"losses": {}, "errors": {}, "states": {}, "again": None, "warned": []}
    log = logging.getLogger("hyperlearn_pyg")
    lines: list[str] = diary.setdefault("log", [])
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    model = build(strikes, world_size, **spec.get("options", {}))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(spec["steps"]):
            if step in spec.get("skip", ()):
                model.steps += 1
                continue
            strikes.step, began = step, time.time()
            try:
                diary["losses"][step] = one_step(model, optimizer, strikes, spec, step)
            except Exception as error:
                if not spec.get("catch", True):
                    raise
                diary["errors"][step] = error_entry(error, began)
            diary["states"][step] = state_of(model, optimizer)
            if model.ranks.broken is not None:
                diary["again"] = call_again(model, step, world_size)
                break
        diary["warned"] = [str(entry.message) for entry in caught]
    diary["threads"] = threads_left()
    free_the_stopped(folder)
    (folder / f"done-{rank}").touch()
    end = time.time() + spec.get("linger", 0.0)
    while len(list(folder.glob("done-*"))) < world_size and time.time() < end:
        time.sleep(0.02)
    return diary


def one_step(model: Any, optimizer: Any, strikes: Strikes, spec: dict[str, Any], step: int) -> float:
    guard = spec.get("guard")
    around = model.guard if guard == "step" else contextlib.nullcontext
    with around():
        optimizer.zero_grad()
        names = "".join(model.names)
        loss = model.loss(None, batch_of(step, names, strikes.here("batch") == "other"))
        strikes.here("between")
        with model.guard() if guard == "backward" else contextlib.nullcontext():
            loss.backward()
        optimizer.step()
        strikes.here("user")
    if spec.get("save_every") and (step + 1) % spec["save_every"] == 0:
        with saving_struck(strikes):
            later = spec.get("asynchronous", False)
            model.save(spec["checkpoints"], step + 1, optimizer=optimizer, asynchronous=later)
            if later and step + 1 == spec["steps"]:
                model.wait()
            while later and threads_left():  # the fault is to strike the save of this step
                time.sleep(0.01)
    return float(loss.detach())


@contextlib.contextmanager
def saving_struck(strikes: Strikes) -> Iterator[None]:
    """Let a fault strike while the part of a rank is written, or before rank 0 commits."""
    from unittest import mock

    from hyperlearn_pyg.distributed import _checkpoint_files as disk

    real_part, real_commit = disk.write_part, disk.commit

    def write_part(directory: Path, *args: Any) -> None:
        kind = strikes.here("part")
        if kind == "full":
            from hyperlearn_pyg import _io

            error = OSError(28, "No space left on device")
            init = _io._Watched.__init__

            def full(self: Any, file: Any, digest: Any = None) -> None:
                init(self, mock.Mock(write=mock.Mock(side_effect=error)), digest)

            with mock.patch.object(_io._Watched, "__init__", full):
                real_part(directory, *args)
        real_part(directory, *args)
        strikes.here("written")

    def commit(*args: Any) -> None:
        strikes.here("commit")
        real_commit(*args)

    with (
        mock.patch.object(disk, "write_part", write_part),
        mock.patch.object(disk, "commit", commit),
        mock.patch("os.fsync"),
    ):
        yield


def state_of(model: Any, optimizer: Any) -> dict[str, Any]:
    """Parameters and moments, as they are here."""
    values = {name: value.detach().clone() for name, value in model.state_dict().items()}
    moments = [
        value.clone() if isinstance(value, Tensor) else value
        for entry in optimizer.state.values()
        for value in entry.values()
    ]
    return {"values": values, "moments": moments}


def call_again(model: Any, step: int, world_size: int) -> dict[str, Any]:
    """What a further call raises."""
    began = time.time()
    try:
        model.loss(None, batch_of(step, "".join(model.names)))
    except Exception as error:
        return error_entry(error, began)
    return {}


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]


def free_the_stopped(folder: Path) -> None:
    """Kill ranks that a fault stopped, so that nobody waits for them."""
    for marker in folder.glob("hit-*"):
        pid = int(marker.read_text().split()[0])
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if status == "T":
                os.kill(pid, signal.SIGKILL)


def hits(folder: Path) -> dict[str, float]:
    """The faults that struck, and when."""
    return {m.name.removeprefix("hit-"): float(m.read_text().split()[1]) for m in folder.glob("hit-*")}


def resume(rank: int, world_size: int, spec: dict[str, Any]) -> dict[str, Any]:
    """Load the newest checkpoint and return what is then there, and what was warned of."""
    folder = Path(spec["folder"])
    start_group(folder, rank, world_size, 60.0)
    strikes = Strikes(folder, rank, spec.get("faults", []))
    strikes.step = 0
    model = build(strikes, world_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    out: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            out["loaded"] = model.load(spec["checkpoints"], optimizer=optimizer)
        except Exception as error:
            out["error"] = error_entry(error, time.time())
    out["warned"] = [str(entry.message) for entry in caught]
    out["state"] = state_of(model, optimizer)
    optimizer.zero_grad()
    model.loss(None, batch_of(0, "".join(model.names))).backward()  # the ranks are still in step
    return out
