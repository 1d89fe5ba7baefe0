from __future__ import annotations

from typing import Any

from hyperlearn_pyg.nn import HGNNPConv
from hyperlearn_pyg.testing import dense_hypergraph_conv


def test_laws(laws: Any) -> None:
    laws.preset(HGNNPConv, "row", dense_hypergraph_conv)
