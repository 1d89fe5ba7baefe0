from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.nn.models.config import ModelConfig

#: The method as printed: no biases, no features, smoothness on the factors, every cell of 0/1 relations counted.
_PAPER_MODEL: dict[str, Any] = {
    "rank": 10,
    "encoder": "diffusion",
    "decoder": "cp",
    "bias": False,
    "features": False,
    "value_loss": "squared",
    "link_loss": "all_cells",
    "smoothness": 2e-4,
    "hidden": 32,
}
_PAPER_TRAINING: dict[str, Any] = {
    "epochs": 500,
    "lr": 1e-2,
    "schedule": "cosine",
    "clip_norm": 1.0,
    "eval_every": 25,
    "patience": 8,
    "refit": True,
}

#: Measured best on validation where some relation has values (ratings).
_RATINGS_MODEL: dict[str, Any] = {
    "rank": 32,
    "encoder": "relation",
    "decoder": "cp",
    "hidden": 100,
    "feature_hidden": 64,
    "dropout": 0.4,
    "node_dropout": 0.1,
    "table_l2": 3.0,
}
_RATINGS_TRAINING: dict[str, Any] = {
    "epochs": 450,
    "lr": 5e-3,
    "schedule": "linear",
    "target_fraction": 0.5,
    "ema": 0.99,
    "eval_every": 25,
    "patience": 6,
    "refit": True,
}

#: Measured best on validation where every relation is 0/1 (links).
_LINKS_MODEL: dict[str, Any] = {
    "rank": 32,
    "encoder": "embedding",
    "decoder": "pairwise_cp",
    "num_negatives": 100,
    "negatives": "seen",
    "l2": 1e-2,
}
_LINKS_TRAINING: dict[str, Any] = {
    "epochs": 24,
    "lr": 1e-2,
    "batch_size": 256,
    "eval_every": 2,
    "patience": 4,
    "refit": True,
}

_PRESETS = {
    "paper": (_PAPER_MODEL, _PAPER_TRAINING),
    "ratings": (_RATINGS_MODEL, _RATINGS_TRAINING),
    "links": (_LINKS_MODEL, _LINKS_TRAINING),
}
PRESETS = ("default", *_PRESETS)


def resolve_preset(preset: str, has_value: Iterable[bool]) -> str:
    """Return the preset that ``"default"`` stands for: ``"ratings"`` where some relation has values, or ``"links"``.

    Raises:
        InputError: unknown preset.
    """
    if preset not in PRESETS:
        raise InputError(f"'preset' must be one of {list(PRESETS)} (got {preset!r}).{did_you_mean(preset, PRESETS)}")
    if preset != "default":
        return preset
    return "ratings" if any(has_value) else "links"


def model_config(preset: str, **overrides: Any) -> ModelConfig:
    """Return the model's half of a resolved preset, with some values changed."""
    return ModelConfig(preset=preset, **_PRESETS[preset][0]).replace(**overrides)


def training_values(preset: str) -> dict[str, Any]:
    """Return the trainer's half of a resolved preset (values of ``TrainConfig``); empty for ``"custom"``.

    Raises:
        InputError: unknown preset, or ``"default"``, which means one thing or another by the data.
    """
    if preset == "custom":
        return {}
    if preset not in _PRESETS:
        known = sorted(_PRESETS)
        raise InputError(
            f"no training values for the preset {preset!r}: expected one of {known}, as 'model.config.preset' says."
            + did_you_mean(preset, known)
        )
    return dict(_PRESETS[preset][1])
