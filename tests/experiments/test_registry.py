from __future__ import annotations

from pathlib import Path

import pytest

from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.experiments import EXPERIMENTS, find
from hyperlearn_pyg.experiments.page import read_latest, write_page
from hyperlearn_pyg.experiments.sources import ROOT, data_root, read_raw
from hyperlearn_pyg.nn.models.presets import model_config
from hyperlearn_pyg.training import TrainConfig


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_every_experiment_is_sound(name):
    experiment = find(name)
    rows = [row.name for row in experiment.rows]
    assert len(set(rows)) == len(rows) > 0
    for row in experiment.rows:
        model_config(row.preset, **row.model)
        TrainConfig.from_preset(row.preset, **row.train)
    for target in experiment.targets:
        assert target.metric in experiment.metrics
        assert target.row is None or target.row in rows
        assert target.must is None or target.goal is None or target.must != target.goal
    for quoted in experiment.quoted:
        assert set(quoted.values) <= set(experiment.metrics)
        assert quoted.source


def test_an_unknown_experiment_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"no experiment 'dhne-gsp'.*dhne-gps"):
        find("dhne-gsp")


def test_data_is_looked_for_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERLEARN_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root(Path("other")) == Path("other")
    with pytest.raises(InputError, match=r"no folder 'dhne' below.*HYPERLEARN_DATA"):
        read_raw(data_root(), "dhne", lambda root: [])


def test_the_page_is_made_of_the_files_of_results(tmp_path):
    results = ROOT / "benchmarks" / "results"
    if not read_latest(results):
        pytest.skip("no results of experiments yet")
    write_page(results, tmp_path / "page.md")
    page = ROOT / "docs" / "reference" / "results.md"
    assert page.read_text(encoding="utf-8") == (tmp_path / "page.md").read_text(encoding="utf-8"), (
        "run 'hyperlearn bench --page docs/reference/results.md'"
    )
