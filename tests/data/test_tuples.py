from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.data import tuples
from hyperlearn_pyg.data.tuples import TupleSet, rank_in, tuple_ids, tuple_keys, tuples_of_ids

HUGE = 2**40  # two such sizes do not fit into int64


slots = st.lists(st.integers(1, 4), min_size=1, max_size=4)
#: Where integers end, so that small tables run over it too.
bounds = st.sampled_from([None, 1, 5, 50])


def random_tuples(sizes: list[int], count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (count,), generator=generator) for size in sizes])


def columns(index: Tensor) -> list[tuple[int, ...]]:
    return [tuple(t) for t in index.t().tolist()]


@given(slots, st.integers(0, 20), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_ids_are_positions_in_the_dense_array(sizes: list[int], count: int, seed: int) -> None:
    index = random_tuples(sizes, count, seed)
    ids = tuple_ids(index, sizes)
    cells = torch.arange(torch.Size(sizes).numel()).view(sizes)
    assert torch.equal(ids, cells[tuple(index)])
    assert torch.equal(tuples_of_ids(ids, sizes), index)


def test_more_cells_than_an_integer_holds() -> None:
    index = torch.tensor([[0, 5, 0, 5], [1, 2, 1, 3], [7, 7, 7, 7]])
    ids = tuple_ids(index, [2**31, 2**31, 2**31])
    assert ids[0] == ids[2]
    assert ids.unique().numel() == 3


@given(slots, st.integers(0, 12), st.integers(0, 99), bounds)
@settings(max_examples=50, deadline=None)
def test_equal_tuples_and_only_these_get_equal_keys(sizes: list[int], count: int, seed: int, bound: int | None) -> None:
    a, b = random_tuples(sizes, count, seed), random_tuples(sizes, 12, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        if bound is not None:
            patch.setattr(tuples, "_INT64", bound)
        numbers = torch.cat(tuple_keys([a, b], sizes)).tolist()
    rows = columns(torch.cat([a, b], dim=1))
    assert all((rows[i] == rows[j]) == (numbers[i] == numbers[j]) for i in range(len(rows)) for j in range(i))


def test_keys_where_int64_would_overflow() -> None:
    a = torch.tensor([[0, HUGE - 1, 2**24], [0, HUGE - 1, 0], [0, 4, 0]])
    first, second = tuple_keys([a, a.flip(1)], (HUGE, HUGE, 5))
    assert len(set(first.tolist())) == 3
    assert torch.equal(first, second.flip(0))


@given(slots, st.integers(0, 12), st.integers(0, 99), bounds)
@settings(max_examples=50, deadline=None)
def test_a_set_holds_what_it_was_given_and_nothing_else(
    sizes: list[int], count: int, seed: int, bound: int | None
) -> None:
    a, b = random_tuples(sizes, count, seed), random_tuples(sizes, 20, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        if bound is not None:
            patch.setattr(tuples, "_INT64", bound)
        held = TupleSet(a, sizes)
        answer = held.contains(b)
    known = set(columns(a))
    assert len(held) == len(known)
    assert answer.tolist() == [row in known for row in columns(b)]
    assert bool(held.contains(a).all())


def test_a_set_of_huge_slots() -> None:
    held = TupleSet(torch.tensor([[HUGE - 1, 3], [HUGE - 2, 4], [1, 0]]), (HUGE, HUGE, 2))
    asked = torch.tensor([[HUGE - 1, HUGE - 1, 3, 3, 5], [HUGE - 2, HUGE - 2, 4, HUGE - 2, 4], [1, 0, 0, 1, 0]])
    assert held.contains(asked).tolist() == [True, False, True, False, False]


def test_a_set_of_few() -> None:
    empty = torch.empty(2, 0, dtype=torch.long)
    assert TupleSet(empty, (3, 4)).contains(torch.tensor([[0], [0]])).tolist() == [False]
    assert TupleSet(empty, (HUGE, HUGE)).contains(torch.tensor([[0], [0]])).tolist() == [False]
    assert len(TupleSet(empty, (0, 4))) == 0
    assert TupleSet(torch.tensor([[1], [2]]), (3, 4)).contains(empty).tolist() == []


def test_ranks() -> None:
    at, found = rank_in(torch.tensor([2, 5, 9]), torch.tensor([9, 1, 5, 10]))
    assert found.tolist() == [True, False, True, False]
    assert at.tolist() == [2, 0, 1, 0]
