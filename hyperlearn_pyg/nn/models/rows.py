from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hyperlearn_pyg.nn.models.inputs import RelationSpec


def relations_of(modality: str, relations: Mapping[str, RelationSpec]) -> list[str]:
    """Return the relations that a modality takes part in, in order."""
    return [name for name, spec in relations.items() if modality in spec.modalities]


def roles_of(modality: str, relations: Mapping[str, RelationSpec]) -> list[str]:
    """Return the different roles that a modality plays in some relations, in order, each by the name of its slot.

    Slots of one name are one role, in whatever relations; where slots have no names, those of one place are.
    """
    names = [_role(spec, s) for spec in relations.values() for s, m in enumerate(spec.modalities) if m == modality]
    return list(dict.fromkeys(names))


def _role(spec: RelationSpec, slot: int) -> str:
    if spec.slots:
        return spec.slots[slot]
    modality = spec.modalities[slot]
    turn = spec.modalities[:slot].count(modality)
    return f"{modality}.{turn}" if turn else modality


def table_rows(
    tables: Mapping[str, Tensor], relations: Mapping[str, RelationSpec], relation: str, *, rank: int, bias: bool
) -> list[Tensor]:
    """Return :func:`slot_rows` of every slot of a relation, each table cut once: one gradient of its size, not many."""
    modalities = relations[relation].modalities
    parts = {m: _cut(tables[m], relations, m, rank, bias) for m in dict.fromkeys(modalities)}
    return [_pick(tables[m], parts[m], relations, relation, slot, rank, bias) for slot, m in enumerate(modalities)]


def slot_rows(
    table: Tensor, relations: Mapping[str, RelationSpec], relation: str, slot: int, *, rank: int, bias: bool
) -> Tensor:
    """Return what a decoder reads of the table of a modality for one slot: factors, and the relation's bias.

    Args:
        table: ``[N, rank + number of biases]`` or, where roles have factors of their own, those of the second and later
            roles of the modality behind them, see :func:`roles_of`. A role without such a block reads the first.
        relations: all relations of the model.
        relation: the relation.
        slot: the slot.
        rank: width of the factors.
        bias: there are biases.

    Returns:
        ``[N, rank + 1]``; ``[N, rank]`` without biases.
    """
    parts = _cut(table, relations, relations[relation].modalities[slot], rank, bias)
    return _pick(table, parts, relations, relation, slot, rank, bias)


def _cut(
    table: Tensor, relations: Mapping[str, RelationSpec], modality: str, rank: int, bias: bool
) -> tuple[Tensor, ...]:
    """Cut a table into factors, each bias, and the factors of each further role."""
    known = len(relations_of(modality, relations)) if bias else 0
    roles, rest = divmod(table.size(1) - rank - known, rank)
    parts: tuple[Tensor, ...] = table.split([rank, *[1] * known, *[rank] * roles, *[rest] * (rest > 0)], dim=1)
    return parts


def _pick(
    table: Tensor,
    parts: Sequence[Tensor],
    relations: Mapping[str, RelationSpec],
    relation: str,
    slot: int,
    rank: int,
    bias: bool,
) -> Tensor:
    modalities = relations[relation].modalities
    names = relations_of(modalities[slot], relations) if bias else []
    turn, factors = roles_of(modalities[slot], relations).index(_role(relations[relation], slot)), parts[0]
    if turn and table.size(1) >= rank * (turn + 1) + len(names):
        factors = parts[len(names) + turn]
    elif table.size(1) == rank + len(names) == rank + 1:
        return table
    return torch.cat([factors, parts[1 + names.index(relation)]], dim=1) if bias else factors
