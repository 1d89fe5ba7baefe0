from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperlearn_pyg.nn import AllDeepSetsConv
from hyperlearn_pyg.testing import dense_all_deep_sets_conv


@pytest.mark.parametrize("options", [{}, {"hidden_channels": 4, "aggr": "mean", "norm": False, "num_layers": 1}])
def test_laws(laws: Any, options: dict[str, Any]) -> None:
    def dense(conv, x, incidence, weight):  # type: ignore[no-untyped-def]
        maps = conv.phi_edge, conv.rho_edge, conv.phi_node, conv.rho_node
        return dense_all_deep_sets_conv(x, incidence, maps, weight, aggr=conv.aggr)

    laws.all(lambda channels: AllDeepSetsConv(channels, 3, **options), dense)


def test_dropout_acts_in_training_alone(laws: Any) -> None:
    torch.manual_seed(0)
    conv, x = AllDeepSetsConv(3, 8, dropout=0.5), torch.randn(5, 3)
    assert not torch.equal(conv(x, laws.index), conv(x, laws.index))
    conv.eval()
    assert torch.equal(conv(x, laws.index), conv(x, laws.index))


def test_repr_and_errors() -> None:
    assert repr(AllDeepSetsConv(-1, 3)) == "AllDeepSetsConv(-1, 3, hidden_channels=3, num_layers=2, aggr='sum')"
    with pytest.raises(ValueError, match=r"'aggr' must be 'sum' or 'mean' \(got 'max'\)"):
        AllDeepSetsConv(3, 2, aggr="max")
    with pytest.raises(ValueError, match=r"'num_layers' must be at least 1 \(got 0\)"):
        AllDeepSetsConv(3, 2, num_layers=0)
