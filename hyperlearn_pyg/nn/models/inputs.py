from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch_geometric.utils import to_undirected

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.ops.incidence import Incidence
from hyperlearn_pyg.ops.laplacian import Laplacian

MAX_LEVELS = 10
NUM_QUANTILES = 5


@dataclass(frozen=True)
class RelationSpec:
    """What the model knows of a relation: its slots and, where it has values, where its levels part.

    Attributes:
        modalities: the modality of each slot.
        sizes: the number of items of each slot.
        has_value: a valued relation (ratings), or a 0/1 one.
        boundaries: values that part the levels, ascending; none for one level.
        slots: the name of each slot: its modality, or ``modality.role`` where it has a role.
    """

    modalities: tuple[str, ...]
    sizes: tuple[int, ...]
    has_value: bool
    boundaries: tuple[float, ...] = ()
    slots: tuple[str, ...] = ()

    @property
    def order(self) -> int:
        """Number of slots."""
        return len(self.modalities)

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return len(self.boundaries) + 1

    def levels(self, value: Tensor | None, count: int, device: torch.device) -> Tensor:
        """Return the level ``[E]`` of each tuple."""
        if value is None or not self.boundaries:
            return torch.zeros(count, dtype=torch.long, device=device)
        return torch.bucketize(value, torch.tensor(self.boundaries, dtype=value.dtype, device=value.device))


@dataclass(frozen=True)
class Tuples:
    """The entries of one relation that a model sees: ``index [k, E]``, values and weights ``[E]`` or None."""

    index: Tensor
    value: Tensor | None = None
    weight: Tensor | None = None

    def __len__(self) -> int:
        return self.index.size(1)

    def counts(self, slot: int, size: int) -> Tensor:
        """Return how many entries each of the ``size`` items of a slot has."""
        return torch.bincount(self.index[slot], minlength=size)

    @cached_property
    def seen(self) -> list[Tensor]:
        """For each slot the items that some entry names, ascending."""
        return [row.unique() for row in self.index]

    def take(self, positions: Tensor | None) -> Tuples:
        """Return the entries at ``positions``; all of them for None."""
        if positions is None:
            return self
        pick = [None if t is None else t.index_select(-1, positions) for t in (self.index, self.value, self.weight)]
        return Tuples(pick[0] if pick[0] is not None else self.index, pick[1], pick[2])


@dataclass(frozen=True)
class MessageChannel:
    """The entries of a relation as hyperedges over one modality: level and item of another slot are the hyperedge.

    ``incidence`` is of size ``[N, num_levels * num_items]``; its entries are in the order of the relation's tuples.
    """

    relation: str
    slot: int
    other: int
    num_levels: int
    num_items: int
    incidence: Incidence

    def to(self, device: torch.device) -> MessageChannel:
        """Return the channel on a device."""
        incidence = Incidence(self.incidence.index.to(device).long(), self.incidence.size, validate=False)
        return replace(self, incidence=incidence)


@dataclass
class BranchInputs:
    """Everything that one modality's encoder may read; nothing of it belongs to another modality."""

    num_items: int
    x: Tensor | None
    edge_index: Tensor
    edge_weight: Tensor | None
    channels: list[MessageChannel] = field(default_factory=list)
    _laplacian: Laplacian | None = None

    def to(self, device: torch.device) -> BranchInputs:
        """Return the inputs on a device; what is derived from them is built there anew."""
        if self.edge_index.device == device:
            return self
        x, weight = (None if t is None else t.to(device) for t in (self.x, self.edge_weight))
        return BranchInputs(
            self.num_items, x, self.edge_index.to(device), weight, [c.to(device) for c in self.channels]
        )

    @property
    def laplacian(self) -> Laplacian:
        """Normalised Laplacian of the modality's intra-modal graph, built at the first reading."""
        if self._laplacian is None:
            inc = Incidence(self.edge_index, (self.num_items, self.num_items))
            self._laplacian = Laplacian.from_graph(inc, self.edge_weight)
        return self._laplacian


@dataclass(frozen=True)
class ModelInputs:
    """What :meth:`HyperLearn.prepare` makes of a data object: the branches' inputs and the relations' entries."""

    branches: dict[str, BranchInputs]
    tuples: dict[str, Tuples]

    def place(self, devices: Mapping[str, torch.device]) -> ModelInputs:
        """Return the inputs with each branch on its device; the tuples stay where they are."""
        return replace(self, branches={m: b.to(devices.get(m, b.edge_index.device)) for m, b in self.branches.items()})


def relation_spec(data: MultiModalHeteroData, name: str) -> RelationSpec:
    """Describe a relation; the levels are those of its training entries."""
    relation = data.relation(name)
    value = relation.value
    boundaries: tuple[float, ...] = ()
    if value is not None:
        boundaries = _boundaries(value[split_positions(data, name, ("train",))])
    slots = tuple(m if r is None else f"{m}.{r}" for m, r in zip(relation.modalities, relation.roles, strict=True))
    return RelationSpec(relation.modalities, relation.sizes, value is not None, boundaries, slots)


def prepare(
    data: MultiModalHeteroData,
    relations: Mapping[str, RelationSpec],
    modalities: Mapping[str, Collection[str]],
    splits: Sequence[str],
) -> ModelInputs:
    """Take from a data object what the model reads: entries of ``splits``, features, graphs, message channels.

    Args:
        data: the data; of modalities not named, nothing but the number of items is read.
        relations: the relations of the model.
        modalities: the modalities to encode, each with the relations that its encoder reads as messages.
        splits: the splits whose entries may be seen.

    Raises:
        ValueError: a relation is missing, or is of other modalities or sizes than the model.
    """
    check_sizes(data, relations)
    tuples = {}
    for name in relations:
        relation = data.relation(name)
        every = Tuples(relation.index, relation.value, relation.weight)
        positions = split_positions(data, name, splits)
        tuples[name] = every if len(positions) == len(every) else every.take(positions)
    branches = {m: _branch(data, m) for m in modalities}
    for name, spec in relations.items():
        for slot, modality in enumerate(spec.modalities):
            if name in modalities.get(modality, ()):
                branches[modality].channels.extend(_channels(name, spec, tuples[name], slot))
    return ModelInputs(branches, tuples)


def check_sizes(data: MultiModalHeteroData, relations: Mapping[str, RelationSpec]) -> None:
    """Check that ``data`` holds the relations of a model, of the modalities and sizes that it was made for.

    Raises:
        ValueError: one is missing, or of other modalities or sizes.
    """
    for name, spec in relations.items():
        if name not in data.hyperedge_types:
            known = ", ".join(map(repr, data.hyperedge_types))
            raise ValueError(f"'data' has no relation {name!r}, which the model was made for (it has: {known})")
        relation = data.relation(name)
        if (relation.modalities, relation.sizes) != (spec.modalities, spec.sizes):
            made, got = (dict(zip(r.modalities, r.sizes, strict=True)) for r in (spec, relation))
            raise ValueError(f"'data': relation {name!r} ties {got} items, the model was made for {made}")


def learnt_relations(
    data: MultiModalHeteroData, names: Iterable[str], known: Collection[str] = ()
) -> dict[str, RelationSpec]:
    """Describe relations to learn from, each with one member a slot; a model that is there knows those of ``known``.

    Raises:
        ValueError: a relation is not in ``data``, or has several members in a slot.
    """
    out = {}
    for name in names:
        if not data.relation(name).is_uniform:
            fit = [n for n in data.hyperedge_types if data.relation(n).is_uniform and n not in known]
            raise ValueError(
                f"relation {name!r} has hyperedges without exactly one member a slot, which a decoder cannot score: "
                f"pass relations={fit} to leave it out"
            )
        out[name] = relation_spec(data, name)
    return out


def _branch(data: MultiModalHeteroData, modality: str) -> BranchInputs:
    store = data[modality]
    num_items = int(store.num_nodes)
    types = data.intra_edge_types(modality)
    device = next((data[t].edge_index.device for t in types), None)
    if device is None:
        device = next((r.incidence(s).device for r, s in _slots(data, modality)), torch.device("cpu"))
    index = [data[t].edge_index for t in types]
    weight: Tensor | None = None
    if any("edge_weight" in data[t] for t in types):
        parts = [
            data[t].get("edge_weight", torch.ones(i.size(1), device=device)) for t, i in zip(types, index, strict=True)
        ]
        weight = torch.cat([p.to(torch.get_default_dtype()) for p in parts])
    edges = torch.cat(index, dim=1) if index else torch.empty(2, 0, dtype=torch.long, device=device)
    if index and weight is None:
        edges = to_undirected(edges, num_nodes=num_items)
    elif index:
        edges, weight = to_undirected(edges, weight, num_nodes=num_items, reduce="mean")
    return BranchInputs(num_items, store.get("x"), edges, weight)


def _slots(data: MultiModalHeteroData, modality: str) -> Iterable[tuple[Relation, int]]:
    for name in data.hyperedge_types:
        relation = data.relation(name)
        for slot, m in enumerate(relation.modalities):
            if m == modality:
                yield relation, slot


def _channels(name: str, spec: RelationSpec, tuples: Tuples, slot: int) -> Iterable[MessageChannel]:
    level = spec.levels(tuples.value, len(tuples), tuples.index.device)
    for other in range(spec.order):
        if other != slot:
            columns = level * spec.sizes[other] + tuples.index[other]
            size = (spec.sizes[slot], spec.num_levels * spec.sizes[other])
            inc = Incidence(torch.stack([tuples.index[slot], columns]), size)
            yield MessageChannel(name, slot, other, spec.num_levels, spec.sizes[other], inc)


def _boundaries(value: Tensor) -> tuple[float, ...]:
    unique = value.unique()
    if len(unique) > MAX_LEVELS:
        at = torch.arange(1, NUM_QUANTILES, dtype=value.dtype, device=value.device) / NUM_QUANTILES
        sample = value[:: max(1, len(value) // 1_000_000)]  # torch.quantile takes at most 16M entries
        return tuple(torch.quantile(sample, at).unique().tolist())
    return tuple(((unique[1:] + unique[:-1]) / 2).tolist())
