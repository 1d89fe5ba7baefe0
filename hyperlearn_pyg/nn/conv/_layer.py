from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.conv import MessagePassing

from hyperlearn_pyg.nn.conv._step import Step, read_step

_NEVER_CALLED = (
    "_propagate_forward_pre_hooks",
    "_propagate_forward_hooks",
    "_message_forward_pre_hooks",
    "_aggregate_forward_pre_hooks",
    "_aggregate_forward_hooks",
)


class HypergraphLayer(MessagePassing):
    """What all layers share: they are message passing layers to PyG, so that its wrappers and explainers know them.

    No messages are formed, but what scales each of them is heeded: the edge masks of explainers, and hooks on messages
    (``to_hetero_with_bases``), which are shown one number a message.

    Args:
        direction: what a pair as ``x`` means.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range.
        **kwargs: further arguments of :class:`torch_geometric.nn.conv.MessagePassing`.
    """

    in_channels: int | tuple[int, int]
    #: Whether the features of the target, the second of a pair, are read.
    reads_target = False
    #: What the dimensions of its weights run over, for :class:`~hyperlearn_pyg.distributed.strategies.GIST`: name of a
    #: weight or of a size -> ``in``, ``target``, ``out``, ``wide``, ``heads``, ``channels``, ``hidden`` or ``-``.
    channel_roles: Mapping[str, str] | None = None

    def __init__(self, *, direction: str = "auto", cached: bool = True, validate: bool = True, **kwargs: Any) -> None:
        for name, only in (("aggr", ("add", "sum")), ("flow", ("source_to_target",)), ("node_dim", (0, -2))):
            given = kwargs.pop(name, only[0])
            if given not in only:
                raise ValueError(f"'{name}' is {only[0]!r} in every hypergraph layer (got {given!r}): leave it out")
        super().__init__(aggr="add", flow="source_to_target", node_dim=0, **kwargs)
        check_choice("direction", direction, ("auto", "to_hyperedge", "to_node"))
        self.direction = direction
        self.cached = cached
        self.validate = validate

    def read(self, x: Tensor | tuple[Tensor, Tensor | None], *given: Any) -> Step:
        """Check the arguments of a call, those of :func:`read_step` behind the layer, and bring them into one form.

        A layer of one direction takes one tensor for both sides, the rows of a graph, unless the target's number of
        rows is given and is another.

        Raises:
            ValueError: a shape or an index does not fit.
        """
        if isinstance(x, Tensor) and self.direction != "auto":
            columns, size = given[3], given[5]
            columns = size[1] if columns is None and size is not None else columns
            x = (x, x if columns is None or columns == x.size(-2) else None)
        self._check_features(x)
        self._check_type(x[0] if isinstance(x, tuple) else x)
        step = read_step(self, x, *given)
        mask = self._mask(step)
        return step if mask is None else replace(step, mask=mask)

    def _check_features(self, x: Tensor | tuple[Tensor, Tensor | None]) -> None:
        source, target = x if isinstance(x, tuple) else (x, None)
        widths = self.in_channels if isinstance(self.in_channels, tuple) else (self.in_channels, self.in_channels)
        check_features("x[0]" if isinstance(x, tuple) else "x", source, widths[0])
        if target is not None and self.reads_target:
            check_features("x[1]", target, widths[1])

    def _check_type(self, x: Tensor) -> None:
        types = {parameter.dtype for parameter in self.parameters()}
        if types and x.dtype not in types and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(
                f"'x' is of type {x.dtype}, the layer of {', '.join(map(str, types))}: convert one with x.to(...) or "
                "layer.to(...)"
            )

    def _mask(self, step: Step) -> Tensor | None:
        """Return by what explainers and hooks multiply each message ``[nnz]``; None for ones."""
        for name in _NEVER_CALLED:
            if getattr(self, name):
                raise ValueError(f"hooks in '{name}' have no place here: {type(self).__name__} forms no messages")
        mask: Tensor | None = None
        if self.explain:
            given: Tensor = self._edge_mask
            mask = given.sigmoid() if self._apply_sigmoid else given
        for hook in self._message_forward_hooks.values():
            before = step.x.new_ones(step.inc.nnz, 1) if mask is None else mask[:, None]
            after = hook(self, ({},), before)
            if after is not None and after.shape != before.shape:
                raise ValueError(
                    f"a hook on messages must keep their shape (got {list(after.shape)} for {list(before.shape)}): "
                    "this layer forms no messages, and asks a hook by what it multiplies each"
                )
            mask = mask if after is None else after.squeeze(1)
        return mask

    def show(self, alpha: Tensor) -> None:
        """Show attention coefficients ``[nnz, heads]`` to those who asked for messages (``AttentionExplainer``)."""
        for hook in self._message_forward_hooks.values():
            hook(self, ({"alpha": alpha},), alpha)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse what is none of ``choices``."""
    if value not in choices:
        *first, last = map(repr, choices)
        raise ValueError(f"'{name}' must be {', '.join(first)} or {last} (got {value!r})")


def check_channels(name: str, value: int, *, lazy: bool = False) -> None:
    """Refuse a number of channels below one; ``-1``, where ``lazy``, stands for the first input's."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"'{name}' must be a whole number (got {value!r})")
    if value < 1 and not (lazy and value == -1):
        raise ValueError(f"'{name}' must be at least 1{', or -1 to take it from the first input' * lazy} (got {value})")


def check_features(name: str, x: Any, channels: int) -> None:
    """Refuse features that are not ``[*, N, channels]``."""
    if not isinstance(x, Tensor):
        raise ValueError(f"'{name}' must be a tensor (got {type(x).__name__}); a pair is a tuple (x_source, x_target)")
    if x.dim() < 2 or (channels != -1 and x.size(-1) != channels):
        width = "channels" if channels == -1 else channels
        raise ValueError(f"'{name}' must have shape [*, N, {width}] (got {list(x.shape)})")


def check_dropout(dropout: float) -> None:
    """Refuse what is no probability."""
    if not 0 <= dropout <= 1:
        raise ValueError(f"'dropout' must lie in [0, 1] (got {dropout})")


def check_heads(heads: int, use_attention: bool) -> None:
    """Refuse several heads without attention, and less than one."""
    if heads < 1 or (heads > 1 and not use_attention):
        raise ValueError(f"'heads' must be 1 without attention, and at least 1 with it (got {heads})")
