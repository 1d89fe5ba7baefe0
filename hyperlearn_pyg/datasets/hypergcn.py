from __future__ import annotations

import os
from inspect import cleandoc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import Transform
from hyperlearn_pyg.datasets._files import read_npz
from hyperlearn_pyg.datasets._node_classes import NodeClassDataset
from hyperlearn_pyg.errors import InputError, did_you_mean

_Array = np.ndarray[Any, Any]
_KEYS = ("edge_ptr", "edge_idx", "x_data", "x_indices", "x_indptr", "x_shape", "y", "train", "test")
_FLOATS = ("x_data",)


_ARRAYS = """
    The authors publish pickles. To open a pickle runs whatever code it holds, so this class reads the same content as
    ``root/raw/{kind}_NAME.npz``, without pickle, from these arrays: ``edge_ptr [M + 1]`` and ``edge_idx [nnz]`` (the
    nodes of hyperedge ``e`` are ``edge_idx[edge_ptr[e]:edge_ptr[e + 1]]``), optionally ``edge_name [M]`` (text), the
    features as a CSR matrix ``x_data``, ``x_indices``, ``x_indptr``, ``x_shape``, the classes ``y [N]``, and
    ``train [splits, n]`` and ``test [splits, m]``, the nodes of each split.

    Args:
        root: folder of the data set; the file lies in ``root/raw``.
        name: which hypergraph.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.

    Raises:
        ValueError: an unknown name.
        InputError: the file is missing, damaged, holds pickled objects, or its arrays do not agree (array and position
            are named). Nothing half-processed stays behind.
"""


class _HyperGCN(NodeClassDataset):
    kind: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    item_type = "paper"
    url = "https://github.com/malllabiisc/HyperGCN/tree/master/data"

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            cls.__doc__ = f"{cleandoc(cls.__doc__ or '')}\n\n{cleandoc(_ARRAYS.format(kind=cls.kind))}"

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str = "cora",
        transform: Transform = None,
        pre_transform: Transform = None,
        force_reload: bool = False,
    ) -> None:
        if name not in self.names:
            raise ValueError(f"'name' must be one of {self.names} (got {name!r}).{did_you_mean(str(name), self.names)}")
        self.name = name
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def files(self) -> list[str]:
        """The file that stands in ``root/raw``."""
        return [f"{self.kind}_{self.name}.npz"]

    @property
    def processed_file_names(self) -> str:
        """One file a hypergraph."""
        return f"{self.kind}_{self.name}.pt"

    def download(self) -> None:
        """Say what to do: the published files are pickles, which are not opened here.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"'{self.raw_paths[0]}' is missing. The published files ({self.url}/{self.kind}/{self.name}) are pickles: "
            f"to open one runs whatever code it holds, so this package neither fetches nor reads them. Put their "
            f"content there as an .npz with the arrays {', '.join(_KEYS)} (numpy.savez; the documentation of "
            f"'{type(self).__name__}' says what each holds)"
        )

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the ``.npz``."""
        path = Path(self.raw_paths[0])
        arrays = read_npz(path)
        _check_arrays(arrays, path)
        y = torch.from_numpy(arrays["y"].astype(np.int64))
        index, num_sets = _incidence(arrays, y.numel(), path)
        sets = arrays.get("edge_name", np.arange(num_sets))
        if sets.shape != (num_sets,):
            raise InputError(f"'{path}': 'edge_name' must be of shape {(num_sets,)} (got {sets.shape})")
        masks = _masks(arrays, y.numel(), path)
        ids = [str(i) for i in range(y.numel())]
        try:
            return self.build(_features(arrays, y.numel(), path), y, masks, ids, index, sets.astype(str).tolist())
        except ValueError as error:
            raise InputError(f"'{path}': {error}") from error


class CoAuthorship(_HyperGCN):
    """Papers with a class each; a hyperedge holds the papers of one author (HyperGCN's data).

    ======  ======  ==========  ===========  ========  =======  ======
    name    papers  hyperedges  incidences   features  classes  splits
    ======  ======  ==========  ===========  ========  =======  ======
    cora    2,708   1,072       4,585        1,433     7        10
    ======  ======  ==========  ===========  ========  =======  ======

    Of the papers of ``cora``, 320 are in no hyperedge. Each split has 140 papers to train on, 20 a class, and tests on
    all others; there is none for validation. ``dblp`` is read from the same form, its counts were not checked here.

    Modality ``paper``: ``x [N, F]`` (words, 0 or 1), ``y [N]``, ``train_mask`` and ``test_mask`` ``[N, splits]``.
    Hyperedge set ``author``. :meth:`~NodeClassDataset.hyperedge_index` gives the plain index.

    Source: N. Yadati, M. Nimishakavi, P. Yadav, V. Nitin, A. Louis and P. Talukdar, HyperGCN: A New Method of Training
    Graph Convolutional Networks on Hypergraphs, NeurIPS 2019. Apache-2.0.
    """

    kind = "coauthorship"
    names = ("cora", "dblp")
    hyperedge_type = "author"


class CoCitation(_HyperGCN):
    """Papers with a class each; a hyperedge holds the papers that one paper cites (HyperGCN's data).

    ======  ======  ==========  ===========  ========  =======  ======
    name    papers  hyperedges  incidences   features  classes  splits
    ======  ======  ==========  ===========  ========  =======  ======
    cora    2,708   1,579       4,786        1,433     7        10
    ======  ======  ==========  ===========  ========  =======  ======

    Of the papers of ``cora``, 1,274 are in no hyperedge. Each split has 140 papers to train on, 20 a class, and tests
    on all others; there is none for validation. ``citeseer`` and ``pubmed`` are read from the same form, their counts
    were not checked here.

    Modality ``paper``: ``x [N, F]`` (words, 0 or 1), ``y [N]``, ``train_mask`` and ``test_mask`` ``[N, splits]``.
    Hyperedge set ``citing``. :meth:`~NodeClassDataset.hyperedge_index` gives the plain index.

    Source: N. Yadati, M. Nimishakavi, P. Yadav, V. Nitin, A. Louis and P. Talukdar, HyperGCN: A New Method of Training
    Graph Convolutional Networks on Hypergraphs, NeurIPS 2019. Apache-2.0.
    """

    kind = "cocitation"
    names = ("cora", "citeseer", "pubmed")
    hyperedge_type = "citing"


def _check_arrays(arrays: dict[str, _Array], path: Path) -> None:
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise InputError(f"'{path}' lacks {missing} (it holds {sorted(arrays)})")
    for key in _KEYS:
        dims = 2 if key in ("train", "test") else 1
        number = np.number if key in _FLOATS else np.integer
        if arrays[key].ndim != dims or not np.issubdtype(arrays[key].dtype, number):
            what = "numbers" if key in _FLOATS else "integers"
            raise InputError(
                f"'{path}': '{key}' must have {dims} dimension(s) and hold {what} "
                f"(got {arrays[key].dtype} of shape {arrays[key].shape})"
            )
    _check_range(arrays["y"], None, "y", path)


def _check_range(values: _Array, bound: int | None, key: str, path: Path) -> None:
    """Check that all values lie in ``[0, bound)``; the error names the first that does not."""
    bad = np.argwhere((values < 0) | (values >= (np.inf if bound is None else bound)))
    if len(bad):
        at = ", ".join(map(str, bad[0].tolist()))
        limit = "at least 0" if bound is None else f"in [0, {bound})"
        raise InputError(f"'{path}': '{key}' must be {limit} (got {values[tuple(bad[0])]} at position {at})")


def _check_pointer(pointer: _Array, size: int, key: str, path: Path) -> None:
    if len(pointer) == 0 or pointer[0] != 0 or pointer[-1] != size:
        ends = [] if len(pointer) == 0 else [int(pointer[0]), int(pointer[-1])]
        raise InputError(f"'{path}': '{key}' must begin with 0 and end with {size} (its ends are {ends})")
    falls = np.flatnonzero(np.diff(pointer) < 0)
    if len(falls):
        raise InputError(f"'{path}': '{key}' must not fall (it does behind position {falls[0]})")


def _incidence(arrays: dict[str, _Array], num_nodes: int, path: Path) -> tuple[Tensor, int]:
    """Return ``[2, nnz]``, nodes above hyperedges, and the number of hyperedges."""
    pointer, nodes = arrays["edge_ptr"], arrays["edge_idx"]
    _check_pointer(pointer, len(nodes), "edge_ptr", path)
    _check_range(nodes, num_nodes, "edge_idx", path)
    sets = np.repeat(np.arange(len(pointer) - 1), np.diff(pointer))
    return torch.from_numpy(np.stack([nodes.astype(np.int64), sets])), len(pointer) - 1


def _features(arrays: dict[str, _Array], num_nodes: int, path: Path) -> Tensor:
    """Return the dense features ``[N, F]``; entries that are given twice are added."""
    data, columns, pointer, shape = (arrays[f"x_{part}"] for part in ("data", "indices", "indptr", "shape"))
    if len(shape) != 2 or int(shape[0]) != num_nodes or len(pointer) != num_nodes + 1 or len(data) != len(columns):
        sizes = {key: arrays[key].shape for key in ("y", "x_data", "x_indices", "x_indptr")}
        raise InputError(f"'{path}': the features do not agree: 'x_shape' is {shape.tolist()}, and {sizes}")
    _check_pointer(pointer, len(columns), "x_indptr", path)
    _check_range(columns, int(shape[1]), "x_indices", path)
    x = torch.zeros(num_nodes, int(shape[1]))
    rows = torch.from_numpy(np.repeat(np.arange(num_nodes), np.diff(pointer)))
    where = (rows, torch.from_numpy(columns.astype(np.int64)))
    return x.index_put_(where, torch.from_numpy(data.astype(np.float32)), accumulate=True)


def _masks(arrays: dict[str, _Array], num_nodes: int, path: Path) -> dict[str, Tensor]:
    """Return ``train_mask`` and ``test_mask``, bool ``[N, splits]``; no node may be in both."""
    masks = {}
    splits = len(arrays["train"])
    for key in ("train", "test"):
        nodes = arrays[key]
        if len(nodes) != splits:
            raise InputError(f"'{path}': 'train' has {splits} splits, 'test' {len(nodes)}: they must be as many")
        _check_range(nodes, num_nodes, key, path)
        mask = torch.zeros(num_nodes, splits, dtype=torch.bool)
        mask[torch.from_numpy(nodes.astype(np.int64)), torch.arange(splits).view(-1, 1)] = True
        masks[f"{key}_mask"] = mask
    both = (masks["train_mask"] & masks["test_mask"]).nonzero()
    if len(both):
        node, split = both[0].tolist()
        raise InputError(f"'{path}': node {node} is in both 'train' and 'test' of split {split}")
    return masks
