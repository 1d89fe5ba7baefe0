from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperlearn_pyg.nn import UniGCNConv
from hyperlearn_pyg.testing import dense_unigcn_conv


@pytest.mark.parametrize("options", [{}, {"add_self_loops": True, "bias": False}])
@pytest.mark.parametrize("width", [2, 5])
def test_laws(laws: Any, options: dict[str, Any], width: int) -> None:
    def dense(conv, x, incidence, weight):  # type: ignore[no-untyped-def]
        loops = conv.add_self_loops
        out = dense_unigcn_conv(conv.lin(x), incidence, weight, add_self_loops=loops)
        return out if conv.bias is None else out + conv.bias

    laws.all(lambda channels: UniGCNConv(channels, width, **options), dense)


def test_on_a_graph_with_self_loops_it_is_the_normalised_adjacency_of_pairs() -> None:
    """Two nodes in one hyperedge: all degrees are 1, so both get the mean."""
    conv = UniGCNConv(2, 2, bias=False)
    out = conv(torch.eye(2), torch.tensor([[0, 1], [0, 0]]))
    assert torch.allclose(out, conv.lin.weight.mean(1).expand(2, 2))


def test_repr_and_errors() -> None:
    assert repr(UniGCNConv(-1, 3)) == "UniGCNConv(-1, 3)"
    with pytest.raises(ValueError, match=r"'out_channels' must be at least 1 \(got 0\)"):
        UniGCNConv(3, 0)
