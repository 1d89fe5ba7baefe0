from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data._marks import seen_key
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.data._rows import forget_graphs
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.errors import did_you_mean


def check_choice(value: Any, choices: Iterable[str], where: str) -> None:
    """Check that an argument is one of a few words."""
    known = list(choices)
    if value not in known:
        hint = did_you_mean(value, known) if isinstance(value, str) else ""
        raise ValueError(f"'{where}' must be one of {known} (got {value!r}).{hint}")


def check_probability(p: float) -> None:
    """Check that ``p`` lies in ``[0, 1]``."""
    if not 0 <= p <= 1:
        raise ValueError(f"'p' must be in [0, 1] (got {p})")


def check_sizes(smallest: int, largest: int | None) -> None:
    """Check the bounds of the sizes of hyperedges."""
    if smallest < 1 or (largest is not None and largest < smallest):
        raise ValueError(f"'min_size' must be at least 1, and at most 'max_size' (got {smallest} and {largest})")


def modality_names(data: MultiModalHeteroData, wanted: str | Iterable[str] | None) -> list[str]:
    """Return the modalities that an argument names; all for :obj:`None`."""
    known = data.modalities
    if wanted is None:
        return known
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in known:
            raise ValueError(f"there is no modality {name!r} (modalities: {known}).{did_you_mean(name, known)}")
    return names


def modalities_with(data: MultiModalHeteroData, attribute: str, where: str, others: Iterable[str] = ()) -> list[str]:
    """Return the modalities that have an attribute; an error where none of them has.

    Args:
        data: the data; without modalities nothing is missing.
        attribute: the attribute.
        where: the argument that asks for it, as the error calls it.
        others: what else the argument may be.
    """
    names = [name for name in data.modalities if attribute in data[name]]
    if data.modalities and not names:
        there = {name: [key for key in data[name] if key != "num_nodes"] for name in data.modalities}
        hint = did_you_mean(attribute, [*others, *(key for keys in there.values() for key in keys)])
        raise ValueError(f"{where}: no modality has the attribute {attribute!r} (attributes: {there}).{hint}")
    return names


def relation_names(data: MultiModalHeteroData, wanted: str | Iterable[str] | None) -> list[str]:
    """Return the relations that an argument names; all for :obj:`None`."""
    if wanted is None:
        return data.hyperedge_types
    return [data.relation(name).name for name in ([wanted] if isinstance(wanted, str) else wanted)]


def find_slots(relation: Relation, slot: Slot) -> list[int]:
    """Return the slots that a modality fills, or the one of a pair (modality, role).

    Raises:
        ValueError: the relation has no such slot.
    """
    every = list(zip(relation.modalities, relation.roles, strict=True))
    found = [i for i, (m, r) in enumerate(every) if (m == slot if isinstance(slot, str) else (m, r) == tuple(slot))]
    if not found:
        name = slot if isinstance(slot, str) else slot[0]
        known = relation.modalities if not any(relation.roles) else tuple(every)
        hint = did_you_mean(name, relation.modalities)
        what = "modality" if isinstance(slot, str) else "slot"
        hint = hint if isinstance(slot, str) or name not in relation.modalities else ""
        raise ValueError(f"relation '{relation.name}' has no {what} {slot!r} {known}.{hint}")
    return found


def find_slot(relation: Relation, slot: Slot) -> int:
    """Return the one slot that a modality, or a pair (modality, role), fills."""
    found = find_slots(relation, slot)
    if len(found) > 1:
        roles = [(relation.modalities[i], relation.roles[i]) for i in found]
        raise ValueError(f"{slot!r} fills several slots of relation '{relation.name}': name one of {roles}")
    return found[0]


def held_out(data: MultiModalHeteroData, name: str) -> Tensor | None:
    """Return which hyperedges of a set are for validation or test, bool ``[E]``; :obj:`None` without such masks."""
    masks = [data[name][f"{split}_mask"] for split in ("val", "test") if f"{split}_mask" in data[name]]
    return torch.stack(masks).any(dim=0) if masks else None


def training_mask(data: MultiModalHeteroData, name: str) -> Tensor:
    """Return which hyperedges of a set are for training, bool ``[E]``: all of them where it has no masks."""
    mask = torch.zeros(len(data.relation(name)), dtype=torch.bool, device=data.relation(name).incidence(0).device)
    return mask.index_fill_(0, split_positions(data, name, ("train",)), True)


def note_seen(data: MultiModalHeteroData, relation: Relation, graph: str | EdgeType, seen: Tensor) -> None:
    """Let a relation remember which of its hyperedges went into a new graph, for :func:`check_leaks`."""
    data[relation.name][seen_key(graph)] = seen.clone()
    forget_graphs(data)


def replace_set(data: MultiModalHeteroData, name: str, mark: str) -> None:
    """Delete a hyperedge set that an earlier run of the transform made, told by its attribute ``mark``."""
    if name not in data.node_types:
        return
    if mark not in data[name]:
        raise ValueError(f"'{name}' is already present: choose another 'name'")
    data.remove_hyperedges(name)


def same_tuples(relation: Relation) -> Tensor:
    """Number the distinct hyperedges ``[E]``: two have one number when they have the same members in every slot.

    Sequences of members are halved round by round, each pair of neighbours becoming one number, so that the cost is
    that of sorting all incidences a few times, whatever the sizes of the hyperedges.
    """
    token, owner = _tokens(relation)
    count = len(relation)
    while True:
        degree = torch.bincount(owner, minlength=count)
        if token.numel() == 0 or int(degree.max()) <= 1:
            break
        position = torch.arange(owner.numel(), device=owner.device) - (degree.cumsum(0) - degree)[owner]
        even = (position % 2 == 0).nonzero().view(-1)
        second = token.new_full((even.numel(),), -1)
        paired = position[even] + 1 < degree[owner[even]]
        second[paired] = token[even[paired] + 1]
        token = torch.unique(token[even] * (int(token.max()) + 2) + second + 1, return_inverse=True)[1]
        owner = owner[even]
    label = torch.full((count,), -1, dtype=torch.long, device=token.device)
    label[owner] = token
    inverse: Tensor = torch.unique(label, return_inverse=True)[1]
    return inverse


def _tokens(relation: Relation) -> tuple[Tensor, Tensor]:
    """Return the members of all hyperedges as small numbers ``[nnz]``, sorted by hyperedge, and the hyperedges."""
    parts, offset = [], 0
    for slot, size in enumerate(relation.sizes):
        item, hyperedge = relation.incidence(slot)
        parts.append(torch.stack([item.long() + offset, hyperedge.long()]))
        offset += size
    token, owner = torch.cat(parts, dim=1)
    token, order = token.sort(stable=True)
    owner, again = owner[order].sort(stable=True)
    return torch.unique(token[again], return_inverse=True)[1], owner
