"""Validation entries, drawn the way the test was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.data.tuples import tuple_ids
from hyperlearn_pyg.transforms import RandomRelationSplit
from hyperlearn_pyg.transforms._common import find_slots

#: How the entries of a split may have been drawn.
KINDS = ("tuple", "warm", "item", "share", "time")
#: Items of fewer entries tell little, and splits that leave each item a training entry spare them.
_MANY = 5
#: So far from a draw by tuple, in deviations and as a share, a count of items must lie to tell another kind.
_DEVIATIONS, _RATIO = 4.0, 0.9
#: A draw by tuple is not believed in where what was found has a smaller chance.
_RARE = 0.01


@dataclass(frozen=True)
class SplitKind:
    """How the entries of a split were drawn from a relation.

    Attributes:
        kind: ``"tuple"``: at random; ``"warm"``: at random among those of whose items each keeps another tuple;
            ``"item"``: items with all their tuples; ``"share"``: of some items a share of
            their tuples; ``"time"``: the latest tuples.
        modality: whose items, by item and by share.
        share: which share of the tuples of an item, by share.
    """

    kind: str
    modality: str | None = None
    share: float | None = None


def split_kind(data: MultiModalHeteroData, relation: str, split: str = "test") -> SplitKind:
    """Estimate how the entries of a split were drawn. Only items and times are read, no value.

    The rules, the first that holds:

    1. **time**: the relation has times, they are not all equal, and no entry of the split is earlier than any other.
    2. **item**: for some modality, at least half of the entries of the split have an item that no other entry names,
       and so many are not to be expected of a draw by tuple; the modality with the largest such share.
    3. **share**: for some modality, of the items with five entries or more fewer are in the split than a draw by tuple
       would touch, by four deviations and a tenth; the modality with the smallest ratio. ``share`` is the part of the
       entries of its touched items that is in the split.
       This is u1 of MovieLens-100K: 459 users, none beyond 462, with 38 % of their ratings (43 % of the median user's).
    4. **warm**: each item of the split is named by another entry, while a draw by tuple would have taken all entries
       of so many items that none has a chance below a hundredth (Poisson). The splits of DHNE are such.
    5. **tuple**: else.

    A draw by tuple touches an item of ``n`` entries with probability :math:`1 - (1 - p)^n`, with the share ``p`` of the
    entries in the split. The rules see little where most items have few entries (all draws look alike then), and
    do not know mixed draws (by time within each user, say): name the kind then. Entries in no split count for nothing.

    Args:
        data: the data.
        relation: the name of the relation, with one member a slot for all but times.
        split: the split to look at.
    """
    view = data.relation(relation)
    own = split_positions(data, relation, (split,))
    rest = split_positions(data, relation, {"train", "val", "test"} - {split})
    if len(own) == 0 or len(rest) == 0:
        return SplitKind("tuple")
    time = view.time
    if time is not None and time[own].min() >= time[rest].max() and time[own].max() > time[rest].min():
        return SplitKind("time")
    if not view.is_uniform:
        return SplitKind("tuple")
    counts = {m: (_items(view, m, own), _items(view, m, rest)) for m in dict.fromkeys(view.modalities)}
    chance = len(own) / (len(own) + len(rest))
    cold = {m: _cold_share(*pair, chance) for m, pair in counts.items()}
    coldest = max(cold, key=lambda m: cold[m])
    if cold[coldest] >= 0.5:
        return SplitKind("item", coldest)
    touched = {m: _touched(*pair, chance) for m, pair in counts.items()}
    rarest = min(touched, key=lambda m: touched[m])
    if touched[rarest] < _RATIO:
        held, left = counts[rarest]
        inside = held > 0
        return SplitKind("share", rarest, float(held.sum() / (held + left)[inside].sum()))
    return SplitKind("warm") if _spares_all(list(counts.values()), chance) else SplitKind("tuple")


def _items(view: Relation, modality: str, positions: Tensor) -> Tensor:
    """Return how many of some entries name each item of a modality."""
    rows = view.index[find_slots(view, modality)][:, positions]
    return torch.bincount(rows.reshape(-1), minlength=int(view.data[modality].num_nodes)).double()


def _cold_share(held: Tensor, left: Tensor, chance: float) -> float:
    """Return the share of memberships whose item is held out whole, less what a draw by tuple would give."""
    every = held + left
    cold = float(held[left == 0].sum() / held.sum())
    expected = float((every * chance**every).sum() / (chance * every.sum()))
    return cold if cold > expected + 0.25 else 0.0


def _touched(held: Tensor, left: Tensor, chance: float) -> float:
    """Return the number of items with an entry in the split over that of a draw by tuple; one where it may be that."""
    held, left = held[held + left >= _MANY], left[held + left >= _MANY]
    every = held + left
    hit = 1 - (1 - chance) ** every
    expected, spread = float(hit.sum()), float((hit * (1 - hit)).sum().sqrt())
    found = float((held > 0).sum())
    return found / expected if found < expected - _DEVIATIONS * spread else 1.0


def _spares_all(counts: Sequence[tuple[Tensor, Tensor]], chance: float) -> bool:
    """Tell whether a split takes from no item all entries, though a draw by tuple would almost surely do so."""
    if any(bool(((held > 0) & (left == 0)).any()) for held, left in counts):
        return False
    every = torch.cat([held + left for held, left in counts])
    return math.exp(-float((chance ** every[every > 0]).sum())) < _RARE


def draw_entries(
    data: MultiModalHeteroData, relations: Sequence[str], kind: SplitKind, fraction: float, seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Draw validation entries from the training entries of relations, all in one way.

    By item and by time, :class:`~hyperlearn_pyg.transforms.RandomRelationSplit` draws among the training entries: the
    same items from all relations, one cut in time.

    Returns:
        For each relation which of its training entries are for validation, and which are left, bool ``[T]``. By time,
        an entry that was there before is in neither.

    Raises:
        ValueError: a relation has no ``time``, or no slot of the modality.
    """
    train = {name: split_positions(data, name, ("train",)) for name in relations}
    if kind.kind in ("item", "time"):
        split = RandomRelationSplit(
            list(relations), val=fraction, test=0.0, seed=seed, by=kind.kind, modality=kind.modality
        )
        part = split(_training_part(data, train))
        return {name: (part[name].val_mask, part[name].train_mask) for name in relations}
    draw = _warm if kind.kind == "warm" else _shares
    return {name: draw(data, name, kind, at, fraction, seed) for name, at in train.items()}


def _training_part(data: MultiModalHeteroData, train: dict[str, Tensor]) -> MultiModalHeteroData:
    """Return the training entries of some relations as data of their own, without features, graphs and masks."""
    out = MultiModalHeteroData()
    for name, at in train.items():
        view = data.relation(name)
        for modality in dict.fromkeys(view.modalities):
            if modality not in out.node_types:
                out.add_modality(modality, num_nodes=int(data[modality].num_nodes))
        slots = [m if r is None else (m, r) for m, r in zip(view.modalities, view.roles, strict=True)]
        out.add_hyperedges(name, view.index[:, at], modalities=slots)
        if view.time is not None:
            out[name].time = view.time[at]
    return out


def _warm(
    data: MultiModalHeteroData, name: str, kind: SplitKind, train: Tensor, fraction: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Take training entries at random, but of no item the one that is last in a random order."""
    view, count = data.relation(name), len(train)
    index = view.index[:, train]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).to(train.device)
    place = torch.empty_like(order).index_copy_(0, order, torch.arange(count, device=order.device))
    free = torch.ones(count, dtype=torch.bool, device=order.device)
    for modality in dict.fromkeys(view.modalities):
        rows = find_slots(view, modality)
        last = place.new_full((int(data[modality].num_nodes),), -1)
        last = last.scatter_reduce(0, index[rows].reshape(-1), place.repeat(len(rows)), "amax")
        free[order[last[last >= 0]]] = False
    held = torch.zeros_like(free)
    held[order[free[order]][: int(fraction * count)]] = True
    return held, ~held


def _shares(
    data: MultiModalHeteroData, name: str, kind: SplitKind, train: Tensor, fraction: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Take from some items a share of their training entries, and leave them one at least.

    Items without a test entry come first: those with one have lost a share of their entries already.
    """
    view = data.relation(name)
    row = find_slots(view, str(kind.modality))[0]
    item, size = view.index[row][train], view.sizes[row]
    generator = torch.Generator().manual_seed(seed)
    count = torch.bincount(item, minlength=size)
    taken = torch.minimum((count * float(kind.share or 0)).round().long(), (count - 1).clamp(min=0))
    tested = torch.zeros(size, dtype=torch.bool, device=item.device)
    tested[view.index[row][split_positions(data, name, ("test",))]] = True
    order = torch.randperm(size, generator=generator).to(item.device)
    order = order[tested[order].long().argsort(stable=True)]
    before = taken[order].cumsum(0) - taken[order]
    chosen = torch.zeros_like(taken).index_copy_(0, order, taken[order] * (before < fraction * len(train)))
    shuffled = torch.randperm(len(train), generator=generator).to(item.device)
    shuffled = shuffled[item[shuffled].argsort(stable=True)]
    place = torch.arange(len(train), device=item.device) - (count.cumsum(0) - count)[item[shuffled]]
    held = torch.zeros(len(train), dtype=torch.bool, device=item.device)
    held[shuffled] = place < chosen[item[shuffled]]
    same = tuple_ids(view.index[:, train], view.sizes)
    held = torch.isin(same, same[held])  # a repeated tuple is in one part
    return held, ~held
