from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hyperlearn_pyg.data.tuples import rank_in
from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn
from hyperlearn_pyg.ops.kruskal import cp_score
from hyperlearn_pyg.ops.ranges import find_ranges

#: A pair that was never seen counts as so many.
_UNSEEN = 0.1
#: Weight of item counts beside those of pairs: they decide where pairs do not.
_TIES = 1e-3


class SlotScorer(Protocol):
    """What fills a slot: a model, or a floor that needs none."""

    def slot_scores(self, index: Tensor, slot: int) -> Tensor:
        """Return new scores ``[B, N]`` of all items of a slot for tuples ``[k, B]``, whose row ``slot`` is not read."""
        ...


@runtime_checkable
class TupleScorer(SlotScorer, Protocol):
    """What scores whole tuples too."""

    def score(self, index: Tensor) -> Tensor:
        """Return the scores ``[E]`` of tuples ``[k, E]``."""
        ...


class ModelScorer:
    """A model with the factors of all modalities: no encoder is asked.

    Args:
        model: what has ``decoders`` and ``rows``, as :class:`~hyperlearn_pyg.nn.HyperLearn`.
        relation: the name of the relation.
        factors: for each modality its factors and biases, as the model's ``forward`` gives them.
        unknown: slots whose item is not told: scores are then the mean over all items of the slot (exactly so, as
            every decoder is linear in the columns of a slot).
    """

    def __init__(
        self, model: HyperLearn, relation: str, factors: Mapping[str, Tensor], unknown: Collection[int] = ()
    ) -> None:
        self.decoder, self.unknown = model.decoders[relation], tuple(unknown)
        columns = self.decoder.all_columns(model.rows(relation, factors))
        self.columns = [c.mean(0, keepdim=True).expand_as(c) if s in unknown else c for s, c in enumerate(columns)]

    def score(self, index: Tensor) -> Tensor:
        """See :class:`TupleScorer`."""
        out: Tensor = cp_score(self.columns, index) + self.decoder.offset.to(self.columns[0].dtype)
        counts = self.decoder.counts
        return out if counts is None else out + counts(index, unknown=self.unknown)

    def slot_scores(self, index: Tensor, slot: int) -> Tensor:
        """See :class:`SlotScorer`."""
        out: Tensor = self.decoder.slot_scores(self.columns, index, slot, None, self.unknown)
        return out


class CountScorer:
    r"""Item counts: :math:`\sum_s \log(1 + n_s[i_s])`, with the number of known tuples that name an item in a slot.

    Within a slot that is popularity, the same for every tuple: the other slots add a constant, which is left out.

    Args:
        known: known tuples ``[k, F]``.
        sizes: the number of items of each slot.
    """

    def __init__(self, known: Tensor, sizes: Sequence[int]) -> None:
        self.counts = _Counts(known, sizes)

    def score(self, index: Tensor) -> Tensor:
        """See :class:`TupleScorer`."""
        return torch.stack([self.counts.items(s)[row].log1p() for s, row in enumerate(index)]).sum(0)

    def slot_scores(self, index: Tensor, slot: int) -> Tensor:
        """See :class:`SlotScorer`."""
        return self.counts.items(slot).log1p().repeat(index.size(1), 1)


class PairScorer(CountScorer):
    r"""Pair counts: :math:`\sum_{s < t} \log(1 + 10\, n_{st}[i_s, i_t])`, and item counts where these are equal.

    That is :math:`\log(n_{st} + 0.1)` up to a constant: a pair that was never seen weighs heavily. Of two slots, a
    pair that is known is no question, so that item counts alone decide.

    Args:
        known: known tuples ``[k, F]``.
        sizes: the number of items of each slot.
        given: the slots whose item is told when another one is filled; all where absent.
    """

    def __init__(self, known: Tensor, sizes: Sequence[int], given: Collection[int] | None = None) -> None:
        super().__init__(known, sizes)
        self.given = range(len(sizes)) if given is None else given

    def score(self, index: Tensor) -> Tensor:
        """See :class:`TupleScorer`."""
        out = _TIES * super().score(index)
        for s, t in combinations(range(len(index)), 2):
            out = out + (self.counts.pairs(s, t).count(index[s], index[t]) / _UNSEEN).log1p()
        return out

    def slot_scores(self, index: Tensor, slot: int) -> Tensor:
        """See :class:`SlotScorer`."""
        out = _TIES * super().slot_scores(index, slot)
        return self.counts.add_pairs(out, index, slot, self.given, _UNSEEN)


class NaiveBayesScorer:
    r"""Naive Bayes: the log probability of an item given those of other slots, each slot counted by itself.

    .. math::
        \log \frac{n[c] + 1}{E + N} + \sum_{s \in \mathrm{given}} \log \frac{n_s[i_s, c] + 1}{n[c] + N_s}

    with add-one (Laplace) smoothing of the prior and of each given slot (Manning, Raghavan and Schütze, Introduction
    to Information Retrieval, 2008, section 13.2).

    Args:
        known: known tuples ``[k, F]``.
        sizes: the number of items of each slot.
        given: the slots whose item is told; all where absent.
    """

    def __init__(self, known: Tensor, sizes: Sequence[int], given: Collection[int] | None = None) -> None:
        self.counts = _Counts(known, sizes)
        self.given = range(len(sizes)) if given is None else given

    def slot_scores(self, index: Tensor, slot: int) -> Tensor:
        """See :class:`SlotScorer`."""
        count, sizes = self.counts.items(slot), self.counts.sizes
        base = ((count + 1) / (self.counts.known.size(1) + sizes[slot])).log()
        for s in self.given:
            if s != slot:
                base = base - (count + sizes[s]).log()
        return self.counts.add_pairs(base.repeat(index.size(1), 1), index, slot, self.given, 1.0)


class _Counts:
    """How often items, and pairs of items of two slots, occur in tuples; each table is counted once."""

    def __init__(self, known: Tensor, sizes: Sequence[int]) -> None:
        self.known, self.sizes = known, tuple(sizes)
        self._items: dict[int, Tensor] = {}
        self._pairs: dict[tuple[int, int], _Pairs] = {}

    def items(self, slot: int) -> Tensor:
        if slot not in self._items:
            self._items[slot] = torch.bincount(self.known[slot], minlength=self.sizes[slot]).double()
        return self._items[slot]

    def pairs(self, one: int, other: int) -> _Pairs:
        if (one, other) not in self._pairs:
            self._pairs[one, other] = _Pairs(self.known[one], self.known[other], self.sizes[other])
        return self._pairs[one, other]

    def add_pairs(self, out: Tensor, index: Tensor, slot: int, given: Collection[int], unit: float) -> Tensor:
        """Add the logarithm of one plus each pair count over ``unit``, of given items with all, to ``out [B, N]``."""
        for s in given:
            if s != slot:
                self.pairs(s, slot).add_to(out, index[s], unit)
        return out


class _Pairs:
    """How often two items occur together: ``one [F]`` in one slot, ``other [F]`` in a slot of ``size`` items."""

    def __init__(self, one: Tensor, other: Tensor, size: int) -> None:
        self.size = size
        self.ids, count = (one * size + other).unique(return_counts=True)
        self.counts = count.double()

    def count(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the counts of pairs ``[B]``."""
        at, found = rank_in(self.ids, one * self.size + other)
        return self.counts[at] * found if len(self.counts) else found.double()

    def add_to(self, out: Tensor, one: Tensor, unit: float) -> None:
        """Add the logarithm of one plus the counts over ``unit``, of ``one [B]`` with all others, to ``out``."""
        row, at = find_ranges(self.ids, one * self.size, (one + 1) * self.size)
        out[row, self.ids[at] % self.size] += (self.counts[at] / unit).log1p()
