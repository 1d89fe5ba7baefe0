from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn import functional as F
from torch_geometric.nn.parameter_dict import ParameterDict

from hyperlearn_pyg.nn.models.inputs import BranchInputs, MessageChannel
from hyperlearn_pyg.ops.cache import TensorCache

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
        relations: the relations that the encoder was made for, one a bias: it reads the channels of no other; those of
            the inputs where absent.
        num_roles: number of roles that the modality plays, with factors of their own: those of the first are the
            encoder's; each other one adds a table to them.
        independent: the table of each other role is all there is of its factors: it adds nothing to the encoder's.
        dropout: dropout probability of these tables; an encoder sees to its own.

    Attributes:
        added: the biases ``[N, 1]`` of relations that came later, by relation, see :meth:`add_bias`.
    """

    def __init__(
        self,
        encoder: Module,
        num_items: int,
        rank: int,
        num_biases: int,
        table: int = 0,
        relations: Sequence[str] | None = None,
        num_roles: int = 1,
        dropout: float = 0.0,
        independent: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rank = rank
        self.dropout = dropout
        self.independent = independent
        self.relations = None if relations is None else tuple(relations)
        self.bias = Parameter(torch.zeros(num_items, num_biases))
        self.added = ParameterDict()
        self.table = Parameter(torch.empty(num_items, table)) if table else None
        self.roles = Parameter(torch.empty(num_items, (num_roles - 1) * rank)) if num_roles > 1 else None
        self.wanted = _wanted(encoder)
        if self.roles is not None:
            torch.nn.init.normal_(self.roles, std=0.1)
        if self.table is not None:
            torch.nn.init.normal_(self.table, std=0.1)

    def forward(self, inputs: BranchInputs, keep: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the factors and the biases, ``[N, rank + num_biases]``, those of relations added later last.

        Where roles have factors of their own, those of the second and later ones follow, ``rank`` columns each.

        Args:
            inputs: what the modality's encoder may read.
            keep: for each relation the entries ``[E]`` that carry messages (1) or not (0); all where absent.

        Raises:
            ValueError: the encoder returned another shape.
        """
        out = self.encoder(**{name: self._supply(name, inputs, keep or {}) for name in self.wanted})
        num_items, num_biases = self.bias.shape
        if out.shape not in ((num_items, self.rank), (num_items, self.rank + num_biases)):
            raise ValueError(
                f"the encoder {type(self.encoder).__name__} must return shape [{num_items}, {self.rank}] "
                f"(got {list(out.shape)}): set its output width to 'rank'"
            )
        factors, heads = out[:, : self.rank], out[:, self.rank :]
        bias = heads + self.bias if heads.size(1) else self.bias.to(out.dtype)
        added = [bias.to(out.dtype) for bias in self.added.values()]
        if self.roles is not None:
            own = F.dropout(self.roles, self.dropout, self.training)
            shared = 0 if self.independent else factors.repeat(1, self.roles.size(1) // self.rank)
            added.append(own + shared)
        return torch.cat([factors, bias, *added], dim=1)

    @property
    def num_biases(self) -> int:
        """Number of columns of biases, later ones counted."""
        return self.bias.size(1) + len(self.added)

    @property
    def width(self) -> int:
        """Number of columns of the output: factors, biases, factors of further roles."""
        return self.rank + self.num_biases + (0 if self.roles is None else self.roles.size(1))

    def add_bias(self, relation: str) -> None:
        """Append a bias, zero at first, for a relation that the encoder was not made for and does not read."""
        zeros = torch.zeros(self.bias.size(0), 1, dtype=self.bias.dtype, device=self.bias.device)
        self.added[relation] = Parameter(zeros)

    def bias_of(self, relation: str) -> Tensor:
        """Return the biases ``[N]`` of a relation, a view."""
        if relation in self.added:
            added: Tensor = self.added[relation]
            return added.select(1, 0)
        return self.bias.select(1, (self.relations or ()).index(relation))

    def read_relations(self) -> tuple[str, ...]:
        """Return the relations whose entries the encoder reads as messages."""
        reads = set(self.wanted) & {"incidences", "hyperedge_index", "num_edges"}
        return (self.relations or ()) if reads else ()

    def _channels(self, inputs: BranchInputs) -> list[MessageChannel]:
        return [c for c in inputs.channels if self.relations is None or c.relation in self.relations]

    def _supply(self, name: str, inputs: BranchInputs, keep: Mapping[str, Tensor]) -> Any:
        if name == "x":
            return self.table if self.table is not None else inputs.x
        if name in ("num_items", "edge_index", "edge_weight", "laplacian"):
            return getattr(inputs, name)
        channels = self._channels(inputs)
        if name == "incidences":
            return [channel.incidence for channel in channels]
        if name == "keep":
            return [keep.get(channel.relation) for channel in channels]
        if name == "num_edges":
            return sum(channel.incidence.size[1] for channel in channels)
        return _hyperedge_index(channels, keep, inputs.edge_index.device)


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


def _hyperedge_index(channels: Sequence[MessageChannel], keep: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """Return the entries that carry messages as one index, the same tensor for the same ``keep``.

    So what a layer derives from it (its compressed incidence) is made once an epoch, whatever the steps.
    """
    if not channels:
        return torch.empty(2, 0, dtype=torch.long, device=device)
    masks = [keep.get(channel.relation) for channel in channels]
    if torch.compiler.is_compiling():
        return _join(channels, masks)
    indices = [channel.incidence.index for channel in channels]
    key = tuple((channel.incidence.size, mask is None) for channel, mask in zip(channels, masks, strict=True))
    watched = (*indices, *(mask for mask in masks if mask is not None))
    return _JOINED.get(watched, key, lambda: _join(channels, masks))


def _join(channels: Sequence[MessageChannel], masks: Sequence[Tensor | None]) -> Tensor:
    parts, offset = [], 0
    for channel, mask in zip(channels, masks, strict=True):
        index = channel.incidence.index.long()
        index = index if mask is None else index[:, mask.bool()]
        parts.append(torch.stack([index[0], index[1] + offset]))
        offset += channel.incidence.size[1]
    return torch.cat(parts, dim=1)


_JOINED: TensorCache[Tensor] = TensorCache()
