"""A small run of both phases, and how to see whether two ended alike."""

from __future__ import annotations

from typing import Any

import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.training import FitResult, TrainConfig, fit

CONFIG = TrainConfig(
    epochs=4,
    eval_every=2,
    patience=0,
    batch_size=30,
    target_fraction=0.5,
    ema=0.9,
    refit=True,
    checkpoint_every=1,
    device="cpu",
)


def make_data() -> MultiModalHeteroData:
    relations = {
        "rates": SyntheticRelation(("user", "item"), 120),
        "tags": SyntheticRelation(("user", "item", "tag"), 80, valued=False),
    }
    return SyntheticMultiModal({"user": 15, "item": 12, "tag": 5}, relations, num_features=4)[0]


def make_model(data: MultiModalHeteroData, **options: Any) -> HyperLearn:
    torch.manual_seed(0)
    options = {"hidden": 6, "feature_hidden": 4, "num_negatives": 5, "dropout": 0.2, **options}
    return HyperLearn.from_data(data, 3, "ratings", **options)


def run(data: MultiModalHeteroData, config: TrainConfig = CONFIG, **kwargs: Any) -> tuple[HyperLearn, FitResult]:
    model = make_model(data)
    return model, fit(model, data, config, progress=False, **kwargs)


def rows(result: FitResult) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def alike(one: tuple[HyperLearn, FitResult], other: tuple[HyperLearn, FitResult]) -> bool:
    """Tell whether two runs ended with the same bits and reported the same."""
    states = one[0].state_dict(), other[0].state_dict()
    same = all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    reports = [(rows(result), result.best_epoch, result.validation) for _, result in (one, other)]
    return same and reports[0] == reports[1]
