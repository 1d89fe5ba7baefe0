from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperlearn_pyg import HyperLearn
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import ModelConfig, ResidualEncoder


def make(features: bool) -> MultiModalHeteroData:
    torch.manual_seed(0)
    data = MultiModalHeteroData()
    data["user"].num_nodes, data["film"].num_nodes = 5, 4
    if features:
        data["user"].x = torch.randn(5, 3)
    index = torch.tensor([[0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 0, 1]])
    data.add_hyperedges("rates", {"user": index[0], "film": index[1]}, value=torch.tensor([1.0, 2, 1, 2, 2, 1]))
    return data


@pytest.mark.parametrize("features", [False, True])
def test_the_encoder_is_its_stack_over_the_training_relation(features: bool) -> None:
    data = make(features)
    model = HyperLearn.from_data(data, 2, "ratings", encoder="residual", blocks=3, hidden=6, dropout=0.0).eval()
    encoder: Any = model.encoders["user"].encoder
    assert isinstance(encoder, ResidualEncoder)
    assert len(encoder.stack.blocks) == 3
    user, film = data.relation("rates").index
    level = (data["rates"].value == 2).long()
    edges = torch.stack([user, level * 4 + film])  # films of one level are hyperedges
    x = data["user"].x if features else encoder.weight
    assert torch.allclose(model(data)["user"][:, :2], encoder.stack(x, edges, num_edges=8), atol=1e-6)
    keep = {"rates": torch.tensor([1.0, 1, 1, 1, 1, 0])}
    assert torch.allclose(model(data, keep)["user"][:, :2], encoder.stack(x, edges[:, :5], num_edges=8), atol=1e-6)
    model.train().loss(model.prepare(data)).backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match=r"model.blocks: expected a whole number of at least 1 \(got 0\)"):
        ModelConfig(blocks=0)
    with pytest.raises(ValueError, match="'x' is missing"):
        ResidualEncoder(3, 2, in_channels=4)(None, torch.empty(2, 0, dtype=torch.long), 0)


@pytest.mark.parametrize("features", [False, True])
def test_all_parameters_are_drawn_afresh(features: bool) -> None:
    encoder = ResidualEncoder(3, 2, 2, in_channels=4 * features, hidden=5)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters() if p.dim() == 2}
    encoder.reset_parameters()
    assert all(not torch.equal(p, before[name]) for name, p in encoder.named_parameters() if name in before)
    assert ("weight" in before) == (not features)
