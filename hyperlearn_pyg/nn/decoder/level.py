from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils.checkpoint import checkpoint

from hyperlearn_pyg.nn.decoder.kruskal import KruskalDecoder, multiply
from hyperlearn_pyg.ops.kruskal import gram_norm

_CHUNK = 1 << 16


class LevelDecoder(KruskalDecoder):
    r"""The level of a value (a rating of one to five, say) as one more mode of another decoder's Kruskal model.

    .. math::
        p(l \mid i_1, \ldots, i_k) = \mathrm{softmax}_l \Big( \log \pi_l
        + \sum_c V[l, c] \prod_{s=1}^{k} C_s[i_s, c] \Big)
        \qquad
        \tilde{x}(i_1, \ldots, i_k) = \sum_l p(l \mid i_1, \ldots, i_k) \, v_l

    with the columns :math:`C_s` of ``base``, biases among them, the share :math:`\pi_l` of a level among the training
    entries and the mean :math:`v_l` of their values (the softmax over rating levels of van den Berg, Kipf and Welling,
    arXiv:1706.02263, eq. 9, on a CP model of one mode more). The table :math:`V` of the levels starts at
    :math:`(v_l - \mu) / \sigma^2` in every column: to first order the expected level is then the mean plus the score
    of ``base``, so that biases in the units of the values are a good start.

    Args:
        base: the decoder of the tuples; its offset is not used.
        boundaries: values that part the levels, ascending: ``L - 1`` of them.

    Attributes:
        level: the table :math:`V` ``[L, C]``, a parameter; the same for all ranks of a model that is spread.
        values: the value of each level ``[L]``, a buffer (between the boundaries at first).
        prior: the log of the share of each level ``[L]``, a buffer.

    Shapes:
        * input: ``k`` matrices ``[N_s, in_channels]``, tuples ``[k, E]``
        * output: the expected level ``[E]``, in the units of the values
    """

    values: Tensor
    prior: Tensor

    def __init__(self, base: KruskalDecoder, boundaries: Sequence[float]) -> None:
        super().__init__(base.order, base.rank, bias=base.bias)
        self.base = base
        self.boundaries = tuple(float(b) for b in boundaries)
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"'boundaries' must ascend (got {list(boundaries)})")
        like = next(base.parameters(), base.offset)
        with torch.no_grad():
            width = base.columns(0, torch.zeros(1, base.in_channels, dtype=like.dtype)).size(1)
        self.level = Parameter(torch.empty(self.num_levels, width))
        self.register_buffer("values", torch.tensor(_midpoints(self.boundaries)))
        self.register_buffer("prior", torch.zeros(self.num_levels))
        self.reset_parameters()

    @property
    def num_levels(self) -> int:
        """Number of levels ``L``."""
        return len(self.boundaries) + 1

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the table of the levels from their values and shares."""
        share = self.prior.softmax(0)
        mean = (share * self.values).sum()
        spread = (share * (self.values - mean).square()).sum()
        spread = torch.where(spread > 0, spread, 1.0)
        self.level.copy_(((self.values - mean) / spread)[:, None].expand_as(self.level))

    def levels_of(self, value: Tensor) -> Tensor:
        """Return the level ``[E]`` of each value."""
        return torch.bucketize(value, torch.tensor(self.boundaries, dtype=value.dtype, device=value.device))

    @torch.no_grad()
    def start(self, value: Tensor, weight: Tensor | None = None) -> None:
        """Set values and shares of the levels from training values ``[E]``, and the table from them.

        A level that no entry has keeps its value, and counts as half an entry.
        """
        level = self.levels_of(value)
        weight = torch.ones_like(value) if weight is None else weight.to(value.dtype)
        zeros = value.new_zeros(self.num_levels)
        mass = zeros.index_add(0, level, weight)
        total = zeros.index_add(0, level, weight * value)
        self.values.copy_(torch.where(mass > 0, total / mass.clamp(min=1e-30), self.values.to(value.dtype)))
        mass = torch.where(mass > 0, mass, 0.5)
        self.prior.copy_((mass / mass.sum()).log())
        self.reset_parameters()

    def product_columns(self, slot: int, factors: Tensor) -> Tensor:
        """Return those of the base."""
        return self.base.product_columns(slot, factors)

    def level_scores(self, rows: Sequence[Tensor], index: Tensor) -> Tensor:
        """Return the logit of every level of each tuple, ``[E, L]``; the chunks of many are made anew in backward."""
        columns = self.all_columns(rows)
        parts = index.split(_CHUNK, dim=1)
        if len(parts) <= 1:
            return self._gathered(index, *columns)
        made = [checkpoint(self._gathered, part, *columns, use_reentrant=False) for part in parts]
        return torch.cat(made)

    def _gathered(self, index: Tensor, *columns: Tensor) -> Tensor:
        picked = [column.index_select(0, items) for column, items in zip(columns, index, strict=True)]
        return self._logits(multiply(picked))

    def _logits(self, context: Tensor) -> Tensor:
        return context @ self.level.to(context.dtype).t() + self.prior.to(context.dtype)

    def expect(self, logits: Tensor) -> Tensor:
        """Return the expected level, in the units of the values: ``[..., L]`` gives ``[...]``."""
        return logits.softmax(-1) @ self.values.to(logits.dtype)

    def trend(self) -> Tensor:
        """Return how each column moves the expected level, to first order where all scores are zero, ``[C]``."""
        share = self.prior.softmax(0)
        return (share * (self.values - (share * self.values).sum())) @ self.level

    def forward(self, rows: Sequence[Tensor], index: Tensor, items: Tensor | None = None) -> Tensor:
        """Return the expected level of the tuples ``index [k, E]``, ``[E]``."""
        return self.expect(self.level_scores(rows, index))

    def score_rows(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the expected level of tuples given by their rows. Returns ``[B]``."""
        return self.expect(self._logits(multiply(self.all_columns(rows))))

    def slot_scores(
        self,
        columns: Sequence[Tensor],
        index: Tensor,
        slot: int,
        candidates: Tensor | None,
        unknown: Collection[int] = (),
    ) -> Tensor:
        """Return the expected level with every candidate in one slot, ``[B, n]``; a matrix product a level."""
        others = [c.index_select(0, index[s]) for s, c in enumerate(columns) if s != slot]
        context = multiply(others, columns[slot].new_empty(index.size(1), columns[slot].size(1)))
        table = columns[slot] if candidates is None else columns[slot].index_select(0, candidates)
        logits = torch.einsum("bc,lc,nc->bnl", context, self.level.to(table.dtype), table)
        return self.expect(logits + self.prior.to(table.dtype))

    def norm(self, columns: Sequence[Tensor]) -> Tensor:
        """Return the sum over all cells and levels of the squared logit, without the shares."""
        return gram_norm([*columns, self.level.to(columns[0].dtype)])

    def norm_of(self, rows: list[Tensor]) -> Tensor:
        """Return :meth:`norm` of the columns of some rows."""
        return self.norm(self.all_columns(rows))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base!r}, levels={self.num_levels})"


def _midpoints(boundaries: Sequence[float]) -> list[float]:
    """Return a value inside each level; the first and the last are as wide as their neighbours."""
    if not boundaries:
        return [0.0]
    gaps = [b - a for a, b in pairwise(boundaries)] or [1.0]
    middle = [(a + b) / 2 for a, b in pairwise(boundaries)]
    return [boundaries[0] - gaps[0] / 2, *middle, boundaries[-1] + gaps[-1] / 2]
