"""What a module must offer to be spread over devices by modality, and the tuples its methods speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

#: Name of a modality: a node type that holds items.
Modality: TypeAlias = str
#: Name of a hyperedge set, that is of a relation.
HyperedgeType: TypeAlias = str


@dataclass(frozen=True, eq=False)
class TupleBatch:
    """Tuples of one relation to be scored, and what their loss needs; any part of them is scored alike.

    Attributes:
        relation: name of the relation.
        modalities: the modality of each slot.
        index: ``[k, B]``: where each slot finds its row in the table of its modality.
        value: ``[B]``, or None for a 0/1 relation.
        weight: weight of each tuple ``[B]``, or None where all are one.
        candidates: for each slot the rows ``[n]`` of the items that stand for all others in a sampled loss; none where
            the loss draws none, ``[0]`` for a slot that is not predicted.
        mass: what the loss of the **whole** batch is divided by, so that the losses of its parts add up.
        cells: weight of the sum over all cells of the squared score; 0 for none.
        count: number of tuples of the **whole** batch: what is divided by it adds up too, whatever the weights.
        items: ``[k, B]``: the numbers of the items where ``index`` names rows of parts of the tables; ``index`` itself
            where absent.
        candidate_items: for each slot the numbers of the candidates, in the same case.
        slots: the slots that are predicted: their items alone are compared with candidates. All where absent.
        noise: seed of what the loss drops of the tuples, the same for all parts of the batch.
    """

    relation: HyperedgeType
    modalities: tuple[Modality, ...]
    index: Tensor
    value: Tensor | None = None
    weight: Tensor | None = None
    candidates: tuple[Tensor, ...] = ()
    mass: float | Tensor = 1.0
    cells: float = 0.0
    count: int = 1
    items: Tensor | None = None
    candidate_items: tuple[Tensor, ...] = ()
    slots: tuple[int, ...] | None = None
    noise: int = 0

    def __len__(self) -> int:
        return self.index.size(1)

    def named(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the numbers of the items ``[k, B]``, and those of the candidates of each slot."""
        if self.items is None:
            return self.index, self.candidates
        return self.items, self.candidate_items


@runtime_checkable
class ModalityModule(Protocol):
    """A module that can be spread over devices, one modality a device.

    ``encoders`` is a :class:`torch.nn.ModuleDict` by modality (PyG's takes any name). A method
    ``smoothness(name, factors, data)`` is used where there is one.
    """

    encoders: Any

    def encode(self, name: Modality, data: Any) -> Tensor:
        """Return the factors ``[N, C]`` of one modality; read nothing of another one."""
        ...

    def decode(self, rows: Mapping[Modality, Tensor], tuples: Any) -> Tensor:
        """Score ``tuples.index [k, B]`` of ``tuples.relation``; row ``tuples.index[s, b]`` of
        ``rows[tuples.modalities[s]]`` belongs to slot ``s`` of tuple ``b``. Returns ``[B, ...]``."""
        ...


@runtime_checkable
class LossModule(ModalityModule, Protocol):
    """A module that knows its loss as a sum over tuples and a sum over modalities."""

    def targets(self, data: Any, batch: Any = None, *, generator: Any = None) -> Iterable[TupleBatch]:
        """Return what a step is to predict; the same on every rank for generators in the same state."""
        ...

    def target_loss(self, rows: Mapping[Modality, Tensor], target: TupleBatch) -> Tensor:
        """Return the loss of some tuples without the cells; the losses of the parts of a batch add up."""
        ...

    def columns(self, relation: HyperedgeType, slot: int, factors: Tensor) -> Tensor:
        """Return the Kruskal columns ``[N, C]`` of a slot, for the loss over all cells."""
        ...

    def penalty(self, name: Modality, factors: Tensor, data: Any) -> Tensor:
        """Return the terms of the loss that one modality has alone."""
        ...
