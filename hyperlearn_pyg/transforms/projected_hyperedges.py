from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.data.tuples import tuple_ids
from hyperlearn_pyg.transforms._common import check_choice, check_sizes, find_slot, note_seen, replace_set

#: More distinct values than these are no levels.
_MAX_LEVELS = 100


@functional_transform("projected_hyperedges")
class ProjectedHyperedges(BaseTransform):
    r"""Tie the items of a modality that share an item, or a pattern of items, of the other slots of a relation.

    Each pattern is one hyperedge: with a relation *rates* of users and films, ``ProjectedHyperedges("rates", "user",
    min_value=4)`` adds one hyperedge a film, of the users who gave it 4 or more; with *tags* of users, films and tags,
    ``ProjectedHyperedges("tags", "user")`` one for each pair of a film and a tag. Only *training* tuples are read.

    Adds the hyperedge set ``name`` over the modality, its members distinct and in order, with the attributes, each
    with one row a hyperedge,

    * ``pattern [E, p]``: the items of the slots ``by`` that it stands for, as they are numbered in the data that came
      in (neither batches nor subgraphs renumber them);
    * ``count``: training tuples behind it; ``mean_value``: their mean value, where the relation has values;
    * ``level``: the level, where ``levels`` asks for it; ``weight``: where ``weight`` asks for it.

    A set that an earlier run made is replaced. Where a slot has several members, every combination is a tuple.

    Args:
        relation: the relation, which must have ``train_mask``.
        modality: whose items are the members: a modality, or a pair (modality, role).
        by: the other slots that make up a pattern, one or a list; :obj:`None` for all others.
        min_value: leave out tuples of a lower value.
        max_value: leave out tuples of a higher value.
        levels: one hyperedge for each pattern *and* level of the value. :obj:`True`: every distinct training value is
            a level; a whole number: so many quantiles of the training values; a list: the boundaries, a boundary
            itself being below.
        min_size: hyperedges with fewer members are left out.
        max_size: hyperedges with more members are left out.
        weight: ``"count"``, ``"inverse"`` (one over the size) or ``"value"`` (the mean value); :obj:`None` for none.
        member_weight: the same for single memberships, as ``edge_weight``: ``"count"`` or ``"value"``.
        name: the name of the set; ``RELATION_MODALITY_by_OTHERS`` where absent.

    Raises:
        ValueError: no such relation or slot, no training mask, values asked for where there are none, a name that is
            taken, an argument out of range.
    """

    def __init__(
        self,
        relation: str,
        modality: Slot,
        by: Slot | list[Slot] | None = None,
        *,
        min_value: float | None = None,
        max_value: float | None = None,
        levels: bool | int | Sequence[float] = False,
        min_size: int = 2,
        max_size: int | None = None,
        weight: str | None = None,
        member_weight: str | None = None,
        name: str | None = None,
    ) -> None:
        check_sizes(min_size, max_size)
        if weight is not None:
            check_choice(weight, ("count", "inverse", "value"), "weight")
        if member_weight is not None:
            check_choice(member_weight, ("count", "value"), "member_weight")
        if isinstance(levels, int) and not isinstance(levels, bool) and levels < 1:
            raise ValueError(f"'levels' must be a bool, at least 1 quantile or a list of boundaries (got {levels})")
        self.relation = relation
        self.modality = modality
        self.by = by
        self.min_value, self.max_value = min_value, max_value
        self.levels = levels
        self.min_size, self.max_size = min_size, max_size
        self.weight = weight
        self.member_weight = member_weight
        self.name = name

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data with the hyperedge set added."""
        relation = data.relation(self.relation)
        slot = find_slot(relation, self.modality)
        others = self._others(relation, slot)
        value, kept = self._kept(relation)
        hyperedge, found = kept.nonzero().view(-1), list[Tensor]()
        for part in (slot, *others):
            hyperedge, found = _join(hyperedge, found, relation.incidence(part), len(relation))
        sizes = [relation.sizes[s] for s in others]
        level = self._level(value, kept)
        if level is not None:
            found.append(level[hyperedge])
            sizes.append(int(level.max()) + 1 if level.numel() else 1)
        pattern = torch.stack(found[1:])
        edge = torch.unique(tuple_ids(pattern, sizes), return_inverse=True)[1]
        rows = _Rows(found[0], pattern, edge, None if value is None else value[hyperedge])
        name = self.name or self._default_name(relation, slot, others)
        replace_set(data, name, "pattern")
        self._add(data, name, relation.modalities[slot], rows, level is not None)
        note_seen(data, relation, name, kept)
        return data

    def _others(self, relation: Relation, slot: int) -> list[int]:
        if self.by is None:
            others = [s for s in range(relation.order) if s != slot]
            if not others:
                raise ValueError(f"relation '{relation.name}' has one slot only: its hyperedges are such a set already")
            return others
        others = [find_slot(relation, s) for s in (self.by if isinstance(self.by, list) else [self.by])]
        if slot in others or not others or len(set(others)) < len(others):
            raise ValueError(f"'by' must name other slots than {self.modality!r}, each of them once (got {self.by!r})")
        return others

    def _kept(self, relation: Relation) -> tuple[Tensor | None, Tensor]:
        """Return the values of the relation and which of its tuples are read."""
        value, kept = relation.value, relation.mask("train")
        wants = self.levels is not False or "value" in (self.weight, self.member_weight)
        if value is None and (wants or self.min_value is not None or self.max_value is not None):
            raise ValueError(f"relation '{relation.name}' has no 'value': leave out what asks for values or levels")
        if self.min_value is not None and value is not None:
            kept = kept & (value >= self.min_value)
        if self.max_value is not None and value is not None:
            kept = kept & (value <= self.max_value)
        return value, kept

    def _level(self, value: Tensor | None, kept: Tensor) -> Tensor | None:
        """Return the level of each tuple of the relation ``[E]``; the bounds are those of the tuples read."""
        if value is None or self.levels is False:
            return None
        train = value[kept]
        if isinstance(self.levels, bool):
            distinct = train.unique()
            if len(distinct) > _MAX_LEVELS:
                raise ValueError(
                    f"'{self.relation}' has {len(distinct)} distinct training values, more than {_MAX_LEVELS} levels: "
                    "pass a number of quantiles or the boundaries as 'levels'"
                )
            bounds = (distinct[1:] + distinct[:-1]) / 2
        elif isinstance(self.levels, int):
            at = torch.arange(1, self.levels, dtype=torch.float64, device=train.device) / self.levels
            bounds = train.sort().values[(at * len(train)).long()].unique() if len(train) else train
        else:
            bounds = torch.tensor(sorted(self.levels), dtype=value.dtype, device=value.device)
        return torch.bucketize(value, bounds)

    def _add(self, data: MultiModalHeteroData, name: str, modality: str, rows: _Rows, levels: bool) -> None:
        """Add the hyperedges of the rows."""
        total = int(rows.edge.max()) + 1 if rows.edge.numel() else 0
        num_items = max(int(data[modality].num_nodes), 1)
        pair, of = torch.unique(rows.edge * num_items + rows.item, return_inverse=True)
        member = torch.stack([pair % num_items, pair.div(num_items, rounding_mode="floor")])
        size = torch.bincount(member[1], minlength=total)
        keep = size >= self.min_size
        if self.max_size is not None:
            keep &= size <= self.max_size
        inside, number = keep[member[1]], keep.cumsum(0) - 1
        member_weight = {
            "count": torch.bincount(of, minlength=pair.numel()),
            "value": _mean(rows.value, of, pair.numel()),
        }.get(self.member_weight or "")
        attrs = {key: entry[keep] for key, entry in self._attributes(rows, size, levels).items()}
        data.add_hyperedges(
            name,
            {modality: torch.stack([member[0, inside], number[member[1, inside]]])},
            num_hyperedges=int(keep.sum()),
            incidence_weight=None if member_weight is None else {modality: _as_weight(member_weight[inside])},
            weight=attrs.pop("weight", None),
        )
        data[name].update(attrs)

    def _attributes(self, rows: _Rows, size: Tensor, levels: bool) -> dict[str, Tensor]:
        """Return what belongs to the hyperedges, one row each."""
        total, device = size.numel(), size.device
        some = rows.edge.new_zeros(total).scatter_(0, rows.edge, torch.arange(rows.edge.numel(), device=device))
        pattern = rows.pattern[:, some].t()
        count, mean = torch.bincount(rows.edge, minlength=total), _mean(rows.value, rows.edge, total)
        out = {"pattern": (pattern[:, :-1] if levels else pattern).contiguous(), "count": count}
        if levels:
            out["level"] = pattern[:, -1]
        if mean is not None:
            out["mean_value"] = mean
        weight = {"count": count, "inverse": 1 / size, "value": mean}.get(self.weight or "")
        if weight is not None:
            out["weight"] = _as_weight(weight)
        return out

    def _default_name(self, relation: Relation, slot: int, others: list[int]) -> str:
        words = [relation.roles[s] or relation.modalities[s] for s in (slot, *others)]
        return f"{relation.name}_{words[0]}_by_{'_'.join(words[1:])}"

    def __repr__(self) -> str:
        by = "" if self.by is None else f", by={self.by!r}"
        return f"{type(self).__name__}({self.relation!r}, {self.modality!r}{by}, levels={self.levels!r})"


class _Rows(NamedTuple):
    """The tuples that are read: an item, the pattern that it is tied by ``[p, R]``, its hyperedge, and the value."""

    item: Tensor
    pattern: Tensor
    edge: Tensor
    value: Tensor | None


def _join(hyperedge: Tensor, rows: list[Tensor], incidence: Tensor, num_hyperedges: int) -> tuple[Tensor, list[Tensor]]:
    """Extend each row by every member that its hyperedge has in a further slot."""
    item, owner = incidence.long()
    order = owner.argsort(stable=True)
    degree = torch.bincount(owner, minlength=num_hyperedges)
    start = degree.cumsum(0) - degree
    repeat = degree[hyperedge]
    source = torch.arange(hyperedge.numel(), device=owner.device).repeat_interleave(repeat)
    offset = torch.arange(source.numel(), device=owner.device) - (repeat.cumsum(0) - repeat)[source]
    found = item[order[start[hyperedge[source]] + offset]]
    return hyperedge[source], [row[source] for row in rows] + [found]


def _as_weight(weight: Tensor) -> Tensor:
    return weight.to(torch.get_default_dtype())


def _mean(value: Tensor | None, group: Tensor, size: int) -> Tensor | None:
    """Return the mean value of each group ``[size]``."""
    if value is None:
        return None
    total = torch.zeros(size, dtype=torch.float64, device=group.device).index_add(0, group, value.double())
    return (total / torch.bincount(group, minlength=size).clamp(min=1)).to(value.dtype)
