from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.nn.decoder.counts import PairCounts
from hyperlearn_pyg.nn.decoder.neighbors import CommonNeighbors
from hyperlearn_pyg.ops.kruskal import cp_score, gram_norm


def multiply(columns: Sequence[Tensor], like: Tensor | None = None) -> Tensor:
    """Return the elementwise product of some columns; ones like ``like`` for none."""
    if not columns and like is not None:
        return torch.ones_like(like)
    out = columns[0]
    for column in columns[1:]:
        out = out * column
    return out


class KruskalDecoder(Module, ABC):
    r"""Base of the decoders: every one is a Kruskal model of some columns, plus a constant.

    .. math::
        \tilde{x}(i_1, \ldots, i_k) = \mu + \sum_c \prod_{s=1}^{k} C_s[i_s, c]

    A sub-class says what the columns :math:`C_s` of slot :math:`s` are; scores of tuples, scores of all candidates of
    a slot and the norm over all cells then come from here.

    Args:
        order: number of slots ``k >= 1``.
        rank: number of columns ``R`` of the item factors.
        bias: the last column of the input of each slot is an additive bias of the item.

    Attributes:
        offset: the constant :math:`\mu`, a buffer (the mean of the training values; zero at first).
        range: smallest and largest value that :meth:`predict` gives, a buffer ``[2]`` (no bound at first).
        counts: a term that is added to the scores of items known by number: pair counts
            (:class:`~hyperlearn_pyg.nn.PairCounts`) or common neighbours (:class:`~hyperlearn_pyg.nn.CommonNeighbors`);
            none at first.
    """

    offset: Tensor
    range: Tensor

    def __init__(self, order: int, rank: int, *, bias: bool = True) -> None:
        super().__init__()
        if order < 1 or rank < 1:
            raise ValueError(f"'order' and 'rank' must be at least 1 (got {order} and {rank})")
        self.order = order
        self.rank = rank
        self.bias = bias
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("range", torch.tensor([-torch.inf, torch.inf]))
        self.counts: PairCounts | CommonNeighbors | None = None

    @property
    def in_channels(self) -> int:
        """Width of the rows that a slot gives: ``rank``, plus one with biases."""
        return self.rank + int(self.bias)

    @abstractmethod
    def product_columns(self, slot: int, factors: Tensor) -> Tensor:
        """Return the columns of ``slot`` without those of the biases; ``factors [N, R]``."""

    def columns(self, slot: int, rows: Tensor) -> Tensor:
        """Return the Kruskal columns ``[N, C]`` of ``slot`` for ``rows [N, in_channels]``."""
        self._check_rows(slot, rows)
        out = self.product_columns(slot, rows[:, : self.rank])
        if not self.bias:
            return out
        ones = rows.new_ones(rows.size(0), 1)
        biases = [rows[:, self.rank :] if s == slot else ones for s in range(self.order)]
        return torch.cat([out, *biases], dim=1)

    def all_columns(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return the columns of every slot; ``rows`` holds one ``[N_s, in_channels]`` per slot."""
        self._check_slots(rows)
        return [self.columns(slot, row) for slot, row in enumerate(rows)]

    def _check_slots(self, rows: Sequence[Tensor]) -> None:
        if len(rows) != self.order:
            raise ValueError(f"'rows' must hold one tensor per slot, {self.order} in all (got {len(rows)})")

    def _check_rows(self, slot: int, rows: Tensor) -> None:
        if rows.dim() != 2 or rows.size(1) != self.in_channels:
            raise ValueError(f"'rows' of slot {slot} must have shape [N, {self.in_channels}] (got {list(rows.shape)})")

    def forward(self, rows: Sequence[Tensor], index: Tensor, items: Tensor | None = None) -> Tensor:
        """Score tuples.

        Args:
            rows: one ``[N_s, in_channels]`` per slot.
            index: the tuples ``[k, E]``.
            items: the numbers of the items ``[k, E]``, where ``rows`` are parts of the tables; ``index`` where absent.

        Returns:
            ``[E]``.
        """
        columns = self.all_columns(rows)
        out = cp_score(columns, index) + self.offset.to(columns[0].dtype)
        return out if self.counts is None else out + self.counts(index if items is None else items)

    def score_rows(self, rows: Sequence[Tensor]) -> Tensor:
        """Score tuples given by their rows, one ``[B, in_channels]`` a slot, without counts. Returns ``[B]``."""
        terms = self.all_terms(rows)
        return self.joint(terms) + self.offset.to(terms[0].dtype)

    def terms(self, slot: int, rows: Tensor) -> Tensor:
        """Return what :meth:`joint` and :meth:`against` read of ``rows [N, in_channels]`` of a slot: its columns.

        A sub-class whose columns repeat themselves may do with less.
        """
        return self.columns(slot, rows)

    def terms_of(self, slot: int, columns: Tensor) -> Tensor:
        """Return the same from the columns ``[N, C]`` of the slot."""
        return columns

    def all_terms(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return the terms of every slot; ``rows`` holds one ``[N_s, in_channels]`` per slot."""
        self._check_slots(rows)
        return [self.terms(slot, row) for slot, row in enumerate(rows)]

    def joint(self, terms: Sequence[Tensor]) -> Tensor:
        """Score tuples from the terms ``[B, ...]`` of every slot, without offset and counts. Returns ``[B]``."""
        return multiply(terms).sum(1)

    def against(self, terms: Sequence[Tensor], slot: int, table: Tensor) -> Tensor:
        """Score tuples with each of some candidates in one slot, without offset and counts.

        Args:
            terms: the terms of the tuples, one ``[B, ...]`` a slot; those of ``slot`` are not read.
            slot: the slot to fill.
            table: the terms of the candidates ``[n, ...]``.

        Returns:
            ``[B, n]``.
        """
        return self.context(terms, slot) @ table.t()

    def context(self, columns: Sequence[Tensor], slot: int) -> Tensor:
        """Return the product of the columns ``[B, C]`` of all slots but one, ``[B, C]``."""
        return multiply([c for s, c in enumerate(columns) if s != slot], columns[0])

    def predict(self, rows: Sequence[Tensor], index: Tensor) -> Tensor:
        """Score tuples as :meth:`forward` does, kept inside ``range``. Returns ``[E]``."""
        score = self(rows, index)
        low, high = self.range.to(score.dtype)
        out: Tensor = score.clamp(low, high)
        return out

    def slot_scores(
        self,
        columns: Sequence[Tensor],
        index: Tensor,
        slot: int,
        candidates: Tensor | None,
        unknown: Collection[int] = (),
    ) -> Tensor:
        """Score every candidate of one slot for each tuple, the other slots as they are.

        Args:
            columns: columns of every slot.
            index: tuples ``[k, B]``; the row of ``slot`` is not read.
            slot: the slot to fill.
            candidates: items ``[n]``, or None for all.
            unknown: slots whose item is not told, whose ``columns`` are their means: counts are means over them too.

        Returns:
            ``[B, n]``.
        """
        terms = [self.terms_of(s, column) for s, column in enumerate(columns)]
        table = terms[slot] if candidates is None else terms[slot].index_select(0, candidates)
        blank = table.new_ones(index.size(1), table.size(1))
        own = [blank if s == slot else t.index_select(0, index[s]) for s, t in enumerate(terms)]
        out = self.against(own, slot, table) + self.offset.to(table.dtype)
        if self.counts is None:
            return out
        every = torch.arange(table.size(0), device=index.device) if candidates is None else candidates
        return out + self.counts.slot_scores(index, slot, every, unknown=unknown)

    def norm(self, columns: Sequence[Tensor]) -> Tensor:
        """Return the sum over all cells of the squared score without offset and counts (Gram identity)."""
        return gram_norm(columns)

    def norm_of(self, rows: list[Tensor]) -> Tensor:
        """Return :meth:`norm` from what each slot gives, one ``[N_s, in_channels]`` a slot."""
        return self.norm(self.all_columns(rows))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(order={self.order}, rank={self.rank}, bias={self.bias})"
