"""Training replicas of a whole model: alike on all ranks when evaluated, resumable, no change in one process."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlearn_pyg.distributed import ModalityParallel
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training import TrainConfig, fit
from hyperlearn_pyg.training.parallel import Alone
from hyperlearn_pyg.training.replicas import Replicas
from hyperlearn_pyg.training.spread import parallel_of

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("runs.py"))))
LOADED = {"preload": ("hyperlearn_pyg.datasets", "hyperlearn_pyg.training")}
STRATEGIES = ("co-learning", "gradient-push")


def config_of(strategy: str) -> TrainConfig:
    return runs.CONFIG.replace(epochs=6, strategy=strategy)  # type: ignore[no-any-return]


def train(rank: int, world_size: int, folder: str) -> dict[str, Any]:
    data, out = runs.make_data(), {}
    for strategy in STRATEGIES:
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
    for strategy in STRATEGIES:
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


def test_two_replicas_are_alike(ranks: Any, tmp_path: Path) -> None:
    check(ranks.run(train, 2, str(tmp_path), **LOADED))


@pytest.mark.slow
def test_four_replicas_are_alike(ranks: Any, tmp_path: Path) -> None:
    check(ranks.run(train, 4, str(tmp_path), **LOADED))


def shares(rank: int, world_size: int) -> tuple[list[list[int]], list[list[int]]]:
    replicas = Replicas(torch.nn.Linear(1, 1), torch.device("cpu"), config_of("co-learning"))
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
    with pytest.raises(InputError, match="replicas of a whole model, and this one is spread"):
        fit(ModalityParallel(runs.make_model(data)), data, config_of("co-learning"), progress=False)
