from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperlearn_pyg.data._checks import as_index, as_tensor, check_bound, check_finite
from hyperlearn_pyg.data.relation import MEMBER

#: A modality, or a modality and the role it plays.
Slot = str | tuple[str, str]


def slot_edge_type(slot: Any, name: str) -> tuple[str, str, str]:
    """Return the edge type of a slot ``'user'`` or ``('user', 'follower')`` of the set ``name``."""
    if isinstance(slot, str):
        return (slot, MEMBER, name)
    if isinstance(slot, tuple) and len(slot) == 2 and all(isinstance(part, str) and part for part in slot):
        return (slot[0], f"{MEMBER}:{slot[1]}", name)
    raise ValueError(f"a slot of '{name}' must be a modality or a pair (modality, role) (got {slot!r})")


def by_slot(members: Any, modalities: Sequence[Slot] | None, name: str) -> dict[tuple[str, str, str], Any]:
    """Return membership edge type -> members of that slot, from either form of ``members``."""
    if isinstance(members, Mapping):
        if modalities is not None:
            raise ValueError(f"'modalities' is for a tensor: the mapping of '{name}' names its slots itself")
        slots, rows = list(members), list(members.values())
    else:
        index = as_index(members, f"'members' of '{name}'")
        if index.dim() != 2:
            raise ValueError(f"'members' of '{name}' must be of shape [k, E] (got {list(index.shape)})")
        if modalities is None or isinstance(modalities, str) or len(modalities) != index.size(0):
            raise ValueError(
                f"'modalities' must name one modality for each of the {index.size(0)} rows of 'members' of "
                f"'{name}' (got {modalities!r})"
            )
        slots, rows = list(modalities), list(index)
    if not slots:
        raise ValueError(f"'members' of '{name}' must have at least one slot")
    edge_types = [slot_edge_type(slot, name) for slot in slots]
    for edge_type in edge_types:
        if edge_types.count(edge_type) > 1:
            m = edge_type[0]
            raise ValueError(f"two slots of '{name}' are both {edge_type}: name roles, as in ('{m}', 'follower')")
    return dict(zip(edge_types, rows, strict=True))


def count_of(members: Any) -> int | None:
    """Return the number of hyperedges that the members of a slot imply, if they do."""
    if isinstance(members, Tensor | np.ndarray):
        return len(members) if members.ndim == 1 else None
    return len(members) if isinstance(members, Sequence) else None


def to_edge_index(members: Any, *, num_items: int, num_hyperedges: int, where: str) -> Tensor:
    """Return the incidence ``[2, nnz]`` (item above hyperedge) of a slot, all indices checked."""
    if isinstance(members, Tensor | np.ndarray):
        index = as_index(members, where)
    elif isinstance(members, Sequence) and not isinstance(members, str):
        return _from_lists(members, num_items, where)
    else:
        raise ValueError(f"{where} must be a tensor or a list of lists (got {type(members).__name__})")
    if index.dim() == 1:
        check_bound(index, num_items, where)
        return torch.stack([index, torch.arange(num_hyperedges, device=index.device)])
    if index.dim() != 2 or index.size(0) != 2:
        raise ValueError(f"{where} must be of shape [E] or [2, nnz] (got {list(index.shape)})")
    check_bound(index[0], num_items, f"{where}, row 0 (items)")
    check_bound(index[1], num_hyperedges, f"{where}, row 1 (hyperedges)")
    return index.contiguous()


def _from_lists(members: Sequence[Any], num_items: int, where: str) -> Tensor:
    """One list of members a hyperedge; a bare index stands for a list of one."""
    rows = [row if isinstance(row, Tensor | np.ndarray | Sequence) else [row] for row in members]
    items = []
    for i, row in enumerate(rows):
        item = as_index(row, f"{where}, hyperedge {i}", bound=num_items).reshape(-1)
        items.append(item)
    counts = torch.tensor([item.numel() for item in items], dtype=torch.long)
    flat = torch.cat(items) if items else torch.empty(0, dtype=torch.long)
    return torch.stack([flat, torch.arange(len(rows)).repeat_interleave(counts)])


def incidence_weights(
    weight: Any, edge_index: Mapping[tuple[str, str, str], Tensor], name: str
) -> dict[tuple[str, str, str], Tensor]:
    """Return membership edge type -> weights ``[nnz]``, from a mapping by slot or one tensor ``[k, E]``."""
    if weight is None:
        return {}
    if isinstance(weight, Mapping):
        given = {slot_edge_type(slot, name): row for slot, row in weight.items()}
    else:
        rows = as_tensor(weight, f"'incidence_weight' of '{name}'")
        if rows.dim() != 2 or rows.size(0) != len(edge_index):
            raise ValueError(
                f"'incidence_weight' of '{name}' must be of shape [{len(edge_index)}, E] or a "
                f"mapping by slot (got {list(rows.shape)})"
            )
        given = dict(zip(edge_index, rows, strict=True))
    out = {}
    for edge_type, row in given.items():
        where = f"'incidence_weight' of slot {edge_type}"
        if edge_type not in edge_index:
            raise ValueError(f"{where}: there is no such slot (slots: {list(edge_index)})")
        tensor = as_tensor(row, where)
        tensor = tensor if tensor.is_floating_point() else tensor.float()
        nnz = edge_index[edge_type].size(1)
        if tuple(tensor.shape) != (nnz,):
            raise ValueError(f"{where} must have one entry a member: [{nnz}] (got {list(tensor.shape)})")
        check_finite(tensor, where)
        out[edge_type] = tensor
    return out
