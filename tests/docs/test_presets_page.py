"""The page on presets shows the values that they set, all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hyperlearn_pyg.nn import ModelConfig
from hyperlearn_pyg.nn.models.presets import model_config
from hyperlearn_pyg.training import TrainConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "presets.md"
PRESETS = ("paper", "ratings", "links")


def test_values_are_those_of_the_presets() -> None:
    section = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[2]
    rows = [
        [cell.strip(" `") for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| `.*$", section, re.MULTILINE)
    ]
    made = [{**model_config(p).to_dict(), **TrainConfig.from_preset(p).to_dict()} for p in PRESETS]
    defaults = {**ModelConfig().to_dict(), **TrainConfig().to_dict()}
    wanted = [key for key in defaults if key != "preset" and any(values[key] != defaults[key] for values in made)]
    assert [row[0] for row in rows] == wanted
    for key, *shown in rows:
        assert [json.loads(cell or "null") for cell in shown] == [values[key] for values in made], key
