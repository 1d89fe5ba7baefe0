from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from hyperlearn_pyg.cli.app import app

CONFIG = """
[modality.user]
file = "users.csv"
id = "id"
name = "name"
label = "job"
features = { age = "numeric", job = "categorical" }
graph = { knn = 3 }
[modality.film]
file = "films.csv"
id = "id"
[modality.tag]
[relation.rates]
file = "rates.csv"
value = "stars"
columns = { user = "who", film = "film" }
[relation.tags]
file = "tags.csv"
columns = { user = "who", film = "film", tag = "tag" }
[model]
rank = 4
hidden = 8
[train]
epochs = 3
eval_every = 1
"""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command in this process; an exception that would print a traceback goes through."""

    def run(*args: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(arg) for arg in args], prog_name="hyperlearn")
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


def write_tables(folder: Path) -> Path:
    draw = random.Random(0)
    users, films, tags = [f"u{i}" for i in range(12)], [f"f{i}" for i in range(10)], ["sad", "[/b]", "[red]", "é"]
    pairs = draw.sample([(u, f) for u in users for f in films], 80)
    triples = draw.sample([(u, f, t) for u in users for f in films for t in tags], 90)
    lines = {
        "users": [
            "id,name,job,age",
            *(f"{u},[/b] {u} Müller,{draw.choice('xy')},{draw.randint(9, 90)}" for u in users),
        ],
        "films": ["id", *films],
        "rates": ["who,film,stars", *(f"{u},{f},{draw.randint(1, 5)}" for u, f in pairs)],
        "tags": ["who,film,tag", *(",".join(triple) for triple in triples)],
    }
    for name, text in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(text) + "\n", encoding="utf-8")
    (folder / "small.toml").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small tables and 'small.toml', which is the working directory as well."""
    monkeypatch.chdir(tmp_path)
    return write_tables(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run on the small tables; not to be changed."""
    folder = write_tables(tmp_path_factory.mktemp("finished"))
    with pytest.raises(SystemExit) as ended:
        app(["fit", str(folder / "small.toml"), "--out", str(folder / "run"), "--quiet"])
    assert not ended.value.code
    return folder / "run"


def tree(folder: Path) -> dict[str, bytes | None]:
    """What lies below a folder, with the content of its files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(name="tree")
def _tree() -> Callable[[Path], dict[str, bytes | None]]:
    return tree
