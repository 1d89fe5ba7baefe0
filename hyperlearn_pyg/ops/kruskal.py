from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from hyperlearn_pyg.ops.cache import TensorCache
from hyperlearn_pyg.ops.incidence import _INT32_MAX, compress
from hyperlearn_pyg.ops.spmm import _embedding_bag, gather_rows

_CHUNK = 16384
_KEPT = 1 << 24  # so many tuples are kept sorted by each mode; more are sorted chunk by chunk, at each call


def cp_score(factors: Sequence[Tensor], index: Tensor) -> Tensor:
    r"""Score tuples by the CP (Kruskal) model.

    :math:`\tilde{x}(i_1, \ldots, i_k) = \sum_{r=1}^{R} \prod_{m=1}^{k} A_m[i_m, r]`, for any order :math:`k \ge 1`
    (Kolda and Bader, Tensor Decompositions and Applications, SIAM Review 2009, eq. 3.1). Rows are gathered and
    reduced in chunks: nothing of shape ``[E, R]`` is made, forward or backward, unless a second derivative is asked
    for. The order in which the backward sums is fixed, so results are equal from run to run.

    Args:
        factors: ``k`` matrices ``[N_m, R]``, one per slot.
        index: tuples ``[k, E]``.

    Returns:
        Scores ``[E]``.

    Raises:
        ValueError: shapes or index dtype do not fit each other.
        IndexError: an entry of ``index`` is out of range.
    """
    _check(factors, index)
    out: Tensor = _CPScore.apply(index, *factors)  # type: ignore[no-untyped-call]
    return out


def gram_norm(factors: Sequence[Tensor]) -> Tensor:
    r"""Return the squared Frobenius norm of the CP tensor without forming it.

    :math:`\lVert [\![A_1, \ldots, A_k]\!] \rVert_F^2 = \mathbf{1}^{\top} (\mathbf{A}_1^{\top} \mathbf{A}_1 \ast
    \cdots \ast \mathbf{A}_k^{\top} \mathbf{A}_k) \mathbf{1}` (Kolda and Bader 2009, section 3.4; :math:`\ast` is the
    Hadamard product). Cost :math:`O(\sum_m N_m R^2)`.

    Args:
        factors: matrices ``[N_m, R]``.

    Returns:
        A scalar.
    """
    return hadamard_gram(factors).sum()


def hadamard_gram(factors: Sequence[Tensor]) -> Tensor:
    """Return the Hadamard product of the Gram matrices of ``factors``, ``[R, R]``."""
    gram = factors[0].t() @ factors[0]
    for factor in factors[1:]:
        gram = gram * (factor.t() @ factor)
    return gram


def mttkrp(factors: Sequence[Tensor], index: Tensor, mode: int, value: Tensor) -> Tensor:
    r"""Multiply a sparse tensor, unfolded along one mode, with the Khatri-Rao product of the other factors.

    :math:`\mathbf{X}_{(m)} \mathbf{\Omega}_m` (Kolda and Bader 2009, section 3.4), in chunks of sorted entries.
    It is the gradient of the sum of ``value * cp_score(factors, index)`` for the factors of ``mode``.
    Not differentiable.

    Args:
        factors: ``k`` matrices ``[N_m, R]``.
        index: entries ``[k, E]``.
        mode: the mode ``m``.
        value: values ``[E]``.

    Returns:
        ``[N_m, R]``.
    """
    _check(factors, index)
    return _mode_grad([f.detach().contiguous() for f in factors], index, mode, value.detach())


def _check(factors: Sequence[Tensor], index: Tensor) -> None:
    if index.dim() != 2 or index.size(0) != len(factors) or index.is_floating_point():
        raise ValueError(
            f"'index' must be an integer tensor of shape [{len(factors)}, E], one row per factor matrix "
            f"(got {list(index.shape)}, {index.dtype})"
        )
    ranks = {tuple(factor.shape[1:]) for factor in factors}
    if len(ranks) != 1 or any(factor.dim() != 2 for factor in factors):
        raise ValueError(f"'factors' must be matrices of one rank (got {[list(f.shape) for f in factors]})")
    if index.size(1) == 0:
        return
    for slot, (factor, row) in enumerate(zip(factors, index, strict=True)):
        low, high = (int(v) for v in row.aminmax())
        if low < 0 or high >= factor.size(0):
            raise IndexError(f"'index' row {slot} holds {low if low < 0 else high}, outside [0, {factor.size(0)})")


def _product(factors: Sequence[Tensor], index: Tensor, skip: int = -1) -> Tensor | None:
    out: Tensor | None = None
    for slot, factor in enumerate(factors):
        if slot != skip:
            rows = gather_rows(factor, index[slot])
            out = rows if out is None else out.mul_(rows)
    return out


def _plain(factors: Sequence[Tensor], index: Tensor) -> Tensor:
    """The definition, as differentiable as wanted."""
    out = factors[0].index_select(0, index[0])
    for slot in range(1, len(factors)):
        out = out * factors[slot].index_select(0, index[slot])
    return out.sum(1)


class _CPScore(Function):
    @staticmethod
    def forward(ctx: Any, index: Tensor, *factors: Tensor) -> Tensor:
        ctx.save_for_backward(*factors)
        ctx.index = index
        factors = tuple(factor.detach().contiguous() for factor in factors)
        total = index.size(1)
        out = factors[0].new_zeros(total)
        for start in range(0, total if factors[0].size(1) else 0, _CHUNK):
            rows = _product(factors, index[:, start : start + _CHUNK])
            assert rows is not None, "a CP model has at least one mode"
            out[start : start + _CHUNK] = rows.sum(1)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        factors: tuple[Tensor, ...] = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # a second derivative is asked for
            with torch.enable_grad():
                slots = [f.view_as(f) for f in factors]  # one variable a slot, whatever the factors share
                score = _plain(slots, ctx.index)
            inputs = [f for f, want in zip(slots, wanted, strict=True) if want]
            grads = iter(torch.autograd.grad(score, inputs, grad, create_graph=True))
            return None, *(next(grads) if want else None for want in wanted)
        factors = tuple(factor.detach().contiguous() for factor in factors)
        return None, *(_mode_grad(factors, ctx.index, m, grad) if want else None for m, want in enumerate(wanted))


def _mode_grad(factors: Sequence[Tensor], index: Tensor, mode: int, grad: Tensor) -> Tensor:
    """Sum, for each row of one mode, of grad times the product of the other modes' rows, in sorted chunks."""
    size, rank = factors[mode].shape
    out = factors[mode].new_zeros(size, rank)
    total = index.size(1)
    if total == 0 or rank == 0:
        return out
    perm, ptr, columns = _SORTED.get(index, (mode, size), lambda: _sort(index, mode, size))
    weights = grad.index_select(0, perm)
    if len(factors) == 2:
        other = index[1 - mode].index_select(0, perm).to(ptr.dtype) if columns is None else columns[1 - mode]
        return _embedding_bag(factors[1 - mode], other, ptr, weights)
    starts = list(range(0, total, _CHUNK))
    bounds = torch.tensor([*starts, total - 1], device=ptr.device).to(ptr.dtype)
    owners = (torch.searchsorted(ptr, bounds, right=True) - 1).tolist()  # to whom the first of each chunk belongs
    for chunk, start in enumerate(starts):
        part = slice(start, start + _CHUNK)
        others = index.index_select(1, perm[part]) if columns is None else columns[:, part]
        rows = _product(factors, others, skip=mode)
        if rows is None:
            rows = factors[mode].new_ones(others.size(1), rank)
        first, last = owners[chunk], owners[chunk + 1]
        bags = (ptr[first : last + 2] - start).clamp_(0, rows.size(0))
        every = torch.arange(rows.size(0), dtype=ptr.dtype, device=ptr.device)
        out[first : last + 1] += _embedding_bag(rows, every, bags, weights[part])
    return out


def _sort(index: Tensor, mode: int, size: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the order of the tuples by one mode, where each of its items begins, and the sorted tuples unless many."""
    total = index.size(1)
    kind = torch.int32 if max(size, total) < _INT32_MAX else torch.int64
    perm, ptr = compress(index[mode].to(kind), size)
    if total > _KEPT:
        return perm, ptr, None
    return (
        perm,
        ptr,
        index.index_select(1, perm).to(kind if index.numel() == 0 or index.max() < _INT32_MAX else index.dtype),
    )


_SORTED: TensorCache[tuple[Tensor, Tensor, Tensor | None]] = TensorCache()
