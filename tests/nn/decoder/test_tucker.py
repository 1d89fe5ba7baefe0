from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.nn import CPDecoder, TuckerDecoder
from hyperlearn_pyg.testing import dense_cp

SIZES = [3, 4, 2, 3]


def make(order: int, rank: int, bias: bool, seed: int = 0) -> tuple[TuckerDecoder, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    decoder = TuckerDecoder(order, rank, bias=bias).double()
    decoder.offset.fill_(0.7)
    with torch.no_grad():
        decoder.core.normal_(generator=generator)
    width = rank + int(bias)
    rows = [torch.randn(n, width, dtype=torch.float64, generator=generator) for n in SIZES[:order]]
    return decoder, rows


def formula(decoder: TuckerDecoder, rows: list[Tensor], items: tuple[int, ...]) -> float:
    """The docstring's formula for one tuple, core entry by core entry."""
    rank = decoder.rank
    out = 0.7 + sum(row[i, rank].item() for row, i in zip(rows, items, strict=True) if decoder.bias)
    for at in product(range(rank), repeat=decoder.order):
        term = decoder.core[at].item()
        for row, i, r in zip(rows, items, at, strict=True):
            term *= row[i, r].item()
        out += term
    return out


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_scores_slots_and_norm_are_those_of_the_printed_formula(order: int, bias: bool) -> None:
    decoder, rows = make(order, 2, bias)
    cells = list(product(*map(range, SIZES[:order])))
    dense = torch.tensor([formula(decoder, rows, c) for c in cells], dtype=torch.float64).view(SIZES[:order])
    index = torch.tensor(cells).t()
    assert torch.allclose(decoder(rows, index), dense.flatten())
    named = [row[i] for row, i in zip(rows, index, strict=True)]
    assert torch.allclose(decoder.score_rows(named), dense.flatten())
    columns = decoder.all_columns(rows)
    assert columns[0].size(1) == 2 ** (order - 1) + order * bias
    assert torch.allclose(dense_cp(columns) + 0.7, dense)
    for norm in (decoder.norm(columns), decoder.norm_of(rows)):
        assert torch.allclose(norm, (dense - 0.7).square().sum())
    every = dense.movedim(-1, 0).reshape(SIZES[order - 1], -1).t().repeat_interleave(SIZES[order - 1], 0)
    assert torch.allclose(decoder.slot_scores(columns, index, order - 1, None), every)


@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_norm_without_columns_has_the_gradients_of_that_with_them(
    order: int, rank: int, bias: bool, seed: int
) -> None:
    decoder, rows = make(order, rank, bias, seed)
    rows = [row.requires_grad_() for row in rows]
    inputs = [decoder.core, *rows]
    given = torch.autograd.grad(decoder.norm_of(rows), inputs)
    wanted = torch.autograd.grad(decoder.norm(decoder.all_columns(rows)), inputs)
    assert all(torch.allclose(a, b) for a, b in zip(given, wanted, strict=True))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_it_starts_as_the_cp_model(order: int) -> None:
    decoder, (_, rows) = TuckerDecoder(order, 3, std=0.0).double(), make(order, 3, True)
    index = torch.zeros(order, 2, dtype=torch.long)
    assert torch.allclose(decoder(rows, index), CPDecoder(order, 3).double()(rows, index))
    noisy = TuckerDecoder(order, 3)
    assert 0 < (noisy.core - decoder.core).abs().max().item() < 0.1


@pytest.mark.parametrize("count", [0, 1])
def test_small(count: int) -> None:
    decoder, rows = make(3, 2, True)
    assert decoder(rows, torch.zeros(3, count, dtype=torch.long)).shape == (count,)
    assert decoder.score_rows([row[:count] for row in rows]).shape == (count,)


def test_too_many_columns() -> None:
    assert TuckerDecoder(3, 64).core.shape == (64, 64, 64)
    with pytest.raises(ValueError, match=r"'rank' must be at most 16 for a Tucker model of order 4.*\(got 17\)"):
        TuckerDecoder(4, 17)
