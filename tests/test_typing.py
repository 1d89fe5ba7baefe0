from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg import HyperLearn
from hyperlearn_pyg.datasets import SyntheticMultiModal
from hyperlearn_pyg.typing import LossModule, ModalityModule, TupleBatch


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoders = torch.nn.ModuleDict()

    def encode(self, name, data):
        return data

    def decode(self, rows, tuples):
        return rows


def test_what_meets_the_protocols():
    assert isinstance(Small(), ModalityModule)
    assert not isinstance(Small(), LossModule)
    assert not isinstance(torch.nn.Linear(1, 1), ModalityModule)
    model = HyperLearn.from_data(SyntheticMultiModal()[0], rank=2, encoder="embedding")
    assert isinstance(model, ModalityModule)
    assert isinstance(model, LossModule)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_counts_its_tuples(count):
    batch = TupleBatch("r", ("a", "b"), torch.zeros(2, count, dtype=torch.long))
    assert len(batch) == count
    assert (batch.value, batch.weight, batch.candidates, batch.mass, batch.cells) == (None, None, (), 1.0, 0.0)
