from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperlearn_pyg.data.tuples import rank_in, tuple_ids
from hyperlearn_pyg.datasets._files import read_rows, to_int
from hyperlearn_pyg.errors import InputError


def read_ints(path: Path, columns: Sequence[str], *, separator: str | None = "\t", low: int = 1) -> Tensor:
    """Return a table of integers with a header as ``[columns, rows]``; row ``i`` is line ``i + 2`` of the file.

    Raises:
        InputError: a field is no integer of at least ``low``, or a line or the header is not of the form.
    """
    rows = [
        [to_int(text, path, number, column, low=low) for text, column in zip(fields, columns, strict=True)]
        for number, fields in read_rows(path, separator=separator, columns=columns, header=True)
    ]
    return torch.tensor(rows, dtype=torch.long).view(-1, len(columns)).t().contiguous()


def read_items(
    path: Path, columns: Sequence[str], *, encoding: str = "utf-8", header: bool = True
) -> dict[str, tuple[int, list[str]]]:
    """Return the items of a table between tabs: id, which is the first column, -> line number and fields.

    Raises:
        InputError: an id stands there twice or is empty, or a line or the header is not of the form.
    """
    items: dict[str, tuple[int, list[str]]] = {}
    for number, fields in read_rows(path, separator="\t", columns=columns, encoding=encoding, header=header):
        where = f"'{path}', line {number}, column '{columns[0]}'"
        if not fields[0]:
            raise InputError(f"{where}: is empty, expected an id")
        if fields[0] in items:
            raise InputError(f"{where}: {fields[0]!r} stands in line {items[fields[0]][0]} already")
        items[fields[0]] = number, fields
    return items


def positions(values: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return where values stand among distinct ids of any order, zero where they do not, and whether they do."""
    ascending, order = ids.sort()
    at, found = rank_in(ascending, values)
    return (order[at] if len(order) else at), found


def check_distinct(index: Tensor, sizes: Sequence[int], where: Callable[[int], str]) -> None:
    """Check that no tuple of ``index [k, E]`` stands there twice; ``where`` says how to call a tuple.

    Raises:
        InputError: names the first tuple that stands there again, and where it stood.
    """
    number, order = tuple_ids(index, sizes).sort(stable=True)
    again = (number[1:] == number[:-1]).nonzero().view(-1)
    if len(again):
        pair = int(again[order[again + 1].argmin()])
        raise InputError(f"{where(int(order[pair + 1]))}: the same as {where(int(order[pair]))}: remove one")


def whole_numbers(array: np.ndarray[Any, Any], path: Path, key: str, columns: int) -> Tensor:
    """Take an array ``[E, columns]`` of whole numbers, possibly stored as floats, as int64 ``[columns, E]``.

    Raises:
        InputError: the array has another shape or type, or holds a number that is not whole (its row is named).
    """
    if array.ndim != 2 or array.shape[1] != columns or array.dtype.kind not in "iuf":
        raise InputError(
            f"'{path}': '{key}' must hold numbers and be of shape [E, {columns}] "
            f"(got {array.dtype} of shape {list(array.shape)})"
        )
    if array.dtype.kind == "f":
        # beyond 2**53 floats skip whole numbers
        bad = np.argwhere(~(np.isfinite(array) & (np.abs(array) < 2**53) & (array == np.round(array))))
        if len(bad):
            row, column = bad[0].tolist()
            raise InputError(
                f"'{path}': '{key}' must hold whole numbers (got {array[row, column]} at row {row}, column {column})"
            )
    return torch.from_numpy(np.ascontiguousarray(array.astype(np.int64).T))


def check_range(rows: Tensor, names: Sequence[str], low: int, high: Sequence[int | None], where: str) -> None:
    """Check that row ``k`` of a table ``[columns, E]`` lies in ``[low, high[k]]``.

    Raises:
        InputError: names the first entry that does not, as the row of the file that it is.
    """
    for column, (row, name, most) in enumerate(zip(rows, names, high, strict=True)):
        bad = (row < low) if most is None else (row < low) | (row > most)
        if bad.any():
            at = int(bad.nonzero()[0])
            bounds = f"at least {low}" if most is None else f"in [{low}, {most}]"
            raise InputError(f"{where}: {name} must be {bounds} (got {int(row[at])} at row {at}, column {column})")
