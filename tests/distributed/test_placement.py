from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.distributed.placement import place

INSTANCE = st.tuples(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=6),
    st.integers(1, 4),
    st.one_of(st.integers(0, 30), st.just(10**9)),
)


def slowest(owners: tuple[int, ...] | list[int], sizes: list[int], groups: int) -> int:
    return max(sum(s for s, o in zip(sizes, owners, strict=True) if o == g) for g in range(groups))


def exhaustive(seconds: list[int], memory: list[int], groups: int, limit: int) -> int | None:
    """The time of the slowest group in the best of all placements within the limit."""
    every = itertools.product(range(groups), repeat=len(seconds))
    return min((slowest(o, seconds, groups) for o in every if slowest(o, memory, groups) <= limit), default=None)


@given(instance=INSTANCE)
@settings(max_examples=60, deadline=None)
def test_within_four_thirds_of_the_optimum_and_within_the_limit(instance) -> None:
    loads, groups, limit = instance
    seconds, memory = [s for s, _ in loads], [m for _, m in loads]
    best = exhaustive(seconds, memory, groups, limit)
    owners = place(seconds, memory, groups, limit)
    if best is None:
        assert owners is None
    else:
        assert owners is not None
        assert slowest(owners, memory, groups) <= limit
        assert 3 * slowest(owners, seconds, groups) <= 4 * best


def test_the_example_on_which_largest_first_is_worst_keeps_the_bound() -> None:
    sizes = [5, 5, 4, 4, 3, 3, 3]  # 3 groups: the optimum is 9, largest first makes 11
    owners = place(sizes, [0] * 7, 3, 0)
    assert owners is not None
    assert slowest(owners, sizes, 3) == 11
    assert exhaustive(sizes, [0] * 7, 3, 0) == 9


def test_loads_without_time_are_spread() -> None:
    assert sorted(place([0, 0, 0], [1, 1, 1], 3, 10) or []) == [0, 1, 2]


def test_no_load_and_one_group() -> None:
    assert place([], [], 2, 5) == []
    assert place([1.0], [5], 1, 5) == [0]
    assert place([1.0], [6], 1, 5) is None


def test_many_loads_end_in_time_where_the_limit_binds() -> None:
    seconds, memory = [1.0 + i % 7 for i in range(60)], [1 + i % 5 for i in range(60)]
    owners = place(seconds, memory, 8, sum(memory) // 8 + 2)
    assert owners is not None
    assert slowest(owners, memory, 8) <= sum(memory) // 8 + 2
