from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg_nn

from hyperlearn_pyg import HypergraphConv, HyperLearn, MultiModalHeteroData
from hyperlearn_pyg._optional import available
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training import FitResult, TrainConfig, evaluate, fit
from hyperlearn_pyg.training.parallel import pick_device
from hyperlearn_pyg.training.progress import Interrupt
from hyperlearn_pyg.training.state import STATE_FOLDER

BASE: dict[str, Any] = {"epochs": 6, "eval_every": 2, "patience": 0, "lr": 1e-2, "checkpoint_every": 100}


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_data(seed: int = 0) -> MultiModalHeteroData:
    relations = {
        "rates": SyntheticRelation(("user", "item"), 120),
        "tags": SyntheticRelation(("user", "item", "tag"), 80, valued=False),
    }
    data = SyntheticMultiModal({"user": 15, "item": 12, "tag": 5}, relations, num_features=4, seed=seed)[0]
    dtype = torch.get_default_dtype()
    return data.apply(lambda t: t.to(dtype) if t.is_floating_point() else t)


def make_model(data: MultiModalHeteroData, preset: str = "ratings", seed: int = 0, **options: Any) -> HyperLearn:
    torch.manual_seed(seed)
    options = {"hidden": 6, "feature_hidden": 4, "num_negatives": 5, "node_dropout": 0.1, **options}
    return HyperLearn.from_data(data, 3, preset, dropout=0.2, **options)


def run(data: MultiModalHeteroData, config: TrainConfig, **kwargs: Any) -> tuple[HyperLearn, FitResult]:
    model = make_model(data)
    return model, fit(model, data, config, progress=False, **kwargs)


def rows(result: FitResult) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def equal(a: HyperLearn, b: HyperLearn) -> bool:
    states = a.state_dict(), b.state_dict()
    return all(torch.equal(states[0][k], states[1][k]) for k in states[0])


class StopAfter:
    """Stands for Interrupt.requested: true once a number of optimizer steps was taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps, self.limit = 0, math.inf
        step = torch.optim.Adam.step

        def counted(optimizer: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            return step(optimizer, *args, **kwargs)

        monkeypatch.setattr(torch.optim.Adam, "step", counted)
        stop = self

        class Asked(Interrupt):
            requested = property(lambda _: stop.steps >= stop.limit, lambda *_: None)  # type: ignore[assignment]

        monkeypatch.setitem(fit.__globals__, "Interrupt", Asked)


@pytest.mark.parametrize("batch_size", [None, 25])
@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("target_fraction", [0.5, 1.0])
def test_a_resumed_run_is_bit_equal_wherever_it_stopped(
    double: None,
    batch_size: int | None,
    ema: float,
    target_fraction: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, stop = make_data(), StopAfter(monkeypatch)
    config = TrainConfig(
        **BASE, batch_size=batch_size, ema=ema, target_fraction=target_fraction, refit=True, schedule="cosine"
    )
    whole, expected = run(data, config)
    assert not expected.interrupted
    assert {row["phase"] for row in expected.history} == {"select", "refit"}
    total, select = stop.steps, stop.steps * config.epochs // len(expected.history)
    points = sorted({1, select // 2, select - 1, select, select + 1, total - 1, total})
    for point in points:
        out = tmp_path / str(point)
        stop.steps, stop.limit = 0, point
        _, part = run(data, config, out=out)
        assert (part.interrupted, stop.steps) == (True, point)  # it was really stopped, and there
        stop.limit = math.inf
        model, result = run(data, config, out=out, resume=True)
        assert stop.steps == total
        assert not result.interrupted
        assert rows(result) == rows(expected)
        assert (result.best_epoch, result.validation) == (expected.best_epoch, expected.validation)
        assert equal(model, whole)


def test_ctrl_c_after_the_last_step_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    model = make_model(data)
    monkeypatch.setattr(model, "eval", lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit(model, data, epochs=0, refit=False, progress=False)


@pytest.mark.parametrize("preset", ["paper", "links"])
def test_other_presets_resume_too(double: None, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, stop, config = make_data(), StopAfter(monkeypatch), TrainConfig(**BASE, refit=True)
    whole = make_model(data, preset)
    expected = fit(whole, data, config, progress=False)
    stop.steps, stop.limit = 0, 3
    fit(make_model(data, preset), data, config, out=tmp_path, progress=False)
    stop.limit = math.inf
    model = make_model(data, preset, seed=5)  # whatever it was started from
    assert rows(fit(model, data, config, out=tmp_path, resume=True, progress=False)) == rows(expected)
    assert equal(model, whole)


def test_resuming_from_a_checkpoint_and_from_the_end(double: None, tmp_path: Path) -> None:
    data, config = make_data(), TrainConfig(**{**BASE, "checkpoint_every": 4})
    model, result = run(data, config, out=tmp_path)
    kept = checkpoint.committed(tmp_path / STATE_FOLDER)
    assert [checkpoint.load(path).extra["position"]["epoch"] for path in kept] == [6, 4]
    again, same = run(data, config, out=tmp_path, resume=True)
    assert rows(same) == rows(result)
    assert equal(model, again)


def test_the_same_seed_gives_the_same_run_and_another_one_does_not() -> None:
    data, config = make_data(), TrainConfig(**BASE, target_fraction=0.5)
    runs = [run(data, config.replace(seed=seed)) for seed in (0, 0, 1)]
    assert rows(runs[0][1]) == rows(runs[1][1]) != rows(runs[2][1])
    assert equal(runs[0][0], runs[1][0])


def test_the_global_random_state_is_left_alone() -> None:
    data = make_data()
    model = make_model(data)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    fit(model, data, TrainConfig(**BASE), progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_history_and_validation() -> None:
    data = make_data()
    model, result = run(data, TrainConfig(**BASE))
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    evaluated = [row["epoch"] for row in result.history if "val_rmse" in row]
    assert evaluated == [2, 4, 6]
    assert {"val_rates_rmse", "val_tags_auc"} <= result.history[1].keys()
    assert result.best_epoch in evaluated
    assert result.seconds > result.seconds_per_step > 0
    assert not model.training
    best = evaluate(model, data, "val", ranking_tuples=0)  # the state that is kept is the best one
    assert best["rmse"] == pytest.approx(result.validation["rmse"])


def test_training_lowers_the_loss() -> None:
    _, result = run(make_data(), TrainConfig(**{**BASE, "epochs": 40}))
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_early_stopping(ema: float) -> None:
    config = TrainConfig(**{**BASE, "epochs": 60, "eval_every": 1, "patience": 3, "lr": 0.5}, ema=ema)
    model, result = run(make_data(), config)
    last = result.history[-1]["epoch"]
    assert last < 60
    assert last == result.best_epoch + 3
    assert evaluate(model, make_data(), "val", ranking_tuples=0)["rmse"] == pytest.approx(result.validation["rmse"])


def test_refit_trains_for_the_chosen_epochs_on_validation_entries_too() -> None:
    data, config = make_data(), TrainConfig(**BASE, refit=True)
    _, result = run(data, config)
    refit = [row for row in result.history if row["phase"] == "refit"]
    assert len(refit) == result.best_epoch
    assert not any(key.startswith("val") for row in refit for key in row)
    known = {}
    prepare = HyperLearn.prepare

    def spy(self: HyperLearn, data: MultiModalHeteroData, splits: Any = ("train", "val")) -> Any:
        inputs = prepare(self, data, splits)
        known[tuple(splits)] = len(inputs.tuples["rates"])
        return inputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HyperLearn, "prepare", spy)
        run(data, config)
    masks = data["rates"]
    assert known[("train",)] == masks.train_mask.sum()
    assert known[("train", "val")] == (masks.train_mask | masks.val_mask).sum()


@pytest.mark.parametrize("given", [False, True])
def test_neither_start_nor_training_sees_a_hidden_entry(given: bool) -> None:
    data, other = make_data(), make_data()
    for d in (data, other):
        if not given:
            for name in d.hyperedge_types:
                d[name].train_mask |= d[name].val_mask
                del d[name].val_mask
    config = TrainConfig(**BASE)
    for name, hidden in {"rates": other["rates"].test_mask, "tags": other["tags"].test_mask}.items():
        for m in other.relation(name).modalities:
            items = other[m, "member", name].edge_index[0]
            items[hidden] = items[hidden].flip(0)
        if "value" in other[name]:
            other[name].value[hidden] = 50 - other[name].value[hidden].flip(0)
    runs = [run(d, config) for d in (data, other)]
    assert rows(runs[0][1]) == rows(runs[1][1])  # nor does the choice of the epoch
    assert equal(runs[0][0], runs[1][0])


def test_validation_values_change_the_choice_alone() -> None:
    data, other = make_data(), make_data()
    hidden = other["rates"].val_mask
    other["rates"].value[hidden] = other["rates"].value[hidden].flip(0) + 5
    losses = [[row["loss"] for row in run(d, TrainConfig(**BASE))[1].history] for d in (data, other)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("refit", [False, True])
def test_without_validation_entries_the_last_epoch_is_kept(refit: bool) -> None:
    data = make_data()
    for name in data.hyperedge_types:
        del data[name].val_mask
    config = TrainConfig(**BASE, val_fraction=0.0, refit=refit, ema=0.5)
    _, result = run(data, config)
    assert (result.best_epoch, result.validation) == (6, {})
    assert [row["phase"] for row in result.history] == ["select"] * 6


def test_the_callback_sees_every_epoch_and_ends_the_training() -> None:
    seen: list[tuple[str, int, float]] = []

    def look(result: FitResult) -> None:
        seen.append((result.history[-1]["phase"], result.history[-1]["epoch"], result.score))

    data, config = make_data(), TrainConfig(**{**BASE, "eval_every": 2, "epochs": 4}, refit=True)
    _, result = run(data, config, callback=look)
    assert [row[:2] for row in seen] == [(row["phase"], row["epoch"]) for row in result.history]
    assert {row[0] for row in seen} == {"select", "refit"}
    assert seen[0][2] == math.inf  # not evaluated yet
    assert seen[-1][2] == result.score == min(row[2] for row in seen)
    seen.clear()

    def stop(result: FitResult) -> None:
        look(result)
        if len(seen) == 3:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        run(data, config, callback=stop)
    assert len(seen) == 3


def test_no_epochs(tmp_path: Path) -> None:
    data = make_data()
    model, result = run(data, TrainConfig(**{**BASE, "epochs": 0}, refit=True, ema=0.9), out=tmp_path)
    assert (result.history, result.best_epoch, result.seconds_per_step) == ([], 0, 0.0)
    fresh = make_model(data)
    fresh.start(data)
    assert equal(model, fresh)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("preset", ["paper", "ratings", "links"])
@pytest.mark.parametrize("value", [False, True])
def test_relations_of_few_entries(count: int, preset: str, value: bool) -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=2).add_modality("b", num_nodes=1)
    index = torch.stack([torch.arange(count) % 2, torch.zeros(count, dtype=torch.long)])
    attrs = {"value": torch.arange(count).float()} if value else {}
    data.add_hyperedges("r", index, modalities=("a", "b"), num_hyperedges=count, **attrs)
    model = HyperLearn.from_data(data, 2, preset)
    config = TrainConfig.from_preset(preset, epochs=2, eval_every=1, val_fraction=0.5)
    assert all(math.isfinite(row["loss"]) for row in fit(model, data, config, progress=False).history)


def test_weights_count() -> None:
    data, doubled = make_data(), make_data()
    keep = data["rates"].train_mask.clone()
    data["rates"].weight = torch.ones(120)
    data["rates"].weight[:60] = 0.0
    model = make_model(data, "links")
    inputs = model.prepare(data, ("train",))
    zero = (data["rates"].weight[keep] == 0).nonzero().squeeze(1)
    doubled["rates"].weight = data["rates"].weight
    doubled["rates"].value[:60] += 100
    factors = model(inputs)
    losses = [
        model.loss(model.prepare(d, ("train",)), factors=factors, generator=torch.Generator().manual_seed(0)).item()
        for d in (data, doubled)
    ]
    assert len(zero) > 0
    assert losses[0] == losses[1]


def test_encoders_of_ones_own() -> None:
    data = make_data()
    encoders = {
        "user": pyg_nn.GraphSAGE(4, 8, 2, 3, dropout=0.2),
        "item": HypergraphConv(4, 3),
        "tag": pyg_nn.MLP([4, 3]),
    }
    torch.manual_seed(0)
    model = HyperLearn.from_data(data, 3, "ratings", encoders=encoders)
    result = fit(model, data, TrainConfig(**{**BASE, "epochs": 20}, target_fraction=0.5, refit=True), progress=False)
    losses = [row["loss"] for row in result.history if row["phase"] == "select"]
    assert losses[-1] < losses[0]


def test_options_of_the_step() -> None:
    data = make_data()
    base = run(data, TrainConfig(**BASE))[0]
    for change in ({"clip_norm": 1e-3, "lr": 1e-2}, {"weight_decay": 0.5}, {"schedule": "linear"}, {"amp": "on"}):
        assert not equal(base, run(data, TrainConfig(**{**BASE, **change}))[0])


def test_overrides_and_the_presets_settings() -> None:
    data = make_data()
    result = fit(make_model(data), data, progress=False, epochs=2)
    assert len([row for row in result.history if row["phase"] == "select"]) == 2
    with pytest.raises(InputError, match="Did you mean 'epochs'"):
        fit(make_model(data), data, progress=False, epoch=2)


def test_the_data_object_is_left_as_it_was() -> None:
    data = make_data()
    del data["rates"].val_mask
    before = {name: set(data[name].keys()) for name in data.node_types}
    run(data, TrainConfig(**BASE))
    assert {name: set(data[name].keys()) for name in data.node_types} == before


@pytest.mark.skipif(not available("tensorboard"), reason="tensorboard is not installed")
def test_tensorboard(tmp_path: Path) -> None:
    run(make_data(), TrainConfig(**BASE), out=tmp_path / "new", tensorboard=True)
    assert list((tmp_path / "new").glob("events.out.tfevents*"))


class TestErrors:
    def test_tensorboard_needs_a_directory(self) -> None:
        with pytest.raises(InputError, match="'tensorboard' needs 'out'"):
            run(make_data(), TrainConfig(**BASE), tensorboard=True)

    def test_nothing_to_resume(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"nothing to resume: .* holds no training state"):
            run(make_data(), TrainConfig(**BASE), out=tmp_path / "none", resume=True)
        assert not (tmp_path / "none").exists()
        with pytest.raises(InputError, match="nothing to resume"):
            run(make_data(), TrainConfig(**BASE), resume=True)

    def test_other_settings_or_another_model(self, tmp_path: Path) -> None:
        data, config = make_data(), TrainConfig(**BASE)
        run(data, config, out=tmp_path)
        with pytest.raises(InputError, match=r"made with lr=0\.01 \(now 0\.5\): resume with the same settings"):
            run(data, config.replace(lr=0.5), out=tmp_path, resume=True)
        with pytest.raises(InputError, match=r"hidden=6 \(now 7\)"):
            fit(make_model(data, hidden=7), data, config, out=tmp_path, resume=True, progress=False)
        larger = make_data()
        larger["tag"].num_nodes, larger["tag"].x = 6, torch.ones(6, 4)
        for name in ("item_id", "item_name", "item_label"):
            larger["tag"][name] = [f"{name}{i}" for i in range(6)]
        with pytest.raises(InputError, match="that of another model"):
            run(larger, config, out=tmp_path, resume=True)
        run(data, config.replace(checkpoint_every=3), out=tmp_path, resume=True)  # this may change

    def test_a_loss_that_is_not_finite(self) -> None:
        data = make_data()
        data["user"].x[0] = 1e30
        with pytest.raises(InputError, match=r"the loss became (inf|nan) in epoch 1: lower train\.lr"):
            run(data, TrainConfig(**BASE))

    def test_devices(self) -> None:
        assert pick_device("cpu").type == "cpu"
        assert pick_device("auto").type in ("cpu", "cuda")
        with pytest.raises(InputError, match=r"train\.device"):
            pick_device("gpu")
        if not torch.cuda.is_available():
            with pytest.raises(InputError, match="is not to be had here"):
                pick_device("cuda")
