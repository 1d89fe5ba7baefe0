from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperlearn_pyg.nn import HGNNPConv, HNHNConv
from hyperlearn_pyg.testing import dense_hnhn_conv


@pytest.mark.parametrize("options", [{}, {"hidden_channels": 4, "alpha": 0.5, "beta": 0.0}])
def test_laws(laws: Any, options: dict[str, Any]) -> None:
    def dense(conv, x, incidence, weight):  # type: ignore[no-untyped-def]
        maps = conv.lin_edge, conv.lin_node
        return dense_hnhn_conv(x, incidence, *maps, weight, alpha=conv.alpha, beta=conv.beta) + conv.bias

    laws.all(lambda channels: HNHNConv(channels, 2, **options), dense)


def test_at_power_zero_and_without_nonlinearity_it_is_the_row_normalised_convolution(laws: Any) -> None:
    conv = HNHNConv(3, 2, alpha=0, beta=0, act=torch.nn.Identity(), bias=False).double()
    row = HGNNPConv(3, 2, bias=False).double()
    row.lin.weight.data = conv.lin_node.weight.data @ conv.lin_edge.weight.data
    x = torch.randn(5, 3, dtype=torch.float64)
    assert torch.allclose(conv(x, laws.index, laws.weight), row(x, laws.index, laws.weight))


def test_repr_and_errors() -> None:
    assert repr(HNHNConv(-1, 3)) == "HNHNConv(-1, 3, hidden_channels=3, alpha=-1.5, beta=-0.5)"
    with pytest.raises(ValueError, match=r"'hidden_channels' must be at least 1 \(got 0\)"):
        HNHNConv(3, 2, hidden_channels=0)
