from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hyperlearn_pyg.data.table_config import FileConfig
from hyperlearn_pyg.data.table_reader import (
    PARQUET,
    encoding_error,
    guess_separator,
    read_header,
    read_table,
    refuse_spreadsheet,
)
from hyperlearn_pyg.errors import InputError

VALUE = {"rating", "ratings", "value", "score", "stars", "grade"}
WEIGHT = {"weight", "count", "plays", "freq", "frequency"}
TIME = {"time", "timestamp", "ts", "date", "datetime", "year", "created_at", "when"}
SPLIT = {"split", "fold", "subset"}
NAME = ("name", "title", "label", "value")


@dataclass
class Column:
    """What a column looks like."""

    name: str
    cells: pa.ChunkedArray
    distinct: pa.Array
    empty: int
    numeric: bool
    rows: int

    @property
    def is_id(self) -> bool:
        """Tell whether the cells are distinct and none is empty."""
        return self.empty == 0 and self.rows > 0 and len(self.distinct) == self.rows

    @property
    def stem(self) -> str | None:
        """What the column refers to by its name: 'user' for 'user_id', '' for 'id', None if to nothing."""
        match = re.fullmatch(r"(?:(.*?)[ _\-.]?ids?)", self.name, re.IGNORECASE)
        # 'paid' and 'valid' are no ids: without a break before it, the suffix must be a capital of its own.
        if match is None or not re.search(
            r"(^|[ _\-.])ids?$|I[Dd]s?$", self.name, re.IGNORECASE if match[1] == "" else 0
        ):
            return None
        return singular(match[1])


@dataclass
class Guess:
    """What a file is taken for: the items of a modality, tuples, or both."""

    path: Path
    config: FileConfig
    columns: dict[str, Column]
    modality: str = ""
    id: str | None = None
    slots: list[tuple[str, str]] = field(default_factory=list)  # (modality, column)
    marks: dict[str, str] = field(default_factory=dict)  # column of several ids a cell -> separator

    @property
    def is_relation(self) -> bool:
        """Tell whether the file ties items together."""
        return len(self.slots) >= 2

    @property
    def is_graph(self) -> bool:
        """Tell whether the file holds edges between items of one modality."""
        return self.id is None and len(self.slots) == 2 and self.slots[0][0] == self.slots[1][0]

    @property
    def tuples(self) -> list[list[tuple[str, str]]]:
        """The slots, one list a relation: each column with several ids a cell makes one of its own."""
        first = [slot for slot in self.slots if slot[1] not in self.marks]
        if self.id is None or not self.marks:
            return [self.slots]
        more = [[self.slots[0], slot] for slot in self.slots if slot[1] in self.marks]
        return ([first] if len(first) > 1 else []) + more

    def pick(self, names: set[str]) -> str | None:
        """Return the first column with one of these names that is no id, no slot and not empty."""
        taken = {self.id, *(column for _, column in self.slots)}
        return next((c for c in self.columns if c.lower() in names and c not in taken), None)


def singular(word: str) -> str:
    """Return the singular of an English file or column name, as far as its ending tells, fit for a key."""
    word = re.sub(r"\W+", "_", word.strip().lower()).strip("_")
    for ending, other in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith(("ss", "us", "is")):
            return "movie" if word == "movies" else word[: -len(ending)] + other
    return word


def profile(path: Path) -> Guess:
    """Read a file and look at each of its columns.

    Raises:
        InputError: the file cannot be read.
    """
    config = _guess_format(path)
    header = list(dict.fromkeys(name for name in read_header(path, config) if name))
    table = read_table(config, header, path.parent)
    columns = {name: _column(name, table.text(name)) for name in header}
    guess = Guess(path, config, columns, singular(_stem(path)))
    ids = [c for c in columns.values() if c.is_id]
    stems = ("", guess.modality)
    named = [c for c in ids if c.stem in stems] or [c for c in ids if c.stem is not None]
    first = [c for c in ids[:1] if c.name == header[0] and not _has_fractions(c)]
    guess.id = next((c.name for c in named + first), None)
    return guess


def find_slots(guesses: Sequence[Guess]) -> None:
    """Find out in place which columns refer to which modality, and which files are not one after all."""
    for guess in guesses:
        owners = [other for other in guesses if other.id is not None and other is not guess]
        refers = {c.name: _refers_to(c, owners) for c in guess.columns.values() if c.name != guess.id}
        guess.slots = [(modality, name) for name, modality in refers.items() if modality]
        if guess.id is None or not guess.slots:
            continue
        own = guess.columns[guess.id]
        valued = guess.pick(VALUE | WEIGHT | {"timestamp", "time", "ts"}) is not None
        if len(guess.slots) >= 2 and (valued or len(guess.columns) == len(guess.slots) + 1):
            guess.id = None  # a serial number of tuples
        elif own.stem is not None and own.stem not in ("", guess.modality) and _refers_to(own, owners):
            guess.slots.insert(0, (str(_refers_to(own, owners)), own.name))
            guess.id = None
        else:
            guess.slots.insert(0, (guess.modality, guess.id))
    for guess in guesses:
        _find_marks(guess, {other.modality: other for other in guesses if other.id is not None})
    _find_graphs(guesses)


def _find_marks(guess: Guess, owners: dict[str, Guess]) -> None:
    """Find columns whose cells hold several ids, most of which their modality knows."""
    for modality, name in guess.slots:
        owner = owners.get(modality)
        if owner is None or name == guess.id:
            continue
        for mark in ("|", ";", ",", " "):
            parts = pc.list_flatten(pc.split_pattern(guess.columns[name].distinct, mark))
            known = pc.is_in(pc.utf8_trim_whitespace(parts), value_set=owner.columns[str(owner.id)].distinct)
            if len(parts) > len(guess.columns[name].distinct) and pc.mean(known).as_py() > 0.5:
                guess.marks[name] = mark
                break


def _find_graphs(guesses: Sequence[Guess]) -> None:
    """Take a file of two columns over the same ids, such as users and friends, for a graph."""
    owners = {guess.modality: guess for guess in guesses if guess.id is not None}
    for guess in guesses:
        if guess.id is not None or len(guess.slots) != 2 or len(guess.columns) > 3:
            continue
        (modality, first), (other, second) = guess.slots
        elsewhere = {*owners, *(m for g in guesses if g is not guess for m, _ in g.slots)}
        owner = owners.get(modality)
        ids = owner.columns[str(owner.id)] if owner is not None else guess.columns[first]
        inside = pc.is_in(guess.columns[second].distinct, value_set=ids.distinct)
        if modality in elsewhere and other not in elsewhere and pc.mean(inside).as_py() > 0.5:
            guess.slots[1] = (modality, second)


def kind(column: Column) -> str:
    """Guess the encoder of a feature column, or '' where none seems to fit."""
    filled = column.rows - column.empty
    if (
        filled == 0
        or (not column.numeric and not_numbers(column))
        or bool(pc.any(pc.match_substring_regex(column.distinct, r"^https?://")).as_py())
    ):
        return ""
    if column.numeric:
        return "numeric" if column.stem is None else ""
    if separator(column):
        return "multi"
    if len(column.distinct) <= max(2, min(256, filled // 2)):
        return "categorical"
    words = pc.mean(pc.count_substring_regex(column.distinct, r"\w\w+")).as_py()
    return "text" if words >= 1.5 and not _is_date(column) else ""


def separator(column: Column) -> str:
    """Return the character that parts the labels of multi-valued cells, or ''."""
    cells = column.cells.drop_null().combine_chunks()
    for mark in ("|", ";"):
        parts = pc.list_flatten(pc.split_pattern(cells, mark))
        if len(parts) > 1.1 * len(cells) and len(parts.unique()) <= max(2, len(parts) // 4):
            return mark
    return ""


def not_numbers(column: Column) -> list[str]:
    """Return the texts in a column of numbers that are none, or nothing where it is no such column."""
    texts = column.distinct.to_pandas()
    bad = texts[pd.to_numeric(texts, errors="coerce").isna()].tolist()
    return bad if len(bad) < 0.1 * len(texts) else []


def is_time(column: Column) -> bool:
    """Tell whether the cells are numbers or ISO 8601 dates."""
    return column.numeric or _is_date(column)


def _is_date(column: Column) -> bool:
    some = column.distinct.slice(0, 1000).to_pandas()
    return len(some) > 0 and bool(pd.to_datetime(some, errors="coerce", utc=True, format="ISO8601").notna().all())


def _guess_format(path: Path) -> FileConfig:
    refuse_spreadsheet(path)
    config = FileConfig((path.name,))
    if path.suffix in PARQUET:
        return config
    if encoding_error(path, config) is not None:
        config = FileConfig((path.name,), encoding="latin-1")
    mark = guess_separator(path)
    if len(read_header(path, FileConfig((path.name,), mark, config.encoding))) == 1:
        for other in (";", "\t", "|"):
            if len(read_header(path, FileConfig((path.name,), other, config.encoding))) > 1:
                mark = other
                break
    return FileConfig((path.name,), None if mark == guess_separator(path) else mark, config.encoding)


def _column(name: str, cells: pa.ChunkedArray) -> Column:
    distinct = cells.unique().drop_null()
    values = pd.to_numeric(pd.Series(distinct.to_pylist(), dtype=object), errors="coerce").to_numpy(np.float64)
    numeric = len(values) > 0 and bool(np.isfinite(values).all())
    return Column(name, cells, distinct, cells.null_count, numeric, len(cells))


def _has_fractions(column: Column) -> bool:
    if not column.numeric:
        return False
    values = column.distinct.to_pandas().astype(float)
    return bool((values != np.floor(values)).any())


def _refers_to(column: Column, owners: Sequence[Guess]) -> str | None:
    """Return the modality whose ids a column holds: by its name, or by ids that cannot coincide by chance."""
    for owner in owners:
        assert owner.id is not None, "owners are the guesses with an id"
        same_name = column.name.lower() == owner.id.lower() and column.stem != ""
        if same_name or column.stem == owner.modality or singular(column.name) == owner.modality:
            return owner.modality
    for owner in owners:
        ids = owner.columns[str(owner.id)]
        if ids.numeric or not len(column.distinct):
            continue
        if bool(pc.all(pc.is_in(column.distinct, value_set=ids.distinct)).as_py()):
            return owner.modality
    return column.stem or None


def _stem(path: Path) -> str:
    name = path.name
    while Path(name).suffix:
        name = Path(name).stem
    return name


def check_distinct(guesses: Sequence[Guess]) -> None:
    """Raise InputError where two files would be the same modality."""
    names = [guess.modality for guess in guesses if guess.id is not None]
    for name in names:
        if names.count(name) > 1:
            files = ", ".join(f"'{g.path}'" for g in guesses if g.modality == name)
            raise InputError(f"{files}: all taken for items of a modality '{name}': pass one of them, or rename")
