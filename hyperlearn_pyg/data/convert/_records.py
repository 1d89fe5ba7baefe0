"""A hypergraph as plain Python values: the form between the data object and files or objects of other libraries."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert._space import NodeSpace, named_relations, rowed
from hyperlearn_pyg.data.convert.hetero import edges_to_hyperedges
from hyperlearn_pyg.data.relation import is_membership

#: Name of the header in the metadata of other formats, and its version.
HEADER, VERSION = "hyperlearn_pyg", 1
#: Attributes that say to which modality a node, to which relation an edge belongs, and what its incidences are.
MODALITY, RELATION, INCIDENCES = "modality", "relation", "incidences"
#: Attributes that hold the names of items and of hyperedges.
ITEM_ID, HYPEREDGE_ID = "item_id", "hyperedge_id"


@dataclass
class Records:
    """Nodes, edges and incidences in columns.

    Args:
        header: what the values alone do not tell (types, shapes, the order of slots); :obj:`None` where foreign.
        node_id: identifier of each node; all differ.
        modality: modality of each node.
        node_attrs: attributes of each node.
        edge_id: identifier of each edge; all differ.
        relation: relation of each edge.
        edge_attrs: attributes of each edge.
        edge: position of the edge of each incidence.
        node: position of the node of each incidence.
        role: role of each incidence.
        weight: weight of each incidence, :obj:`None` where it has none.
        metadata: what a foreign hypergraph says of itself.
    """

    header: dict[str, Any] | None = None
    node_id: list[Any] = field(default_factory=list)
    modality: list[str] = field(default_factory=list)
    node_attrs: list[dict[str, Any]] = field(default_factory=list)
    edge_id: list[Any] = field(default_factory=list)
    relation: list[str] = field(default_factory=list)
    edge_attrs: list[dict[str, Any]] = field(default_factory=list)
    edge: list[int] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    role: list[str | None] = field(default_factory=list)
    weight: list[float | None] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    def edge_members(self) -> Iterator[tuple[list[Any], list[list[Any]] | None]]:
        """Return the different nodes of each edge and, where roles, weights or repetition say more, its incidences.

        An incidence is ``[node, role, weight]``.
        """
        inside: list[list[int]] = [[] for _ in self.edge_id]
        for at, edge in enumerate(self.edge):
            inside[edge].append(at)
        for positions in inside:
            nodes = [self.node_id[self.node[at]] for at in positions]
            members = list(dict.fromkeys(nodes))
            more = [[self.role[at], self.weight[at]] for at in positions]
            plain = len(members) == len(nodes) and all(entry == [None, None] for entry in more)
            yield members, None if plain else [[node, *entry] for node, entry in zip(nodes, more, strict=True)]

    def add_edge(
        self,
        name: Any,
        relation: str,
        attrs: dict[str, Any],
        members: Iterable[tuple[int, str | None]],
        incidences: list[list[Any]] | None,
        node_at: Mapping[Any, int],
    ) -> None:
        """Add an edge with its members (position and role), or with its incidences where they still fit."""
        pairs = list(members)
        rows: list[Any] = [[at, role, None] for at, role in sorted(pairs, key=lambda pair: pair[0])]
        if incidences is not None:
            known = [[node_at.get(node), role, weight] for node, role, weight in incidences]
            rows = known if {row[0] for row in known} == {at for at, _ in pairs} else rows
        for at, role, weight in rows:
            self.edge.append(len(self.edge_id))
            self.node.append(at)
            self.role.append(role)
            self.weight.append(weight)
        self.edge_id.append(name)
        self.relation.append(relation)
        self.edge_attrs.append(attrs)


def to_records(data: MultiModalHeteroData, relations: Sequence[str] | None = None) -> Records:
    """Return the records of data.

    Args:
        data: the data.
        relations: the relations to take; :obj:`None` for all, and for the edges that are no memberships, which become
            edges with two nodes.

    Raises:
        ValueError: no such relation, a string for the list of relations, a missing count, an attribute without plain
            values, edges at a hyperedge set.
    """
    data = copy.copy(data)
    graphs = _graphs_to_relations(data) if relations is None else {}
    sets = data.hyperedge_types if relations is None else named_relations(relations)
    views = [data.relation(name) for name in sets]
    items, edges = NodeSpace.of(data, data.modalities), NodeSpace.of(data, sets)
    out = Records({"version": VERSION, "modalities": {}, "relations": {}, "attributes": {}})
    header: dict[str, Any] = out.header or {}
    for key, value in data._global_store.items():
        header["attributes"][key] = _encode(value, f"'{key}'")
    header["modalities"], out.node_id, out.modality, out.node_attrs = _stores(data, items, ITEM_ID)
    header["relations"], out.edge_id, out.relation, out.edge_attrs = _stores(data, edges, HYPEREDGE_ID)
    for view in views:
        slots = []
        for slot, role in zip(view.slots, view.roles, strict=True):
            node, edge = data[slot].edge_index
            weight = data[slot].get("edge_weight")
            slots.append([slot[0], role, None if weight is None else _dtype(weight)])
            out.node += (node + items.offsets[slot[0]]).tolist()
            out.edge += (edge + edges.offsets[view.name]).tolist()
            out.role += [role] * node.numel()
            out.weight += [None] * node.numel() if weight is None else weight.tolist()
        header["relations"][view.name]["slots"] = slots
        header["relations"][view.name]["members"] = [data[slot].edge_index.size(1) for slot in view.slots]
        if view.name in graphs:
            header["relations"][view.name]["edge_type"] = list(graphs[view.name])
    return out


def _graphs_to_relations(data: MultiModalHeteroData) -> dict[str, EdgeType]:
    """Turn the edges that are no memberships into relations of order 2, in place; return name -> edge type."""
    out = {}
    for edge_type in [t for t in data.edge_types if not is_membership(t)]:
        for end in (edge_type[0], edge_type[2]):
            if end in data.hyperedge_types:
                raise ValueError(f"edge type {edge_type} ends in the hyperedge set '{end}': delete it first")
        name = " ".join(edge_type)
        while name in data.node_types:
            name += "_"
        attributes = edges_to_hyperedges(data, name, edge_type)
        data[name].update(attributes)
        out[name] = edge_type
    return out


def _stores(
    data: MultiModalHeteroData, space: NodeSpace, id_key: str
) -> tuple[dict[str, Any], list[Any], list[str], list[dict[str, Any]]]:
    """Return the schema of each store, and the identifier, the type and the attributes of each node."""
    schema: dict[str, Any] = {}
    types: list[str] = []
    rows: list[dict[str, Any]] = []
    given: list[list[str] | None] = []
    for name, size in zip(space.names, space.sizes, strict=True):
        schema[name], columns = _split(data, name, size)
        ids = columns.pop(id_key, None)
        given.append(ids if ids is not None and all(isinstance(i, str) for i in ids) else None)
        if ids is not None and given[-1] is None:
            columns[id_key] = ids
        types += [name] * size
        rows += [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] or [
            {} for _ in range(size)
        ]
    ids, whole = _ids(space, given)
    if not whole:
        known = [i for part, size in zip(given, space.sizes, strict=True) for i in part or repeat(None, size)]
        for row, i in zip(rows, known, strict=True):
            row.update({} if i is None else {id_key: i})
    return schema, ids, types, rows


def _ids(space: NodeSpace, given: list[list[str] | None]) -> tuple[list[Any], bool]:
    """Return an identifier for each node, and whether they tell the given ones."""
    labels: list[Sequence[Any]] = [
        range(size) if ids is None else ids for ids, size in zip(given, space.sizes, strict=True)
    ]
    if len(labels) == 1:
        out = list(labels[0])
    else:
        out = [f"{name}/{label}" for name, part in zip(space.names, labels, strict=True) for label in part]
    if len(set(out)) == len(out):
        return out, True
    return [f"{name}/{i}" for name, size in zip(space.names, space.sizes, strict=True) for i in range(size)], False


def _split(data: MultiModalHeteroData, name: str, size: int) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return the schema of a store, and its attributes that have one row a node as lists."""
    rows: dict[str, Any] = {}
    other: dict[str, Any] = {}
    columns: dict[str, list[Any]] = {}
    for key, value in data[name].items():
        if key == "num_nodes":
            continue
        if not rowed(value, size):
            other[key] = _encode(value, f"'{key}' of '{name}'")
        elif isinstance(value, Tensor):
            rows[key], columns[key] = [_dtype(value), list(value.shape[1:])], value.tolist()
        else:
            rows[key], columns[key] = None, value
    return {"rows": rows, "other": other}, columns


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _encode(value: Any, where: str) -> dict[str, Any]:
    """Return a whole attribute as plain values."""
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex():
        return {"tensor": value.tolist(), "dtype": _dtype(value), "shape": list(value.shape)}
    if not _is_plain(value):
        kind = type(value).__name__
        raise ValueError(f"{where} has no form of plain values (got {kind}): delete it, or make it a dense tensor")
    return {"value": value}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(entry) for entry in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(entry) for key, entry in value.items())
    return value is None or isinstance(value, str | int | float | bool)


def named(attrs: Mapping[str, Any], group: str, *keys: tuple[str, Any]) -> dict[str, Any]:
    """Return the attributes of a node or an edge with further ones, whose names must be free."""
    for key, _ in keys:
        if key in attrs:
            raise ValueError(f"attribute '{key}' of '{group}' is called as one that this form needs: rename it first")
    return {**dict(keys), **attrs}


def group_of(attrs: dict[str, Any], key: str, default: str, where: str) -> str:
    """Take out of the attributes the one that names the modality or the relation."""
    group = attrs.pop(key, default)
    if not isinstance(group, str) or not group:
        raise ValueError(f"{where}: attribute '{key}' must be a string that is not empty (got {group!r:.100})")
    return group
