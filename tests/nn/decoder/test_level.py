from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperlearn_pyg.nn import CPDecoder, KruskalDecoder, LevelDecoder, PairwiseDecoder, TuckerDecoder
from hyperlearn_pyg.nn.decoder import level
from hyperlearn_pyg.ops import cp_score, gram_norm

SIZES = [3, 4, 2, 3]


def make(base: KruskalDecoder, levels: int = 3) -> tuple[LevelDecoder, list[Tensor]]:
    torch.manual_seed(0)
    decoder = LevelDecoder(base, [i + 1.5 for i in range(levels - 1)]).double()
    decoder.prior.copy_(torch.rand(levels).log())
    torch.nn.init.normal_(decoder.level)
    rows = [torch.randn(n, base.in_channels, dtype=torch.float64) for n in SIZES[: base.order]]
    return decoder, rows


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [CPDecoder, PairwiseDecoder, TuckerDecoder])
def test_the_level_is_one_more_mode(order: int, kind: type[KruskalDecoder]) -> None:
    if kind is PairwiseDecoder and order == 1:
        return
    decoder, rows = make(kind(order, 2).double())
    index = torch.stack([torch.randint(n, (6,)) for n in SIZES[:order]])
    columns, scores = [*decoder.all_columns(rows), decoder.level], decoder.level_scores(rows, index)
    for number in range(3):
        at = torch.cat([index, torch.full((1, 6), number)])
        assert torch.allclose(scores[:, number], cp_score(columns, at) + decoder.prior[number])
    expected = scores.softmax(1) @ torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert torch.allclose(decoder(rows, index), expected)
    assert torch.allclose(decoder.score_rows([r[i] for r, i in zip(rows, index, strict=True)]), expected)
    assert torch.allclose(decoder.norm_of(rows), gram_norm(columns))
    for slot in range(order):
        every = decoder.slot_scores(decoder.all_columns(rows), index, slot, None)
        assert torch.allclose(every.gather(1, index[slot][:, None])[:, 0], expected)
        some = torch.tensor([1, 0])
        assert torch.allclose(decoder.slot_scores(decoder.all_columns(rows), index, slot, some), every[:, some])


def test_chunks_give_the_same_scores_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, rows = make(CPDecoder(2, 2).double())
    index, results = torch.stack([torch.randint(n, (7,)) for n in SIZES[:2]]), []
    for chunk in (100, 3):
        monkeypatch.setattr(level, "_CHUNK", chunk)
        given = [row.clone().requires_grad_() for row in rows]
        scores = decoder.level_scores(given, index)
        results.append((scores, *torch.autograd.grad(scores.sin().sum(), [decoder.level, *given])))
    assert all(torch.allclose(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_shares_come_from_the_training_entries(weighted: bool) -> None:
    decoder, _ = make(CPDecoder(2, 2).double(), levels=4)
    value = torch.tensor([1.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0]) if weighted else None
    decoder.start(value, weight)
    assert decoder.levels_of(value).tolist() == [0, 0, 1, 3]
    assert decoder.values.tolist() == [1.0, 2.0, 3.0, 4.0]  # no entry has the third: it keeps its value
    mass = torch.tensor([3.0, 0.5, 0.5, 1.0] if weighted else [2.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    assert torch.allclose(decoder.prior.exp(), mass / mass.sum())


def test_it_starts_at_the_mean_plus_the_score() -> None:
    base = CPDecoder(2, 2).double()
    decoder = LevelDecoder(base, [1.5, 2.5, 3.5, 4.5]).double()
    value = torch.tensor([1.0, 2, 3, 3, 4, 4, 4, 5, 5], dtype=torch.float64)
    decoder.start(value)
    rows = [1e-3 * torch.randn(n, 3, dtype=torch.float64) for n in (3, 4)]
    index = torch.tensor([[0, 1, 2], [3, 0, 1]])
    assert torch.allclose(decoder(rows, index), value.mean() + base(rows, index), atol=1e-5)
    assert torch.allclose(decoder.trend(), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("levels", [1, 2])
def test_small(count: int, levels: int) -> None:
    decoder, rows = make(CPDecoder(2, 2).double(), levels)
    index = torch.zeros(2, count, dtype=torch.long)
    assert decoder.level_scores(rows, index).shape == (count, levels)
    decoder.start(torch.ones(count, dtype=torch.float64))
    assert bool(decoder.predict(rows, index).isfinite().all())
    assert decoder.predict(rows, index).shape == (count,)


def test_boundaries_ascend() -> None:
    with pytest.raises(ValueError, match=r"'boundaries' must ascend \(got \[2.0, 1.0\]\)"):
        LevelDecoder(CPDecoder(2, 2), [2.0, 1.0])
    made = {(): [0.0], (2.0,): [1.5, 2.5], (1.0, 2.0, 4.0): [0.5, 1.5, 3.0, 5.0]}
    for boundaries, values in made.items():
        assert LevelDecoder(CPDecoder(2, 2), boundaries).values.tolist() == values
    assert repr(LevelDecoder(CPDecoder(2, 2), [1.5])) == "LevelDecoder(CPDecoder(order=2, rank=2, bias=True), levels=2)"
