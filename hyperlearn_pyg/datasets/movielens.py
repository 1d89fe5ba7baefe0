from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import RawFilesDataset, Transform
from hyperlearn_pyg.datasets._features import one_hot, standardise
from hyperlearn_pyg.datasets._files import fetch_from_zip, read_rows, to_int
from hyperlearn_pyg.errors import InputError, did_you_mean

SPLITS = ("u1", "u2", "u3", "u4", "u5", "ua", "ub")
GENDERS = ("F", "M")
OCCUPATIONS = (
    *("administrator", "artist", "doctor", "educator", "engineer", "entertainment", "executive", "healthcare"),
    *("homemaker", "lawyer", "librarian", "marketing", "none", "other", "programmer", "retired", "salesman"),
    *("scientist", "student", "technician", "writer"),
)
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_USER_COLUMNS = ("user", "age", "gender", "occupation", "zip code")
_FILM_COLUMNS = ("film", "title", "release date", "video release date", "IMDb URL", *GENRES)
_RATING_COLUMNS = ("user", "film", "rating", "time")


class MovieLens100K(RawFilesDataset):
    """MovieLens-100K: 943 users, 1,682 films, 100,000 ratings from 1 to 5, with the published splits as masks.

    Modalities: ``user`` with ``x [943, 24]`` (age standardised, gender, occupation), ``item_label`` the occupation;
    ``film`` with ``x [1682, 20]`` (year of release standardised, 0 where missing; 19 genres), ``item_name`` the
    title, ``item_label`` the first genre. ``item_id`` is the id of the files. Relation: ``rates`` over
    (user, film) with ``value`` (stars), ``time`` (seconds since 1970), ``train_mask`` (the base file) and
    ``test_mask``, in the order of the files, base first.

    Source: F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015. Research use only, no
    redistribution: see the README of the archive.

    Args:
        root: folder of the data set. Files already in ``root/raw``, plain or with ``.gz``, are not downloaded
            again; a split needs ``u.user``, ``u.item``, ``SPLIT.base`` and ``SPLIT.test``.
        split: ``"u1"`` to ``"u5"`` (five disjoint 80/20 splits), ``"ua"`` or ``"ub"`` (ten test ratings a user).
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.

    Raises:
        ValueError: an unknown split.
        InputError: a missing, damaged, wrongly encoded or malformed file (with line and column), ids that the item
            files do not hold, ratings that occur twice. Nothing half-processed stays behind.
    """

    url = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "u1",
        transform: Transform = None,
        pre_transform: Transform = None,
        force_reload: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"'split' must be one of {SPLITS} (got {split!r}).{did_you_mean(str(split), SPLITS)}")
        self.split = split
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def files(self) -> list[str]:
        """The files that the split needs."""
        return ["u.user", "u.item", f"{self.split}.base", f"{self.split}.test"]

    @property
    def processed_file_names(self) -> str:
        """One file a split."""
        return f"{self.split}.pt"

    def download(self) -> None:
        """Fetch the official archive and take from it the files that are missing."""
        fetch_from_zip(self.url, self.raw_dir, self.files)

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the raw files."""
        user_path, film_path, base_path, test_path = (Path(path) for path in self.raw_paths)
        data = MultiModalHeteroData()
        users = _read_users(user_path)
        data.add_modality("user", **users)
        films = _read_films(film_path)
        data.add_modality("film", **films)
        ids = (
            {name: i for i, name in enumerate(users["item_id"])},
            {name: i for i, name in enumerate(films["item_id"])},
        )
        base, test = (_read_ratings(path, *ids, (user_path, film_path)) for path in (base_path, test_path))
        _check_distinct([(base_path, base), (test_path, test)])
        rows = torch.cat([base, test], dim=1)
        is_test = torch.arange(rows.size(1)) >= base.size(1)
        data.add_hyperedges(
            "rates",
            rows[:2],
            modalities=("user", "film"),
            value=rows[2].float(),
            time=rows[3],
            train_mask=~is_test,
            test_mask=is_test,
        )
        return data

    def settings(self) -> list[str]:
        """The split, as it stands in the ``repr``."""
        return [repr(self.split)]


def _one_of(text: str, choices: tuple[str, ...], path: Path, number: int, column: str) -> int:
    if text not in choices:
        hint = did_you_mean(text, choices)
        raise InputError(f"'{path}', line {number}, column '{column}': unknown {column} {text!r}.{hint}")
    return choices.index(text)


def _add_id(ids: dict[str, int], text: str, path: Path, number: int, column: str) -> None:
    name = str(to_int(text, path, number, column, low=1))
    if name in ids:
        raise InputError(f"'{path}', line {number}, column '{column}': id {name} stands in line {ids[name]} already")
    ids[name] = number


def _read_users(path: Path) -> dict[str, Any]:
    ids: dict[str, int] = {}
    age: list[float] = []
    gender, occupation = [], []
    for number, row in read_rows(path, separator="|", columns=_USER_COLUMNS):
        _add_id(ids, row[0], path, number, "user")
        age.append(to_int(row[1], path, number, "age", low=0, high=150))
        gender.append(_one_of(row[2], GENDERS, path, number, "gender"))
        occupation.append(_one_of(row[3], OCCUPATIONS, path, number, "occupation"))
    x = [standardise(age), one_hot(gender, len(GENDERS)), one_hot(occupation, len(OCCUPATIONS))]
    labels = [OCCUPATIONS[i] for i in occupation]
    return {"x": torch.cat(x, dim=1), "item_id": list(ids), "item_label": labels}


def _read_films(path: Path) -> dict[str, Any]:
    ids: dict[str, int] = {}
    titles, years, labels = [], [], []
    genres: list[list[int]] = []
    for number, row in read_rows(path, separator="|", columns=_FILM_COLUMNS):
        _add_id(ids, row[0], path, number, "film")
        titles.append(row[1])
        years.append(_year(row[2], row[1], path, number))
        flags = [to_int(flag, path, number, genre, low=0, high=1) for flag, genre in zip(row[5:], GENRES, strict=True)]
        genres.append(flags)
        labels.append(GENRES[flags.index(1)] if 1 in flags else "unknown")
    x = torch.cat([standardise(years), torch.tensor(genres, dtype=torch.float32)], dim=1)
    return {"x": x, "item_id": list(ids), "item_name": titles, "item_label": labels}


def _year(date: str, title: str, path: Path, number: int) -> float:
    """Return the year of '01-Jan-1995', else of 'Toy Story (1995)', else NaN."""
    if date and not re.fullmatch(r"\d{1,2}-[A-Z][a-z]{2}-\d{4}", date):
        raise InputError(
            f"'{path}', line {number}, column 'release date': expected a date like 01-Jan-1995 or nothing, got {date!r}"
        )
    found = re.search(r"\d{4}$", date) or re.search(r"\((\d{4})\)\s*$", title)
    return float(found.group().strip("() ")) if found else float("nan")


def _read_ratings(path: Path, users: dict[str, int], films: dict[str, int], sources: tuple[Path, Path]) -> Tensor:
    """Return user, film, rating and time as ``[4, E]``; every line of the file is one column."""
    rows: list[tuple[int, int, int, int]] = []
    unknown: list[tuple[int, str, str, Path]] = []
    for number, (user, film, rating, time) in read_rows(path, separator="\t", columns=_RATING_COLUMNS):
        if user not in users:
            unknown.append((number, "user", user, sources[0]))
        if film not in films:
            unknown.append((number, "film", film, sources[1]))
        stars = to_int(rating, path, number, "rating", low=1, high=5)
        rows.append((users.get(user, 0), films.get(film, 0), stars, to_int(time, path, number, "time", low=0)))
    if unknown:
        first = "; ".join(f"line {n}: {kind} {name!r} is not in '{p.name}'" for n, kind, name, p in unknown[:3])
        raise InputError(f"'{path}': {len(unknown)} ids that the item files do not hold (first: {first})")
    return torch.tensor(rows, dtype=torch.long).t().contiguous()


def _check_distinct(files: list[tuple[Path, Tensor]]) -> None:
    """Check that no pair of user and film is rated twice, within a file or across: a split must not leak."""
    seen: dict[tuple[int, int], str] = {}
    for path, rows in files:
        for number, pair in enumerate(zip(rows[0].tolist(), rows[1].tolist(), strict=True), start=1):
            here = f"'{path}', line {number}"
            if pair in seen:
                raise InputError(f"{here}: this user has rated this film already in {seen[pair]}: remove one")
            seen[pair] = here
