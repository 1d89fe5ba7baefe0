from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperlearn_pyg.nn import HGNNConv, HypergraphConv
from hyperlearn_pyg.testing import dense_hgnn_conv


@pytest.mark.parametrize("bias", [True, False])
def test_laws(laws: Any, bias: bool) -> None:
    def dense(conv, x, incidence, weight):  # type: ignore[no-untyped-def]
        out = dense_hgnn_conv(conv.lin(x), incidence, weight)
        return out if conv.bias is None else out + conv.bias

    def make(channels: int) -> torch.nn.Module:
        return HGNNConv(channels, 2, bias)

    laws.equals_dense(make, dense)
    laws.equivariant(make, True)
    laws.additive(make)
    laws.multiplicities(make)
    laws.differentiable(make)
    laws.input_forms(make)
    laws.small(make)


def test_is_the_hypergraph_convolution_of_one_normalisation() -> None:
    conv, other = HGNNConv(3, 2), HypergraphConv(3, 2, normalization="symmetric")
    other.load_state_dict(conv.state_dict())
    x, index = torch.randn(4, 3), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])
    assert torch.equal(conv(x, index), other(x, index))
    assert repr(HGNNConv(-1, 2)) == "HGNNConv(-1, 2)"
