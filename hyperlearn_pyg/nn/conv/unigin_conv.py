from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import zeros

from hyperlearn_pyg.nn.conv._round_trip import RoundTripConv, member_mean, weighted
from hyperlearn_pyg.nn.conv._step import Step, propagate, rows_back, rows_first


class UniGINConv(RoundTripConv):
    r"""UniGIN (Huang and Yang, UniGNN, IJCAI 2021): a node, by its own weight, beside the sum of its hyperedges.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{\Theta} \left( (1 + \epsilon) \mathbf{x}_i + \sum_{e} w_e H_{ie} \mathbf{h}_e
        \right) + \mathbf{b}, \qquad
        \mathbf{h}_e = \frac{1}{|e|} \sum_{i} H_{ie} \mathbf{x}_i

    with the entries :math:`H_{ie}` of the incidence matrix (ones, or the incidence weights; an incidence that is listed
    twice counts twice), the hyperedge weights :math:`w_e` and :math:`|e| = \sum_i H_{ie}`. A node without hyperedges
    keeps :math:`(1 + \epsilon) \mathbf{\Theta} \mathbf{x}_i`.

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input.
        out_channels: size of each output sample.
        eps: the (first) value of :math:`\epsilon`.
        train_eps: learn :math:`\epsilon`, as the authors do.
        bias: learn an additive bias.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).

    Shapes:
        * input: node features ``[*, N, in_channels]``; hyperedge index ``[2, nnz]`` (node, hyperedge); hyperedge
          weights ``[M]``
        * output: ``[*, N, out_channels]``, with ``return_hyperedges`` also ``[*, M, out_channels]``

    Raises:
        ValueError: a number of channels, a shape or an index does not fit.

    Example:
        >>> conv = UniGINConv(8, 4)
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    eps: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        eps: float = 0.0,
        train_eps: bool = True,
        bias: bool = True,
        *,
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, cached=cached, validate=validate)
        self.initial_eps = eps
        self.lin = Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
        if train_eps:
            self.eps = Parameter(torch.empty(1))
        else:
            self.register_buffer("eps", torch.empty(1))
        self.add_bias(bias, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        self.lin.reset_parameters()
        self.eps.data.fill_(self.initial_eps)
        zeros(self.bias)

    def convolve(self, step: Step, keep_edges: bool) -> tuple[Tensor, Tensor]:
        """Return the new features of nodes and hyperedges; the linear map acts on the narrower side."""
        early = keep_edges or self.out_channels <= step.x.size(-1)
        x, shape = rows_first(self.lin(step.x) if early else step.x)
        edges = member_mean(step, x)
        around = propagate(step.inc, edges, step.values, (weighted(step), None), transpose=False)
        out = (1 + self.eps).to(x.dtype) * x + around
        out, edges = rows_back(out, shape), rows_back(edges, shape)
        out = out if early else self.lin(out)
        return (out if self.bias is None else out + self.bias), edges
