from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hyperlearn_pyg.errors import InputError, did_you_mean


def load_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        InputError: the file is missing, no UTF-8, or no TOML (the text names the line).
    """
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    path = Path(path)
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.toml")])
        raise InputError(f"config file '{path}' not found.{near}")
    try:
        parsed: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not encoded in UTF-8, as TOML must be: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"'{path}' is no valid TOML: {error}") from error
    return parsed


_TYPES = {str: "a string", int: "a whole number", float: "a number", dict: "a table", list: "a list"}


class Section:
    """One table of the file: hands out its keys by type and complains about those nobody asked for."""

    def __init__(self, values: Mapping[str, Any], file: str, path: str) -> None:
        self.values, self.file, self.path = values, file, path
        self.known: list[str] = []

    def key(self, name: str) -> str:
        name = name if name.replace("_", "").replace("-", "").isalnum() else f'"{name}"'
        return f"{self.path}.{name}" if self.path else name

    def error(self, name: str, text: str) -> InputError:
        return InputError(f"'{self.file}', key '{self.key(name)}': {text}")

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def take(self, name: str, kind: type, default: Any = None, *, required: bool = False) -> Any:
        self.known.append(name)
        if name not in self.values:
            if required:
                raise self.error(name, f"missing; {_TYPES[kind]} is expected.{did_you_mean(name, self.values)}")
            return default
        value = self.values[name]
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind in (int, float)):
            raise self.error(name, f"{_TYPES[kind]} is expected, got {value!r}")
        return value

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        value = str(self.take(name, str, default))
        if value not in choices:
            listed = ", ".join(map(repr, choices))
            raise self.error(name, f"must be one of {listed}, got {value!r}.{did_you_mean(value, choices)}")
        return value

    def positive(self, name: str, default: int) -> int:
        value = int(self.take(name, int, default))
        if value < 1:
            raise self.error(name, f"must be at least 1, got {value}")
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        """A scalar or a list of scalars, as text: cells are compared as text."""
        self.known.append(name)
        value = self.values.get(name, [])
        values = value if isinstance(value, list) else [value]
        if any(isinstance(v, bool) or not isinstance(v, (str, int, float)) for v in values):
            raise self.error(name, f"a list of strings or numbers is expected, got {value!r}")
        return tuple(str(v) for v in values)

    def section(self, name: str, values: Any = None) -> Section:
        values = self.take(name, dict, {}) if values is None else values
        return Section(values, self.file, self.key(name))

    def named(self, name: str) -> list[tuple[str, Section]]:
        group = self.section(name)
        for key in group.values:
            group.take(key, dict)
        return [(key, group.section(key)) for key in group.values]

    def done(self) -> None:
        for name in self.values:
            if name not in self.known:
                hint = did_you_mean(name, self.known)
                raise self.error(name, f"unknown key.{hint} Known here: {', '.join(sorted(set(self.known)))}")
