from __future__ import annotations

from hyperlearn_pyg.nn.conv._preset import PresetConv


class HGNNConv(PresetConv):
    r"""The convolution of HGNN (Feng, You, Zhang, Ji and Gao, AAAI 2019): symmetric, without attention.

    .. math::
        \mathbf{X}^{\prime} = \mathbf{D}^{-1/2} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top}
        \mathbf{D}^{-1/2} \mathbf{X} \mathbf{\Theta} + \mathbf{b}

    with :math:`D_{ii} = \sum_e w_e H_{ie}` and :math:`B_{ee} = \sum_i H_{ie}`. It is :class:`HypergraphConv` with
    ``normalization="symmetric"``; the activation that the paper puts behind it is left to the model.

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input; a pair for bipartite input.
        out_channels: size of each output sample.
        bias: learn an additive bias.
        direction: what a pair as ``x`` means: ``"to_hyperedge"`` or ``"to_node"``.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range.

    Shapes:
        those of :class:`HypergraphConv`.

    Raises:
        ValueError: a mode is unknown, or a shape or an index does not fit.

    Example:
        >>> conv = HGNNConv(8, 4)
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    preset = "symmetric"
