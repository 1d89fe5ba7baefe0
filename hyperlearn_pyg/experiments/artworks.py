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
from hyperlearn_pyg.experiments.words import WORDS, Silent, WordBayes, WordCounts, WordEncoder, word_weights
from hyperlearn_pyg.transforms import RandomRelationSplit

_MODEL: dict[str, Any] = {
    "rank": 128,
    "decoder": "pairwise",
    "link_loss": "full_softmax",
    "negatives": "all",
    "dropout": 0.1,
    "l2": 5e-3,
}
_TRAIN: dict[str, Any] = {
    "lr": 1e-2,
    "schedule": "linear",
    "batch_size": 1024,
    "eval_every": 2,
    "patience": 0,
    "val_metric": "mrr",
    "refit": True,
}
_SLOTS = ("artwork", "artist", "school", "class", "century")
_ARTIST = ("artist",)


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


#: OmniArt: pairs of neighbouring words are words too, and half of all words are hidden at a time.
_OMNIART: dict[str, Any] = {"ngrams": 2, "word_dropout": 0.5, "l2": 3e-4, "epochs": 6}


def _encoders(
    without: tuple[str, ...], neutral: float, ngrams: int, hidden: float, data: MultiModalHeteroData, rank: int
) -> dict[str, Module]:
    """Artworks are known by their words; of the modalities ``without`` nothing is known but a bias."""
    weights = word_weights(data, "artwork", "made", 0, ngram_range=(1, ngrams))
    made: dict[str, Module] = {"artwork": WordEncoder(weights, rank, dropout=hidden)}
    return {**made, **{modality: Silent(rank, neutral) for modality in without}}


def _row(
    name: str,
    predict: tuple[str, ...],
    given: tuple[str, ...],
    without: tuple[str, ...] = (),
    *,
    counts: bool = True,
    ngrams: int = 1,
    word_dropout: float = 0.1,
    epochs: int = 10,
    **model: Any,
) -> Row:
    """A row that is told ``given`` and predicts ``predict``; of ``without`` it knows nothing.

    Its encoder reads up to ``ngrams`` neighbouring words as one; its counts are of single words.
    """
    told = tuple(m for m in given if m not in without)
    term = WordCounts("made", predict, told, words="artwork" not in without) if counts else None
    values = {**_MODEL, "predict": {"made": predict}, **model}
    neutral = 1.0 if values["decoder"] == "cp" else 0.0
    encoders = partial(_encoders, without, neutral, ngrams, word_dropout)
    return Row(name=name, model=values, train={**_TRAIN, "epochs": epochs}, encoders=encoders, counts=term)


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
            _row("pairs, biases and counts, for the artist", _ARTIST, _SLOTS[2:], **_OMNIART),
            _row("for century and class", ("century", "class"), _SLOTS[1:], **_OMNIART),
            _row("one model for all three", ("artist", "century", "class"), _SLOTS[1:], **_OMNIART),
            _row("CP, for the artist", _ARTIST, _SLOTS[2:], decoder="cp", **_OMNIART),
            _row("without counts, at settings of its own, for the artist", _ARTIST, _SLOTS[2:], counts=False, l2=1e-3),
            _row("without words, for the artist", _ARTIST, _SLOTS[2:], ("artwork",), **_OMNIART),
            _row("without school, for the artist", _ARTIST, _SLOTS[2:], ("school",), **_OMNIART),
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
        note=f"Artists of ten works and more, counted before the split. Settings are those of the first row, unless "
        f"a row says so. {_NOTE}",
    ),
    Experiment(
        name="tate",
        title="Tate without Turner: artist and decade, given class, title words and subjects",
        load=_tate,
        split=_split,
        split_note=_SPLIT,
        rows=(
            _row("CP, for the artist", _ARTIST, ("class",), ("decade",), decoder="cp"),
            _row("pairs, biases and counts, for the artist", _ARTIST, ("class",), ("decade",)),
            _row("for the decade", ("decade",), ("class",), ("artist",)),
            _row("without counts, for the artist", _ARTIST, ("class",), ("decade",), counts=False),
            _row("the decade told in training alone, for the artist", _ARTIST, ("class", "decade")),
            _row("without words and subjects, for the artist", _ARTIST, ("class",), ("artwork", "decade")),
        ),
        measures=(*_attribution("artist", ("class",)), *_attribution("decade", ("class",), "decade ")),
        metrics=("mrr", "accuracy@1", "accuracy@5", "decade accuracy@1", "decade mrr"),
        seeds=3,
        note="Must: above naive Bayes. All rows have counts but the one that says so; CP is first by its validation. "
        "Neither question is told the other's answer, nor is training but in the row that says so. "
        f"{_NOTE}",
    ),
)
