from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.distributed import Machine, ModalityLoad, ModalityPlan, RelationLoad

LOADS = (
    ModalityLoad("user", items=400, edges=1000, parameters=5000, width=8, memory=2**20, seconds=0.02),
    ModalityLoad("film", items=300, edges=900, parameters=3000, width=9, memory=2**19, seconds=0.01),
    ModalityLoad("tag", items=0, width=8),
)
RELATIONS = (RelationLoad("tags", ("user", "film", "tag"), 60, candidates=3, gram=8),)


def full(**changes: object) -> ModalityPlan:
    plan = ModalityPlan(
        (("user",), ("film", "tag")),
        2,
        devices=("cpu",) * 4,
        loads=LOADS,
        relations=RELATIONS,
        shared_parameters=10,
        machine=Machine(flops=1e9),
    )
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]


@st.composite
def plans(draw: st.DrawFn) -> ModalityPlan:
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6))
    groups = draw(st.integers(1, 4))
    owners = [draw(st.integers(0, groups - 1)) for _ in names]
    replicas = draw(st.integers(1, 3))
    members = [[n for n, o in zip(names, owners, strict=True) if o == g] for g in range(groups)]
    loads = [ModalityLoad(n, *(draw(st.integers(0, 99)) for _ in range(5)), draw(st.floats(0, 9))) for n in names]
    relations = [RelationLoad("r", tuple(names), draw(st.integers(0, 50)), draw(st.integers(0, 3)))] if names else []
    exchange = draw(st.sampled_from(["auto", "rows", "full"]))
    devices = draw(st.sampled_from([(), ("cpu",) * (groups * replicas)]))
    return ModalityPlan(members, replicas, devices, exchange, loads, relations, draw(st.integers(0, 9)))  # type: ignore[arg-type]


@given(plans())
@settings(max_examples=25)
def test_laws_of_every_plan(plan: ModalityPlan) -> None:
    again = ModalityPlan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.digest == plan.digest
    for rank in range(plan.world_size):
        group, replica = plan.coordinates(rank)
        assert rank == group * plan.replicas + replica
        for name in plan.modalities_of(rank):
            assert rank in plan.ranks_of(name)
    plan.check(plan.modalities, world_size=plan.world_size)
    figures = (plan.memory(), plan.seconds(), plan.bytes_sent())
    assert all(len(f) == len(plan.groups) and min(f) >= 0 for f in figures)
    assert plan.imbalance >= 1 - 1e-12
    if plan.world_size == 1:
        assert plan.bytes_sent() == [0]
    known = any(load.items or load.width for load in plan.loads) or bool(plan.relations)
    below = (() in plan.groups) + (bool(plan.loads) + known if plan.loads else 0)
    assert len(str(plan).splitlines()) == len(plan.groups) + 3 + below


def test_a_table_shows_no_figure_that_means_nothing() -> None:
    by_parameters = [ModalityLoad(name, parameters=9, seconds=1.0) for name in ("user", "film")]
    plan = ModalityPlan([["user"], ["film"], []], loads=by_parameters)
    assert [row["step"] for row in plan.rows()] == ["?"] * 3
    assert "ranks without a modality score tuples and no more: 2" in str(plan)
    assert "by the parameters alone" in str(plan)
    assert "estimated step" not in str(plan)


def test_ranks_are_those_of_a_mesh() -> None:
    plan = full()
    mesh = torch.arange(plan.world_size).view(len(plan.groups), plan.replicas)
    assert plan.ranks_of("tag") == tuple(mesh[1].tolist())
    assert plan.coordinates(3) == (1, 1)
    assert plan.device_of(3) == "cpu"
    assert full(devices=()).device_of(0) is None


def test_table() -> None:
    lines = str(full()).splitlines()
    assert lines[0].split() == [
        *("group", "ranks", "modalities", "devices", "items", "edges", "parameters", "memory", "step", "sent")
    ]
    assert "film, tag" in lines[3]
    assert "2, 3" in lines[3]
    assert lines[4] == "world size 4 = 2 x 2 (modality x data), exchange rows"
    assert "imbalance 1.33" in lines[5]
    assert "1e+09 flop/s" in lines[6]
    assert not any(line.endswith(" ") for line in lines)


def test_table_without_loads_shows_the_placement() -> None:
    lines = str(ModalityPlan([["a"], []])).splitlines()  # type: ignore[list-item, arg-type]
    assert lines[0].split() == ["group", "ranks", "modalities"]
    assert lines[3].split() == ["1", "1", "-"]


def test_bytes_add_up() -> None:
    plan = full(replicas=1, devices=(), exchange="full", relations=(RelationLoad("rates", ("user", "film"), 10),))
    rows = (400 + 300) * 9 * 4
    vote = 5 * 8
    assert plan.bytes_sent() == [rows + 10 * 4 + vote] * 2
    assert dataclasses.replace(plan, shared_tensors=2).bytes_sent() == [rows + 12 * 4 + vote] * 2
    gram = full(replicas=1, devices=(), exchange="full", shared_parameters=0)
    assert gram.bytes_sent() == [rows + 2 * 8 * 8 * 4 + vote] * 2  # film and tag are two slots on one rank
    twice = full(exchange="full", shared_parameters=0, relations=())
    assert twice.bytes_sent() == [5000 * 4 + 3 * vote, 3000 * 4 + 3 * vote]
    twice = full(exchange="full", shared_parameters=6, shared_tensors=2, relations=())
    assert twice.bytes_sent() == [5008 * 4 + 8 * 4 + 3 * vote, 3008 * 4 + 8 * 4 + 3 * vote]


def test_memory_is_that_of_the_modalities_and_of_the_rows_of_a_step() -> None:
    buffer = 2 * 4 * (15 + 3) * 25
    assert full(exchange="rows").memory() == [2**20 + buffer, 2**19 + buffer]
    assert full(exchange="full").memory()[0] == 2**20 + buffer + 2 * 4 * (400 * 8 + 300 * 9)


def test_digest_tells_placements_apart_and_nothing_else() -> None:
    plan = full()
    same = [full(loads=[dataclasses.replace(load, seconds=9.0) for load in LOADS]), full(exchange="rows")]
    assert {p.digest for p in same} == {plan.digest}
    other = [
        full(devices=()),
        full(exchange="full"),
        full(replicas=1, devices=()),
        full(groups=(("user", "film", "tag"), ())),
    ]
    assert len({plan.digest, *(p.digest for p in other)}) == 5


def test_digest_is_the_same_in_every_process_and_version() -> None:
    text = '[[["user"],["film","tag"]],2,["cpu","cpu","cpu","cpu"],"rows"]'
    assert full().digest == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"groups": "user"}, "'groups' must list the modalities"),
        ({"groups": ["user"]}, r"group 0 must be a list of modalities: write \['user'\]"),
        ({"groups": [["user"], ["film", "user"]]}, "'user' is placed twice, in the groups 0 and 1"),
        ({"groups": [["user", "user"]]}, "'user' is placed twice, in the groups 0 and 0"),
        ({"groups": [[""]]}, "must hold names"),
        ({"groups": []}, "'groups' is empty"),
        ({"groups": [["a"]], "replicas": 0}, "'replicas' must be a whole number of at least 1"),
        ({"groups": [["a"]], "exchange": "row"}, r"'exchange' must be one of .* Did you mean 'rows'\?"),
        ({"groups": [["a"], ["b"]], "devices": ["cpu"]}, r"one device a rank, 2 \(got 1\)"),
        (
            {"groups": [["a"]], "loads": [{"name": "b"}]},
            r"must be those of the modalities \['a'\] \(got \['b'\]",
        ),
        (
            {"groups": [["user"]], "relations": [{"name": "r", "modalities": ["usr"]}]},
            r"relation 'r' names 'usr', which the plan does not place. Did you mean 'user'\?",
        ),
        ({"group": [["a"]]}, r"a plan has no key 'group'. Did you mean 'groups'\?"),
        ({"replicas": 2}, "a plan has no 'groups'"),
        ({"groups": [["a"]], "loads": [{"nam": "a"}]}, r"a load has no key 'nam'. Did you mean 'name'\?"),
        ({"groups": [["a"]], "machine": 3}, "a machine must be a mapping"),
    ],
)
def test_faulty_plans_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModalityPlan.from_json(json.dumps(values))


def test_check_against_a_module_and_a_world() -> None:
    plan = full()
    with pytest.raises(ValueError, match=r"places 'user', which the module has not .* Did you mean 'users'\?"):
        plan.check(["users", "film", "tag"])
    with pytest.raises(ValueError, match=r"the plan places no \['actor'\]"):
        plan.check(["user", "film", "tag", "actor"])
    with pytest.raises(ValueError, match=r"made for 4 ranks \(2 groups x 2 replicas\), there are 3"):
        plan.check(plan.modalities, world_size=3)
    with pytest.raises(ValueError, match=r"'rank' must be in \[0, 4\)"):
        plan.check(plan.modalities, rank=4)
    with pytest.raises(ValueError, match=r"no modality 'usr' .*Did you mean 'user'\?"):
        plan.ranks_of("usr")


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda:99", "does not exist here"), ("gpu", "'gpu' is no device"), ("xpu:5", "does not exist"), ("meta", "meta")],
)
def test_devices_that_are_not_there(device: str, message: str) -> None:
    plan = ModalityPlan((("a",), ("b",)), devices=("cpu:0", device))
    plan.check(["a", "b"], rank=0)
    with pytest.raises(ValueError, match=f"rank 1: .*{message}"):
        plan.check(["a", "b"])
    with pytest.raises(ValueError, match="rank 1"):
        plan.check(["a", "b"], rank=1)
