from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg.distributed import ModalityPlan


def test_plan_of_tables(cli, tables, tree):
    before = tree(tables)
    ended = cli("plan", "small.toml", "--world-size", 2)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split()[:4] == ["group", "ranks", "modalities", "items"]
    assert {"user", "film", "tag"} <= set(ended.out.replace(",", " ").split())
    assert "world size 2 = 2 x 1" in ended.out
    assert tree(tables) == before


@pytest.mark.parametrize("preset", ["paper", "links"])
def test_plan_as_json(cli, tables, preset):
    ended = cli("plan", "small.toml", "--world-size", 6, "--replicas", 2, "--json", "--preset", preset)
    assert ended.code == 0
    plan = ModalityPlan.from_json(ended.out)
    plan.check(["user", "film", "tag"], world_size=6)
    assert plan.replicas == 2
    grams = {relation.name: relation.gram for relation in plan.relations}
    candidates = {relation.name: relation.candidates for relation in plan.relations}
    assert (grams["tags"] > 0) == (preset == "paper")
    assert (candidates["tags"] > 0) == (preset == "links")
    assert (grams["rates"], candidates["rates"]) == (0, 0)


def test_plan_of_one_rank_sends_nothing(cli):
    state = torch.random.get_rng_state()
    ended = cli("plan", "synthetic", "--world-size", 1, "--json")
    torch.random.set_rng_state(state)
    assert ModalityPlan.from_json(ended.out).bytes_sent() == [0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory-limit", 1e-6), "no placement of 3 modalities"),
        (("--memory-limit", 0), "--memory-limit: expected a positive number"),
        (("--memory-limit", "nan"), "--memory-limit: expected a positive number"),
        (("--replicas", 3), "--replicas: must divide the world size 4 (got 3)"),
        (("--world-size", 0), "--world-size"),
        (("--preset", "link"), "Did you mean 'links'?"),
    ],
)
def test_bad_options(cli, tables, options, words):
    ended = cli("plan", "small.toml", "--world-size", 4, *options)
    assert ended.code == 2
    assert words in ended.err
    assert "Traceback" not in ended.err


def test_world_size_is_required(cli):
    ended = cli("plan", "synthetic")
    assert ended.code == 2
    assert "--world-size" in ended.err
