from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import InMemoryDataset

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.tuples import tuple_ids
from hyperlearn_pyg.datasets._files import read_npz
from hyperlearn_pyg.errors import InputError

#: Prefix of the arrays of a graph -> modality.
_GRAPHS = {"W_users": "user", "W_movies": "item"}


class MontiSplit(InMemoryDataset):
    """A rating matrix with a fixed split and given graphs, in the form of Monti, Bronstein and Bresson (2017).

    The ``.npz`` holds sparse matrices in coordinates, ``NAME_row``, ``NAME_col``, ``NAME_val``, ``NAME_shape``: the
    ratings ``M``, the masks ``Otraining`` and ``Otest``, and, where there are any, the graphs ``W_users`` and
    ``W_movies``. It is read without pickle.

    Modalities: ``user`` (rows) and ``item`` (columns), ``item_id`` counted from 1. Relation: ``rates`` with
    ``value``, ``train_mask``, ``test_mask``. Graphs: ``("user", "knn", "user")`` and ``("item", "knn", "item")``
    with ``edge_weight``, as given.

    Args:
        path: the file, or a folder that holds one ``.npz``.
        transform: applied at each access.

    Raises:
        InputError: no such file, a damaged one, arrays that are missing or do not agree, indices out of range,
            cells given twice, a mask that names a cell without a rating or a cell of the other mask.
    """

    def __init__(self, path: str | os.PathLike[str], transform: Callable[[Any], Any] | None = None) -> None:
        super().__init__(None, transform)
        self.data, self.slices = self.collate([_read(_find(Path(path)))])


def _find(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.npz"))
    if len(files) != 1:
        raise InputError(f"'{path}' must hold one .npz file (got {[file.name for file in files]}): name the file")
    return files[0]


def _read(path: Path) -> MultiModalHeteroData:
    arrays = read_npz(path)
    index, value, shape = _matrix(arrays, "M", path)
    train, test = (_mask(arrays, name, index, shape, path) for name in ("Otraining", "Otest"))
    if bool((train & test).any()):
        raise InputError(f"'{path}': {int((train & test).sum())} cells stand in both 'Otraining' and 'Otest'")
    data = MultiModalHeteroData()
    for modality, size in zip(("user", "item"), shape, strict=True):
        data.add_modality(modality, num_nodes=size, item_id=[str(i + 1) for i in range(size)])
    try:
        data.add_hyperedges("rates", index, modalities=("user", "item"), value=value, train_mask=train, test_mask=test)
    except ValueError as error:
        raise InputError(f"'{path}': {error}") from error
    for name, modality in _GRAPHS.items():
        if f"{name}_row" in arrays:
            size = data[modality].num_nodes
            edge_index, weight, given = _matrix(arrays, name, path)
            if given != (size, size):
                raise InputError(f"'{path}': '{name}' must be of shape {(size, size)} (got {given})")
            data[modality, "knn", modality].edge_index = edge_index
            data[modality, "knn", modality].edge_weight = weight
    return data


def _matrix(arrays: dict[str, np.ndarray[Any, Any]], name: str, path: Path) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Return coordinates ``[2, nnz]``, values and shape of a sparse matrix, checked."""
    parts = [f"{name}_{part}" for part in ("row", "col", "val", "shape")]
    missing = [part for part in parts if part not in arrays]
    if missing:
        raise InputError(f"'{path}' lacks {missing} (it holds {sorted(arrays)})")
    row, col, val, shape = (arrays[part] for part in parts)
    if not (row.ndim == 1 and row.shape == col.shape == val.shape and shape.shape == (2,)):
        raise InputError(f"'{path}': the arrays of '{name}' do not agree: {[arrays[part].shape for part in parts]}")
    if not all(np.issubdtype(array.dtype, np.integer) for array in (row, col, shape)):
        raise InputError(f"'{path}': row, col and shape of '{name}' must be integers")
    size = (int(shape[0]), int(shape[1]))
    index = torch.from_numpy(np.stack([row, col]).astype(np.int64))
    for part, entries, bound in zip(parts, index, size, strict=False):
        if entries.numel() and not 0 <= int(entries.min()) <= int(entries.max()) < bound:
            raise InputError(
                f"'{path}': '{part}' must lie in [0, {bound}) (got {int(entries.min())} to {int(entries.max())})"
            )
    ids = tuple_ids(index, size)
    if ids.unique().numel() < ids.numel():
        raise InputError(f"'{path}': '{name}' gives {ids.numel() - ids.unique().numel()} cells more than once")
    return index, torch.from_numpy(val.astype(np.float32)), size


def _mask(
    arrays: dict[str, np.ndarray[Any, Any]], name: str, index: Tensor, shape: tuple[int, int], path: Path
) -> Tensor:
    """Return which of the cells ``index`` a mask matrix names."""
    cells, _, given = _matrix(arrays, name, path)
    if given != shape:
        raise InputError(f"'{path}': '{name}' must be of shape {shape} (got {given})")
    mask = torch.isin(tuple_ids(index, shape), tuple_ids(cells, shape))
    if int(mask.sum()) != cells.size(1):
        raise InputError(f"'{path}': '{name}' names {cells.size(1) - int(mask.sum())} cells without a rating in 'M'")
    return mask
