"""A study of Optuna in a file, a line of JSON for each thing that happened: a search goes on after any end."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperlearn_pyg._optional import require
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.ops.seeds import derive_seed

STUDY_FILE = "study.jsonl"
_NAME, _SETTINGS = "hyperlearn", "settings"
#: Trials before the sampler learns from those that were, and before any is cut short.
_RANDOM, _WHOLE = 8, 5


class Study:
    """The trials of a search and what proposes the next one.

    A proposal hangs on the seed, the number of finished trials and their results, so that a search that was ended at
    any moment makes the proposals of one that was not, as far as trainings give the same numbers.

    Args:
        path: the file; in memory where absent.
        settings: what makes trials comparable, as JSON holds it; a study goes on with the same ones only.
        start: the values of the first trial; those that are missing are drawn.
        seed: seed of the proposals.
        warm_up: no trial is cut short at an earlier step.
        resume: go on with the study in the file, or make a new one.

    Raises:
        InputError: no study to go on with, one of other settings, or a damaged file.
        ImportError: Optuna is not installed.
    """

    def __init__(
        self,
        path: Path | None,
        settings: Mapping[str, Any],
        *,
        start: Mapping[str, Any],
        seed: int,
        warm_up: int,
        resume: bool,
    ) -> None:
        self.optuna = require("optuna")
        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        self.seed = seed
        if resume and (path is None or not path.is_file()):
            raise InputError(f"nothing to resume: there is no study '{path}'. Leave resume out to start")
        if not resume and path is not None and path.is_file():
            raise InputError(f"'{path}' is a search already: resume it, or name another directory")
        pruner = self.optuna.pruners.MedianPruner(n_startup_trials=_WHOLE, n_warmup_steps=warm_up)
        try:
            self.study = self._open(path, pruner)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"'{path}' is damaged ({error}): delete it and start afresh") from error
        self._check(json.loads(json.dumps(settings)), path)
        self._clear(start)

    def _open(self, path: Path | None, pruner: Any) -> Any:
        if path is None:
            return self.optuna.create_study(pruner=pruner, direction="minimize")
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        _drop_half_line(path)
        # A search has one process: a lock that lies here is of one that was killed, and would be waited for for ever.
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
        storage = JournalStorage(JournalFileBackend(str(path)))
        if storage.get_all_studies():
            return self.optuna.load_study(storage=storage, study_name=_NAME, pruner=pruner)
        return self.optuna.create_study(storage=storage, study_name=_NAME, pruner=pruner, direction="minimize")

    def _check(self, settings: dict[str, Any], path: Path | None) -> None:
        before = self.study.user_attrs.get(_SETTINGS)
        if before is None:
            self.study.set_user_attr(_SETTINGS, settings)
            return
        for key, value in settings.items():
            if before.get(key) != value:
                fault = _fault(key, before.get(key), value)
                raise InputError(f"'{path}': {fault}. Resume with the same, or start afresh in another directory")

    def _clear(self, start: Mapping[str, Any]) -> None:
        """Give up what was under way when the search ended: it is proposed again. Ask for the start first of all."""
        states = self.optuna.trial.TrialState
        for trial in self.study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self.study.tell(trial.number, state=states.FAIL)
        if not self.finished and not self.study.get_trials(deepcopy=False, states=(states.WAITING,)):
            self.study.enqueue_trial(dict(start))

    @property
    def finished(self) -> list[Any]:
        """Trials that came to their end, or were cut short as hopeless; in the order in which they began."""
        states = self.optuna.trial.TrialState
        found: list[Any] = self.study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
        return found

    def ask(self) -> Any:
        """Return the next trial."""
        seed = derive_seed(self.seed, len(self.finished)) % 2**32
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM, constant_liar=False)
        return self.study.ask()

    def complete(self, trial: Any, score: float) -> None:
        """Note the score of a trial."""
        self.study.tell(trial, score)

    def prune(self, trial: Any) -> None:
        """Note that a trial was cut short."""
        self.study.tell(trial, state=self.optuna.trial.TrialState.PRUNED)

    def is_complete(self, trial: Any) -> bool:
        """Tell whether a trial came to its end."""
        return bool(trial.state == self.optuna.trial.TrialState.COMPLETE)


def has_study(out: str | os.PathLike[str]) -> bool:
    """Tell whether a directory holds a study."""
    return (Path(out) / STUDY_FILE).is_file()


def _fault(key: str, before: Any, now: Any) -> str:
    """Tell what is not as it was when the search began."""
    if key == "contents":
        if before is None:
            return "this search was begun by an earlier version, which did not note what the data holds"
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        more = f" (and {len(names) - 3} more)" if len(names) > 3 else ""
        return f"the data changed since this search began: other {', '.join(names[:3])}{more}"
    if key == "space":
        before, now = (
            {f"{part}.{name}": entry for part in own for name, entry in own[part].items()} for own in (before, now)
        )
    return f"this is a search of another {key}: {_difference(before, now)}"


def _difference(before: Any, now: Any) -> str:
    """Tell how two values differ; of tables, the entries that do."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return f"{_plain(before)}, now {_plain(now)}"
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} = {_plain(before.get(name))} (now {_plain(now.get(name))})" for name in names)


def _plain(value: Any) -> str:
    """Return a value, or the values that a setting may take, for a reader."""
    if isinstance(value, dict) and {"low", "high"} <= set(value):
        return f"{value['low']} to {value['high']}" + (", log" if value.get("log") else "")
    if isinstance(value, list) and value and not any(isinstance(part, (list, dict)) for part in value):
        return " or ".join(map(repr, value))
    return "none" if value is None else repr(value)


def _drop_half_line(path: Path) -> None:
    """Cut off the end of a file that was being written when the process was killed: a line without its end."""
    if not path.is_file():
        return
    with open(path, "r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
