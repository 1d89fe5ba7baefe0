from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.distributed.wire import Wire

Kind = tuple[torch.dtype, torch.device]


def averaged_tensors(module: Module) -> dict[str, Tensor]:
    """Return what replicas average: all parameters and the float buffers that a state dict holds, by name.

    Buffers of whole numbers (the number of batches that a BatchNorm has seen) are no quantities to average, and buffers
    that no state dict holds are scratch space. A tensor that has two names is there once.
    """
    saved = module.state_dict().keys()
    buffers = {name: b for name, b in module.named_buffers() if name in saved and _is_float(b)}
    return {**dict(module.named_parameters()), **buffers}


def all_tensors(module: Module) -> dict[str, Tensor]:
    """Return all parameters, and all buffers that a state dict holds, by name."""
    saved = module.state_dict().keys()
    return {**dict(module.named_parameters()), **{n: b for n, b in module.named_buffers() if n in saved}}


class Flat:
    """Tensors as one flat tensor for each type of scalar and device, for messages.

    Args:
        tensors: strided; their shapes, types and order are the same on all ranks. Complex ones count as two reals.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        held = [torch.view_as_real(t.detach()) if t.is_complex() else t.detach() for t in tensors]
        self.groups: dict[Kind, list[Tensor]] = {}
        for tensor in sorted((t for t in held if t.numel()), key=lambda t: (str(t.dtype), str(t.device))):
            self.groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)

    def pack(self) -> dict[Kind, Tensor]:
        """Return a copy of all values, flat ``[n]``."""
        return {kind: torch.cat([t.reshape(-1) for t in tensors]) for kind, tensors in self.groups.items()}

    @torch.no_grad()
    def unpack_(self, flats: Mapping[Kind, Tensor]) -> None:
        """Overwrite all values with flat ones."""
        for kind, tensors in self.groups.items():
            for tensor, part in zip(tensors, flats[kind].split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view(tensor.shape))


def mean(flat: Tensor, wire: Wire, kind: str) -> Tensor:
    """Return the mean over the ranks of ``[n]``: the same on all ranks to the last bit.

    Each rank adds the values of one part in order of rank and sends the sums to all, ``2 (P - 1) / P`` times the tensor
    as in a ring. Where a value stands among the others makes no difference to how it is rounded, so what ranks of
    different modalities share stays the same on all of them. Half-precision values are added as float32.
    """
    size = wire.world_size
    if size == 1 or not flat.numel():
        return flat
    rows = torch.nn.functional.pad(flat, (0, -flat.numel() % size)).view(size, -1)
    got = wire.all_to_all(rows, [1] * size, [1] * size, kind)
    got = got.float() if got.element_size() < 4 else got
    total = got[0].clone()
    for part in got[1:]:
        total += part
    out = wire.all_gather((total / size).to(flat.dtype)[None], kind)
    return out.view(-1)[: flat.numel()]


def mean_(tensors: Iterable[Tensor], wire: Wire, kind: str = "parameters") -> None:
    """Overwrite tensors with their means over the ranks, see :func:`mean`."""
    if wire.world_size == 1:
        return
    flat = Flat(tensors)
    flat.unpack_({key: mean(value, wire, kind) for key, value in flat.pack().items()})


def broadcast_(tensors: Iterable[Tensor], wire: Wire, kind: str = "parameters", root: int = 0) -> None:
    """Overwrite tensors with those of one rank."""
    if wire.world_size == 1:
        return
    flat = Flat(tensors)
    values = flat.pack()
    for value in values.values():
        wire.broadcast_(value.view(torch.uint8), kind, root)  # bytes: gloo knows fewer types than torch
    flat.unpack_(values)


def describe(tensors: Mapping[str, Tensor]) -> dict[str, Sequence[object]]:
    """Return shapes and types, which all ranks must have alike, as JSON holds them."""
    return {name: [list(t.shape), str(t.dtype)] for name, t in tensors.items()}


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
