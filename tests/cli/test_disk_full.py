from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from hyperlearn_pyg import _io
from hyperlearn_pyg.training.state import STATE_FOLDER, has_state

PART = "part-00000-of-00001.pt"
STATE = [PART, "manifest.json", "COMMIT"]

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


class FullDisk:
    """Lets the ``number``-th file of a name be written to a device without space."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, number: int = 1) -> None:
        self.name, self.left, self.hits = name, number, 0
        self.new_file = _io._new_file
        monkeypatch.setattr(_io, "_new_file", self)

    def __call__(self, path: Path) -> Path:
        new = self.new_file(path)
        if path.name == self.name:
            self.left -= 1
            if self.left == 0:
                self.hits += 1
                new.unlink()
                new.symlink_to("/dev/full")
        return new


def numbers(out: Path) -> dict:
    found = json.loads((out / "metrics.json").read_text())
    return {key: found[key] for key in ("validation", "test", "best_epoch")}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("config.toml", 1),
        *((name, 1) for name in STATE),
        ("config.toml", 2),
        ("user.parquet", 1),
        ("tag.parquet", 1),
        ("model.pt", 1),
        ("history.json", 1),
        ("report.html", 1),
        ("metrics.json", 1),
    ],
)
def test_fit(cli, tables, finished, tree, monkeypatch, name, number):
    before = tree(tables)
    with monkeypatch.context() as patch:
        disk = FullDisk(patch, name, number)
        ended = cli("fit", "small.toml", "--out", "new/o", "-q")
    assert disk.hits == 1
    assert ended.code == 2
    assert "error: the disk is full, '" in ended.err
    assert f"{name}' could not be written: free some space" in ended.err
    if (name, number) == ("config.toml", 1) or name in STATE:
        assert tree(tables) == before
        return
    assert sorted(os.listdir("new/o")) == [STATE_FOLDER, "config.toml"]
    assert "note: the training is kept in 'new/o': the same command with --resume goes on" in ended.err
    assert cli("fit", "small.toml", "--out", "new/o", "-q", "--resume").code == 0
    assert numbers(tables / "new" / "o") == numbers(finished)


@pytest.mark.parametrize("name", STATE)
def test_a_later_training_state(cli, tables, finished, monkeypatch, name):
    path = tables / "small.toml"
    path.write_text(path.read_text() + "checkpoint_every = 1\n")
    with monkeypatch.context() as patch:
        disk = FullDisk(patch, name, 2)
        ended = cli("fit", "small.toml", "--out", "o", "-q")
    assert (disk.hits, ended.code) == (1, 2)
    assert f"{name}' could not be written" in ended.err
    assert "the same command with --resume goes on" in ended.err
    assert len(os.listdir(tables / "o" / STATE_FOLDER)) == 1  # what was begun is gone
    assert cli("fit", "small.toml", "--out", "o", "-q", "--resume").code == 0
    assert numbers(tables / "o") == numbers(finished)


def test_processed_data(cli, tmp_path, tree, monkeypatch):
    film = "1|Toy Story (1995)|01-Jan-1995||x|" + "|".join("0" * 19)
    (tmp_path / "raw").mkdir()
    files = {"u.user": "1|20|M|writer|1\n", "u.item": film, "u1.base": "1\t1\t5\t1\n", "u1.test": "1\t1\t5\t1\n"}
    files["u.item"] += f"\n2{film[1:]}"
    files["u1.test"] = "1\t2\t5\t1\n"
    for name, text in files.items():
        (tmp_path / "raw" / name).write_text(text)
    before = tree(tmp_path)
    disk = FullDisk(monkeypatch, "u1.pt")
    ended = cli("fit", "ml-100k", "--root", tmp_path, "--out", tmp_path / "o", "-q")
    assert disk.hits == 1
    assert ended.code == 2
    assert "u1.pt' could not be written" in ended.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("command", ["predict", "init"])
def test_other_commands(cli, tables, finished, tree, monkeypatch, command):
    (tables / "likes.csv").write_text("user_id,film_id\nu1,f1\n")
    before = tree(tables)
    disk = FullDisk(monkeypatch, "new.out")
    arguments = {"predict": ["rates.csv", "--run", finished], "init": ["likes.csv"]}[command]
    ended = cli(command, *arguments, "--out", "new.out")
    assert disk.hits == 1
    assert ended.code == 2
    assert "'new.out' could not be written" in ended.err
    assert tree(tables) == before


@pytest.mark.parametrize("size", ["8k", "64k", "128k"])
def test_a_real_full_disk(cli, tables, tree, size):
    disk = tables / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small file system")
    try:
        ended = cli("fit", "small.toml", "--out", disk / "o", "-q")
        left, kept = tree(disk), has_state(disk / "o")
    finally:
        subprocess.run(["umount", disk], check=True)
    assert ended.code == 2
    assert "the disk is full" in ended.err
    assert kept or not left
