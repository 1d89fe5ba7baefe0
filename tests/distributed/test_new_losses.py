"""Every decoder, encoder and loss gives on two ranks what it gives in one process, in float64."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hyperlearn_pyg.distributed import ModalityParallel
from hyperlearn_pyg.typing import TupleBatch

models = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("models.py"))))
case = models.case

PLACES = ("user film tag", "rates tags", ["user tag", "film"])
ROLES = ("user film tag star", "tags cast", ["film user", "tag star"])
NEGATIVES = {"l2": 0.1, "n3": 0.1}
CASES = {
    "Tucker": case(*PLACES, model={"decoder": "tucker", **NEGATIVES}, keep=True),
    "Tucker, all cells, without biases": case(
        *PLACES,
        model={
            "decoder": "tucker",
            "rank": 3,
            "bias": False,
            "encoder": "embedding",
            "value_loss": "all_cells",
            "link_loss": "all_cells",
        },
    ),
    "Tucker, all cells": case(
        *PLACES, model={"decoder": "tucker", "rank": 2, "value_loss": "all_cells", "link_loss": "all_cells"}
    ),
    "cross-entropy over levels": case(
        "user film tag place day",
        "rates visits",
        ["user day", "film tag place"],
        model={"value_loss": "cross_entropy", "decoder": "pairwise_cp", **NEGATIVES},
        keep=True,
    ),
    "expected level of a Tucker model": case(
        *PLACES, model={"value_loss": "expected_level", "decoder": "tucker", "encoder": "relation"}, exchange="full"
    ),
    "full softmax": case(*ROLES, model={"link_loss": "full_softmax", "decoder": "cp_around_ones"}, exchange="rows"),
    "full softmax over seen items": case(*ROLES, model={"link_loss": "full_softmax", "negatives": "seen"}),
    "in-batch softmax, N3, weights of relations": case(
        *ROLES,
        model={
            "link_loss": "in_batch_softmax",
            "n3": 0.2,
            "encoder": "embedding",
            "relation_weights": {"cast": 0.3, "tags": 2},
        },
    ),
    "separate roles": case(
        *ROLES, model={"roles": "separate", "encoder": "embedding", "decoder": "pairwise_cp"}, exchange="rows"
    ),
    "separate roles, all cells, weights of relations": case(
        *ROLES, model={"roles": "separate", "link_loss": "all_cells", "relation_weights": {"tags": 0.3}, "l2": 0.1}
    ),
    "context dropout": case(
        *ROLES,
        model={"link_loss": "in_batch_softmax", "context_dropout": 0.4, "decoder": "cp_around_ones"},
        exchange="rows",
    ),
    "counts of pairs": case(*ROLES, model={"pair_counts": True, "encoder": "embedding"}, exchange="rows"),
    "counts of pairs, full softmax": case(*ROLES, model={"pair_counts": True, "link_loss": "full_softmax"}),
    "counts of pairs, in-batch softmax": case(
        *ROLES, model={"pair_counts": True, "link_loss": "in_batch_softmax", "negatives": "seen"}, exchange="full"
    ),
    "common neighbours": case(
        "user film tag", "tags knows", ["film user", "tag"], model={"common_neighbors": True, "encoder": "embedding"}
    ),
    "partners": case(*PLACES, model={"encoder": "partner", "dropout": 0.2}, keep=True),
    "convolution by level": case(
        *PLACES, model={"encoder": "hypergraph_conv", "dropout": 0.2, "node_dropout": 0.1, "table_l2": 0.1}, keep=True
    ),
    # without biases: those of slots that are not predicted have no gradient but rounding, which Adam blows up
    "one slot, softmax": case(
        *ROLES, model={"link_loss": "softmax", "predict": {"cast": ["star.lead"]}, "bias": False}
    ),
    "one slot, full softmax": case(
        *ROLES,
        model={"link_loss": "full_softmax", "predict": {"tags": ["tag"], "cast": ["star"]}, "bias": False},
        exchange="rows",
    ),
    "two slots, in-batch softmax, counts": case(
        *ROLES,
        model={
            "link_loss": "in_batch_softmax",
            "predict": {"tags": ["user", "tag"]},
            "pair_counts": True,
            "bias": False,
            **NEGATIVES,
        },
    ),
    "one slot, logistic, all rows": case(*ROLES, model={"predict": {"tags": ["film"]}}, exchange="full"),
    "one slot, no tuples": case(
        *ROLES, edit="nothing", model={"link_loss": "in_batch_softmax", "predict": {"tags": ["tag"]}}
    ),
    "no tuples": case(
        *ROLES, edit="nothing", model={"pair_counts": True, "decoder": "tucker", "link_loss": "in_batch_softmax"}
    ),
    "no ratings": case(*PLACES, edit="nothing", model={"value_loss": "cross_entropy", "link_loss": "full_softmax"}),
    "two replicas": case(
        "user film tag",
        "rates tags",
        ["user film tag"],
        replicas=2,
        model={"pair_counts": True, "value_loss": "cross_entropy", "link_loss": "in_batch_softmax", **NEGATIVES},
    ),
}
CASES = {name: {**c, "steps": 5} for name, c in CASES.items()}


def spread_all(rank, world_size, cases):
    return [models.hyper_spread(rank, world_size, c) for c in cases]


@pytest.fixture(scope="module")
def two(ranks):
    return [list(results) for results in zip(*ranks.run(spread_all, 2, list(CASES.values()), limit=120), strict=True)]


@pytest.mark.parametrize("number", range(len(CASES)), ids=list(CASES))
def test_two_ranks_equal_the_plain_model(two, number):
    models.compare(two[number], models.hyper_plain(list(CASES.values())[number]))


@pytest.mark.parametrize("name", ["counts of pairs", "separate roles", "cross-entropy over levels"])
def test_devices_of_one_process_give_the_same_numbers(name):
    models.compare([models.hyper_spread(0, 1, CASES[name], devices=["cpu", "cpu"])], models.hyper_plain(CASES[name]))


def scores(rank, world_size, c):
    """Scores of all tuples after the weights of the counts were set."""
    with models.double():
        data, model = models.hyper_model(c)
        for decoder in model.decoders.values():
            torch.nn.init.constant_(decoder.counts.weight, 0.7)
        tuples = [
            TupleBatch(name, model.relations[name].modalities, data.relation(name).index) for name in model.relations
        ]
        if world_size > 1:
            spread = ModalityParallel(model, models.plan_of(c)).eval()
            return spread(spread.prepare(data), tuples)
        inputs = model.eval().prepare(data)
        return [model.decode(model(inputs), batch) for batch in tuples]


def test_scores_with_counts_are_those_of_the_plain_model(ranks):
    wanted = scores(0, 1, CASES["counts of pairs"])
    for found in ranks.run(scores, 2, CASES["counts of pairs"]):
        for mine, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine.detach(), theirs.detach(), rtol=1e-12, atol=1e-12)
