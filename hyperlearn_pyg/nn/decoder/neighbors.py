from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from hyperlearn_pyg.data.tuples import rank_in
from hyperlearn_pyg.ops.ranges import find_ranges

#: Scores of pairs that are made at once.
_CELLS = 1 << 22
#: Unit of the parameters, see :class:`CommonNeighbors`.
_UNIT = 10.0


class CommonNeighbors(Module):
    r"""What two items of one modality have in common among the training entries, as a side input of a decoder.

    .. math::
        w \log \big( 1 + a(u, v) \big) + s\, [\, a(u, v) > 0 \,], \qquad
        a(u, v) = \sum_{z \in \Gamma(u) \cap \Gamma(v)} \frac{1}{\log |\Gamma(z)|}

    with the neighbours :math:`\Gamma` of an item in the graph of the training entries of its relation, whose direction
    does not count (:math:`a` is the score of Adamic and Adar, Social Networks 2003), and two learnt weights, 0 at the
    start: how much in common, and whether anything. For who becomes a friend of whom, common friends are a floor that
    factors of low rank do not reach. An item has nothing in common with itself.

    In training the pair that is scored is left out of the graph: it is on no path of two steps between its own items,
    but on those between an item of it and a candidate that is a neighbour of the other one.

    The losses fit the weights and the factors each by itself, and a score is the sum of both, as of two experts. Fitted
    to the sum, the factors would be left with the pairs that have nothing in common.

    Like :class:`~hyperlearn_pyg.nn.PairCounts` this term is no Kruskal model: it takes part in scores, slot scores and
    the sampled and full losses, and not in the norm over all cells. Each rank has the whole graph.

    Args:
        size: number of items of the modality.

    Attributes:
        weight: a tenth of the weight :math:`w`, a parameter ``[1]``: in such units Adam, at a rate that suits factors,
            moves it as far as is needed in some hundred steps.
        seen: a tenth of the weight :math:`s`, a parameter ``[1]``.
        keys: the pairs of neighbours in both orders, as ascending numbers ``first * size + second``, a buffer ``[n]``.
        apart: whether the losses fit the term and the factors each by itself, rather than their sum: yes.
        shares: what each item counts as a common neighbour, :math:`1 / \log |\Gamma(z)|`; 0 with less than two
            neighbours, a buffer ``[size]``.

    Shapes:
        * input: tuples ``[2, B]`` of item numbers
        * output: ``[B]``
    """

    keys: Tensor
    shares: Tensor
    apart = True

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.weight = Parameter(torch.zeros(1))
        self.seen = Parameter(torch.zeros(1))
        self.register_buffer("keys", torch.empty(0, dtype=torch.long))
        self.register_buffer("shares", torch.zeros(size))

    def reset_parameters(self) -> None:
        """Set the weights to zero."""
        torch.nn.init.zeros_(self.weight)
        torch.nn.init.zeros_(self.seen)

    def count(self, index: Tensor) -> None:
        """Make the graph of the training entries ``index [2, E]``; pairs of an item with itself do not count."""
        one, two = torch.cat([index, index.flip(0)], dim=1).long()
        keys = (one * self.size + two)[one != two].unique()
        degree = torch.bincount(keys // max(self.size, 1), minlength=self.size).to(self.shares)
        self.keys = keys.to(self.weight.device)
        self.shares = torch.where(degree > 1, 1 / degree.clamp(min=2).log(), 0.0)

    def forward(self, items: Tensor, *, leave_out: bool = False, unknown: Collection[int] = ()) -> Tensor:
        """Return the term of the pairs ``items [2, B]``, ``[B]``.

        Args:
            items: the pairs.
            leave_out: each of them is a training entry itself; it is on no path between its own items.
            unknown: slots whose item is not told: the term is then the mean over all items of the slot.
        """
        if len(unknown) > 1:
            return self._means(torch.arange(self.size, device=items.device)).mean().expand(items.size(1))
        for slot in unknown:
            return self._means(items[1 - slot])
        one, two = items.long()
        row, between = self._neighbors(one)
        common = self._holds(between, two[row]) & (one != two)[row]
        return self._weigh(self.shares.new_zeros(len(one)).index_add(0, row, self.shares[between] * common))

    def slot_scores(
        self, items: Tensor, slot: int, candidates: Tensor, *, leave_out: bool = False, unknown: Collection[int] = ()
    ) -> Tensor:
        """Return the term of the pairs ``items [2, B]`` with each of the candidates ``[n]`` in ``slot``, ``[B, n]``.

        With ``leave_out`` the pair itself is not in the graph. ``unknown`` as in :meth:`forward`; ``slot`` is not
        among them.
        """
        given, own, candidates = items[1 - slot].long(), items[slot].long(), candidates.long()
        if unknown:
            return self._means(candidates).expand(len(given), -1)
        amount = self._amounts(given, candidates)
        if leave_out:  # no path from the item that stays through the one that is replaced
            through = self._holds(own[:, None], candidates[None, :]) & (given != own)[:, None]
            through &= given[:, None] != candidates[None, :]
            amount = amount - self.shares[own][:, None] * through
        return self._weigh(amount)

    def _amounts(self, given: Tensor, candidates: Tensor) -> Tensor:
        """Return the sum :math:`a` of each of the items ``given [B]`` with each of the candidates ``[n]``, ``[B, n]``.

        The neighbours of both are joined: nothing is made of common neighbours that do not exist.
        """
        rows, row = given.unique(return_inverse=True)
        columns, column = candidates.unique(return_inverse=True)
        line, between = self._neighbors(rows)
        at, far = self._neighbors(columns)
        order = far.argsort(stable=True)
        step, match = find_ranges(far[order], between, between + 1)
        cell = line[step] * len(columns) + at[order][match]
        table = self.shares.new_zeros(len(rows) * len(columns)).index_add(0, cell, self.shares[between[step]])
        table = table.view(len(rows), len(columns)).masked_fill(rows[:, None] == columns[None, :], 0.0)
        return table[row][:, column]

    def _means(self, items: Tensor) -> Tensor:
        """Return for each of some items the mean of the term over all items that may stand beside it."""
        every = torch.arange(self.size, device=items.device)
        parts = items.long().split(max(1, _CELLS // max(self.size, 1)))
        return torch.cat([self._weigh(self._amounts(part, every)).mean(1) for part in parts])

    def _weigh(self, amount: Tensor) -> Tensor:
        some = amount > 0.5 / math.log(max(self.size, 3))  # less than any share is what rounding left of none
        out = torch.where(some, amount, 0.0).to(self.weight.dtype).log1p()
        return _UNIT * (self.weight * out + self.seen * some.to(out.dtype))

    def _neighbors(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the neighbours of some items: place in ``items``, neighbour."""
        low = items * self.size
        row, at = find_ranges(self.keys, low, low + self.size)
        return row, self.keys[at] - low[row]

    def _holds(self, one: Tensor, two: Tensor) -> Tensor:
        """Tell which pairs are in the graph."""
        keys = one * self.size + two
        return rank_in(self.keys, keys)[1]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take a graph of any number of pairs: it is that of the entries that the saved model saw."""
        saved = state_dict.get(prefix + "keys")
        if saved is not None:
            self.keys = torch.empty_like(saved, device=self.weight.device)
        super()._load_from_state_dict(state_dict, prefix, *args)
