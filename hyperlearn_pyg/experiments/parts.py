"""Finished pieces of an experiment on disk: one JSON file for each seed of a row, whole or not at all."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.errors import InputError


@dataclass(frozen=True)
class Parts:
    """The folder of one experiment's pieces.

    Attributes:
        folder: where they lie.
    """

    folder: Path

    def read(self, row: str, seed: int, mark: str) -> dict[str, Any] | None:
        """Return the piece of a seed; None where there is none, or one of other settings than ``mark`` stands for.

        Raises:
            InputError: the file is damaged.
        """
        path = self._path(row, seed)
        if not path.is_file():
            return None
        try:
            part: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return part if part["settings"] == mark else None
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"'{path}' is damaged ({error}): delete it, and this seed is run again") from error

    def write(self, row: str, seed: int, mark: str, values: dict[str, Any]) -> dict[str, Any]:
        """Keep the piece of a seed, and return it as :meth:`read` does."""
        part = {"settings": mark, "row": row, "seed": seed, **values}
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._path(row, seed)) as path:
            path.write_text(json.dumps(part, indent=1) + "\n", encoding="utf-8")
        return part

    def _path(self, row: str, seed: int) -> Path:
        return self.folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', row)}-{seed}.json"
