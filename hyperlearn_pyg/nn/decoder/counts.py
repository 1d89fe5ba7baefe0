from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from hyperlearn_pyg.ops.ranges import find_ranges


class PairCounts(Module):
    r"""How often two items of a tuple stood together in the training entries, as a side input of a decoder.

    .. math::
        \sum_{s < t} \Big( w_{st} \log \big( 1 + n_{st}(i_s, i_t) \big) + v_{st}\, [\, n_{st}(i_s, i_t) > 0 \,] \Big)

    with the number :math:`n_{st}` of training entries that hold both items, and two learnt weights a pair of slots, 0
    at the start: how often, and whether ever. Where history repeats itself (who checks in where, at what hour), counts
    are a floor that factors of low rank do not reach. In training the entry that is scored is left out of its own
    counts, or it would tell itself (the leave-one-out of target encoding: Micci-Barreca, SIGKDD Explorations 2001);
    candidates in its place never stood in it. At test all training entries count.

    This term is no Kruskal model: it takes part in scores, slot scores and the sampled and full losses, and not in the
    norm over all cells. Spread over ranks it adds no message but the gradients of both weights: each rank has the
    training entries, and looks up the pairs of its own tuples.

    Args:
        sizes: number of items of each slot.
        pairs: the pairs of slots that count, the smaller slot first; all where absent.

    Attributes:
        weight: the weight :math:`w` of each pair of slots, a parameter.
        seen: the weight :math:`v` of each pair of slots, a parameter.
        keys: the pairs that occur, ascending, a buffer ``[n]``; as large as the training entries make it.
        counts: how often each does, a buffer ``[n]``.
        apart: whether the losses fit the term and the factors each by itself, rather than their sum: no.

    Shapes:
        * input: tuples ``[k, B]`` of item numbers
        * output: ``[B]``

    Raises:
        ValueError: one of ``pairs`` is no pair of slots, the smaller one first.
    """

    keys: Tensor
    counts: Tensor
    apart = False

    def __init__(self, sizes: Sequence[int], pairs: Sequence[tuple[int, int]] | None = None) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        every = tuple(combinations(range(len(self.sizes)), 2))
        self.pairs = every if pairs is None else tuple((int(s), int(t)) for s, t in pairs)
        if not set(self.pairs) <= set(every):
            raise ValueError(f"'pairs' must be of {list(every)} (got {list(self.pairs)})")
        self._starts = [0]
        for s, t in self.pairs:
            self._starts.append(self._starts[-1] + self.sizes[s] * self.sizes[t])
        self.weight = Parameter(torch.zeros(len(self.pairs)))
        self.seen = Parameter(torch.zeros(len(self.pairs)))
        self.register_buffer("keys", torch.empty(0, dtype=torch.long))
        self.register_buffer("counts", torch.empty(0, dtype=torch.long))

    def reset_parameters(self) -> None:
        """Set the weights to zero."""
        torch.nn.init.zeros_(self.weight)
        torch.nn.init.zeros_(self.seen)

    def count(self, index: Tensor) -> None:
        """Count the pairs of the training entries ``index [k, E]``."""
        every = [self._keys(p, index[s], index[t]) for p, (s, t) in enumerate(self.pairs)]
        keys = torch.cat(every) if every else index.new_empty(0)
        self.keys, self.counts = (t.to(self.weight.device) for t in keys.unique(return_counts=True))

    def forward(self, items: Tensor, *, leave_out: bool = False, unknown: Collection[int] = ()) -> Tensor:
        """Return the term of the tuples ``items [k, B]``, ``[B]``.

        Args:
            items: the tuples.
            leave_out: each of them is a training entry itself, which does not count.
            unknown: slots whose item is not told: the term is then the mean over all items of the slot.
        """
        out = self.weight.new_zeros(items.size(1))
        for pair, (s, t) in enumerate(self.pairs):
            out = out + self._of_pair(pair, items[s], items[t], leave_out, unknown)
        return out

    def slot_scores(
        self, items: Tensor, slot: int, candidates: Tensor, *, leave_out: bool = False, unknown: Collection[int] = ()
    ) -> Tensor:
        """Return the term of the tuples ``items [k, B]`` with each of the candidates ``[n]`` in ``slot``, ``[B, n]``.

        With ``leave_out``, for candidates that are not the tuple's own item: a pair of other slots is left out, one
        with the candidate never held the tuple. ``unknown`` as in :meth:`forward`; ``slot`` is not among them.
        """
        out = self.weight.new_zeros(items.size(1), candidates.numel())
        for pair, (s, t) in enumerate(self.pairs):
            other = t if slot == s else s
            if slot not in (s, t):
                out = out + self._of_pair(pair, items[s], items[t], leave_out, unknown)[:, None]
            elif other in unknown:
                out = out + self._means(pair, slot == t)[candidates]
            else:
                out = out + self._table(pair, items[other], candidates, slot == t)
        return out

    def _keys(self, pair: int, first: Tensor, second: Tensor) -> Tensor:
        return self._starts[pair] + first.long() * self.sizes[self.pairs[pair][1]] + second.long()

    def _weigh(self, pair: int, counts: Tensor) -> Tensor:
        dtype = self.weight.dtype
        return self.weight[pair] * counts.to(dtype).log1p() + self.seen[pair] * (counts > 0).to(dtype)

    def _of_pair(self, pair: int, first: Tensor, second: Tensor, leave_out: bool, unknown: Collection[int]) -> Tensor:
        """Return the term of the pairs of items ``[B]``."""
        s, t = self.pairs[pair]
        if s in unknown:
            means = self._means(pair, True)
            return means.mean().expand(len(second)) if t in unknown else means[second]
        return self._means(pair, False)[first] if t in unknown else self._look_up(pair, first, second, leave_out)

    def _look_up(self, pair: int, first: Tensor, second: Tensor, leave_out: bool) -> Tensor:
        keys = self._keys(pair, first, second)
        if self.keys.numel() == 0:
            return torch.zeros_like(keys, dtype=self.weight.dtype)
        at = torch.searchsorted(self.keys, keys).clamp(max=self.keys.numel() - 1)
        found = torch.where(self.keys[at] == keys, self.counts[at], 0)
        return self._weigh(pair, (found - 1).clamp(min=0) if leave_out else found)

    def _table(self, pair: int, given: Tensor, candidates: Tensor, given_first: bool) -> Tensor:
        """Return the term of each of the items ``given [B]`` with each of the candidates ``[n]``, ``[B, n]``.

        Distinct items alone are looked at. Their pairs that occur are read item by item of the pair's first slot and
        put into a table of zeros, or, where these are more than the cells, each cell is searched for.
        """
        rows, row = given.unique(return_inverse=True)
        columns, column = candidates.unique(return_inverse=True)
        first, second = (rows, columns) if given_first else (columns, rows)
        span = self._keys(pair, first, torch.zeros_like(first)), self._keys(pair, first + 1, torch.zeros_like(first))
        start, stop = (torch.searchsorted(self.keys, bound) for bound in span)
        if int((stop - start).sum()) < len(first) * len(second):
            table = self._filled(pair, first, second)
        else:
            table = self._look_up(pair, first[:, None], second[None, :], False)
        return (table if given_first else table.t())[row][:, column]

    def _filled(self, pair: int, first: Tensor, second: Tensor) -> Tensor:
        """Return the term of distinct items of both slots of a pair, ``second`` ascending, from pairs that occur."""
        line, far, counts = self._entries(pair, first)
        at = torch.searchsorted(second, far).clamp(max=max(len(second) - 1, 0))
        kept = second[at] == far if len(second) else far < 0
        out = self.weight.new_zeros(len(first), len(second))
        return out.index_put((line[kept], at[kept]), self._weigh(pair, counts[kept]))

    def _entries(self, pair: int, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pairs with items ``first`` of the pair's first slot: place in ``first``, other item, count."""
        width = self.sizes[self.pairs[pair][1]]
        low = self._starts[pair] + first.long() * width
        line, at = find_ranges(self.keys, low, low + width)
        return line, self.keys[at] - low[line], self.counts[at]

    def _means(self, pair: int, of_second: bool) -> Tensor:
        """Return for each item of one slot of a pair the mean of the term over all items of the other one."""
        s, t = self.pairs[pair]
        first, second, counts = self._entries(pair, torch.arange(self.sizes[s], device=self.keys.device))
        own, over = (second, s) if of_second else (first, t)
        out = self.weight.new_zeros(self.sizes[t] if of_second else self.sizes[s])
        return out.index_add(0, own, self._weigh(pair, counts)) / max(self.sizes[over], 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take counts of any number: they are those of the entries that the saved model saw."""
        for name in ("keys", "counts"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, torch.empty_like(saved, device=self.weight.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
