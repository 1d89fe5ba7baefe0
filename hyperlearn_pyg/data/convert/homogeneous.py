from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._checks import check_bound, check_shape
from hyperlearn_pyg.data._members import slot_edge_type
from hyperlearn_pyg.data.convert._space import NodeSpace, named_relations, rowed, take_rows, warn_of_loss
from hyperlearn_pyg.data.relation import is_membership

#: The modality, the hyperedge set and the slot of a homogeneous hypergraph.
NODE, HYPEREDGE = "node", "hyperedge"
MEMBERS = slot_edge_type(NODE, HYPEREDGE)


def to_homogeneous_hypergraph(
    data: MultiModalHeteroData, *, relations: Sequence[str] | None = None
) -> MultiModalHeteroData:
    """Put the items of all modalities into one modality ``node``, and all relations into one hyperedge set.

    (``data.to_homogeneous()`` keeps the meaning that PyG gives it: the graph of all node types and edge types.)

    Args:
        data: the data; edges that are not memberships, and attributes of the data as a whole, are left out.
        relations: the relations to take, in this order; :obj:`None` for all.

    Returns:
        Data with the modality ``node``, the hyperedge set ``hyperedge`` and the one slot
        ``("node", "member", "hyperedge")``. Items stand modality by modality, hyperedges relation by relation, and the
        way back is written beside them: ``node_type [N]``, ``hyperedge_type [E]`` and, for each membership,
        ``slot [nnz]`` count the entries of the lists ``node_type_names``, ``hyperedge_type_names`` and ``slot_names``
        (membership edge types, as lists). Attributes that all modalities have in one form are stacked, and so for
        relations; the others are left out. ``item_id`` becomes ``"user/u1"``. Memberships without ``edge_weight`` weigh
        one where others have it.

    Warns:
        UserWarning: something of the data is left out; the text lists what.

    Raises:
        ValueError: no such relation, a string for the list of relations, a missing count.
    """
    out, lost = homogeneous(data, data.hyperedge_types if relations is None else named_relations(relations))
    warn_of_loss(lost, "the homogeneous hypergraph", 2)
    return out


def homogeneous(data: MultiModalHeteroData, sets: list[str]) -> tuple[MultiModalHeteroData, list[str]]:
    """Return the homogeneous hypergraph of some relations, and what of the data it lacks."""
    slots = [slot for name in sets for slot in data.relation(name).slots]
    space, edges = NodeSpace.of(data, data.modalities), NodeSpace.of(data, sets)
    index, slot_of = _stack_memberships(data, slots, space, edges)
    rows, edge_rows = space.shared_rows(data), edges.shared_rows(data)
    lost = edges_and_globals(data)
    for names, kept in ((space.names, rows), (edges.names, edge_rows)):
        lost += [f"'{key}' of '{name}'" for name in names for key in data[name] if key not in (*kept, "num_nodes")]
    lost += [f"'{key}' of {s}" for s in slots for key in data[s] if key not in ("edge_index", "edge_weight")]
    if "item_id" in rows:
        owner = [name for name, size in zip(space.names, space.sizes, strict=True) for _ in range(size)]
        rows["item_id"] = [f"{name}/{item}" for name, item in zip(owner, rows["item_id"], strict=True)]
    out = MultiModalHeteroData()
    out.add_modality(NODE, num_nodes=space.num_nodes)
    out[NODE].update({**rows, "node_type": space.node_type(index.device)})
    out.add_hyperedges(HYPEREDGE, {NODE: index}, num_hyperedges=edges.num_nodes)
    out[HYPEREDGE].update({**edge_rows, "hyperedge_type": edges.node_type(index.device)})
    out[MEMBERS].slot = slot_of
    if any("edge_weight" in data[slot] for slot in slots):
        ones = [torch.ones(data[slot].edge_index.size(1), device=index.device) for slot in slots]
        out[MEMBERS].edge_weight = torch.cat(
            [data[slot].get("edge_weight", one) for slot, one in zip(slots, ones, strict=True)]
        )
    out.node_type_names, out.hyperedge_type_names = list(space.names), sets
    out.slot_names = [list(slot) for slot in slots]
    return out, lost


def edges_and_globals(data: MultiModalHeteroData, *, attributes: bool = True) -> list[str]:
    """Return the edges that are no memberships and the attributes of the data as a whole, in words."""
    out = [f"edges {edge_type}" for edge_type in data.edge_types if not is_membership(edge_type)]
    return out + [f"'{key}' of the data" for key in data._global_store if attributes]


def from_homogeneous_hypergraph(data: MultiModalHeteroData) -> MultiModalHeteroData:
    """Take a homogeneous hypergraph apart into modalities and relations.

    It is the way back from :func:`to_homogeneous_hypergraph`, but for what that has left out.

    Items of one type need not stand together; their order stays. A hypergraph of other origin needs only ``node_type``:
    without ``hyperedge_type`` there is one relation ``hyperedge``; without ``slot``, a relation has one slot for each
    type of its members; without the lists of names, types are called by their numbers.

    Args:
        data: data with one modality and one hyperedge set of one slot.

    Returns:
        Data with a modality for each node type and a relation for each hyperedge type, and with the attributes that
        have one row an item or a hyperedge.

    Raises:
        ValueError: the data is of another form, a type or slot lies beyond its list of names, or the slot of a
            membership does not fit its item or hyperedge.
    """
    node, members, hyperedge = _parts(data)
    edge_index, count = data[members].edge_index, int(data[hyperedge].num_nodes)
    node_type = _types(data[node].get("node_type"), "node_type", int(data[node].num_nodes))
    one_type = torch.zeros(count, dtype=torch.long, device=edge_index.device)
    edge_type = _types(data[hyperedge].get("hyperedge_type", one_type), "hyperedge_type", count)
    modalities = _names(data.get("node_type_names"), node_type, "node_type")
    sets = _names(data.get("hyperedge_type_names"), edge_type, "hyperedge_type")
    out = MultiModalHeteroData()
    place = _split_rows(data, node, node_type, modalities, "node_type", out)
    rank = _split_rows(data, hyperedge, edge_type, sets, "hyperedge_type", out)
    kinds = torch.stack([node_type[edge_index[0]], edge_type[edge_index[1]]])
    slot_of, slots = _slots(data, members, kinds, modalities, sets)
    for i, slot in enumerate(slots):
        chosen = (slot_of == i).nonzero().view(-1)
        _check_kinds(kinds, chosen, slot, modalities, sets)
        item, edge = edge_index[:, chosen]
        out[slot].edge_index = torch.stack([place[item], rank[edge]])
        if "edge_weight" in data[members]:
            out[slot].edge_weight = data[members].edge_weight[chosen]
    return out


def _stack_memberships(
    data: MultiModalHeteroData, slots: list[EdgeType], space: NodeSpace, edges: NodeSpace
) -> tuple[Tensor, Tensor]:
    """Return the memberships of several slots in the numbering of the spaces, and the position of the slot of each."""
    offset, shift = space.offsets, edges.offsets
    parts = [data[slot].edge_index for slot in slots]
    like = parts[0] if parts else torch.empty(2, 0, dtype=torch.long)
    moved = [p + p.new_tensor([[offset[s[0]]], [shift[s[2]]]]) for p, s in zip(parts, slots, strict=True)]
    slot_of = [p.new_full((p.size(1),), i) for i, p in enumerate(parts)]
    return torch.cat([*moved, like[:, :0]], dim=1), torch.cat([*slot_of, like[0, :0]])


def _parts(data: MultiModalHeteroData) -> tuple[str, EdgeType, str]:
    modalities, sets = data.modalities, data.hyperedge_types
    if len(modalities) != 1 or len(sets) != 1 or len(slots := data.relation(sets[0]).slots) != 1:
        raise ValueError(
            f"a homogeneous hypergraph has one modality and one hyperedge set of one slot (got modalities {modalities} "
            f"and hyperedge sets {sets}): make it with 'to_homogeneous_hypergraph'"
        )
    if "node_type" not in data[modalities[0]]:
        raise ValueError(f"'node_type' of modality '{modalities[0]}' is missing: it says which item is of which type")
    return modalities[0], slots[0], sets[0]


def _types(types: Any, name: str, size: int) -> Tensor:
    if not isinstance(types, Tensor) or types.is_floating_point():
        raise ValueError(f"'{name}' must be a tensor of integers (got {type(types).__name__})")
    check_shape(types, (size,), f"'{name}'")
    return types.long()


def _names(names: Any, types: Tensor, key: str) -> list[str]:
    """Return the names of the types, or their numbers; a single hyperedge type without a name is ``hyperedge``."""
    if names is None:
        count = int(types.max()) + 1 if types.numel() else 0
        names = [HYPEREDGE] if key == "hyperedge_type" and count <= 1 else [f"{key}_{i}" for i in range(count)]
    check_bound(types, len(names), f"'{key}' (names: {names})")
    return list(names)


def _split_rows(
    data: MultiModalHeteroData, source: str, types: Tensor, names: list[str], key: str, out: MultiModalHeteroData
) -> Tensor:
    """Fill a store of ``out`` for each type; return the position of each node within its type."""
    place = torch.empty_like(types)
    size = types.numel()
    for i, name in enumerate(names):
        chosen = (types == i).nonzero().view(-1)
        place[chosen] = torch.arange(chosen.numel(), device=types.device)
        out[name].num_nodes = chosen.numel()
        for attribute, value in data[source].items():
            if attribute not in (key, "num_nodes") and rowed(value, size):
                out[name][attribute] = take_rows(value, chosen)
        if "item_id" in out[name]:
            out[name].item_id = [item.removeprefix(f"{name}/") for item in out[name].item_id]
    return place


def _slots(
    data: MultiModalHeteroData, members: EdgeType, kinds: Tensor, modalities: list[str], sets: list[str]
) -> tuple[Tensor, list[EdgeType]]:
    """Return the position of the slot of each membership, and the slots."""
    slot_of, names = data[members].get("slot"), data.get("slot_names")
    if slot_of is not None and names is not None:
        slot_of = _types(slot_of, "slot", kinds.size(1))
        check_bound(slot_of, len(names), f"'slot' (names: {names})")
        return slot_of, [(m, role, name) for m, role, name in names]
    pairs, slot_of = torch.unique(kinds.flip(0), dim=1, return_inverse=True)
    return slot_of, [slot_edge_type(modalities[m], sets[at]) for at, m in pairs.t().tolist()]


def _check_kinds(kinds: Tensor, chosen: Tensor, slot: EdgeType, modalities: list[str], sets: list[str]) -> None:
    if slot[0] not in modalities or slot[2] not in sets:
        raise ValueError(f"'slot_names': {slot} names no modality of {modalities}, or no relation of {sets}")
    expected = kinds.new_tensor([[modalities.index(slot[0])], [sets.index(slot[2])]])
    wrong = (kinds[:, chosen] != expected).any(dim=0)
    if bool(wrong.any()):
        at = int(chosen[wrong][0])
        m, name = modalities[int(kinds[0, at])], sets[int(kinds[1, at])]
        raise ValueError(f"membership {at} is of slot {slot}, but its item is of '{m}' and its hyperedge of '{name}'")
