from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from hyperlearn_pyg.data.splits import SPLITS
from hyperlearn_pyg.data.table_config import RelationConfig, SlotConfig
from hyperlearn_pyg.data.table_reader import Table, read_table
from hyperlearn_pyg.data.tuples import tuple_ids
from hyperlearn_pyg.errors import InputError, did_you_mean

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tuples:
    """The tuples of one relation, each with the row of the table that it comes from.

    Args:
        config: the relation.
        table: its columns.
        rows: ``[E]`` row of each tuple.
        codes: one ``[E]`` a slot: position in ``names`` of that slot.
        names: one array of distinct ids a slot, in the order of first occurrence.
        columns: "value", "weight", "time" (float64) and "split" (position in SPLITS), each ``[E]``, as configured.
        notes: what was left out, in words.
    """

    config: RelationConfig
    table: Table
    rows: Array
    codes: list[Array]
    names: list[pa.Array]
    columns: dict[str, Array]
    notes: list[str] = field(default_factory=list)

    def take(self, kept: Array | slice, note: str | None = None) -> Tuples:
        """Keep some tuples (positions or a mask), with a note of why others are gone."""
        return replace(
            self,
            rows=self.rows[kept],
            codes=[codes[kept] for codes in self.codes],
            columns={key: column[kept] for key, column in self.columns.items()},
            notes=[*self.notes, f"relation '{self.config.relation}': {note}"] if note else self.notes,
        )

    def check_not_empty(self) -> None:
        """Raise InputError where no tuple is left."""
        if len(self.rows) == 0:
            why = "".join(f"; {note}" for note in self.notes)
            raise InputError(f"{self.table.label}: relation '{self.config.relation}' holds no tuple{why}")


def read_tuples(config: RelationConfig, base: Path) -> Tuples:
    """Read a relation: leave out rows, bin and explode cells, parse value, weight, time and split.

    Raises:
        InputError: a missing file or column, an empty cell, a cell that is no number, no tuple at all.
    """
    single = {key: getattr(config, key) for key in ("value", "weight", "time", "split")}
    used = [slot.column for slot in config.slots] + [column for column in single.values() if column]
    table = read_table(config.table, [*used, *config.exclude], base)
    tuples = Tuples(config, table, np.arange(table.num_rows), [], [], {})
    tuples.check_not_empty()
    tuples = _present(_exclude_rows(tuples), list(dict.fromkeys(used)))
    tuples.check_not_empty()
    for key in ("value", "weight"):
        if single[key]:
            tuples.columns[key] = table.numbers(single[key], tuples.rows)
    if config.weight:
        _check_weight(tuples)
    if config.time:
        tuples.columns["time"] = table.times(config.time, tuples.rows)
    if config.split:
        tuples.columns["split"] = _split(tuples, config.split)
    for slot in config.slots:
        tuples = _explode(tuples, slot) if slot.separator else _slot(tuples, slot)
    tuples.check_not_empty()
    return tuples


def _exclude_rows(tuples: Tuples) -> Tuples:
    exploded = {slot.column for slot in tuples.config.slots if slot.separator}
    kept = np.ones(len(tuples.rows), dtype=bool)
    for column, values in tuples.config.exclude.items():
        if column not in exploded:
            hit = pc.is_in(tuples.table.text(column), value_set=pa.array(values, pa.string()))
            kept &= ~hit.to_numpy()
            if not pc.any(hit).as_py():
                tuples = tuples.take(slice(None), f"'exclude' of column {column!r} matches no row")
    left_out = int((~kept).sum())
    return tuples.take(kept, f"{left_out} rows left out by 'exclude'") if left_out else tuples


def _present(tuples: Tuples, columns: Sequence[str]) -> Tuples:
    """Drop rows with an empty cell, or complain about the first."""
    kept = np.ones(len(tuples.rows), dtype=bool)
    for column in columns:
        valid = tuples.table.text(column).is_valid().to_numpy()[tuples.rows]
        if tuples.config.missing == "error" and not valid.all():
            place = tuples.table.where(int(tuples.rows[np.flatnonzero(~valid)[0]]), column)
            count = int((~valid).sum())
            raise InputError(f'{place}: the cell is empty ({count} such rows); missing = "drop" leaves them out')
        kept &= valid
    dropped = int((~kept).sum())
    return tuples.take(kept, f"{dropped} rows with an empty cell dropped") if dropped else tuples


def _check_weight(tuples: Tuples) -> None:
    negative = np.flatnonzero(tuples.columns["weight"] < 0)
    if len(negative):
        at = negative[0]
        place = tuples.table.where(int(tuples.rows[at]), tuples.config.weight)
        raise InputError(f"{place}: a weight of at least 0 is expected, got {tuples.columns['weight'][at]:g}")


def _split(tuples: Tuples, column: str) -> Array:
    cells = tuples.table.text(column).take(pa.array(tuples.rows))
    codes: Array = pc.fill_null(pc.index_in(cells, value_set=pa.array(SPLITS)), -1).to_numpy()
    unknown = np.flatnonzero(codes < 0)
    if len(unknown):
        got = cells[int(unknown[0])].as_py()
        place = tuples.table.where(int(tuples.rows[unknown[0]]), column)
        raise InputError(f"{place}: train, val or test is expected, got {got!r}.{did_you_mean(got, SPLITS)}")
    if not (codes == SPLITS.index("train")).any():
        raise InputError(f"{tuples.table.label}, column {column!r}: no row holds 'train'")
    return codes


def bin_numbers(numbers: npt.NDArray[np.float64], width: float) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return for each number the code of its bin, ``floor(number / width) * width``, and the names of the bins."""
    floors, codes = np.unique(np.floor(numbers / width) * width + 0.0, return_inverse=True)
    return codes, pa.array([f"{floor:.12g}" for floor in floors], pa.string())


def _slot(tuples: Tuples, slot: SlotConfig) -> Tuples:
    """Add the slot of a column with one id a cell."""
    if slot.bin is None:
        codes, names = _encode(tuples.table.text(slot.column).take(pa.array(tuples.rows)))
    else:
        numbers = tuples.table.numbers(slot.column, tuples.rows)
        codes, names = bin_numbers(numbers, slot.bin)
    return replace(tuples, codes=[*tuples.codes, codes], names=[*tuples.names, names])


def _explode(tuples: Tuples, slot: SlotConfig) -> Tuples:
    """Add the slot of a column with several ids a cell: one tuple each, beside all other slots."""
    cells = tuples.table.text(slot.column).take(pa.array(tuples.rows)).combine_chunks()
    lists = pc.split_pattern(cells, slot.separator)
    parents = pc.list_parent_indices(lists).to_numpy()
    ids = pc.utf8_trim_whitespace(pc.list_flatten(lists))
    filled = pc.not_equal(ids, "").to_numpy(zero_copy_only=False)
    holds = np.zeros(len(tuples.rows), dtype=bool)
    holds[parents[filled]] = True
    if tuples.config.missing == "error" and not holds.all():
        place = tuples.table.where(int(tuples.rows[np.flatnonzero(~holds)[0]]), slot.column)
        raise InputError(f'{place}: the cell holds no id; missing = "drop" leaves such rows out')
    note = None
    if slot.column in tuples.config.exclude:
        values = pa.array(tuples.config.exclude[slot.column], pa.string())
        excluded = pc.is_in(ids, value_set=values).to_numpy(zero_copy_only=False)
        note = f"{int(excluded.sum())} tuples left out by 'exclude'"
        filled &= ~excluded
    codes, names = _encode(pa.chunked_array([ids.filter(pa.array(filled))]))
    tuples = tuples.take(parents[filled], note)
    return replace(tuples, codes=[*tuples.codes, codes], names=[*tuples.names, names])


def _encode(cells: pa.ChunkedArray) -> tuple[Array, pa.Array]:
    encoded = cells.dictionary_encode().unify_dictionaries()
    if encoded.num_chunks == 0:
        return np.zeros(0, dtype=np.int64), pa.array([], pa.string())
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    return codes, encoded.chunk(0).dictionary


def drop_repeated(tuples: Tuples, index: Sequence[Array], sizes: Sequence[int]) -> Array | None:
    """Return the positions of the tuples to keep, or None where none is repeated.

    Args:
        tuples: the relation.
        index: one ``[E]`` a slot: item indices.
        sizes: number of items of each slot.

    Raises:
        InputError: a tuple is repeated with another value, weight or split (both lines).
    """
    key = tuple_ids(torch.from_numpy(np.stack(index)), sizes).numpy()
    order = np.argsort(key, kind="stable")
    first = np.ones(len(key), dtype=bool)
    first[1:] = key[order[1:]] != key[order[:-1]]
    if first.all():
        return None
    heads = order[first]
    head = heads[np.cumsum(first) - 1]  # for each sorted tuple, the first of its kind in the file
    for name in ("value", "weight", "split"):
        if name in tuples.columns:
            column = tuples.columns[name]
            differs = np.flatnonzero(column[order] != column[head])
            if len(differs):
                at = differs[np.argmin(order[differs])]
                raise _conflict(tuples, name, int(head[at]), int(order[at]), len(differs))
    return np.sort(heads)


def _conflict(tuples: Tuples, name: str, first: int, second: int, count: int) -> InputError:
    config, column = tuples.config, tuples.columns[name]
    ids = [str(names[int(codes[second])]) for names, codes in zip(tuples.names, tuples.codes, strict=True)]
    slots = [".".join(part for part in slot.slot if part) for slot in config.slots]
    named = ", ".join(f"{slot} {i!r}" for slot, i in zip(slots, ids, strict=True))
    got = [SPLITS[int(column[i])] if name == "split" else f"{column[i]:g}" for i in (first, second)]
    places = [tuples.table.where(int(tuples.rows[i]), getattr(config, name)) for i in (second, first)]
    return InputError(
        f"{places[0]}: tuple ({named}) has the {name} {got[1]}, but {got[0]} in {places[1]} "
        f"({count} such tuples): keep one row of each"
    )
