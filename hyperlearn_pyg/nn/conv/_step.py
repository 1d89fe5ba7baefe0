from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.typing import SparseTensor

from hyperlearn_pyg.ops.incidence import EntryError, Incidence, check_form, incidence_for_call, safe_inverse
from hyperlearn_pyg.ops.spmm import spmm

#: What a layer takes for the incidences.
HyperedgeIndex = Any


class Scales(NamedTuple):
    """Diagonal factors ``(before, after)`` of each half of the way; None for ones."""

    into_edges: tuple[Tensor | None, Tensor | None]
    into_nodes: tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Step:
    """A call of a layer, sorted out: the incidence always stands as ``[nodes, hyperedges]``.

    Attributes:
        x: features of the source ``[*, N, F]`` (of the hyperedges on the way to the nodes alone).
        target: features of the other side, where given.
        inc: the incidence.
        weight: hyperedge weights ``[M]``.
        values: incidence weights ``[nnz]``.
        mask: by what an explainer multiplies each message ``[nnz]``, which the degrees do not heed.
        direction: ``"round_trip"``, ``"to_hyperedge"`` or ``"to_node"``.
    """

    x: Tensor
    target: Tensor | None
    inc: Incidence
    weight: Tensor | None
    values: Tensor | None
    direction: str
    mask: Tensor | None = None

    @property
    def sent(self) -> Tensor | None:
        """The value of each entry as it is sent, masked."""
        if self.mask is None:
            return self.values
        return self.mask if self.values is None else self.values * self.mask

    def scales(self, normalization: str, pyg_compat: bool) -> Scales:
        """Return the degrees' part of the operator."""
        values = None if pyg_compat and self.direction == "round_trip" else self.values
        dtype = self.x.dtype
        weight = None if self.weight is None else self.weight.to(dtype)
        if weight is None:
            degree = self.inc.row_degree(values).to(dtype)
        else:
            degree = spmm(self.inc, weight[:, None], values).squeeze(1)
        middle = safe_inverse(self.inc.col_degree(values).to(dtype))
        if normalization == "symmetric":
            root = safe_inverse(degree, 0.5)
            return Scales((root, middle), (weight, root))
        return Scales((None, middle), (None if pyg_compat else weight, safe_inverse(degree)))

    def attended(self, alpha: Tensor) -> Step:
        """Return the step with attention as the entries of the incidence matrix."""
        return replace(self, values=alpha if self.values is None else alpha * self.values)

    def other(self) -> Tensor:
        """Return the features of the other side; for hyperedges the mean of their members where none are given."""
        if self.target is not None:
            return self.target
        if self.direction == "to_node":
            raise ValueError("attention from hyperedges to nodes needs the features of both: x=(x_hyperedges, x_nodes)")
        x, shape = rows_first(self.x)
        mean = safe_inverse(self.inc.col_degree(self.values).to(x.dtype))
        return rows_back(spmm(self.inc, x, self.values, transpose=True) * mean[:, None], shape)


def read_step(
    layer: Any,
    x: Tensor | tuple[Tensor, Tensor | None],
    index: HyperedgeIndex,
    weight: Tensor | None,
    attr: Tensor | None,
    num_edges: int | None,
    values: Tensor | None,
    size: tuple[int, int] | None,
) -> Step:
    """Check the arguments of a call and bring them into one form.

    Raises:
        ValueError: a shape or an index does not fit.
    """
    pair = isinstance(x, tuple)
    source, target = x if isinstance(x, tuple) else (x, attr)
    _check_counts(num_edges, size)
    direction = _direction(layer.direction, source, target, weight) if pair else "round_trip"
    rows, known = _own_size(index)
    told = "'hyperedge_index' itself"  # by what the number of columns is told
    if num_edges is not None:
        known, told = num_edges, "'num_edges'"
    if known is None and target is not None:
        known, told = target.size(-2), ("'x[1]'" if pair else "'hyperedge_attr'") + ", one row each"
    if known is None and weight is not None and direction != "to_node":
        known, told = weight.size(0), "'hyperedge_weight', one entry each"
    kept = isinstance(index, EdgeIndex) or (isinstance(index, Tensor) and index.layout == torch.strided)
    index, own = _entries(index)
    if size is None and isinstance(index, Incidence):
        size = index.size
    elif size is not None:
        told = "'size'"
    else:
        size = (source.size(-2) if rows is None else rows, _count(index, known))
    if size[0] != source.size(-2):
        raise ValueError(f"'x' must have {size[0]} rows, one per node of the incidence (got {source.size(-2)})")
    try:
        inc = _compressed(layer, index, size, kept)
    except EntryError as error:
        source_of = "'x', one row each" if error.axis == 0 else told
        raise ValueError(f"'hyperedge_index' {error.what}; how many there are is told by {source_of}") from error
    _check("hyperedge_attr" if not pair else "x[1]", target, inc.size[1], -2)
    inc = inc.t() if direction == "to_node" else inc
    values = own if values is None else values
    _check("hyperedge_weight", weight, inc.size[1], 0)
    _check("incidence_weight", values, inc.nnz, 0)
    return Step(source, target, inc, weight, values, direction)


def _compressed(layer: Any, index: Tensor | Incidence, size: tuple[int, int], kept: bool) -> Incidence:
    if isinstance(index, Incidence):
        return index
    if kept:
        return incidence_for_call(index, size, validate=layer.validate, cached=layer.cached)
    return Incidence(index, size, validate=layer.validate)


def propagate(
    inc: Incidence, x: Tensor, values: Tensor | None, scale: tuple[Tensor | None, Tensor | None], *, transpose: bool
) -> Tensor:
    """Return ``diag(after) H diag(before) x``, or the same with the transpose."""
    before, after = scale
    x = x if before is None else x * before[:, None]
    out = spmm(inc, x, values, transpose=transpose)
    if after is None:
        return out
    if after.requires_grad or after.dtype != out.dtype:
        return out * after[:, None]
    return out.mul_(after[:, None])  # nothing was saved of it


def rows_first(x: Tensor) -> tuple[Tensor, torch.Size]:
    """Turn ``[*, N, F]`` into ``[N, prod(*) F]``, and say what ``*`` was."""
    shape = x.shape[:-2]
    return (x if not shape else x.movedim(-2, 0).reshape(x.size(-2), shape.numel() * x.size(-1))), shape


def rows_back(x: Tensor, shape: torch.Size) -> Tensor:
    """Undo :func:`rows_first`."""
    return x if not shape else x.view(x.size(0), *shape, x.size(1) // max(shape.numel(), 1)).movedim(0, -2)


def _direction(wanted: str, source: Tensor, target: Tensor | None, weight: Tensor | None) -> str:
    if wanted != "auto":
        return wanted
    if weight is not None and weight.size(0) == source.size(-2):
        return "to_node"
    return "to_hyperedge"


def _entries(index: HyperedgeIndex) -> tuple[Tensor | Incidence, Tensor | None]:
    """Take entries and values out of whatever holds the incidences; a sparse matrix is transposed, ``[M, N]``."""
    if isinstance(index, Incidence):
        return index, None
    if isinstance(index, SparseTensor):
        edge, node, value = index.coo()
        return torch.stack([node, edge]), value
    if isinstance(index, EdgeIndex):
        return index.as_tensor(), None
    if not isinstance(index, Tensor):
        raise ValueError(f"'hyperedge_index' must be a tensor, a sparse matrix or an Incidence (got {type(index)})")
    if index.layout != torch.strided:
        matrix = index.to_sparse_coo().coalesce()
        return matrix.indices().flip(0), matrix.values()
    check_form(index)
    return index, None


def _own_size(index: HyperedgeIndex) -> tuple[int | None, int | None]:
    """Return the numbers of rows and columns that the holder of the incidences knows itself."""
    if isinstance(index, EdgeIndex):
        rows, cols = index.sparse_size()
        return rows, cols
    if isinstance(index, SparseTensor):
        return index.sparse_size(1), index.sparse_size(0)
    if isinstance(index, Tensor) and index.layout != torch.strided and index.dim() == 2:
        return index.size(1), index.size(0)
    return None, None


def _count(index: Tensor | Incidence, known: int | None) -> int:
    if known is not None:
        return known
    if isinstance(index, Incidence):
        return index.size[1]
    return int(index[1].max()) + 1 if index.size(1) else 0


def _check_counts(num_edges: int | None, size: tuple[int, int] | None) -> None:
    if num_edges is not None and num_edges < 0:
        raise ValueError(f"'num_edges' must not be negative (got {num_edges})")
    if num_edges is not None and size is not None and size[1] != num_edges:
        raise ValueError(f"'num_edges' and 'size' differ in the number of hyperedges (got {num_edges} and {size})")


def _check(name: str, value: Tensor | None, rows: int, axis: int) -> None:
    if value is not None and axis == 0 and value.dim() != 1:
        raise ValueError(f"'{name}' must have shape [{rows}] (got {list(value.shape)})")
    if value is not None and value.size(axis) != rows:
        what = "incidence" if name == "incidence_weight" else "hyperedge"
        raise ValueError(f"'{name}' must have {rows} rows, one per {what} (got {value.size(axis)})")
