from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data._checks import check_attribute
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.data.convert._space import named_relations, validated
from hyperlearn_pyg.data.relation import is_membership
from hyperlearn_pyg.errors import did_you_mean

#: Edge attributes and what they are called on hyperedges.
RENAMED = {"edge_attr": "x", "edge_weight": "weight"}
#: Roles of the two ends of an edge within a modality.
ENDS = ("source", "target")


def from_hetero(
    hetero: HeteroData,
    *,
    relations: Mapping[str, EdgeType] | Sequence[EdgeType | str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> MultiModalHeteroData:
    """Read a plain ``HeteroData`` as multimodal data; tensors are shared, the input is left alone.

    Membership edge types ``(modality, "member[:ROLE]", set)`` are what they are here. Other edge types stay edges, but
    those named in ``relations`` become relations of order 2, one hyperedge an edge. Where both ends are of one node
    type, the roles are ``source`` and ``target``.

    Args:
        hetero: the data; every node type must tell its number of nodes, by ``num_nodes``, ``x`` or ``item_id``.
        relations: the edge types to turn into relations: a mapping from the name of the new hyperedge set to the edge
            type, or a sequence, where the middle of the edge type is the name (and stands for the edge type where only
            one has it).
        rename: edge attribute -> attribute of the hyperedges, for instance ``{"edge_label": "value"}``; by default
            ``edge_weight`` becomes ``weight`` and ``edge_attr`` ``x``. Others keep their names.

    Raises:
        ValueError: an unknown edge type, a name that is taken, a missing count, or a fault that ``validate`` finds.
    """
    data: MultiModalHeteroData = MultiModalHeteroData.from_dict(hetero.to_dict())
    for name in data.node_types:
        _set_count(data, name)
    names = RENAMED if rename is None else rename
    for name, edge_type in _named(relations, data).items():
        _to_relation(data, name, edge_type, names)
    return validated(data)


def to_hetero_data(
    data: MultiModalHeteroData,
    *,
    relations: Mapping[str, EdgeType] | Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> HeteroData:
    """Return a plain ``HeteroData`` of the same stores; tensors are shared, the input is left alone.

    Args:
        data: the data.
        relations: relations of order 2, with one member in each slot, to turn into edge types: names, for the edge type
            ``(first modality, name, second modality)``, or a mapping from name to edge type. The others stay hyperedge
            sets with their memberships.
        rename: as for :func:`from_hetero`: edge attribute -> attribute of the hyperedges.

    Without ``relations``, :func:`from_hetero` gives the same data again. With them it does so but for two things that
    an edge type cannot say: roles (within a modality they come back as ``source`` and ``target``, else not at all), and
    the place of the relation among the node types and edge types.

    Raises:
        ValueError: no such relation, or one that is not of order 2, or ragged.
    """
    out: HeteroData = HeteroData.from_dict(data.to_dict())
    back = {new: old for old, new in (RENAMED if rename is None else rename).items()}
    chosen = relations if isinstance(relations, Mapping) else named_relations(relations or [])
    for name in chosen:
        view = data.relation(name)
        if view.order != 2:
            raise ValueError(f"relation '{name}' must be of order 2 to become an edge type (got order {view.order})")
        given = chosen[name] if isinstance(chosen, Mapping) else (view.modalities[0], name, view.modalities[1])
        edge_type = _free_edge_type(given, out)
        if (edge_type[0], edge_type[2]) != view.modalities:
            raise ValueError(f"edge type {edge_type} of relation '{name}' must join its modalities {view.modalities}")
        hyperedges_to_edges(out, view, edge_type, back)
    return out


def _set_count(data: MultiModalHeteroData, name: str) -> None:
    store = data[name]
    if store.get("num_nodes") is not None:
        return
    if store.can_infer_num_nodes:
        store.num_nodes = int(store.num_nodes)
    elif "item_id" in store:
        store.num_nodes = len(store.item_id)
    else:
        raise ValueError(f"'num_nodes' of '{name}' is missing and never guessed: set data['{name}'].num_nodes")


def _named(
    relations: Mapping[str, EdgeType] | Sequence[EdgeType | str] | None, data: MultiModalHeteroData
) -> dict[str, EdgeType]:
    """Return name of the new hyperedge set -> edge type."""
    if relations is None:
        return {}
    known = [t for t in data.edge_types if not is_membership(t)]
    if isinstance(relations, Mapping):
        pairs = [(name, _edge_type(given, known)) for name, given in relations.items()]
    else:
        if isinstance(relations, str):
            named_relations(relations)
        pairs = [(t[1], t) for t in (_edge_type(given, known) for given in relations)]
    for name, edge_type in pairs:
        if edge_type not in known:
            hint = did_you_mean(str(edge_type), map(str, known))
            raise ValueError(f"'relations': there is no edge type {edge_type} (edge types: {known}).{hint}")
        if [n for n, _ in pairs].count(name) > 1:
            raise ValueError(f"'relations': two edge types are called '{name}': pass a mapping from name to edge type")
    return dict(pairs)


def _edge_type(given: EdgeType | str, known: list[EdgeType]) -> EdgeType:
    """Return an edge type as it was given, or the only one whose middle is the given name."""
    if isinstance(given, str):
        fitting = [t for t in known if t[1] == given]
        if len(fitting) != 1:
            hint = "" if fitting else did_you_mean(given, [t[1] for t in known])
            count = len(fitting) or "no"
            raise ValueError(
                f"'relations': {given!r} is the middle of {count} edge types (edge types: {known}): give edge types, "
                f"such as {(fitting or known or [('user', 'rates', 'film')])[0]}.{hint}"
            )
        return fitting[0]
    edge_type = tuple(given)
    if len(edge_type) != 3:
        raise ValueError(
            f"'relations': an edge type has three names, such as ('user', 'rates', 'film') (got {given!r})"
        )
    return edge_type


def _to_relation(data: MultiModalHeteroData, name: str, edge_type: EdgeType, rename: Mapping[str, str]) -> None:
    attributes = edges_to_hyperedges(data, name, edge_type)
    where, size = f"of relation '{name}'", int(data[name].num_nodes)
    for key, value in attributes.items():
        new = rename.get(key, key)
        data[name][new] = check_attribute(new, value, f"'{new}' {where}", size=size)


def edges_to_hyperedges(data: MultiModalHeteroData, name: str, edge_type: EdgeType) -> dict[str, Any]:
    """Replace an edge type by a relation of order 2, in place; return the attributes of its edges."""
    attributes = dict(data[edge_type].items())
    edge_index = attributes.pop("edge_index", None)
    attributes.pop("num_edges", None)
    if not isinstance(edge_index, Tensor) or edge_index.layout != torch.strided or edge_index.dim() != 2:
        raise ValueError(f"edge type {edge_type} has no 'edge_index' tensor [2, M] to make hyperedges of")
    left, right = edge_type[0], edge_type[2]
    slots: list[Slot] = [(left, ENDS[0]), (right, ENDS[1])] if left == right else [left, right]
    del data[edge_type]  # first: PyG reads a name that is no node type yet as that of the edge type
    rows = edge_index.as_subclass(Tensor)
    data.add_hyperedges(name, dict(zip(slots, rows, strict=True)), num_hyperedges=edge_index.size(1))
    return attributes


def hyperedges_to_edges(data: HeteroData, relation: Relation, edge_type: EdgeType, rename: Mapping[str, str]) -> None:
    """Replace a relation of order 2 by an edge type in ``data``, which holds the same stores, in place."""
    index = relation.index
    attributes = {rename.get(key, key): value for key, value in data[relation.name].items() if key != "num_nodes"}
    for slot in relation.slots:
        del data[slot]
    del data[relation.name]
    data[edge_type].edge_index = index
    data[edge_type].update(attributes)


def _free_edge_type(edge_type: EdgeType, data: HeteroData) -> EdgeType:
    if len(edge_type) != 3 or is_membership(edge_type) or edge_type in data.edge_types:
        raise ValueError(f"{edge_type} is no free edge type: name another in a mapping from relation to edge type")
    return edge_type
