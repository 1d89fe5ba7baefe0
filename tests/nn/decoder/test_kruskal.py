from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from hyperlearn_pyg.nn import CPDecoder, KruskalDecoder, PairwiseDecoder
from hyperlearn_pyg.testing import dense_cp

SIZES = [3, 4, 2, 3]


def make(order: int, rank: int = 2, count: int = 6, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Rows with a bias each, and tuples."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(n, rank + 1, dtype=torch.float64, generator=generator) for n in SIZES[:order]]
    return rows, torch.stack([torch.randint(n, (count,), generator=generator) for n in SIZES[:order]])


def decoders(order: int, bias: bool) -> list[KruskalDecoder]:
    made: list[KruskalDecoder] = [CPDecoder(order, 2, bias=bias), CPDecoder(order, 2, bias=bias, around_ones=True)]
    made += [PairwiseDecoder(order, 2, bias=bias)] if order > 1 else []
    for decoder in made:
        decoder.double().offset.fill_(0.7)
    return made


def formula(decoder: KruskalDecoder, rows: list[Tensor], items: list[int]) -> float:
    """The docstrings' formulas, for one tuple."""
    vectors = [row[i, :2] for row, i in zip(rows, items, strict=True)]
    out = 0.7 + sum(float(row[i, 2]) for row, i in zip(rows, items, strict=True)) * decoder.bias
    if isinstance(decoder, PairwiseDecoder):
        return out + sum(float(a @ b) for a, b in combinations(vectors, 2))
    assert isinstance(decoder, CPDecoder)
    around = 0.0 if decoder.center is None else 1.0
    return out + float(torch.stack([v + around for v in vectors]).prod(0).sum())


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_scores_are_the_printed_formula(order: int, bias: bool) -> None:
    rows, index = make(order)
    given = [r if bias else r[:, :2] for r in rows]
    for decoder in decoders(order, bias):
        expected = [formula(decoder, rows, items) for items in index.t().tolist()]
        assert torch.allclose(decoder(given, index), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_norm_and_slot_scores_are_those_of_the_dense_tensor(order: int, bias: bool) -> None:
    rows, index = make(order)
    given = [r if bias else r[:, :2] for r in rows]
    for decoder in decoders(order, bias):
        columns = decoder.all_columns(given)
        dense = dense_cp(columns)
        assert torch.allclose(decoder.norm(columns), dense.square().sum())
        assert torch.allclose(decoder(given, index), dense[tuple(index)] + 0.7)
        for slot in range(order):
            at = [row if s != slot else slice(None) for s, row in enumerate(index)]
            every = dense.movedim(slot, -1)[tuple(a for a in at if not isinstance(a, slice))] + 0.7
            every = every.expand(index.size(1), SIZES[slot])
            assert torch.allclose(decoder.slot_scores(columns, index, slot, None), every)
            some = torch.tensor([1, 0, 1])
            assert torch.allclose(decoder.slot_scores(columns, index, slot, some), every[:, some])


def test_predictions_stay_inside_the_range() -> None:
    rows, index = make(2)
    decoder = decoders(2, True)[0]
    free = decoder.predict(rows, index)
    assert torch.equal(free, decoder(rows, index))
    decoder.range.copy_(torch.tensor([-0.5, 0.5]))
    assert torch.equal(decoder.predict(rows, index), free.clamp(-0.5, 0.5))


@pytest.mark.parametrize("count", [0, 1])
def test_small(count: int) -> None:
    rows, index = make(3, count=count)
    assert all(decoder(rows, index).shape == (count,) for decoder in decoders(3, True))


def test_roles_share_factors() -> None:
    rows, index = make(2)
    index = index.clamp(max=2)
    decoder = decoders(2, True)[0]
    assert torch.allclose(decoder([rows[0], rows[0]], index), decoder([rows[0], rows[0]], index.flip(0)))


def test_errors() -> None:
    rows, index = make(2)
    decoder = CPDecoder(2, 2).double()
    with pytest.raises(ValueError, match=r"one tensor per slot, 2 in all \(got 1\)"):
        decoder(rows[:1], index)
    with pytest.raises(ValueError, match=r"slot 1 must have shape \[N, 3\] \(got \[4, 2\]\)"):
        decoder([rows[0], rows[1][:, :2]], index)
    with pytest.raises(ValueError, match=r"at least 1 \(got 0 and 2\)"):
        CPDecoder(0, 2)
