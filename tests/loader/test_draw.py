"""How neighbours are drawn: the laws of the parts of the sampler, ``_draw``, ``_adjacency`` and ``_registry``."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from hyperlearn_pyg.loader._adjacency import Adjacency, Skips
from hyperlearn_pyg.loader._draw import Draws, draw, enumerate_rows, last
from hyperlearn_pyg.loader._registry import DenseRegistry, SortedRegistry, first_of_each

DEGREES = st.lists(st.integers(0, 12), max_size=8).map(lambda rows: torch.tensor(rows, dtype=torch.long))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows_of(draws: Draws, num_rows: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(num_rows)]
    for row, offset in zip(draws.row.tolist(), draws.offset.tolist(), strict=True):
        rows[row].append(offset)
    return rows


@given(DEGREES, st.integers(-1, 8), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_without_replacement_every_row_gives_distinct_entries(degree: Tensor, fan_out: int, seed: int) -> None:
    draws = draw(degree, fan_out, replace=False, generator=generator(seed))
    assert bool((draws.row.diff() >= 0).all())
    for size, row in zip(degree.tolist(), rows_of(draws, degree.numel()), strict=True):
        assert len(row) == (size if fan_out < 0 else min(size, fan_out))
        assert len(set(row)) == len(row)
        assert all(0 <= offset < size for offset in row)


@given(DEGREES, st.integers(0, 8))
@settings(max_examples=25, deadline=None)
def test_with_replacement_every_row_that_is_not_empty_gives_as_many_as_asked(degree: Tensor, fan_out: int) -> None:
    draws = draw(degree, fan_out, replace=True, generator=generator())
    for size, row in zip(degree.tolist(), rows_of(draws, degree.numel()), strict=True):
        assert len(row) == (fan_out if size else 0)
        assert all(0 <= offset < size for offset in row)


@pytest.mark.parametrize(("degree", "count"), [(5, 1), (5, 2), (5, 4), (6, 3), (9, 2), (12, 3)])
def test_every_subset_is_equally_likely(degree: int, count: int) -> None:
    subsets = {subset: i for i, subset in enumerate(combinations(range(degree), count))}
    num_rows = 60 * len(subsets)
    draws = draw(torch.full((num_rows,), degree), count, replace=False, generator=generator(degree))
    seen = torch.zeros(len(subsets))
    for row in draws.offset.view(num_rows, count).sort().values.tolist():
        seen[subsets[tuple(row)]] += 1
    assert chisquare(seen.numpy()).pvalue > 1e-3


def test_with_replacement_every_entry_is_equally_likely() -> None:
    draws = draw(torch.full((700,), 7), 10, replace=True, generator=generator())
    assert chisquare(torch.bincount(draws.offset, minlength=7).numpy()).pvalue > 1e-3


def test_rows_of_all_lengths_in_one_call_keep_their_law() -> None:
    """Short rows, rows that get keys and rows that are drawn anew stand side by side."""
    degree = torch.tensor([2, 5, 11, 0, 1]).repeat(3000)
    draws = draw(degree, 2, replace=False, generator=generator())
    for kind, size in enumerate([2, 5, 11, 0, 1]):
        offset = draws.offset[draws.row % 5 == kind]
        assert offset.numel() == 3000 * min(size, 2)
        if size > 2:
            assert chisquare(torch.bincount(offset, minlength=size).numpy()).pvalue > 1e-3


def test_a_hub_costs_no_more_than_its_fan_out() -> None:
    draws = draw(torch.tensor([10**12, 3]), 4, replace=False, generator=generator())
    assert draws.row.tolist() == [0] * 4 + [1] * 3
    assert len(set(draws.offset[:4].tolist())) == 4


def test_last_entries() -> None:
    degree = torch.tensor([3, 0, 1])
    assert rows_of(last(degree, 2), 3) == [[1, 2], [], [0]]
    assert rows_of(last(degree, -1), 3) == rows_of(enumerate_rows(degree), 3) == [[0, 1, 2], [], [0]]


def test_no_rows() -> None:
    for replace in (False, True):
        assert draw(torch.empty(0, dtype=torch.long), 3, replace=replace).row.numel() == 0
        assert draw(torch.tensor([0]), 3, replace=replace).offset.numel() == 0
        assert draw(torch.tensor([4]), 0, replace=replace).offset.numel() == 0


# Adjacency ----------------------------------------------------------------------------------------------------------


def test_entries_are_those_of_the_index() -> None:
    index = torch.tensor([[2, 0, 2, 2], [1, 0, 1, 0]])
    adjacency = Adjacency(index, (3, 2))
    rows = torch.tensor([2, 1, 0])
    draws = draw(adjacency.degree(rows), -1, replace=False)
    nbr, edge = adjacency.entries(rows, draws)
    assert torch.equal(index[:, edge], torch.stack([rows[draws.row], nbr]))
    assert sorted(edge.tolist()) == [0, 1, 2, 3]
    assert torch.equal(adjacency.offset(edge, rows[draws.row]), draws.offset)


def test_what_is_kept_out_is_no_entry() -> None:
    adjacency = Adjacency(torch.tensor([[0, 0, 0], [0, 1, 2]]), (1, 3), keep=torch.tensor([True, False, True]))
    assert adjacency.degree(torch.tensor([0])).tolist() == [2]
    assert adjacency.edge.tolist() == [0, 2]
    assert adjacency.offset(torch.tensor([1, 2]), torch.tensor([0, 0])).tolist() == [-1, 1]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=20), st.integers(-1, 6), st.booleans())
@settings(max_examples=25, deadline=None)
def test_degree_until_counts_what_is_there_by_then(entries: list[tuple[int, int]], until: int, strict: bool) -> None:
    row = torch.tensor([r for r, _ in entries], dtype=torch.long)
    time = torch.tensor([t for _, t in entries], dtype=torch.long)
    adjacency = Adjacency(torch.stack([row, torch.arange(len(row))]), (4, len(row)), time=time)
    degree = adjacency.degree(torch.arange(4), torch.full((4,), until), strict=strict)
    seen = (time < until) if strict else (time <= until)
    assert degree.tolist() == [int((seen & (row == r)).sum()) for r in range(4)]
    draws = draw(degree, -1, replace=False)
    assert set(adjacency.entries(torch.arange(4), draws)[1].tolist()) == set(seen.nonzero().view(-1).tolist())


@given(DEGREES, st.data(), st.integers(-1, 4), st.booleans())
@settings(max_examples=25, deadline=None)
def test_what_is_skipped_never_comes(degree: Tensor, data: st.DataObject, fan_out: int, replace: bool) -> None:
    cells = [(r, o) for r, size in enumerate(degree.tolist()) for o in range(size + 1)]  # one behind each row
    chosen = data.draw(st.lists(st.sampled_from(cells), unique=True)) if cells else []
    row, offset = torch.tensor(chosen, dtype=torch.long).view(-1, 2).unbind(1)
    skips = Skips(row, offset, degree)
    left = degree - skips.count
    draws = skips.shift(draw(left, fan_out, replace=replace, generator=generator()))
    for r, offsets in enumerate(rows_of(draws, degree.numel())):
        allowed = {o for o in range(int(degree[r])) if (r, o) not in chosen}
        assert set(offsets) <= allowed
        if fan_out < 0:
            assert sorted(offsets) == sorted(allowed)


def test_what_is_not_skipped_keeps_its_law() -> None:
    degree = torch.full((3000,), 6)
    row = torch.arange(3000).repeat_interleave(2)
    skips = Skips(row, torch.tensor([1, 4]).repeat(3000), degree)
    draws = skips.shift(draw(degree - skips.count, 2, replace=False, generator=generator()))
    counts = torch.bincount(draws.offset, minlength=6)
    assert counts[[1, 4]].tolist() == [0, 0]
    assert chisquare(counts[[0, 2, 3, 5]].numpy()).pvalue > 1e-3


# Registry -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=4))
@settings(max_examples=25, deadline=None)
def test_registries_number_keys_as_they_come(calls: list[list[int]]) -> None:
    dense, ordered = DenseRegistry(10), SortedRegistry()
    seen: list[int] = []
    for _ in range(2):  # the second time after 'clear'
        seen.clear()
        for keys in calls:
            seen += [key for i, key in enumerate(keys) if key not in seen and key not in keys[:i]]
            expected = [seen.index(key) for key in keys]
            key = torch.tensor(keys, dtype=torch.long)
            for registry in (dense, ordered):
                assert registry.add(key).tolist() == expected
                assert registry.keys().tolist() == seen
                assert len(registry) == len(seen)
                known = [seen.index(key) if key in seen else -1 for key in range(10)]
                assert registry.find(torch.arange(10)).tolist() == known
        dense.clear()
        ordered.clear()


def test_first_of_each() -> None:
    assert first_of_each(torch.tensor([3, 1, 3, 2, 1])).tolist() == [0, 1, 3]
    assert first_of_each(torch.empty(0, dtype=torch.long)).tolist() == []
