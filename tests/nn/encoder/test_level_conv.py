from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.nn import HypergraphConv, LevelConvEncoder
from hyperlearn_pyg.ops import Incidence
from hyperlearn_pyg.testing import dense_incidence

LEVELS, ITEMS, NODES = 3, 4, 5


def entries(count: int, seed: int, levels: int = LEVELS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(n, (count,), generator=generator) for n in (NODES, levels * ITEMS)])


def inverse(degree: Tensor, power: float) -> Tensor:
    return torch.where(degree > 0, degree.clamp(min=1e-9) ** -power, 0.0)


def dense(encoder: LevelConvEncoder, x: Tensor | None, index: Tensor, keep: Tensor | None) -> Tensor:
    """The docstring's formula, with a dense matrix a level."""
    incidence = dense_incidence(index, (NODES, LEVELS * ITEMS), keep).view(NODES, LEVELS, ITEMS)
    d_node, d_edge = inverse(incidence.sum((1, 2)), 0.5)[:, None], inverse(incidence.sum((0, 1)), 1.0)[:, None]
    signal = x if encoder.weight is None else encoder.weight
    assert signal is not None
    hidden = torch.zeros(NODES, encoder.hidden, dtype=torch.float64)
    for level in range(LEVELS):
        maps = encoder.tables[0][: level + 1].sum(0)
        edges = d_edge * (incidence[:, level].t() @ (d_node * signal) @ maps)
        hidden = hidden + d_node * (incidence[:, level] @ edges)
    parts = [hidden.relu()]
    if encoder.features is not None and x is not None:
        parts.append(encoder.features(x).relu())
    return encoder.out(torch.cat(parts, dim=1))


@given(st.integers(0, 20), st.integers(0, 99), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_equals_the_dense_formula(count: int, seed: int, features: bool, masked: bool) -> None:
    encoder = LevelConvEncoder(NODES, [(LEVELS, ITEMS)], 3, in_channels=2 * features, hidden=6).double()
    index, x = entries(count, seed), torch.randn(NODES, 2, dtype=torch.float64) if features else None
    keep = (torch.rand(count) < 0.5).double() if masked else None
    inc = Incidence(index, (NODES, LEVELS * ITEMS))
    assert torch.allclose(encoder(x, [inc], [keep]), dense(encoder, x, index, keep))
    if keep is not None:
        without = Incidence(index[:, keep.bool()], (NODES, LEVELS * ITEMS))
        assert torch.allclose(encoder(x, [inc], [keep]), encoder(x, [without]))


def test_of_one_level_it_is_the_symmetric_hypergraph_convolution() -> None:
    encoder = LevelConvEncoder(NODES, [(1, ITEMS)], 3, in_channels=2, hidden=6).double()
    index, x = entries(9, 1, 1), torch.randn(NODES, 2, dtype=torch.float64)
    conv = HypergraphConv(2, 6, bias=False, normalization="symmetric").double()
    with torch.no_grad():
        conv.lin.weight.copy_(encoder.tables[0][0].t())
    hidden = torch.cat([conv(x, index, num_edges=ITEMS).relu(), encoder.features(x).relu()], dim=1)  # type: ignore[misc]
    assert torch.allclose(encoder(x, [Incidence(index, (NODES, ITEMS))]), encoder.out(hidden))


def test_it_has_no_parameters_by_hyperedge() -> None:
    sizes = [sum(p.numel() for p in LevelConvEncoder(NODES, [(2, n)], 3).parameters()) for n in (1, 1000)]
    assert sizes[0] == sizes[1]
    encoder = LevelConvEncoder(NODES, [(2, 3)], 3, hidden=4)
    assert encoder.channels == ((2, 3),)
    assert encoder.penalty().item() == pytest.approx(encoder.tables[0].square().sum().item())


@pytest.mark.parametrize("nodes", [0, 1])
@pytest.mark.parametrize("items", [0, 2])
def test_small(nodes: int, items: int) -> None:
    encoder = LevelConvEncoder(nodes, [(2, items)], 3)
    inc = Incidence(torch.empty(2, 0, dtype=torch.long), (nodes, 2 * items))
    assert encoder(None, [inc]).shape == (nodes, 3)


def test_features_that_are_missing() -> None:
    encoder = LevelConvEncoder(NODES, [(1, ITEMS)], 3, in_channels=2)
    with pytest.raises(ValueError, match="'x' is missing"):
        encoder(None, [Incidence(entries(3, 0, 1), (NODES, ITEMS))])
