from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import LayerNorm, Linear, Module, ModuleList
from torch_geometric.nn.resolver import activation_resolver

from hyperlearn_pyg.nn.conv import HGNNConv
from hyperlearn_pyg.nn.conv._layer import check_channels, check_dropout, check_features


class ResidualHypergraphBlock(Module):
    """The branch of one residual block, as ``DeepGCNLayer`` of PyG has it with ``block="res+"``.

    Args:
        channels: width of input and output.
        conv: makes a layer from so many channels to so many.
        norm: makes a norm of so many channels.
        act: the activation, a callable or its name in torch.
        dropout: dropout probability behind the activation.

    Shapes:
        * input: ``[*, N, channels]``, and what the layer takes besides
        * output: ``[*, N, channels]``, to be added to the input
    """

    def __init__(
        self,
        channels: int,
        conv: Callable[[int, int], Module],
        norm: Callable[[int], Module],
        act: str | Callable[[Tensor], Tensor],
        dropout: float,
    ) -> None:
        super().__init__()
        self.norm, self.conv = norm(channels), conv(channels, channels)
        self.act, self.dropout = activation_resolver(act), dropout

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        parts: list[Any] = [self.norm, self.conv]
        for module in parts:
            module.reset_parameters()

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the branch alone."""
        out: Tensor = self.conv(F.dropout(self.act(self.norm(x)), self.dropout, self.training), *args, **kwargs)
        return out


class ResidualHypergraphStack(Module):
    r"""A deep stack of equal residual blocks, each with one convolution.

    .. math::
        \mathbf{H}_0 = \mathbf{X} \mathbf{\Theta}_0 + \mathbf{b}_0, \qquad
        \mathbf{H}_l = \mathbf{H}_{l-1}
        + s_l \, f_l \big( \mathrm{Dropout} (\sigma (\mathrm{Norm}_l (\mathbf{H}_{l-1}))) \big), \qquad
        \mathbf{Y} = \sigma (\mathrm{Norm} (\mathbf{H}_L)) \, \mathbf{\Theta}_1 + \mathbf{b}_1

    with a convolution :math:`f_l` a block: norm and activation come before it (He et al., Identity mappings in deep
    residual networks, ECCV 2016; for graphs Li et al., DeeperGCN, arXiv:2006.07739), so the sum stays linear over the
    whole depth. :math:`s_1 = 1`; all others are ``residual_scale``, 1 unless
    :class:`~hyperlearn_pyg.distributed.strategies.ResIST` sets it for a stack whose blocks were trained in parts.

    Args:
        in_channels: size of each input sample.
        hidden_channels: width of the blocks.
        out_channels: size of each output sample.
        num_blocks: number of blocks, at least 1; splitting a stack by :class:`ResIST` takes 8 or more.
        conv: makes the convolution of a block from two numbers of channels.
        norm: makes a norm from a number of channels.
        act: the activation :math:`\sigma`, a callable or its name in torch.
        dropout: dropout probability in each block.

    Shapes:
        * input: node features ``[*, N, in_channels]``; what ``conv`` takes besides: ``hyperedge_index [2, nnz]``
        * output: ``[*, N, out_channels]``

    Raises:
        ValueError: a number of channels or blocks, the dropout or a shape is not possible.

    Example:
        >>> stack = ResidualHypergraphStack(8, 16, 4, num_blocks=8)
        >>> stack(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    residual_scale: Tensor

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_blocks: int = 8,
        *,
        conv: Callable[[int, int], Module] = HGNNConv,
        norm: Callable[[int], Module] = LayerNorm,
        act: str | Callable[[Tensor], Tensor] = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        given = {"in_channels": in_channels, "hidden_channels": hidden_channels, "out_channels": out_channels}
        for name, value in {**given, "num_blocks": num_blocks}.items():
            check_channels(name, value)
        check_dropout(dropout)
        self.in_channels, self.hidden_channels, self.out_channels = in_channels, hidden_channels, out_channels
        self.lin_in = Linear(in_channels, hidden_channels)
        blocks = (ResidualHypergraphBlock(hidden_channels, conv, norm, act, dropout) for _ in range(num_blocks))
        self.blocks = ModuleList(blocks)
        self.norm, self.act = norm(hidden_channels), activation_resolver(act)
        self.lin_out = Linear(hidden_channels, out_channels)
        self.register_buffer("residual_scale", torch.ones(()))

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        parts: list[Any] = [self.lin_in, *self.blocks, self.norm, self.lin_out]
        for module in parts:
            module.reset_parameters()
        self.residual_scale.fill_(1.0)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the stack.

        Args:
            x: node features ``[*, N, in_channels]``.
            *args: what every convolution takes behind its features: the hyperedge index, weights, ...
            **kwargs: the same, by name.

        Raises:
            ValueError: a shape or an index does not fit.
        """
        check_features("x", x, self.in_channels)
        x = self.lin_in(x)
        for place, block in enumerate(self.blocks):
            branch = block(x, *args, **kwargs)
            x = x + (self.residual_scale * branch if place else branch)
        out: Tensor = self.lin_out(self.act(self.norm(x)))
        return out

    def __repr__(self) -> str:
        conv = type(self.blocks[0].conv).__name__
        sizes = f"{self.in_channels}, {self.hidden_channels}, {self.out_channels}, num_blocks={len(self.blocks)}"
        return f"{type(self).__name__}({sizes}, conv={conv})"
