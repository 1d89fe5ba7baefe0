from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.distributed import Machine, ModalityLoad, ModalityPlan, ModalityPlanner, RelationLoad
from hyperlearn_pyg.errors import InputError


def even(count: int, **values: float) -> list[ModalityLoad]:
    base = {"items": 100, "parameters": 10, "width": 4, "memory": 100, "seconds": 0.01}
    return [ModalityLoad(f"m{i}", **{**base, **values}) for i in range(count)]  # type: ignore[arg-type]


def encoder_seconds(plan: ModalityPlan) -> float:
    by_name = {load.name: load.seconds for load in plan.loads}
    return max(sum(by_name[name] for name in group) for group in plan.groups)


@given(
    loads=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=5),
    world_size=st.integers(1, 5),
    limit=st.integers(1, 60),
)
@settings(max_examples=40, deadline=None)
def test_within_four_thirds_of_the_exhaustive_search(loads, world_size: int, limit: int) -> None:
    listed = [ModalityLoad(f"m{i}", memory=memory, seconds=float(s)) for i, (s, memory) in enumerate(loads)]
    planner = ModalityPlanner(listed, memory_limit=limit, machine=Machine(latency=0.0))
    groups = min(world_size, len(loads))
    best = min(
        (
            max(sum(s for (s, _), o in zip(loads, owners, strict=True) if o == g) for g in range(groups))
            for owners in itertools.product(range(groups), repeat=len(loads))
            if all(sum(m for (_, m), o in zip(loads, owners, strict=True) if o == g) <= limit for g in range(groups))
        ),
        default=None,
    )
    if best is None:
        with pytest.raises(InputError, match="no placement of"):
            planner.plan(world_size)
        return
    plan = planner.plan(world_size)
    assert plan.world_size == world_size
    assert sorted(plan.modalities) == sorted(load.name for load in listed)
    assert max(plan.memory()) <= limit
    worth = 4 / 3 if world_size <= len(loads) else 4 / 3 * 1.1  # beyond, fewer empty ranks may cost a tenth
    assert encoder_seconds(plan) <= worth * best + 1e-9


def test_one_modality_on_one_rank() -> None:
    plan = ModalityPlanner(even(1)).plan(1)
    assert plan.groups == (("m0",),)
    assert plan.bytes_sent() == [0]
    assert plan.seconds() == [0.01]


def test_no_items_at_all() -> None:
    relation = RelationLoad("r", ("a", "b"))
    plan = ModalityPlanner([ModalityLoad("a"), ModalityLoad("b")], [relation]).plan(2)
    assert sorted(plan.groups) == [("a",), ("b",)]
    assert plan.imbalance == 1.0
    assert plan.bytes_sent() == [40, 40]  # the vote


def test_fewer_ranks_than_modalities() -> None:
    plan = ModalityPlanner(even(6)).plan(3)
    assert (plan.replicas, [len(group) for group in plan.groups], plan.imbalance) == (1, [2, 2, 2], 1.0)


def test_more_ranks_than_modalities_make_a_mesh() -> None:
    plan = ModalityPlanner(even(2)).plan(6)
    assert (len(plan.groups), plan.replicas) == (2, 3)
    assert all(plan.groups)


def test_a_rank_stays_empty_where_that_is_clearly_faster() -> None:
    plan = ModalityPlanner(even(3)).plan(4)
    assert (len(plan.groups), plan.replicas, plan.groups.count(())) == (4, 1, 1)
    plan = ModalityPlanner(even(3)).plan(8)
    assert (len(plan.groups), plan.replicas, plan.groups.count(())) == (4, 2, 1)


def test_replicas_and_devices_may_be_given() -> None:
    planner = ModalityPlanner(even(2))
    plan = planner.plan(4, replicas=4, devices=["cpu"] * 4)
    assert (plan.groups, plan.devices) == ((("m0", "m1"),), ("cpu",) * 4)
    assert planner.plan(4, replicas=1).groups.count(()) == 2
    with pytest.raises(ValueError, match=r"'replicas' must divide the world size 4 \(got 3\)"):
        planner.plan(4, replicas=3)
    with pytest.raises(ValueError, match=r"one device a rank, 4 \(got 1\)"):
        planner.plan(4, devices=["cpu"])
    with pytest.raises(ValueError, match="'world_size' must be at least 1"):
        planner.plan(0)


def test_measured_seconds_go_before_estimates() -> None:
    plan = ModalityPlanner(even(3), seconds={"m2": 1.0}).plan(2)
    assert ("m2",) in plan.groups
    with pytest.raises(ValueError, match=r"'seconds' names 'm22', which is no modality. Did you mean 'm2'"):
        ModalityPlanner(even(3), seconds={"m22": 1.0})


def test_memory_limit_goes_before_speed() -> None:
    loads = [ModalityLoad("slow", seconds=3.0, memory=1), *even(2, seconds=1.0, memory=5)]
    assert ("slow",) in ModalityPlanner(loads).plan(2).groups
    limited = ModalityPlanner(loads, memory_limit=6).plan(2)
    assert max(limited.memory()) <= 6
    assert ("slow",) not in limited.groups


def test_a_data_axis_is_left_where_memory_asks_for_it() -> None:
    plan = ModalityPlanner(even(3, seconds=0.0), memory_limit=100).plan(5)
    assert (len(plan.groups), plan.replicas) == (5, 1)


def test_nothing_fits() -> None:
    loads = even(3, memory=2**30)
    relations = [RelationLoad("r", ("m0", "m1"), 1024)]
    with pytest.raises(InputError) as error:
        ModalityPlanner(loads, relations, memory_limit=2**30).plan(4)
    for words in ("memory limit of 1.00 GiB a rank", "3.00 GiB in all", "'m0', 1.00 GiB", "16.00 KiB for the rows"):
        assert words in str(error.value)
    assert ModalityPlanner(loads, relations, memory_limit=2**30 + 2**14).plan(4).world_size == 4


def test_whole_tables_are_not_taken_where_they_do_not_fit() -> None:
    relations = [RelationLoad("r", ("m0", "m1"), 800)]
    free = ModalityPlanner(even(2), relations)
    assert free.plan(2).exchange == "full"
    tight = ModalityPlanner(even(2), relations, memory_limit=max(free.plan(2).memory()) - 1)
    assert tight.plan(2).exchange == "rows"


def test_faulty_arguments() -> None:
    with pytest.raises(ValueError, match="'loads' is empty"):
        ModalityPlanner([])
    with pytest.raises(ValueError, match="'m0' is placed twice"):
        ModalityPlanner([*even(1), *even(1)])
    with pytest.raises(ValueError, match="'memory_limit' must be a positive number"):
        ModalityPlanner(even(1), memory_limit=0)
    with pytest.raises(ValueError, match="relation 'r' names 'b'"):
        ModalityPlanner(even(1), [RelationLoad("r", ("b",))])
