from __future__ import annotations

from typing import Any

import pytest

from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training import TrainConfig


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"epoch": 3}, r"train\.epoch is unknown\. Did you mean 'epochs'\? Known: .*batch_size"),
        ({"epochs": "3"}, r"train\.epochs: expected int \(got '3'\)"),
        ({"refit": 1}, r"train\.refit: expected bool \(got 1\)"),
        ({"batch_size": 1.5}, r"train\.batch_size: expected int \| None"),
        ({"epochs": -1}, r"train\.epochs: expected a whole number of at least 0 \(got -1\)"),
        ({"eval_every": 0}, r"train\.eval_every: .* at least 1"),
        ({"seed": -1}, r"train\.seed"),
        ({"batch_size": 0}, r"train\.batch_size: expected at least 1, or nothing for a full batch"),
        ({"lr": 0}, r"train\.lr: expected a positive number \(got 0\)"),
        ({"lr": float("nan")}, r"train\.lr: expected a positive number \(got nan\)"),
        ({"clip_norm": -1.0}, r"train\.clip_norm: expected a number of at least 0"),
        ({"weight_decay": -1.0}, r"train\.weight_decay"),
        ({"target_fraction": 0}, r"train\.target_fraction: expected a number in \(0, 1\]"),
        ({"ema": 1}, r"train\.ema: expected a number in \[0, 1\) \(got 1\)"),
        ({"val_fraction": 1}, r"train\.val_fraction"),
        ({"val_kind": "times"}, r"train\.val_kind: expected one of \['tuple', .*Did you mean 'time'\?"),
        ({"amp": "yes"}, r"train\.amp: expected 'auto', 'on' or 'off' \(got 'yes'\)"),
        ({"schedule": "step"}, r"train\.schedule: expected 'constant', 'linear' or 'cosine'"),
    ],
)
def test_errors(values: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        TrainConfig.from_dict(values)


def test_there_and_back() -> None:
    config = TrainConfig(epochs=3, lr=1, batch_size=None)
    assert TrainConfig.from_dict(config.to_dict()) == config != TrainConfig()
    assert config.replace(epochs=4).epochs == 4
    assert TrainConfig.from_preset("custom", epochs=2) == TrainConfig(epochs=2)
