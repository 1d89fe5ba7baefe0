from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from hyperlearn_pyg.ops import Incidence
from hyperlearn_pyg.ops.multiset import multiset_softmax

INDEX = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 1, 0]])


@pytest.mark.parametrize("by_row", [True, False])
def test_counts_weigh_the_exponentials(by_row: bool) -> None:
    inc, key = Incidence(INDEX, (4, 2)), INDEX[0 if by_row else 1]
    score = torch.randn(5, 2, dtype=torch.float64)
    count = torch.tensor([2.0, 1.0, 0.0, 3.0, 0.0], dtype=torch.float64)
    raised = score.exp() * count[:, None]
    total = torch.stack([raised[key == k].sum(0) for k in key])
    expected = torch.where(total > 0, raised / total.clamp(min=1e-30), 0.0)
    assert torch.allclose(multiset_softmax(inc, score, count, by_row=by_row), expected)
    ones = torch.ones(5, dtype=torch.float64)
    assert torch.allclose(
        multiset_softmax(inc, score, ones, by_row=by_row), multiset_softmax(inc, score, None, by_row=by_row)
    )


def test_what_does_not_count_neither_drowns_nor_spoils_the_rest() -> None:
    inc = Incidence(INDEX, (4, 2))
    score = torch.tensor([[1.0], [2.0], [1e4], [-1e4], [1e4]], requires_grad=True)
    count = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0], requires_grad=True)
    alpha = multiset_softmax(inc, score, count, by_row=True)
    assert alpha[2:].flatten().tolist() == [0.0, 1.0, 0.0]
    alpha.square().sum().backward()
    assert score.grad is not None
    assert count.grad is not None
    assert bool(torch.cat([score.grad.flatten(), count.grad]).isfinite().all())


def test_derivative_at_zero_too() -> None:
    inc = Incidence(INDEX, (4, 2))
    score = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    count = torch.tensor([2.0, 0.0, 0.0, 3.0, 1.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda s, c: multiset_softmax(inc, s, c, by_row=True), (score, count))
