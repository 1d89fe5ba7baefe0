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
from hyperlearn_pyg.experiments.words import WORDS, Silent, WordBayes, WordEncoder, word_weights
from hyperlearn_pyg.transforms import RandomRelationSplit

_MODEL: dict[str, Any] = {
    "rank": 128,
    "decoder": "pairwise",
    "link_loss": "full_softmax",
    "negatives": "all",
    "dropout": 0.1,
}
_TRAIN: dict[str, Any] = {
    "lr": 1e-2,
    "schedule": "linear",
    "batch_size": 1024,
    "epochs": 10,
    "eval_every": 2,
    "patience": 0,
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


def _encoders(without: str, data: MultiModalHeteroData, rank: int) -> dict[str, Module]:
    """Artworks are known by their words; of the modality ``without`` nothing is known."""
    made: dict[str, Module] = {
        "artwork": WordEncoder(word_weights(data, "artwork", "made", 0), rank, dropout=_MODEL["dropout"])
    }
    return {**made, without: Silent(rank)} if without else made


def _row(name: str, predict: tuple[str, ...], without: str = "", **model: Any) -> Row:
    values = {**_MODEL, "predict": {"made": predict}, **model}
    return Row(name=name, model=values, train=_TRAIN, encoders=partial(_encoders, without))


_SPLIT = "by artwork and seed: a fifth for the test, a twelfth for validation; refit on all but the test"
_NOTE = "A row is scored on what it was trained to predict; the strengths of naive Bayes are chosen on validation."


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
        rows=(
            _row("pairs and biases, for the artist", ("artist",), l2=5e-3),
            _row("for century and class", ("century", "class"), l2=5e-3),
            _row("one model for all three", ("artist", "century", "class"), l2=5e-3),
            _row("CP, for the artist", ("artist",), decoder="cp", l2=5e-3),
            _row("without words, for the artist", ("artist",), "artwork", l2=5e-3),
            _row("without school, for the artist", ("artist",), "school", l2=5e-3),
        ),
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
        note=f"Artists of ten works and more, counted before the split. {_NOTE}",
    ),
    Experiment(
        name="tate",
        title="Tate without Turner: artist and decade, given class, title words and subjects",
        load=_tate,
        split=_split,
        split_note=_SPLIT,
        rows=(
            _row("pairs and biases, for the artist", ("artist",), l2=5e-3),
            _row("for the decade", ("decade",), l2=5e-3),
            _row("CP, for the artist", ("artist",), decoder="cp", l2=5e-3),
            _row("without words and subjects, for the artist", ("artist",), "artwork", l2=5e-3),
        ),
        measures=(*_attribution("artist", ("class",)), *_attribution("decade", ("class",), "decade ")),
        metrics=("mrr", "accuracy@1", "accuracy@5", "decade accuracy@1", "decade mrr"),
        seeds=3,
        note=f"Must: above naive Bayes. Neither question is told the other's answer. {_NOTE}",
    ),
)
