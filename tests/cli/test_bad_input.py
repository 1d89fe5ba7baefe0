from __future__ import annotations

import io
import urllib.request
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from hyperlearn_pyg.cli.app import app
from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.training.state import STATE_FOLDER

#: What is done to the files, the arguments after 'fit small.toml', and what the message says.
TABLES = {
    "missing file": (
        lambda: Path("users.csv").rename("usrs.csv"),
        ["users.csv' not found.", "Did you mean 'usrs.csv'?"],
    ),
    "missing column": (
        lambda: edit("rates.csv", "stars", "rating"),
        ["rates.csv', line 1: no column 'stars'.", "It has: 'who', 'film', 'rating'"],
    ),
    "missing config": (
        lambda: Path("small.toml").rename("smal.toml"),
        ["'small.toml' not found. Did you mean 'smal.toml'?"],
    ),
    "no number": (
        lambda: line("rates.csv", 7, "u0,f0,five"),
        ["rates.csv', line 7, column 'stars': a number is expected, got 'five'"],
    ),
    "value of nan": (
        lambda: line("rates.csv", 7, "u0,f0,nan"),
        ["line 7, column 'stars': a finite number is expected"],
    ),
    "unknown ids": (
        lambda: [line("rates.csv", n, f"who{n},f0,1") for n in range(5, 10)],
        [
            "rates.csv', line 5, column 'who': 5 ids are not in column 'id' of",
            "'who5', 'who6', 'who7'.",
            'unknown = "add"',
        ],
    ),
    "feature of nan": (
        lambda: line("users.csv", 3, "u1,a,x,nan"),
        ["users.csv', line 3, column 'age'", "finite", "'nan'"],
    ),
    "feature of inf": (
        lambda: line("users.csv", 3, "u1,a,x,inf"),
        ["users.csv', line 3, column 'age'", "finite", "'inf'"],
    ),
    "feature of nan in parquet": (
        lambda: to_parquet("users", age=[float("inf")] + [1.0] * 11),
        ["users.parquet', row 1, column 'age'", "finite", "inf"],
    ),
    "empty relation": (lambda: Path("rates.csv").write_text("who,film,stars\n"), ["relation 'rates' holds no tuple"]),
    "empty file": (lambda: Path("rates.csv").write_text(""), ["rates.csv' is empty", "line 1 must name the columns"]),
    "different values": (
        lambda: [line("rates.csv", 3, "u0,f0,1"), line("rates.csv", 9, "u0,f0,2"), drop("rates.csv", "u0,f0", {3, 9})],
        ["rates.csv', line 9, column 'stars'", "(user 'u0', film 'f0') has the value 2, but 1 in", "line 3"],
    ),
    "encoding": (
        lambda: Path("users.csv").write_text(Path("users.csv").read_text("utf-8"), "latin-1"),
        ["users.csv', line 2, column 'name': byte 0xfc is not utf-8", '"latin-1"'],
    ),
    "unknown key": (
        lambda: edit("small.toml", "label =", "lable ="),
        ["key 'modality.user.lable': unknown key. Did you mean 'label'?"],
    ),
    "unknown section": (
        lambda: edit("small.toml", "[train]", "[trian]"),
        ["key 'trian': unknown key. Did you mean 'train'?"],
    ),
    "unknown key of model": (
        lambda: edit("small.toml", "rank =", "rnak ="),
        ["'small.toml': model.rnak is unknown. Did you mean 'rank'?"],
    ),
    "unknown key of train": (
        lambda: edit("small.toml", "epochs =", "epoch ="),
        ["train.epoch is unknown. Did you mean 'epochs'?"],
    ),
    "type of a value": (
        lambda: edit("small.toml", "rank = 4", 'rank = "4"'),
        ["'small.toml': model.rank: expected int (got '4')"],
    ),
    "value out of range": (
        lambda: edit("small.toml", "epochs = 3", "lr = -1.0"),
        ["train.lr: expected a positive number (got -1.0)"],
    ),
    "unknown preset": (
        lambda: edit("small.toml", "rank = 4", 'preset = "papr"'),
        ["(got 'papr'). Did you mean 'paper'?"],
    ),
    "section of a wrong type": (
        lambda: Path("small.toml").write_text('dataset = "synthetic"\ntrain = 3\n'),
        ["'small.toml', key 'train': a table is expected, got 3"],
    ),
    "unknown data set": (
        lambda: Path("small.toml").write_text('dataset = "synthetik"\n'),
        ["key 'dataset': must be one of 'synthetic', 'ml-100k', got 'synthetik'. Did you mean 'synthetic'?"],
    ),
    "unknown key beside a data set": (
        lambda: Path("small.toml").write_text('dataset = "synthetic"\nsplt = "u1"\n'),
        ["key 'splt': unknown key. Did you mean 'split'?"],
    ),
    "no TOML": (lambda: Path("small.toml").write_text("[model\n"), ["'small.toml' is no valid TOML", "line 1"]),
    "loss of nan": (
        lambda: edit("small.toml", "epochs = 3", "epochs = 9\nlr = 1e30"),
        [" in epoch ", "lower train.lr (now 1e+30)"],
    ),
}


def edit(name: str, old: str, new: str) -> None:
    text = Path(name).read_text("utf-8")
    assert old in text
    Path(name).write_text(text.replace(old, new, 1), "utf-8")


def line(name: str, number: int, text: str) -> None:
    lines = Path(name).read_text("utf-8").splitlines()
    Path(name).write_text("\n".join([*lines[: number - 1], text, *lines[number:]]) + "\n", "utf-8")


def drop(name: str, start: str, keep: set[int]) -> None:
    lines = enumerate(Path(name).read_text("utf-8").splitlines(), start=1)
    kept = [text for number, text in lines if number in keep or not text.startswith(start + ",")]
    Path(name).write_text("\n".join(kept) + "\n", "utf-8")


def to_parquet(name: str, **columns: list[float]) -> None:
    pd.read_csv(f"{name}.csv").assign(**columns).to_parquet(f"{name}.parquet")
    edit("small.toml", f"{name}.csv", f"{name}.parquet")


@pytest.mark.parametrize("case", TABLES)
def test_tables_and_config(cli, tables, tree, case):
    change, expected = TABLES[case]
    change()
    before = tree(tables)
    ended = cli("fit", "small.toml", "-q", "--out", "new/o")
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert all(text in ended.err for text in expected), ended.err
    assert tree(tables) == before


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["syntetic"], "unknown source 'syntetic': expected one of ['synthetic', 'ml-100k'] or the path of a TOML"),
        (["users.csv"], "'users.csv' is no TOML config: 'hyperlearn init users.csv' drafts one"),
        (["."], "'.' is a folder, expected a TOML config: name a file in it: 'small.toml'"),
        (["empty"], "'empty' is a folder, expected a TOML config: 'hyperlearn init FILES' drafts one"),
        (["synthetic", "--device", "cudda"], "train.device: expected 'auto', 'cpu', 'cuda' or one card"),
        (["synthetic", "--device", "meta"], "train.device: 'meta' is not to be had here"),
        (["synthetic", "--preset", "papr"], "Did you mean 'paper'?"),
        (["synthetic", "--split", "u1"], "--split goes with ml-100k"),
        (["synthetic", "--root", "."], "--root goes with ml-100k"),
        (["small.toml", "--split", "u1"], "--split goes with ml-100k: a config names its splits itself"),
        (["ml-100k", "--split", "u9"], "split: expected one of ['u1', 'u2'"),
        (["synthetic", "--out", "users.csv"], "--out: 'users.csv' is a file, expected a directory"),
        (["synthetic", "--out", "full"], "--out: 'full' is not empty: '--out full-3' starts afresh"),
        (["synthetic", "--out", "full", "--resume"], "nothing to resume: 'full' holds no training state"),
        (["small.toml", "--root", "empty"], "file 'empty/users.csv' not found."),
    ],
)
def test_arguments(cli, tables, tree, args, expected):
    for folder in ("empty", "full", "full-2"):
        Path(folder).mkdir()
    Path("full", "mine.txt").write_text("mine")
    before = tree(tables)
    ended = cli("fit", *args)
    assert ended.code == 2
    assert expected in ended.err
    assert tree(tables) == before


@pytest.mark.parametrize("args", [["--epochs", "x"], ["--rank", "0"], ["--no-such"], ["more"]])
def test_usage(cli, tables, tree, args):
    before = tree(tables)
    ended = cli("fit", "synthetic", *args)
    assert ended.code == 2
    assert "Usage: hyperlearn fit" in ended.err
    assert tree(tables) == before


FILM = "1|Toy Story (1995)|01-Jan-1995||x|" + "|".join("0" * 19)
MOVIELENS = {
    "u.user": "1|20|M|writer|1\n2|40|F|artist|2\n",
    "u.item": f"{FILM}\n2{FILM[1:]}\n",
    "u1.base": "1\t1\t5\t100\n2\t1\t4\t100\n1\t2\t3\t100\n",
    "u1.test": "2\t2\t4\t300\n",
}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("u1.base", "1\t1\t5\t100\n2\t1\t4\n", "u1.base', line 2: expected 4 fields"),
        (
            "u1.base",
            "1\t1\tgood\t100\n",
            "u1.base', line 1, column 'rating': expected an integer from 1 to 5, got 'good'",
        ),
        (
            "u1.base",
            "7\t1\t5\t100\n8\t1\t5\t1\n",
            "u1.base': 2 ids that the item files do not hold (first: line 1: user '7'",
        ),
        ("u1.base", "", "u1.base' is empty"),
        ("u1.base", "2\t2\t4\t300\n", "u1.test', line 1: this user has rated this film already in"),
        ("u.user", "1|20|M|wrter|1\n", "u.user', line 1, column 'occupation': unknown occupation 'wrter'"),
    ],
)
def test_movielens_files(cli, tmp_path, tree, name, text, expected):
    write_movielens(tmp_path, {name: text})
    before = tree(tmp_path)
    ended = cli("fit", "ml-100k", "--root", tmp_path, "--out", tmp_path / "o", "-q")
    assert ended.code == 2
    assert expected in ended.err
    assert tree(tmp_path) == before


def write_movielens(root: Path, changed: dict[str, str] | None = None) -> None:
    (root / "raw").mkdir(parents=True)
    for name, text in {**MOVIELENS, **(changed or {})}.items():
        (root / "raw" / name).write_text(text)


def test_small_movielens_files(cli, tmp_path):
    write_movielens(tmp_path)
    ended = cli("fit", "ml-100k", "--root", tmp_path, "--out", tmp_path / "o", "-q", "--epochs", 2)
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "could not be downloaded (no network): put the files there yourself"),
        (b"not the archive", "'ml-100k.zip' has the md5 checksum"),
    ],
)
def test_movielens_archive(cli, tmp_path, tree, monkeypatch, content, expected):
    def urlopen(*_, **__):
        if content is None:
            raise OSError("no network")
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    ended = cli("fit", "ml-100k", "--root", tmp_path / "root", "--out", tmp_path / "o")
    assert ended.code == 2
    assert expected in ended.err
    assert tree(tmp_path) == {}


def test_movielens_archive_damaged_within(cli, tmp_path, tree, monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in MOVIELENS.items():
            archive.writestr(f"ml-100k/{name}", text)
    content = packed.getvalue().replace(b"writer", b"wri\0er", 1)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(content))
    monkeypatch.setattr("hyperlearn_pyg.datasets.checksums.verify", lambda *_: None)
    ended = cli("fit", "ml-100k", "--root", tmp_path / "root", "--out", tmp_path / "o")
    assert ended.code == 2
    assert "damaged at member 'ml-100k/u.user'" in ended.err
    assert tree(tmp_path) == {}


def of_other_settings(folder: Path) -> None:
    edit("small.toml", "rank = 4", "rank = 5")


def of_other_data(folder: Path) -> None:
    edit("small.toml", 'tag = "tag" }', 'tag = "tag" }\nexclude = { tag = "sad" }')


def foreign(folder: Path) -> None:
    checkpoint.save(folder, 1, {"a": torch.ones(3)})


def newer(folder: Path) -> None:
    found = checkpoint.load(*checkpoint.committed(folder))
    checkpoint.save(folder, 1, found.tensors, extra={**found.extra, "format": 99})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (of_other_settings, "was made with rank=4 (now 5): resume with the same settings"),
        (of_other_data, "is that of another model: its relation 'tags' is"),
        (foreign, "save-00002-step-00000001' is no training state of hyperlearn_pyg"),
        (newer, "save-00002-step-00000001' has format 99, expected "),
    ],
)
def test_training_states(cli, tables, tree, change, expected):
    assert cli("fit", "small.toml", "--out", "o", "-q").code == 0
    change(Path("o", STATE_FOLDER))
    before = tree(tables)
    ended = cli("fit", "small.toml", "--out", "o", "-q", "--resume")
    assert ended.code == 2
    assert expected in ended.err
    assert tree(tables) == before


def test_a_damaged_training_state(cli, tables, tree):
    assert cli("fit", "small.toml", "--out", "o", "-q").code == 0
    part = checkpoint.committed(Path("o", STATE_FOLDER))[0] / "part-00000-of-00001.pt"
    part.write_bytes(part.read_bytes()[:-999])
    before = tree(tables)
    with pytest.warns(UserWarning, match="checkpoint left out"):
        ended = cli("fit", "small.toml", "--out", "o", "-q", "--resume")
    assert ended.code == 2
    assert f"error: no checkpoint is intact, start anew in another folder: '{part}' is damaged" in ended.err
    assert tree(tables) == before


def test_out_of_memory(cli, tables, tree, monkeypatch):
    before = tree(tables)
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("can't allocate memory: 1"),
    ):

        def fit(*_, error=error, **__):
            raise error

        monkeypatch.setattr("hyperlearn_pyg.cli.fit.fit", fit)
        ended = cli("fit", "small.toml", "-q")
        assert ended.code == 2
        assert "out of memory: lower --rank" in ended.err
        assert tree(tables) == before


def test_a_mistake_of_our_own_shows_its_traceback(cli, tables, tree, monkeypatch):
    def fit(*_, **__):
        raise RuntimeError("ours")

    monkeypatch.setattr("hyperlearn_pyg.cli.fit.fit", fit)
    before = tree(tables)
    with pytest.raises(RuntimeError, match="ours"):
        app(["fit", "small.toml", "-q"])
    assert tree(tables) == before
