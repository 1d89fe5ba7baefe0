from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hyperlearn_pyg.data._toml import load_toml
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.experiments import EXPERIMENTS, Experiment, Row
from hyperlearn_pyg.experiments.growth import Growth
from hyperlearn_pyg.experiments.measures import Links
from hyperlearn_pyg.transforms import RandomRelationSplit

ROOT = Path(__file__).resolve().parents[2]
SPACE = """
[model]
rank = { low = 2, high = 6 }
[train]
lr = [0.01, 0.1]
"""


@pytest.fixture
def space(tables: Path) -> Path:
    path = tables / "space.toml"
    path.write_text(SPACE, encoding="utf-8")
    return path


def test_the_config_that_is_written_is_taken_by_fit(cli, tables, space):
    ended = cli("tune", "small.toml", "--space", space, "--trials", 3, "--seed", 5, "--device", "cpu", "--epochs", 2)
    assert (ended.code, ended.err) == (0, "")
    assert [line.split(":")[0] for line in ended.out.splitlines()[:4]] == ["note", *map("trial {}".format, (1, 2, 3))]
    assert "not in the space: train.lr = " in ended.out
    assert "train with: hyperlearn fit runs/small-tune/small-tuned.toml" in ended.out
    best = load_toml(tables / "runs/small-tune/small-tuned.toml")
    assert 2 <= best["model"]["rank"] <= 6
    assert best["train"]["lr"] in (0.01, 0.1)
    assert (best["train"]["seed"], best["train"]["epochs"]) == (5, 2)
    assert cli("fit", "runs/small-tune/small-tuned.toml", "--quiet").code == 0
    assert load_toml(tables / "runs/small-tuned/config.toml") == best


def test_it_goes_on_and_starts_afresh_only_elsewhere(cli, tables, space, tree):
    call = ("tune", "small.toml", "--space", space, "--out", "search", "--quiet")
    assert cli(*call, "--trials", 1).code == 0
    before = tree(tables / "search")
    ended = cli(*call, "--trials", 2)
    assert ended.code == 2
    assert "holds a search already: --resume goes on with it" in ended.err
    ended = cli(*call, "--trials", 2, "--resume", "--rank", 3)
    assert ended.code == 2
    assert "is a search of another model: rank = 4 (now 3)" in ended.err
    assert tree(tables / "search") == before
    ended = cli(*call, "--trials", 2, "--resume")
    assert (ended.code, "best of 2 trials" in ended.out) == (0, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "name a SOURCE to tune"),
        (("small.toml", "--experiment", "dhne-gps"), "one of them"),
        (("small.toml", "--row", "pairs"), "--row: goes with an --experiment"),
        (("--experiment", "dhne-gps", "--rank", "3"), "--rank: goes with a SOURCE; the row names its own"),
        (("--experiment", "dhne-gsp"), "Did you mean 'dhne-gps'"),
        (("--experiment", "dhne-gps", "--row", "pair"), "has no row 'pair'"),
        (("smal.toml",), "config file 'smal.toml' not found. Did you mean 'small.toml'"),
        (("small.toml", "--space", "none.toml"), "config file 'none.toml' not found"),
        (("small.toml", "--space", "small.toml"), "key 'model.rank': a list of values, or"),
        (("small.toml", "--minutes", "0"), "minutes: expected a positive number"),
        (("small.toml", "--minutes", "0.000001"), "no trial was finished in the time"),
        (("small.toml", "--resume"), "nothing to resume"),
        (("small.toml", "--out", "users.csv"), "is a file, expected a directory"),
        (("small.toml", "--out", "."), "is not empty"),
    ],
)
def test_faults_are_told(cli, tables, args, message):
    ended = cli("tune", *args)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.startswith(("error:", "note:"))


def trials_of(out: Path) -> list[dict[str, str]]:
    path = out / "trials.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []
    return [{key: cell for key, cell in row.items() if key != "seconds"} for row in rows]


@pytest.mark.slow
def test_a_search_goes_on_after_kill_9(cli, tables, space):
    options = ["small.toml", "--space", str(space), "--device", "cpu", "--epochs", "20", "--quiet"]
    command = [sys.executable, "-m", "hyperlearn_pyg", "tune", *options, "--out", "killed", "--trials", "500"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        end = time.monotonic() + 120
        while len(trials_of(tables / "killed")) < 3 and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    done = len(trials_of(tables / "killed"))
    assert done >= 3
    lock = tables / "killed" / "study.jsonl.lock"  # as if it had been killed while it wrote
    if not lock.is_symlink():
        lock.symlink_to("study.jsonl")
    assert cli("tune", *options, "--out", "killed", "--trials", done + 2, "--resume").code == 0
    assert cli("tune", *options, "--out", "whole", "--trials", done + 2).code == 0
    assert trials_of(tables / "killed") == trials_of(tables / "whole")


def toy() -> Experiment:
    def load(base: Path) -> Any:
        relations = {"tags": SyntheticRelation(("user", "item", "tag"), 200, valued=False)}
        return SyntheticMultiModal({"user": 15, "item": 12, "tag": 5}, relations)[0]

    train = {"epochs": 2, "eval_every": 1}
    return Experiment(
        name="toy",
        title="A toy",
        load=load,
        split=lambda data, seed: RandomRelationSplit("tags", val=0.1, test=0.2, seed=seed)(data),
        split_note="by seed",
        rows=(
            Row(name="pairs", model={"rank": 2, "decoder": "pairwise"}, train=train),
            Row(name="CP", model={"rank": 3, "decoder": "cp"}, train=train),
            Row(name="grown", train=train, growth=Growth("tags", None, epochs=1, eval_every=1, metric="auc")),
            Row(name="changed", train=train, change=lambda data: data.remove_hyperedges("tags")),
        ),
        measures=(Links("tags", draws=2),),
        metrics=("auc",),
    )


def test_a_row_of_an_experiment(cli, tables, space, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "toy", toy())
    monkeypatch.setattr(Links, "score", lambda *args: pytest.fail("the test was scored"))
    call = ("tune", "--experiment", "toy", "--space", space, "--trials", 2, "--repeats", 2, "--device", "cpu")
    ended = cli(*call, "--row", "CP")
    assert (ended.code, ended.err) == (0, "")
    assert "model = {'rank': " in ended.out
    assert "'decoder': 'cp'" in ended.out
    assert "seed" not in ended.out
    found = load_toml(tables / "runs/toy-tune/best.toml")
    assert set(found) == {"model", "train"}
    ended = cli(*call, "--out", "first")
    assert "'decoder': 'pairwise'" in ended.out
    assert "goes on with a trained model: tune the row" in cli(*call, "--row", "grown", "--out", "grown").err
    assert "the data has no relation to learn from" in cli(*call, "--row", "changed", "--out", "changed").err
