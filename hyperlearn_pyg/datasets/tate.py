from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import RawFilesDataset, Transform
from hyperlearn_pyg.datasets._features import one_hot, standardise
from hyperlearn_pyg.datasets._files import ask_for, to_float, to_int
from hyperlearn_pyg.datasets._rows import read_items
from hyperlearn_pyg.datasets._tate_json import ARTWORK, TABLES, write_tables
from hyperlearn_pyg.errors import InputError

GENDERS = ("Female", "Male")
#: The id of J. M. W. Turner.
TURNER = "558"
#: What the source has in place of a year or a size.
_NO_YEAR = re.compile(r"no date|c\.1997-9")
_NO_SIZE = re.compile(r"\((left|upper|top|each|1|image|diameter|overall)\):|each|ea\.316|mm")

_Rows = dict[str, tuple[int, list[str]]]


class Tate(RawFilesDataset):
    """The Tate collection: who made which artwork, of which class, in which decade, and what it shows.

    =====================================  ===========  ==========================================================
    relation                               number       items
    =====================================  ===========  ==========================================================
    made (artwork, artist, class, decade)  62,152       61,721 artworks, 3,151 artists, 9 classes, 48 decades
    depicts (artwork, subject)             361,385      58,801 artworks, 16,455 subjects
    =====================================  ===========  ==========================================================

    Of the 69,202 artworks, those that lack an artist, a class or a year are in no tuple of ``made``; of several artists
    each has a tuple. Modalities: ``artwork`` (``x [69202, 4]``: logarithm of width and height in mm, standardised,
    0 where missing, and whether each is known; ``item_name`` the title, ``item_label`` the class), ``artist`` (``x
    [3151, 3]``: year of birth, standardised, 0 where missing, female, male; ``item_name``, ``item_label`` the gender),
    ``class``, ``decade``, ``subject`` (``item_name``, ``item_label`` the topmost of the terms above it). ``item_id`` is
    the accession number or the id of the tables. Artworks and subjects that are in no relation are kept, artists not.

    .. warning::
        Turner made 37,930 of the artworks, more than half. ``turner=False`` leaves out his tuples and the artworks that
        have no artist but him: 24,530 tuples of 24,260 artworks, 3,150 artists.

    There is no official split, so none is set. A seeded one of the tuples, and one of the artists:

        >>> from hyperlearn_pyg.transforms import RandomRelationSplit
        >>> dataset = Tate(root, turner=False, transform=RandomRelationSplit("made", seed=0))  # doctest: +SKIP
        >>> split = RandomRelationSplit("made", by="item", modality="artist")
        >>> dataset = Tate(root, transform=split)  # doctest: +SKIP

    Source: Tate, https://github.com/tategallery/collection. CC0; Tate asks to be named. The
    repository holds one JSON file an artwork. This class reads three tables made from these; where they are missing and
    ``root/raw/collection`` holds a copy of the repository (``git clone --depth 1``), it makes them:

    * ``artworks.tsv``: ``acno``, ``artist_ids`` (contributors whose role is artist), ``classification``, ``medium``,
      ``start_year``, ``width_mm``, ``height_mm``, ``subject_ids`` (the leaves of the tree of subjects),
      ``movement_ids``, ``title``; ids between blanks;
    * ``artists.tsv``: ``id``, ``name``, ``gender``, ``birth_year``;
    * ``subjects.tsv``: ``id``, ``name``, and the first and second level above, ``top`` and ``middle``.

    The counts are those of such tables; what the repository holds by now may differ.

    Args:
        root: folder of the data set; the tables lie in ``root/raw``, plain or with ``.gz``: UTF-8, between tabs, with
            a header.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.
        turner: keep the works of J. M. W. Turner.

    Raises:
        InputError: a missing, damaged or malformed file (with line and column), an artist or a subject that the tables
            do not hold, an id that stands there twice. Nothing half-processed stays behind.
    """

    url = "https://github.com/tategallery/collection"

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform = None,
        pre_transform: Transform = None,
        force_reload: bool = False,
        *,
        turner: bool = True,
    ) -> None:
        self.turner = turner
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def files(self) -> list[str]:
        """The three tables."""
        return list(TABLES)

    @property
    def processed_file_names(self) -> str:
        """One file with Turner, one without."""
        return "tate.pt" if self.turner else "tate_without_turner.pt"

    def download(self) -> None:
        """Make the tables from a copy of Tate's repository in ``root/raw/collection``.

        Raises:
            InputError: there is no copy, or a damaged one.
        """
        collection = Path(self.raw_dir, "collection")
        if (collection / "artworks").is_dir():
            write_tables(collection, Path(self.raw_dir))
        ask_for(
            self.raw_dir,
            self.files,
            f"put the tables there, plain or as .gz, or let them be made from Tate's repository: "
            f"git clone --depth 1 {self.url} '{collection}', and call again",
        )

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the three tables."""
        paths = [self.raw_file(name) for name in self.files]
        artworks, artists, subjects = (
            read_items(path, columns) for path, columns in zip(paths, TABLES.values(), strict=True)
        )
        linked = {acno: _ids(line, artists, 1, paths[0], paths[1]) for acno, line in artworks.items()}
        if not self.turner:
            artworks = {acno: line for acno, line in artworks.items() if linked[acno] != [TURNER]}
            linked = {acno: [name for name in linked[acno] if name != TURNER] for acno in artworks}
        made = []
        for acno, (number, row) in artworks.items():
            decade = _decade(row[4], paths[0], number)
            if row[2] and decade is not None:
                made += [(acno, artist, row[2], decade) for artist in linked[acno]]
        depicts = [(acno, s) for acno, line in artworks.items() for s in _ids(line, subjects, 7, paths[0], paths[2])]
        data = MultiModalHeteroData()
        data.add_modality("artwork", **_artworks(artworks, paths[0]))
        used = {artist for _, artist, _, _ in made}
        data.add_modality("artist", **_artists({key: line for key, line in artists.items() if key in used}, paths[1]))
        classes, decades = (sorted({tuple_[slot] for tuple_ in made}) for slot in (2, 3))
        data.add_modality("class", num_nodes=len(classes), item_id=classes)
        data.add_modality("decade", num_nodes=len(decades), item_id=decades)
        names = {key: row for key, (_, row) in subjects.items()}
        attributes = {"item_name": [row[1] for row in names.values()], "item_label": [row[2] for row in names.values()]}
        data.add_modality("subject", num_nodes=len(names), item_id=list(names), **attributes)
        _add(data, "made", made, ("artwork", "artist", "class", "decade"))
        _add(data, "depicts", depicts, ("artwork", "subject"))
        return data

    def settings(self) -> list[str]:
        """Whether Turner is left out, as it stands in the ``repr``."""
        return [] if self.turner else ["turner=False"]


def _ids(line: tuple[int, list[str]], known: _Rows, column: int, path: Path, source: Path) -> list[str]:
    """Return the ids between blanks in a cell, each of which the table ``source`` must hold."""
    number, row = line
    ids = row[column].split()
    where = f"'{path}', line {number}, column '{ARTWORK[column]}'"
    for name in ids:
        if name not in known:
            raise InputError(f"{where}: {name!r} is not in '{source.name}'")
    if len(set(ids)) < len(ids):
        raise InputError(f"{where}: holds an id twice ({row[column]!r})")
    return ids


def _decade(text: str, path: Path, number: int) -> str | None:
    if not text or _NO_YEAR.fullmatch(text):
        return None
    return str(to_int(text, path, number, "start_year", low=0, high=9999) // 10 * 10)


def _artworks(rows: _Rows, path: Path) -> dict[str, Any]:
    sizes: list[list[float]] = [[], []]
    for number, row in rows.values():
        for out, column in zip(sizes, (5, 6), strict=True):
            text = row[column]
            known = bool(text) and not _NO_SIZE.fullmatch(text)
            size = to_float(text, path, number, ARTWORK[column]) if known else math.nan
            if size <= 0:
                raise InputError(
                    f"'{path}', line {number}, column '{ARTWORK[column]}': expected a size above 0, got {text!r}"
                )
            out.append(math.log(size))
    given = torch.tensor(sizes, dtype=torch.float64).t().isfinite().float()
    return {
        "x": torch.cat([*map(standardise, sizes), given], dim=1),
        "item_id": list(rows),
        "item_name": [row[9] for _, row in rows.values()],
        "item_label": [row[2] or "unknown" for _, row in rows.values()],
    }


def _artists(rows: _Rows, path: Path) -> dict[str, Any]:
    years, genders = [], []
    for number, (_, _, gender, year) in rows.values():
        years.append(float(to_int(year, path, number, "birth_year", low=0, high=9999)) if year else math.nan)
        if gender and gender not in GENDERS:
            raise InputError(
                f"'{path}', line {number}, column 'gender': expected one of {GENDERS} or nothing, got {gender!r}"
            )
        genders.append(gender)
    index = [GENDERS.index(gender) if gender else -1 for gender in genders]
    return {
        "x": torch.cat([standardise(years), one_hot(index, len(GENDERS))], dim=1),
        "item_id": list(rows),
        "item_name": [row[1] for _, row in rows.values()],
        "item_label": [gender or "unknown" for gender in genders],
    }


def _add(data: MultiModalHeteroData, name: str, tuples: list[Any], modalities: tuple[str, ...]) -> None:
    """Add a relation whose tuples name items by their ids."""
    index: list[list[int]] = []
    for slot, modality in enumerate(modalities):
        numbers = {key: i for i, key in enumerate(data[modality].item_id)}
        index.append([numbers[entry[slot]] for entry in tuples])
    members: Tensor = torch.tensor(index, dtype=torch.long)
    data.add_hyperedges(name, members, modalities=modalities)
