"""'hyperlearn fit --strategy' on two ranks, on one, and where it cannot be."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyperlearn_pyg.data._toml import load_toml

pytestmark = pytest.mark.slow
jobs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("test_job.py"))))


def test_replicas_train_and_rank_0_writes(ranks: Any, tables: Path) -> None:
    first, second = jobs.both(ranks, tables, *jobs.FIT, "--strategy", "co-learning")
    assert first.code == second.code == 0, (first.err, second.err)
    assert "2 replicas, co-learning" in first.out
    assert (second.out, first.steps) == ("", second.steps)
    assert sorted(path.name for path in (tables / "o").iterdir()) == jobs.FILES
    assert load_toml(tables / "o" / "config.toml")["train"]["strategy"] == "co-learning"
    assert json.loads((tables / "o" / "metrics.json").read_text())["best_epoch"] > 0


def test_resumes_and_refuses(ranks: Any, tables: Path) -> None:
    jobs.longer(tables)
    line = (*jobs.FIT, "--strategy", "gradient-push")
    for outcome in jobs.both(ranks, tables, *line, fault="stop on 1"):
        assert outcome.code == 130, outcome.err
    for outcome in jobs.both(ranks, tables, *line, "--resume"):
        assert outcome.code == 0, outcome.err
        assert 0 < outcome.steps < 12
    history = json.loads((tables / "o" / "history.json").read_text())
    assert [row["epoch"] for row in history if row["phase"] == "select"] == list(range(1, 13))
    for options, text in (
        (("--devices", "cpu", "--out", "p"), "--devices: spreads one model"),
        (("--replicas", "2", "--out", "p"), "--replicas: spreads one model"),
        (("--strategy", "gossip", "--out", "p"), "train.strategy: expected one of ['co-learning', 'gradient-push', "),
        (("--strategy", "resist", "--out", "p"), "has no residual blocks that can be dealt: choose model.encoder"),
    ):
        found = jobs.both(ranks, tables, *line, *options)
        assert [outcome.code for outcome in found] == [2, 2]
        assert text in found[0].err
        assert not (tables / "p").exists()


def test_parts_are_trained_and_another_strategy_goes_on(ranks: Any, tables: Path) -> None:
    jobs.longer(tables)
    line = (*jobs.FIT, "--strategy", "gist")
    for outcome in jobs.both(ranks, tables, *line, fault="stop on 1"):
        assert outcome.code == 130, outcome.err
    assert load_toml(tables / "o" / "config.toml")["train"]["strategy"] == "gist"
    for outcome in jobs.both(ranks, tables, *jobs.FIT, "--strategy", "codistillation", "--resume"):
        assert outcome.code == 0, outcome.err
        assert 0 < outcome.steps < 12
    assert load_toml(tables / "o" / "config.toml")["train"]["strategy"] == "codistillation"
    history = json.loads((tables / "o" / "history.json").read_text())
    assert [row["epoch"] for row in history if row["phase"] == "select"] == list(range(1, 13))


def test_replica_that_diverges_alone(ranks: Any, tables: Path) -> None:
    first, second = jobs.both(ranks, tables, *jobs.FIT, "--strategy", "co-learning", fault="nan on 1")
    assert second.code == 2
    assert "the loss became nan in epoch 1: lower train.lr" in second.err
    assert first.code == 1
    assert "lost rank 1" in first.err
    assert not (tables / "o" / "metrics.json").exists()


def test_one_process_trains_as_without(ranks: Any, tables: Path) -> None:
    for out, options in (("a", ()), ("b", ("--strategy", "co-learning"))):
        found = jobs.both(ranks, tables, *jobs.FIT, "--out", out, *options, world_size=1)
        assert found[0].code == 0, found[0].err
    assert jobs.results(tables / "a") == jobs.results(tables / "b")
