from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from hyperlearn_pyg.nn.decoder.kruskal import KruskalDecoder

_MOST_COLUMNS = 4096


class TuckerDecoder(KruskalDecoder):
    r"""The Tucker model, with optional biases: every combination of the slots' factors has a weight.

    .. math::
        \tilde{x}(i_1, \ldots, i_k) = \mu + \sum_s b_s[i_s]
        + \sum_{r_1, \ldots, r_k} G[r_1, \ldots, r_k] \prod_{s=1}^{k} A_s[i_s, r_s]

    (Kolda and Bader, Tensor Decompositions and Applications, SIAM Review 2009, eq. 4.1; for links, Balazevic, Allen
    and Hospedales, EMNLP 2019). The core :math:`G` starts as the CP model: ones on its diagonal, and a little noise.

    It is a Kruskal model of :math:`R^{k-1}` columns: those of the first slot are its factors times the core,
    :math:`\sum_{r_1} G[r_1, r_2, \ldots] A_1[i, r_1]`, those of slot :math:`s` repeat :math:`A_s[i, r_s]`. So scores
    of tuples cost :math:`R^{k-1}` numbers a tuple and a slot, where CP takes :math:`R`: it is there for comparison, at
    small ranks. The norm over all cells needs no columns in one process; spread over ranks it takes a Gram matrix of
    that side from each slot.

    Args:
        order: number of slots ``k``.
        rank: number of columns ``R`` of each slot, with :math:`R^{k-1} \le 4096`.
        bias: the last column of the input of each slot is an additive bias of the item.
        std: standard deviation of the noise on the core at the start.

    Attributes:
        core: the core ``[R, ..., R]``, a parameter; the same for all ranks of a model that is spread.

    Shapes:
        * input: ``k`` matrices ``[N_s, R]`` (``[N_s, R + 1]`` with biases), tuples ``[k, E]``
        * output: ``[E]``

    Raises:
        ValueError: more than 4096 columns.
    """

    def __init__(self, order: int, rank: int, *, bias: bool = True, std: float = 0.01) -> None:
        super().__init__(order, rank, bias=bias)
        if rank ** (order - 1) > _MOST_COLUMNS:
            most = int(_MOST_COLUMNS ** (1 / (order - 1)) + 1e-9)
            raise ValueError(
                f"'rank' must be at most {most} for a Tucker model of order {order}, whose {rank}^{order - 1} columns "
                f"would exceed {_MOST_COLUMNS} (got {rank})"
            )
        self.std = std
        self.core = Parameter(torch.empty(*[rank] * order))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the core to ones on the diagonal and draw the noise afresh."""
        torch.nn.init.normal_(self.core, std=self.std)
        with torch.no_grad():
            every = torch.arange(self.rank, device=self.core.device)
            self.core[(every,) * self.order] += 1

    def product_columns(self, slot: int, factors: Tensor) -> Tensor:
        """Return the ``R^(k-1)`` columns: the first slot's factors times the core, those of others repeated."""
        if slot == 0:
            return factors @ self.core.to(factors.dtype).reshape(self.rank, -1)
        before, after = self.rank ** (slot - 1), self.rank ** (self.order - 1 - slot)
        wide = factors[:, None, :, None].expand(-1, before, -1, after)
        return wide.reshape(factors.size(0), before * self.rank * after)

    def norm_of(self, rows: list[Tensor]) -> Tensor:
        r"""Return the norm over all cells from the core and one Gram matrix a slot; no columns are formed.

        :math:`\langle G, G \times_1 A_1^{\top} A_1 \cdots \times_k A_k^{\top} A_k \rangle` (Kolda and Bader 2009,
        section 4.2), biases and ones as two more factors of each slot: cost
        :math:`O(\sum_s N_s R^2 + k (R + 2)^{k+1})`.
        """
        core = self.core.to(rows[0].dtype)
        if self.bias:
            core = torch.nn.functional.pad(core, (0, 2) * self.order)
            extra = torch.zeros_like(core)
            for slot in range(self.order):
                place = [self.rank + 1] * self.order
                place[slot] = self.rank
                extra[tuple(place)] = 1.0
            core = core + extra
            rows = [torch.cat([row, row.new_ones(row.size(0), 1)], dim=1) for row in rows]
        out = core
        for row in rows:  # the first dimension is taken away and comes back as the last: after k turns all are in place
            out = torch.tensordot(out, row.t() @ row, dims=([0], [0]))
        return (core * out).sum()
