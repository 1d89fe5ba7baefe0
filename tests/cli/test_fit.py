from __future__ import annotations

import errno
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch

from hyperlearn_pyg.cli.fit import _read_as_input
from hyperlearn_pyg.data._toml import load_toml
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import ModelConfig
from hyperlearn_pyg.training.progress import Progress
from hyperlearn_pyg.training.state import STATE_FOLDER, has_state

TIMES = {"seconds", "seconds_per_step", "seconds_evaluation"}
FILES = [STATE_FOLDER, "config.toml", "embeddings", "history.json", "metrics.json", "model.pt", "report.html"]


def metrics(out: Path) -> dict:
    return {k: v for k, v in json.loads((out / "metrics.json").read_text()).items() if k not in TIMES}


def vectors(out: Path) -> dict[str, list]:
    return {path.name: pq.read_table(path)["vector"].to_pylist() for path in (out / "embeddings").iterdir()}


def test_synthetic(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = cli("fit", "synthetic", "--epochs", 3, "--rank", 4, "--seed", 7)
    assert ended.code == 0
    out = tmp_path / "runs" / "synthetic"
    assert sorted(path.name for path in out.iterdir()) == FILES
    found = json.loads((out / "metrics.json").read_text())
    assert found.keys() >= TIMES | {"validation", "test", "versions", "seed", "floors"}
    assert found["seed"] == 7
    assert found["rank"] == 4
    probe = found["linear probe"]
    assert probe.keys() == {f"{m} {key}" for m in ("user", "item", "tag") for key in ("accuracy", "majority")}
    assert "linear probe: item accuracy" in (out / "report.html").read_text(encoding="utf-8")
    assert found["seconds"] > 0
    assert {"torch", "torch_geometric", "hyperlearn_pyg", "python"} <= found["versions"].keys()
    for split in ("validation", "test"):
        assert found[split]["rmse"] == found[split]["relations"]["rates"]["rmse"] > 0
        assert 0 < found[split]["relations"]["tags"]["auc"] < 1
    assert "results in runs/synthetic" in ended.out
    assert "global mean" in ended.out
    assert "3/3" in ended.err  # the progress bar
    assert max(map(len, ended.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, {"user"}),
        ({"features": False}, set()),
        ({"features": False, "smoothness": 0.1}, {"user"}),
        ({"features": False, "encoder": "diffusion"}, {"user"}),
    ],
)
def test_a_label_is_probed_where_nothing_made_of_it_is_read(values, told):
    source = SimpleNamespace(labels_in_features=("user",))
    model = SimpleNamespace(config=replace(ModelConfig(), **values))
    assert _read_as_input(source, model) == told


def test_tables_of_order_two_and_three(cli, tables):
    ended = cli("fit", "small.toml", "-q")
    assert ended == (0, ended.out, "")
    out = tables / "runs" / "small"
    found = metrics(out)
    assert found["test"]["relations"].keys() == {"rates", "tags"}
    assert found["linear probe"] == {}  # the label is a feature
    assert found["linear probe left out"] == "the label is among the features: user"
    assert "linear probe left out" in (out / "report.html").read_text(encoding="utf-8")
    assert found["test"]["relations"]["tags"].keys() == {"auc", "ap", "mrr", "hits@1", "hits@3", "hits@10", "slots"}
    assert found["versions"]["torch"] == torch.__version__
    users = pq.read_table(out / "embeddings" / "user.parquet")
    assert users.column_names == ["id", "name", "vector"]
    assert users["id"].to_pylist() == [f"u{i}" for i in range(12)]
    assert users["name"][3].as_py() == "[/b] u3 Müller"
    assert torch.tensor(users["vector"].to_pylist()).shape == (12, 4)
    assert pq.read_table(out / "embeddings" / "film.parquet").column_names == ["id", "vector"]
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "HyperLearn on small" in report
    assert not re.search(r'(src|href)="(?!data:|#)', report)
    assert [row["phase"] for row in json.loads((out / "history.json").read_text())][:3] == ["select"] * 3


def test_the_config_written_gives_the_same_again(cli, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # its file names are absolute
    assert cli("fit", finished / "config.toml", "--out", tmp_path / "again", "-q").code == 0
    assert {**metrics(tmp_path / "again"), "source": ""} == {**metrics(finished), "source": ""}
    assert vectors(tmp_path / "again") == vectors(finished)
    assert (tmp_path / "again" / "config.toml").read_text() == (finished / "config.toml").read_text()


def test_slots_to_predict(cli, tables):
    text = Path("small.toml").read_text()
    Path("small.toml").write_text(
        text.replace("[train]", 'predict = { tags = ["tag"] }\nlink_loss = "softmax"\n[train]')
    )
    assert cli("fit", "small.toml", "--out", "o", "-q").code == 0
    assert load_toml(tables / "o" / "config.toml")["model"]["predict"] == {"tags": ["tag"]}
    found = metrics(tables / "o")
    for row in (found["test"], *found["floors"].values()):
        if "slots" in row["relations"].get("tags", {}):
            assert row["relations"]["tags"]["slots"].keys() == {"tag"}
    assert cli("fit", "o/config.toml", "--out", "p", "-q").code == 0
    assert metrics(tables / "p")["test"] == found["test"]
    Path("wrong.toml").write_text(Path("small.toml").read_text().replace('["tag"]', '["tagg"]'))
    ended = cli("fit", "wrong.toml", "--out", "q", "-q")
    assert ended.code == 2
    assert "model.predict.tags: there is no slot 'tagg'" in ended.err
    assert "Did you mean 'tag'?" in ended.err


def test_options_go_before_the_config(cli, tables):
    assert cli("fit", "small.toml", "--rank", 3, "--epochs", 1, "--seed", 5, "--out", "o", "-q").code == 0
    found = metrics(tables / "o")
    assert (found["rank"], found["seed"], found["best_epoch"]) == (3, 5, 1)
    ended = cli("fit", "o/config.toml", "--preset", "paper", "--out", "p", "-q")
    assert ended.code == 0
    assert "note: [model] in 'o/config.toml' goes before the preset 'paper': rank" in ended.err


def test_name_of_a_run(cli, tables):
    Path("config.toml").write_text(Path("small.toml").read_text())
    assert cli("fit", "config.toml", "-q", "--epochs", 0).code == 0
    assert (tables / "runs" / tables.name / "metrics.json").is_file()
    ended = cli("fit", "config.toml", "-q", "--epochs", 0)
    assert ended.code == 2
    assert f"'--out runs/{tables.name}-2' starts afresh" in ended.err
    assert "--resume goes on" in ended.err


def test_without_a_test_split(cli, tables):
    Path("small.toml").write_text(Path("small.toml").read_text().replace("[model]", "[split]\ntest = 0.0\n[model]"))
    assert cli("fit", "small.toml", "--out", "o", "-q").code == 0
    assert metrics(tables / "o")["test"] == {}
    assert metrics(tables / "o")["floors"] == {}


def test_notes_of_the_tables_are_told(cli, tables):
    with open("rates.csv", "a") as file:
        file.write(Path("rates.csv").read_text().splitlines()[1] + "\n")
    ended = cli("fit", "small.toml", "-q", "--epochs", 1)
    assert ended.err == "note: relation 'rates': 1 repeated tuples dropped\n"


def interrupt_at(monkeypatch: pytest.MonkeyPatch, phase: str, epoch: int) -> None:
    update = Progress.update

    def interrupting(self, row, total):
        update(self, row, total)
        if (row["phase"], row["epoch"]) == (phase, epoch):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "update", interrupting)


@pytest.mark.parametrize(("phase", "epoch"), [("select", 1), ("select", 3), ("refit", 1)])
def test_interrupted_and_resumed(cli, tables, finished, monkeypatch, phase, epoch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, phase, epoch)
        ended = cli("fit", "small.toml", "--out", "o", "-q")
    assert ended.code == 130
    assert "'o': the same command with --resume goes on" in ended.err
    assert "results" not in ended.out
    assert sorted(os.listdir("o")) == [STATE_FOLDER, "config.toml"]
    assert has_state("o")
    assert cli("fit", "small.toml", "--out", "o", "-q", "--resume").code == 0
    assert metrics(tables / "o") == metrics(finished)
    assert vectors(tables / "o") == vectors(finished)


def test_of_a_finished_run_the_newest_state_is_kept(cli, tables):
    path = tables / "small.toml"
    path.write_text(path.read_text() + "checkpoint_every = 1\n")
    for way in ([], ["--resume"]):
        assert cli("fit", "small.toml", "--out", "o", "-q", *way).code == 0
        assert [name[-8:] for name in os.listdir(tables / "o" / STATE_FOLDER)] == [f"{steps(tables / 'o'):08d}"]


def steps(out: Path) -> int:
    return len(json.loads((out / "history.json").read_text()))  # a step an epoch


def test_a_finished_run_can_be_resumed(cli, tables, finished):
    assert cli("fit", "small.toml", "-q").code == 0
    (tables / "runs" / "small" / "report.html").unlink()
    assert cli("fit", "small.toml", "-q", "--resume").code == 0
    assert metrics(tables / "runs" / "small") == metrics(finished)
    assert sorted(os.listdir("runs/small")) == FILES


def test_ctrl_c_while_data_is_read(cli, tables, tree, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hyperlearn_pyg.cli.source.TableDataset", interrupt)
    before = tree(tables)
    assert cli("fit", "small.toml") == (130, "", "stopped\n")
    assert tree(tables) == before


@pytest.mark.parametrize("where", ["write_report", "save_model"])
def test_ctrl_c_while_results_are_written(cli, tables, finished, monkeypatch, where):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"hyperlearn_pyg.cli.fit.{where}", interrupt)
        ended = cli("fit", "small.toml", "--out", "o", "-q")
    assert ended.code == 130
    assert "--resume goes on" in ended.err
    assert sorted(os.listdir("o")) == [STATE_FOLDER, "config.toml"]
    assert has_state("o")
    assert cli("fit", "small.toml", "--out", "o", "-q", "--resume").code == 0
    assert metrics(tables / "o") == metrics(finished)


def test_ctrl_c_twice_before_the_first_state(cli, tables, tree, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hyperlearn_pyg.cli.fit.fit", interrupt)
    before = tree(tables)
    assert cli("fit", "small.toml").err == "stopped\n"
    assert tree(tables) == before


def test_tensorboard(cli, tables):
    pytest.importorskip("tensorboard")
    assert cli("fit", "small.toml", "--out", "o", "-q", "--tensorboard").code == 0
    assert any(name.startswith("events.out.tfevents") for name in os.listdir("o"))


def test_movielens(cli, data_dir, tmp_path):
    (tmp_path / "root" / "raw").mkdir(parents=True)
    for path in data_dir("ml-100k").iterdir():
        (tmp_path / "root" / "raw" / path.name).symlink_to(path)
    out = tmp_path / "o"
    ended = cli("fit", "ml-100k", "--root", tmp_path / "root", "--out", out, "--epochs", 3, "-q")
    assert ended.code == 0
    assert ended.err == ""
    assert metrics(out)["test"]["rmse"] < 1.2
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "sRGCNN" in report
    assert "Star Wars" in report
    assert "Star Wars" in cli("neighbors", "50", "--modality", "film", "--run", out).out


def test_nothing_held_out(cli, tables):
    Path("one.csv").write_text("who,film,stars\nu1,f1,3\n")
    Path("small.toml").write_text(
        '[modality.user]\n[modality.film]\n[relation.rates]\nfile = "one.csv"\nvalue = "stars"\n'
        'columns = { user = "who", film = "film" }\n'
    )
    ended = cli("fit", "small.toml", "--out", "o", "-q", "--epochs", 2)
    assert (ended.code, ended.err) == (0, "")
    assert "nothing was held out: no metric to show" in ended.out


@pytest.mark.parametrize("kind", [ValueError, InputError])
def test_data_that_no_model_can_be_built_on(cli, tables, tree, monkeypatch, kind):
    def from_data(*_, **__):
        raise kind("no entry to train on")

    monkeypatch.setattr("hyperlearn_pyg.cli.fit.HyperLearn.from_data", from_data)
    before = tree(tables)
    assert cli("fit", "small.toml") == (2, "", "error: no entry to train on\n")
    assert tree(tables) == before


def test_a_reader_that_went_away_is_no_error(cli, tables, monkeypatch):
    def fit(*_, **__):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("hyperlearn_pyg.cli.fit.fit", fit)
    ended = cli("fit", "small.toml", "-q")
    assert (ended.code, ended.err) == (1, "")


def test_resume_keeps_what_is_not_named(cli, tables):
    assert cli("fit", "small.toml", "--out", "o", "-q", "--epochs", "3", "--seed", "5").code == 0
    ended = cli("fit", "small.toml", "--out", "o", "-q", "--resume")
    assert ended.code == 0, ended.err
    ended = cli("fit", "small.toml", "--out", "o", "-q", "--resume", "--seed", "6")
    assert ended.code == 2
    assert "seed=5 (now 6)" in ended.err
