"""Artworks: who made this, and when? OmniArt's museums and the Tate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch.nn import Module

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import OmniArtMuseum, Tate
from hyperlearn_pyg.experiments.experiment import Experiment, Row, Target
from hyperlearn_pyg.experiments.measures import Attribution
from hyperlearn_pyg.experiments.sources import read_raw
from hyperlearn_pyg.experiments.words import WORDS, WordBayes, WordEncoder, word_weights
from hyperlearn_pyg.transforms import RandomRelationSplit

_MODEL: dict[str, Any] = {
    "rank": 64,
    "decoder": "pairwise",
    "link_loss": "softmax",
    "num_negatives": 500,
    "dropout": 0.3,
    "l2": 1e-2,
}
_TRAIN: dict[str, Any] = {
    "lr": 5e-3,
    "batch_size": 512,
    "epochs": 40,
    "eval_every": 4,
    "patience": 2,
    "val_metric": "mrr",
    "refit": True,
}
_SLOTS = ("artwork", "artist", "school", "class", "century")


def _omniart(base: Path) -> MultiModalHeteroData:
    data = read_raw(base, "omniart", partial(OmniArtMuseum, slots=_SLOTS, min_works=10))
    data["artwork"][WORDS] = list(data["artwork"].item_name)
    return data


def _tate(base: Path) -> MultiModalHeteroData:
    """Read the Tate without Turner; the words of an artwork are those of its title, and its subjects."""
    data = read_raw(base, "tate", partial(Tate, turner=False))
    words = [str(title) for title in data["artwork"].item_name]
    for artwork, subject in data.relation("depicts").index.t().tolist():
        words[artwork] += f" subject{subject}"
    data["artwork"][WORDS] = words
    data.remove_hyperedges("depicts")
    data.remove_modality("subject")
    for modality in ("artwork", "artist"):  # sizes and years of birth are left out of this task
        del data[modality].x
    return data


def _split(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    split = RandomRelationSplit("made", val=0.08, test=0.2, seed=seed, by="item", modality="artwork")
    out: MultiModalHeteroData = split(data)
    return out


def _encoders(data: MultiModalHeteroData, rank: int) -> dict[str, Module]:
    return {"artwork": WordEncoder(word_weights(data, "artwork", "made", 0), rank, dropout=_MODEL["dropout"])}


def _row(name: str, **model: Any) -> Row:
    return Row(name=name, model={**_MODEL, **model}, train=_TRAIN, encoders=_encoders)


_SPLIT = "by artwork and seed: a fifth for the test, a twelfth for validation; refit on all but the test"


def _attribution(slot: str, given: tuple[str, ...], prefix: str = "") -> tuple[Attribution, WordBayes]:
    told = ("artwork", *given)
    return Attribution("made", slot, told, prefix=prefix), WordBayes("made", slot, given, prefix=prefix)


EXPERIMENTS = (
    Experiment(
        name="omniart",
        title="OmniArt: the artist, given school, century, type and title words",
        load=_omniart,
        split=_split,
        split_note=_SPLIT,
        rows=(_row("pairs and biases"), _row("pairs and counts", pair_counts=True), _row("CP", decoder="cp")),
        measures=(
            *_attribution("artist", ("school", "class", "century")),
            *_attribution("century", ("artist", "school", "class"), "century "),
            *_attribution("class", ("artist", "school", "century"), "class "),
        ),
        metrics=("accuracy@1", "accuracy@5", "mrr", "century accuracy@1", "class accuracy@1"),
        targets=(
            Target(metric="accuracy@1", must=0.480, goal=0.500),
            Target(metric="accuracy@5", must=0.717, goal=0.735),
            Target(metric="mrr", must=0.590, goal=0.610),
        ),
        seeds=3,
        note="Artists of ten works and more.",
    ),
    Experiment(
        name="tate",
        title="Tate without Turner: artist and decade, given class, title words and subjects",
        load=_tate,
        split=_split,
        split_note=_SPLIT,
        rows=(_row("pairs and biases"), _row("pairs and counts", pair_counts=True)),
        measures=(*_attribution("artist", ("class",)), *_attribution("decade", ("class",), "decade ")),
        metrics=("mrr", "accuracy@1", "accuracy@5", "decade accuracy@1", "decade mrr"),
        seeds=3,
        note="Must: above naive Bayes.",
    ),
)
