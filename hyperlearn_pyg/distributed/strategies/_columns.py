"""The whole network over all ranks: each computes a run of the channels of every layer, for evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.distributed.strategies._channels import (
    Axis,
    Hand,
    Hidden,
    Kept,
    Segment,
    Segments,
    whole,
    width_of,
)
from hyperlearn_pyg.distributed.strategies._roles import makes_channels, role_of, roles_of
from hyperlearn_pyg.distributed.strategies._trace import ChannelPlan, Reader, Weight, form
from hyperlearn_pyg.distributed.wire import Wire
from hyperlearn_pyg.errors import InputError


def columns(plan: ChannelPlan, workers: int) -> ChannelPlan:
    """Return a plan in which every layer's output is parted by itself, and its input is whole.

    A layer that mixes the channels of a head (attention) is parted by heads, or stays whole where their number does
    not allow it.
    """
    weights = {name: Weight(name, tuple(Axis(whole(n)) for n in w.shape), w.shape) for name, w in plan.weights.items()}
    sizes, hidden = {}, []
    for name, (given, out) in plan.layers.seen.items():
        layer = plan.layers.leaves[name]
        parted = _parted(name, layer, out, workers)
        run: Segments = whole(width_of(out)) if parted is None else (Segment(parted, parted.width),)
        hidden += [] if parted is None else [parted]
        entire = {key: whole(width_of(segments)) for key, segments in given.items()}
        reader = Reader(name, layer, entire, run, lambda _, width: whole(width))
        weights.update(reader.weights())
        sizes[name] = reader.sizes()
    return ChannelPlan(weights, sizes, tuple(hidden), plan.layers)


def _parted(name: str, layer: Module, out: Segments, workers: int) -> Hidden | None:
    """Return the channels that a layer's output is parted by; None where it stays whole."""
    roles = roles_of(layer) or {}
    if not makes_channels(roles) or out[0].dealt is None:
        return None
    made = Hidden(name, *form(layer))
    try:
        _, by_head = made.units(workers)
    except InputError:
        return None
    found = [role_of(roles, inner) or "" for inner, _ in layer.named_parameters()]
    mixes = any(word.rstrip("*") == "channels" for role in found for word in role.split())
    return made if by_head or not mixes else None


def runs_of(plan: ChannelPlan, workers: int) -> list[Hand]:
    """Return what each worker has: heads or channels from here to there."""
    hands: list[dict[Hidden, Kept]] = [{} for _ in range(workers)]
    for root in plan.hidden:
        units, by_head = root.units(workers)
        for hand, run in zip(hands, torch.arange(units).view(workers, -1), strict=True):
            heads, channels = torch.arange(root.heads), torch.arange(root.channels)
            hand[root] = Kept(run if by_head else heads, channels if by_head else run, root.channels)
    return [*hands]


def gathered(net: Module, plan: ChannelPlan, wire: Wire) -> Module:
    """Let the layers of a network give the channels of all ranks; for evaluation, without gradients."""

    def together(layer: Module, args: Any, out: Tensor) -> Tensor:
        if torch.is_grad_enabled() and out.requires_grad:
            raise InputError("the whole network gives no gradients: put torch.no_grad() around it")
        return wire.all_gather(out.movedim(-1, 0).contiguous(), "activations").movedim(0, -1)

    for root in plan.hidden:
        net.get_submodule(root.name).register_forward_hook(together)
    return net.eval().requires_grad_(False)
