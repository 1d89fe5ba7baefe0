"""Run an experiment: floors and models, seed by seed, from where an earlier run stopped."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.experiments.cost import measured, place
from hyperlearn_pyg.experiments.experiment import Experiment, Metrics, Row, fingerprint
from hyperlearn_pyg.experiments.parts import Parts
from hyperlearn_pyg.experiments.results import write_results
from hyperlearn_pyg.experiments.sources import data_root
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.training import FitResult, TrainConfig, fit

#: Where the pieces lie below the folder of the results, and what the floors are called among them.
PARTS, FLOORS = "parts", "floors"
_QUICK_MODEL = {"rank": 4, "num_negatives": 8, "hidden": 8, "feature_hidden": 8}
_QUICK_TRAIN = {"epochs": 2, "eval_every": 1, "max_steps": 2}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How experiments are run.

    Attributes:
        out: folder of the results.
        data: folder of the data sets; see :func:`~hyperlearn_pyg.experiments.sources.data_root`.
        seeds: number of seeds; that of the experiment where absent.
        rows: the rows to run; all where absent. What is there of others stays in the table.
        minutes: no row of a further seed is begun after so many minutes.
        quick: a few steps of a tiny model and one seed: shows that an experiment runs, and nothing of its worth.
        device: as in ``TrainConfig``.
        say: gets a line for a reader.
    """

    out: Path
    data: Path | None = None
    seeds: int | None = None
    rows: Sequence[str] | None = None
    minutes: float = math.inf
    quick: bool = False
    device: str = "auto"
    say: Callable[[str], None] = print
    began: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() - self.began > 60 * self.minutes


def run(experiment: Experiment, options: Options) -> list[Path]:
    """Run what is missing of an experiment and write its results anew.

    Seed by seed: floors, then every row. What is done is kept, so that a run that was stopped goes on; a piece whose
    settings have changed is done again. After Ctrl-C the results are written from the pieces that are finished; a
    training that was cut short is none.

    Args:
        experiment: the experiment.
        options: how.

    Returns:
        The files that were written: JSON, Markdown, PNG.

    Raises:
        InputError: an unknown row, no data, or a damaged piece.
        KeyboardInterrupt: ended by Ctrl-C, after the results were written.
    """
    known = [row.name for row in experiment.rows]
    for name in options.rows or ():
        if name not in known:
            raise InputError(f"'{experiment.name}' has no row {name!r} (known: {known}).{did_you_mean(name, known)}")
    seeds = 1 if options.quick else options.seeds or experiment.seeds
    parts, at = Parts(options.out / PARTS / experiment.name), place()
    found: dict[str, list[dict[str, Any]]] = {}
    job = _Job(experiment, parts, options, at.get("revision"))
    job.tell_kept(seeds)
    for seed in range(seeds):
        for row in (None, *experiment.rows):
            part = job.part(row, seed)
            if part is not None:
                found.setdefault(FLOORS if row is None else row.name, []).append(part)
    if job.stopped and not found:
        options.say(f"{experiment.name}: stopped before a piece was finished; nothing was written")
        raise KeyboardInterrupt
    paths = write_results(experiment, found, at, options.out, seeds=seeds, quick=options.quick)
    if job.stopped:
        count, written = sum(map(len, found.values())), ", ".join(map(str, paths))
        options.say(
            f"{experiment.name}: stopped; wrote {written} from {count} finished pieces; the same command goes on"
        )
        raise KeyboardInterrupt
    return paths


@dataclass
class _Job:
    """One experiment being run; the data is read when the first missing piece asks for it."""

    experiment: Experiment
    parts: Parts
    options: Options
    revision: str | None  # as the code was when it was imported
    loaded: MultiModalHeteroData | None = None
    stopped: bool = False  # by Ctrl-C: what is finished is still read, and nothing is begun

    def tell_kept(self, seeds: int) -> None:
        """Say which pieces are there already."""
        for row in (None, *self.experiment.rows):
            count = sum(self._kept(row, seed) is not None for seed in range(seeds))
            if count:
                what = f"{self.experiment.name}: {count} of {seeds} seeds of '{_name(row)}'"
                self.options.say(f"{what} were done before and are kept")

    def _kept(self, row: Row | None, seed: int) -> dict[str, Any] | None:
        return self.parts.read(_name(row), seed, fingerprint(self.experiment, row, self.options.quick))

    def part(self, row: Row | None, seed: int) -> dict[str, Any] | None:
        """Return a piece, made now or before; None where it is not asked for, the time is over or Ctrl-C came."""
        part = self._kept(row, seed)
        asked = row is None or self.options.rows is None or row.name in self.options.rows
        if part is not None or self.stopped or self.options.spent or not asked:
            return part
        try:
            return self._make(row, seed)
        except KeyboardInterrupt:
            self.stopped = True
            return None

    def _make(self, row: Row | None, seed: int) -> dict[str, Any]:
        with measured() as load_cost:
            data = self._data(seed)
        with measured() as cost:
            values = _floors(self.experiment, data, seed) if row is None else self._train(row, data, seed)
        when = {"date": datetime.date.today().isoformat(), "load": place()["load"]}
        when |= {} if self.revision is None else {"revision": self.revision}
        values = {**values, **when, "cost": asdict(cost), "load_seconds": load_cost.seconds}
        main = self.experiment.metrics[0]
        self.options.say(
            f"{self.experiment.name}, seed {seed}, {_name(row)}: "
            + ", ".join(f"{main} {m[main]:.4f} of {n}" for n, m in values["test"].items() if main in m)
            + f" ({cost.seconds:.0f} s)"
        )
        return self.parts.write(_name(row), seed, fingerprint(self.experiment, row, self.options.quick), values)

    def _data(self, seed: int) -> MultiModalHeteroData:
        if self.loaded is None:
            self.loaded = self.experiment.load(data_root(self.options.data))
        data = self.loaded.clone()
        return data if self.experiment.split is None else self.experiment.split(data, seed)

    def _train(self, row: Row, data: MultiModalHeteroData, seed: int) -> dict[str, Any]:
        data = data if row.change is None else row.change(data)
        torch.manual_seed(seed)
        model, result = _fitted(row, data, seed, self.options)
        if result.interrupted:  # what is there is no trained model
            raise KeyboardInterrupt
        scores: Metrics = {}
        for measure in self.experiment.measures:
            scores |= measure.score(model, data, seed)
        validation = {k: v for k, v in result.validation.items() if not isinstance(v, dict)}
        best = {"best_epoch": result.best_epoch, "seconds_per_step": result.seconds_per_step}
        count = sum(p.numel() for p in model.parameters())
        return {"test": {row.name: scores}, "validation": validation, "parameters": count, **best}


def _name(row: Row | None) -> str:
    return FLOORS if row is None else row.name


def _fitted(row: Row, data: MultiModalHeteroData, seed: int, options: Options) -> tuple[HyperLearn, FitResult]:
    values = {**row.model, **(_QUICK_MODEL if options.quick else {})}
    rank = values.pop("rank", None)
    own = row.encoders(data, rank) if row.encoders is not None else None
    terms = row.counts(data) if row.counts is not None else None
    train = {**row.train, **(_QUICK_TRAIN if options.quick else {}), "seed": seed, "device": options.device}
    if row.growth is not None:
        growth = replace(row.growth, epochs=min(row.growth.epochs, 1)) if options.quick else row.growth
        config = TrainConfig.from_preset(row.preset, **train)
        return growth.fit(
            data, config, {"preset": row.preset, "rank": rank, "encoders": own, "counts": terms, **values}
        )
    model = HyperLearn.from_data(data, rank, row.preset, relations=row.relations, encoders=own, counts=terms, **values)
    result = fit(model, data, TrainConfig.from_preset(model.config.preset, **train), progress=False)
    return model, result


def _floors(experiment: Experiment, data: MultiModalHeteroData, seed: int) -> dict[str, Any]:
    out: dict[str, Metrics] = {}
    for measure in experiment.measures:
        for name, values in measure.floors(data, seed).items():
            out.setdefault(name, {}).update(values)
    return {"test": out}
