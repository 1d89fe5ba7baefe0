"""The plan of a module that says itself what its parameters run over."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.distributed.strategies._channels import Axis, Hidden, Segment, whole
from hyperlearn_pyg.distributed.strategies._narrow import tensors_of
from hyperlearn_pyg.distributed.strategies._roles import role_of
from hyperlearn_pyg.distributed.strategies._trace import ChannelPlan, Layers, Weight
from hyperlearn_pyg.errors import InputError


def described(model: Module, axes: Mapping[str, str]) -> ChannelPlan:
    """Return the plan of a module by its ``channel_axes``.

    Args:
        model: the module.
        axes: for each parameter or buffer, by a pattern of its name, what its dimensions run over: ``-`` for what stays
            whole, a name of hidden channels, or several names with ``+`` between them, which lie side by side. What is
            not named stays whole.

    Raises:
        InputError: the words do not fit the shapes, or nothing is dealt.
    """
    words = {name: _words(name, tensor, axes) for name, tensor in tensors_of(model).items()}
    hidden: dict[str, Hidden] = {}
    for name, tensor in tensors_of(model).items():
        for word, size in zip(words[name], tensor.shape, strict=True):
            if word != "-" and "+" not in word:
                hidden.setdefault(word, Hidden(word, 1, size))
    weights = {}
    for name, tensor in tensors_of(model).items():
        pairs = zip(words[name], tensor.shape, strict=True)
        weights[name] = Weight(name, tuple(_axis(name, word, size, hidden) for word, size in pairs), tensor.shape)
    if not hidden:
        raise InputError(f"there are no hidden channels to deal in {type(model).__name__}")
    return ChannelPlan(weights, {}, tuple(hidden.values()), Layers(model))


def _words(name: str, tensor: Tensor, axes: Mapping[str, str]) -> list[str]:
    found = role_of(axes, name)
    words = ["-"] * tensor.dim() if found is None else found.split()
    if len(words) != tensor.dim():
        raise InputError(f"'channel_axes' must have {tensor.dim()} words for {name!r} (got {found!r})")
    return words


def _axis(name: str, word: str, size: int, hidden: Mapping[str, Hidden]) -> Axis:
    if word == "-":
        return Axis(whole(size))
    parts = word.split("+")
    segments = tuple(Segment(hidden[part], hidden[part].width) for part in parts if part in hidden)
    if len(segments) != len(parts) or sum(segment.width for segment in segments) != size:
        raise InputError(f"'channel_axes' says {word!r} of a dimension of {size} of {name!r}, which does not fit")
    return Axis(segments)
