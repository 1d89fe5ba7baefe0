"""Narrow networks out of a plan of channels, and the parts of the whole weights that each rank stores."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.parameter import is_lazy

from hyperlearn_pyg.distributed.strategies._channels import Hand, put_, take
from hyperlearn_pyg.distributed.strategies._trace import ChannelPlan, Weight
from hyperlearn_pyg.distributed.traffic import split_batch
from hyperlearn_pyg.distributed.wire import Wire
from hyperlearn_pyg.errors import InputError


def tensors_of(model: Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def skeleton(model: Module) -> Module:
    """Return a copy of a model without values: everything but its parameters and buffers, which have no storage."""
    memo: dict[int, Any] = {}
    for name, tensor in tensors_of(model).items():
        if is_lazy(tensor):
            raise InputError(f"the parameter {name!r} has no shape yet: run the model once before")
        bare = tensor.detach().to("meta")
        memo[id(tensor)] = Parameter(bare, tensor.requires_grad) if isinstance(tensor, Parameter) else bare
    return copy.deepcopy(model, memo)


def narrow(bare: Module, plan: ChannelPlan, hand: Hand, values: Mapping[str, Tensor]) -> Module:
    """Return the network of one worker.

    Args:
        bare: the model without values.
        plan: what is dealt.
        hand: what the worker has.
        values: its part of every parameter and buffer, which the network takes as its own.
    """
    sub = fill(copy.deepcopy(bare), values)
    for layer, sizes in plan.sizes.items():
        for attribute, axes in sizes.items():
            owner, key = _place(sub, f"{layer}.{attribute}")
            counts = tuple(_count(axis.index(hand), axis.size) for axis in axes)
            setattr(owner, key, counts if isinstance(getattr(owner, key), tuple) else counts[0])
    return sub


def fill(bare: Module, values: Mapping[str, Tensor]) -> Module:
    """Give a model without values these as its parameters and buffers, in place; shapes may be others than before."""
    for name, old in tensors_of(bare).items():
        owner, attribute = _place(bare, name)
        new = values[name]
        if isinstance(old, Parameter):
            _replace(bare, old, Parameter(new, old.requires_grad))  # also under a second name
        else:
            setattr(owner, attribute, new)
        if attribute == "weight" and new.dim() == 2:
            _resize(owner, new)
    return bare


def release(sub: Module) -> None:
    """Let go of the values of a network, however long somebody still holds it."""
    for tensor in tensors_of(sub).values():
        tensor.grad = None
        tensor.data = tensor.data.new_empty(0)


def _count(index: Tensor | None, size: int) -> int:
    return size if index is None else len(index)


def _place(model: Module, name: str) -> tuple[Any, str]:
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def _replace(model: Module, old: Parameter, new: Parameter) -> None:
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter is old:
                setattr(module, name, new)


def _resize(owner: Any, weight: Tensor) -> None:
    """Let the linear maps within a layer know their sizes."""
    for out, into in (("out_channels", "in_channels"), ("out_features", "in_features")):
        if hasattr(owner, out) and hasattr(owner, into):
            setattr(owner, out, weight.size(0))
            setattr(owner, into, weight.size(1))


class Shard:
    """The part of one dealt weight that each rank stores, and its way to the workers and back.

    A weight is stored by ranges of its longest dimension, one a rank. No rank ever holds more than its range, the block
    of its own network, and the messages of the two.

    Args:
        weight: the weight.
        wire: the ranks.
    """

    def __init__(self, weight: Weight, wire: Wire) -> None:
        self.weight, self.wire = weight, wire
        sizes = [axis.size for axis in weight.axes]
        self.along = sizes.index(max(sizes))
        self.counts = split_batch(sizes[self.along], wire.world_size)
        self.starts = [sum(self.counts[:rank]) for rank in range(wire.world_size)]

    @property
    def shape(self) -> torch.Size:
        """Shape of the part that this rank stores."""
        own = list(self.weight.shape)
        own[self.along] = self.counts[self.wire.rank]
        return torch.Size(own)

    def cut(self, value: Tensor) -> Tensor:
        """Return the part of this rank of the whole weight, a copy."""
        return value.narrow(self.along, self.starts[self.wire.rank], self.counts[self.wire.rank]).clone()

    def fetch(self, stored: Tensor, hands: list[Hand]) -> Tensor:
        """Return the block of the weight that this rank's network has; every rank must call it."""
        to = [self._meeting(hand, self.wire.rank) for hand in hands]
        send = [math.prod(_lengths(stored.shape, index)) for index in to]
        shapes = self._shapes(hands[self.wire.rank])
        flat = torch.cat([take(stored, index).reshape(-1) for index in to])  # no name holds the blocks besides
        got = self._exchange(flat, send, [shape.numel() for shape in shapes])
        if self.along == 0:
            return got.view(-1, *shapes[0][1:])
        parts = got.split([shape.numel() for shape in shapes])
        return torch.cat([part.view(shape) for part, shape in zip(parts, shapes, strict=True)], dim=self.along)

    def at_home(self, hands: list[Hand]) -> bool:
        """Tell whether every worker's block is just what its rank stores."""
        for hand, start, count in zip(hands, self.starts, self.counts, strict=True):
            index = [axis.index(hand) for axis in self.weight.axes]
            along = index.pop(self.along)
            own = torch.arange(start, start + count)
            if along is None or not torch.equal(along, own) or any(places is not None for places in index):
                return False
        return True

    def give_back(self, stored: Tensor, block: Tensor, hands: list[Hand]) -> list[Tensor]:
        """Return the blocks of all networks as far as this rank stores them; every rank must call it."""
        shapes = self._shapes(hands[self.wire.rank])
        parts = block.split([shape[self.along] for shape in shapes], dim=self.along)
        flat = torch.cat([part.reshape(-1) for part in parts])
        places = [self._meeting(hand, self.wire.rank) for hand in hands]
        own = [torch.Size(_lengths(stored.shape, index)) for index in places]
        got = self._exchange(flat, [shape.numel() for shape in shapes], [shape.numel() for shape in own])
        pieces = got.split([shape.numel() for shape in own])
        return [piece.view(shape) for piece, shape in zip(pieces, own, strict=True)]

    def put_(self, stored: Tensor, blocks: list[Tensor], hands: list[Hand]) -> None:
        """Overwrite what this rank stores with the blocks that :meth:`give_back` returned, or their means."""
        merge_(stored, [self._meeting(hand, self.wire.rank) for hand in hands], blocks, self.weight.shared)

    def gather(self, stored: Tensor) -> Tensor:
        """Return the whole weight; every rank must call it."""
        rows, most = stored.movedim(self.along, 0), max(self.counts)
        block = rows.new_zeros(most, *rows.shape[1:])
        block[: rows.size(0)] = rows
        parts = self.wire.all_gather(block, "gathered weights").split(most)
        return torch.cat([part[:n] for part, n in zip(parts, self.counts, strict=True)]).movedim(0, self.along)

    def _meeting(self, hand: Hand, rank: int) -> list[Tensor | None]:
        """Return where in the part of a rank the block of a worker lies."""
        index = [axis.index(hand) for axis in self.weight.axes]
        along = index[self.along]
        if along is not None:
            start, end = self.starts[rank], self.starts[rank] + self.counts[rank]
            index[self.along] = along[(along >= start) & (along < end)] - start
        return index

    def _shapes(self, hand: Hand) -> list[torch.Size]:
        """Return the shapes of what a worker gets from each rank."""
        out = []
        for rank, count in enumerate(self.counts):
            whole = list(self.weight.shape)
            whole[self.along] = count
            out.append(torch.Size(_lengths(whole, self._meeting(hand, rank))))
        return out

    def _exchange(self, flat: Tensor, send: list[int], receive: list[int]) -> Tensor:
        return self.wire.all_to_all(flat, send, receive, "weights")


def merge_(stored: Tensor, places: Sequence[Sequence[Tensor | None]], blocks: Sequence[Tensor], shared: bool) -> None:
    """Overwrite a weight with the blocks of all workers; entries that several have (``shared``) become their means."""
    if not shared:
        for index, block in zip(places, blocks, strict=True):
            put_(stored, index, block)
        return
    total, times = torch.zeros_like(stored), torch.zeros_like(stored)
    for index, block in zip(places, blocks, strict=True):
        put_(total, index, take(total, index) + block)
        put_(times, index, take(times, index) + 1)
    stored.copy_(torch.where(times > 0, total / times.clamp(min=1), stored))


def _lengths(shape: Any, index: list[Tensor | None]) -> list[int]:
    return [size if places is None else len(places) for size, places in zip(shape, index, strict=True)]
