from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.data._guess import (
    NAME,
    SPLIT,
    TIME,
    VALUE,
    WEIGHT,
    Guess,
    check_distinct,
    find_slots,
    is_time,
    kind,
    not_numbers,
    profile,
    separator,
)
from hyperlearn_pyg.data.splits import SPLITS
from hyperlearn_pyg.data.table_config import load_config
from hyperlearn_pyg.data.table_reader import find_file
from hyperlearn_pyg.errors import InputError

_HEAD = """\
# Config of 'hyperlearn fit', guessed from the files: read it through and mend what is wrong.
# File names are relative to this file, or to the folder given as --root.
"""

_TAIL = """\
[split]                          # shares held out of relations without a split column
test = 0.1
val = 0.1
seed = 0

[model]
preset = "default"               # or "paper"
rank = 32                        # length of the embeddings

# [train]                        # the preset knows good values; what stands here comes first
# epochs = 200
# lr = 0.005
"""


def write_config(files: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> None:
    """Write the config drafted from ``files`` to ``out``, whole or not at all.

    Raises:
        InputError: ``out`` exists, its folder does not, or the files hold no relation or cannot be read.
    """
    out = Path(out)
    if out.exists():
        raise InputError(f"'{out}' exists already: delete it or name another file")
    if not out.parent.is_dir():
        raise InputError(f"'{out}' cannot be written: there is no folder '{out.parent}'")
    text = draft_config([Path(file) for file in files], base=out.parent)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
        load_config(temporary)  # a guess may be wrong, but its form must not be


def draft_config(files: Sequence[Path], *, base: Path | None = None) -> str:
    """Guess modalities and relations from files; return a commented TOML config.

    A file with a column of distinct ids is taken for the items of a modality; one with two columns or more
    that refer to ids (by the name, as ``user_id``, or because they hold the ids of another file) for a
    relation, a file of two columns of the same modality for its graph.

    Args:
        files: CSV, TSV or Parquet files.
        base: the folder that names in the config are relative to; the working folder if left out.

    Raises:
        InputError: no file given, a file that cannot be read, or no relation in any of them.
    """
    if not files:
        raise InputError("no files given: name the CSV, TSV or Parquet files of items and relations")
    guesses = [profile(find_file(str(file), Path())) for file in files]
    find_slots(guesses)
    check_distinct(guesses)
    graphs = {g.slots[0][0]: g for g in guesses if g.is_graph}
    relations = [g for g in guesses if g.is_relation and all(g is not graph for graph in graphs.values())]
    if not relations:
        seen = "; ".join(f"'{g.path}': {', '.join(g.columns)}" for g in guesses)
        raise InputError(f"no file has two columns of ids (names as 'user_id', or ids of another file). Read: {seen}")
    owners = {g.modality: g for g in guesses if g.id is not None}
    named = [modality for g in relations for modality, _ in g.slots]
    folder = (base or Path()).resolve()
    parts = [_HEAD]
    for modality in dict.fromkeys([*owners, *named]):
        own = owners.get(modality)
        if own is None:
            parts.append(f"[modality.{_key(modality)}]  # no file: the ids are those that the relations name\n")
        else:
            parts.append(_modality(own, relations, folder))
        if modality in graphs:
            parts.append(_graph(graphs[modality], folder))
    taken = set(owners) | set(named)
    parts += [_relation(guess, slots, taken, folder) for guess in relations for slots in guess.tuples]
    return "\n".join([*parts, _TAIL])


def _modality(guess: Guess, relations: Sequence[Guess], folder: Path) -> str:
    assert guess.id is not None, "only a guess with an id becomes a modality"
    rows = guess.columns[guess.id].rows
    lines = [f"[modality.{_key(guess.modality)}]  # {rows} items", *_file(guess, folder)]
    lines.append(_line("id", guess.id, "the column of ids"))
    used = {guess.id, *(column for _, column in guess.slots)}
    kinds = {name: kind(column) for name, column in guess.columns.items() if name not in used}
    name = next((c for c in guess.columns if c.lower().endswith(NAME) and c not in used), None)
    label = next((c for c, k in kinds.items() if k == "categorical" and c != name), None)
    lines += [_line("name", name, "shown instead of the id")] if name else []
    lines += (
        [_line("label", label, "category that colours maps and is probed in the vectors; no feature")] if label else []
    )
    unknown = _unknown_ids(guess, relations)
    if unknown:
        lines.append(_line("unknown", "add", f'{unknown} ids are not in the file; or "drop" such tuples'))
    kinds |= {name: ""} if name and not name.lower().endswith("title") else {}  # names of people tell little
    features = [
        f'# {_key(column)} = "{k}"  # left out: the label, of which a probe would read an input back'
        if column == label
        else _feature(guess, column, k)
        for column, k in kinds.items()
    ]
    if features:
        lines += ["", f"[modality.{_key(guess.modality)}.features]", *features]
    return "\n".join(lines) + "\n"


def _unknown_ids(guess: Guess, relations: Sequence[Guess]) -> int:
    """Number of ids that a relation names and the file of the modality does not hold."""
    ids = guess.columns[str(guess.id)].distinct
    unknown: set[str] = set()
    for other in relations:
        for column in [column for modality, column in other.slots if modality == guess.modality]:
            cells = other.columns[column].distinct
            if column in other.marks:
                parts = pc.split_pattern(cells, other.marks[column])
                cells = pc.utf8_trim_whitespace(pc.list_flatten(parts))
            unknown |= set(cells.filter(pc.invert(pc.is_in(cells, value_set=ids))).to_pylist())
    return len(unknown - {""})


def _feature(guess: Guess, name: str, guessed: str) -> str:
    column = guess.columns[name]
    count = f"{len(column.distinct)} distinct" + (f", {column.empty} empty" if column.empty else "")
    if guessed == "multi":
        return f'{_key(name)} = {{ kind = "multi", separator = {_quote(separator(column))} }}  # {count}'
    if guessed == "text":
        return f'{_key(name)} = {{ kind = "text", max_features = 200 }}  # {count}'
    if guessed:
        return _line(name, guessed, count)
    bad = not_numbers(column)[:3] if not column.numeric else []
    if bad:
        texts = ", ".join(_quote(text) for text in bad)
        return f'# {_key(name)} = "numeric"  # left out: {texts}, unless named in na_values = [...] above'
    return f'# {_key(name)} = "{"numeric" if column.numeric else "categorical"}"  # left out: {count}'


def _graph(guess: Guess, folder: Path) -> str:
    modality = guess.slots[0][0]
    lines = [f"[modality.{_key(modality)}.graph]  # edges between items", *_file(guess, folder)]
    lines += [_line(end, column, "") for end, (_, column) in zip(("source", "target"), guess.slots, strict=True)]
    weight = guess.pick(WEIGHT | VALUE)
    return "\n".join(lines + ([_line("weight", weight, "")] if weight else [])) + "\n"


def _relation(guess: Guess, slots: Sequence[tuple[str, str]], taken: set[str], folder: Path) -> str:
    name = _free_name([guess.modality, "_".join(m for m, _ in slots), f"{guess.modality}_relation"], taken)
    rows = next(iter(guess.columns.values())).rows
    lines = [f"[relation.{_key(name)}]  # {rows} rows", *_file(guess, folder)]
    found = {
        "value": (guess.pick(VALUE), "what is predicted; without it, whether a tuple is there"),
        "weight": (guess.pick(WEIGHT), "weight of each tuple"),
        "time": (guess.pick(TIME), "numbers or ISO dates"),
        "split": (guess.pick(SPLIT), "holds train, val, test"),
    }
    used = [column for _, column in slots]
    for key, (column, comment) in found.items():
        if column is not None and _fits(guess, key, column):
            lines.append(_line(key, column, comment))
            used.append(column)
    empty = any(guess.columns[column].empty for column in used)
    lines.append(_line("missing", "drop" if empty else "error", 'rows with an empty cell: "error" or "drop"'))
    lines += ["", f'[relation.{_key(name)}.columns]  # slot = column; a slot is a modality, or "modality.role"']
    modalities = [modality for modality, _ in slots]
    for modality, column in slots:
        slot = modality if modalities.count(modality) == 1 else f"{modality}.{_role(column)}"
        lines.append(_slot(slot, column, guess))
    others = [" ".join(column.split()) for column in guess.columns if column not in used and column != guess.id]
    return "\n".join(lines + ([f"# not used: {', '.join(others)}"] if others else [])) + "\n"


def _free_name(wishes: Sequence[str], taken: set[str]) -> str:
    name = next((wish for wish in wishes if wish not in taken), None)
    number = 2
    while name is None:
        wish = f"{wishes[-1]}{number}"
        name, number = (wish if wish not in taken else None), number + 1
    taken.add(name)
    return name


def _slot(slot: str, column: str, guess: Guess) -> str:
    if column in guess.marks:
        cell = f"{{ column = {_quote(column)}, separator = {_quote(guess.marks[column])} }}"
        return f"{_key(slot)} = {cell}  # several ids a cell: one tuple each"
    return _line(slot, column, f"{len(guess.columns[column].distinct)} distinct")


def _fits(guess: Guess, key: str, name: str) -> bool:
    column = guess.columns[name]
    if key == "split":
        return set(column.distinct.to_pylist()) <= set(SPLITS)
    return is_time(column) if key == "time" else column.numeric


def _role(column: str) -> str:
    return re.sub(r"\W+", "_", column).strip("_") or "other"


def _file(guess: Guess, folder: Path) -> list[str]:
    name = Path(os.path.relpath(guess.path.resolve(), folder)).as_posix()
    lines = [_line("file", name, "a list of files is concatenated")]
    lines += [_line("separator", guess.config.separator, "")] if guess.config.separator else []
    return lines + ([_line("encoding", guess.config.encoding, "")] if guess.config.encoding != "utf-8" else [])


def _line(key: str, value: str, comment: str) -> str:
    line = f"{_key(key)} = {_quote(value)}"
    return f"{line:<32} # {comment}" if comment else line


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quote(name)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML strings are JSON's but for DEL
