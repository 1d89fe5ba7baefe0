from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import did_you_mean

#: A parameter in training: itself, its gradient and the two moments of Adam.
_KEPT_PER_PARAMETER = 4
#: Passes over a number in memory in a step: of a parameter (forward, gradient, Adam), of an edge's row, of an item's.
_PASSES_PARAMETER, _PASSES_EDGE, _PASSES_ITEM = 12, 6, 12
#: Hidden rows of an item that the backward pass finds again.
_KEPT_PER_ITEM = 8
#: A multiplication and an addition, forward and twice in the backward pass.
_FLOPS_PER_WEIGHT = 6
#: Both orders of an index of two 64-bit numbers.
_BYTES_PER_EDGE = 32


@dataclass(frozen=True)
class Machine:
    """What the estimates of a plan assume of a rank. Any number may be replaced by a measured one.

    Attributes:
        flops: floating point operations a second in products of matrices.
        memory_bandwidth: bytes a second between processor and memory.
        network_bandwidth: bytes a second that a rank sends.
        latency: seconds a message takes before its first byte.
        overhead: seconds a step of an encoder takes, however small it is.
    """

    flops: float = 4e10
    memory_bandwidth: float = 1.6e10
    network_bandwidth: float = 1e9
    latency: float = 1e-4
    overhead: float = 2e-4

    def __post_init__(self) -> None:
        for name in ("flops", "memory_bandwidth", "network_bandwidth"):
            if not getattr(self, name) > 0:
                raise ValueError(f"'{name}' must be positive (got {getattr(self, name)})")
        for name in ("latency", "overhead"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"'{name}' must be a number of seconds, at least 0 (got {getattr(self, name)})")


@dataclass(frozen=True)
class ModalityLoad:
    """What one modality asks of the rank that holds it.

    Attributes:
        name: the modality.
        items: number of its items.
        edges: number of edges and incidences that its encoder sums over.
        parameters: number of its trainable parameters.
        width: columns of its table of factors (and biases): what a row that is sent holds.
        memory: bytes it keeps in training: parameters, gradients, optimizer state, features, graph, activations.
        seconds: time of a forward and backward pass with its optimizer step.
        tensors: number of the tensors that its trainable parameters are in.
    """

    name: str
    items: int = 0
    edges: int = 0
    parameters: int = 0
    width: int = 0
    memory: int = 0
    seconds: float = 0.0
    tensors: int = 0

    def __post_init__(self) -> None:
        _check_counts(self)


@dataclass(frozen=True)
class RelationLoad:
    """What one relation asks of all ranks together in a step.

    Attributes:
        name: the relation.
        modalities: the modality of each slot.
        batch: number of tuples in a step, over all ranks.
        candidates: number of items of each slot that every rank with tuples reads besides (shared negatives).
        gram: side of the Gram matrix of each slot that is sent for a loss over all cells; 0 for none.
    """

    name: str
    modalities: tuple[str, ...]
    batch: int = 0
    candidates: int = 0
    gram: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", tuple(self.modalities))
        _check_counts(self)

    @property
    def order(self) -> int:
        """Number of slots."""
        return len(self.modalities)


def modality_seconds(
    *,
    items: int,
    edges: int,
    parameters: int,
    weights: int,
    hidden: int,
    machine: Machine,
    passes: int = 1,
    itemsize: int = 4,
) -> float:
    r"""Return the modelled seconds of a training step of one encoder.

    .. math::
        t = p\,t_0 + \frac{s\,(12 P + p\,(6 E + 12 N)\,h)}{\beta} + p\,\frac{6 N W}{\phi}

    with items :math:`N`, edges :math:`E`, parameters :math:`P`, those of them that act on every item :math:`W`, hidden
    width :math:`h`, :math:`p` passes, :math:`s` bytes a number, memory bandwidth :math:`\beta`, :math:`\phi`
    operations a second, and :math:`t_0` the overhead. Without items it is zero.

    Args:
        items: number of items.
        edges: number of edges.
        parameters: number of parameters.
        weights: number of the parameters that multiply every item; the others are tables of rows.
        hidden: width of the hidden rows.
        machine: the assumptions.
        passes: how often the encoder goes over edges and items, as a recurrent one does.
        itemsize: bytes a number.
    """
    over_rows = passes * hidden * (_PASSES_EDGE * edges + _PASSES_ITEM * items)
    moved = itemsize * (_PASSES_PARAMETER * parameters + over_rows)
    flops = passes * _FLOPS_PER_WEIGHT * items * weights
    if items == 0:
        return 0.0
    return passes * machine.overhead + moved / machine.memory_bandwidth + flops / machine.flops


def modality_loads(
    module: Module,
    data: MultiModalHeteroData,
    width: int,
    *,
    edges: Mapping[str, int] | None = None,
    passes: Mapping[str, int] | None = None,
    machine: Machine | None = None,
) -> list[ModalityLoad]:
    """Count what each modality of a module asks for; nothing is computed with the data.

    A parameter with a side as long as some modality has items is taken as a table of rows, any other as weights that
    act on every item. Where that does not fit, measure, and give :class:`ModalityPlanner` the ``seconds``.

    Args:
        module: has ``encoders``, a mapping of modality to module.
        data: holds these modalities.
        width: columns of the tables of factors.
        edges: for each modality how many edges its encoder sums over; counted from the data where absent: edges of
            its graphs, and its memberships once for each other slot.
        passes: for each modality how often its encoder goes over edges and items; once where absent.
        machine: the assumptions behind the seconds.

    Raises:
        ValueError: the module has no ``encoders``, or the data lacks one of the modalities.
    """
    encoders = getattr(module, "encoders", None)
    if encoders is None:
        raise ValueError(f"{type(module).__name__} has no 'encoders': expected a mapping of modality to module")
    names = list(encoders.keys())  # PyG's ModuleDict escapes names when it is iterated over
    for name in names:
        if name not in data.modalities:
            hint = did_you_mean(name, data.modalities)
            raise ValueError(f"'data' has no modality {name!r} (it has: {data.modalities}).{hint}")
    counted = {name: _edges(data, name) for name in names} | dict(edges or {})
    sides = {int(data[name].num_nodes) for name in data.modalities}
    return [
        _load(name, encoder, data, width, counted[name], (passes or {}).get(name, 1), sides, machine or Machine())
        for name, encoder in encoders.items()
    ]


def _load(
    name: str,
    encoder: Module,
    data: MultiModalHeteroData,
    width: int,
    edges: int,
    passes: int,
    sides: set[int],
    machine: Machine,
) -> ModalityLoad:
    items = int(data[name].num_nodes)
    trained = [p for p in encoder.parameters() if p.requires_grad]
    itemsize = max((p.element_size() for p in trained), default=4)
    parameters = sum(p.numel() for p in trained)
    weights = sum(p.numel() for p in trained if p.dim() > 1 and not sides & set(p.shape))
    hidden = max([width, *(p.size(-1) for p in trained if p.dim() > 1 and p.size(-1) not in sides)])
    features = data[name].get("x")
    kept = sum(_bytes(t) for t in chain(encoder.parameters(), encoder.buffers()))
    kept += (_KEPT_PER_PARAMETER - 1) * sum(_bytes(p) for p in trained)
    kept += _bytes(features) if isinstance(features, Tensor) else 0
    kept += _BYTES_PER_EDGE * edges + _KEPT_PER_ITEM * passes * items * hidden * itemsize
    seconds = modality_seconds(
        items=items,
        edges=edges,
        parameters=parameters,
        weights=weights,
        hidden=hidden,
        machine=machine,
        passes=passes,
        itemsize=itemsize,
    )
    return ModalityLoad(name, items, edges, parameters, width, kept, seconds, len(trained))


def _edges(data: MultiModalHeteroData, modality: str) -> int:
    """Edges of the modality's own graphs, and its memberships, once for each other slot of their relation."""
    own: Iterable[int] = (data[t].edge_index.size(1) for t in data.intra_edge_types(modality))
    total = sum(own)
    for name in data.hyperedge_types:
        relation = data.relation(name)
        for slot, m in enumerate(relation.modalities):
            if m == modality:
                total += relation.incidence(slot).size(1) * max(1, relation.order - 1)
    return total


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _check_counts(load: ModalityLoad | RelationLoad) -> None:
    """Check that the numbers of a load are finite and at least 0, and the whole numbers whole."""
    for field in fields(load):
        value: Any = getattr(load, field.name)
        kinds: tuple[type, ...] | None = {"int": (int,), "float": (int, float)}.get(str(field.type))
        if kinds is None:
            continue
        right = isinstance(value, kinds) and not isinstance(value, bool)
        if not right or not 0 <= value < math.inf:
            kind = "a whole number" if field.type == "int" else "a number"
            raise ValueError(f"'{field.name}' of {load.name!r} must be {kind} of at least 0 (got {value!r})")
