from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import RawFilesDataset, Transform
from hyperlearn_pyg.datasets._files import fetch_from_zip, read_lines, read_mat, read_rows, to_int
from hyperlearn_pyg.errors import InputError

_COLUMNS = ("text", "image", "category")
#: List of pairs -> how the names of its matrices end.
_LISTS = {"trainset_txt_img_cat.list": "tr", "testset_txt_img_cat.list": "te"}


class WikipediaImageText(RawFilesDataset):
    """Images and texts of Wikipedia's featured articles, in pairs, with a category each and the published split.

    ======  ======  ==========  ======  =====  ==============  =============
    images  texts   categories  train   test   image features  text features
    ======  ======  ==========  ======  =====  ==============  =============
    2,866   2,866   10          2,173   693    128             10
    ======  ======  ==========  ======  =====  ==============  =============

    Modalities: ``image`` (``x [2866, 128]``, a histogram of visual words) and ``text`` (``x [2866, 10]``, topics), both
    with ``y [2866]`` and ``item_label``, the category; ``item_id`` is the name of the file. Relation: ``pair`` over
    (image, text), with ``train_mask`` and ``test_mask``, training pairs first. With ``order=3`` the category is a
    third slot, a modality ``category``, which for a test pair is **the answer** of the task: hide it.

    The metric is the mean average precision of ranking the test texts by a test image and back, where what shares its
    category counts as right; CCA reaches .244 and .198.

    Source: N. Rasiwasia, J. Costa Pereira, E. Coviello, G. Doyle, G. Lanckriet, R. Levy and N. Vasconcelos, A New
    Approach to Cross-Modal Multimedia Retrieval, ACM Multimedia 2010 (http://www.svcl.ucsd.edu/projects/crossmodal/).
    Research use. The archive is fetched from the authors' page; the files in it are checked.

    Args:
        root: folder of the data set. ``raw_features.mat``, ``trainset_txt_img_cat.list``, ``testset_txt_img_cat.list``
            and ``categories.list`` that lie in ``root/raw`` are not downloaded again.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.
        order: 2 for pairs, 3 for pairs and their category.

    Raises:
        ValueError: another order.
        InputError: a missing, damaged or malformed file (with line or byte), files that do not agree, an image or text
            that stands there twice. Nothing half-processed stays behind.
    """

    url = "http://www.svcl.ucsd.edu/projects/crossmodal/wikipedia_dataset.zip"

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform = None,
        pre_transform: Transform = None,
        force_reload: bool = False,
        *,
        order: int = 2,
    ) -> None:
        if order not in (2, 3):
            raise ValueError(f"'order' must be 2 or 3 (got {order!r})")
        self.order = order
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def files(self) -> list[str]:
        """The four files."""
        return ["raw_features.mat", *_LISTS, "categories.list"]

    @property
    def processed_file_names(self) -> str:
        """One file an order."""
        return f"wikipedia_{self.order}.pt"

    def download(self) -> None:
        """Fetch the authors' archive, take from it the files that are missing, and check them."""
        fetch_from_zip(self.url, self.raw_dir, self.files, keys={name: f"wiki/{name}" for name in self.files})

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the four files."""
        path = self.raw_file("raw_features.mat")
        categories = [line.strip() for _, line in read_lines(self.raw_file("categories.list"), "utf-8")]
        seen: dict[tuple[str, str], str] = {}
        parts = [_read_pairs(self.raw_file(name), len(categories), seen) for name in _LISTS]
        y = torch.tensor([label for *_, labels in parts for label in labels], dtype=torch.long)
        matrices = read_mat(path, [f"{letter}_{part}" for letter in "IT" for part in _LISTS.values()])
        data = MultiModalHeteroData()
        for modality, letter, column in (("image", "I", 1), ("text", "T", 0)):
            sizes = {f"{letter}_{part}": len(rows[0]) for part, rows in zip(_LISTS.values(), parts, strict=True)}
            ids = [name for rows in parts for name in rows[column]]
            labels = [categories[label] for label in y.tolist()]
            data.add_modality(modality, x=_features(matrices, sizes, path), item_id=ids, item_label=labels, y=y)
        slots = ("image", "text", "category")[: self.order]
        if self.order == 3:
            data.add_modality("category", num_nodes=len(categories), item_id=categories)
        pairs = torch.arange(len(y))
        is_test = pairs >= len(parts[0][0])
        index = torch.stack([pairs, pairs, y][: self.order])
        data.add_hyperedges("pair", index, modalities=slots, train_mask=~is_test, test_mask=is_test)
        return data

    def settings(self) -> list[str]:
        """The order, where it is not two, as it stands in the ``repr``."""
        return [] if self.order == 2 else [f"order={self.order}"]


def _read_pairs(
    path: Path, num_categories: int, seen: dict[tuple[str, str], str]
) -> tuple[list[str], list[str], list[int]]:
    """Return texts, images and categories (from 0) of a list; ``seen`` holds what stood where."""
    texts: list[str] = []
    images: list[str] = []
    labels: list[int] = []
    for number, (text, image, category) in read_rows(path, separator="\t", columns=_COLUMNS, encoding="utf-8"):
        here = f"'{path}', line {number}"
        for item in (("text", text), ("image", image)):
            if seen.setdefault(item, here) != here:
                raise InputError(f"{here}, column '{item[0]}': {item[1]!r} stands in {seen[item]} already")
        labels.append(to_int(category, path, number, "category", low=1, high=num_categories) - 1)
        texts.append(text)
        images.append(image)
    return texts, images, labels


def _features(matrices: dict[str, np.ndarray[Any, Any]], sizes: dict[str, int], path: Path) -> Tensor:
    """Return the matrices of a modality one below the other, float32 ``[N, F]``."""
    for key, size in sizes.items():
        matrix = matrices[key]
        if matrix.ndim != 2 or matrix.dtype.kind not in "iuf" or len(matrix) != size:
            raise InputError(
                f"'{path}': '{key}' must hold numbers and have {size} rows, as the list of pairs "
                f"(got {matrix.dtype} of shape {list(matrix.shape)})"
            )
        bad = np.argwhere(~np.isfinite(matrix))
        if len(bad):
            row, column = bad[0].tolist()
            raise InputError(
                f"'{path}': '{key}' must be finite (got {matrix[row, column]} at row {row}, column {column})"
            )
    widths = {key: matrices[key].shape[1] for key in sizes}
    if len(set(widths.values())) > 1:
        raise InputError(f"'{path}': matrices of one modality must have as many columns as each other (got {widths})")
    return torch.from_numpy(np.concatenate([matrices[key] for key in sizes]).astype(np.float32))
