from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.data import tuples
from hyperlearn_pyg.training.metrics import auc_ap, corrupt, filtered_ranks, mae, rmse


@st.composite
def tables(draw: st.DrawFn) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    counts = draw(st.integers(0, 12)), draw(st.integers(0, 20))
    made = [torch.stack([torch.randint(n, (c,), generator=generator) for n in sizes]) for c in counts]
    return made[0], made[1], sizes


@given(tables(), st.integers(0, 99), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_corrupted_tuple_is_unknown_and_differs_in_one_slot(
    problem: tuple[Tensor, Tensor, tuple[int, ...]], seed: int, overflow: bool
) -> None:
    index, known, sizes = problem
    known = torch.cat([index, known], dim=1)
    with pytest.MonkeyPatch.context() as patch:
        if overflow:
            patch.setattr(tuples, "_INT64", 1)
        out, source = corrupt(index, known, sizes, torch.Generator().manual_seed(seed))
    assert out.size(1) == len(source) == len(set(source.tolist()))
    taken = {tuple(t) for t in known.t().tolist()}
    assert not taken & {tuple(t) for t in out.t().tolist()}
    assert bool(((out != index[:, source]).sum(0) == 1).all())
    assert all(bool(((row >= 0) & (row < n)).all()) for row, n in zip(out, sizes, strict=True))


def test_where_every_cell_is_known_there_is_no_negative() -> None:
    cells = torch.cartesian_prod(torch.arange(2), torch.arange(3)).t()
    out, source = corrupt(cells, cells, (2, 3), torch.Generator())
    assert out.shape == (2, 0)
    assert source.tolist() == []


def test_corruption_is_uniform_over_slots_and_items() -> None:
    index = torch.zeros(2, 20_000, dtype=torch.long)
    out, _ = corrupt(index, index[:, :1], (3, 5), torch.Generator().manual_seed(0))
    counts = torch.stack([(out[0] == i) & (out[1] == j) for i, j in ((1, 0), (2, 0), (0, 1), (0, 4))]).sum(1)
    expected = torch.tensor([1 / 4, 1 / 4, 1 / 8, 1 / 8])
    assert torch.allclose(counts / out.size(1), expected, atol=0.02)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.lists(st.integers(0, 4), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_auc_is_the_share_of_pairs_in_order_ties_half(positive: list[int], negative: list[int]) -> None:
    auc, ap = auc_ap(torch.tensor(positive).double(), torch.tensor(negative).double())
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auc == pytest.approx(sum(pairs) / len(pairs))
    total, before = 0.0, 0.0
    for cut in sorted({*positive, *negative}, reverse=True):
        hits = sum(p >= cut for p in positive)
        recall = hits / len(positive)
        total += (recall - before) * hits / (hits + sum(n >= cut for n in negative))
        before = recall
    assert ap == pytest.approx(total)


def test_auc_of_nothing_is_not_a_number() -> None:
    assert np.isnan(auc_ap(torch.ones(2), torch.ones(0))).all()
    assert np.isnan(auc_ap(torch.ones(0), torch.ones(2))).all()


def test_errors_of_values() -> None:
    score, value = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 4.0, 3.0])
    assert rmse(score, value) == pytest.approx(sqrt(5 / 3))
    assert mae(score, value) == pytest.approx(1.0)
    assert np.isnan(rmse(score[:0], value[:0]))


def naive_ranks(score: Tensor, index: Tensor, known: Tensor, sizes: Sequence[int], slot: int) -> list[float]:
    taken = {tuple(t) for t in known.t().tolist()}
    out = []
    for items in index.t().tolist():

        def at(candidate: int, items: list[int] = items) -> list[int]:
            return [*items[:slot], candidate, *items[slot + 1 :]]

        rivals = [c for c in range(sizes[slot]) if c != items[slot] and tuple(at(c)) not in taken]
        own = float(score[tuple(items)])
        others = [float(score[tuple(at(c))]) for c in rivals]
        out.append(1 + sum(s > own for s in others) + 0.5 * sum(s == own for s in others))
    return out


@given(tables(), st.integers(0, 99), st.booleans(), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_filtered_ranks_equal_the_loops(
    problem: tuple[Tensor, Tensor, tuple[int, ...]], seed: int, overflow: bool, chunk: int
) -> None:
    index, known, sizes = problem
    known = torch.cat([index, known], dim=1)
    score = torch.randint(4, sizes, generator=torch.Generator().manual_seed(seed)).double()  # many ties
    flat = score.view(-1)

    def score_slot(tuples: Tensor) -> Tensor:
        base = torch.zeros(tuples.size(1), dtype=torch.long)
        for s, n in enumerate(sizes):
            base = base * n + (0 if s == slot else tuples[s])
        return flat[base[:, None] + torch.arange(sizes[slot]) * prod(sizes[slot + 1 :])]

    for slot in range(len(sizes)):
        with pytest.MonkeyPatch.context() as patch:
            if overflow and len(sizes) > 1:
                patch.setattr(tuples, "_INT64", 1)
            ranks = filtered_ranks(score_slot, index, known, sizes, slot, budget=chunk * sizes[slot])
        assert ranks.tolist() == naive_ranks(score, index, known, sizes, slot)


def test_a_score_that_is_no_number_ranks_last() -> None:
    index = torch.tensor([[0, 1], [0, 1]])
    score = torch.tensor([[float("nan"), 1.0, 2.0], [float("nan"), 1.0, 2.0]])
    ranks = filtered_ranks(lambda tuples: score[tuples[0]].clone(), index, index, (2, 3), 1)
    assert ranks.tolist()[0] >= 3
    assert ranks.tolist()[1] == 2
