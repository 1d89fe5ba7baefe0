from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

models = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("models.py"))))
case = models.case

SMOOTH = {"smoothness": 0.1}
DROP = {"dropout": 0.3, "node_dropout": 0.2}
CELLS = {"value_loss": "all_cells", "link_loss": "all_cells"}
SIX = "user film tag star place day"
ALL = "rates tags cast visits"
#: name -> case, all of two ranks
TWO = {
    "two modalities, diffusion": case(
        "user film", "rates", ["user", "film"], exchange="rows", model={"preset": "ratings", "encoder": "diffusion"} | SMOOTH
    ),
    "relation encoder, dropout, leave-out masks, weights": case(
        "user film tag", "rates tags", ["user tag", "film"], keep=True, model=DROP
    ),
    "softmax, seen negatives, roles, whole tables": case(
        "user film tag star",
        "tags cast",
        ["film star", "tag user"],
        exchange="full",
        model={"link_loss": "softmax", "encoder": "embedding", "negatives": "seen", "l2": 0.1, "dropout": 0.2},
    ),
    "all cells of all relations, trained decoder": case(
        SIX, ALL, ["user star day", "film tag place"], model={"decoder": "cp_around_ones", **CELLS, **SMOOTH}
    ),
    "pairwise without biases": case(
        "user film tag", "rates tags", ["tag", "film user"], model={"decoder": "pairwise", "bias": False}
    ),
    "pairwise and product, sizes of tables": case(
        "user film tag place day",
        "rates tags visits",
        ["user day", "film tag place"],
        exchange="rows",
        model={"decoder": "pairwise_cp", "table_l2": 0.1, "l2": 0.1, **DROP},
    ),
    "pairwise, all cells": case(
        "user film tag", "rates tags", ["tag user", "film"], model={"decoder": "pairwise_cp", **CELLS}
    ),
    "rank 1 without modality and parameters": case("user film", "rates", ["user film", ""], model=DROP),
    "rank 0 without modality, trained decoder": case(
        "user film tag", "rates tags", ["", "user film tag"], model={"decoder": "cp_around_ones", **CELLS}
    ),
    "one tuple": case("user film tag", "rates tags", ["user", "film tag"], batch=1, keep=True),
    "one tuple of one relation": case(
        "user film tag", "rates tags", ["user", "film tag"], edit="others empty", model={"decoder": "cp_around_ones"}
    ),
    "no tuple at all": case(
        "user film tag", "rates tags", ["user", "film tag"], edit="nothing", model={"decoder": "cp_around_ones"} | SMOOTH
    ),
    "a relation that is empty every other time": case(
        "user film tag star",
        "rates tags cast",
        ["user star", "film tag"],
        edit="one relation empty",
        model={"decoder": "cp_around_ones"},
    ),
    "all entries": case("user film tag", "rates tags alone", ["user", "film tag"], edit="all", model=SMOOTH),
    "a frozen encoder on each rank": case(
        "user film tag star", "tags cast", ["user film", "tag star"], frozen=("user", "tag"), model=CELLS
    ),
    "all frozen on rank 0": case("user film tag", "rates tags", ["user", "film tag"], frozen=("user",), model=SMOOTH),
    "all frozen but rank 1": case(
        "user film tag",
        "rates tags",
        ["user film", "tag"],
        frozen=("user", "film", "shared"),
        model={"decoder": "cp_around_ones", **CELLS},
    ),
    "two replicas of all": case(
        "user film tag",
        "rates tags",
        ["user film tag"],
        replicas=2,
        keep=True,
        model={"decoder": "cp_around_ones", "l2": 0.1, "table_l2": 0.1, **DROP, **SMOOTH},
    ),
    "two replicas, all cells": case(
        SIX, ALL, [SIX], replicas=2, model={"decoder": "cp_around_ones", "encoder": "diffusion", **CELLS}
    ),
    "two replicas, one tuple": case(
        "user film", "rates", ["user film"], replicas=2, batch=1, frozen=("user",), model={"preset": "ratings"}
    ),
    "two replicas, nothing": case("user film", "rates", ["user film"], replicas=2, edit="nothing", model=SMOOTH),
    "each loss checked": case("user film tag", "rates tags", ["user", "film tag"], wrap={"check": "always"}),
}
USER = {
    "two modalities": case("user film", "", ["user", "film"]),
    "four, rows": case("user film tag star", "", ["user star", "film tag"], exchange="rows"),
    "six, whole tables": case(SIX, "", ["user star", "film tag place day"], exchange="full"),
    "rank without modality": case("user film tag", "", ["", "user film tag"]),
    "rank without parameters of its own": case("user film tag", "", ["user", "film tag"], edit="no parameters"),
    "rank without parameters": case("user film", "", ["user", "film"], edit="no parameters", frozen=("shared",)),
    "frozen rank": case("user film tag", "", ["user", "film tag"], frozen=("user",)),
    "frozen rank and decoder": case("user film tag", "", ["user", "film tag"], frozen=("user", "shared")),
    "one tuple": case("user film tag", "", ["user", "film tag"], batch=1),
    "an empty batch": case("user film tag", "", ["user", "film tag"], edit="one relation empty"),
    "two replicas": case("user film tag", "", ["user film tag"], replicas=2),
    "two replicas, one tuple": case("user film tag", "", ["user film tag"], replicas=2, batch=1, exchange="rows"),
}


def spread_all(rank, world_size, cases):
    return [(models.hyper_spread if c["relations"] else models.user_spread)(rank, world_size, c) for c in cases]


def plain(c):
    return (models.hyper_plain if c["relations"] else models.user_plain)(c)


@pytest.fixture(scope="module")
def two(ranks):
    cases = [*TWO.values(), *USER.values()]
    return [list(results) for results in zip(*ranks.run(spread_all, 2, cases, limit=120), strict=True)]


@pytest.mark.parametrize("number", range(len(TWO)), ids=list(TWO))
def test_two_ranks_equal_the_plain_model(two, number):
    models.compare(two[number], plain(list(TWO.values())[number]))


@pytest.mark.parametrize("number", range(len(USER)), ids=list(USER))
def test_two_ranks_equal_a_plain_module_of_the_user(two, number):
    models.compare(two[len(TWO) + number], plain(list(USER.values())[number]))
