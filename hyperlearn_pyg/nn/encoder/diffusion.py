from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear, LSTMCell, Module

from hyperlearn_pyg.nn.conv.cheb_hypergraph_conv import ChebHypergraphConv
from hyperlearn_pyg.ops.laplacian import Laplacian


class DiffusionEncoder(Module):
    r"""The encoder of one modality as printed for HyperLearn: Chebyshev convolution and LSTM, ``steps`` times.

    From the start factors :math:`\mathbf{A}^{(0)}`, with an LSTM cell shared over the items and started at zero,

    .. math::
        \tilde{\mathbf{A}} &= \mathrm{ReLU}\Big(\sum_{j=0}^{K-1} T_j(\mathbf{L} - \mathbf{I}) \mathbf{A}^{(t)}
        \mathbf{W}_j + \mathbf{b}\Big) \\
        \mathbf{h}, \mathbf{c} &= \mathrm{LSTM}(\tilde{\mathbf{A}}, (\mathbf{h}, \mathbf{c})) \\
        \mathbf{A}^{(t+1)} &= \mathbf{A}^{(t)} + \tanh(\mathbf{c} \mathbf{W}_{out} + \mathbf{b}_{out})

    (poster of Arya, Rudinac and Worring, ACM Multimedia 2019; the details as in Monti, Bronstein and Bresson,
    NeurIPS 2017). All of it is local to the modality.

    Args:
        num_items: number of items ``N``.
        channels: width ``R`` of the factors.
        in_channels: width of the item features that are added to the start through a linear map; 0 for none.
        hidden: width of convolution and LSTM.
        order: number of Chebyshev terms.
        steps: number ``T`` of diffusion steps.
        gain: gain of the initial weights of the output map; small, or the first gradients are huge.

    Attributes:
        start: the start factors ``[N, R]``, a buffer; set from the training entries by the model.

    Shapes:
        * input: features ``[N, in_channels]`` or None, and the Laplacian of the modality's graph
        * output: ``[N, R]``
    """

    start: Tensor

    def __init__(
        self,
        num_items: int,
        channels: int,
        *,
        in_channels: int = 0,
        hidden: int = 32,
        order: int = 5,
        steps: int = 10,
        gain: float = 0.1,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.gain = gain
        self.register_buffer("start", torch.zeros(num_items, channels))
        self.conv = ChebHypergraphConv(channels, hidden, order, kind="graph")
        self.lstm = LSTMCell(hidden, hidden)
        self.out = Linear(hidden, channels)
        self.features = Linear(in_channels, channels, bias=False) if in_channels else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters, and a small random start, afresh."""
        torch.nn.init.normal_(self.start, std=0.1)
        self.conv.reset_parameters()
        for weight in (self.lstm.weight_ih, self.lstm.weight_hh):
            for gate in weight.chunk(4):
                torch.nn.init.xavier_uniform_(gate)
        torch.nn.init.zeros_(self.lstm.bias_ih)
        torch.nn.init.zeros_(self.lstm.bias_hh)
        torch.nn.init.xavier_uniform_(self.out.weight, gain=self.gain)
        torch.nn.init.zeros_(self.out.bias)
        if self.features is not None:
            torch.nn.init.xavier_uniform_(self.features.weight, gain=self.gain)

    def forward(self, x: Tensor | None, laplacian: Laplacian) -> Tensor:
        """Return the factors ``[N, R]``."""
        factors = self.start
        if self.features is not None and x is not None:
            factors = factors + self.features(x)
        state: tuple[Tensor, Tensor] | None = None
        for _ in range(self.steps):
            state = self.lstm(torch.relu(self.conv(factors, laplacian)), state)
            factors = factors + torch.tanh(self.out(state[1]))
        return factors
