from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from hyperlearn_pyg.nn.conv._round_trip import Attended, weighted
from hyperlearn_pyg.nn.conv._step import Step, propagate
from hyperlearn_pyg.nn.conv._uni import UniConv


class UniGINConv(UniConv):
    r"""UniGIN (Huang and Yang, UniGNN, IJCAI 2021): a node, by its own weight, beside the sum of its hyperedges.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{\Theta} \left( (1 + \epsilon) \mathbf{x}_i + \sum_{e} w_e H_{ie} \mathbf{h}_e
        \right) + \mathbf{b}, \qquad
        \mathbf{h}_e = \frac{1}{|e|} \sum_{i} H_{ie} \mathbf{x}_i

    with the entries :math:`H_{ie}` of the incidence matrix (ones, or the incidence weights; an incidence that is listed
    twice counts twice), the hyperedge weights :math:`w_e` and :math:`|e| = \sum_i H_{ie}`. A node without hyperedges
    keeps :math:`(1 + \epsilon) \mathbf{\Theta} \mathbf{x}_i`.

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input; a pair with ``direction``.
        out_channels: size of each output sample.
        eps: the (first) value of :math:`\epsilon`.
        train_eps: learn :math:`\epsilon`, as the authors do.
        bias: learn an additive bias.
        direction: ``"to_hyperedge"`` or ``"to_node"`` for half of the way, from a pair as ``x``; or ``"auto"``.
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

    eps: Tensor | None

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        eps: float = 0.0,
        train_eps: bool = True,
        bias: bool = True,
        *,
        direction: str = "auto",
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, bias, direction=direction, cached=cached, validate=validate)
        self.initial_eps = eps
        if direction == "to_hyperedge":
            self.eps = None
        elif train_eps:
            self.eps = Parameter(torch.empty(1))
        else:
            self.register_buffer("eps", torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        super().reset_parameters()
        if self.eps is not None:
            self.eps.data.fill_(self.initial_eps)

    def gather(self, step: Step, edges: Tensor, x: Tensor) -> Attended:
        """Return the sum of the hyperedges and the node itself."""
        around = propagate(step.inc, edges, step.sent, (weighted(step), None), transpose=False)
        own = x if self.eps is None else (1 + self.eps).to(x.dtype) * x
        return own + around, None
