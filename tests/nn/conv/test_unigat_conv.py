from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperlearn_pyg.nn import UniGATConv
from hyperlearn_pyg.testing import dense_unigat_conv


@pytest.mark.parametrize("options", [{"heads": 2}, {"heads": 2, "concat": False, "bias": False}, {}])
@pytest.mark.parametrize("add_self_loops", [False, True])
def test_laws(laws: Any, options: dict[str, Any], add_self_loops: bool) -> None:
    def dense(conv, x, incidence, weight):  # type: ignore[no-untyped-def]
        heads = conv.lin(x).view(len(x), conv.heads, conv.out_channels).unbind(1)
        outs = [
            dense_unigat_conv(head, incidence, att, weight, add_self_loops=add_self_loops)
            for head, att in zip(heads, conv.att, strict=True)
        ]
        out = torch.cat(outs, dim=1) if conv.concat else torch.stack(outs).mean(0)
        return out if conv.bias is None else out + conv.bias

    laws.all(lambda channels: UniGATConv(channels, 2, **options, add_self_loops=add_self_loops), dense)


def test_a_constant_stays_constant(laws: Any) -> None:
    conv = UniGATConv(3, 2, heads=2, bias=False).double()
    out = conv(torch.ones(5, 3, dtype=torch.float64), laws.index, laws.weight)
    expected = conv.lin.weight.sum(1).expand(5, 4) * torch.tensor([1, 1, 1, 1, 0])[:, None]
    assert torch.allclose(out, expected)


def test_dropout_acts_in_training_alone(laws: Any) -> None:
    torch.manual_seed(0)
    conv, x = UniGATConv(3, 2, dropout=0.5), torch.randn(5, 3)
    assert not torch.equal(conv(x, laws.index), conv(x, laws.index))
    conv.eval()
    assert torch.equal(conv(x, laws.index), conv(x, laws.index))


def test_repr_and_errors() -> None:
    assert repr(UniGATConv(-1, 3, heads=2)) == "UniGATConv(-1, 3, heads=2)"
    with pytest.raises(ValueError, match=r"'heads' must be at least 1 \(got 0\)"):
        UniGATConv(3, 2, heads=0)
