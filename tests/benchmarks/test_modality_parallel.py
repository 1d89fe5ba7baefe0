from __future__ import annotations

import json
from collections.abc import Iterator

import modality_parallel
import pytest
import torch
from _ranks import World
from _spread import Trainer, Workload, ring

TOY = Workload(items=30, entries=200, batch=32, rank=4, hidden=4, features=3)


@pytest.fixture(scope="module")
def two() -> Iterator[World]:
    with World(2, Trainer, TOY) as world:
        world.ask("live")  # the ranks agree on what they do in the first step, which the formula leaves out
        yield world


@pytest.mark.parametrize("modalities", [1, 2, 5])
def test_every_modality_of_the_ring_has_two_slots(modalities):
    data = ring(modalities, TOY)
    slots = [m for name in data.hyperedge_types for m in data.relation(name).modalities]
    assert sorted(slots) == sorted([f"m{number}" for number in range(modalities)] * 2)


def test_a_rank_that_makes_its_own_part_makes_the_same():
    whole, part = ring(3, TOY), ring(3, TOY, ["m1"])
    assert torch.equal(whole["m1"].x, part["m1"].x)
    assert torch.equal(whole["r2"].value, part["r2"].value)
    assert "x" not in part["m0"]
    assert ("m0", "linked", "m0") not in part.edge_types


def test_the_bytes_of_each_step_are_those_of_the_formula(two):
    for row in [row for _ in range(3) for row in two.ask("live")]:
        assert (row["rows"], row["sent"]) == (row["rows_formula"], row["sent_formula"])
        assert row["rows"] > 0
        assert row["live"] > 0


def test_a_rank_takes_its_last_step_again_alone(two):
    sent = [row["sent"] for row in two.ask("live")]
    assert all(len(times) == 3 and min(times) > 0 for times in two.in_turn("alone", 3))
    assert all(row["messages"] > 0 for row in two.ask("messages", 2))
    assert min(sent) > 0


def test_what_a_rank_raises_comes_back_with_its_number():
    # rank 0 is range(0, 2), rank 1 is range(1, 2): what a rank is made of must be found by its process
    with World(2, range) as world, pytest.raises(RuntimeError, match=r"(?s)rank 1 of 2.*0 is not in range"):
        world.ask("index", 0)


def test_a_number_is_judged_by_must_and_goal():
    part = modality_parallel.Part()
    for found in (1.0, 1.1, 1.3):
        part.judge("ratio", found, 1.25, 1.05)
    part.judge_equal("digits", 3, 4)
    assert [line[-1] for line in part.verdicts] == ["goal met", "must met", "MISSED", "MISSED"]


@pytest.mark.slow
def test_the_benchmark_runs_through(tmp_path):
    status = modality_parallel.main(["--quick", "--rounds", "1", "--steps", "3", "--out", str(tmp_path)])
    (path,) = tmp_path.glob("*.json")
    found = json.loads(path.read_text())
    assert set(found["parts"]) == {"scaling", "wrapper", "memory", "metrics"}
    assert status == int(any(line[-1] == "MISSED" for line in found["verdicts"]))
    exact = [line for line in found["verdicts"] if "CPU" not in line[0] and "over the plain" not in line[0]]
    assert len(exact) == 3
    assert all(line[-1] == "goal met" for line in exact)
    assert (path.with_suffix(".md")).read_text().count("MISSED") >= status
