from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.distributed import ModalityPlan
from hyperlearn_pyg.distributed._share import (
    Table,
    as_batch,
    batches_key,
    digest,
    in_order,
    make_share,
    same_key,
    to_device,
)
from hyperlearn_pyg.distributed.traffic import split_batch
from hyperlearn_pyg.typing import TupleBatch

ITEMS, WIDTH, BATCH = 500, 16, 240


def tables(names, items=ITEMS):
    return {name: Table(items, WIDTH, torch.float32) for name in names}


def batch(slots, count, *, seed=0, items=ITEMS, candidates=0):
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(items, (len(slots), count), generator=generator)
    drawn = [torch.randint(items, (candidates,), generator=generator) for _ in slots] if candidates else []
    value = torch.rand(count, generator=generator)
    return TupleBatch("-".join(slots), tuple(slots), index, value, value + 1, tuple(drawn))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_the_shares_of_all_ranks_are_the_batch(data):
    """Each rank's tuples, read from the rows that it gets, are its block of every batch; nothing is lost or doubled."""
    names, replicas = list("abcde")[: data.draw(st.integers(1, 5))], data.draw(st.integers(1, 3))
    groups = [[] for _ in range(data.draw(st.integers(1, 4)))]
    for name in names:
        data.draw(st.sampled_from(groups)).append(name)
    plan = ModalityPlan(groups, replicas=replicas)
    batches = []
    for number in range(data.draw(st.integers(1, 3))):
        slots = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
        count, candidates = data.draw(st.integers(0, 9)), data.draw(st.sampled_from([0, 3]))
        batches.append(batch(slots, count, seed=number, items=6, candidates=candidates))
    exchange, sizes = data.draw(st.sampled_from(["rows", "full", "auto"])), tables(names, 6)
    whole = {name: torch.arange(6.0)[:, None] + 10 * i for i, name in enumerate(names)}
    for rank in range(plan.world_size):
        share = make_share(batches, sizes, plan, rank, exchange)
        assert share.blocks == [split_batch(len(b), plan.world_size) for b in batches]
        received = rows_of(batches, sizes, plan, rank, exchange, whole)
        for given_, mine, blocks in zip(batches, share.batches, share.blocks, strict=True):
            part = slice(sum(blocks[:rank]), sum(blocks[: rank + 1]))
            assert torch.equal(mine.value, given_.value[part])
            assert torch.equal(mine.weight, given_.weight[part])
            for slot, name in enumerate(given_.modalities):
                assert torch.equal(received[name][mine.index[slot]], whole[name][given_.index[slot, part]])
                if given_.candidates and len(mine):
                    got = received[name][mine.candidates[slot]]
                    assert torch.equal(got, whole[name][given_.candidates[slot]])


def rows_of(batches, sizes, plan, rank, exchange, whole):
    """Carry out the exchange of one rank by hand: each sender's rows for it, one after the other."""
    group, replica = plan.coordinates(rank)
    parts = []
    for sender in range(len(plan.groups)):
        route = make_share(batches, sizes, plan, sender * plan.replicas + replica, exchange).route
        rows = route.select(whole, like=torch.empty(0, 1))
        parts.append(rows if route.full else rows.split(list(route.send))[group])
    route = make_share(batches, sizes, plan, rank, exchange).route
    assert [len(part) for part in parts] == list(route.receive)
    return route.tables(torch.cat(parts))


def sent(modalities, exchange):
    """Bytes that all ranks send together, with a rank a modality and pairs of modalities in a ring."""
    names = [f"m{i}" for i in range(modalities)]
    pairs = [(a, b) for a, b in zip(names, [*names[1:], names[0]], strict=True)]
    batches = [batch(pair, BATCH // modalities, seed=i) for i, pair in enumerate(pairs)]
    plan = ModalityPlan([[name] for name in names])
    shares = [make_share(batches, tables(names), plan, rank, exchange) for rank in range(modalities)]
    return [share.route.num_bytes(WIDTH, 4) for share in shares]


def test_bytes_do_not_grow_with_the_number_of_modalities():
    most = 2 * 2 * BATCH * WIDTH * 4  # rows of k = 2 slots, there and back
    totals = {m: sum(sent(m, "rows")) for m in range(2, 9)}
    for modalities, total in totals.items():
        assert 0.8 * most * (1 - 1 / modalities) < total <= 1.1 * most * (1 - 1 / modalities)
        assert max(sent(modalities, "rows")) < 1.5 * 2 * most / modalities
    whole = {m: sum(sent(m, "full")) for m in (2, 8)}
    assert whole[8] == 2 * (8 - 1) * 8 * ITEMS * WIDTH * 4
    assert totals[8] / totals[2] < 2 < whole[8] / whole[2]


def test_a_batch_is_any_thing_with_its_attributes():
    index = torch.tensor([[0], [1]])
    found = as_batch(SimpleNamespace(relation="r", modalities=["a", "b"], index=index))
    assert (found.relation, found.modalities, found.value, len(found)) == ("r", ("a", "b"), None, 1)
    assert as_batch(found) is found
    with pytest.raises(TypeError, match="'tuples' must have 'relation', 'modalities' and 'index'"):
        as_batch(SimpleNamespace(relation="r", index=index))


def test_checksums_tell_batches_apart():
    one = batch("ab", 5, candidates=2)
    other = replace(one, index=one.index.flip(0))
    assert digest([one]) == digest([replace(one)]) != digest([other])
    assert digest([one]) != digest([replace(one, candidates=(one.candidates[0], one.candidates[0] + 1))])
    assert digest([one]) != digest([replace(one, relation="r")])
    assert digest([one, other]) != digest([other, one])
    assert digest([]).startswith("0 tuples")


def test_keys_tell_batches_and_tables_apart():
    one, sizes = batch("ab", 5, candidates=2), tables("ab")
    key = batches_key([one], sizes)
    assert same_key(key, batches_key([replace(one)], dict(sizes)))
    assert not same_key(key, batches_key([one], tables("ab", 3)))
    assert not same_key(key, batches_key([one, one], sizes))
    assert not same_key(key, batches_key([], sizes))
    changes = {"relation": "r", "modalities": ("b", "a"), "index": one.index.clone(), "value": None, "weight": None}
    changes |= {"candidates": one.candidates[:1], "mass": torch.ones(()), "cells": 0.5, "count": 7}
    for name, value in changes.items():
        assert not same_key(key, batches_key([replace(one, **{name: value})], sizes)), name
        assert not same_key(batches_key([replace(one, **{name: value})], sizes), key), name
    one.index[0, 0] += 1
    assert not same_key(key, batches_key([one], sizes))


def test_values_of_several_batches_come_back_in_order():
    blocks = [[2, 0, 1], [1, 1, 1], [0, 0, 0]]
    gathered = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [1, 2]])  # by rank, then batch
    found = in_order(gathered, blocks)
    assert [part.tolist() for part in found] == [[[0, 0], [0, 1], [0, 2]], [[1, 0], [1, 1], [1, 2]], []]


def test_batches_move_to_a_device():
    one = replace(batch("ab", 5, candidates=2), mass=torch.ones(()))
    assert to_device(one, torch.device("cpu")) is one
    moved = to_device(one, torch.device("meta"))
    parts = (moved.index, moved.value, moved.weight, moved.mass, *moved.candidates)
    assert {part.device.type for part in parts} == {"meta"}
    assert moved.relation == one.relation
    less = to_device(replace(one, value=None, weight=None, mass=1.0, candidates=()), torch.device("meta"))
    assert (less.value, less.weight, less.mass) == (None, None, 1.0)
