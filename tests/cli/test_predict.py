from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
import torch

from hyperlearn_pyg.training.run import Run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scores(cli, finished, folder):
    Path("in.csv").write_text('user,note,film\nu1,"a, b",f2\n u1 ,,f3\n')
    ended = cli("predict", "in.csv", "--run", finished)
    assert (ended.code, ended.err) == (0, "")
    table = pd.read_csv(io.StringIO(ended.out), keep_default_na=False)
    assert table.columns.tolist() == ["user", "note", "film", "score"]
    assert table["note"].tolist() == ["a, b", ""]
    expected = Run.load(finished).score("rates", torch.tensor([[1, 1], [2, 3]]))
    assert table["score"].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert 1 <= table["score"].min() <= table["score"].max() <= 5


def test_to_a_file_from_parquet_and_columns_of_the_training(cli, finished, folder):
    pd.DataFrame({"who": ["u1"], "film": ["f1"], "tag": ["é"]}).to_parquet("in.parquet")
    assert cli("predict", "in.parquet", "--run", finished, "--relation", "tags", "--out", "s.csv") == (0, "", "")
    assert pd.read_csv("s.csv").columns.tolist() == ["who", "film", "tag", "score"]


def test_a_run_without_its_config(cli, finished, folder):
    import shutil

    shutil.copytree(finished, "run", ignore=shutil.ignore_patterns("config.toml"))
    Path("in.csv").write_text("who,film\nu1,f1\n")
    ended = cli("predict", "in.csv", "--run", "run")
    assert ended.code == 2
    assert "'in.csv', line 1: no column 'user'. It has: 'who', 'film'" in ended.err.replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        (None, (), ["file '", "in.csv' not found", "Did you mean 'i.csv'?"]),
        ("", (), ["in.csv' is empty"]),
        ("usr,film\nu1,f1\n", (), ["line 1: no column 'user' or 'who'. Did you mean 'usr'?", "It has: 'usr', 'film'"]),
        (
            "user,film\nu1,f1\nx,f1\ny,f2\nz,f1\nw,f1\n",
            (),
            ["line 3, column 'user': 4 ids are no 'user'", "'x', 'y', 'z'."],
        ),
        ("user,film\nu1,\n", (), ["line 2, column 'film': 1 id is no 'film' of the run, the first: ''"]),
        ("user,film\nu1,f1,9\n", (), ["line 2: 2 cells are expected as in line 1, got 3"]),
        ("user,film,score\nu1,f1,9\n", (), ["line 1: there is a column 'score' already"]),
        ("user,film\nu1,f1\n", ("--relation", "rate"), ["--relation: no 'rate'", "Did you mean 'rates'?", "'tags'"]),
        ("user,film\nu1,f1\n", ("--out", "i.csv"), ["--out: 'i.csv' exists already"]),
        ("user,film\nu1,f1\n", ("--out", "no/s.csv"), ["--out: there is no folder 'no'"]),
        (b"user,film\nu1,f1\nu\xe9,f1\n", (), ["line 3, column 'user': byte 0xe9 is not utf-8"]),
    ],
)
def test_faults(cli, finished, folder, tree, text, args, expected):
    Path("i.csv").write_text("")
    if text is not None:
        Path("in.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    before = tree(folder)
    ended = cli("predict", "in.csv", "--run", finished, *args)
    assert (ended.code, ended.out) == (2, "")
    assert all(part in ended.err for part in expected), ended.err
    assert tree(folder) == before


def test_a_binned_slot_takes_raw_values_as_in_the_tables(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"a{i},{1900 + 7 * i},p{i % 3}" for i in range(20)]
    Path("works.csv").write_text("\n".join(["work,year,painter", *rows]), encoding="utf-8")
    columns = 'work = "work"\npainter = "painter"\ndecade = { column = "year", bin = 10 }\n'
    config = "[modality.work]\n[modality.painter]\n[modality.decade]\n[relation.made]\nfile = 'works.csv'\n"
    Path("c.toml").write_text(f"{config}[relation.made.columns]\n{columns}[train]\nepochs = 2\n", encoding="utf-8")
    assert cli("fit", "c.toml", "--out", "o", "-q").code == 0
    raw = cli("predict", "works.csv", "--run", "o", "--out", "raw.csv")
    assert raw.code == 0, raw.err
    rows = [f"a{i},{(1900 + 7 * i) // 10 * 10},p{i % 3}" for i in range(20)]
    Path("slots.csv").write_text("\n".join(["work,decade,painter", *rows]), encoding="utf-8")
    assert cli("predict", "slots.csv", "--run", "o", "--out", "slots_out.csv").code == 0
    scores = [pd.read_csv(name)["score"].tolist() for name in ("raw.csv", "slots_out.csv")]
    assert scores[0] == scores[1]
