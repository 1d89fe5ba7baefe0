from __future__ import annotations

import datetime
from pathlib import Path

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import RawFilesDataset
from hyperlearn_pyg.datasets._files import fetch_from_zip, find_plain_or_gz
from hyperlearn_pyg.datasets._rows import check_distinct, positions, read_ints, read_items
from hyperlearn_pyg.errors import InputError

_SECOND = "user_taggedartists_2.dat"
_TAGGED = ("userID", "artistID", "tagID", "day", "month", "year")


class HetRecLastFM(RawFilesDataset):
    """Last.fm of HetRec 2011: which user gave which tag to which artist, who listens to whom, who are friends.

    ========  =======  ==========  ==========================================================
    item      number   in tagged   attributes
    ========  =======  ==========  ==========================================================
    user      1,892    1,892       ``item_id``
    artist    18,022   12,523      ``item_id``, ``item_name``
    tag       11,946   9,749       ``item_id``, ``item_name``
    ========  =======  ==========  ==========================================================

    ===========================  ===================  =============================================================
    relation                     number               attributes
    ===========================  ===================  =============================================================
    tagged (user, artist, tag)   186,479 (186,478)    ``time``
    listens (user, artist)       92,834               ``value``: how often
    (user, friend, user)         25,434               edges in both directions: 12,717 friendships
    ===========================  ===================  =============================================================

    The archive holds 186,479 rows of tagging; a copy that is spread over two files, where one row was lost, is read
    too: ``user_taggedartists.dat`` and ``user_taggedartists_2.dat``, each with a header. Of the artists, 390 were
    tagged only and are not in ``artists.dat``: their ``item_name`` is ``"artist ID"``. ``time`` is midnight of the
    day, in seconds since 1970 (five rows are dated before 2005, three of them 1956:
    mistakes of the source); most days are the
    first of a month.

    There is no official split, so none is set. A seeded one, and one by time:

        >>> from hyperlearn_pyg.transforms import RandomRelationSplit
        >>> dataset = HetRecLastFM(root, transform=RandomRelationSplit("tagged", seed=0))  # doctest: +SKIP
        >>> dataset = HetRecLastFM(root, transform=RandomRelationSplit("tagged", by="time"))  # doctest: +SKIP

    Source: I. Cantador, P. Brusilovsky and T. Kuflik, 2nd Workshop on Information Heterogeneity and Fusion in
    Recommender Systems (HetRec 2011), RecSys 2011. Non-commercial use. GroupLens publishes no checksum of the archive:
    the one here is recorded by several public projects that load it, and was not checked against a download.

    Args:
        root: folder of the data set. Files already in ``root/raw``, plain or with ``.gz``, are not downloaded again;
            needed are ``artists.dat``, ``tags.dat``, ``user_artists.dat``, ``user_friends.dat`` and
            ``user_taggedartists.dat``.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.

    Raises:
        InputError: a missing, damaged, wrongly encoded or malformed file (with line and column), a tag that
            ``tags.dat`` does not hold, a row that occurs twice. Nothing half-processed stays behind.
    """

    url = "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip"

    @property
    def files(self) -> list[str]:
        """The five files of the archive, and the second part of the tagging where it is there."""
        names = ["artists.dat", "tags.dat", "user_artists.dat", "user_friends.dat", "user_taggedartists.dat"]
        return names if find_plain_or_gz(self.raw_dir, _SECOND) is None else [*names, _SECOND]

    @property
    def processed_file_names(self) -> str:
        """One file."""
        return "lastfm.pt"

    def download(self) -> None:
        """Fetch the official archive and take from it the files that are missing."""
        fetch_from_zip(self.url, self.raw_dir, self.files)

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the raw files."""
        path = {name: self.raw_file(name) for name in self.files}
        artists = _read_names(path["artists.dat"], ("id", "name", "url", "pictureURL"), "utf-8")
        tags = _read_names(path["tags.dat"], ("tagID", "tagValue"), "latin-1")
        tagged, time = _read_tagged([path[name] for name in self.files[4:]], tags, path["tags.dat"])
        listens = read_ints(path["user_artists.dat"], ("userID", "artistID", "weight"))
        friends = read_ints(path["user_friends.dat"], ("userID", "friendID"))
        users = torch.cat([tagged[0], listens[0], friends.flatten()]).unique()
        used = torch.cat([tagged[1], listens[1]]).unique()
        for number in used[~positions(used, torch.tensor(list(artists), dtype=torch.long))[1]].tolist():
            artists[number] = f"artist {number}"
        data = MultiModalHeteroData()
        data.add_modality("user", num_nodes=len(users), item_id=[str(number) for number in users.tolist()])
        for modality, names in (("artist", artists), ("tag", tags)):
            ids = [str(number) for number in names]
            data.add_modality(modality, num_nodes=len(ids), item_id=ids, item_name=list(names.values()))
        known = [users, torch.tensor(list(artists), dtype=torch.long), torch.tensor(list(tags), dtype=torch.long)]
        index = _indices(tagged, known)
        data.add_hyperedges("tagged", index, modalities=("user", "artist", "tag"), time=time)
        index = _indices(listens[:2], known[:2])
        _check_table(index, path["user_artists.dat"])
        data.add_hyperedges("listens", index, modalities=("user", "artist"), value=listens[2])
        index = _indices(friends, [users, users])
        _check_table(index, path["user_friends.dat"])
        data["user", "friend", "user"].edge_index = index
        return data


def _read_names(path: Path, columns: tuple[str, ...], encoding: str) -> dict[int, str]:
    """Return id -> name, in the order of the file."""
    names: dict[int, str] = {}
    for text, (number, fields) in read_items(path, columns, encoding=encoding).items():
        if not text.isdecimal():
            raise InputError(f"'{path}', line {number}, column '{columns[0]}': expected an integer, got {text!r}")
        names[int(text)] = fields[1]
    return names


def _read_tagged(paths: list[Path], tags: dict[int, str], source: Path) -> tuple[Tensor, Tensor]:
    """Return the ids of user, artist and tag ``[3, E]`` and the times ``[E]`` of one file after the other."""
    parts = [read_ints(path, _TAGGED) for path in paths]
    rows = torch.cat(parts, dim=1)
    lines = [(path, line + 2) for path, part in zip(paths, parts, strict=True) for line in range(part.size(1))]

    def where(row: int) -> str:
        return f"'{lines[row][0]}', line {lines[row][1]}"

    unknown = (~positions(rows[2], torch.tensor(list(tags), dtype=torch.long))[1]).nonzero().view(-1)
    if len(unknown):
        row = int(unknown[0])
        raise InputError(
            f"{where(row)}, column 'tagID': {int(rows[2, row])} is not in '{source.name}' ({len(unknown)} such rows)"
        )
    check_distinct(rows[:3], [int(row.max()) + 1 if row.numel() else 1 for row in rows[:3]], where)
    seconds: dict[tuple[int, int, int], int] = {}
    time = []
    for at, (day, month, year) in enumerate(rows[3:].t().tolist()):
        date = (year, month, day)
        if date not in seconds:
            try:
                seconds[date] = (datetime.date(*date) - datetime.date(1970, 1, 1)).days * 86400
            except (ValueError, OverflowError) as error:
                raise InputError(f"{where(at)}: {day}.{month}.{year} is no date ({error})") from error
        time.append(seconds[date])
    return rows[:3], torch.tensor(time, dtype=torch.long)


def _indices(rows: Tensor, known: list[Tensor]) -> Tensor:
    """Turn ids ``[k, E]`` that are all known into item indices."""
    return torch.stack([positions(row, ids)[0] for row, ids in zip(rows, known, strict=True)])


def _check_table(index: Tensor, path: Path) -> None:
    sizes = [int(row.max()) + 1 if row.numel() else 1 for row in index]
    check_distinct(index, sizes, lambda row: f"'{path}', line {row + 2}")
