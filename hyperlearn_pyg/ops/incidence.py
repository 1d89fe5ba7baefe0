from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hyperlearn_pyg.ops.cache import TensorCache

_INT32_MAX = 2**31 - 1


class CSR(NamedTuple):
    """One compressed direction of a sparse matrix: bags ``ptr [n + 1]``, members ``idx [nnz]``.

    ``perm [nnz]`` is the position of each stored entry in the order in which the entries were given.
    """

    ptr: Tensor
    idx: Tensor
    perm: Tensor


class Incidence:
    r"""A sparse matrix :math:`\mathbf{H} \in \mathbb{R}^{N \times M}` compressed by rows and by columns.

    Each compressed form is built once, when it is first needed (a stable counting sort by row, another by column), and
    reused by every product, layer and epoch. Duplicate entries are kept and add up. Values, where a product wants
    them, are given with the product, in the order of the entries. The object keeps a copy of the entries: writing to
    the tensor it was made from does not change it.

    Args:
        index: entries ``[2, nnz]``: row (node) and column (hyperedge) of each.
        size: ``(N, M)``.
        validate: check that every entry lies inside ``size``.

    Raises:
        ValueError: ``index`` is not an integer tensor of shape ``[2, nnz]``, or an entry is out of range.
    """

    def __init__(self, index: Tensor, size: tuple[int, int], *, validate: bool = True) -> None:
        _check_index(index, size, validate)
        self.size = (size[0], size[1])
        self.nnz = index.size(1)
        if torch.compiler.is_compiling():  # the sizes are symbols there: no choice by size
            self.index = index.long()
        else:
            fits = max(size[0], size[1], self.nnz) < _INT32_MAX
            self.index = index.to(torch.int32 if fits else torch.int64, copy=True)  # a cache must not hold its own key
        self._by_row: CSR | None = None
        self._by_col: CSR | None = None
        self._degrees: dict[int, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Device of the structure."""
        return self.index.device

    @property
    def by_row(self) -> CSR:
        """The rows (nodes) as bags of columns."""
        if self._by_row is None:
            perm, ptr = compress(self.index[0], self.size[0])
            self._by_row = CSR(ptr, self.index[1].index_select(0, perm), perm)
        return self._by_row

    @property
    def by_col(self) -> CSR:
        """The columns (hyperedges) as bags of rows, which stand in ascending order."""
        if self._by_col is None:
            rows = self.by_row
            second, ptr = compress(rows.idx, self.size[1])
            perm = rows.perm.index_select(0, second)
            self._by_col = CSR(ptr, self.index[0].index_select(0, perm), perm)
        return self._by_col

    def row_degree(self, values: Tensor | None = None) -> Tensor:
        """Return the sum of ``values [nnz]``, or the number of entries, of each row ``[N]``."""
        return self._degree(0, values)

    def col_degree(self, values: Tensor | None = None) -> Tensor:
        """Return the sum of ``values [nnz]``, or the number of entries, of each column ``[M]``."""
        return self._degree(1, values)

    def _degree(self, axis: int, values: Tensor | None) -> Tensor:
        if values is not None:
            return values.new_zeros(self.size[axis]).index_add(0, self.index[axis], values)
        if axis not in self._degrees:
            self._degrees[axis] = (self.by_col if axis else self.by_row).ptr.diff()
        return self._degrees[axis]

    def t(self) -> Incidence:
        """Return the transpose; it shares the compressed forms."""
        out = object.__new__(type(self))
        out.size, out.nnz, out.index = (self.size[1], self.size[0]), self.nnz, self.index.flip(0)
        out._by_row, out._by_col = self.by_col, self.by_row
        out._degrees = {1 - axis: degree for axis, degree in self._degrees.items()}
        return out

    def __repr__(self) -> str:
        cached = (self._by_row is not None) + (self._by_col is not None) + len(self._degrees)
        return f"{type(self).__name__}(size={self.size}, nnz={self.nnz}, device={self.device}, cached={cached})"


def incidence(index: Tensor, size: tuple[int, int], *, validate: bool = True, cached: bool = True) -> Incidence:
    """Return the :class:`Incidence` of ``index``.

    It is built once per tensor, as long as the tensor lives and is not written to; with ``cached=False``, and inside
    a compiled or exported graph, at each call.
    """
    if torch.compiler.is_compiling():
        return Incidence(index, size, validate=False)
    if not cached:
        return Incidence(index, size, validate=validate)
    return _CACHE.get(index, size, lambda: Incidence(index, size, validate=validate))


def compress(key: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Sort ``key [n]`` (values below ``size``) stably; return the permutation and the bag starts ``[size + 1]``."""
    perm = torch.sort(key, stable=True).indices.to(key.dtype)
    ptr = key.new_zeros(size + 1)
    if torch.compiler.is_compiling():  # the length of a bincount hangs on the data: it would break the graph
        count = torch.zeros_like(ptr[1:]).scatter_add(0, key.long(), torch.ones_like(key))
    else:
        count = torch.bincount(key, minlength=size)
    ptr[1:] = count.cumsum(0)
    return perm, ptr


def safe_inverse(degree: Tensor, power: float = 1.0) -> Tensor:
    """Return ``degree ** -power`` with zero, value and gradient, where ``degree`` is not positive."""
    positive = degree > 0
    return torch.where(positive, torch.where(positive, degree, 1.0).pow(-power), 0.0)


def _check_index(index: Tensor, size: tuple[int, int], validate: bool) -> None:
    if index.dim() != 2 or index.size(0) != 2 or index.is_floating_point() or index.is_complex():
        raise ValueError(
            f"'index' must be an integer tensor of shape [2, nnz] (got {list(index.shape)}, {index.dtype}); "
            "row 0 names the node, row 1 the hyperedge"
        )
    if not validate or index.size(1) == 0:
        return
    for axis, word in enumerate(("node", "hyperedge")):
        low, high = (int(v) for v in index[axis].aminmax())
        if low < 0 or high >= size[axis]:
            bad = low if low < 0 else high
            raise ValueError(f"'index' row {axis} holds {word} {bad}, outside [0, {size[axis]}): mend it or pass sizes")


_CACHE: TensorCache[Incidence] = TensorCache()
