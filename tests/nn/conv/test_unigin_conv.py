from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperlearn_pyg.nn import UniGINConv, UniSAGEConv
from hyperlearn_pyg.testing import dense_unigin_conv


@pytest.mark.parametrize("train_eps", [True, False])
@pytest.mark.parametrize("width", [2, 5])
def test_laws(laws: Any, train_eps: bool, width: int) -> None:
    def dense(conv, x, incidence, weight):  # type: ignore[no-untyped-def]
        return dense_unigin_conv(conv.lin(x), incidence, weight, eps=conv.eps) + conv.bias

    laws.all(lambda channels: UniGINConv(channels, width, eps=0.3, train_eps=train_eps), dense)


def test_without_epsilon_it_is_unisage(laws: Any) -> None:
    gin, sage = UniGINConv(3, 2), UniSAGEConv(3, 2)
    assert gin.load_state_dict(sage.state_dict(), strict=False).missing_keys == ["eps"]
    x = torch.randn(5, 3)
    assert torch.equal(gin(x, laws.index), sage(x, laws.index))


def test_repr() -> None:
    assert repr(UniGINConv(-1, 3, bias=False)) == "UniGINConv(-1, 3)"
