"""Training replicas, or parts, of a whole model: alike where they meet, resumable to the last bit, movable."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlearn_pyg.distributed import ModalityParallel, checkpoint
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training import FitResult, TrainConfig, fit
from hyperlearn_pyg.training.config import STRATEGIES
from hyperlearn_pyg.training.parallel import Alone
from hyperlearn_pyg.training.parts import check_strategy
from hyperlearn_pyg.training.replicas import Averaged
from hyperlearn_pyg.training.spread import parallel_of
from hyperlearn_pyg.training.state import STATE_FOLDER

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("runs.py"))))
LOADED = {"preload": ("hyperlearn_pyg.datasets", "hyperlearn_pyg.training")}
ALIKE = ("co-learning", "gradient-push")


def config_of(strategy: str) -> TrainConfig:
    return runs.CONFIG.replace(epochs=6, strategy=strategy)  # type: ignore[no-any-return]


def train(rank: int, world_size: int, folder: str) -> dict[str, Any]:
    data, out = runs.make_data(), {}
    for strategy in ALIKE:
        where = Path(folder) / strategy
        model, result = runs.run(data, config_of(strategy), out=where)
        again, _ = runs.run(data, config_of(strategy), out=where, resume=True)
        out[strategy] = {
            "state": model.state_dict(),
            "again": again.state_dict(),
            "validated": [row["epoch"] for row in result.history if "val_rmse" in row],
            "losses": [row["loss"] for row in result.history],
            "best": result.best_epoch,
        }
    return out


def check(found: list[dict[str, Any]]) -> None:
    for strategy in ALIKE:
        first = found[0][strategy]
        for entry in (outcome[strategy] for outcome in found):
            for name, value in entry["state"].items():
                assert torch.equal(value, first["state"][name]), name
                assert torch.equal(entry["again"][name], value), name  # of a training that had ended
            assert entry["validated"] == first["validated"]
            assert entry["best"] == first["best"] > 0
        assert first["losses"] != found[1][strategy]["losses"]  # each had its own targets
    assert found[0]["gradient-push"]["validated"] == [1, 2, 3, 4, 5, 6]  # wherever a state is saved
    assert found[0]["co-learning"]["validated"][-1] == 6


@pytest.mark.slow
def test_two_replicas_are_alike(ranks: Any, tmp_path: Path) -> None:
    check(ranks.run(train, 2, str(tmp_path), **LOADED))


@pytest.mark.slow
def test_four_replicas_are_alike(ranks: Any, tmp_path: Path) -> None:
    check(ranks.run(train, 4, str(tmp_path), **LOADED))


class StoppedError(Exception):
    """The training is to end here."""


def trained(strategy: str | None, out: Path | None = None, stop: int = 0, **options: Any) -> tuple[Any, FitResult]:
    """Train from the same start; end by an exception after so many epochs of this call, where ``stop`` is given."""
    left = [stop]

    def callback(result: FitResult) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise StoppedError

    data = runs.make_data()
    model = runs.make_model(data, encoder="residual" if strategy == "resist" else "relation", blocks=3)
    config = runs.CONFIG.replace(strategy=strategy)
    return model, fit(model, data, config, progress=False, out=out, callback=callback, **options)


def stop_and_go_on(rank: int, world_size: int, folder: str, strategies: tuple[str, ...]) -> dict[str, Any]:
    out = {}
    for strategy in strategies:
        whole, result = trained(strategy)
        places = (3,) if strategy == "gist" else (1, 3, 5)  # in both phases
        for stop in places:
            where = Path(folder, f"{strategy} {stop}")
            with pytest.raises(StoppedError):
                trained(strategy, where, stop)
            again, _ = trained(strategy, where, resume=True)
            assert all(torch.equal(again.state_dict()[name], value) for name, value in whole.state_dict().items())
        out[strategy] = {"state": whole.state_dict(), "best": result.best_epoch, "loss": result.history[0]["loss"]}
    return out


def check_ends(found: list[dict[str, Any]], strategies: tuple[str, ...]) -> None:
    first, second = found[:2]
    for strategy in strategies:
        one, two = first[strategy], second[strategy]
        same = [torch.equal(one["state"][name], value) for name, value in two["state"].items()]
        assert all(same) == (strategy != "codistillation")
        assert one["best"] == two["best"] > 0
        assert one["loss"] != two["loss"]  # each has its own targets


@pytest.mark.slow
def test_parts_that_stop_and_go_on_end_as_without(ranks: Any, tmp_path: Path) -> None:
    check_ends(ranks.run(stop_and_go_on, 2, str(tmp_path), ("gist",), **LOADED), ("gist",))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_replicas_that_stop_and_go_on_end_as_without(ranks: Any, tmp_path: Path, strategy: str) -> None:
    check_ends(ranks.run(stop_and_go_on, 2, str(tmp_path), (strategy,), limit=240.0, **LOADED), (strategy,))


def move(rank: int, world_size: int, folder: str) -> tuple[list[int], dict[str, Tensor]]:
    """Train one epoch by each strategy, every time from where the one before ended; then to the end."""
    for number, strategy in enumerate(("co-learning", "codistillation", "gist", "gradient-push")):
        with pytest.raises(StoppedError):
            trained(strategy, Path(folder), 1, resume=number > 0)
    model, result = trained("codistillation", Path(folder), resume=True)
    return [row["epoch"] for row in result.history], model.state_dict()


@pytest.mark.slow
def test_a_checkpoint_moves_between_strategies_and_to_plain_training(ranks: Any, tmp_path: Path) -> None:
    (epochs, state), (_, other) = ranks.run(move, 2, str(tmp_path), limit=240.0, **LOADED)
    assert epochs[:4] == [1, 2, 3, 4]
    assert any(not torch.equal(state[name], value) for name, value in other.items())
    last = checkpoint.load_latest(tmp_path / STATE_FOLDER)
    assert last is not None
    assert any(name.startswith("replica.1.") for name in last.tensors)
    plain, result = trained(None, tmp_path, resume=True)  # one process: what the first replica ended with
    assert [row["epoch"] for row in result.history] == epochs
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())


def shares(rank: int, world_size: int) -> tuple[list[list[int]], list[list[int]]]:
    replicas = Averaged(torch.nn.Linear(1, 1), torch.device("cpu"), config_of("co-learning"))
    index = torch.zeros(2, 5, dtype=torch.long)
    inputs = SimpleNamespace(tuples={"r": Tuples(index)})
    batches = [{"r": torch.tensor([4, 2, 0])}, None]
    given, whole = (batch["r"].tolist() for batch in replicas.own(batches, inputs))
    return given, whole


class Tuples:
    def __init__(self, index: Tensor) -> None:
        self.index = index

    def __len__(self) -> int:
        return self.index.size(1)


def test_targets_are_dealt_without_rest(ranks: Any) -> None:
    found = ranks.run(shares, 2, **LOADED)
    assert found == [([4, 0], [0, 2, 4]), ([2], [1, 3])]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_in_one_process_nothing_changes(strategy: str) -> None:
    data = runs.make_data()
    assert isinstance(parallel_of(runs.make_model(data), config_of(strategy)), Alone)
    assert runs.alike(runs.run(data, config_of(strategy)), runs.run(data, config_of(strategy).replace(strategy=None)))


def test_what_is_refused() -> None:
    data = runs.make_data()
    with pytest.raises(InputError, match=r"expected one of .*'gradient-push'.* Did you mean 'co-learning'"):
        TrainConfig(strategy="colearning")
    assert TrainConfig(strategy="none").strategy is None
    with pytest.raises(InputError, match="the encoder of 'user', a EmbeddingEncoder, has no hidden channels"):
        check_strategy(runs.make_model(data, encoder="embedding"), config_of("gist"))
    with pytest.raises(InputError, match=r"RelationEncoder, has no residual blocks .* choose model.encoder 'residual'"):
        check_strategy(runs.make_model(data), config_of("resist"))
    with pytest.raises(InputError, match="replicas of a whole model, and this one is spread"):
        fit(ModalityParallel(runs.make_model(data)), data, config_of("co-learning"), progress=False)
