from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.training.run import Run


def predict_file(run: Run, path: Path, relation: str | None, out: Path | None) -> pd.DataFrame:
    """Score the tuples of a CSV file; write them with a column ``score`` to ``out``, if given.

    Raises:
        InputError: unknown relation, missing file or column, ids that the run does not hold, or ``out`` exists.
    """
    name = relation if relation is not None else next(iter(run.relations))
    if name not in run.relations:
        raise InputError(f"no relation {name!r} in this run.{did_you_mean(name, run.relations)}")
    if out is not None and out.exists():
        raise InputError(f"'{out}' exists already: delete it or name another file")
    table = _read(path)
    spec = run.relations[name]
    rows = [_rows(run, path, table, slot, m) for slot, m in zip(spec.slots, spec.modalities, strict=True)]
    index = torch.from_numpy(np.stack(rows))
    table = table.assign(score=run.score(name, index).numpy())
    if out is not None:
        with atomic_path(out) as temporary:
            table.to_csv(temporary, index=False)
    return table


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"'{path}': no such file")
    try:
        return pd.DataFrame(pd.read_csv(path, dtype=str, keep_default_na=False))
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"'{path}' is no CSV table with a header line: {error}") from error


def _rows(run: Run, path: Path, table: pd.DataFrame, slot: str, modality: str) -> NDArray[np.int64]:
    if slot not in table.columns:
        raise InputError(
            f"'{path}': column {slot!r} is missing.{did_you_mean(slot, table.columns)} Columns: {list(table.columns)}"
        )
    lookup = pd.Series(np.arange(len(run.ids[modality])), index=run.ids[modality])
    rows = lookup.reindex(table[slot]).to_numpy()
    unknown = np.flatnonzero(np.isnan(rows.astype(float)))
    if len(unknown):
        some = ", ".join(f"{table[slot].iloc[i]!r} (line {i + 2})" for i in unknown[:3])
        raise InputError(
            f"'{path}', column {slot!r}: {len(unknown)} ids are no '{modality}' of the run, such as {some}"
        )
    found: NDArray[np.int64] = rows.astype(np.int64)
    return found
