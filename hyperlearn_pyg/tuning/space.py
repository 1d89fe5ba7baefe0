"""Which settings a search may change, and between which bounds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from hyperlearn_pyg.data._toml import Section, load_toml
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.nn import ModelConfig
from hyperlearn_pyg.training import TrainConfig

_CONFIGS: dict[str, type[ModelConfig] | type[TrainConfig]] = {"model": ModelConfig, "train": TrainConfig}
#: What trials are compared on, and where they run.
_FIXED = {
    "model": ("preset",),
    "train": (
        "seed",
        "device",
        "amp",
        "checkpoint_every",
        "eval_every",
        "refit",
        "val_fraction",
        "val_kind",
        "val_modality",
        "val_metric",
    ),
}


@dataclass(frozen=True)
class Range:
    """A range of numbers, both ends included.

    Attributes:
        low: the lower end.
        high: the upper end.
        log: drawn evenly on a scale of logarithms.
        whole: whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must be valid for all between them to be."""
        return self.low, self.high

    def suggest(self, trial: Any, name: str) -> Any:
        """Draw a value for a trial of Optuna."""
        draw = trial.suggest_int if self.whole else trial.suggest_float
        return draw(name, self.low, self.high, log=self.log)

    def plain(self) -> Any:
        """Return what a TOML file holds."""
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}


@dataclass(frozen=True)
class Choice:
    """Some values, without an order.

    Attributes:
        values: the values.
    """

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return any(value == own and type(value) is type(own) for own in self.values)

    @property
    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values

    def suggest(self, trial: Any, name: str) -> Any:
        """Draw a value for a trial of Optuna."""
        return trial.suggest_categorical(name, list(self.values))

    def plain(self) -> Any:
        """Return what a TOML file holds."""
        return list(self.values)


@dataclass(frozen=True)
class Space:
    """The settings that a search may change.

    Attributes:
        entries: ``"model.NAME"`` or ``"train.NAME"`` -> the values that it may take.
    """

    entries: Mapping[str, Range | Choice]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "space") -> Space:
        """Read tables ``model`` and ``train``: a setting is a list of choices, or ``low`` and ``high`` (and ``log``).

        Args:
            values: the tables.
            where: what they are called in messages.

        Raises:
            InputError: an unknown or fixed setting, a value that it cannot take, or nothing to change.
        """
        top, entries = Section(values, where, ""), {}
        for part in _CONFIGS:
            section = top.section(part)
            for name, given in section.values.items():
                entries[f"{part}.{name}"] = _entry(part, name, given, section)
        top.done()
        if not entries:
            raise InputError(f"'{where}' names no setting to change: expected tables 'model' or 'train'")
        return cls(entries)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the tables that :meth:`from_dict` reads."""
        out: dict[str, dict[str, Any]] = {}
        for key, entry in self.entries.items():
            part, name = key.split(".")
            out.setdefault(part, {})[name] = entry.plain()
        return out

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw a value of every setting for a trial of Optuna."""
        return {key: entry.suggest(trial, key) for key, entry in self.entries.items()}

    def start(self, model: ModelConfig, train: TrainConfig) -> dict[str, Any]:
        """Return the values of two configs, as far as they lie in the space."""
        own = {"model": model, "train": train}
        values = {key: getattr(own[key.split(".")[0]], key.split(".")[1]) for key in self.entries}
        return {key: value for key, value in values.items() if value in self.entries[key]}

    def outside(self, model: ModelConfig, train: TrainConfig) -> dict[str, Any]:
        """Return the values of two configs that do not lie in the space."""
        own, start = {"model": model, "train": train}, self.start(model, train)
        missing = [key.split(".") for key in self.entries if key not in start]
        return {f"{part}.{name}": getattr(own[part], name) for part, name in missing}


def load_space(path: str | os.PathLike[str]) -> Space:
    """Read a space from a TOML file, as :meth:`Space.from_dict` does.

    Raises:
        InputError: no such file, no TOML, or a fault of a setting.
    """
    return Space.from_dict(load_toml(path), str(path))


def split_values(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return ``{"model": {...}, "train": {...}}`` of ``"model.NAME"`` and ``"train.NAME"``."""
    out: dict[str, dict[str, Any]] = {part: {} for part in _CONFIGS}
    for key, value in values.items():
        part, name = key.split(".")
        out[part][name] = value
    return out


def _entry(part: str, name: str, given: Any, section: Section) -> Range | Choice:
    section.known.append(name)
    kinds = {field.name: str(field.type) for field in fields(_CONFIGS[part])}
    if name not in kinds:
        raise section.error(name, f"unknown setting.{did_you_mean(name, kinds)}")
    if name in _FIXED[part]:
        raise section.error(name, "is the same for all trials, or they could not be compared: leave it out")
    entry = _choice(given, name, section) if isinstance(given, list) else _range(given, name, kinds[name], section)
    for value in entry.ends:
        try:
            _CONFIGS[part]().replace(**{name: value})
        except InputError as error:
            raise section.error(name, str(error).removeprefix(f"{part}.{name}: ")) from error
    return entry


def _choice(given: list[Any], name: str, section: Section) -> Choice:
    if not given or any(value in given[:at] for at, value in enumerate(given)):
        raise section.error(name, f"a list of different values is expected, got {given!r}")
    return Choice(tuple(given))


def _range(given: Any, name: str, kind: str, section: Section) -> Range:
    if not isinstance(given, Mapping):
        raise section.error(name, f"a list of values, or {{ low = ..., high = ... }}, is expected, got {given!r}")
    whole = kind.startswith("int")
    if not whole and kind != "float":
        raise section.error(name, f"is no number: a list of values is expected, got {dict(given)!r}")
    own = section.section(name, given)
    low, high = (own.take(end, int if whole else float, required=True) for end in ("low", "high"))
    log = _flag(own, "log")
    own.done()
    if not low < high:
        raise section.error(name, f"'low' must be below 'high' (got {low} and {high})")
    if log and low <= 0:
        raise section.error(name, f"'low' must be above 0 on a scale of logarithms (got {low})")
    return Range(low, high, log, whole)


def _flag(section: Section, name: str) -> bool:
    section.known.append(name)
    value = section.values.get(name, False)
    if not isinstance(value, bool):
        raise section.error(name, f"true or false is expected, got {value!r}")
    return value
