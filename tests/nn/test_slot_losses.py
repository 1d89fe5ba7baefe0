"""Losses over all candidates of a slot, over levels, and the penalties on named rows, against loops."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.nn import (
    CPDecoder,
    LevelDecoder,
    PairwiseDecoder,
    full_softmax_loss,
    level_cross_entropy,
    losses,
    row_norms,
    sampled_loss,
    with_batch_items,
)

SIZES = [3, 4, 2, 5]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@st.composite
def problems(draw: st.DrawFn) -> tuple[CPDecoder, list[Tensor], Tensor, Tensor | None]:
    """A decoder, its rows, tuples and weights; some slots are of one modality."""
    order, count, seed = draw(st.integers(1, 4)), draw(st.integers(0, 6)), draw(st.integers(0, 99))
    decoder = CPDecoder(order, 2, around_ones=draw(st.booleans())).double()
    decoder.offset.fill_(0.3)
    rows = [randn(n, 3, seed=seed + n) for n in SIZES[:order]]
    if order > 1 and draw(st.booleans()):
        rows[1] = rows[0]
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randint(r.size(0), (count,), generator=generator) for r in rows])
    weight = randn(count, seed=seed).abs() * (torch.arange(count) % 3 > 0) if draw(st.booleans()) else None
    return decoder, rows, index, weight


def naive(
    decoder: CPDecoder,
    rows: list[Tensor],
    index: Tensor,
    weight: Tensor | None,
    pools: list[list[int]],
    slots: list[int] | None = None,
) -> float:
    """Loop over tuples, slots and the distinct candidates of each, the own item among them."""
    slots = list(range(len(rows))) if slots is None else slots
    columns, total = [column.detach() for column in decoder.all_columns(rows)], 0.0

    def score(items: list[int]) -> float:
        return float(torch.stack([c[i] for c, i in zip(columns, items, strict=True)]).prod(0).sum()) + 0.3

    weights = [1.0] * index.size(1) if weight is None else weight.tolist()
    for items, w in zip(index.t().tolist(), weights, strict=True):
        for slot in slots:
            every = {*pools[slot], items[slot]}
            mass = sum(exp(score([*items[:slot], c, *items[slot + 1 :]])) for c in every)
            total += w * (log(mass) - score(items))
    return total / (len(slots) * max(sum(weights), 1e-300 if weights else 1.0))


@given(problems())
@settings(max_examples=40, deadline=None)
def test_the_full_softmax_equals_the_loops(problem: tuple[CPDecoder, list[Tensor], Tensor, Tensor | None]) -> None:
    decoder, rows, index, weight = problem
    pools = [list(range(row.size(0))) for row in rows]
    found = full_softmax_loss(decoder, rows, index, weight=weight)
    assert found.item() == pytest.approx(naive(decoder, rows, index, weight, pools), abs=1e-12)
    some = [torch.arange(0, row.size(0), 2) for row in rows]
    found = full_softmax_loss(decoder, rows, index, weight=weight, candidates=some)
    assert found.item() == pytest.approx(naive(decoder, rows, index, weight, [s.tolist() for s in some]), abs=1e-12)


@given(problems(), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_items_of_the_batch_are_candidates_once(
    problem: tuple[CPDecoder, list[Tensor], Tensor, Tensor | None], seed: int
) -> None:
    decoder, rows, index, weight = problem
    drawn = losses.draw_candidates([r.size(0) for r in rows], 3, generator=torch.Generator().manual_seed(seed))
    pools = [sorted({*d.tolist(), *i.tolist()}) for d, i in zip(drawn, index, strict=True)]
    assert [c.tolist() for c in with_batch_items(drawn, index)] == pools
    generator = torch.Generator().manual_seed(seed)
    options = {"num_negatives": 3, "kind": "softmax", "in_batch": True, "generator": generator, "weight": weight}
    found = sampled_loss(decoder, rows, index, **options)
    assert found.item() == pytest.approx(naive(decoder, rows, index, weight, pools), abs=1e-12)


@given(problems(), st.integers(1, 15), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_slots_that_are_not_predicted_are_left_out(
    problem: tuple[CPDecoder, list[Tensor], Tensor, Tensor | None], chosen: int, seed: int
) -> None:
    decoder, rows, index, weight = problem
    slots = [s for s in range(len(rows)) if chosen >> s & 1] or [0]
    sizes, generator = [r.size(0) for r in rows], torch.Generator().manual_seed(seed)
    drawn = losses.draw_candidates(sizes, 3, generator=generator, slots=slots)
    assert [c.numel() for c in drawn] == [3 * (s in slots) for s in range(len(rows))]
    pools = with_batch_items(drawn, index, slots)
    assert all(pool.numel() == 0 for s, pool in enumerate(pools) if s not in slots)
    options = {"kind": "softmax", "mass": losses.loss_mass(index.size(1), weight), "weight": weight}
    found = losses.candidate_loss(decoder, rows, index, pools, slots=slots, **options)
    expected = naive(decoder, rows, index, weight, [pool.tolist() for pool in pools], slots)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_the_full_softmax_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = PairwiseDecoder(3, 4, product=True).double()
    rows = [randn(n, 5, seed=n).requires_grad_() for n in (7, 5, 3)]
    index = torch.stack([torch.arange(10) % n for n in (7, 5, 3)])
    results = []
    for cells in (1 << 20, 21, 1):  # all tuples, three, one at a time
        monkeypatch.setattr(losses, "_CELLS", cells)
        loss = full_softmax_loss(decoder, rows, index)
        results.append((loss, *torch.autograd.grad(loss, rows)))
    for other in results[1:]:
        for expected, got in zip(results[0], other, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


@given(problems(), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_cross_entropy_over_levels_equals_the_loops(
    problem: tuple[CPDecoder, list[Tensor], Tensor, Tensor | None], levels: int
) -> None:
    base, rows, index, weight = problem
    decoder = LevelDecoder(base, [i + 0.5 for i in range(levels - 1)]).double()
    torch.nn.init.normal_(decoder.level)
    decoder.prior.normal_()
    value = torch.arange(index.size(1), dtype=torch.float64) % levels
    scores = decoder.level_scores(rows, index).tolist()
    weights = [1.0] * len(scores) if weight is None else weight.tolist()
    parts = [
        w * (log(sum(map(exp, row))) - row[int(v)]) for w, row, v in zip(weights, scores, value.tolist(), strict=True)
    ]
    expected = sum(parts) / max(sum(weights), 1e-300 if weights else 1.0)
    assert level_cross_entropy(decoder, rows, index, value, weight).item() == pytest.approx(expected, abs=1e-12)
    halves = [
        level_cross_entropy(decoder, rows, index[:, at], value[at], None if weight is None else weight[at], mass=2.0)
        for at in (slice(0, 2), slice(2, None))
    ]
    assert sum(halves).item() == pytest.approx(sum(parts) / 2, abs=1e-12)  # type: ignore[union-attr]


@given(problems(), st.sampled_from([2, 3]))
@settings(max_examples=30, deadline=None)
def test_penalties_equal_the_loops(problem: tuple[CPDecoder, list[Tensor], Tensor, Tensor | None], power: int) -> None:
    _, rows, index, _ = problem
    expected = sum(
        abs(x) ** power for row, items in zip(rows, index.tolist(), strict=True) for i in items for x in row[i].tolist()
    )
    assert row_norms(rows, index, power).item() == pytest.approx(expected)


def test_the_cubed_norm_has_a_gradient_at_zero() -> None:
    rows = [torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)]
    (grad,) = torch.autograd.grad(row_norms(rows, torch.tensor([[0, 1]]), 3), rows)
    assert grad.abs().max() == 0


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"'power' must be 2 \(L2\) or 3 \(N3\) \(got 1\)"):
        row_norms([torch.ones(1, 1)], torch.zeros(1, 1, dtype=torch.long), 1)
