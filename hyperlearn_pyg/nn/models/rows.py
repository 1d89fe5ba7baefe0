from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hyperlearn_pyg.nn.models.inputs import RelationSpec


def relations_of(modality: str, relations: Mapping[str, RelationSpec]) -> list[str]:
    """Return the relations that a modality takes part in, in order."""
    return [name for name, spec in relations.items() if modality in spec.modalities]


def slot_rows(
    table: Tensor, relations: Mapping[str, RelationSpec], relation: str, slot: int, *, rank: int, bias: bool
) -> Tensor:
    """Return what a decoder reads of the table of a modality for one slot: factors, and the relation's bias.

    Args:
        table: ``[N, rank + number of biases]`` or, where roles have factors of their own, those of the second and later
            slots of the modality behind them. A modality without such a block shares its factors.
        relations: all relations of the model.
        relation: the relation.
        slot: the slot.
        rank: width of the factors.
        bias: there are biases.

    Returns:
        ``[N, rank + 1]``; ``[N, rank]`` without biases.
    """
    modalities = relations[relation].modalities
    modality, factors = modalities[slot], table[:, :rank]
    names = relations_of(modality, relations) if bias else []
    turn = modalities[:slot].count(modality)
    start = rank + len(names) + (turn - 1) * rank
    if turn and table.size(1) >= start + rank:
        factors = table[:, start : start + rank]
    elif table.size(1) == rank + len(names) == rank + 1:
        return table
    if not bias:
        return factors
    at = rank + names.index(relation)
    return torch.cat([factors, table[:, at : at + 1]], dim=1)
