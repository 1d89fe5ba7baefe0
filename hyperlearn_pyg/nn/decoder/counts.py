from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from hyperlearn_pyg.ops.cache import TensorCache
from hyperlearn_pyg.ops.ranges import find_ranges

#: Most cells of a table that counts are spread on; it is worth while for so many items a candidate at most.
_CELLS, _WORTH = 1 << 25, 32


class PairCounts(Module):
    r"""How often two items of a tuple stood together in the training entries, as a side input of a decoder.

    .. math::
        \sum_{s < t} w_{st} \log \big( 1 + n_{st}(i_s, i_t) \big)

    with the number :math:`n_{st}` of training entries that hold both items, and a learnt weight a pair of slots, zero
    at the start. Where history repeats itself (who checks in where, at what hour), counts are a floor that factors of
    low rank do not reach. In training the entry that is scored is left out of its own counts, or it would tell itself
    (the leave-one-out of target encoding: Micci-Barreca, SIGKDD Explorations 2001); candidates in its place never stood
    in it. At test all training entries count.

    This term is no Kruskal model: it takes part in scores, slot scores and the sampled and full losses, and not in the
    norm over all cells. Spread over ranks it adds no message but the gradient of ``weight``: each rank has the
    training entries, and looks up the pairs of its own tuples.

    Args:
        sizes: number of items of each slot.

    Attributes:
        weight: the weight of each pair of slots, a parameter.
        keys: the pairs that occur, ascending, a buffer ``[n]``; as large as the training entries make it.
        counts: how often each does, a buffer ``[n]``.

    Shapes:
        * input: tuples ``[k, B]`` of item numbers
        * output: ``[B]``
    """

    keys: Tensor
    counts: Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.pairs = tuple(combinations(range(len(self.sizes)), 2))
        self._starts = [0]
        for s, t in self.pairs:
            self._starts.append(self._starts[-1] + self.sizes[s] * self.sizes[t])
        self.weight = Parameter(torch.zeros(len(self.pairs)))
        self.register_buffer("keys", torch.empty(0, dtype=torch.long))
        self.register_buffer("counts", torch.empty(0, dtype=torch.long))

    def reset_parameters(self) -> None:
        """Set the weights to zero."""
        torch.nn.init.zeros_(self.weight)

    def count(self, index: Tensor) -> None:
        """Count the pairs of the training entries ``index [k, E]``."""
        every = [self._keys(p, index[s], index[t]) for p, (s, t) in enumerate(self.pairs)]
        keys = torch.cat(every) if every else index.new_empty(0)
        self.keys, self.counts = (t.to(self.weight.device) for t in keys.unique(return_counts=True))

    def forward(self, items: Tensor, *, leave_out: bool = False) -> Tensor:
        """Return the term of the tuples ``items [k, B]``, ``[B]``; ``leave_out``: each is a training entry itself."""
        out = self.weight.new_zeros(items.size(1))
        for pair, (s, t) in enumerate(self.pairs):
            out = out + self.weight[pair] * self._look_up(pair, items[s], items[t], leave_out)
        return out

    def slot_scores(self, items: Tensor, slot: int, candidates: Tensor, *, leave_out: bool = False) -> Tensor:
        """Return the term of the tuples ``items [k, B]`` with each of the candidates ``[n]`` in ``slot``, ``[B, n]``.

        With ``leave_out``, for candidates that are not the tuple's own item: a pair of other slots is left out, one
        with the candidate never held the tuple.
        """
        out = self.weight.new_zeros(items.size(1), candidates.numel())
        every = items.size(1) * self.sizes[slot]
        dense = every <= _CELLS and self.sizes[slot] <= _WORTH * candidates.numel()
        for pair, (s, t) in enumerate(self.pairs):
            if slot not in (s, t):
                found = self._look_up(pair, items[s], items[t], leave_out)[:, None]
            elif dense:
                found = self._spread(pair, slot, items[s if slot == t else t]).index_select(1, candidates)
            else:
                first = candidates[None, :] if slot == s else items[s][:, None]
                second = candidates[None, :] if slot == t else items[t][:, None]
                found = self._look_up(pair, first, second, False)
            out = out + self.weight[pair] * found
        return out

    def _spread(self, pair: int, slot: int, given: Tensor) -> Tensor:
        """Return the log-counts of all items of ``slot`` with each item ``given [B]`` of the other one, ``[B, N]``."""
        keys, counts = self._of_pair(pair, slot)
        size, low = self.sizes[slot], given.long() * self.sizes[slot]
        row, at = find_ranges(keys, low, low + size)
        out = self.weight.new_zeros(given.numel(), size)
        out[row, keys[at] % size] = counts[at]
        return out

    def _of_pair(self, pair: int, slot: int) -> tuple[Tensor, Tensor]:
        """Return the numbers ``other * N + item`` of a pair, ascending, with the item in ``slot``; and log-counts."""

        def make() -> tuple[Tensor, Tensor]:
            ends = torch.searchsorted(self.keys, torch.tensor(self._starts[pair : pair + 2], device=self.keys.device))
            part = slice(*ends.tolist())
            keys, counts = self.keys[part] - self._starts[pair], self.counts[part].to(self.weight.dtype).log1p()
            if slot == self.pairs[pair][1]:
                return keys, counts
            other, size = self.sizes[self.pairs[pair][1]], self.sizes[slot]
            keys, order = (keys % other * size + keys.div(other, rounding_mode="floor")).sort()
            return keys, counts[order]

        return _SORTED.get((self.keys, self.counts), (pair, slot, self.weight.dtype), make)

    def _keys(self, pair: int, first: Tensor, second: Tensor) -> Tensor:
        return self._starts[pair] + first.long() * self.sizes[self.pairs[pair][1]] + second.long()

    def _look_up(self, pair: int, first: Tensor, second: Tensor, leave_out: bool) -> Tensor:
        keys = self._keys(pair, first, second)
        if self.keys.numel() == 0:
            return torch.zeros_like(keys, dtype=self.weight.dtype)
        at = torch.searchsorted(self.keys, keys).clamp(max=self.keys.numel() - 1)
        found = torch.where(self.keys[at] == keys, self.counts[at], 0)
        if leave_out:
            found = (found - 1).clamp(min=0)
        return found.to(self.weight.dtype).log1p()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take counts of any number: they are those of the entries that the saved model saw."""
        for name in ("keys", "counts"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, torch.empty_like(saved, device=self.weight.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


#: The pairs of counts sorted by the item that is told; not held by a module, which is to be copied.
_SORTED: TensorCache[tuple[Tensor, Tensor]] = TensorCache()
