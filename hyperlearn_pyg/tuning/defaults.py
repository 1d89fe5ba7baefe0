from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hyperlearn_pyg.nn import ModelConfig
from hyperlearn_pyg.training import TrainConfig
from hyperlearn_pyg.tuning.space import Choice, Range, Space

#: Encoders with hidden units, and losses that draw candidates.
_HIDDEN = ("diffusion", "relation", "hypergraph_conv", "residual")
_SAMPLED = ("logistic", "softmax", "in_batch_softmax")


def default_space(model: ModelConfig, train: TrainConfig, has_value: Iterable[bool]) -> Space:
    """Return the space around two configs: the settings that their encoder, decoder and losses read.

    Learning rate and rank go from a quarter to four times what they are. What else is searched, where it is read:
    weights of the penalties (L2, N3, tables, smoothness) on a scale of logarithms, dropout, number of negatives, the
    counts of pairs, the weight of unobserved cells, batch size and share of targets where the trainer has them.

    Args:
        model: settings of the model.
        train: settings of the trainer.
        has_value: for each relation whether it has values.
    """
    valued = list(has_value)
    links, levels = not all(valued), any(valued) and model.value_loss in ("cross_entropy", "expected_level")
    entries: dict[str, Range | Choice] = {"model.rank": _times(model.rank, 4)}
    entries |= _encoder(model)
    if links or levels:
        entries["model.l2"] = Range(1e-4, 1e-1, log=True)
        if model.n3:
            entries["model.n3"] = _times(model.n3, 10)
    if links:
        entries |= _links(model)
    if model.smoothness:
        entries["model.smoothness"] = _times(model.smoothness, 30)
    return Space({**entries, **_training(train)})


def _encoder(model: ModelConfig) -> dict[str, Range | Choice]:
    out: dict[str, Range | Choice] = {}
    if model.encoder in _HIDDEN:
        out["model.hidden"] = _times(model.hidden, 2)
    if model.encoder in ("relation", "hypergraph_conv"):
        out["model.dropout"] = Range(0.0, 0.7)
        out["model.node_dropout"] = Range(0.0, 0.4)
    if model.encoder == "residual":
        out["model.dropout"] = Range(0.0, 0.7)
    if model.encoder == "relation":
        out["model.table_l2"] = _times(model.table_l2 or 1.0, 10)
    return out


def _links(model: ModelConfig) -> dict[str, Range | Choice]:
    if model.link_loss == "all_cells":
        return {"model.unobserved": _times(model.unobserved, 10)}
    out: dict[str, Range | Choice] = {"model.pair_counts": Choice((False, True))}
    if model.link_loss in _SAMPLED:
        out["model.num_negatives"] = _times(model.num_negatives, 4)
    if not model.decoder.startswith("pairwise"):
        out["model.context_dropout"] = Range(0.0, 0.6)
    return out


def _training(train: TrainConfig) -> dict[str, Range | Choice]:
    out: dict[str, Range | Choice] = {"train.lr": _times(train.lr, 4)}
    if train.batch_size is not None:
        out["train.batch_size"] = _times(train.batch_size, 4)
    if train.target_fraction < 1:
        out["train.target_fraction"] = Range(0.1, 0.9)
    return out


def _times(value: Any, factor: int) -> Range:
    """Return the range from a part of a positive value to a multiple of it."""
    if isinstance(value, int):
        return Range(max(1, value // factor), value * factor, log=True, whole=True)
    return Range(value / factor, value * factor, log=True)
