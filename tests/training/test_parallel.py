"""What a model that is split over ranks will stand on: the trainer asks for no more than this."""

from __future__ import annotations

import copy
import json
import runpy
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import pytest
import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg._optional import available
from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training import FitResult, fit
from hyperlearn_pyg.training.parallel import Alone
from hyperlearn_pyg.training.state import STATE_FOLDER, split_name

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("runs.py"))))
alike, make_data, make_model, run = runs.alike, runs.make_data, runs.make_model, runs.run
CPU = torch.device("cpu")


class Touched:
    """A model that shows the trainer what ``Trainable`` names and nothing else; of its state, some names alone."""

    SHOWN = ("config", "relations", "prepare", "start", "loss", "parameters", "train", "eval")

    def __init__(self, model: HyperLearn, beginnings: tuple[str, ...] = ("",)) -> None:
        self._model, self._beginnings = model, beginnings

    def __getattr__(self, name: str) -> Any:
        assert name in self.SHOWN, f"the trainer touched {name!r}"
        return getattr(self._model, name)

    def named_parameters(self) -> list[tuple[str, Any]]:
        return [(name, p) for name, p in self._model.named_parameters() if name.startswith(self._beginnings)]

    def parameters(self) -> list[Any]:
        return [p for _, p in self.named_parameters()]

    def state_dict(self) -> dict[str, Any]:
        return {name: v for name, v in self._model.state_dict().items() if name.startswith(self._beginnings)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert state.keys() == self.state_dict().keys()
        self._model.load_state_dict(state, strict=False)


class Seam(Alone):
    """One process, with a protocol of what was asked."""

    def __init__(self, model: HyperLearn, **answers: Any) -> None:
        super().__init__(model, CPU, runs.CONFIG)
        self.asked: list[tuple[str, Any]] = []
        self.saved: list[tuple[int, dict[str, Any], dict[str, Any], dict[str, Any]]] = []
        for name, answer in answers.items():
            setattr(self, name, answer)

    def clip_grad_norm_(self, max_norm: float) -> Any:
        self.asked.append(("clip", max_norm))
        return super().clip_grad_norm_(max_norm)

    def evaluate(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        return super().evaluate(self.model, *args, **kwargs)


class NoFiles:
    """A writer that remembers; it may say that a save went wrong."""

    def __init__(self, saved: list[Any]) -> None:
        self.saved, self.left = saved, 0

    def save(self, step: int, tensors: Any, *, optimizer: Any, extra: Any) -> None:
        self.saved.append(copy.deepcopy((step, dict(tensors), optimizer, extra)))

    def wait(self) -> None:
        raise AssertionError("leaving the block waits")

    def __enter__(self) -> NoFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.left += 1


def fit_with(
    patch: pytest.MonkeyPatch, seam: Alone, model: Any, data: MultiModalHeteroData, **kwargs: Any
) -> FitResult:
    patch.setitem(fit.__globals__, "parallel_of", lambda *_: seam)
    return fit(model, data, kwargs.pop("config", runs.CONFIG), **{"progress": False, **kwargs})


def test_the_trainer_touches_no_more_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, config = make_data(), runs.CONFIG.replace(clip_norm=0.5)
    expected = run(data, config)
    model = make_model(data)
    seam = Seam(model)
    result = fit_with(monkeypatch, seam, Touched(model), data, config=config, out=tmp_path)
    assert alike((model, result), expected)
    assert seam.asked == [("clip", 0.5)] * checkpoint.load(checkpoint.committed(tmp_path / STATE_FOLDER)[0]).step
    again = make_model(data)
    fit_with(monkeypatch, Seam(again), Touched(again), data, config=config, out=tmp_path, resume=True)
    assert alike((again, result), expected)


def test_rank_0_alone_shows_logs_and_gives_the_extra_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / STATE_FOLDER / "save-00001-step-00000001").mkdir(parents=True)  # rank 0 makes and deletes directories
    data, results = make_data(), []
    for rank in (0, 1):
        model = make_model(data)
        seam = Seam(model, rank=rank, world_size=2)
        writer = NoFiles(seam.saved)
        seam.writer = lambda folder, writer=writer: writer  # type: ignore[method-assign, misc, assignment]
        options = {"out": tmp_path, "tensorboard": bool(rank) and available("tensorboard"), "progress": bool(rank)}
        if rank:
            (tmp_path / STATE_FOLDER / "save-00001-step-00000001").mkdir(parents=True)
        results.append((model, fit_with(monkeypatch, seam, model, data, **options)))
        assert writer.left == 1
        assert all(bool(extra) == (rank == 0) for *_, extra in seam.saved)
    assert capsys.readouterr().err == ""
    assert [path.name for path in tmp_path.rglob("*")] == [STATE_FOLDER, "save-00001-step-00000001"]
    assert alike(*results)


def test_a_request_on_another_rank_stops_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    expected = run(data)
    model = make_model(data)
    seam = Seam(model)
    seam.stop = lambda flag: flag or len(steps) == 3  # type: ignore[method-assign]
    steps, step = [], torch.optim.Adam.step
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", lambda *args, **kwargs: (steps.append(1), step(*args, **kwargs)))
        result = fit_with(patch, seam, model, data, out=tmp_path)
    assert (result.interrupted, len(steps)) == (True, 3)
    assert alike(run(data, out=tmp_path, resume=True), expected)


def test_weights_that_are_not_finite_on_another_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(make_data())
    seam = Seam(model)
    seam.any = lambda flag: True  # type: ignore[method-assign]
    with pytest.raises(InputError, match="weights became infinite or NaN in epoch 1"):
        fit_with(monkeypatch, seam, model, make_data())


class Half(Seam):
    """A rank of two: it reads what it holds, of a checkpoint that somebody else chose."""

    world_size = 2

    def load_latest(self, folder: Path, names: Iterable[str] | None) -> checkpoint.Checkpoint | None:
        self.asked.append(("load", list(names or ())))
        return super().load_latest(folder, names)


@pytest.mark.parametrize("beginnings", [("encoders.user.", "decoders."), ("encoders.item.", "encoders.tag.")])
def test_a_rank_reads_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beginnings: Any) -> None:
    data = make_data()
    run(data, out=tmp_path)
    model = make_model(data)
    part, seam = Touched(model, beginnings), Half(model, rank=1)
    loads: list[checkpoint.Checkpoint] = []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda *args, **more: loads.append(load(*args, **more)) or loads[-1])
    writer = NoFiles(seam.saved)
    seam.writer = lambda folder: writer  # type: ignore[method-assign, assignment, return-value]
    fit_with(monkeypatch, seam, part, data, out=tmp_path, resume=True)
    assert seam.asked == [("load", [])]
    own = part.state_dict().keys()
    assert {split_name(name)[1] for name in loads[0].tensors} == own
    assert {split_name(name)[0] for name in loads[0].tensors} == {"", "average", "best", "initial"}
    (_, tensors, optimizer, _), *_ = seam.saved
    assert {split_name(name)[1] for name in tensors} == own
    assert optimizer.keys() == {name for name, _ in part.named_parameters()}


def test_a_state_that_another_rank_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    run(data, out=tmp_path)
    model = make_model(data)
    seam = Seam(model)
    seam.fault = lambda text: text or "rank 1 cannot use it"  # type: ignore[method-assign]
    with pytest.raises(InputError, match="rank 1 cannot use it"):
        fit_with(monkeypatch, seam, model, data, out=tmp_path, resume=True)


def test_two_ranks_write_one_checkpoint_that_one_process_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank's part of a state, saved by a writer of its own, is the state of the plain run."""
    data = make_data()
    expected = run(data)
    shares, saved = [("encoders.user.",), ("encoders.item.", "encoders.tag.", "decoders.")], []
    for rank, share in enumerate(shares):  # one after the other: each computes all and keeps what is its own
        model = make_model(data)
        seam = Seam(model, rank=rank, world_size=2)
        writer = NoFiles(seam.saved)
        seam.writer = lambda folder, writer=writer: writer  # type: ignore[method-assign, misc, assignment]
        fit_with(monkeypatch, seam, model, data, out=tmp_path)
        saved.append([one for one in seam.saved if one[0] < seam.saved[-1][0]][-1])
        step, tensors, optimizer, extra = saved[-1]
        mine = {name: value for name, value in tensors.items() if split_name(name)[1].startswith(share)}
        own = {name: value for name, value in optimizer.items() if name.startswith(share)}
        saved[-1] = (step, mine, own, json.loads(json.dumps(extra)))
    directory = checkpoint.new_directory(tmp_path / STATE_FOLDER, saved[0][0])
    for rank in (1, 0):
        step, tensors, optimizer, extra = saved[rank]
        options: dict[str, Any] = {"rank": rank, "world_size": 2, "directory": directory}
        checkpoint.save(tmp_path / STATE_FOLDER, step, tensors, optimizer=optimizer, extra=extra, **options)
    monkeypatch.undo()
    assert alike(run(data, out=tmp_path, resume=True), expected)
