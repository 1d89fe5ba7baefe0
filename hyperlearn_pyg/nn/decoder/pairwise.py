from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from hyperlearn_pyg.nn.decoder.kruskal import KruskalDecoder, multiply


class PairwiseDecoder(KruskalDecoder):
    r"""A sum over pairs of slots, with optional biases: itself a Kruskal model.

    .. math::
        \tilde{x}(i_1, \ldots, i_k) = \mu + \sum_s b_s[i_s] + \sum_{s < t} \langle A_s[i_s], A_t[i_t] \rangle

    (the second-order factorisation machine of Rendle, ICDM 2010, on one item a slot). The columns of a pair hold the
    factors of its two slots and ones for the others. With ``product``, the CP term
    :math:`\sum_{r} \prod_s A_s[i_s, r]` of the same factors is added where there are three slots or more: it starts
    small beside the pairs, and so off the saddle that a CP model alone starts on.

    Args:
        order: number of slots ``k >= 2``.
        rank: number of columns ``R`` of each slot.
        bias: the last column of the input of each slot is an additive bias of the item.
        product: add the product over all slots.

    Shapes:
        * input: ``k`` matrices ``[N_s, R]`` (``[N_s, R + 1]`` with biases), tuples ``[k, E]``
        * output: ``[E]``
    """

    def __init__(self, order: int, rank: int, *, bias: bool = True, product: bool = False) -> None:
        if order < 2:
            raise ValueError(f"'order' must be at least 2 for a sum over pairs (got {order})")
        super().__init__(order, rank, bias=bias)
        self.product = product and order > 2  # of two slots, the one pair is the product

    def terms(self, slot: int, rows: Tensor) -> Tensor:
        """Return the rows: the blocks of columns repeat them."""
        self._check_rows(slot, rows)
        return rows

    def terms_of(self, slot: int, columns: Tensor) -> Tensor:
        """Return the rows ``[N, in_channels]`` that the columns were made of."""
        first = next(at for at, pair in enumerate(combinations(range(self.order), 2)) if slot in pair) * self.rank
        factors = columns[:, first : first + self.rank]
        return torch.cat([factors, columns[:, slot - self.order, None]], dim=1) if self.bias else factors

    def joint(self, terms: Sequence[Tensor]) -> Tensor:
        """Score tuples, see :meth:`KruskalDecoder.joint`: each slot against the sum of those before."""
        out, factors = self._pairs(terms), [t[:, : self.rank] for t in terms]
        return out + multiply(factors).sum(1) if self.product else out

    def against(self, terms: Sequence[Tensor], slot: int, table: Tensor) -> Tensor:
        """Score candidates of a slot, see :meth:`KruskalDecoder.against`: one product of ``R + 2`` columns."""
        others = [t for s, t in enumerate(terms) if s != slot]
        factors = [t[:, : self.rank] for t in others]
        own = sum(factors[1:], start=factors[0])
        own = own + multiply(factors) if self.product else own
        ones, every = own.new_ones(len(own), 1), table.new_ones(len(table), 1)
        mine = table if self.bias else torch.cat([table, torch.zeros_like(every)], dim=1)
        return torch.cat([own, ones, self._pairs(others)[:, None]], dim=1) @ torch.cat([mine, every], dim=1).t()

    def _pairs(self, terms: Sequence[Tensor]) -> Tensor:
        """Return the biases of some slots and the inner products of their pairs ``[B]``."""
        before = terms[0][:, : self.rank]
        total = torch.zeros_like(before)
        for term in terms[1:]:
            factors = term[:, : self.rank]
            total, before = total + before * factors, before + factors
        out = total.sum(1)
        return out + torch.cat([t[:, self.rank :] for t in terms], dim=1).sum(1) if self.bias else out

    def product_columns(self, slot: int, factors: Tensor) -> Tensor:
        """Return a block of columns per pair: the factors where it holds ``slot``, else ones; and the product's."""
        ones = torch.ones_like(factors)
        blocks = [factors if slot in pair else ones for pair in combinations(range(self.order), 2)]
        return torch.cat([*blocks, factors] if self.product else blocks, dim=1)
