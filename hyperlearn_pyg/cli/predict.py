from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.cli.fit import CONFIG_FILE
from hyperlearn_pyg.data._toml import load_toml
from hyperlearn_pyg.data.table_config import FileConfig
from hyperlearn_pyg.data.table_reader import Table, find_file, read_header, read_table
from hyperlearn_pyg.data.table_tuples import bin_numbers
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.training.run import Run

_SCORE = "score"


def predict_file(run: Run, path: Path, relation: str | None, out: Path | None) -> pd.DataFrame:
    """Score the tuples of a CSV, TSV or Parquet file; write them as CSV with a column ``score`` to ``out``, if given.

    Raises:
        InputError: unknown relation, missing file or column, ids that the run does not hold, or ``out`` exists.
    """
    name = relation if relation is not None else next(iter(run.relations))
    if name not in run.relations:
        known = ", ".join(map(repr, run.relations))
        raise InputError(f"--relation: no {name!r} in this run.{did_you_mean(name, run.relations)} It has: {known}")
    _check_out(out)
    config = FileConfig((str(path.absolute()),))
    header = read_header(find_file(config.files[0], Path()), config)
    if _SCORE in header:
        raise InputError(f"'{path}', line 1: there is a column '{_SCORE}' already: rename it")
    spec = run.relations[name]
    given = _given_columns(run, name)
    columns = [(slot, None) if slot in header else given.get(slot, (slot, None)) for slot in spec.slots]
    for slot, (column, _) in zip(spec.slots, columns, strict=True):
        if column not in header:
            or_so = f" or {column!r}" if column != slot else ""
            hint = did_you_mean(slot, header)
            listed = ", ".join(map(repr, header))
            raise InputError(f"'{path}', line 1: no column {slot!r}{or_so}.{hint} It has: {listed}")
    table = read_table(config, header, Path())
    rows = [_rows(run, table, *column, m) for column, m in zip(columns, spec.modalities, strict=True)]
    scored: pd.DataFrame = table.data.to_pandas().assign(
        **{_SCORE: run.score(name, torch.from_numpy(np.stack(rows))).numpy()}
    )
    if out is not None:
        with atomic_path(out) as temporary:
            scored.to_csv(temporary, index=False)
    return scored


def _check_out(out: Path | None) -> None:
    if out is not None and out.exists():
        raise InputError(f"--out: '{out}' exists already: delete it or name another file")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out: there is no folder '{out.parent}' to write '{out.name}' to: make it first")


def _given_columns(run: Run, relation: str) -> dict[str, tuple[str, float | None]]:
    """Return slot -> column and bin of the tables trained on, so that a file of the same columns can be scored."""
    path = run.path / CONFIG_FILE
    columns = load_toml(path).get("relation", {}).get(relation, {}).get("columns", {}) if path.is_file() else {}
    full = [(slot, {"column": c} if isinstance(c, str) else c) for slot, c in columns.items()]
    return {slot: (str(given["column"]), float(given["bin"]) if "bin" in given else None) for slot, given in full}


def _rows(run: Run, table: Table, column: str, width: float | None, modality: str) -> NDArray[np.int64]:
    if width is None:
        names = table.text(column)
    else:
        codes, bins = bin_numbers(table.numbers(column, np.arange(table.data.num_rows)), width)
        names = bins.take(pa.array(codes))
    found = pc.index_in(names, value_set=pa.array(run.ids[modality], pa.string()))
    rows: NDArray[np.int64] = found.fill_null(-1).to_numpy().astype(np.int64)
    unknown = np.flatnonzero(rows < 0)
    if len(unknown):
        some = ", ".join(repr(names[int(i)].as_py() or "") for i in unknown[:3])
        ids = "id is" if len(unknown) == 1 else "ids are"
        raise InputError(
            f"{table.where(int(unknown[0]), column)}: {len(unknown)} {ids} no '{modality}' of the run, the first: "
            f"{some}. Leave these rows out, or train with them"
        )
    return rows
