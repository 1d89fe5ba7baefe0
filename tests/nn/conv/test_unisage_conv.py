from __future__ import annotations

from typing import Any

import pytest

from hyperlearn_pyg.nn import UniSAGEConv
from hyperlearn_pyg.testing import dense_unisage_conv


@pytest.mark.parametrize("aggr", ["sum", "mean"])
@pytest.mark.parametrize("width", [2, 5])
def test_laws(laws: Any, aggr: str, width: int) -> None:
    def dense(conv, x, incidence, weight):  # type: ignore[no-untyped-def]
        return dense_unisage_conv(conv.lin(x), incidence, weight, aggr=aggr) + conv.bias

    laws.all(lambda channels: UniSAGEConv(channels, width, aggr), dense)


def test_repr_and_errors() -> None:
    assert repr(UniSAGEConv(-1, 3, bias=False)) == "UniSAGEConv(-1, 3, aggr='sum')"
    with pytest.raises(ValueError, match=r"'aggr' must be 'sum' or 'mean' \(got 'max'\)"):
        UniSAGEConv(3, 2, "max")
