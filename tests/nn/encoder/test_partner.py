from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.nn import EmbeddingEncoder, PartnerEncoder
from hyperlearn_pyg.ops import Incidence
from hyperlearn_pyg.testing import dense_incidence

NODES, ITEMS = 5, 4


def entries(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(n, (count,), generator=generator) for n in (NODES, ITEMS)])


def made(channels: int, features: bool) -> PartnerEncoder:
    torch.manual_seed(0)
    encoder = PartnerEncoder(NODES, 3, channels, in_channels=2 * features).double()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter)
    return encoder


def dense(encoder: PartnerEncoder, x: Tensor | None, indices: list[Tensor], keeps: list[Tensor | None]) -> Tensor:
    """The docstring's formula, with the product formed."""
    own = encoder.weight if x is None or encoder.features is None else encoder.weight + encoder.features(x)
    out = own
    for weight, index, keep in zip(encoder.partners, indices, keeps, strict=True):
        incidence = dense_incidence(index, (NODES, ITEMS), keep)
        shared = incidence @ incidence.t()
        total = shared.sum(1, keepdim=True)
        out = out + torch.where(total > 0, shared @ own @ weight / total.clamp(min=1e-9), 0.0)
    return out


@given(st.integers(0, 12), st.integers(0, 99), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_equals_the_dense_formula(count: int, seed: int, features: bool, masked: bool) -> None:
    encoder = made(2, features)
    indices = [entries(count, seed), entries(count, seed + 1)]
    keeps = [(torch.rand(count) < 0.5).double() if masked else None for _ in indices]
    x = torch.randn(NODES, 2, dtype=torch.float64) if features else None
    incidences = [Incidence(i, (NODES, ITEMS)) for i in indices]
    assert torch.allclose(encoder(x, incidences, keeps), dense(encoder, x, indices, keeps))
    if masked:
        without = [Incidence(i[:, k.bool()], (NODES, ITEMS)) for i, k in zip(indices, keeps, strict=True)]  # type: ignore[union-attr]
        assert torch.allclose(encoder(x, incidences, keeps), encoder(x, without))


@pytest.mark.parametrize("channels", [0, 2])
@pytest.mark.parametrize("items", [0, 1, 4])
def test_it_starts_as_the_embedding(channels: int, items: int) -> None:
    encoder = PartnerEncoder(items, 3, channels, in_channels=2)
    incidences = [Incidence(torch.zeros(2, min(items, 1), dtype=torch.long), (items, 3))] * channels
    assert torch.equal(encoder(torch.ones(items, 2), incidences), encoder.weight)
    assert set(dict(EmbeddingEncoder(items, 3).named_parameters())) <= set(dict(encoder.named_parameters()))


def test_an_item_unseen_by_its_own_table_has_what_its_partners_have() -> None:
    encoder = PartnerEncoder(3, 2, 1, std=0.0).double()
    with torch.no_grad():
        encoder.weight[:2] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        encoder.partners[0] = torch.eye(2)
    inc = Incidence(torch.tensor([[0, 1, 2], [0, 0, 0]]), (3, 1))
    assert torch.allclose(encoder(None, [inc])[2], torch.tensor([4.0, 6.0], dtype=torch.float64) / 3)


def test_dropout_acts_in_training_alone() -> None:
    encoder = PartnerEncoder(50, 3, 0, dropout=0.5)
    assert bool((encoder(None, []) == 0).any())
    assert torch.equal(encoder.eval()(None, []), encoder.weight)
    with pytest.raises(ValueError, match=r"one per channel, 0 \(got 1\)"):
        encoder(None, [Incidence(entries(2, 0), (NODES, ITEMS))])
