from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from hyperlearn_pyg.nn.decoder.counts import PairCounts
from hyperlearn_pyg.ops.ranges import find_ranges


class FeatureCounts(PairCounts):
    r"""Pair counts, and naive Bayes of counted features of the items of one slot, the words of a title, say.

    .. math::
        \sum_{t \in T} u_t \sum_f x_f(i_s) \log \frac{n_t(f, i_t) + \beta\, p(f)}{p(f)\, (n_t(i_t) + \beta)}

    is added to the terms of :class:`PairCounts`, with the count :math:`x_f(i_s)` of feature :math:`f` of the item in
    slot :math:`s`, its sum :math:`n_t(f, i_t)` over the training entries that name :math:`i_t` in slot :math:`t`, the
    sum :math:`n_t(i_t)` of all features there, the share :math:`p(f)` of the feature among all training entries and a
    learnt weight :math:`u_t`, 0 at the start. That is the log-likelihood of the features given :math:`i_t`, over the
    one given any item, in the multinomial model with a Dirichlet prior of strength :math:`\beta` (Zhai and Lafferty,
    ACM TOIS 22(2), 2004). Features of no training entry say nothing.

    In training, the entry that is scored is taken out of the sums of its own items, or its features would name them;
    the shares are of all training entries. As for pairs, this is no Kruskal model, and the norm over all cells leaves
    it out. Spread over ranks, each of them holds the features and the training entries.

    Args:
        sizes: number of items of each slot.
        slot: the slot :math:`s` whose items have features.
        features: counts of the features of its items, sparse COO ``[N_s, F]``, none of them negative.
        targets: the slots :math:`T` that features are counted for, those to be predicted; all but ``slot`` where
            absent.
        smoothing: :math:`\beta`, in features.
        pairs: the pairs of slots whose items are counted, the smaller slot first; all where absent.

    Attributes:
        feature_weight: the weight :math:`u` of each of the targets, a parameter.

    Shapes:
        * input: tuples ``[k, B]`` of item numbers
        * output: ``[B]``

    Raises:
        ValueError: ``slot`` or one of ``targets`` is none of the slots, or ``targets`` holds ``slot``; ``features`` are
            of another number of items; ``smoothing`` is not above 0.
    """

    features: Tensor
    amounts: Tensor
    bounds: Tensor
    shares: Tensor
    sum_keys: Tensor
    sums: Tensor
    lengths: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        slot: int,
        features: Tensor,
        *,
        targets: Sequence[int] | None = None,
        smoothing: float = 300.0,
        pairs: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(sizes, pairs)
        slots = range(len(self.sizes))
        self.slot, self.smoothing = slot, smoothing
        self.targets = tuple(s for s in slots if s != slot) if targets is None else tuple(targets)
        if slot not in slots or not set(self.targets) <= set(slots) - {slot}:
            raise ValueError(f"'slot' and 'targets' must be different slots of {len(slots)} (got {slot}, {targets})")
        if features.dim() != 2 or features.size(0) != self.sizes[slot]:
            raise ValueError(f"'features' must have shape [{self.sizes[slot]}, F] (got {list(features.shape)})")
        if not smoothing > 0:
            raise ValueError(f"'smoothing' must be above 0 (got {smoothing})")
        table = features.coalesce()
        row, feature = table.indices()
        self.register_buffer("features", feature.clone())
        self.register_buffer("amounts", table.values().to(self.weight.dtype))
        self.register_buffer("bounds", torch.searchsorted(row.contiguous(), torch.arange(features.size(0) + 1)))
        self.register_buffer("shares", torch.zeros(features.size(1)))
        self.register_buffer("sum_keys", torch.empty(0, dtype=torch.long))
        self.register_buffer("sums", torch.empty(0))
        self.register_buffer("lengths", torch.zeros(sum(self.sizes[t] for t in self.targets)))
        self.feature_weight = Parameter(torch.zeros(len(self.targets)))

    def reset_parameters(self) -> None:
        """Set the weights to zero."""
        super().reset_parameters()
        torch.nn.init.zeros_(self.feature_weight)

    @torch.no_grad()
    def count(self, index: Tensor) -> None:
        """Count the pairs and features of the training entries ``index [k, E]``."""
        index = index.to(self.weight.device)
        super().count(index)
        line, feature, amount = self._bags(index[self.slot])
        total = self.shares.new_zeros(len(self.shares)).index_add(0, feature, amount)
        self.shares.copy_(total / total.sum().clamp(min=torch.finfo(total.dtype).tiny))
        self.lengths.zero_()
        keys = []
        for place, target in enumerate(self.targets):
            item = index[target].long()[line]
            keys.append(self._sum_keys(place, feature, item))
            self.lengths.index_add_(0, self._first(place) + item, amount)
        every = torch.cat(keys) if keys else index.new_empty(0)
        self.sum_keys, at = every.unique(return_inverse=True)
        self.sums = amount.new_zeros(len(self.sum_keys)).index_add(0, at, amount.repeat(len(self.targets)))

    def forward(self, items: Tensor, *, leave_out: bool = False, unknown: Collection[int] = ()) -> Tensor:
        """Return the term of the tuples ``items [k, B]``, ``[B]``; see :meth:`PairCounts.forward`."""
        out = super().forward(items, leave_out=leave_out, unknown=unknown)
        for place in range(len(self.targets)):
            out = out + self.feature_weight[place] * self._of_tuples(place, items, leave_out, unknown)
        return out

    def slot_scores(
        self, items: Tensor, slot: int, candidates: Tensor, *, leave_out: bool = False, unknown: Collection[int] = ()
    ) -> Tensor:
        """Return the term with each of the candidates in ``slot``, ``[B, n]``; see :meth:`PairCounts.slot_scores`."""
        out = super().slot_scores(items, slot, candidates, leave_out=leave_out, unknown=unknown)
        for place, target in enumerate(self.targets):
            if slot == target:
                found = self._against(place, items[self.slot], candidates, self.slot in unknown)
            elif slot == self.slot:
                found = self._against(place, candidates, items[target], False).t()
                if target in unknown:
                    found = self._mean_over_targets(place, candidates)[None, :]
            else:
                found = self._of_tuples(place, items, leave_out, unknown)[:, None]
            out = out + self.feature_weight[place] * found
        return out

    def _first(self, place: int) -> int:
        """Return where the items of a target start in ``lengths``."""
        return sum(self.sizes[t] for t in self.targets[:place])

    def _sum_keys(self, place: int, feature: Tensor, item: Tensor) -> Tensor:
        return len(self.shares) * self._first(place) + feature * self.sizes[self.targets[place]] + item

    def _bags(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of some items: place in ``items``, feature, count."""
        start, stop = self.bounds[items], self.bounds[items + 1]
        line, at = find_ranges(torch.arange(len(self.features), device=items.device), start, stop)
        return line, self.features[at], self.amounts[at]

    def _seen(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return :meth:`_bags` without the features of no training entry."""
        line, feature, amount = self._bags(items)
        kept = self.shares[feature] > 0
        return line[kept], feature[kept], amount[kept]

    def _gain(self, sums: Tensor, feature: Tensor) -> Tensor:
        return (sums / (self.smoothing * self.shares[feature])).log1p()

    @torch.no_grad()
    def _of_tuples(self, place: int, items: Tensor, leave_out: bool, unknown: Collection[int]) -> Tensor:
        """Return the likelihood of the features of tuples ``[B]`` for a target, without its weight."""
        own, item = items[self.slot], items[self.targets[place]]
        if self.slot in unknown:
            every = self._mean_over_items(place)
            return every.mean().expand(len(own)) if self.targets[place] in unknown else every[item]
        if self.targets[place] in unknown:
            return self._mean_over_targets(place, own)
        line, feature, amount = self._seen(own)
        keys = self._sum_keys(place, feature, item[line])
        at = torch.searchsorted(self.sum_keys, keys).clamp(max=max(len(self.sum_keys) - 1, 0))
        found = torch.where(self.sum_keys[at] == keys, self.sums[at], 0) if len(self.sum_keys) else keys * 0.0
        found = (found - amount).clamp(min=0) if leave_out else found
        length = amount.new_zeros(len(own)).index_add(0, line, amount)
        size = self.lengths[self._first(place) + item]
        size = (size - length).clamp(min=0) if leave_out else size
        out = -length * (size / self.smoothing).log1p()
        return out.index_add(0, line, amount * self._gain(found, feature))

    @torch.no_grad()
    def _against(self, place: int, items: Tensor, targets: Tensor, mean: bool) -> Tensor:
        """Return the likelihood of the features of items ``[B]``, or their mean, for each of some targets ``[n]``."""
        if mean:
            return self._mean_over_items(place)[targets].expand(len(items), -1)
        rows, row = items.unique(return_inverse=True)
        columns, column = targets.unique(return_inverse=True)
        if len(rows) == len(items):  # no copy where none repeats
            out = self._likelihoods(place, items, columns)
        else:
            out = self._likelihoods(place, rows, columns)[row]
        return out if torch.equal(columns, targets) else out[:, column]

    def _likelihoods(self, place: int, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the likelihood of distinct items for distinct targets, ascending, ``[rows, columns]``."""
        line, feature, amount = self._seen(rows)
        width, zero = self.sizes[self.targets[place]], torch.zeros_like(feature)
        low = self._sum_keys(place, feature, zero)
        entry, at = find_ranges(self.sum_keys, low, low + width)
        far = self.sum_keys[at] - low[entry]
        if len(columns) < width:
            spot = torch.searchsorted(columns, far).clamp(max=max(len(columns) - 1, 0))
            kept = columns[spot] == far if len(columns) else far < 0
            entry, at, far = entry[kept], at[kept], spot[kept]
        length = amount.new_zeros(len(rows)).index_add(0, line, amount)
        out = -length[:, None] * (self.lengths[self._first(place) + columns] / self.smoothing).log1p()
        gain = amount[entry] * self._gain(self.sums[at], feature[entry])
        return out.view(-1).index_add_(0, line[entry] * len(columns) + far, gain).view(out.shape)

    def _mean_over_targets(self, place: int, items: Tensor) -> Tensor:
        every = torch.arange(self.sizes[self.targets[place]], device=items.device)
        return self._against(place, items, every, False).mean(1)

    def _mean_over_items(self, place: int) -> Tensor:
        """Return the mean over all items of the slot for each of the targets: the term is linear in the features."""
        count, feature = max(self.sizes[self.slot], 1), self.features
        amount = self.amounts * (self.shares[feature] > 0) / count
        total = self.shares.new_zeros(len(self.shares)).index_add(0, feature, amount)
        width, start = self.sizes[self.targets[place]], self._first(place)
        out = -total.sum() * (self.lengths[start : start + width] / self.smoothing).log1p()
        key = len(self.shares) * start
        at = torch.arange(len(self.sum_keys), device=feature.device)
        at = at[(self.sum_keys >= key) & (self.sum_keys < key + len(self.shares) * width)]
        own, item = (self.sum_keys[at] - key) // max(width, 1), (self.sum_keys[at] - key) % max(width, 1)
        return out.index_add(0, item, total[own] * self._gain(self.sums[at], own))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take sums of any number: they are those of the entries that the saved model saw."""
        for name in ("sum_keys", "sums"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, torch.empty_like(saved, device=self.weight.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
