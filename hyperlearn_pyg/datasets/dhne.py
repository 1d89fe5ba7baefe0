from __future__ import annotations

import io
import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.tuples import tuple_keys
from hyperlearn_pyg.datasets._base import RawFilesDataset, Transform
from hyperlearn_pyg.datasets._files import ask_for, read_npz
from hyperlearn_pyg.datasets._rows import check_range, whole_numbers
from hyperlearn_pyg.errors import InputError, did_you_mean

#: Name -> the modalities of its columns.
HYPERNETWORKS = {
    "GPS": ("user", "location", "activity"),
    "MovieLens": ("user", "movie", "tag"),
    "drug": ("user", "drug", "reaction"),
    "wordnet": ("head", "relation", "tail"),
}


class DHNE(RawFilesDataset):
    """The hyper-networks of order three of DHNE, with the given test tuples.

    ==========  ============================================  ==================  ==================
    name        items                                         train / test        as given
    ==========  ============================================  ==================  ==================
    GPS         146 users, 70 locations, 5 activities         1,154 / 282         1,154 / 282
    MovieLens   1,943 users, 5,610 movies, 8,040 tags         38,365 / 8,047      38,365 / 8,047
    drug        12 users, 1,077 drugs, 6,398 reactions        61,713 / 10,929     137,404 / 34,352
    ==========  ============================================  ==================  ==================

    .. warning::
        **drug leaks**: 23,025 of its 34,352 test rows (67 %) stand in the training part too, and rows are given
        several times. Results that were published on it include the leak. By default each tuple is kept once, and none
        that is trained on is tested; pass ``deduplicate=False`` for the rows as given, and report both.

    ``wordnet`` is read from the same form (head, relation and tail are numbered apart); its counts were not checked
    here.

    Modalities as in the table; ``item_id`` is the number in the file. Relation: ``event`` over the three modalities,
    with ``train_mask`` and ``test_mask``, training tuples first. The movies of ``MovieLens`` have ``y [5610, 19]``, 0
    or 1, one column a genre, and ``item_label``, the first genre given. The metric is the AUC against tuples with one
    slot replaced.

    Source: K. Tu, P. Cui, X. Wang, F. Wang and W. Zhu, Structural Deep Embedding for Hyper-Networks, AAAI 2018
    (https://github.com/tadpole/DHNE). No licence is stated. Whether the authors' repository still holds the files could
    not be checked; the repository of Hyper-SAGNN holds a copy of all four. No checksum of either is known, so they are
    not downloaded: fetch them by hand.

    The files are read without pickle: of the genres, which are stored as one, the list of numbers is taken from the
    bytes, and nothing in it is run.

    Args:
        root: folder of the data set; ``train_data.npz`` and ``test_data.npz`` lie in ``root/raw/NAME``.
        name: which hyper-network.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.
        deduplicate: keep each tuple once, and drop those from the test part that stand in the training part.

    Raises:
        ValueError: an unknown name.
        InputError: a missing or damaged file, arrays that are missing or do not agree, an index out of range (array
            and row are named). Nothing half-processed stays behind.
    """

    url = "https://raw.githubusercontent.com/ma-compbio/Hyper-SAGNN/11862a1d273c60581c37984f3ff2602569a97556/data"

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str = "GPS",
        transform: Transform = None,
        pre_transform: Transform = None,
        force_reload: bool = False,
        *,
        deduplicate: bool = True,
    ) -> None:
        if name not in HYPERNETWORKS:
            known = tuple(HYPERNETWORKS)
            raise ValueError(f"'name' must be one of {known} (got {name!r}).{did_you_mean(str(name), known)}")
        self.name = name
        self.deduplicate = deduplicate
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def files(self) -> list[str]:
        """The two files."""
        return [f"{self.name}/train_data.npz", f"{self.name}/test_data.npz"]

    @property
    def processed_file_names(self) -> str:
        """One file for each name and choice of ``deduplicate``."""
        return f"{self.name}.pt" if self.deduplicate else f"{self.name}_as_given.pt"

    def download(self) -> None:
        """Say where to get the files.

        Raises:
            InputError: always, as this is called only where a file is missing.
        """
        addresses = " and ".join(f"{self.url}/{name}" for name in self.files)
        ask_for(
            self.raw_dir,
            self.files,
            f"no checksum of the published files is known here, so they are not downloaded. Fetch {addresses} and put "
            f"them there",
        )

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the two files."""
        train_path, test_path = (self.raw_file(name) for name in self.files)
        modalities = HYPERNETWORKS[self.name]
        train, sizes = _read_tuples(train_path, "train_data", modalities)
        test, test_sizes = _read_tuples(test_path, "test_data", modalities)
        if sizes != test_sizes:
            raise InputError(f"'nums_type' differs: {sizes} in '{train_path}', {test_sizes} in '{test_path}'")
        if self.deduplicate:
            train, test = _distinct(train, test, sizes)
        data = MultiModalHeteroData()
        for modality, size in zip(modalities, sizes, strict=True):
            data.add_modality(modality, num_nodes=size, item_id=[str(i) for i in range(size)])
        is_test = torch.arange(train.size(1) + test.size(1)) >= train.size(1)
        index = torch.cat([train, test], dim=1)
        data.add_hyperedges("event", index, modalities=modalities, train_mask=~is_test, test_mask=is_test)
        if self.name == "MovieLens":
            data["movie"].update(_read_genres(train_path, sizes[1]))
        return data

    def settings(self) -> list[str]:
        """The name and whether tuples are kept once, as they stand in the ``repr``."""
        return [repr(self.name)] if self.deduplicate else [repr(self.name), "deduplicate=False"]


def _read_tuples(path: Path, key: str, modalities: tuple[str, ...]) -> tuple[Tensor, list[int]]:
    """Return tuples ``[3, E]`` and the number of items of each slot."""
    arrays = read_npz(path, (key, "nums_type"))
    sizes = arrays["nums_type"]
    if sizes.shape != (3,) or sizes.dtype.kind not in "iu" or (sizes < 0).any():
        raise InputError(f"'{path}': 'nums_type' must hold three numbers of items (got {sizes.tolist()})")
    counts: list[int] = sizes.tolist()
    rows = whole_numbers(arrays[key], path, key, 3)
    check_range(rows, modalities, 0, [count - 1 for count in counts], f"'{path}', '{key}'")
    return rows, counts


def _distinct(train: Tensor, test: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Keep the first of equal tuples, and of the test part those that are not in the training part."""
    train_key, test_key = tuple_keys([train, test], sizes)
    return train[:, _first(train_key)], test[:, _first(test_key) & ~torch.isin(test_key, train_key)]


def _first(key: Tensor) -> Tensor:
    """Tell which entries are the first of their value, bool ``[E]``."""
    order = key.argsort(stable=True)
    new = torch.ones(len(key), dtype=torch.bool)
    new[1:] = key[order[1:]] != key[order[:-1]]
    return torch.zeros_like(new).index_put_((order,), new)


def _read_genres(path: Path, size: int) -> dict[str, Tensor | list[str]]:
    """Return ``y`` and ``item_label`` of the movies, or nothing where the file holds no genres."""
    try:
        with zipfile.ZipFile(path) as archive:
            held = archive.namelist()
            if not {"labels.npy", "label_name.npy"} <= set(held):
                return {}
            lists = _lists_of_pickle(archive.read("labels.npy"), path)
    except InputError:
        raise
    except Exception as error:  # zipfile raises many kinds for a damaged file
        raise InputError(f"'{path}': array 'labels' is damaged ({error})") from error
    names = [str(name, "latin-1") for name in read_npz(path, ("label_name",))["label_name"].astype(bytes).tolist()]
    if len(lists) != size:
        raise InputError(f"'{path}': 'labels' must have one entry a movie: {size} (got {len(lists)})")
    y = torch.zeros(size, len(names))
    for movie, genres in enumerate(lists):
        if any(not 0 <= genre < len(names) for genre in genres):
            raise InputError(f"'{path}': 'labels' must be in [0, {len(names)}) (got {genres} at position {movie})")
        y[movie, genres] = 1
    return {"y": y, "item_label": [names[genres[0]] if genres else "unknown" for genres in lists]}


def _lists_of_pickle(content: bytes, path: Path) -> list[list[int]]:
    """Return the lists of numbers that a pickled array of objects holds, from its opcodes; nothing is run.

    Everything up to the first list says that this is a numpy array, and is passed over; from there on nothing but
    numbers and lists may follow.
    """
    stream = io.BytesIO(content)
    stack: list[Any] = []
    marks: list[int] = []
    try:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        for code, argument, position in pickletools.genops(stream):
            if code.name == "EMPTY_LIST":
                stack.append([])
            elif not stack or "PUT" in code.name:  # the preamble, and memos that nothing reads
                continue
            elif code.name.startswith("BININT"):
                stack.append(argument)
            elif code.name == "MARK":
                marks.append(len(stack))
            elif code.name in ("APPEND", "APPENDS"):
                begin = len(stack) - 1 if code.name == "APPEND" else marks.pop()
                stack[begin - 1].extend(stack[begin:])
                del stack[begin:]
            elif code.name == "TUPLE":  # behind the outer list
                break
            else:
                raise ValueError(f"{code.name} at byte {position}")
        (lists,) = stack
        if all(isinstance(entry, list) and all(isinstance(number, int) for number in entry) for entry in lists):
            return list(lists)
        raise ValueError("an entry that is no list of numbers")
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"'{path}': expected lists of numbers in 'labels', found something else ({error})") from error
