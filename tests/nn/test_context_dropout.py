from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import CPDecoder, ModelConfig
from hyperlearn_pyg.nn.context_dropout import ContextDropout
from hyperlearn_pyg.nn.losses import candidate_loss


def test_columns_are_dropped_with_the_probability_and_independently() -> None:
    items = torch.stack([torch.arange(4000), torch.arange(4000).flip(0) % 7, torch.zeros(4000, dtype=torch.long)])
    first, second = (ContextDropout(0.3, seed).kept(items, 1, 16).double() for seed in (0, 1))
    other = ContextDropout(0.3, 0).kept(items, 2, 16).double()
    for mask in (first, second, other):
        assert (mask.mean(0) - 0.7).abs().max() < 0.03
    both = torch.corrcoef(torch.cat([first, second, other], dim=1).t())
    assert (both - torch.eye(48)).abs().max() < 0.08  # five deviations of 4,000 tuples
    assert (first[1:] - first[:-1]).abs().mean() == pytest.approx(2 * 0.3 * 0.7, abs=0.02)


def test_a_tuple_drops_the_same_columns_in_any_part_and_order() -> None:
    items = torch.randint(1 << 40, (3, 50))
    dropout = ContextDropout(0.5, 7)
    whole = dropout.kept(items, 0, 9)
    order = torch.randperm(50)[:20]
    assert torch.equal(dropout.kept(items[:, order], 0, 9), whole[order])
    assert dropout.kept(items[:, :0], 0, 9).shape == (0, 9)
    assert dropout.kept(items, 0, 0).shape == (50, 0)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_the_loss_is_that_of_the_product_without_the_dropped_columns(order: int, bias: bool) -> None:
    torch.manual_seed(0)
    decoder = CPDecoder(order, 5, bias=bias, around_ones=True)
    rows = [torch.randn(6, decoder.in_channels, dtype=torch.float64) for _ in range(order)]
    decoder = decoder.double()
    index, every = torch.randint(6, (order, 8)), [torch.arange(6)] * order
    dropout = ContextDropout(0.4, 3)
    found = candidate_loss(decoder, rows, index, every, kind="softmax", mass=8.0, dropout=dropout)
    columns, expected = decoder.all_columns(rows), torch.zeros((), dtype=torch.float64)
    for slot in range(order):
        kept = dropout.kept(index, slot, 5).double() / 0.6
        for e in range(8):
            context = torch.ones(columns[0].size(1), dtype=torch.float64)
            for s in range(order):
                context = context * (1 if s == slot else columns[s][index[s, e]])
            if order > 1:
                context[:5] *= kept[e]
            scores = columns[slot] @ context
            expected = expected + scores.logsumexp(0) - scores[index[slot, e]]
    assert torch.allclose(found, expected / (8 * order))


def test_it_is_for_training_alone_and_the_same_for_the_same_generator() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=5).add_modality("b", num_nodes=4)
    data.add_hyperedges("r", torch.tensor([[0, 1, 4, 2], [0, 3, 2, 1]]), modalities=("a", "b"))
    torch.manual_seed(0)
    options = {"decoder": "cp_around_ones", "link_loss": "full_softmax", "encoder": "embedding"}
    model = HyperLearn.from_data(data, 8, "links", context_dropout=0.5, **options)
    inputs = model.prepare(data)

    def loss(seed: int) -> torch.Tensor:
        return model.loss(inputs, generator=torch.Generator().manual_seed(seed), seed=0)

    assert torch.equal(loss(1), loss(1))
    assert not torch.equal(loss(1), loss(2))
    model.eval()
    assert torch.equal(loss(1), loss(2))
    plain = HyperLearn(model.encoders, model.decoders, model.relations, replace(model.config, context_dropout=0.0))
    assert torch.equal(loss(1), plain.loss(inputs))


@pytest.mark.parametrize("values", [{"decoder": "pairwise"}, {"link_loss": "all_cells"}])
def test_errors(values: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"model.context_dropout: .* must be 'cp'"):
        ModelConfig(context_dropout=0.1, **values)
    with pytest.raises(InputError, match=r"context_dropout: expected a number in \[0, 1\)"):
        ModelConfig(context_dropout=1.0)
