from __future__ import annotations

import torch

from hyperlearn_pyg.nn import CPDecoder
from hyperlearn_pyg.ops import cp_score


def test_centres_start_at_one_and_return_there() -> None:
    decoder = CPDecoder(3, 2, around_ones=True)
    assert decoder.center is not None
    torch.nn.init.zeros_(decoder.center)
    decoder.reset_parameters()
    assert bool((decoder.center == 1).all())
    assert repr(decoder) == "CPDecoder(order=3, rank=2, bias=True)"


def test_without_biases_and_centres_it_is_the_cp_model() -> None:
    factors = [torch.randn(n, 2, dtype=torch.float64) for n in (3, 4, 2)]
    index = torch.tensor([[0, 2, 1], [3, 0, 1], [1, 1, 0]])
    assert torch.equal(CPDecoder(3, 2, bias=False).double()(factors, index), cp_score(factors, index))


def test_around_ones_does_not_start_on_a_saddle() -> None:
    index = torch.zeros(4, 1, dtype=torch.long)
    for around_ones in (False, True):
        factors = [torch.zeros(1, 2, requires_grad=True) for _ in range(4)]
        grads = torch.autograd.grad(CPDecoder(4, 2, bias=False, around_ones=around_ones)(factors, index).sum(), factors)
        assert all(bool((g == float(around_ones)).all()) for g in grads)
