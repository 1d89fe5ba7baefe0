from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperlearn_pyg.nn import DiffusionEncoder
from hyperlearn_pyg.ops import Incidence, Laplacian
from hyperlearn_pyg.testing import dense_graph_laplacian, dense_incidence

GRAPH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])


def laplacian(nodes: int) -> Laplacian:
    return Laplacian.from_graph(Incidence(GRAPH if nodes > 2 else GRAPH[:, :0], (nodes, nodes)))


def dense(encoder: DiffusionEncoder, x: Tensor | None) -> Tensor:
    """The docstring's formulas, gate by gate."""
    nodes = encoder.start.size(0)
    shifted = dense_graph_laplacian(dense_incidence(GRAPH, (nodes, nodes))) - torch.eye(nodes, dtype=torch.float64)
    factors = encoder.start if x is None or encoder.features is None else encoder.start + encoder.features(x)
    lstm = encoder.lstm
    h = c = torch.zeros(nodes, lstm.hidden_size, dtype=torch.float64)
    for _ in range(encoder.steps):
        terms = [factors, shifted @ factors]
        while len(terms) < encoder.conv.K:
            terms.append(2 * shifted @ terms[-1] - terms[-2])
        signal = (torch.cat(terms[: encoder.conv.K], 1) @ encoder.conv.lin.weight.t() + encoder.conv.bias).relu()
        gates = signal @ lstm.weight_ih.t() + lstm.bias_ih + h @ lstm.weight_hh.t() + lstm.bias_hh
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        factors = factors + (c @ encoder.out.weight.t() + encoder.out.bias).tanh()
    return factors


@pytest.mark.parametrize("features", [0, 2])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_equals_the_printed_formulas(features: int, steps: int) -> None:
    encoder = DiffusionEncoder(4, 3, in_channels=features, hidden=5, order=3, steps=steps, gain=1.0).double()
    x = torch.randn(4, 2, dtype=torch.float64) if features else None
    assert torch.allclose(encoder(x, laplacian(4)), dense(encoder, x))


def test_the_start_is_no_parameter_but_is_saved() -> None:
    encoder = DiffusionEncoder(4, 3)
    assert "start" in encoder.state_dict()
    assert "start" not in dict(encoder.named_parameters())


def test_a_small_gain_keeps_the_factors_near_the_start() -> None:
    torch.manual_seed(0)
    moved = [
        (encoder(None, laplacian(4)) - encoder.start).norm().item()
        for encoder in (DiffusionEncoder(4, 3, gain=gain) for gain in (0.01, 1.0))
    ]
    assert moved[0] < 0.1 * moved[1]


@pytest.mark.parametrize("nodes", [0, 1])
def test_small(nodes: int) -> None:
    encoder = DiffusionEncoder(nodes, 3, in_channels=2)
    assert encoder(torch.ones(nodes, 2), laplacian(nodes)).shape == (nodes, 3)
