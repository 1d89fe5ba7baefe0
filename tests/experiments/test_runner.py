from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.experiments import run
from hyperlearn_pyg.experiments import runner as module
from hyperlearn_pyg.experiments.experiment import fingerprint
from hyperlearn_pyg.experiments.page import costs, read_latest, write_page
from hyperlearn_pyg.experiments.runner import Options
from hyperlearn_pyg.experiments.sources import ROOT, data_root
from hyperlearn_pyg.training.progress import Progress


@pytest.fixture(scope="module")
def done(toy, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    said: list[str] = []
    return run(toy(), Options(out=out, device="cpu", say=said.append)), out, said


def test_every_row_and_seed_is_run_and_kept(done):
    paths, out, said = done
    assert [path.suffix for path in paths] == [".json", ".md", ".png"]
    assert all(path.stat().st_size > 0 for path in paths)
    parts = sorted(path.name for path in (out / "parts" / "toy").iterdir())
    assert parts == sorted(f"{row}-{seed}.json" for row in ("floors", "pairs", "CP-alone") for seed in (0, 1))
    assert len(said) == 6
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    measured = {line["name"]: line for line in content["lines"] if line["kind"] == "measured"}
    assert list(measured) == ["pairs", "CP, alone"]
    for line in measured.values():
        assert all(0 <= value <= 1 for value in line["values"]["auc"] + line["values"]["mrr"])
        assert len(line["values"]["auc"]) == len(line["costs"]["cpu_seconds"]) == 2
        assert min(line["costs"]["cpu_seconds"]) > 0
    assert {"item counts", "pair counts", "naive Bayes"} <= {
        x["name"] for x in content["lines"] if x["kind"] == "floor"
    }


def test_the_table_tells_measured_from_published_and_met_from_not_met(done):
    text = done[0][1].read_text(encoding="utf-8")
    assert "| theirs | published | 0.900 |  |  |  |  |" in text
    assert "must 0.000: met, goal 2.000: **not met**." in text
    assert "mrr of CP, alone" in text
    assert "* theirs: a paper" in text


def test_what_is_done_is_not_done_again_and_other_settings_are(toy, done, tmp_path, monkeypatch):
    trained = []
    fitted = module._fitted
    monkeypatch.setattr(module, "_fitted", lambda row, *rest: (trained.append(row.name), fitted(row, *rest))[1])
    before = [path.read_bytes() for path in sorted((done[1] / "parts" / "toy").iterdir())]
    run(toy(), Options(out=done[1], device="cpu", say=lambda line: None))
    assert trained == []
    assert before == [path.read_bytes() for path in sorted((done[1] / "parts" / "toy").iterdir())]
    copytree(done[1], tmp_path / "copy")
    paths = run(toy(lr=0.02), Options(out=tmp_path / "copy", device="cpu", seeds=1, rows=["pairs"], say=print))
    assert trained == ["pairs"]
    lines = json.loads(paths[0].read_text(encoding="utf-8"))["lines"]
    assert [line["name"] for line in lines if line["kind"] == "measured"] == [
        "pairs"
    ]  # the other row is of other settings


def interrupt_at(monkeypatch, number: int, phase: str) -> None:
    """Send a Ctrl-C with the first epoch of a phase of the training of a number."""
    begun, update = [0], Progress.update

    def interrupting(self, row, total):
        update(self, row, total)
        begun[0] += (row["phase"], row["epoch"]) == ("select", 1)
        if (begun[0], row["phase"], row["epoch"]) == (number, phase, 1):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "update", interrupting)


@pytest.mark.parametrize("phase", [pytest.param("select", marks=pytest.mark.slow), "refit"])
def test_a_training_that_ctrl_c_cut_short_is_no_piece(toy, done, tmp_path, monkeypatch, phase):
    experiment = toy()
    rows = tuple(replace(row, train={**row.train, "refit": True}) for row in experiment.rows)
    experiment, said = replace(experiment, rows=rows), []
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, phase)
        with pytest.raises(KeyboardInterrupt):
            run(experiment, Options(out=tmp_path, device="cpu", say=said.append))
    folder = tmp_path / "parts" / "toy"
    assert sorted(path.name for path in folder.iterdir()) == ["floors-0.json", "pairs-0.json"]
    assert "from 2 finished pieces" in said[-1]
    content = json.loads(next(tmp_path.glob("*-toy.json")).read_text(encoding="utf-8"))
    assert [line["name"] for line in content["lines"] if line["kind"] == "measured"] == ["pairs"]
    said.clear()
    run(experiment, Options(out=tmp_path, device="cpu", seeds=1, say=said.append))
    assert said[:2] == [f"toy: 1 of 1 seeds of '{name}' were done before and are kept" for name in ("floors", "pairs")]
    assert len(said) == 3  # and the row that was cut short is trained


def test_ctrl_c_before_any_piece_writes_nothing_and_after_others_keeps_those(toy, done, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    said = []
    monkeypatch.setattr(module, "_floors", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(toy(), Options(out=tmp_path / "none", device="cpu", say=said.append))
    assert said == ["toy: stopped before a piece was finished; nothing was written"]
    assert not (tmp_path / "none").exists()
    copytree(done[1], tmp_path / "some")
    (tmp_path / "some" / "parts" / "toy" / "floors-0.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        run(toy(), Options(out=tmp_path / "some", device="cpu", say=said.append))
    assert "from 5 finished pieces" in said[-1]  # also those of rows and seeds that come later


def test_a_seed_gives_the_same_scores_and_the_data_of_the_next_one_is_another(toy, done, tmp_path):
    run(toy(), Options(out=tmp_path, device="cpu", rows=["pairs"], say=lambda line: None))
    parts = [json.loads((tmp_path / "parts" / "toy" / f"pairs-{seed}.json").read_text()) for seed in (0, 1)]
    kept = [json.loads((done[1] / "parts" / "toy" / f"pairs-{seed}.json").read_text()) for seed in (0, 1)]
    assert [part["test"] for part in parts] == [part["test"] for part in kept]
    assert parts[0]["test"] != parts[1]["test"]


def test_no_time_is_no_result_but_says_so(toy, tmp_path):
    paths = run(toy(), Options(out=tmp_path, device="cpu", minutes=-1, say=lambda line: None))
    assert not (tmp_path / "parts").exists()
    assert "must 0.000: not run" in paths[1].read_text(encoding="utf-8")


def test_quick_says_that_it_tells_nothing_and_stays_off_the_page(toy, tmp_path):
    paths = run(toy(), Options(out=tmp_path, device="cpu", quick=True, say=lambda line: None))
    assert "A quick run" in paths[1].read_text(encoding="utf-8")
    assert read_latest(tmp_path) == {}
    with pytest.raises(InputError, match="no results of experiments"):
        write_page(tmp_path, tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


def test_outside_of_a_checkout_no_revision_is_told(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("hyperlearn_pyg.experiments.cost.revision", lambda: None)
    paths = run(toy(), Options(out=tmp_path, device="cpu", seeds=1, rows=["pairs"], say=lambda line: None))
    assert "evision" not in paths[0].read_text(encoding="utf-8") + paths[1].read_text(encoding="utf-8")


def test_the_folder_of_the_data_is_that_of_a_checkout_or_here(monkeypatch, tmp_path):
    monkeypatch.delenv("HYPERLEARN_DATA", raising=False)
    assert data_root() == ROOT.parent / "shared" / "data"
    monkeypatch.setattr("hyperlearn_pyg.experiments.sources.ROOT", tmp_path)
    assert data_root() == Path("data")
    assert data_root(tmp_path) == tmp_path


def test_faults_are_told(toy, tmp_path):
    with pytest.raises(InputError, match=r"has no row 'pair'.*pairs"):
        run(toy(), Options(out=tmp_path, rows=["pair"]))
    folder = tmp_path / "parts" / "toy"
    folder.mkdir(parents=True)
    Path(folder, "floors-0.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"floors-0.json' is damaged.*delete it"):
        run(toy(), Options(out=tmp_path))


def test_the_page_takes_the_latest_results(done, tmp_path):
    paths = done[0]
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    (tmp_path / "2001-01-01-toy.json").write_text(json.dumps({**content, "title": "old"}), encoding="utf-8")
    (tmp_path / "2001-01-02-toy.json").write_text(json.dumps({**content, "title": "new"}), encoding="utf-8")
    (tmp_path / "2001-01-03-other.json").write_text("[1]", encoding="utf-8")
    write_page(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "## new" in page
    assert "## old" not in page
    assert "revision" in page
    assert f"| `toy` | 6 | {sum(seconds_of(content)):.0f} |" in page
    assert "| together | 6 |" in page


def seconds_of(content: dict) -> list[float]:
    return [part["cost"]["cpu_seconds"] for parts in content["parts"].values() for part in parts]


def test_the_costs_are_the_sums_of_the_pieces():
    def piece(seconds: float, peak: float | None) -> dict:
        return {"cost": {"cpu_seconds": seconds, "peak_mib": peak}}

    text = costs(
        {"a": {"parts": {"x": [piece(1200, 7.0), piece(600, None)]}}, "b": {"parts": {"y": [piece(1800, None)]}}}
    )
    assert "1.00 hours" in text
    for line in ("| `a` | 2 | 1800 | 7 |", "| `b` | 1 | 1800 |  |", "| together | 3 | 3600 |  |"):
        assert line in text
    assert "| together | 0 | 0 |  |" in costs({})


def test_a_row_may_change_the_data_of_its_own(toy, tmp_path):
    seen = []

    def without_a_tag(data):
        seen.append(int(data["tag"].num_nodes))
        return data.clone().add_modality("more", num_nodes=1)

    experiment = toy()
    rows = (replace(experiment.rows[0], change=without_a_tag), experiment.rows[1])
    changed = replace(experiment, rows=rows)
    run(changed, Options(out=tmp_path, device="cpu", seeds=1, say=lambda line: None))
    assert seen == [5]
    marks = [fingerprint(experiment, row, False) for row in rows]
    assert marks[0] != fingerprint(experiment, experiment.rows[0], False)
    assert marks[1] == fingerprint(experiment, experiment.rows[1], False)
