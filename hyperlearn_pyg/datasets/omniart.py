from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import RawFilesDataset, Transform
from hyperlearn_pyg.datasets._files import ask_for, to_int
from hyperlearn_pyg.datasets._rows import read_items
from hyperlearn_pyg.errors import did_you_mean

_COLUMNS = (
    *("omni_id", "artwork_name", "artist_full_name", "creation_year", "century", "school", "l1_type", "l3_type"),
    *("country_code", "dom"),
)
#: Modality -> the column that it is made of.
MODALITIES = {
    "artwork": "omni_id",
    "artist": "artist_full_name",
    "school": "school",
    "class": "l1_type",
    "medium": "l3_type",
    "century": "century",
    "year": "creation_year",
    "country": "country_code",
}
#: Modalities whose items are numbers.
_INTEGERS = ("century", "year")
_DEFAULT = ("artwork", "artist", "class", "century")
#: Artists that are none.
_NOBODY = ("unknown", "unidentified artist")


class OmniArtMuseum(RawFilesDataset):
    """Artworks of three museums' collections with artist, school, class, century and more: the clean core of OmniArt.

    ===============  ========  =======
    selection        artworks  artists
    ===============  ========  =======
    clean core       53,750    10,273
    min_works=10     33,043    954
    ===============  ========  =======

    The clean core are the artworks whose artist is named (neither ``unknown``, which 80,028 of the 141,647 rows are,
    nor ``unidentified artist``) and whose ``l1_type`` is known. Names are taken as they stand: a few are groups, such
    as ``italian unknown master``, or ``Unknown`` with a capital.

    Relation: ``made``, one tuple an artwork, over the modalities ``slots``. Modalities: ``artwork`` (``item_id`` the
    number of the table, ``item_name`` the title, ``item_label`` the class) and any of ``artist``, ``school``, ``class``
    (``l1_type``), ``medium`` (``l3_type``), ``century``, ``year`` and ``country``, with ``item_id`` the text of the
    table. Items are sorted, artworks in the order of the file.

    Mind that the century nearly follows from the year, and the country from the school. There is no official split, so
    none is set. A seeded one, which is one by artwork, as each has one tuple:

        >>> from hyperlearn_pyg.transforms import RandomRelationSplit
        >>> split = RandomRelationSplit("made", val=0.0, test=0.2, seed=0)
        >>> dataset = OmniArtMuseum(root, min_works=10, transform=split)  # doctest: +SKIP

    Source: G. Strezoski and M. Worring, OmniArt: A Large-scale Artistic Benchmark, ACM TOMM 14(4), 2018. Research use.
    The authors no longer give the data out, so nothing is downloaded: this class reads a table that you have.

    Args:
        root: folder of the data set; ``omniart_museum.tsv``, plain or with ``.gz``, lies in ``root/raw``: UTF-8,
            between tabs, with a header that names the columns ``omni_id``, ``artwork_name``, ``artist_full_name``,
            ``creation_year``, ``century``, ``school``, ``l1_type``, ``l3_type``, ``country_code`` and ``dom``.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.
        slots: the modalities of the relation, two or more of the above.
        min_works: keep the artists of at least so many artworks of the clean core.

    Raises:
        ValueError: an unknown modality or one that stands twice, fewer than two, ``min_works`` below 1.
        InputError: a missing, damaged or malformed file (with line and column), an id that stands there twice. Nothing
            half-processed stays behind.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform = None,
        pre_transform: Transform = None,
        force_reload: bool = False,
        *,
        slots: Sequence[str] = _DEFAULT,
        min_works: int = 1,
    ) -> None:
        for slot in slots:
            if slot not in MODALITIES:
                hint = did_you_mean(str(slot), MODALITIES)
                raise ValueError(f"'slots' must be of {tuple(MODALITIES)} (got {slot!r}).{hint}")
        if isinstance(slots, str) or len(slots) < 2 or len(set(slots)) < len(slots):
            raise ValueError(f"'slots' must be two or more different modalities (got {slots!r})")
        if not isinstance(min_works, int) or isinstance(min_works, bool) or min_works < 1:
            raise ValueError(f"'min_works' must be an integer of at least 1 (got {min_works!r})")
        self.slots = tuple(slots)
        self.min_works = min_works
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def files(self) -> list[str]:
        """The table."""
        return ["omniart_museum.tsv"]

    @property
    def processed_file_names(self) -> str:
        """One file for each choice of modalities and least number of works."""
        return f"omniart_{'_'.join(self.slots)}_{self.min_works}.pt"

    def download(self) -> None:
        """Say what is missing.

        Raises:
            InputError: always, as this is called only where the file is missing.
        """
        ask_for(
            self.raw_dir,
            self.files,
            "the authors of OmniArt no longer give it out, so it cannot be downloaded. Put a table there, plain or as "
            f".gz: UTF-8, between tabs, with the columns {', '.join(_COLUMNS)}",
        )

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the table."""
        path = self.raw_file(self.files[0])
        rows = []
        for number, row in read_items(path, _COLUMNS).values():
            for slot in _INTEGERS:
                column = MODALITIES[slot]
                to_int(row[_COLUMNS.index(column)], path, number, column, low=-1_000_000)
            artwork = dict(zip(_COLUMNS, row, strict=True))
            if artwork["artist_full_name"] not in _NOBODY and artwork["l1_type"] != "unknown":
                rows.append(artwork)
        works = Counter(row["artist_full_name"] for row in rows)
        rows = [row for row in rows if works[row["artist_full_name"]] >= self.min_works]
        data = MultiModalHeteroData()
        index = []
        for slot in self.slots:
            texts = [row[MODALITIES[slot]] for row in rows]
            ids = texts if slot == "artwork" else sorted(set(texts), key=int if slot in _INTEGERS else None)
            data.add_modality(slot, num_nodes=len(ids), item_id=ids)
            numbers = {text: i for i, text in enumerate(ids)}
            index.append([numbers[text] for text in texts])
        if "artwork" in self.slots:
            data["artwork"].item_name = [row["artwork_name"] for row in rows]
            data["artwork"].item_label = [row["l1_type"] for row in rows]
        data.add_hyperedges("made", torch.tensor(index, dtype=torch.long), modalities=self.slots)
        return data

    def settings(self) -> list[str]:
        """What differs from the defaults, as it stands in the ``repr``."""
        out = [] if self.slots == _DEFAULT else [f"slots={self.slots}"]
        return out if self.min_works == 1 else [*out, f"min_works={self.min_works}"]
