"""One call of 'hyperlearn fit': alone, over several devices, or on the ranks that a launcher started."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from hyperlearn_pyg._io import new_folders
from hyperlearn_pyg.cli.fit import CONFIG_FILE, build, check_out, run_fit
from hyperlearn_pyg.cli.plan import plan_of
from hyperlearn_pyg.cli.source import Source, load_source
from hyperlearn_pyg.data._toml import load_toml
from hyperlearn_pyg.distributed import Launch, ModalityParallel, ModalityPlan, local_data
from hyperlearn_pyg.distributed.checkpoint import committed
from hyperlearn_pyg.distributed.launch import TIMEOUT
from hyperlearn_pyg.errors import InputError, ModalityError
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.training import FitResult, TrainConfig
from hyperlearn_pyg.training.parallel import pick_device
from hyperlearn_pyg.training.parts import check_strategy
from hyperlearn_pyg.training.state import STATE_FOLDER, has_state

T = TypeVar("T")
#: Tells a launcher that started the ranks anew that the directory is that of its own first attempt.
MARK = ".launcher"


class OtherRankError(Exception):
    """Another rank was at fault, and says so itself."""


@dataclass(frozen=True)
class Job:
    """What 'hyperlearn fit' was asked to do.

    Attributes:
        source: name of the source.
        root: folder of its data.
        split: split of ml-100k.
        values: values of both configs that were named.
        out: directory for the results.
        resume: go on from the state there.
        progress: show a progress bar.
        tensorboard: write events.
        devices: the devices of this process, or one for each rank.
        replicas: length of the data axis.
        timeout: seconds that a rank is waited for.
    """

    source: str
    root: Path | None
    split: str | None
    values: dict[str, dict[str, Any]]
    out: Path
    resume: bool = False
    progress: bool = True
    tensorboard: bool = False
    devices: tuple[str, ...] = ()
    replicas: int | None = None
    timeout: float | None = None
    say: Callable[..., None] = field(default=print, compare=False)

    def load(self) -> Source:
        """Read the data; what is named neither in the call nor by the source is as in the run that goes on."""
        loaded = load_source(self.source, self.root, self.split, **self.values)
        if self.resume and (self.out / CONFIG_FILE).is_file():
            before = load_toml(self.out / CONFIG_FILE)
            model, train = ({**before.get(k, {}), **getattr(loaded, k)} for k in ("model", "train"))
            loaded = replace(loaded, model=model, train=train)
        return loaded


def run_job(job: Job, launch: Launch) -> tuple[FitResult, dict[str, Any]]:
    """Do a job on this process and those it was started with; the metrics are rank 0's.

    Raises:
        InputError: the input is at fault on this rank.
        OtherRankError: it is at fault on another one, or on all of them and rank 0 says so.
    """
    with _claimed(job, launch) as resume:
        return _run(replace(job, resume=resume), launch)


def _run(job: Job, launch: Launch) -> tuple[FitResult, dict[str, Any]]:
    if launch.world_size == 1 and job.replicas not in (None, 1):
        raise InputError(f"--replicas: one process has no ranks to share a modality (got {job.replicas})")
    if job.resume and launch.first:
        job.say("note:", f"the training goes on from '{committed(job.out / STATE_FOLDER)[0]}'")
    loaded = _in_turn(launch, job.load)
    for note in loaded.notes if launch.first else ():
        job.say("note:", note)
    strategy = loaded.train.get("strategy") not in (None, "none")
    if strategy and (launch.world_size > 1 or job.devices):
        return _replicas(job, launch, loaded)
    if launch.world_size == 1 and not job.devices:
        if strategy:
            job.say("note:", "a strategy trains replicas under torchrun: in one process it changes nothing")
        model, config = build(loaded)
        job.say(repr(model))
        return run_fit(loaded, model, config, job.out, **_options(job))
    spread, config = _spread(job, launch, loaded)
    if launch.first:
        job.say(repr(spread.module))
        job.say(str(spread.plan))
    if launch.world_size > 1:
        loaded = replace(loaded, data=local_data(loaded.data, spread.local))

    def whole() -> tuple[Source, HyperLearn] | None:
        model: Any = spread.gather_module()
        if model is None:
            return None
        return (job.load() if launch.world_size > 1 else loaded), model

    try:
        return run_fit(loaded, spread, config, job.out, whole=whole, **_options(job))
    except (InputError, ModalityError) as error:  # raised on every rank alike
        if launch.first:
            raise
        raise OtherRankError from error


def _replicas(job: Job, launch: Launch, loaded: Source) -> tuple[FitResult, dict[str, Any]]:
    """Train replicas of the whole model, one a rank; rank 0 writes the results."""
    for option, value in (("--devices", job.devices), ("--replicas", job.replicas)):
        if value:
            raise InputError(
                f"{option}: spreads one model, and --strategy trains replicas of it: leave one of them out"
            )
    own = _on_all(launch, lambda: str(pick_device(launch.device(loaded.train.get("device", "auto")))))
    loaded = replace(loaded, train={**loaded.train, "device": own})

    def make() -> tuple[HyperLearn, TrainConfig]:
        apart = loaded.train["strategy"] == "codistillation"
        model, config = build(loaded, replica=launch.rank if apart else 0)
        check_strategy(model, config)
        return model, config

    model, config = _on_all(launch, make)
    if launch.first:
        job.say(repr(model))
        job.say(f"{launch.world_size} replicas, {config.strategy}")

    def whole() -> tuple[Source, HyperLearn] | None:
        return (loaded, model) if launch.first else None

    # a replica may diverge alone: each rank says what is wrong on it
    return run_fit(loaded, model, config, job.out, whole=whole, speaks=launch.first, **_options(job))


def _options(job: Job) -> dict[str, Any]:
    return {"resume": job.resume, "progress": job.progress, "tensorboard": job.tensorboard}


@contextmanager
def _claimed(job: Job, launch: Launch) -> Iterator[bool]:
    """Check the output directory; yield whether to go on from the state there, the same on every rank.

    A launcher that starts its ranks anew after a failure starts the same command again. A mark tells the new ranks that
    what lies there is of their own run, so that they go on with it.
    """
    resume: bool = launch.tell(_on_first(launch, lambda: _check(job)))
    launcher = _launcher()
    if launcher is None or not launch.first:
        yield resume
        return
    mark = job.out / MARK
    with new_folders(job.out):
        mark.write_text(launcher)
        try:
            yield resume
        except BaseException as error:
            if isinstance(error, (InputError, OtherRankError)) or not has_state(job.out):
                mark.unlink(missing_ok=True)
            raise
        mark.unlink(missing_ok=True)


def _check(job: Job) -> bool:
    """Check the output directory; tell whether to go on from the state there."""
    mark = job.out / MARK
    if not (mark.is_file() and mark.read_text() == _launcher()):
        check_out(job.out, resume=job.resume)
        return job.resume
    if has_state(job.out):
        return True
    shutil.rmtree(job.out / STATE_FOLDER, ignore_errors=True)  # begun by the attempt that failed
    (job.out / CONFIG_FILE).unlink(missing_ok=True)
    return False


def _launcher() -> str | None:
    """Name the torchrun that started this process: the same when it starts its ranks anew, and of no other one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    parent, began = os.getppid(), ""
    with suppress(OSError, IndexError):  # Linux: numbers of processes come again, times of their start do not
        began = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{os.environ['TORCHELASTIC_RUN_ID']} {socket.gethostname()} {parent} {began}"


def _spread(job: Job, launch: Launch, loaded: Source) -> tuple[ModalityParallel, TrainConfig]:
    """Build what this rank holds; rank 0 plans."""
    places = launch.world_size if launch.world_size > 1 else len(job.devices)
    own = _on_all(launch, lambda: _devices(job, launch, loaded.train.get("device", "auto")))
    devices: list[str] = list(chain.from_iterable(launch.gather(own)))

    def plan_first() -> tuple[HyperLearn, TrainConfig, str]:
        model, config = build(loaded)
        if job.replicas is not None and places % job.replicas:
            raise InputError(f"--replicas: must divide the number of ranks, {places} (got {job.replicas})")
        replicas = 1 if launch.world_size == 1 else job.replicas
        return model, config, plan_of(model, config, loaded, places, replicas=replicas, devices=devices).to_json()

    built = _on_first(launch, plan_first)
    plan = ModalityPlan.from_json(launch.tell(None if built is None else built[2]))

    def make() -> tuple[ModalityParallel, TrainConfig]:
        model, config = built[:2] if built is not None else build(loaded, plan.modalities_of(launch.rank))
        try:
            return ModalityParallel(model, plan, timeout=TIMEOUT if job.timeout is None else job.timeout), config
        except ValueError as error:
            raise InputError(str(error)) from error

    return _on_all(launch, make)


def _devices(job: Job, launch: Launch, named: str) -> list[str]:
    """Return the device of this rank, or those of this process; they are there."""
    if job.devices and "device" in job.values.get("train", {}):
        raise InputError("--devices: takes the place of --device: leave one of them out")
    if job.devices and launch.world_size > 1 and len(job.devices) not in (1, launch.world_size):
        raise InputError(
            f"--devices: expected one device, or one for each of {launch.world_size} ranks (got {len(job.devices)})"
        )
    own = job.devices
    if launch.world_size > 1:
        own = (launch.device(own[launch.rank % len(own)] if own else named),)
    try:
        return [str(pick_device(device)) for device in own]
    except InputError as error:
        option = "--devices" if job.devices else "--device"
        raise InputError(str(error).replace("train.device", option, 1)) from error


def _on_first(launch: Launch, function: Callable[[], T]) -> T | None:
    """Run on rank 0 what must happen once; what it raises ends all ranks."""
    value, fault = None, None
    if launch.first:
        try:
            value = function()
        except BaseException as error:
            fault = error
    well = launch.tell(fault is None)
    if fault is not None:
        raise fault
    if not well:
        raise OtherRankError
    return value


def _on_all(launch: Launch, function: Callable[[], T]) -> T:
    """Run on every rank; what one raises ends all of them."""
    value: list[T] = []
    fault = None
    try:
        value.append(function())
    except Exception as error:
        fault = error
    told = launch.gather(None if fault is None else str(fault))
    if fault is not None and str(fault) not in told[: launch.rank]:
        raise fault
    if any(text is not None for text in told):  # of several with the same fault the first one says so
        raise OtherRankError from fault
    return value[0]


def _in_turn(launch: Launch, function: Callable[[], T]) -> T:
    """Run on rank 0, then on the others: of files that the first run writes there is one writer."""
    value = _on_first(launch, function)
    if launch.world_size == 1 and value is not None:
        return value
    return _on_all(launch, lambda: function() if value is None else value)
