from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.distributed.loads import ModalityLoad, RelationLoad
from hyperlearn_pyg.distributed.traffic import (
    choose_exchange,
    exchanged_bytes,
    expected_unique,
    gram_bytes,
    needed_rows,
    reduced_bytes,
    split_batch,
    workspace,
)


def equal_modalities(count: int, items: int, width: int) -> dict[str, ModalityLoad]:
    return {f"m{i}": ModalityLoad(f"m{i}", items=items, width=width) for i in range(count)}


@given(batch=st.integers(0, 1000), parts=st.integers(1, 9))
@settings(max_examples=25)
def test_blocks_of_a_batch_are_even_and_complete(batch: int, parts: int) -> None:
    sizes = split_batch(batch, parts)
    assert sum(sizes) == batch
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("items", "draws"), [(0, 5), (5, 0), (1, 7), (6, 1), (40, 30), (300, 5000)])
def test_expected_unique_is_the_mean_of_uniform_draws(items: int, draws: int) -> None:
    expected = expected_unique(items, draws)
    assert 0 <= expected <= min(items, draws) + 1e-9
    generator = torch.Generator().manual_seed(0)
    if items:
        drawn = [torch.randint(items, (draws,), generator=generator).unique().numel() for _ in range(300)]
        assert expected == pytest.approx(sum(drawn) / 300, rel=0.02)


@given(groups=st.integers(1, 6), batch=st.integers(0, 6), items=st.integers(0, 9), width=st.integers(0, 5))
@settings(max_examples=25)
def test_all_tables_cost_the_formula_of_the_design(groups: int, batch: int, items: int, width: int) -> None:
    loads = equal_modalities(groups, items, width)
    relation = RelationLoad("r", tuple(loads), batch)
    needed = needed_rows(loads, [relation], groups, exchange="full")
    owners = {name: i for i, name in enumerate(loads)}
    sent = exchanged_bytes(owners, needed, groups, width=width, itemsize=8)
    assert sent == [2 * (groups - 1) * items * width * 8] * groups


@pytest.mark.parametrize("groups", [2, 3, 4, 6])
@pytest.mark.parametrize("order", [1, 2])
def test_repeated_rows_cost_the_formula_of_the_design(groups: int, order: int) -> None:
    batch, width = 60, 7
    loads = equal_modalities(groups, 10**9, width)
    relation = RelationLoad("r", tuple(loads)[:order], batch)
    owners = {name: i for i, name in enumerate(loads)}
    needed = needed_rows(loads, [relation], groups, exchange="repeated")
    sent = exchanged_bytes(owners, needed, groups, width=width)
    assert sum(sent) / groups == pytest.approx(2 * order / groups * batch * width * 4 * (1 - 1 / groups))
    assert needed_rows(loads, [relation], groups) == needed  # of very many items, all are different


def test_bytes_at_fixed_order_do_not_grow_with_the_modalities() -> None:
    def worst(count: int) -> float:
        loads = equal_modalities(count, 10_000, 32)
        names = tuple(loads)
        relations = [RelationLoad(f"r{i}", (names[i], names[(i + 1) % count]), 4000 // count) for i in range(count)]
        needed = needed_rows(loads, relations, count)
        return max(exchanged_bytes({n: i for i, n in enumerate(names)}, needed, count, width=32))

    assert worst(8) <= 1.05 * worst(2)


@given(st.data())
@settings(max_examples=25)
def test_rows_cost_never_more_than_repeated_rows_or_all(data: st.DataObject) -> None:
    items = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=4))
    loads = {f"m{i}": ModalityLoad(f"m{i}", items=n, width=3) for i, n in enumerate(items)}
    slots = st.lists(st.sampled_from([n for n, load in loads.items() if load.items] or ["m0"]), min_size=1, max_size=3)
    relations = [RelationLoad("a", tuple(data.draw(slots)), data.draw(st.integers(0, 100)), 4)]
    groups = data.draw(st.integers(1, 4))
    read = {
        exchange: needed_rows(loads, relations, groups, exchange=exchange) for exchange in ("rows", "repeated", "full")
    }
    for name in loads:
        for group in range(groups):
            assert read["rows"][name][group] <= read["repeated"][name][group]
            assert read["rows"][name][group] <= read["full"][name][group]


def test_relations_share_one_list_of_rows_and_candidates_go_where_tuples_are() -> None:
    loads = equal_modalities(2, 10**6, 4)
    relations = [RelationLoad("a", ("m0", "m1"), 1, candidates=5), RelationLoad("b", ("m1", "m1"), 4)]
    assert needed_rows(loads, relations, 2, exchange="repeated") == {"m0": [0, 6], "m1": [4, 10]}


def test_replicas_share_the_batch() -> None:
    loads = equal_modalities(1, 100, 4)
    assert needed_rows(loads, [RelationLoad("a", ("m0",), 10)], 2, exchange="repeated", replicas=5) == {"m0": [1, 1]}


def test_auto_takes_whole_tables_where_nearly_all_rows_travel() -> None:
    loads, owners = equal_modalities(2, 100, 8), {"m0": 0, "m1": 1}
    few, many = (RelationLoad("a", ("m0", "m1"), batch) for batch in (40, 10_000))
    assert choose_exchange(loads, [few], owners, 2) == "rows"
    assert choose_exchange(loads, [many], owners, 2) == "full"
    assert choose_exchange(loads, [], owners, 2) == "rows"
    assert choose_exchange(loads, [many], {"m0": 0, "m1": 0}, 1) == "rows"


def test_gram_matrices_one_a_slot() -> None:
    relation = RelationLoad("a", ("m0", "m1", "m0"), 10, gram=3)
    assert gram_bytes({"m0": 0, "m1": 1}, [relation, relation], 2) == 4 * 9 * 4
    assert gram_bytes({"m0": 0, "m1": 0}, [relation], 2, itemsize=8) == 3 * 9 * 8
    assert gram_bytes({"m0": 0, "m1": 0}, [relation], 1) == 0
    assert gram_bytes({"m0": 0, "m1": 1}, [RelationLoad("a", ("m0", "m1"), 10)], 2) == 0


def test_sums_of_gradients() -> None:
    assert reduced_bytes(100, 1) == 0
    assert reduced_bytes(100, 4) == 2 * 100 * 4 * 3 // 4


def test_workspace_counts_rows_and_their_gradients() -> None:
    loads = equal_modalities(2, 100, 8)
    relation = RelationLoad("a", ("m0", "m1"), 10, candidates=1)
    assert workspace(loads, [relation], 4) == 2 * 4 * (3 + 1) * 16
    assert workspace(loads, [relation], 4, exchange="full") == 2 * 4 * ((3 + 1) * 16 + 2 * 100 * 8)
    assert workspace(loads, [RelationLoad("a", ("m0",), 0, candidates=9)], 4) == 0
    assert workspace(loads, [], 1) == 0
