"""An experiment as data: what is loaded, split, trained and measured, and which figures it stands beside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch.nn import Module

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.experiments.growth import Growth
from hyperlearn_pyg.nn import HyperLearn, PairCounts

Metrics = dict[str, float]


class Measure(Protocol):
    """What is scored on the test entries, for a model and for the floors that need none."""

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model."""
        ...

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score what needs no model, by name."""
        ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model of an experiment: one line of its table.

    Attributes:
        name: what the line is called.
        preset: the preset that the values below change.
        model: values of ``ModelConfig``.
        train: values of ``TrainConfig``; the seed is that of the run.
        relations: the relations that are learnt; all where absent.
        encoders: makes encoders of some modalities from the data, given the rank.
        counts: makes count terms of some relations from the data.
        growth: what happens to the model after it was trained on one relation.
        floor: whether it is a floor too, that the first row must lie above.
        change: returns what the row is trained and scored on, from the data of a seed: takes features away, say.
        note: what a reader should know, such as where the values come from.
    """

    name: str
    preset: str = "links"
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    relations: tuple[str, ...] | None = None
    encoders: Callable[[MultiModalHeteroData, int], dict[str, Module]] | None = None
    counts: Callable[[MultiModalHeteroData], dict[str, PairCounts]] | None = None
    growth: Growth | None = None
    floor: bool = False
    change: Callable[[MultiModalHeteroData], MultiModalHeteroData] | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a metric of a row must reach, and what it is hoped to reach; the first row where none is named."""

    metric: str
    must: float | None = None
    goal: float | None = None
    row: str | None = None


@dataclass(frozen=True, kw_only=True)
class Quoted:
    """Figures that are not measured here.

    Attributes:
        name: whose.
        values: metric -> figure.
        source: where it is printed.
        kind: ``"published"``; or ``"floor"`` for one that was measured elsewhere in this project.
    """

    name: str
    values: Mapping[str, float]
    source: str
    kind: str = "published"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A data set with its split, the models trained on it and the figures they stand beside.

    Attributes:
        name: short name, as the command line takes it.
        title: one line for a reader.
        load: reads the data set; given the folder that holds all data sets.
        split: sets the masks for a seed, where none are published.
        split_note: how test and validation are drawn, in words.
        rows: the models; targets are decided on the first, unless they name another.
        measures: what is scored.
        metrics: the columns of the table; the first one is plotted.
        lower: the metrics that are to be low.
        targets: what must be reached.
        quoted: published figures.
        seeds: the number of seeds unless told otherwise.
        note: remarks.
    """

    name: str
    title: str
    load: Callable[[Path], MultiModalHeteroData]
    split: Callable[[MultiModalHeteroData, int], MultiModalHeteroData] | None = None
    split_note: str
    rows: tuple[Row, ...]
    measures: tuple[Measure, ...]
    metrics: tuple[str, ...]
    lower: frozenset[str] = frozenset({"rmse", "mae"})
    targets: tuple[Target, ...] = ()
    quoted: tuple[Quoted, ...] = ()
    seeds: int = 5
    note: str = ""

    def row(self, name: str) -> Row:
        """Return the row of a name."""
        return next(row for row in self.rows if row.name == name)


def fingerprint(experiment: Experiment, row: Row | None, quick: bool) -> str:
    """Return a short name of everything that a finished part hangs on; the code is not among it."""
    values: Any = None if row is None else [row.name, row.preset, dict(row.model), dict(row.train), row.relations]
    if row is not None and row.growth is not None:
        values = [values, repr(row.growth)]
    if row is not None and row.change is not None:
        values = [*values, getattr(row.change, "__name__", repr(row.change))]
    if row is not None and row.counts is not None:
        values = [values, repr(row.counts)]
    measures = [repr(measure) for measure in experiment.measures]
    text = json.dumps([experiment.name, experiment.split_note, measures, values, quick], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
