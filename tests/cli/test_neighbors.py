from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def test_within_a_modality(cli, finished):
    ended = cli("neighbors", "u3", "--modality", "user", "--run", finished, "-k", 4)
    assert ended.code == 0
    assert ended.out.startswith("user nearest to user [/b] u3 Müller\n")
    assert ended.out.count("Müller") == 5
    assert ended.err == ""


def test_across_modalities(cli, finished):
    ended = cli("neighbors", "u3", "--modality", "user", "--to", "tag", "--run", finished)
    assert ended.code == 0
    assert all(f" {tag} " in ended.out for tag in ("sad", "[/b]", "[red]", "é"))
    assert "name" not in ended.out


@pytest.mark.parametrize("item", ["[/b] u3 Müller", "[/B] U3 m"])
def test_by_name(cli, finished, item):
    assert "u3" in cli("neighbors", item, "--modality", "user", "--run", finished).out.splitlines()[0]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("u3", "--modality", "usr"), ["no modality 'usr'", "Did you mean 'user'?"]),
        (("u3", "--modality", "user", "--to", "tga"), ["no modality 'tga'", "Did you mean 'tag'?"]),
        (("u33", "--modality", "user"), ["no item 'u33' in 'user'", "Did you mean 'u3'?"]),
        (("zzz", "--modality", "user"), ["no item 'zzz' in 'user'", "Its ids look like 'u0', 'u1', 'u2'"]),
        (("[/b]", "--modality", "user"), ["'[/b]' fits 12 items of 'user', such as u0 ([/b] u0 M", "give the id"]),
    ],
)
def test_unknown_names(cli, finished, args, expected):
    ended = cli("neighbors", *args, "--run", finished)
    assert ended.code == 2
    assert ended.out == ""
    assert all(text in ended.err for text in expected)


def test_the_newest_run_is_taken(cli, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = cli("neighbors", "u3", "--modality", "user")
    assert ended.code == 2
    assert "no run found below runs/" in ended.err
    for i, name in enumerate(("old", "new")):
        shutil.copytree(finished, Path("runs", name))
        os.utime(Path("runs", name, "model.pt"), (i, i))
        ended = cli("neighbors", "u3", "--modality", "user", "-k", 1)
        assert ended.code == 0
        assert ("of 2 runs the newest, 'runs/new'" in ended.err) == bool(i)
    ended = cli("neighbors", "u3", "--modality", "user", "--run", "runs/nww")
    assert "--run: there is no directory 'runs/nww'. Did you mean 'runs/new'?" in ended.err
    ended = cli("neighbors", "u3", "--modality", "user", "--run", tmp_path)
    assert "model.pt' is missing" in ended.err
