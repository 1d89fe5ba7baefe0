from __future__ import annotations

import os
from inspect import cleandoc
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import Transform
from hyperlearn_pyg.datasets._files import fetch_file, read_lines, read_rows, to_float
from hyperlearn_pyg.datasets._node_classes import NodeClassDataset
from hyperlearn_pyg.errors import InputError

_REST = """
    Modality ``{item}``: ``x [N, F]`` as in the file, ``y [N]``, and ``train_mask``, ``val_mask`` and ``test_mask``
    ``[N, splits]``: the authors publish no splits, these are drawn at random, 50 %, 25 % and 25 % of the items, not
    stratified; split ``s`` does not depend on how many there are. Hyperedge set ``{sets}``. ``item_id`` of both is the
    id of the file. :meth:`~NodeClassDataset.hyperedge_index` gives the plain index.

    Source: C. Yang, R. Wang, S. Yao and T. Abdelzaher, Hypergraph Learning with Line Expansion, arXiv:2005.04843, whose
    repository holds the files without a stated licence.

    Args:
        root: folder of the data set. ``{stem}.content`` and ``{stem}.edges`` that lie in ``root/raw``, plain or with
            ``.gz``, are not downloaded again.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.
        num_splits: number of random splits.
        seed: of the splits.

    Raises:
        ValueError: no splits, or a negative seed.
        InputError: a missing, damaged or malformed file (with line and column), an id that the content file does not
            hold, an incidence that occurs twice. Nothing half-processed stays behind.
"""


class _LEGCN(NodeClassDataset):
    stem: ClassVar[str]
    url = "https://raw.githubusercontent.com/ycq091044/LEGCN/823c459f2ebb26e4e657527a941a501423916dde/data"

    def __init_subclass__(cls) -> None:
        if "stem" not in vars(cls):
            return
        rest = _REST.format(item=cls.item_type, sets=cls.hyperedge_type, stem=cls.stem)
        cls.__doc__ = f"{cleandoc(cls.__doc__ or '')}\n\n{cleandoc(rest)}"

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform = None,
        pre_transform: Transform = None,
        force_reload: bool = False,
        *,
        num_splits: int = 10,
        seed: int = 0,
    ) -> None:
        for key, value, least in (("num_splits", num_splits, 1), ("seed", seed, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"'{key}' must be an integer of at least {least} (got {value!r})")
        self.num_splits = num_splits
        self.seed = seed
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def files(self) -> list[str]:
        """The two files."""
        return [f"{self.stem}.content", f"{self.stem}.edges"]

    @property
    def processed_file_names(self) -> str:
        """One file for each choice of splits."""
        return f"{self.stem}_{self.num_splits}_{self.seed}.pt"

    def download(self) -> None:
        """Fetch the files that are missing from the authors' repository and check them."""
        for name in self.files:
            fetch_file(f"{self.url}/{self.stem}/{name}", self.raw_dir, name)

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the two files."""
        content, edges = (Path(path) for path in self.raw_paths)
        ids, x, labels = _read_content(content)
        index, sets = _read_edges(edges, {name: i for i, name in enumerate(ids)}, content)
        classes = {label: i for i, label in enumerate(sorted(set(labels)))}
        y = torch.tensor([classes[label] for label in labels])
        return self.build(x, y, _splits(len(ids), self.num_splits, self.seed), ids, index, sets)


class NTU2012(_LEGCN):
    """3-D shapes with a class each; a hyperedge holds a shape and four others that look like it.

    =======  ==========  ===========  ========  =======
    shapes   hyperedges  incidences   features  classes
    =======  ==========  ===========  ========  =======
    2,012    2,012       10,060       100       67
    =======  ==========  ===========  ========  =======

    The shapes are those of D.-Y. Chen, X.-P. Tian, Y.-T. Shen and M. Ouhyoung, On Visual Similarity Based 3D Model
    Retrieval, Computer Graphics Forum 22(3), 2003.
    """

    stem = "NTU2012"
    item_type = "shape"
    hyperedge_type = "neighbourhood"


class Zoo(_LEGCN):
    """Animals with a class each; a hyperedge holds the animals that share a value of an attribute.

    =======  ==========  ===========  ========  =======
    animals  hyperedges  incidences   features  classes
    =======  ==========  ===========  ========  =======
    101      43          1,717        16        7
    =======  ==========  ===========  ========  =======

    .. warning::
        The last seven hyperedges of the file (ids 137 to 143) **are the seven classes**: a model that sees them sees
        the labels of the test animals. ``data.subgraph({"attribute": torch.arange(36)})`` leaves them out.

    The animals are those of R. Forsyth, Zoo, UCI Machine Learning Repository, 1990.
    """

    stem = "zoo"
    item_type = "animal"
    hyperedge_type = "attribute"


def _read_content(path: Path) -> tuple[list[str], Tensor, list[int]]:
    """Return ids, features ``[N, F]`` and class labels; the first line says how many features there are."""
    width = next((line.count("\t") + 1 for _, line in read_lines(path, "utf-8")), 3)
    if width < 3:
        raise InputError(f"'{path}', line 1: expected an id, features and a class between tabs, got {width} field(s)")
    columns = ("id", *(f"feature {i}" for i in range(1, width - 1)), "class")
    ids: dict[str, int] = {}
    rows, labels = [], []
    for number, fields in read_rows(path, separator="\t", columns=columns, encoding="utf-8"):
        if fields[0] in ids:
            raise InputError(
                f"'{path}', line {number}, column 'id': {fields[0]!r} stands in line {ids[fields[0]]} already"
            )
        ids[fields[0]] = number
        values = [to_float(text, path, number, name) for text, name in zip(fields[1:], columns[1:], strict=True)]
        if not values[-1].is_integer():
            raise InputError(f"'{path}', line {number}, column 'class': expected an integer, got {fields[-1]!r}")
        rows.append(values[:-1])
        labels.append(int(values[-1]))
    return list(ids), torch.tensor(rows), labels


def _read_edges(path: Path, ids: dict[str, int], content: Path) -> tuple[Tensor, list[str]]:
    """Return ``[2, nnz]``, items above hyperedges, and the hyperedges' ids in the order of their numbers."""
    lines: dict[tuple[int, str], int] = {}
    for number, (item, name) in read_rows(path, separator="\t", columns=("item", "hyperedge"), encoding="utf-8"):
        if item not in ids:
            raise InputError(f"'{path}', line {number}, column 'item': {item!r} is not in '{content.name}'")
        if not name.isdecimal():
            raise InputError(f"'{path}', line {number}, column 'hyperedge': expected an integer, got {name!r}")
        first = lines.setdefault((ids[item], name), number)
        if first != number:
            raise InputError(f"'{path}', line {number}: {item!r} is in hyperedge {name!r} already by line {first}")
    sets = sorted({name for _, name in lines}, key=int)
    numbers = {name: i for i, name in enumerate(sets)}
    index = torch.tensor([(item, numbers[name]) for item, name in lines], dtype=torch.long)
    return index.t().contiguous(), sets


def _splits(size: int, count: int, seed: int) -> dict[str, Tensor]:
    """Return random masks ``[N, splits]`` of a half, a quarter and the rest."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(size, generator=generator) for _ in range(count)], dim=1)
    ends = (0, size // 2, size // 2 + size // 4, size)
    masks = {}
    for key, begin, end in zip(("train", "val", "test"), ends, ends[1:], strict=False):
        masks[f"{key}_mask"] = torch.zeros(size, count, dtype=torch.bool).scatter_(0, order[begin:end], True)
    return masks
