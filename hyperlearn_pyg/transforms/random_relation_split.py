from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.data._rows import forget_graphs
from hyperlearn_pyg.data.tuples import tuple_ids
from hyperlearn_pyg.transforms._common import check_choice, find_slots, modality_names, relation_names, same_tuples

#: The part of a tuple, and no part at all.
TRAIN, VAL, TEST, NONE = 0, 1, 2, -1


@functional_transform("random_relation_split")
class RandomRelationSplit(BaseTransform):
    """Split the hyperedges of relations: sets ``train_mask``, ``val_mask`` and ``test_mask``.

    A tuple is never in two parts. Masks that are already there are replaced. :func:`check_leaks` tells whether
    anything in the data has seen a tuple that is held out now.

    * ``by="tuple"``: at random. Hyperedges that are the same tuple fall into the same part.
    * ``by="item"``: cold start. Of the items of ``modality`` that some tuple names, shares are held out together
      with all their tuples: no training tuple of any of the relations names one of them. A tuple that names items of
      two parts goes to the later one (train, validation, test). The modality's store gets the masks of its items.
    * ``by="time"``: the latest tuples are the test, those before them the validation, the earliest the training part.
      Equal times never straddle: the cut moves to the nearest change of time, with a warning where this takes a share
      off by more than half. Several relations get one common cut, since the tuples of one tell of another. A tuple
      that was there before, in an earlier part, is in no part.

    Args:
        relation: the name of the relation, or several; :obj:`None` for every relation (by item: that has ``modality``).
        val: share for validation, in ``[0, 1)``: of the tuples, or of the items.
        test: share for the test, in ``[0, 1)``.
        seed: the same seed gives the same split; by time nothing is drawn.
        by: ``"tuple"``, ``"item"`` or ``"time"``.
        modality: whose items are held out by item: a modality, or a pair (modality, role) to look at one slot alone.

    Raises:
        ValueError: shares are out of range or leave nothing to train on; there is no such relation or modality; a
            relation has no ``time`` to split by.
    """

    def __init__(
        self,
        relation: str | Sequence[str] | None = None,
        *,
        val: float = 0.1,
        test: float = 0.1,
        seed: int = 0,
        by: str = "tuple",
        modality: Slot | None = None,
    ) -> None:
        if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
            raise ValueError(f"'val' and 'test' must be at least 0 with a sum below 1 (got {val} and {test})")
        check_choice(by, ("tuple", "item", "time"), "by")
        if (by == "item") != (modality is not None):
            raise ValueError(f"'modality' goes with by='item', which needs it (got by={by!r}, modality={modality!r})")
        self.relation = relation
        self.val = val
        self.test = test
        self.seed = seed
        self.by = by
        self.modality = modality

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data with the masks set."""
        names = relation_names(data, self.relation)
        if self.modality is not None:
            self._split_items(data, names, self.modality)
        elif self.by == "time":
            self._split_times(data, names)
        else:
            for name in names:
                _set_masks(data, name, self._draw(_groups(data.relation(name))))
        return data

    def _draw(self, group: Tensor) -> Tensor:
        """Draw the part of each group and return that of its tuples ``[E]``."""
        count = int(group.max()) + 1 if group.numel() else 0
        generator = torch.Generator().manual_seed(self.seed)
        position = torch.randperm(count, generator=generator).to(group.device)[group]
        val, test = round(self.val * count), round(self.test * count)
        part = torch.full_like(position, TRAIN)
        part[position < val + test] = TEST
        part[position < val] = VAL
        return part

    def _split_items(self, data: MultiModalHeteroData, names: list[str], modality: Slot) -> None:
        name = modality if isinstance(modality, str) else modality[0]
        modality_names(data, name)
        relations = [data.relation(n) for n in names]
        if self.relation is None:
            relations = [r for r in relations if _has(r, modality)]
        ends = [(r, [r.incidence(s).long() for s in find_slots(r, modality)]) for r in relations]
        if not ends:
            there = {n: list(zip(data.relation(n).modalities, data.relation(n).roles, strict=True)) for n in names}
            raise ValueError(f"modality {modality!r} is in no relation: nothing could be held out (slots: {there})")
        every = torch.cat([item for _, incidences in ends for item, _ in incidences])
        used = every.unique()
        part = torch.full((int(data[name].num_nodes),), TRAIN, dtype=torch.long, device=every.device)
        part[used] = self._draw(torch.arange(used.numel(), device=every.device))
        _set_masks(data, name, part)
        for relation, incidences in ends:
            latest = torch.full((len(relation),), TRAIN, dtype=torch.long, device=every.device)
            for item, hyperedge in incidences:
                latest.scatter_reduce_(0, hyperedge, part[item], "amax")
            _set_masks(data, relation.name, latest)

    def _split_times(self, data: MultiModalHeteroData, names: list[str]) -> None:
        relations = [data.relation(name) for name in names]
        if not relations:
            return
        times = [_time(relation) for relation in relations]
        parts = self._cut(torch.cat(times)).split([len(time) for time in times])
        for relation, part in zip(relations, parts, strict=True):
            group = _groups(relation)
            first = torch.full((group.numel(),), TEST, dtype=torch.long, device=group.device)
            first.scatter_reduce_(0, group, part, "amin")
            _set_masks(data, relation.name, torch.where(part > first[group], NONE, part))

    def _cut(self, time: Tensor) -> Tensor:
        """Return the part of each tuple ``[E]``, one part for equal times."""
        _, rank, count = time.unique(return_inverse=True, return_counts=True)
        later = torch.cat([count.flip(0).cumsum(0).flip(0), count.new_zeros(1)])  # tuples at or after each time
        first_test = _nearest(later, self.test * len(time), count.numel())
        first_val = _nearest(later, float(later[first_test]) + self.val * len(time), first_test)
        got = {"test": int(later[first_test]), "val": int(later[first_val] - later[first_test])}
        for split, asked in (("val", self.val), ("test", self.test)):
            if abs(got[split] - asked * len(time)) > max(0.5 * asked * len(time), 1):
                warnings.warn(
                    f"equal times must not straddle a cut: '{split}' holds {got[split]} of {len(time)} tuples, "
                    f"where a share of {asked} was asked for",
                    stacklevel=2,
                )
        bounds = torch.tensor([first_val, first_test], device=rank.device)
        return torch.bucketize(rank, bounds, right=True)

    def __repr__(self) -> str:
        more = "" if self.by == "tuple" else f", by={self.by!r}"
        more += "" if self.modality is None else f", modality={self.modality!r}"
        return f"{type(self).__name__}({self.relation!r}, val={self.val}, test={self.test}, seed={self.seed}{more})"


def _set_masks(data: MultiModalHeteroData, name: str, part: Tensor) -> None:
    for split, number in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        if f"{split}_mask" not in data[name]:
            forget_graphs(data)
        data[name][f"{split}_mask"] = part == number


def _has(relation: Relation, slot: Slot) -> bool:
    if isinstance(slot, str):
        return slot in relation.modalities
    return any(tuple(slot) == pair for pair in zip(relation.modalities, relation.roles, strict=True))


def _groups(relation: Relation) -> Tensor:
    """Number the distinct tuples ``[E]``."""
    if not relation.is_uniform:
        return same_tuples(relation)
    inverse: Tensor = torch.unique(tuple_ids(relation.index, relation.sizes), return_inverse=True)[1]
    return inverse


def _time(relation: Relation) -> Tensor:
    time = relation.time
    if time is None:
        raise ValueError(
            f"relation '{relation.name}' has no 'time' to split by: add one number a hyperedge, or name the "
            "relations that have it"
        )
    if time.is_floating_point() and not bool(time.isfinite().all()):
        at = int((~time.isfinite()).nonzero()[0])
        raise ValueError(f"'time' of '{relation.name}' must be finite (got {float(time[at])} at position {at})")
    return time


def _nearest(later: Tensor, wanted: float, last: int) -> int:
    """Return the distinct time, of 1 to ``last``, from which on the number of tuples is nearest to ``wanted``."""
    if last < 1:
        return last
    off = (later[1 : last + 1].double() - wanted).abs()
    return last - int(off.flip(0).argmin())
