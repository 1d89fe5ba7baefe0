from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Below this multiple of the fan-out every entry of a row gets a random key; above it collisions are rare: redraw them.
_DENSE = 3


class Draws(NamedTuple):
    """What was drawn: for each draw the position of its row ``[T]`` (ascending) and the offset in that row ``[T]``."""

    row: Tensor
    offset: Tensor


def draw(degree: Tensor, fan_out: int, *, replace: bool, generator: torch.Generator | None = None) -> Draws:
    """Draw uniformly from each of many rows at once.

    Without replacement every subset of ``fan_out`` entries is equally likely, by an exact method that needs memory for
    ``3 * fan_out`` numbers a row, however long the rows are.

    Args:
        degree: the lengths of the rows ``[R]``, int64.
        fan_out: the number of draws a row; negative: all entries once.
        replace: draw with replacement (``fan_out`` draws from every row that is not empty).
        generator: source of randomness; the global one where absent.
    """
    if fan_out < 0:
        return enumerate_rows(degree)
    if fan_out == 0 or degree.numel() == 0:
        return enumerate_rows(degree.new_zeros(degree.numel()))
    if replace:
        row = (degree > 0).nonzero().view(-1)
        offset = _uniform(degree[row], fan_out, generator)
        return Draws(row.repeat_interleave(fan_out), offset.view(-1))
    long = (degree > fan_out).nonzero().view(-1)
    if long.numel() == 0:
        return enumerate_rows(degree)
    out = enumerate_rows(degree.clamp(max=fan_out))
    offset = _distinct(degree[long], fan_out, generator)
    if long.numel() == degree.numel():
        return Draws(out.row, offset.view(-1))
    out.offset[(degree > fan_out)[out.row]] = offset.view(-1)
    return out


def last(degree: Tensor, fan_out: int) -> Draws:
    """Take the last ``fan_out`` entries of each row (all where negative)."""
    if fan_out < 0:
        return enumerate_rows(degree)
    taken = degree.clamp(max=fan_out)
    row, offset = enumerate_rows(taken)
    return Draws(row, offset + (degree - taken)[row])


def enumerate_rows(degree: Tensor) -> Draws:
    """Take every entry of every row, in order."""
    row = torch.repeat_interleave(degree)
    start = degree.cumsum(0) - degree
    return Draws(row, torch.arange(row.numel()) - start[row])


def _uniform(degree: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw ``[R, count]`` offsets with replacement; in float64, so that the bias is below 2^-53 times the degree."""
    unit = torch.rand(degree.numel(), count, dtype=torch.float64, generator=generator)
    return (unit * degree[:, None]).long()


def _distinct(degree: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw ``[R, count]`` distinct offsets, ascending in each row; every degree is above ``count``."""
    if count == 1:
        return _uniform(degree, 1, generator)
    dense = degree <= _DENSE * count
    if not bool(dense.any()):
        return _redraw(degree, count, generator)
    out = torch.empty(degree.numel(), count, dtype=torch.long)
    few, many = dense.nonzero().view(-1), (~dense).nonzero().view(-1)
    key = torch.rand(few.numel(), int(degree[few].max()), dtype=torch.float64, generator=generator)
    key.masked_fill_(torch.arange(key.size(1)) >= degree[few, None], 2.0)
    out[few] = key.topk(count, largest=False).indices.sort().values
    out[many] = _redraw(degree[many], count, generator)
    return out


def _redraw(degree: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw with replacement, then draw duplicates again until none is left.

    One of equal draws stays, whichever label it has, so that no label is preferred: the set is uniform.
    """
    out = _uniform(degree, count, generator).sort().values
    todo = torch.arange(degree.numel())
    own = out
    while True:
        double = torch.zeros_like(own, dtype=torch.bool)
        double[:, 1:] = own[:, 1:] == own[:, :-1]
        bad = double.any(1).nonzero().view(-1)
        if bad.numel() == 0:
            return out
        todo, own, double = todo[bad], own[bad], double[bad]
        again = degree[todo][:, None].expand_as(own)[double]
        own[double] = _uniform(again, 1, generator).view(-1)
        own = own.sort().values
        out[todo] = own
