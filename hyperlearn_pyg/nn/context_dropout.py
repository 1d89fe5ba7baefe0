"""Dropout of what a tuple is told by: the same columns whichever part of a batch the tuple is scored in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ODD = (-49064778989728563, -4265267296055464877)  # of the finaliser of MurmurHash3, as signed numbers
_BITS = 24


@dataclass(frozen=True)
class ContextDropout:
    """Dropout of the columns of the product of the slots that a tuple is told by, where one slot is to be told.

    A column of a tuple is dropped or not by a hash of the seed, the slot and the items of the tuple: nothing is drawn
    or kept for a tuple, and the parts of a batch drop what the whole does.

    Attributes:
        p: probability that a column is dropped.
        seed: seed of the batch.
    """

    p: float
    seed: int

    def kept(self, items: Tensor, slot: int, width: int) -> Tensor:
        """Return which columns of the tuples ``items [k, B]`` are kept where ``slot`` is asked, bool ``[B, width]``."""
        generator = torch.Generator().manual_seed(self.seed * 64 + slot)
        low, high = torch.iinfo(torch.long).min, torch.iinfo(torch.long).max
        drawn = torch.randint(low, high, (items.size(0) + width,), generator=generator).to(items.device)
        mixed = _mix((items.long() * (drawn[: items.size(0), None] | 1)).sum(0))
        hashed = _mix(mixed[:, None] ^ drawn[items.size(0) :])
        return (hashed & ((1 << _BITS) - 1)) >= round(self.p * (1 << _BITS))

    def __call__(self, terms: Sequence[Tensor], slot: int, items: Tensor, width: int) -> list[Tensor]:
        """Drop columns of the product of all slots but one.

        Args:
            terms: the columns of every slot, one ``[B, C]`` a slot.
            slot: the slot that is asked.
            items: the numbers of the items of the tuples ``[k, B]``.
            width: the first so many columns are dropped, or scaled by ``1 / (1 - p)``; the rest are left as they are.

        Returns:
            The terms, of which those of one other slot are changed; as they are where there is no other slot.
        """
        out = list(terms)
        if len(out) > 1:
            other = 1 if slot == 0 else 0
            kept = self.kept(items, slot, width).to(out[other].dtype) / (1 - self.p)
            out[other] = torch.cat([out[other][:, :width] * kept, out[other][:, width:]], dim=1)
        return out


def _mix(x: Tensor) -> Tensor:
    """Mix the bits of whole numbers."""
    for odd in _ODD:
        x = (x ^ ((x >> 33) & 0x7FFFFFFF)) * odd
    return x ^ ((x >> 33) & 0x7FFFFFFF)
