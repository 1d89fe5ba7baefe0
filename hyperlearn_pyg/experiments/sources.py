"""Where experiments find their data."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.tuples import tuple_ids
from hyperlearn_pyg.errors import InputError

#: Names the folder that holds the data sets.
VARIABLE = "HYPERLEARN_DATA"
ROOT = Path(__file__).resolve().parents[2]


def data_root(given: Path | None = None) -> Path:
    """Return the folder of the data sets: the given one, or that of ``HYPERLEARN_DATA``.

    Else ``../shared/data`` beside a checkout, and ``data`` here where there is no checkout.
    """
    beside = ROOT.parent / "shared" / "data" if (ROOT / "pyproject.toml").is_file() else Path("data")
    return given or Path(os.environ.get(VARIABLE) or beside)


def folder_of(base: Path, name: str) -> Path:
    """Return the folder of one data set.

    Raises:
        InputError: it is not there.
    """
    if not (base / name).is_dir():
        nor = "" if base.is_dir() else ", which is no folder either"
        raise InputError(
            f"there is no folder '{name}' below '{base}'{nor}: name the folder that holds all data sets with --data "
            f"or in the environment variable {VARIABLE} (docs/reference/datasets.md tells how it is laid out)"
        )
    return base / name


def read_raw(base: Path, name: str, dataset: Callable[[str], Any]) -> MultiModalHeteroData:
    """Read a data set from raw files that stay as they are: nothing is written beside them or downloaded.

    Args:
        base: the folder of all data sets.
        name: the folder of this one.
        dataset: makes the data set from a root folder, whose ``raw`` is that folder.
    """
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "raw").symlink_to(folder_of(base, name).resolve())
        data: MultiModalHeteroData = dataset(scratch)[0]
        return data


def results_folder() -> Path:
    """Return where results go unless told otherwise: that of a checkout, or ``results`` here."""
    checkout = ROOT / "benchmarks" / "results"
    return checkout if checkout.is_dir() else Path("results")


def distinct(data: MultiModalHeteroData, relation: str) -> MultiModalHeteroData:
    """Return the data with each tuple of a relation once: the first of equal ones."""
    view = data.relation(relation)
    number = tuple_ids(view.index, view.sizes)
    order = number.argsort(stable=True)
    new = torch.ones(len(order), dtype=torch.bool)
    new[1:] = number[order][1:] != number[order][:-1]
    return data.hyperedge_subgraph({relation: order[new].sort().values})
