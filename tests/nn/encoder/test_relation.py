from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.nn import RelationEncoder
from hyperlearn_pyg.ops import Incidence
from hyperlearn_pyg.testing import dense_incidence

LEVELS, ITEMS, NODES = 3, 4, 5


def inverse_root(degree: Tensor) -> Tensor:
    return torch.where(degree > 0, degree.clamp(min=1e-9), torch.inf).rsqrt()


def dense(encoder: RelationEncoder, x: Tensor | None, indices: list[Tensor], keeps: list[Tensor | None]) -> Tensor:
    """The docstring's formula, with dense matrices: one a level."""
    hidden = torch.zeros(NODES, encoder.hidden, dtype=torch.float64)
    for table, index, keep in zip(encoder.tables, indices, keeps, strict=True):
        levels, items, _ = table.shape
        incidence = dense_incidence(index, (NODES, levels * items), keep).view(NODES, levels, items)
        d_node, d_item = inverse_root(incidence.sum((1, 2))), inverse_root(incidence.sum((0, 1)))
        for level in range(levels):
            vectors = table[: level + 1].sum(0)
            hidden = hidden + d_node[:, None] * incidence[:, level] @ (d_item[:, None] * vectors)
    parts = [hidden.relu()] if len(encoder.tables) else []
    if x is not None and encoder.features is not None:
        parts.append(encoder.features(x).relu())
    return encoder.out(torch.cat(parts, dim=1))


def entries(count: int, seed: int = 0, levels: int = LEVELS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    bounds = (NODES, levels * ITEMS)
    return torch.stack([torch.randint(n, (count,), generator=generator) for n in bounds])


@given(st.integers(0, 20), st.integers(0, 99), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_equals_the_dense_formula(count: int, seed: int, features: bool, masked: bool) -> None:
    channels = [(LEVELS, ITEMS), (1, ITEMS)]
    encoder = RelationEncoder(channels, 3, in_channels=2 * features, hidden=6, feature_hidden=4).double()
    indices = [entries(count, seed), entries(count, seed + 1, 1)]
    keeps = [(torch.rand(count) < 0.5).double() if masked else None for _ in channels]
    x = torch.randn(NODES, 2, dtype=torch.float64) if features else None
    incidences = [Incidence(i, (NODES, n * m)) for i, (n, m) in zip(indices, channels, strict=True)]
    assert torch.allclose(encoder(x, incidences, keeps), dense(encoder, x, indices, keeps))
    if not masked:
        assert torch.equal(encoder(x, incidences), encoder(x, incidences, keeps))


@given(st.integers(0, 20), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_an_entry_left_out_is_as_good_as_absent(count: int, seed: int) -> None:
    encoder, index = RelationEncoder([(LEVELS, ITEMS)], 3, hidden=6).double(), entries(count, seed)
    keep = (torch.rand(count) < 0.5).double()
    size = (NODES, LEVELS * ITEMS)
    without = encoder(None, [Incidence(index[:, keep.bool()], size)])
    assert torch.allclose(encoder(None, [Incidence(index, size)], [keep]), without)
    assert torch.allclose(
        encoder(None, [Incidence(index, size)], [torch.ones(count)]), encoder(None, [Incidence(index, size)])
    )


def test_the_heads_of_the_biases_start_at_zero() -> None:
    encoder = RelationEncoder([(1, ITEMS)], 3, zero_channels=1)
    out = encoder(None, [Incidence(entries(9, levels=1), (NODES, ITEMS))])
    assert out[:, :2].abs().min() > 0
    assert out[:, 2].abs().max() == 0


def test_penalty_is_the_sum_of_squares_of_the_tables() -> None:
    encoder = RelationEncoder([(LEVELS, ITEMS), (1, 2)], 3)
    assert encoder.penalty().item() == pytest.approx(sum(t.square().sum().item() for t in encoder.tables))
    assert RelationEncoder([], 3, in_channels=2).penalty().item() == 0


def test_dropout_acts_in_training_alone_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    encoder = RelationEncoder([(1, ITEMS)], 1, hidden=4, node_dropout=0.5).double()
    torch.nn.init.constant_(encoder.tables[0], 1.0)  # all messages positive: the ReLU does nothing
    incidences = [Incidence(entries(20, levels=1), (NODES, ITEMS))]
    draws = torch.stack([encoder(None, incidences) for _ in range(2000)])
    encoder.eval()
    assert torch.equal(encoder(None, incidences), encoder(None, incidences))
    assert draws.std(0).min() > 0
    assert torch.allclose(draws.mean(0), encoder(None, incidences), atol=0.1)


def test_parameters_are_drawn_afresh() -> None:
    encoder = RelationEncoder([(1, ITEMS)], 3, in_channels=2, zero_channels=1)
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    encoder.reset_parameters()
    assert all(not torch.equal(p, before[name]) for name, p in encoder.named_parameters())


@pytest.mark.parametrize("nodes", [0, 1])
def test_small(nodes: int) -> None:
    encoder = RelationEncoder([(1, 0)], 3, in_channels=2)
    assert encoder(torch.randn(nodes, 2), [Incidence(torch.empty(2, 0, dtype=torch.long), (nodes, 0))]).shape == (
        nodes,
        3,
    )


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"one per channel, 1 \(got 0\)"):
        RelationEncoder([(1, ITEMS)], 3)(None, [])
    with pytest.raises(ValueError, match="the encoder would read nothing"):
        RelationEncoder([], 3)
