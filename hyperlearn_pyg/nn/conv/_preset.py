from __future__ import annotations

from typing import ClassVar

from hyperlearn_pyg.nn.conv.hypergraph_conv import HypergraphConv


class PresetConv(HypergraphConv):
    """:class:`HypergraphConv` of one normalisation, without attention and without PyG's signature.

    Args:
        in_channels: size of each input sample, or ``-1``; a pair for bipartite input.
        out_channels: size of each output sample.
        bias: learn an additive bias.
        direction: what a pair as ``x`` means.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range.
    """

    preset: ClassVar[str]

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        bias: bool = True,
        *,
        direction: str = "auto",
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            bias=bias,
            normalization=self.preset,
            direction=direction,
            cached=cached,
            validate=validate,
        )
