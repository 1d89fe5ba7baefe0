from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from hyperlearn_pyg.nn.decoder.kruskal import KruskalDecoder


class CPDecoder(KruskalDecoder):
    r"""The CP decoder of HyperLearn, with optional biases.

    .. math::
        \tilde{x}(i_1, \ldots, i_k) = \mu + \sum_s b_s[i_s] + \sum_{r=1}^{R} \prod_{s=1}^{k} (c_{s,r} + A_s[i_s, r])

    :math:`c = 0` is the CP model of the paper; with ``around_ones`` the centres :math:`c` are learnt and start at one,
    so that a product of order three and more does not start on a saddle.

    Args:
        order: number of slots ``k``.
        rank: number of columns ``R``.
        bias: the last column of the input of each slot is an additive bias of the item.
        around_ones: learn centres, from one.

    Shapes:
        * input: ``k`` matrices ``[N_s, R]`` (``[N_s, R + 1]`` with biases), tuples ``[k, E]``
        * output: ``[E]``
    """

    def __init__(self, order: int, rank: int, *, bias: bool = True, around_ones: bool = False) -> None:
        super().__init__(order, rank, bias=bias)
        if around_ones:
            self.center = Parameter(torch.empty(order, rank))
        else:
            self.register_parameter("center", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the centres to one."""
        if self.center is not None:
            torch.nn.init.ones_(self.center)

    def product_columns(self, slot: int, factors: Tensor) -> Tensor:
        """Return the factors, around their centres."""
        return factors if self.center is None else factors + self.center[slot]
