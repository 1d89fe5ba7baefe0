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

    It is built once from a list of entries (a stable counting sort by row, another by column) and reused by every
    product, layer and epoch. Duplicate entries are kept and add up. Values, where a product wants them, are given
    with the product, in the order of the entries.

    Args:
        index: entries ``[2, nnz]``: row (node) and column (hyperedge) of each.
        size: ``(N, M)``.
        validate: check that every entry lies inside ``size``.

    Raises:
        ValueError: ``index`` is not an integer tensor of shape ``[2, nnz]``, or an entry is out of range.
    """

    def __init__(self, index: Tensor, size: tuple[int, int], *, validate: bool = True) -> None:
        _check_index(index, size, validate)
        self.size = (int(size[0]), int(size[1]))
        self.nnz = int(index.size(1))
        fits = max(*self.size, self.nnz) < _INT32_MAX
        self.index = index.to(torch.int32 if fits else torch.int64, copy=True)  # a cache must not hold its own key
        self.by_row, self.by_col = _compress(self.index, self.size)

    @property
    def device(self) -> torch.device:
        """Device of the structure."""
        return self.index.device

    def row_degree(self, values: Tensor | None = None) -> Tensor:
        """Return the sum of (absolute position-wise) ``values``, or the number of entries, of each row ``[N]``."""
        return _degree(self.by_row, self.index[0], values, self.size[0])

    def col_degree(self, values: Tensor | None = None) -> Tensor:
        """Return the sum of ``values``, or the number of entries, of each column ``[M]``."""
        return _degree(self.by_col, self.index[1], values, self.size[1])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, nnz={self.nnz}, device={self.device})"


def incidence(index: Tensor, size: tuple[int, int], *, validate: bool = True) -> Incidence:
    """Return the :class:`Incidence` of ``index``, built once per tensor as long as it is not written to."""
    size = (int(size[0]), int(size[1]))
    return _CACHE.get(index, size, lambda: Incidence(index, size, validate=validate))


def compress(key: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Sort ``key [n]`` (values below ``size``) stably; return the permutation and the bag starts ``[size + 1]``."""
    perm = torch.sort(key, stable=True).indices.to(key.dtype)
    ptr = key.new_zeros(size + 1)
    ptr[1:] = torch.bincount(key, minlength=size).cumsum(0)
    return perm, ptr


def safe_inverse(degree: Tensor, power: float = 1.0) -> Tensor:
    """Return ``degree ** -power`` with zero, value and gradient, where ``degree`` is not positive."""
    positive = degree > 0
    return torch.where(positive, torch.where(positive, degree, 1.0).pow(-power), 0.0)


def _degree(csr: CSR, key: Tensor, values: Tensor | None, size: int) -> Tensor:
    if values is None:
        return csr.ptr.diff()
    return values.new_zeros(size).index_add(0, key, values)


def _compress(index: Tensor, size: tuple[int, int]) -> tuple[CSR, CSR]:
    row, col = index[0], index[1]
    perm, row_ptr = compress(row, size[0])
    col_sorted = col.index_select(0, perm)
    second, col_ptr = compress(col_sorted, size[1])  # columns list their rows in ascending order
    col_perm = perm.index_select(0, second)
    return CSR(row_ptr, col_sorted, perm), CSR(col_ptr, row.index_select(0, col_perm), col_perm)


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
