from __future__ import annotations

import os

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import RawFilesDataset, Transform
from hyperlearn_pyg.datasets._files import fetch_file, read_mat
from hyperlearn_pyg.datasets._rows import check_range, positions, whole_numbers
from hyperlearn_pyg.errors import InputError, did_you_mean

#: The cities, as the files are called.
CITIES = ("NYC", "SaoPaulo", "Jakarta", "KualaLampur")
#: Hours of a week.
HOURS = 168
_SLOTS = ("user", "hour", "venue", "category")
_FRIENDSHIPS = {"friendship_old": "friend_before", "friendship_new": "friend_after"}


class FoursquareCheckins(RawFilesDataset):
    """Check-ins of Foursquare users in one city, with their friendships before and after (LBSN2Vec's data).

    =====  ==================  =====  ======  ==========  ==================  ===============  ==============
    city   users (checked in)  hours  venues  categories  check-ins (unique)  friends before   friends after
    =====  ==================  =====  ======  ==========  ==================  ===============  ==============
    NYC    4,024 (3,785)       168    3,628   300         105,961 (86,342)    8,723            10,545
    =====  ==================  =====  ======  ==========  ==================  ===============  ==============

    ``SaoPaulo``, ``Jakarta`` and ``KualaLampur`` (so spelt) are read from the same form; their counts were not checked
    here.

    Modalities: ``user`` (``item_id`` is the anonymised id), ``hour`` of the week, ``venue``, ``category``
    (``item_id`` is the number in the file). Relation: ``checkin`` over the four, in the order of the file, equal rows
    kept. Graphs: ``("user", "friend_before", "user")`` and ``("user", "friend_after", "user")``, edges in both
    directions (a pair of the table is two edges; one pair of ``friend_before`` is a user with itself).

    .. warning::
        **Friends after are what friendship prediction predicts** (4,603 pairs of NYC are new): take
        ``data["user", "friend_after", "user"]`` out of the data that a model sees. The category nearly follows from
        the venue: 3,413 of the 3,628 venues of NYC have one only.

    There is no official split, so none is set. A seeded one, which keeps equal check-ins together:

        >>> from hyperlearn_pyg.transforms import RandomRelationSplit
        >>> dataset = FoursquareCheckins(root, transform=RandomRelationSplit("checkin", test=0.2))  # doctest: +SKIP

    Source: D. Yang, B. Qu, J. Yang and P. Cudre-Mauroux, Revisiting User Mobility and Social Relationships in LBSNs: A
    Hypergraph Embedding Approach, WWW 2019, whose repository (https://github.com/eXascaleInfolab/LBSN2Vec) holds the
    files. No licence is stated; its authors ask to be cited.

    Args:
        root: folder of the data set. ``dataset_connected_CITY.mat`` is not downloaded where it lies in ``root/raw``.
            Only that of ``NYC`` ever is: no checksums of the others are known here.
        city: which city.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.

    Raises:
        ValueError: an unknown city.
        InputError: a missing or damaged file (with byte), matrices that are missing or of another form, numbers out of
            range (matrix and row are named). Nothing half-processed stays behind.
    """

    url = "https://raw.githubusercontent.com/eXascaleInfolab/LBSN2Vec/9b647fcf80044adb5bd69f30fdebdcfcc6657a11"

    def __init__(
        self,
        root: str | os.PathLike[str],
        city: str = "NYC",
        transform: Transform = None,
        pre_transform: Transform = None,
        force_reload: bool = False,
    ) -> None:
        if city not in CITIES:
            raise ValueError(f"'city' must be one of {CITIES} (got {city!r}).{did_you_mean(str(city), CITIES)}")
        self.city = city
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def files(self) -> list[str]:
        """The file of the city."""
        return [f"dataset_connected_{self.city}.mat"]

    @property
    def processed_file_names(self) -> str:
        """One file a city."""
        return f"{self.city}.pt"

    def download(self) -> None:
        """Fetch the file from the authors' repository and check it."""
        for name in self.files:
            fetch_file(f"{self.url}/{name}", self.raw_dir, name)

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the MATLAB file."""
        path = self.raw_file(self.files[0])
        matrices = read_mat(path, ("selected_checkins", "selected_users_IDs", *_FRIENDSHIPS))
        table = {
            key: whole_numbers(matrix, path, key, columns)
            for (key, matrix), columns in zip(matrices.items(), (4, 1, 2, 2), strict=True)
        }
        users = table["selected_users_IDs"][0]
        if len(users.unique()) < len(users):
            raise InputError(f"'{path}': 'selected_users_IDs' holds an id twice")
        checkins = table["selected_checkins"]
        check_range(checkins, _SLOTS, 1, (len(users), HOURS, None, None), f"'{path}', 'selected_checkins'")
        ids = [users, torch.arange(1, HOURS + 1), checkins[2].unique(), checkins[3].unique()]
        data = MultiModalHeteroData()
        for modality, numbers in zip(_SLOTS, ids, strict=True):
            data.add_modality(modality, num_nodes=len(numbers), item_id=[str(number) for number in numbers.tolist()])
        rows = [checkins[0] - 1, checkins[1] - 1, *(positions(checkins[i], ids[i])[0] for i in (2, 3))]
        data.add_hyperedges("checkin", torch.stack(rows), modalities=_SLOTS)
        for key, name in _FRIENDSHIPS.items():
            check_range(table[key], ("user", "user"), 1, (len(users),) * 2, f"'{path}', '{key}'")
            data["user", name, "user"].edge_index = _both_ways(table[key] - 1)
        return data

    def settings(self) -> list[str]:
        """The city, as it stands in the ``repr``."""
        return [repr(self.city)]


def _both_ways(pairs: Tensor) -> Tensor:
    """Return the edges of both directions, each once, in order."""
    edges: Tensor = torch.cat([pairs, pairs.flip(0)], dim=1).unique(dim=1)
    return edges
