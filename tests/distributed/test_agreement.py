from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import torch

from hyperlearn_pyg.distributed import ModalityParallel, ModalityPlan
from hyperlearn_pyg.distributed._agreement import compare, tables_to_tell, tables_told
from hyperlearn_pyg.distributed._share import Table

models = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("models.py"))))

THREE = models.case("user film tag", "", ["user", "film tag"])
PLAN = ModalityPlan([["user"], ["film", "tag"]])


def build(**parts):
    made = models.user_model(THREE)
    for name, part in parts.items():
        setattr(made, name, part)
    return made


def text_of(function):
    try:
        function()
    except ValueError as error:
        return str(error)
    return "nothing was raised"


def built_differently(rank, world_size):
    mlp = torch.nn.Sequential(torch.nn.Linear(5, (4, 3)[rank]))
    kind = (torch.float64, torch.float32)[rank]
    return {
        "plan": text_of(lambda: ModalityParallel(build(), (PLAN, ModalityPlan([["user", "tag"], ["film"]]))[rank])),
        "exchange": text_of(lambda: ModalityParallel(build(), PLAN, exchange=("rows", "full")[rank])),
        "shape": text_of(lambda: ModalityParallel(build(mlp=mlp), PLAN)),
        "type": text_of(lambda: ModalityParallel(build(unused=torch.nn.Parameter(torch.ones(2, dtype=kind))), PLAN)),
        "frozen": text_of(lambda: ModalityParallel(build(unused=torch.nn.Parameter(torch.ones(2), rank == 0)), PLAN)),
        "order": text_of(
            lambda: ModalityParallel(build(modalities=(["user", "film", "tag"], ["film", "user", "tag"])[rank]), PLAN)
        ),
        "bfloat16": text_of(lambda: ModalityParallel(build(), PLAN, exchange_dtype=(None, torch.bfloat16)[rank])),
    }


def test_ranks_that_build_differently_are_told_both_values(ranks):
    one, other = ranks.run(built_differently, 2)
    assert one == other
    for name, text in {
        "plan": "differ in 'plan': rank 0 has [['user'], ['film', 'tag']] x 1, ",
        "exchange": "make the plan on one rank, save it, and pass it to all",
        "shape": "'mlp.0.weight': [[4, 5], 'torch.float32']",
        "type": "'unused': [[2], 'torch.float32']",
        "frozen": "differ in 'shared parameters'",
        "order": "differ in 'modalities': rank 0 has ['user', 'film', 'tag'], rank 1 has ['film', 'user', 'tag']",
        "bfloat16": "differ in 'exchange_dtype': rank 0 has None, rank 1 has torch.bfloat16",
    }.items():
        assert text in one[name], (name, one[name])
    assert "rank 1 has [['user', 'tag'], ['film']] x 1" in one["plan"]
    assert "[[3, 5], 'torch.float32']" in one["shape"]


def step_differently(rank, world_size, check):
    out, data = {}, models.user_data(THREE["names"])

    def first(seed=0, tuples=0, training=True, grad=True, steps=0):
        model = ModalityParallel(build(), PLAN, check=check).train()
        for _ in range(steps):
            model(data, models.user_batches(THREE, 0), seed=0)
        model.train(training)
        with torch.set_grad_enabled(grad):
            model(data, models.user_batches(THREE, tuples), seed=seed)

    out["tuples"] = text_of(lambda: first(tuples=rank))
    out["seed"] = text_of(lambda: first(seed=rank))
    out["mode"] = text_of(lambda: first(training=rank == 0))
    out["gradients"] = text_of(lambda: first(grad=rank == 0))
    out["later seed"] = text_of(lambda: first(seed=rank, steps=1))
    if check == "always":
        out["later tuples"] = text_of(lambda: first(tuples=rank, steps=1))
    return out


def drawn_differently(rank, world_size):
    """Generators of the ranks in different states: told at the first step, whatever is checked."""
    torch.manual_seed(rank)
    model = ModalityParallel(build(), PLAN, check="never").train()
    torch.manual_seed(rank)
    return text_of(lambda: model(models.user_data(THREE["names"]), models.user_batches(THREE, 0)))


def all_differently(rank, world_size):
    steps = [step_differently(rank, world_size, check) for check in ("first", "always")]
    return [*steps, drawn_differently(rank, world_size)]


CALL = "call torch.manual_seed with one number on every rank, or pass seed="


def test_ranks_whose_steps_differ_are_told_both_values(ranks):
    every = ranks.run(all_differently, 2)
    for one, other in list(zip(*every, strict=True))[:2]:
        assert one == other
        assert "differ in 'tuples': rank 0 has 13 tuples, checksum" in one["tuples"]
        assert "draw the batches with the same seed on every rank" in one["tuples"]
        assert "differ in 'seed': rank 0 has 0, rank 1 has 1" in one["seed"]
        assert "call torch.manual_seed with one number on every rank" in one["seed"]
        assert "differ in 'seed': rank 0 has 0, rank 1 has None" in one["mode"] or "'mode'" in one["mode"]
        assert "rank 0 has train, gradients True, rank 1 has train, gradients False" in one["gradients"]
    assert "13 tuples" in one["later tuples"]
    first = every[0][0]["later seed"], every[1][0]["later seed"]
    assert first == ("the ranks differ in their random numbers (seeds [0, 1]): " + CALL,) * 2
    for _, _, text in every:
        assert "the ranks differ in their random numbers (seeds [" in text
        assert "or pass seed=" in text


def test_tables_come_back_as_they_were_told():
    tables = {"user": Table(3, 4, torch.float64), "film": Table(0, 1, torch.bfloat16)}
    assert tables_told([tables_to_tell(tables), {}]) == tables
    assert compare([{"a": 1}, {"a": 1}]) is None
