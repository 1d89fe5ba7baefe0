from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        "user film",
        "rates",
        ["user", "film"],
        exchange="rows",
        model={"preset": "ratings", "encoder": "diffusion"} | SMOOTH,
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
        "user film tag",
        "rates tags",
        ["user", "film tag"],
        edit="nothing",
        model={"decoder": "cp_around_ones"} | SMOOTH,
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
    "two replicas in a mesh": case(
        "user film", "rates", ["user film"], replicas=2, ranks="mesh", model={"decoder": "cp_around_ones", **CELLS}
    ),
    "two groups in a mesh": case("user film", "rates", ["user", "film"], ranks="mesh", model=CELLS),
    "a process group": case("user film", "rates", ["user", "film"], ranks="group", wrap={"timeout": 30}),
    "a process group of replicas": case("user film", "rates", ["user film"], replicas=2, ranks="group"),
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


LONG = ("two modalities, diffusion", "all cells of all relations, trained decoder", "two replicas of all", "four, rows")
for cases in (TWO, USER):  # twenty steps of Adam where it matters, and six of the others
    cases.update({name: c if name in LONG else {**c, "steps": 6} for name, c in cases.items()})


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


# ---------------------------------------------------------------- more ranks, meshes

SLOTS = {name: [s if isinstance(s, str) else s[0] for s in slots] for name, (slots, *_) in models.RELATIONS.items()}
ENCODERS = {"diffusion": {"preset": "ratings"}, "relation": DROP, "embedding": {"dropout": 0.2}}
LOSSES = ({"link_loss": "softmax"}, CELLS, {"l2": 0.1}, {"link_loss": "all_cells"}, {"negatives": "seen"})
MANY = {
    3: [["user", "film tag", ""], ["tag user", "", "film"]],
    4: [["user", "film", "tag", "star place day"], ["star", "", "user film tag place day", ""]],
}


PLACEMENTS = [(groups, 1) for many in MANY.values() for groups in many]
PLACEMENTS += [(["user star", "film tag"], 2), (["", "user film tag"], 2), (["user film tag"], 3)]
PLACEMENTS += [(["user film tag star"], 4)]


def grid(number):
    """Cases of different encoders, decoders, losses and exchanges for one placement."""
    groups, replicas = PLACEMENTS[number]
    names = " ".join(groups)
    relations = " ".join(r for r, slots in SLOTS.items() if set(slots) <= set(names.split()))
    made = []
    for i, (encoder, options) in enumerate(ENCODERS.items()):
        decoder = ("cp_around_ones", "pairwise_cp", "pairwise")[(i + number) % 3]
        exchange = ("rows", "full", "auto")[(i + number // 2) % 3]
        chosen = {"encoder": encoder, "decoder": decoder, "bias": i != 1, **options, **LOSSES[(i + number) % 5]}
        common = {"replicas": replicas, "exchange": exchange, "keep": i % 2 == 0, "batch": (8, 13, 2)[i]}
        made.append(case(names, relations, groups, model={**SMOOTH, **chosen}, **common))
    options = {"replicas": replicas, "exchange": ("full", "rows")[number % 2], "ranks": ("", "mesh")[number % 2]}
    return [*made, case(names, "", groups, **options), case(names, "", groups, **options, batch=1, steps=5)]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(PLACEMENTS)), ids=map(str, PLACEMENTS))
def test_more_ranks_equal_the_plain_model(ranks, number):
    cases, (groups, replicas) = grid(number), PLACEMENTS[number]
    found = ranks.run(spread_all, len(groups) * replicas, cases, limit=120)
    for c, results in zip(cases, zip(*found, strict=True), strict=True):
        models.compare(list(results), plain(c))


def test_no_collective_is_mismatched(ranks):
    cases = [
        {**TWO["two replicas of all"], "steps": 2},
        {**TWO["all cells of all relations, trained decoder"], "steps": 2},
    ]
    cases += [{**USER["four, rows"], "steps": 2}]
    found = ranks.run(spread_all, 2, cases, env={"TORCH_DISTRIBUTED_DEBUG": "DETAIL"})
    for c, results in zip(cases, zip(*found, strict=True), strict=True):
        models.compare(list(results), plain(c))


# ---------------------------------------------------------------- one process, several devices


@st.composite
def one_process(draw):
    """A case on one to four devices of one process."""
    names = SIX.split()[: draw(st.integers(2, 6))]
    relations = [name for name, slots in SLOTS.items() if set(slots) <= set(names)]
    relations = draw(st.lists(st.sampled_from(relations), min_size=1, unique=True).filter(lambda r: r != ["alone"]))
    names = [n for n in names if any(n in SLOTS[r] for r in relations)]
    groups = [[] for _ in range(draw(st.integers(1, 4)))]
    for name in names:
        draw(st.sampled_from(groups)).append(name)
    options = {
        "encoder": draw(st.sampled_from(["diffusion", "relation", "embedding"])),
        "decoder": draw(st.sampled_from(["cp", "cp_around_ones", "pairwise", "pairwise_cp"])),
        "value_loss": draw(st.sampled_from(["squared", "all_cells"])),
        "link_loss": draw(st.sampled_from(["logistic", "softmax", "all_cells"])),
        "negatives": draw(st.sampled_from(["all", "seen"])),
        "bias": draw(st.booleans()),
        **{key: draw(st.sampled_from([0.0, 0.25])) for key in ("l2", "table_l2", "smoothness", *DROP)},
    }
    edits = ["", "all", "nothing", "others empty", "one relation empty"]
    chosen = {"model": options, "edit": draw(st.sampled_from(edits)), "keep": draw(st.booleans()), "steps": 3}
    return case(
        " ".join(names), " ".join(relations), [" ".join(g) for g in groups], batch=draw(st.integers(1, 9)), **chosen
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(one_process())
def test_devices_of_one_process_give_the_same_numbers_to_the_last_bit(c):
    found = models.hyper_spread(0, 1, c, devices=["cpu"] * len(c["groups"]))
    # two slots of one modality and its smoothness: three parts of a gradient, which are summed in another order
    twice = {"knows", "cast"} & set(c["relations"])
    close = {"tolerance": 1e-14, "after": 1e-10} if twice else {"tolerance": 0, "after": 0}
    models.compare([found], plain(c), **close)


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]])
def test_devices_of_one_process_take_a_module_of_the_user(devices):
    groups = ["user film tag star"] if len(devices) == 1 else ["user film", "tag star"]
    c = case("user film tag star", "", groups, steps=3)
    models.compare([models.user_spread(0, 1, c, devices=devices)], plain(c), tolerance=0, after=0)
