from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlearn_pyg.nn import AllSetTransformerConv
from hyperlearn_pyg.testing import dense_set_attention


@pytest.mark.parametrize("heads", [1, 2])
def test_laws(laws: Any, heads: int) -> None:
    def half(part, x: Tensor, count: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        key, value = (lin(x).view(len(x), heads, 4 // heads) for lin in (part.lin_key, part.lin_value))
        return dense_set_attention(key, value, part.query, count, part.norm0, part.norm1, part.mlp)

    def dense(conv, x, incidence, weight):  # type: ignore[no-untyped-def]
        edges = half(conv.into_edges, x, incidence.t()).relu()
        return half(conv.into_nodes, edges, incidence if weight is None else incidence * weight)

    laws.all(lambda channels: AllSetTransformerConv(channels, 4, heads=heads), dense)


def test_dropout_acts_in_training_alone(laws: Any) -> None:
    torch.manual_seed(0)
    conv, x = AllSetTransformerConv(3, 8, dropout=0.5), torch.randn(5, 3)
    assert not torch.equal(conv(x, laws.index), conv(x, laws.index))
    conv.eval()
    assert torch.equal(conv(x, laws.index), conv(x, laws.index))


def test_repr_and_errors() -> None:
    assert repr(AllSetTransformerConv(-1, 4, heads=2)) == "AllSetTransformerConv(-1, 4, heads=2)"
    with pytest.raises(ValueError, match=r"'heads' must divide 'out_channels' \(got 3 and 4\)"):
        AllSetTransformerConv(3, 4, heads=3)
    with pytest.raises(ValueError, match=r"'num_layers' must be at least 1 \(got 0\)"):
        AllSetTransformerConv(3, 2, num_layers=0)
