from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.errors import InputError

ARTWORK = (
    *("acno", "artist_ids", "classification", "medium", "start_year", "width_mm", "height_mm", "subject_ids"),
    *("movement_ids", "title"),
)
ARTIST = ("id", "name", "gender", "birth_year")
SUBJECT = ("id", "name", "top", "middle")
#: Table -> its columns.
TABLES = {"artworks.tsv": ARTWORK, "artists.tsv": ARTIST, "subjects.tsv": SUBJECT}


def write_tables(collection: Path, folder: Path) -> None:
    """Make the tables of :class:`~hyperlearn_pyg.datasets.Tate` from a copy of Tate's repository.

    Args:
        collection: the repository; its folders ``artworks`` and ``artists`` hold one JSON file each.
        folder: where the tables go; those that are there are written again.

    Raises:
        InputError: a file is damaged or of another form (file and line, or entry, are named).
    """
    artworks: dict[str, tuple[str, ...]] = {}
    artists: dict[str, tuple[str, ...]] = {}
    subjects: dict[str, tuple[str, ...]] = {}
    for path, entry in _entries(collection / "artists"):
        artists[_text(entry, "id", path)] = _artist(entry, path)
    for path, entry in _entries(collection / "artworks"):
        made_by = [person for person in entry.get("contributors") or () if person.get("role") == "artist"]
        for person in made_by:
            artists.setdefault(_text(person, "id", path), _artist(person, path))
        leaves = {leaf[0]: leaf for leaf in _leaves(entry.get("subjects") or {}, (), path)}
        for key, leaf in leaves.items():
            subjects.setdefault(key, leaf)
        made_by_ids = dict.fromkeys(_text(person, "id", path) for person in made_by)
        artworks[_text(entry, "acno", path)] = _artwork(entry, " ".join(made_by_ids), " ".join(leaves), path)
    rows: tuple[list[tuple[str, ...]], ...] = (
        [(acno, *row) for acno, row in artworks.items()],
        [(key, *row) for key, row in artists.items()],
        list(subjects.values()),
    )
    for (name, columns), lines in zip(TABLES.items(), rows, strict=True):
        with atomic_path(folder / name) as temporary:
            text = "".join("\t".join(line) + "\n" for line in (columns, *lines))
            temporary.write_text(text, encoding="utf-8", newline="\n")


def _entries(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the JSON files below a folder, in the order of their names, and what they hold."""
    for path in sorted(folder.rglob("*.json")):
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(f"'{path}', line {error.lineno}: is no intact JSON ({error.msg})") from error
        except (UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"'{path}' is no intact JSON ({error})") from error
        if not isinstance(entry, dict):
            raise InputError(f"'{path}' must hold an object (got {type(entry).__name__})")
        yield path, entry


def _artwork(entry: Mapping[str, Any], artists: str, subjects: str, path: Path) -> tuple[str, ...]:
    """Return the cells of an artwork behind its accession number."""
    return (
        artists,
        _text(entry, "classification", path),
        _text(entry, "medium", path),
        _text(entry.get("dateRange") or {}, "startYear", path),
        _text(entry, "width", path),
        _text(entry, "height", path),
        subjects,
        " ".join(_text(movement, "id", path) for movement in entry.get("movements") or ()),
        _text(entry, "title", path),
    )


def _artist(person: Mapping[str, Any], path: Path) -> tuple[str, str, str]:
    return _text(person, "mda", path), _text(person, "gender", path), _text(person, "birthYear", path)


def _text(entry: Mapping[str, Any], key: str, path: Path) -> str:
    """Return a value as the text of a cell; nothing is the empty one."""
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise InputError(f"'{path}': {key!r} must be a text or a number (got {type(value).__name__})")
    return " ".join(str(value).split())


def _leaves(term: Mapping[str, Any], above: tuple[str, ...], path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield id, name and the two topmost names above them of the terms that have none below."""
    for child in term.get("children") or ():
        name = _text(child, "name", path)
        if child.get("children"):
            yield from _leaves(child, (*above, name), path)
        else:
            top, middle, *_ = (*above, "", "")
            yield _text(child, "id", path), name, top, middle
