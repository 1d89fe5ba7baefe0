from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from hyperlearn_pyg import __version__


def test_info(cli):
    ended = cli("info")
    assert (ended.code, ended.err) == (0, "")
    for text in (torch.__version__, __version__, "torch_geometric", "devices", "cpu", "optional: torch_scatter"):
        assert text in ended.out


def test_info_says_how_to_install_what_is_missing(cli, monkeypatch):
    monkeypatch.setattr("hyperlearn_pyg._optional.available", lambda _: False)
    assert cli("info").out.count("no (pip install '.[accel]' in the clone)") == 2


def test_version(cli):
    assert cli("--version") == (0, f"hyperlearn_pyg {__version__}\n", "")


@pytest.mark.parametrize("command", ["fit", "plan", "predict", "neighbors", "init", "info"])
def test_help(cli, command):
    ended = cli(command, "-h")
    assert ended.code == 0
    assert f"Usage: hyperlearn {command}" in ended.out


def test_nothing_shows_the_help(cli):
    ended = cli()
    assert "Usage: hyperlearn" in ended.out + ended.err


def test_init_then_fit(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("users.csv").write_text("user_id,age\n" + "".join(f"u{i},{20 + 7 * i % 30}\n" for i in range(8)))
    Path("films.csv").write_text("film_id,title\n" + "".join(f"f{i},Film {i}\n" for i in range(6)))
    rows = [f"u{i},f{j},{1 + (i * j) % 5}\n" for i in range(8) for j in range(6)]
    Path("ratings.csv").write_text("user_id,film_id,rating\n" + "".join(rows))
    ended = cli("init", "users.csv", "films.csv", "ratings.csv", "--out", "mine.toml")
    assert (ended.code, ended.err) == (0, "")
    assert "run 'hyperlearn fit mine.toml'" in ended.out
    assert re.search("^#", Path("mine.toml").read_text(), re.MULTILINE)
    ended = cli("fit", "mine.toml", "-q", "--epochs", 2, "--rank", 3)
    assert (ended.code, ended.err) == (0, "")
    assert Path("runs/mine/metrics.json").is_file()


def test_init_does_not_overwrite(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("likes.csv").write_text("user_id,film_id\nu1,f1\n")
    Path("config.toml").write_text("mine")
    ended = cli("init", "likes.csv")
    assert ended.code == 2
    assert "config.toml' exists" in ended.err
    assert Path("config.toml").read_text() == "mine"
    ended = cli("init", "liks.csv", "--out", "c.toml")
    assert ended.code == 2
    assert "Did you mean 'likes.csv'?" in ended.err
    ended = cli("init", "likes.csv", "--out", "no/c.toml")
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert not Path("no").exists()
