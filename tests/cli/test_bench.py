from __future__ import annotations

import os
import signal

import pytest

from hyperlearn_pyg.experiments import EXPERIMENTS
from hyperlearn_pyg.training.progress import Progress


def test_experiments_are_listed(cli):
    ended = cli("bench")
    assert ended.code == 0
    for name in EXPERIMENTS:
        assert f"{name}: " in ended.out
    ended = cli("bench", "dhne-gps", "--list-rows")
    assert ended.out.splitlines() == [f"dhne-gps: {row.name}" for row in EXPERIMENTS["dhne-gps"].rows]


def test_quick_run_and_faults(cli, data_dir, tmp_path):
    data = data_dir("dhne").parent
    options = ("--row", "pairs and biases", "--quick", "--data", data, "--out", tmp_path, "--device", "cpu")
    ended = cli("bench", "dhne-gps", *options)
    assert (ended.code, ended.err) == (0, "")
    assert len(list(tmp_path.glob("*-dhne-gps-quick.*"))) == 3
    assert "pairs and biases" in ended.out


def test_ctrl_c_ends_with_130(cli, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(Progress, "update", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    options = ("--quick", "--data", data_dir("dhne").parent, "--out", tmp_path, "--device", "cpu")
    ended = cli("bench", "dhne-gps", "dhne-drug", *options)
    assert ended.code == 130
    assert "from 1 finished pieces" in ended.out  # the floors
    assert "dhne-drug" not in ended.out
    assert [path.name for path in tmp_path.glob("parts/*/*")] == ["floors-0.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "there is no experiment 'nothing'"),
        (("all", "--row", "x"), "name the one experiment"),
        (
            ("dhne-gps", "--data", "nowhere"),
            "there is no folder 'dhne' below 'nowhere', which is no folder either: name the folder",
        ),
        (("--page", "page.md", "--out", "nowhere"), "no results of experiments"),
    ],
)
def test_faults(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    ended = cli("bench", *arguments, *(() if "--out" in arguments else ("--out", "results")))
    assert ended.code == 2
    assert message in ended.err.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []
