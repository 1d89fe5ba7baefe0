from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg.nn import EmbeddingEncoder


@pytest.mark.parametrize("items", [0, 1, 5])
def test_it_is_a_table_plus_a_linear_map(items: int) -> None:
    encoder, x = EmbeddingEncoder(items, 3, in_channels=2), torch.randn(items, 2)
    assert torch.equal(encoder(x), encoder.weight)  # features start silent
    torch.nn.init.normal_(encoder.features.weight)  # type: ignore[union-attr]
    assert torch.allclose(encoder(x), encoder.weight + x @ encoder.features.weight.t())  # type: ignore[union-attr]
    assert torch.equal(encoder(), encoder.weight)


def test_without_features() -> None:
    encoder = EmbeddingEncoder(5, 3, std=0.0)
    assert torch.equal(encoder(torch.randn(5, 2)), torch.zeros(5, 3))


def test_dropout_acts_in_training_alone() -> None:
    encoder = EmbeddingEncoder(50, 3, dropout=0.5)
    assert bool((encoder() == 0).any())
    assert torch.equal(encoder.eval()(), encoder.weight)
