from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from hyperlearn_pyg.ops.incidence import Incidence

_CHUNK = 16384


def spmm(inc: Incidence, x: Tensor, values: Tensor | None = None, *, transpose: bool = False) -> Tensor:
    r"""Multiply a sparse matrix, or its transpose, with a dense one.

    :math:`\mathbf{Y} = \mathbf{H}\mathbf{X}` or, with ``transpose``,
    :math:`\mathbf{Y} = \mathbf{H}^{\top}\mathbf{X}`. Nothing of shape ``[nnz, C]`` is made, forward or backward;
    differentiable any number of times in ``x`` and ``values``.

    Args:
        inc: the matrix, ``[N, M]``.
        x: ``[M, C]``, or ``[N, C]`` with ``transpose``.
        values: value of each entry ``[nnz]`` in the order given to :class:`Incidence`; ones where absent.
        transpose: multiply with the transpose.

    Returns:
        ``[N, C]``, or ``[M, C]`` with ``transpose``.

    Raises:
        ValueError: a shape does not fit.
    """
    rows = inc.size[0] if transpose else inc.size[1]
    if x.dim() != 2 or x.size(0) != rows:
        raise ValueError(f"'x' must have shape [{rows}, C] (got {list(x.shape)}) for a matrix of size {inc.size}")
    if values is not None and values.shape != (inc.nnz,):
        raise ValueError(f"'values' must have shape [{inc.nnz}], one per entry (got {list(values.shape)})")
    if values is None:
        structure = [*inc.bags(int(transpose)), *inc.bags(int(not transpose))]
    else:
        structure = _with_values(inc, transpose)
    out: Tensor = _SpMM.apply(x, values, *structure)  # type: ignore[no-untyped-call]
    return out


def sddmm(inc: Incidence, a: Tensor, b: Tensor) -> Tensor:
    r"""Return :math:`\langle \mathbf{a}_i, \mathbf{b}_j \rangle` for every entry :math:`(i, j)` of a sparse matrix.

    Args:
        inc: the matrix, ``[N, M]``.
        a: ``[N, C]``.
        b: ``[M, C]``.

    Returns:
        ``[nnz]``, in the order of the entries.
    """
    out: Tensor = _SDDMM.apply(a, b, *_with_values(inc, False))  # type: ignore[no-untyped-call]
    return out


def _with_values(inc: Incidence, transpose: bool) -> list[Tensor]:
    ahead, back = (inc.by_col, inc.by_row) if transpose else (inc.by_row, inc.by_col)
    return [*ahead, *back, *(inc.index.flip(0) if transpose else inc.index)]


def bag_sum(table: Tensor, ptr: Tensor, idx: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum the rows of ``table`` that each bag names; ``weights`` are in the order of the bags' members."""
    if idx.numel() == 0 or table.size(1) == 0:
        return table.new_zeros(ptr.numel() - 1, table.size(1))
    return _embedding_bag(table, idx, ptr, weights)


def gather_rows(table: Tensor, index: Tensor) -> Tensor:
    """Return ``table[index]``; on CPU as bags of one, which is several times faster than an indexed read."""
    if table.is_cuda or index.numel() == 0 or table.size(1) == 0:
        return table.index_select(0, index)
    bags = torch.arange(index.numel() + 1, dtype=index.dtype, device=index.device)
    return _embedding_bag(table, index, bags, None)


def _embedding_bag(table: Tensor, idx: Tensor, ptr: Tensor, weights: Tensor | None) -> Tensor:
    return torch.embedding_bag(table.detach().contiguous(), idx, ptr, False, 0, False, weights, True)[0]


class _SpMM(Function):
    """A structure is the bags of the output's side and those of the input's side, two tensors each.

    Where there are values each side has its permutation too, and both ends of the entries follow: eight tensors.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor | None, *structure: Tensor) -> Tensor:
        ctx.save_for_backward(None if values is None else x, values, *structure)  # of no use without values
        ptr, idx, perm = structure[:3]
        weights = None if values is None else values.detach().to(x.dtype).index_select(0, perm)
        return bag_sum(x, ptr, idx, weights)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, values, *structure = ctx.saved_tensors
        grad_x = grad_values = None
        if ctx.needs_input_grad[0]:
            grad_x = _SpMM.apply(grad, values, *_turned(structure))  # type: ignore[no-untyped-call]
        if values is not None and ctx.needs_input_grad[1]:
            grad_values = _SDDMM.apply(grad, x, *structure).to(values.dtype)  # type: ignore[no-untyped-call]
        return grad_x, grad_values, *(None for _ in structure)


class _SDDMM(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, *structure: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, *structure)
        a, b = a.detach().contiguous(), b.detach().contiguous()
        row, col = structure[6], structure[7]
        if torch.compiler.is_compiling():  # a loop would be unrolled, for one number of entries alone
            return (a.index_select(0, row) * b.index_select(0, col)).sum(1)
        _, col, perm = structure[:3]  # row by row: one of the two reads is then nearly sequential
        row = row.index_select(0, perm)
        out = a.new_empty(row.numel())
        for start in range(0, row.numel(), _CHUNK):
            part = slice(start, start + _CHUNK)
            out[part] = gather_rows(a, row[part]).mul_(gather_rows(b, col[part])).sum(1)
        return torch.empty_like(out).index_copy_(0, perm.long(), out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, *structure = ctx.saved_tensors
        grad_a = _SpMM.apply(b, grad, *structure)  # type: ignore[no-untyped-call]
        grad_b = _SpMM.apply(a, grad, *_turned(structure))  # type: ignore[no-untyped-call]
        return grad_a, grad_b, *(None for _ in structure)


def _turned(structure: Sequence[Tensor]) -> list[Tensor]:
    if len(structure) == 4:
        return [*structure[2:], *structure[:2]]
    return [*structure[3:6], *structure[:3], structure[7], structure[6]]
