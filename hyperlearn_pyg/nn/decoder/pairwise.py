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

    def against(self, columns: Sequence[Tensor], slot: int, table: Tensor) -> Tensor:
        """Score candidates of a slot as :meth:`KruskalDecoder.against` does, from ``R + 2`` columns instead of all.

        The blocks of the pairs with the slot hold the same factors of a candidate, so that what they meet is summed
        first; all other columns of a candidate are ones, and what they meet is one number a tuple.
        """
        pairs, rank = list(combinations(range(self.order), 2)), self.rank
        own, rest = columns[0].new_zeros(()), columns[0].new_zeros(())
        for at, (s, t) in enumerate(pairs):
            block = slice(at * rank, (at + 1) * rank)
            if slot in (s, t):
                own = own + columns[t if slot == s else s][:, block]
            else:
                rest = rest + (columns[s][:, block] * columns[t][:, block]).sum(1)
        others = [s for s in range(self.order) if s != slot]
        if self.product:
            block = slice(len(pairs) * rank, (len(pairs) + 1) * rank)
            own = own + multiply([columns[s][:, block] for s in others])
        first = rank * next(at for at, pair in enumerate(pairs) if slot in pair)
        ones, every = own.new_ones(len(own), 1), table.new_ones(len(table), 1)
        bias = table.new_zeros(len(table), 1)
        if self.bias:
            start = table.size(1) - self.order
            bias = table[:, start + slot : start + slot + 1]
            rest = rest + sum(columns[s][:, start + s] for s in others)
        left = torch.cat([own, ones, rest.expand(len(own))[:, None]], dim=1)
        return left @ torch.cat([table[:, first : first + rank], bias, every], dim=1).t()

    def product_columns(self, slot: int, factors: Tensor) -> Tensor:
        """Return a block of columns per pair: the factors where it holds ``slot``, else ones; and the product's."""
        ones = torch.ones_like(factors)
        blocks = [factors if slot in pair else ones for pair in combinations(range(self.order), 2)]
        return torch.cat([*blocks, factors] if self.product else blocks, dim=1)
