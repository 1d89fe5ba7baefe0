"""Training a model that is spread over ranks gives what the plain training gives."""

from __future__ import annotations

import functools
import json
import math
import os
import re
import runpy
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.distributed import ModalityParallel, ModalityPlan, checkpoint, local_data
from hyperlearn_pyg.errors import InputError, ParallelError
from hyperlearn_pyg.training import FitResult, TrainConfig, fit
from hyperlearn_pyg.training.progress import Interrupt
from hyperlearn_pyg.training.state import STATE_FOLDER

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("runs.py"))))
rows = runs.rows
CONFIG: TrainConfig = runs.CONFIG.replace(clip_norm=0.5)
LOADED = {"preload": ("hyperlearn_pyg.datasets", "hyperlearn_pyg.training")}
TWO = (("user",), ("item", "tag"))
PLACES = {
    "2 ranks": ModalityPlan(TWO),
    "4 ranks": ModalityPlan((("user",), ("item",), ("tag",), ())),
    "2 replicas": ModalityPlan(TWO, replicas=2),
    "4 replicas": ModalityPlan((("user", "item", "tag"),), replicas=4),
}


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(preset: str = "ratings") -> tuple[MultiModalHeteroData, HyperLearn]:
    """The small data and its model, in double precision here and on every rank."""
    torch.set_default_dtype(torch.float64)
    data = runs.make_data().apply(lambda t: t.double() if t.is_floating_point() else t)
    torch.manual_seed(0)
    options = {"hidden": 6, "feature_hidden": 4, "num_negatives": 5, "dropout": 0.2, "node_dropout": 0.1}
    return data, HyperLearn.from_data(data, 3, preset, **options)


class Run(NamedTuple):
    """What a plain run came to."""

    model: HyperLearn
    result: FitResult
    steps: int


@contextmanager
def counted(stop: float = math.inf) -> Iterator[list[int]]:
    """Count the steps of this process, and ask it to stop after some, as Ctrl-C does."""
    steps, step, interrupt = [0], torch.optim.Adam.step, Interrupt

    def count(optimizer: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        steps[0] += 1
        return step(optimizer, *args, **kwargs)

    class Asked(Interrupt):
        requested = property(lambda _: steps[0] >= stop, lambda *_: None)  # type: ignore[assignment]

    torch.optim.Adam.step = count  # type: ignore[method-assign]
    fit.__globals__["Interrupt"] = Asked
    try:
        yield steps
    finally:
        torch.optim.Adam.step = step  # type: ignore[method-assign]
        fit.__globals__["Interrupt"] = interrupt


def plain(preset: str = "ratings", config: TrainConfig = CONFIG, stop: float = math.inf, **options: Any) -> Run:
    data, model = make(preset)
    with counted(stop) as steps:
        result = fit(model, data, config, progress=False, **options)
    return Run(model, result, steps[0])


expected = functools.cache(plain)


def spread(
    rank: int,
    world_size: int,
    plan: ModalityPlan,
    preset: str = "ratings",
    config: TrainConfig = CONFIG,
    local: bool = True,
    stop: tuple[int, int] | None = None,
    **options: Any,
) -> Any:
    """Train on this rank; return its names, the result and, on rank 0, the state of all."""
    data, model = make(preset)
    parallel = ModalityParallel(model, plan)
    own = local_data(data, parallel.local) if local else data
    with counted(stop[1] if stop is not None and stop[0] == rank else math.inf) as steps:
        result = fit(parallel, own, config, progress=False, **options)
    return {
        "result": result,
        "steps": steps[0],
        "training": parallel.training,
        "own": list(parallel.state_dict()),
        "state": parallel.full_state_dict(),
    }


def close(found: list[Any], other: Run, tolerance: float = 1e-10) -> None:
    """All ranks report what the plain run does, and hold its parameters, up to rounding."""
    state, result = other.model.state_dict(), other.result
    for rank in found:
        assert rank["training"] is False
        same = rank["result"]
        assert same.best_epoch == result.best_epoch > 0
        assert rows(same) == [pytest.approx(row, abs=tolerance) for row in rows(result)]
        assert same.validation.keys() == result.validation.keys()
        for name, value in result.validation["relations"].items():
            assert same.validation["relations"][name] == pytest.approx(value, abs=tolerance)
    whole = found[0]["state"]
    assert whole.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(whole[name], value, atol=tolerance, rtol=0)
    assert all(rank["state"] == {} for rank in found[1:])


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_two_ranks_train_as_one_process(ranks: Any, local: bool) -> None:
    found = ranks.run(spread, 2, PLACES["2 ranks"], "ratings", CONFIG, local, **LOADED)
    close(found, expected())
    assert set(found[0]["own"]) & set(found[1]["own"]) == {n for n in found[0]["state"] if n.startswith("decoders.")}
    assert len(found[0]["own"]) < len(found[0]["state"])


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["links", "paper", "default"])
@pytest.mark.parametrize("place", ["2 ranks", "2 replicas"])
def test_other_presets(ranks: Any, preset: str, place: str) -> None:
    plan = PLACES[place]
    close(ranks.run(spread, plan.world_size, plan, preset, **LOADED), expected(preset))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["4 ranks", "4 replicas", "2 replicas"])
def test_four_ranks(ranks: Any, place: str) -> None:
    close(ranks.run(spread, 4, PLACES[place], **LOADED), expected())


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": None, "target_fraction": 1.0},
        {"ema": 0.0, "refit": False},
        {"clip_norm": 0.0, "schedule": "cosine", "weight_decay": 0.01},
        {"batch_size": 7, "target_fraction": 0.9, "epochs": 2, "eval_every": 1},
    ],
)
def test_other_settings(ranks: Any, change: dict[str, Any]) -> None:
    config = CONFIG.replace(**change)
    close(ranks.run(spread, 2, PLACES["2 ranks"], "ratings", config, **LOADED), expected("ratings", config))


def test_early_stopping_stops_all_ranks(ranks: Any) -> None:
    config = CONFIG.replace(epochs=30, eval_every=1, patience=2, lr=0.3, refit=False)
    whole = expected("ratings", config)
    assert len(whole.result.history) < 30  # it was stopped
    close(ranks.run(spread, 2, PLACES["2 ranks"], "ratings", config, **LOADED), whole)


def alone(**options: Any) -> dict[str, Any]:
    run = plain(**options)
    return {"result": run.result, "training": run.model.training, "state": run.model.state_dict()}


def devices(out: Path, **options: Any) -> list[Any]:
    data, model = make()
    parallel = ModalityParallel(model, ModalityPlan(TWO, devices=("cpu", "cpu")))
    result = fit(parallel, data, CONFIG, out=out, progress=False, **options)
    return [{"result": result, "training": parallel.training, "state": parallel.full_state_dict()}]


def test_devices_of_one_process(tmp_path: Path) -> None:
    close(devices(tmp_path), expected())


def steps_of(out: Path) -> list[int]:
    return [checkpoint.load(path).step for path in checkpoint.committed(out / STATE_FOLDER)]


@pytest.mark.parametrize("asked", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stop_asked_of_one_rank_and_the_way_on_in_one_process(ranks: Any, tmp_path: Path, asked: int) -> None:
    """All ranks stop after the same step; plain and over devices the run ends as the undisturbed one."""
    parts = ranks.run(stopped, 2, str(tmp_path), asked, 6, **LOADED)
    assert [part["result"].interrupted for part in parts] == [True, True]
    assert parts[0]["steps"] == parts[1]["steps"] <= 7
    assert steps_of(tmp_path)[0] == parts[0]["steps"]
    if asked:
        close([alone(out=tmp_path, resume=True)], expected())
    else:
        close(devices(tmp_path, resume=True), expected())


def stopped(rank: int, world_size: int, out: str, asked: int, steps: int) -> Any:
    return spread(rank, world_size, PLACES["2 ranks"], stop=(asked, steps), out=out)


def resumed(rank: int, world_size: int, plan: ModalityPlan, out: str) -> Any:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        return {**spread(rank, world_size, plan, out=out, resume=True), "told": [str(w.message) for w in told]}


@pytest.mark.parametrize("damaged", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_plain_run_goes_on_over_two_ranks(ranks: Any, tmp_path: Path, damaged: bool) -> None:
    """From the newest checkpoint or, where that one is damaged, all ranks from the one before."""
    assert plain(out=tmp_path, stop=6).result.interrupted
    newest, before = steps_of(tmp_path)
    assert newest == 6
    if damaged:
        flip_a_bit(next(checkpoint.committed(tmp_path / STATE_FOLDER)[0].glob("part-*")))
    found = ranks.run(resumed, 2, PLACES["2 ranks"], str(tmp_path), **LOADED)
    assert [rank["steps"] for rank in found] == [expected().steps - (before if damaged else newest)] * 2
    assert [len(rank["told"]) for rank in found] == [int(damaged), 0]
    close(found, expected())


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_two_ranks_go_on_as_four(ranks: Any, tmp_path: Path) -> None:
    ranks.run(stopped, 2, str(tmp_path), 1, 5, **LOADED)
    close(ranks.run(resumed, 4, PLACES["2 replicas"], str(tmp_path), **LOADED), expected())


# ---------------------------------------------------------------- faults


def fails(rank: int, world_size: int, kind: str, out: str) -> tuple[str, str, float]:
    """Return what became of a training with a fault, and after how long."""
    data, model = make()
    parallel = ModalityParallel(model, PLACES["2 ranks"], timeout=15)
    config = CONFIG
    if kind == "features":
        data["tag"].x[0, 0] = math.nan
        config = config.replace(clip_norm=0.0)
    elif kind == "weights":  # of the last step: no loss comes after it
        config = config.replace(epochs=1, batch_size=None)
        if rank == 1:
            break_weights()
    elif kind == "state" and rank == 1:
        fit.__globals__["load_optimizer_state"] = refuse
    elif kind == "dies":
        fit.__globals__["_Trainer"]._end_epoch = leave(rank, fit.__globals__["_Trainer"]._end_epoch)
    own, resume, began = local_data(data, parallel.local), kind in ("state", "resume"), time.monotonic()
    warnings.simplefilter("ignore")  # a checkpoint that could not be saved, or is damaged
    with pytest.raises((InputError, ParallelError)) as caught:
        fit(parallel, own, config, progress=False, out=out, resume=resume)
    told = type(caught.value).__name__, str(caught.value), time.monotonic() - began
    Path(out, f"told-{rank}.json").write_text(json.dumps(told))  # a value is lost with the ranks' last message
    return told


def break_weights() -> None:
    step = torch.optim.Adam.step

    def broken(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        out = step(optimizer, *args, **kwargs)
        with torch.no_grad():
            optimizer.param_groups[0]["params"][0].fill_(math.nan)
        return out

    torch.optim.Adam.step = broken  # type: ignore[method-assign]


def refuse(*_: Any) -> Any:
    raise ValueError("rank 1 cannot use it")


def leave(rank: int, end: Any) -> Any:
    def leaving(trainer: Any, *args: Any) -> None:
        end(trainer, *args)
        if rank == 1 and trainer.at.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    return leaving


@pytest.mark.parametrize(("kind", "says"), [("features", r"'tag'.* in epoch 1: lower"), ("weights", "weights became")])
def test_what_is_not_finite_is_told_alike_on_all_ranks(ranks: Any, tmp_path: Path, kind: str, says: str) -> None:
    found = ranks.run(fails, 2, kind, str(tmp_path), **LOADED)
    assert found[0][:2] == found[1][:2]
    assert found[0][0] == "DivergedError"
    assert re.search(says, found[0][1])


def test_a_state_that_one_rank_cannot_use_is_refused_alike_on_all(ranks: Any, tmp_path: Path) -> None:
    plain(out=tmp_path, stop=2)
    found = ranks.run(fails, 2, "state", str(tmp_path), **LOADED)
    assert found[0][:2] == found[1][:2]
    assert re.search("InputError.*is that of another model: rank 1 cannot use it", str(found[0]))


@pytest.mark.filterwarnings("ignore:checkpoint left out.*no COMMIT")
def test_the_other_rank_does_not_wait_for_one_that_died(ranks: Any, tmp_path: Path) -> None:
    """Neither for its messages nor for its part of the checkpoint; the state from before is whole."""
    _, dead = ranks.outcomes(fails, 2, "dies", str(tmp_path), grace=40.0, **LOADED)
    assert dead.status == -signal.SIGKILL
    kind, text, seconds = json.loads((tmp_path / "told-0.json").read_text())
    assert kind == "RankLostError"
    assert "'item', 'tag'" in text
    assert seconds < 25
    assert 0 < steps_of(tmp_path)[0] < expected().steps
    close([alone(out=tmp_path, resume=True)], expected())


@pytest.mark.parametrize("there", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_nothing_to_resume(ranks: Any, tmp_path: Path, there: bool) -> None:
    (tmp_path / STATE_FOLDER).mkdir()
    if there:  # but damaged
        plain(out=tmp_path, config=CONFIG.replace(epochs=1, checkpoint_every=9))
        for path in checkpoint.committed(tmp_path / STATE_FOLDER):
            flip_a_bit(next(path.glob("part-*")))
    found = ranks.run(fails, 2, "resume", str(tmp_path), **LOADED)
    assert found[0][:2] == found[1][:2]
    assert found[0][0] == "InputError"
