from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data.tuples import TupleSet

#: So many draws are made before the cells of what is still open are gone through one by one.
_ROUNDS = 32
#: So many more, of which three in four succeed, where there are too many cells for that.
_MORE_ROUNDS = 64
#: Cells looked at at once.
_CHUNK = 2**20


class NegativeSampler:
    r"""Draws tuples that are not known: some slots of a tuple get other items, and no known tuple ever comes out.

    A proposal takes ``num_corrupted`` of the ``slots`` at random, all choices alike, and replaces the item in each of
    them by another one, drawn uniformly, or in proportion to ``weights``, and where ``types`` are given among the items
    of the old one's type. A negative is a proposal given that it is not known: the test is exact, by sorted search
    among the numbers of the known tuples (:class:`~hyperlearn_pyg.data.tuples.TupleSet`; any product of sizes).

    What is still open after 32 proposals is settled by going through all cells that a proposal may reach, again with
    the right probabilities, so that a tuple goes without a negative only where there is none. (One exception in law,
    not in exactness: where there are over four times as many cells as known tuples and the weights lie nearly all on
    known ones, the cells are then drawn uniformly.)

    Args:
        known: every tuple that must not come out, item indices ``[k, F]``.
        sizes: the number of items of each slot.
        slots: the slots, in ``[-k, k)``, that may be corrupted; all for :obj:`None`.
        num_corrupted: how many slots of a tuple are corrupted at once.
        weights: slot -> weight of each of its items ``[N]``, at least 0; items of weight 0 are never drawn.
        types: slot -> type of each of its items ``[N]``, integers: an item gives way only to one of its own type.

    Raises:
        ValueError: shapes, indices or numbers out of range.

    Example:
        >>> sampler = NegativeSampler(torch.tensor([[0, 0, 1], [0, 1, 1]]), (2, 3), slots=[1])
        >>> negative, mask = sampler.sample(torch.tensor([[0, 1], [0, 1]]), generator=torch.Generator().manual_seed(0))
        >>> negative[:, 0].tolist(), mask.tolist()  # the only film that user 0 does not know
        ([[0], [2]], [[True], [True]])
    """

    def __init__(
        self,
        known: Tensor,
        sizes: Sequence[int],
        *,
        slots: Sequence[int] | None = None,
        num_corrupted: int = 1,
        weights: Mapping[int, Tensor] | None = None,
        types: Mapping[int, Tensor] | None = None,
    ) -> None:
        self.sizes = tuple(int(size) for size in sizes)
        _check_tuples(known, self.sizes, "known")
        order = len(self.sizes)
        _check_types(slots, num_corrupted, {"weights": weights, "types": types})
        self.slots = sorted(_positive(slot, order, "slots") for slot in (range(order) if slots is None else slots))
        if not self.slots or len(set(self.slots)) < len(self.slots):
            raise ValueError(f"'slots' must name one or more slots, each once (got {slots})")
        if not 1 <= num_corrupted <= len(self.slots):
            raise ValueError(f"'num_corrupted' must be in [1, {len(self.slots)}], slots at most (got {num_corrupted})")
        self.num_corrupted = num_corrupted
        weight = {_positive(slot, order, "weights"): w for slot, w in (weights or {}).items()}
        kind = {_positive(slot, order, "types"): t for slot, t in (types or {}).items()}
        self._others = {
            slot: _OthersBy(self.sizes[slot], weight.get(slot), kind.get(slot), known.device)
            if slot in weight or slot in kind
            else _Others(self.sizes[slot])
            for slot in self.slots
        }
        self._known = TupleSet(known, self.sizes)

    def sample(
        self, index: Tensor, num_negatives: int = 1, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw negatives of tuples, which need not be known.

        Args:
            index: tuples ``[k, B]``.
            num_negatives: how many for each, drawn independently.
            generator: source of randomness, the global one where absent.

        Returns:
            The negatives ``[k, B, num_negatives]`` and which of them are there, bool ``[B, num_negatives]``: where a
            tuple has no negative, the tuple itself stands in its place.

        Raises:
            ValueError: ``index`` is not of shape ``[k, B]`` or out of range, ``num_negatives`` is negative.
        """
        _check_tuples(index, self.sizes, "index")
        if num_negatives < 0:
            raise ValueError(f"'num_negatives' must be at least 0 (got {num_negatives})")
        old = index.repeat_interleave(num_negatives, dim=1)
        able = self._counts(old) > 0
        out, good = old.clone(), able.sum(0) >= self.num_corrupted
        open_ = good.nonzero().squeeze(1)
        for _ in range(_ROUNDS):
            if len(open_) == 0:
                break
            chosen = self._choose(able[:, open_], generator)
            out[:, open_], known = self._propose(old[:, open_], chosen, generator)
            open_ = open_[known]
        if len(open_):
            out[:, open_], good[open_] = self._search(old[:, open_], generator)
        shape = (index.size(1), num_negatives)
        return out.view(len(self.sizes), *shape), good.view(shape)

    def _counts(self, old: Tensor) -> Tensor:
        """Return by how many items each of ``slots`` may be replaced ``[S, R]``."""
        return torch.stack([self._others[slot].count(old[slot]) for slot in self.slots])

    def _choose(self, able: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose ``num_corrupted`` of the able slots of each row, bool ``[S, R]``."""
        if self.num_corrupted == len(self.slots):
            return able
        if self.num_corrupted == 1:
            number = (_uniform(able.shape[1:], generator, able.device) * able.sum(0)).long()
            return able & (able.cumsum(0) == number + 1)
        order = _uniform(able.shape, generator, able.device).masked_fill_(~able, -1.0)
        return torch.zeros_like(able).scatter_(0, order.topk(self.num_corrupted, dim=0).indices, True)

    def _propose(
        self, old: Tensor, chosen: Tensor, generator: torch.Generator | None, *, weighted: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Replace the items in the chosen slots; tell also which of the outcomes are known."""
        new = old.clone()
        for slot, rows in zip(self.slots, chosen, strict=True):
            at = rows.nonzero().squeeze(1)
            item, others = old[slot, at], self._others[slot]
            number = _uniform((len(at),), generator, old.device)
            if weighted:
                new[slot, at] = others.draw(item, number)
            else:
                new[slot, at] = others.nth(item, (number * others.count(item)).long())
        return new, self._known.contains(new)

    def _search(self, old: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return a negative of each tuple ``[k, R]``, and whether there is one."""
        counts = self._counts(old)
        choices = list(combinations(range(len(self.slots)), self.num_corrupted))
        cells = torch.stack([counts[list(choice)].double().prod(0) for choice in choices])
        largest, where = cells.max(0)
        new, good = old.clone(), largest > 4 * len(self._known)
        masks = torch.zeros(len(choices), len(self.slots), dtype=torch.bool, device=old.device)
        masks.scatter_(1, torch.tensor(choices, device=old.device), True)
        open_ = good.nonzero().squeeze(1)
        few = (~good).nonzero().squeeze(1)
        for _ in range(_MORE_ROUNDS):
            if len(open_) == 0:
                break
            chosen = masks[where[open_]].t()
            new[:, open_], known = self._propose(old[:, open_], chosen, generator, weighted=False)
            open_ = open_[known]
        good[open_] = False
        new[:, open_] = old[:, open_]
        if len(few):
            least = torch.full((len(few),), torch.inf, dtype=torch.float64, device=old.device)
            best = old[:, few]
            for choice in choices:
                self._visit(old[:, few], counts[:, few], choice, best, least, generator)
            new[:, few], good[few] = best, least < torch.inf
        return new, good

    def _visit(
        self,
        old: Tensor,
        counts: Tensor,
        choice: tuple[int, ...],
        best: Tensor,
        least: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        """Go through all cells that differ from ``old`` in the slots of a choice; the first in a race is the best.

        The time of a cell is exponential with the rate of its probability, so that each unknown one wins with the
        right probability (and over several choices too).
        """
        ends = counts[list(choice)].prod(0).cumsum(0)
        for start in range(0, int(ends[-1]), _CHUNK):
            cell = torch.arange(start, min(start + _CHUNK, int(ends[-1])), device=old.device)
            row = torch.searchsorted(ends, cell, right=True)
            cell = ends[row] - 1 - cell
            new, time = old[:, row], _exponential(len(row), generator, old.device)
            for s in choice:
                slot, item = self.slots[s], old[self.slots[s], row]
                new[slot] = self._others[slot].nth(item, cell % counts[s, row])
                time /= self._others[slot].probability(item, new[slot])
                cell = cell.div(counts[s, row], rounding_mode="floor")
            time.masked_fill_(self._known.contains(new), torch.inf)
            before = least.clone()
            least.scatter_reduce_(0, row, time, "amin")
            wins = (time == least[row]) & (time < before[row])
            best[:, row[wins]] = new[:, wins]

    def __repr__(self) -> str:
        slots = f"slots={self.slots}, num_corrupted={self.num_corrupted}"
        return f"{type(self).__name__}(sizes={self.sizes}, {slots}, known={len(self._known)})"


class _Others:
    """The items of a slot that may stand in place of an old one: all others, alike."""

    def __init__(self, size: int) -> None:
        self.size = size

    def count(self, old: Tensor) -> Tensor:
        """Return how many there are ``[R]``."""
        return torch.full_like(old, self.size - 1)

    def nth(self, old: Tensor, n: Tensor) -> Tensor:
        """Return one of them ``[R]`` by its number."""
        return n + (n >= old)

    def draw(self, old: Tensor, number: Tensor) -> Tensor:
        """Return one of them ``[R]`` by a number in ``[0, 1)``."""
        return self.nth(old, (number * (self.size - 1)).long())

    def probability(self, old: Tensor, new: Tensor) -> Tensor:
        """Return how likely :meth:`draw` gives ``new`` ``[R]``."""
        return torch.full_like(old, 1 / max(self.size - 1, 1), dtype=torch.float64)


class _OthersBy(_Others):
    """Those of positive weight and the same type, in proportion to the weights.

    Items stand sorted by type, within it those of positive weight first: what may be drawn is a range of positions.
    """

    def __init__(self, size: int, weight: Tensor | None, kind: Tensor | None, device: torch.device) -> None:
        super().__init__(size)
        kind = torch.zeros(size, dtype=torch.long) if kind is None else _checked_types(kind, size)
        uniform = weight is None
        weight = torch.ones(size, dtype=torch.float64) if weight is None else _checked_weights(weight, size)
        kind, weight = kind.to(device).unique(return_inverse=True)[1], weight.to(device)
        self.order = (2 * kind + (weight == 0)).argsort(stable=True)
        self.position = torch.empty_like(self.order)
        self.position[self.order] = torch.arange(size, device=device)
        self.kind = kind
        length = torch.bincount(kind)
        self.low = length.cumsum(0) - length
        self.high = self.low + torch.bincount(kind[weight > 0], minlength=len(length))
        self.weight = weight[self.order]
        self.total = None if uniform else torch.cat([weight.new_zeros(1), self.weight.cumsum(0)])

    def _range(self, old: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the position of each item, and the range that its type gives to draw from."""
        kind = self.kind[old]
        return self.position[old], self.low[kind], self.high[kind]

    def count(self, old: Tensor) -> Tensor:
        at, low, high = self._range(old)
        return high - low - (at < high).long()

    def nth(self, old: Tensor, n: Tensor) -> Tensor:
        at, low, _ = self._range(old)
        return self.order[low + n + (low + n >= at)]

    def draw(self, old: Tensor, number: Tensor) -> Tensor:
        if self.total is None:
            return self.nth(old, (number * self.count(old)).long())
        at, low, high = self._range(old)
        own, before = self.weight[at], self.total[at] - self.total[low]
        mass = number * (self.total[high] - self.total[low] - own)
        mass = self.total[low] + mass + own * (mass >= before)
        drawn = torch.searchsorted(self.total, mass, right=True) - 1
        drawn = drawn.clamp_(min=low, max=high - 1)
        # rounding may have led to the old item: its neighbour, then
        return self.order[torch.where(drawn == at, torch.where(at + 1 < high, at + 1, at - 1), drawn)]

    def probability(self, old: Tensor, new: Tensor) -> Tensor:
        if self.total is None:
            return 1 / self.count(old).double()
        at, low, high = self._range(old)
        weight = self.weight[self.position[new]]
        return weight / torch.maximum(self.total[high] - self.total[low] - self.weight[at], weight)


def degree_weights(index: Tensor, size: int, power: float = 0.75) -> Tensor:
    """Return the number of tuples of each item, raised to a power ``[N]``, float64.

    Mikolov, Sutskever, Chen, Corrado and Dean (NIPS 2013) take 0.75 for words; 0 gives all items the weight 1.

    Args:
        index: the item of each tuple ``[E]``.
        size: the number of items ``N``.
        power: the exponent, at least 0.

    Raises:
        ValueError: ``power`` is negative or not finite.
    """
    if not 0 <= power < float("inf"):
        raise ValueError(f"'power' must be at least 0 and finite (got {power})")
    return torch.bincount(index, minlength=size).double().pow(power)


def _uniform(shape: Sequence[int], generator: torch.Generator | None, device: torch.device) -> Tensor:
    source = torch.device("cpu") if generator is None else generator.device
    return torch.rand(tuple(shape), dtype=torch.float64, generator=generator, device=source).to(device)


def _exponential(count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    return -torch.log1p(-_uniform((count,), generator, device))


def _check_types(slots: Any, num_corrupted: Any, tables: Mapping[str, Any]) -> None:
    if slots is not None and (isinstance(slots, str | Integral) or not hasattr(slots, "__iter__")):
        raise ValueError(f"'slots' must be a list of the positions of slots, such as [1] (got {slots!r})")
    if not isinstance(num_corrupted, Integral):
        raise ValueError(f"'num_corrupted' must be a whole number (got {num_corrupted!r})")
    for name, table in tables.items():
        if table is not None and not isinstance(table, Mapping):
            raise ValueError(f"'{name}' must be a mapping from slot to a tensor (got {type(table).__name__})")
        for slot, value in (table or {}).items():
            if not isinstance(value, Tensor):
                raise ValueError(f"'{name}' of slot {slot!r} must be a tensor (got {type(value).__name__})")


def _positive(slot: Any, order: int, name: str) -> int:
    if isinstance(slot, Tensor) and slot.dim() == 0 and slot.dtype != torch.bool and not slot.is_floating_point():
        slot = int(slot)
    if isinstance(slot, bool) or not isinstance(slot, Integral):
        raise ValueError(
            f"'{name}' must name slots by their position, whole numbers in [-{order}, {order}) (got {slot!r}): a "
            "NegativeSampler knows no names of modalities, as RelationLoader does"
        )
    position = int(slot)
    if not -order <= position < order:
        raise ValueError(f"'{name}' must name slots in [-{order}, {order}) (got {position})")
    return position % order


def _check_tuples(index: Tensor, sizes: tuple[int, ...], name: str) -> None:
    if index.dim() != 2 or index.size(0) != len(sizes) or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(
            f"'{name}' must be of shape [{len(sizes)}, number of tuples] and of whole numbers "
            f"(got {list(index.shape)}, {index.dtype})"
        )
    for slot, (row, size) in enumerate(zip(index, sizes, strict=True)):
        if row.numel() and not 0 <= int(row.min()) <= int(row.max()) < size:
            raise ValueError(
                f"'{name}' must lie in [0, {size}) in slot {slot} (got {int(row.min())} to {int(row.max())})"
            )


def _checked_types(kind: Tensor, size: int) -> Tensor:
    if kind.shape != (size,) or kind.is_floating_point():
        raise ValueError(f"'types' must be whole numbers [{size}] (got {list(kind.shape)}, {kind.dtype})")
    return kind.long()


def _checked_weights(weight: Tensor, size: int) -> Tensor:
    if weight.shape != (size,):
        raise ValueError(f"'weights' must be of shape [{size}] (got {list(weight.shape)})")
    if not bool((weight.isfinite() & (weight >= 0)).all()):
        raise ValueError(f"'weights' must be finite and at least 0 (got {weight[~(weight >= 0) | weight.isinf()][0]})")
    return weight.double()
