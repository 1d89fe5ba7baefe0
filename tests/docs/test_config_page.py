"""The page on the config names every key that is read, with its default, and no other."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from hyperlearn_pyg.data._toml import Section
from hyperlearn_pyg.data.table_config import FeatureConfig, FileConfig, SplitConfig, load_config
from hyperlearn_pyg.nn import ModelConfig
from hyperlearn_pyg.training import TrainConfig

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "config.md").read_text(encoding="utf-8")

#: Every branch of the parser.
EVERYTHING = """
[modality.a]
file = "a.csv"
id = "id"
[modality.a.features]
one = { kind = "multi" }
two = { kind = "text" }
three = { kind = "categorical" }
four = "numeric"
[modality.a.graph]
knn = 3
[modality.b.graph]
file = "b.csv"
source = "from"
target = "to"
[modality.c.graph]
cooccurrence = "r"
[relation.r]
file = "r.csv"
[relation.r.columns]
a = { column = "x" }
b = "y"
c = "z"
[relation.r.exclude]
x = ["1"]
"""


def tables() -> dict[str, dict[str, str]]:
    """Read from the page: section -> key -> default."""
    found = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        rows = [row.split(" | ") for row in re.findall(r"^\| (`.*) \|$", section, flags=re.MULTILINE)]
        name = section.split("\n")[0].strip("`[]")
        found[name] = {key: row[1].strip() for row in rows for key in re.findall(r"`(\w+)`", row[0])}
    return found


def page_section(path: str) -> str:
    """Name the section of the page for a table of the file."""
    path = re.sub(r"^(modality|relation)\.\w+", r"\1.NAME", path)
    return re.sub(r"(features|columns)\.\w+$", r"\1", path)


def test_every_key_read_is_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[str, set[str]] = {}
    finish = Section.done

    def done(section: Section) -> None:
        read.setdefault(page_section(section.path), set()).update(section.known)
        finish(section)

    monkeypatch.setattr(Section, "done", done)
    config = tmp_path / "config.toml"
    config.write_text(EVERYTHING, encoding="utf-8")
    load_config(config)
    page = tables()
    assert read.pop("") == {"modality", "relation", "split", "model", "train"}
    assert {name: set(page[name]) for name in read} == read
    assert {"modality.NAME", "modality.NAME.features", "modality.NAME.graph"} <= set(read)
    assert {"relation.NAME", "relation.NAME.columns", "split"} <= set(read)
    others = {"Reading a file", "relation.NAME.exclude", "model", "train"}
    assert set(page) - set(read) - others == {"Configs that `fit` writes"}


@pytest.mark.parametrize(
    ("section", "config"),
    [
        ("Reading a file", FileConfig),
        ("modality.NAME.features", FeatureConfig),
        ("split", SplitConfig),
        ("model", ModelConfig),
        ("train", TrainConfig),
    ],
)
def test_defaults(section: str, config: type) -> None:
    page = tables()[section]
    defaults = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(config)}
    if section in ("model", "train"):
        assert set(page) == set(defaults)
    for key, shown in page.items():
        if shown.startswith("`") and key != "preset":
            value = defaults[key]
            expected = list(value) if isinstance(value, tuple) else value
            assert json.loads(shown.strip("`").replace("\\|", "|")) == expected, key
