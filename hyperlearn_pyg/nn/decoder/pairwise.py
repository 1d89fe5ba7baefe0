from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from hyperlearn_pyg.nn.decoder.kruskal import KruskalDecoder


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

    def product_columns(self, slot: int, factors: Tensor) -> Tensor:
        """Return a block of columns per pair: the factors where it holds ``slot``, else ones; and the product's."""
        ones = torch.ones_like(factors)
        blocks = [factors if slot in pair else ones for pair in combinations(range(self.order), 2)]
        return torch.cat([*blocks, factors] if self.product else blocks, dim=1)
