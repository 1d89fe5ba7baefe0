from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from hyperlearn_pyg.nn.models.inputs import BranchInputs

#: What an encoder may ask for, by the name of a parameter of its ``forward``.
SUPPLIES = (
    "x",
    "num_items",
    "edge_index",
    "edge_weight",
    "laplacian",
    "incidences",
    "keep",
    "hyperedge_index",
    "num_edges",
)


class Branch(Module):
    """One modality of a HyperLearn model: an encoder, and the biases of the modality's items.

    The encoder may be any module. The parameters of its ``forward`` are filled by name: ``x`` (the item features;
    a learnt table where there are none and the encoder cannot do without), ``edge_index`` and ``edge_weight`` (the
    intra-modal graph), ``laplacian`` (its normalised Laplacian), ``incidences`` and ``keep`` (the training relation
    as hyperedges over the modality, one of each per channel), ``hyperedge_index`` and ``num_edges`` (the same as one
    plain hypergraph), ``num_items``.

    Args:
        encoder: gives ``[N, rank]``, or ``[N, rank + num_biases]``.
        num_items: number of items ``N``.
        rank: width of the factors.
        num_biases: number of relations that the modality has a bias in.
        table: width of the learnt table that stands for missing features; 0 for none.
    """

    def __init__(self, encoder: Module, num_items: int, rank: int, num_biases: int, table: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.rank = rank
        self.bias = Parameter(torch.zeros(num_items, num_biases))
        self.table = Parameter(torch.empty(num_items, table)) if table else None
        self.wanted = _wanted(encoder)
        if self.table is not None:
            torch.nn.init.normal_(self.table, std=0.1)

    def forward(self, inputs: BranchInputs, keep: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the factors and the biases, ``[N, rank + num_biases]``.

        Args:
            inputs: what the modality's encoder may read.
            keep: for each relation the entries ``[E]`` that carry messages (1) or not (0); all where absent.

        Raises:
            ValueError: the encoder returned another shape.
        """
        out = self.encoder(**{name: self._supply(name, inputs, keep or {}) for name in self.wanted})
        num_items, num_biases = self.bias.shape
        if out.shape == (num_items, self.rank + num_biases):
            return torch.cat([out[:, : self.rank], out[:, self.rank :] + self.bias], dim=1)
        if out.shape != (num_items, self.rank):
            raise ValueError(
                f"the encoder {type(self.encoder).__name__} must return shape [{num_items}, {self.rank}] "
                f"(got {list(out.shape)}): set its output width to 'rank'"
            )
        return torch.cat([out, self.bias.to(out.dtype)], dim=1)

    def _supply(self, name: str, inputs: BranchInputs, keep: Mapping[str, Tensor]) -> Any:
        if name == "x":
            return self.table if self.table is not None else inputs.x
        if name in ("num_items", "edge_index", "edge_weight", "laplacian"):
            return getattr(inputs, name)
        if name == "incidences":
            return [channel.incidence for channel in inputs.channels]
        if name == "keep":
            return [keep.get(channel.relation) for channel in inputs.channels]
        if name == "num_edges":
            return sum(channel.incidence.size[1] for channel in inputs.channels)
        return _hyperedge_index(inputs, keep)


def needs(encoder: Module) -> set[str]:
    """Return the names among :data:`SUPPLIES` that an encoder's ``forward`` asks for."""
    return set(_wanted(encoder))


def _wanted(encoder: Module) -> tuple[str, ...]:
    parameters = inspect.signature(encoder.forward).parameters
    wanted = tuple(name for name in parameters if name in SUPPLIES)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [
        name
        for name, p in parameters.items()
        if name not in SUPPLIES and p.default is inspect.Parameter.empty and p.kind not in kinds
    ]
    if missing:
        raise ValueError(
            f"the encoder {type(encoder).__name__} asks for {missing}, which no modality has; "
            f"known parameter names: {list(SUPPLIES)}"
        )
    if not wanted and any(p.kind in kinds for p in parameters.values()):  # a chain of layers, say
        raise ValueError(
            f"the encoder {type(encoder).__name__} names nothing that a modality has in its 'forward'; wrap it in a "
            f"module whose forward does. Known parameter names: {list(SUPPLIES)}"
        )
    return wanted


def _hyperedge_index(inputs: BranchInputs, keep: Mapping[str, Tensor]) -> Tensor:
    parts, offset = [torch.empty(2, 0, dtype=torch.long, device=inputs.edge_index.device)], 0
    for channel in inputs.channels:
        index = channel.incidence.index.long()
        mask = keep.get(channel.relation)
        index = index if mask is None else index[:, mask.bool()]
        parts.append(torch.stack([index[0], index[1] + offset]))
        offset += channel.incidence.size[1]
    return torch.cat(parts, dim=1)
