from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from torch.nn import Module

from hyperlearn_pyg._io import new_folders
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import DivergedError, InputError
from hyperlearn_pyg.nn import HyperLearn, ModelConfig, PairCounts
from hyperlearn_pyg.training import FitResult, TrainConfig, fit
from hyperlearn_pyg.tuning.problem import Problem
from hyperlearn_pyg.tuning.results import write_results
from hyperlearn_pyg.tuning.space import Space, split_values
from hyperlearn_pyg.tuning.study import STUDY_FILE, Study

#: Trials of a search that names neither their number nor a time.
TRIALS = 30


@dataclass
class TuneResult:
    """What :func:`tune` found.

    Attributes:
        model: the values of ``ModelConfig`` of the best trial, for :meth:`HyperLearn.from_data`.
        train: its values of ``TrainConfig``, as :meth:`TrainConfig.from_preset` takes them.
        score: its score, the lower the better: see ``FitResult.score``; the mean over the repeats.
        trials: a row for each finished trial: ``trial``, ``state`` (``"complete"``, or ``"pruned"`` for one that was
            cut short), ``score`` (up to there, so of fewer repeats perhaps), metrics, settings, cost.
        best: the row of the best trial.
        interrupted: ended by Ctrl-C.
    """

    model: dict[str, Any]
    train: dict[str, Any]
    score: float
    trials: list[dict[str, Any]] = field(repr=False)
    best: dict[str, Any] = field(repr=False)
    interrupted: bool = False


class _TimeOverError(Exception):
    """The time of the search is over."""


def tune(
    data: MultiModalHeteroData | Callable[[int], MultiModalHeteroData],
    space: Space | Mapping[str, Any] | None = None,
    *,
    preset: str = "default",
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    relations: Sequence[str] | None = None,
    encoders: Callable[[MultiModalHeteroData, int], dict[str, Module]] | None = None,
    counts: Callable[[MultiModalHeteroData], dict[str, PairCounts]] | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    repeats: int = 1,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    name: str = "best.toml",
    say: Callable[[str], None] = print,
) -> TuneResult:
    """Search for the settings that score best on validation entries, with Optuna (extra ``tune``).

    A trial trains a model, without a refit, and is scored by what its epoch is chosen by. The first has the settings
    that are given here, but draws those that lie outside of the space; the next ones are drawn at random, and then by
    the tree-structured Parzen estimator (Bergstra et al., NIPS 2011). A trial whose validation curve is worse than the
    median of those before at the same epoch is cut short. Test entries are taken out of the data before anything is
    trained: they are never scored, and no trial can hang on them. (With ``val_kind="like_test"`` their items and times
    alone tell how validation is drawn.)

    Args:
        data: the data, or what gives it for a seed.
        space: what may change; :func:`default_space` around the given settings where absent.
        preset: the preset that all trials start from.
        model: values of ``ModelConfig`` that all trials have unless the space changes them.
        train: the same of ``TrainConfig``; its ``seed`` is that of the search and of the first repeat.
        relations: as in :meth:`HyperLearn.from_data`.
        encoders: makes encoders of some modalities from the data, given the rank.
        counts: makes count terms of some relations from the data.
        trials: the number of finished trials to end with, those before a ``resume`` included; 30 where neither this
            nor ``minutes`` is given.
        minutes: the search ends after so many minutes; a trial under way then is given up, and begun again by
            ``resume``.
        repeats: trainings of a trial, each with a seed of its own for validation entries, start and negatives; their
            mean counts. More than one where there are few validation entries.
        out: folder of the study, the table of trials and the best settings; it may hold files of other names.
        resume: go on with the study in ``out``, with the same data and settings; the same seed makes the proposals of
            a search that was never ended, as far as trainings give the same numbers.
        settings: what the file of the best settings holds besides, such as tables of data: all settings are written
            then, and those that were searched where absent.
        name: name of that file in ``out``.
        say: gets a line for every trial.

    Raises:
        InputError: a fault of the settings or the space, nothing held out to choose by, no finished trial in the time,
            nothing to resume, a study of other data or settings, or one that is there and not to be resumed.
        ImportError: Optuna is not installed.
    """
    check_budget(trials, minutes, repeats)
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    problem = Problem(data, preset, dict(model or {}), dict(train or {}), relations, encoders, repeats, counts)
    chosen = space if isinstance(space, Space) else problem.space() if space is None else Space.from_dict(space)
    folder = None if out is None else Path(out)
    with new_folders(*([] if folder is None else [folder])):
        study = Study(
            None if folder is None else folder / STUDY_FILE,
            {**problem.brief(), "space": chosen.to_dict()},
            start=chosen.start(problem.model_config, problem.train_config),
            seed=problem.train_config.seed,
            warm_up=problem.train_config.epochs // 4,
            resume=resume,
        )
        limit = TRIALS if trials is None and minutes is None else trials
        return _Search(problem, chosen, study, folder, settings, name, say, limit, end).run()


def check_budget(trials: int | None, minutes: float | None, repeats: int) -> None:
    """Check the budget of a search.

    Raises:
        InputError: a number below what it may be.
    """
    if trials is not None and trials < 1:
        raise InputError(f"trials: expected at least 1 (got {trials})")
    if minutes is not None and not minutes > 0:
        raise InputError(f"minutes: expected a positive number (got {minutes})")
    if repeats < 1:
        raise InputError(f"repeats: expected at least 1 (got {repeats})")


@dataclass
class _Search:
    """One call of :func:`tune`."""

    problem: Problem
    space: Space
    study: Study
    out: Path | None
    settings: Mapping[str, Any] | None
    name: str
    say: Callable[[str], None]
    limit: int | None
    end: float
    interrupted: bool = False

    def run(self) -> TuneResult:
        """Run trials until the budget is used up."""
        outside = self.space.outside(self.problem.model_config, self.problem.train_config)
        if outside and not self.study.finished:
            listed = ", ".join(f"{key} = {_short(value)}" for key, value in outside.items())
            self.say(f"note: not in the space: {listed}; no trial has all values at the start, the first draws these")
        while not self._is_over() and not self.interrupted:
            trial = self.study.ask()
            try:
                self._run_trial(trial)
            except _TimeOverError:
                break
            if not self.interrupted:
                self._tell()
        return self._result()

    def _is_over(self) -> bool:
        done = len(self.study.finished)
        return time.monotonic() >= self.end or (self.limit is not None and done >= self.limit)

    def _run_trial(self, trial: Any) -> None:
        """Train and score; note what came of it unless the search was ended."""
        values, began = self.space.suggest(trial), time.monotonic()
        scores: list[float] = []
        found: list[FitResult] = []
        try:
            for repeat in range(self.problem.repeats):
                model, config = self._build(trial, values, repeat)
                found.append(self._fit(trial, model, config, repeat, scores))
                if found[-1].interrupted:
                    self.interrupted = True
                    return
                scores.append(found[-1].score)
            _note(trial, found, began)
            self.study.complete(trial, fmean(scores))
        except self.study.optuna.TrialPruned:
            _note(trial, found, began)
            self.study.prune(trial)
        except DivergedError as error:
            trial.set_user_attr("fault", str(error))
            _note(trial, found, began)
            self.study.prune(trial)

    def _build(self, trial: Any, values: Mapping[str, Any], repeat: int) -> tuple[HyperLearn, TrainConfig]:
        try:
            return self.problem.build(split_values(values), repeat)
        except InputError as error:
            listed = ", ".join(f"{key} = {value!r}" for key, value in values.items())
            raise InputError(f"trial {trial.number + 1} with {listed}: {error}") from error

    def _fit(
        self, trial: Any, model: HyperLearn, config: TrainConfig, repeat: int, scores: Sequence[float]
    ) -> FitResult:
        def look(result: FitResult) -> None:
            if time.monotonic() >= self.end:
                raise _TimeOverError
            row = result.history[-1]
            if any(key.startswith("val_") for key in row):
                trial.report(fmean([*scores, result.score]), repeat * config.epochs + row["epoch"])
                if trial.should_prune():
                    raise self.study.optuna.TrialPruned

        return fit(model, self.problem.data(repeat), config, progress=False, callback=look)

    def _tell(self) -> None:
        """Say what came of the last trial; write what is known by now."""
        rows = self._rows()
        row, best = rows[-1], _best(rows)
        cut = "cut short at" if row["state"] == "pruned" else "score"
        score = "diverged" if row["fault"] else f"{cut} {row['score']:.4f}"
        beside = "" if best is None else f"; best {best['score']:.4f} of trial {best['trial']}"
        changed = ", ".join(f"{key.partition('.')[2]} {_short(row[key])}" for key in self.space.entries)
        self.say(f"trial {row['trial']}: {score}{beside}; {changed}")
        self._write(rows, best)

    def _rows(self) -> list[dict[str, Any]]:
        return [self._row(number, trial) for number, trial in enumerate(self.study.finished, 1)]

    def _row(self, number: int, trial: Any) -> dict[str, Any]:
        complete = self.study.is_complete(trial)
        noted = trial.user_attrs
        return {
            "trial": number,
            "state": "complete" if complete else "pruned",
            "score": math.inf if trial.value is None else trial.value,
            **noted.get("metrics", {}),
            "best_epoch": noted.get("best_epoch"),
            "seconds": noted.get("seconds"),
            "fault": noted.get("fault", ""),
            **{key: trial.params.get(key) for key in self.space.entries},
        }

    def _configs(self, best: Mapping[str, Any]) -> tuple[ModelConfig, TrainConfig]:
        return self.problem.configs(split_values({key: best[key] for key in self.space.entries}))

    def _write(self, rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> None:
        if self.out is None or best is None:
            return
        model, train = self._configs(best)
        brief = self.problem.brief()
        write_results(self.out, rows, best, model, train, self.space, brief, self.settings, self.name)

    def _result(self) -> TuneResult:
        rows = self._rows()
        best = _best(rows)
        if best is None:
            if self.interrupted:
                raise KeyboardInterrupt
            raise InputError(_nothing(rows))
        self._write(rows, best)
        changed = split_values({key: best[key] for key in self.space.entries})
        values = {
            "model": {**self.problem.model, **changed["model"]},
            "train": {**self.problem.train, **changed["train"]},
        }
        return TuneResult(**values, score=best["score"], trials=rows, best=best, interrupted=self.interrupted)


def _note(trial: Any, found: Sequence[FitResult], began: float) -> None:
    """Keep with a trial what is no part of the search: metrics and epochs as means over its trainings, its time."""
    whole = [result for result in found if result.validation]
    if whole:
        names = [name for name, value in whole[0].validation.items() if isinstance(value, float)]
        trial.set_user_attr("metrics", {name: fmean(result.validation[name] for result in whole) for name in names})
        trial.set_user_attr("best_epoch", fmean(result.best_epoch for result in whole))
    trial.set_user_attr("seconds", round(time.monotonic() - began, 3))


def _best(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the first of the best trials that came to their end with a number."""
    whole = [row for row in rows if row["state"] == "complete" and math.isfinite(row["score"])]
    return min(whole, key=lambda row: row["score"]) if whole else None


def _nothing(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "no trial was finished in the time: give it more minutes and resume, or lower train.epochs"
    fault = next((row["fault"] for row in rows if row["fault"]), "no score was a finite number")
    return f"none of {len(rows)} trials gave a score to choose by ({fault})"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
