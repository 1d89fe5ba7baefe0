from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg.distributed.route import (
    Layout,
    Route,
    Tuples,
    distinct_rows,
    make_route,
)
from hyperlearn_pyg.distributed.traffic import exchanged_bytes, split_batch

NAMES = "abcdef"


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Tuples], Layout]:
    world_size = draw(st.integers(1, 4))
    names = NAMES[: draw(st.integers(1, 5))]
    sizes = {name: draw(st.integers(0, 7)) for name in names}
    owners = {name: draw(st.integers(0, world_size - 1)) for name in names}
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    tuples = []
    for _ in range(draw(st.integers(0, 3))):
        slots = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
        shares = [draw(st.integers(0, 6)) for _ in range(world_size)]
        count = sum(shares) if all(sizes[m] for m in slots) else 0
        index = torch.stack([torch.randint(max(sizes[m], 1), (count,), generator=generator) for m in slots])
        tuples.append(Tuples(tuple(slots), index, tuple(shares) if count and draw(st.booleans()) else None))
    return tuples, Layout(sizes, owners, world_size)


def deliver(routes: list[Route], factors: dict[str, Tensor]) -> list[Tensor]:
    """Do by hand what an all-to-all does."""
    world = range(len(routes))
    sent = [route.select(factors, like=next(iter(factors.values()))) for route in routes]
    parts = [
        [rows] * len(routes) if route.full else rows.split(list(route.send))
        for rows, route in zip(sent, routes, strict=True)
    ]
    return [torch.cat([parts[source][target] for source in world]) for target in world]


@given(problems(), st.sampled_from(["rows", "full", "auto"]))
@settings(max_examples=60, deadline=None)
def test_every_tuple_finds_its_rows(problem: tuple[list[Tuples], Layout], exchange: str) -> None:
    tuples, layout = problem
    factors = {name: torch.arange(n * 2.0).view(n, 2) + 100 * i for i, (name, n) in enumerate(layout.sizes.items())}
    routes = [make_route(tuples, layout, rank, exchange) for rank in range(layout.world_size)]
    assert len({route.full for route in routes}) == 1
    for route, rows in zip(routes, deliver(routes, factors), strict=True):
        tables = route.tables(rows)
        for entry, index, block in zip(tuples, route.index, route.blocks, strict=True):
            for slot, name in enumerate(entry.modalities):
                assert torch.equal(tables[name][index[slot]], factors[name][entry.index[slot, block]])


@given(problems())
@settings(max_examples=60, deadline=None)
def test_each_row_is_sent_to_a_rank_once(problem: tuple[list[Tuples], Layout]) -> None:
    tuples, layout = problem
    world = range(layout.world_size)
    routes = [make_route(tuples, layout, rank, "rows") for rank in world]
    needed: list[set[tuple[str, int]]] = []
    for rank in world:
        named = [
            (m, e.index[s, routes[rank].blocks[i]]) for i, e in enumerate(tuples) for s, m in enumerate(e.modalities)
        ]
        needed.append({(m, item) for m, items in named for item in items.tolist()})
    counted = {name: [sum(m == name for m, _ in needed[p]) for p in world] for name in layout.names}
    assert distinct_rows(tuples, layout) == counted
    wire = exchanged_bytes(layout.owners, counted, layout.world_size, width=3, itemsize=8)
    for rank, route in enumerate(routes):
        assert route.num_bytes(3, 8) == wire[rank]
        names = route.layout.names
        assert set(names) == {m for entry in tuples for m in entry.modalities}
        assert list(route.counts) == [sum(m == name for m, _ in needed[rank]) for name in names]
        assert all(route.send[other] == routes[other].receive[rank] for other in world)


@given(problems())
@settings(max_examples=30, deadline=None)
def test_auto_sends_all_rows_where_nearly_all_are_named(problem: tuple[list[Tuples], Layout]) -> None:
    tuples, layout = problem
    layout = layout.only({m for entry in tuples for m in entry.modalities})
    ranks = range(layout.world_size)
    full, named = (sum(make_route(tuples, layout, r, e).num_bytes(1, 1) for r in ranks) for e in ("full", "rows"))
    assert make_route(tuples, layout, 0, "auto").full == (named >= 0.9 * full)


@pytest.mark.parametrize("modalities", range(2, 9))
def test_bytes_of_different_rows_are_those_of_the_formula(modalities: int) -> None:
    share, order, width = 2 * modalities, 3, 5
    batch = share * modalities
    names = [f"m{i}" for i in range(modalities)]
    layout = Layout(dict.fromkeys(names, order * share), {name: i for i, name in enumerate(names)}, modalities)
    tuples = []
    for i in range(modalities):  # each modality takes each slot of one relation, with items of its own
        slots = tuple(names[(i + s) % modalities] for s in range(order))
        tuples.append(Tuples(slots, torch.arange(share * order).view(order, share)))
    formula = 2 * order / modalities * batch * width * 8 * (1 - 1 / modalities)
    for rank in range(modalities):
        assert make_route(tuples, layout, rank, "rows").num_bytes(width, 8) == pytest.approx(formula)
    assert formula < 2 * order * share * width * 8  # which no number of modalities changes


def test_several_own_modalities_are_sorted_by_receiver() -> None:
    layout = Layout({"a": 3, "b": 3, "c": 2}, {"a": 0, "b": 0, "c": 1}, 2)
    tuples = [Tuples(("a", "b", "c"), torch.tensor([[0, 1, 1, 2], [2, 2, 0, 1], [0, 1, 1, 1]]))]
    route = make_route(tuples, layout, 0, "rows")
    rows = route.select({"a": torch.arange(3.0)[:, None], "b": 10 + torch.arange(3.0)[:, None]})
    assert rows.flatten().tolist() == [0, 1, 12, 1, 2, 10, 11]
    assert route.send == (3, 4)


def test_route_moves_to_a_device() -> None:
    layout = Layout({"a": 3, "b": 3}, {"a": 0, "b": 0})
    route = make_route([Tuples(("a", "b"), torch.tensor([[0, 1], [1, 2]]))], layout, 0, "rows").to("meta")
    assert {t.device.type for t in (*route.pick, *route.index)} == {"meta"}
    assert route.order is not None
    assert route.order.is_meta
    assert make_route([], Layout({"a": 3}, {"a": 0})).to("meta").order is None


def test_modality_that_no_relation_names_takes_no_part() -> None:
    layout = Layout({"a": 2, "b": 3}, {"a": 0, "b": 0}, 2)
    for exchange in ("rows", "full"):
        route = make_route([Tuples(("a",), torch.tensor([[0, 1, 0]]))], layout, 0, exchange)
        assert route.layout.names == ("a",)
        assert route.select({"a": torch.ones(2, 1)}).size(0) == (3 if exchange == "rows" else 2)


NOTHING = Tuples(("a", "b", "c"), torch.empty(3, 0, dtype=torch.long))
PAIR = Layout({"a": 2, "b": 3}, {"a": 0, "b": 1}, 2)
INDEX = torch.tensor([[0, 1], [2, 0]])


def test_shares_are_even_blocks_unless_told() -> None:
    entry = torch.zeros(1, 5, dtype=torch.long)
    assert Tuples(("a",), entry).split(3) == tuple(split_batch(5, 3))
    assert Tuples(("a",), entry, (5, 0, 0)).split(3) == (5, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([Tuples(("a", "b"), INDEX)], PAIR, 0, "row"), "'exchange' must be one of .* Did you mean 'rows'"),
        (([Tuples(("a", "b"), INDEX)], PAIR, 2), r"'rank' must be below 2 \(got 2\)"),
        (
            ([Tuples(("b", "b"), INDEX.flip(0) + 1)], PAIR),
            r"slot 0 must be from 0 to 2, modality 'b' has 3 items \(got 3\)",
        ),
        (([Tuples(("a", "b"), INDEX - 1)], PAIR), r"slot 0 must be from 0 to 1, modality 'a' has 2 items \(got -1\)"),
        (([Tuples(("a", "b"), INDEX.int())], PAIR), r"'index' must be int64 on the CPU.*got torch.int32 on cpu"),
        (([Tuples(("a", "b"), INDEX.to("meta"))], PAIR), r"'index' must be int64 on the CPU.*on meta\): index.cpu"),
        (([Tuples(("a", "bb"), INDEX)], PAIR), "no modality 'bb' in the layout. Did you mean 'b'"),
        (([Tuples(("a",), INDEX)], PAIR), r"'index' must have shape \[1, B\] .*got \[2, 2\]"),
        (([Tuples(("a", "b"), INDEX, (2,))], PAIR), r"'shares' must be 2 counts that sum to 2, .*got \[2\]"),
        (([Tuples(("a", "b"), INDEX, (3, -1))], PAIR), "'shares' must be 2 counts"),
    ],
)
def test_bad_tuples_are_named(arguments: tuple[object, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make_route(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (({"a": 1}, {"a": 0}, 0), "'world_size' must be at least 1"),
        (({"a": 1}, {"b": 0}, 1), "must name the same modalities .modality 'a' is in one"),
        (({"a": 1}, {"a": 1}, 1), "'owners' must be ranks below 1 .modality 'a' is on rank 1"),
        (({"a": -1}, {"a": 0}, 1), "must not be negative .modality 'a' has -1 items"),
    ],
)
def test_bad_layouts_are_named(arguments: tuple[dict[str, int], dict[str, int], int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Layout(*arguments)


@pytest.mark.parametrize(
    ("factors", "text"),
    [
        ({}, "'factors' must hold modality 'a', which rank 0 holds"),
        ({"a": torch.ones(3, 1)}, r"factors of modality 'a' must have shape \[2, C\] \(got \[3, 1\]\)"),
        ({"a": torch.ones(2, 1), "c": torch.ones(1, 2)}, r"must have one width \(got \[1, 2\]\): pad"),
    ],
)
def test_bad_factors_are_named(factors: dict[str, Tensor], text: str) -> None:
    layout = Layout({"a": 2, "b": 3, "c": 1}, {"a": 0, "b": 1, "c": 0}, 2)
    with pytest.raises(ValueError, match=text):
        make_route([NOTHING], layout, 0, "rows").select(factors)


def test_rank_without_modality_needs_a_width() -> None:
    route = make_route([], Layout({"a": 2}, {"a": 0}, 2), 1)
    with pytest.raises(ValueError, match="rank 1 holds no modality: 'like'"):
        route.select({})
    assert route.select({}, like=torch.ones(5, 4)).shape == (0, 4)
