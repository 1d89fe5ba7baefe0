from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class RelationBatch:
    """Some tuples of one relation, and negatives of each; ``k`` slots, ``B`` tuples (perhaps none), ``n`` negatives.

    Attributes:
        relation: the name of the relation.
        modalities: the modality of each slot.
        index: item indices ``[k, B]``.
        tuple_id: the position of each tuple in the relation ``[B]``, for any attribute that is not here.
        value: ``[B]``, or :obj:`None` for a 0/1 relation.
        weight: hyperedge weights ``[B]``, or :obj:`None` where all are one.
        time: ``[B]``, or :obj:`None`.
        negatives: item indices ``[k, B, n]``, or :obj:`None` where none were asked for.
        negative_mask: which negatives are there, bool ``[B, n]``: a tuple may have none, and then stands in their
            place itself. ``batch.negatives[:, batch.negative_mask]`` is ``[k, number of negatives]``.
    """

    relation: str
    modalities: tuple[str, ...]
    index: Tensor
    tuple_id: Tensor
    value: Tensor | None = None
    weight: Tensor | None = None
    time: Tensor | None = None
    negatives: Tensor | None = None
    negative_mask: Tensor | None = None

    def __len__(self) -> int:
        return self.index.size(1)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Return the batch with all tensors on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return the batch with all tensors in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        changes: dict[str, Any] = {name: function(tensor) for name, tensor in self._tensors().items()}
        return replace(self, **changes)

    def _tensors(self) -> dict[str, Tensor]:
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: entry for name, entry in named if isinstance(entry, Tensor)}

    def __repr__(self) -> str:
        shapes = [f"{name}={list(tensor.shape)}" for name, tensor in self._tensors().items()]
        return f"{type(self).__name__}({', '.join([repr(self.relation), *shapes])})"
