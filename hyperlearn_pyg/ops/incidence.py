from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import Self

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
        self._describe(index, size, validate)
        self._index: Tensor | None = index.to(self._dtype, copy=True)  # a cache must not hold its own key

    @classmethod
    def watching(cls, index: Tensor, size: tuple[int, int], *, validate: bool = True) -> Self:
        """Return the incidence of a tensor that outlives every use of its entries: no copy before one is needed."""
        out: Self = object.__new__(cls)
        out._describe(index, size, validate)
        out._index, out._watched = None, weakref.ref(index)
        return out

    def _describe(self, index: Tensor, size: tuple[int, int], validate: bool) -> None:
        _check_index(index, size, validate)
        self.size = (size[0], size[1])
        self.nnz = index.size(1)
        self.device = index.device  #: device of the structure
        # While compiling the sizes are symbols: no choice by size.
        fits = not torch.compiler.is_compiling() and max(size[0], size[1], self.nnz) < _INT32_MAX
        self._dtype = torch.int32 if fits else torch.int64
        self._watched: weakref.ref[Tensor] | None = None
        self._mirror: Incidence | None = None
        self._bags: list[tuple[Tensor, Tensor] | None] = [None, None]
        self._perms: list[Tensor | None] = [None, None]
        self._degrees: dict[int, Tensor] = {}

    @property
    def index(self) -> Tensor:
        """The entries ``[2, nnz]`` in the order in which they were given, int32 where that fits."""
        if self._mirror is not None:
            return self._mirror.index.flip(0)
        if self._index is None:
            watched = None if self._watched is None else self._watched()
            if watched is None:
                raise RuntimeError("the tensor of the entries is gone: build the Incidence from a tensor that you keep")
            self._index = watched.to(self._dtype, copy=True)
        return self._index

    @property
    def by_row(self) -> CSR:
        """The rows (nodes) as bags of columns."""
        return CSR(*self.bags(0), self._perm(0))

    @property
    def by_col(self) -> CSR:
        """The columns (hyperedges) as bags of rows, which stand in ascending order."""
        return CSR(*self.bags(1), self._perm(1))

    def bags(self, axis: int) -> tuple[Tensor, Tensor]:
        """Return the bags of the rows (0) or of the columns (1), ``ptr`` and ``idx``, without the permutation."""
        if self._mirror is not None:
            return self._mirror.bags(1 - axis)
        found = self._bags[axis]
        if found is None:
            found = self._bags[axis] = self._columns() if axis else self._rows()
        return found

    def _rows(self) -> tuple[Tensor, Tensor]:
        perm, ptr = compress(self._side(0), self.size[0])
        return ptr, self._side(1).index_select(0, perm)

    def _columns(self) -> tuple[Tensor, Tensor]:
        ptr, idx = self.bags(0)
        rows = torch.arange(self.size[0], dtype=self._dtype, device=self.device)
        rows = rows.repeat_interleave(ptr.diff(), output_size=self.nnz)
        second, ptr = compress(idx, self.size[1])
        return ptr, rows.index_select(0, second)

    def _perm(self, axis: int) -> Tensor:
        """Return the place of each stored entry among those given; built only where a product has values."""
        if self._mirror is not None:
            return self._mirror._perm(1 - axis)
        found = self._perms[axis]
        if found is None:
            found = compress(self.bags(0)[1] if axis else self._side(0), self.size[axis])[0]
            found = self._perm(0).index_select(0, found) if axis else found
            self._perms[axis] = found
        return found

    def _side(self, axis: int) -> Tensor:
        """Return one row of the entries; what is only watched is not copied for it as a whole."""
        watched = None if self._watched is None or self._index is not None else self._watched()
        return self.index[axis] if watched is None else watched[axis].to(self._dtype)

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
            self._degrees[axis] = self.bags(axis)[0].diff()
        return self._degrees[axis]

    def t(self) -> Incidence:
        """Return the transpose; it shares the compressed forms."""
        out = object.__new__(type(self))
        out.__dict__.update(self.__dict__)
        out.size, out._mirror = (self.size[1], self.size[0]), self
        out._degrees = {1 - axis: degree for axis, degree in self._degrees.items()}
        return out

    def __repr__(self) -> str:
        base = self if self._mirror is None else self._mirror
        cached = sum(part is not None for part in (*base._bags, *base._perms)) + len(self._degrees)
        return f"{type(self).__name__}(size={self.size}, nnz={self.nnz}, device={self.device}, cached={cached})"


def incidence(index: Tensor, size: tuple[int, int], *, validate: bool = True, cached: bool = True) -> Incidence:
    """Return the :class:`Incidence` of ``index``.

    It is built once per tensor, as long as the tensor lives and is not written to; with ``cached=False``, and inside
    a compiled or exported graph, at each call.
    """
    return _build(Incidence, _CACHE, index, size, validate, cached)


def incidence_for_call(index: Tensor, size: tuple[int, int], *, validate: bool, cached: bool) -> Incidence:
    """Return what :func:`incidence` does, for use while ``index`` is held by the caller: no copy of it is kept."""
    return _build(Incidence.watching, _CALLS, index, size, validate, cached)


def _build(
    make: Callable[..., Incidence],
    cache: TensorCache[Incidence],
    index: Tensor,
    size: tuple[int, int],
    validate: bool,
    cached: bool,
) -> Incidence:
    if torch.compiler.is_compiling():
        return Incidence(index, size, validate=False)
    if not cached:
        return make(index, size, validate=validate)
    return cache.get(index, size, lambda: make(index, size, validate=validate))


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


def check_form(index: Tensor) -> None:
    """Refuse an index that is no integer tensor ``[2, nnz]``."""
    no_integer = index.is_floating_point() or index.is_complex() or index.dtype == torch.bool
    if index.dim() != 2 or index.size(0) != 2 or no_integer:
        raise ValueError(
            f"'index' must be an integer tensor of shape [2, nnz] (got {list(index.shape)}, {index.dtype}); "
            "row 0 names the node, row 1 the hyperedge"
        )


class EntryError(ValueError):
    """An entry lies outside the size: ``what`` was found, in the row ``axis``."""

    def __init__(self, what: str, axis: int) -> None:
        super().__init__(f"'index' {what}: mend the entries or the size")
        self.what = what
        self.axis = axis


def _check_index(index: Tensor, size: tuple[int, int], validate: bool) -> None:
    check_form(index)
    if not validate or index.size(1) == 0:
        return
    for axis, word in enumerate(("node", "hyperedge")):
        low, high = (int(v) for v in index[axis].aminmax())
        if low < 0 or high >= size[axis]:
            bad = low if low < 0 else high
            raise EntryError(f"row {axis} holds {word} {bad}, outside [0, {size[axis]})", axis)


_CACHE: TensorCache[Incidence] = TensorCache()
_CALLS: TensorCache[Incidence] = TensorCache()
