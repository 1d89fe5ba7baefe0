from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.data._toml import load_toml
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training import TrainConfig, fit
from hyperlearn_pyg.tuning import TuneResult, search, tune

MODEL = {"rank": 2, "num_negatives": 4, "hidden": 4}
TRAIN = {"epochs": 3, "eval_every": 1, "patience": 0, "lr": 0.02, "device": "cpu", "max_steps": 3}
SPACE = {"model": {"rank": {"low": 1, "high": 4}}, "train": {"lr": {"low": 1e-3, "high": 0.3, "log": True}}}


def make_data(valued: bool = False) -> MultiModalHeteroData:
    relations = {"tags": SyntheticRelation(("user", "item", "tag"), 150, valued=False)}
    if valued:
        relations["rates"] = SyntheticRelation(("user", "item"), 100)
    return SyntheticMultiModal({"user": 12, "item": 10, "tag": 5}, relations)[0]


def run(data: MultiModalHeteroData | None = None, **options: Any) -> TuneResult:
    values: dict[str, Any] = {"space": SPACE, "model": MODEL, "train": TRAIN, "trials": 6, "say": lambda line: None}
    return tune(make_data() if data is None else data, **{**values, **options})


def rows(result: TuneResult) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[TuneResult, Path]:
    """A search that was never ended."""
    out = tmp_path_factory.mktemp("search")
    return run(out=out), out


class TestOutcome:
    def test_the_best_is_the_lowest_of_those_that_came_to_their_end(self, whole):
        result = whole[0]
        scores = [row["score"] for row in result.trials if row["state"] == "complete"]
        assert len(result.trials) == 6
        assert result.score == min(scores) == result.best["score"]
        assert (result.model["rank"], result.train["lr"]) == (result.best["model.rank"], result.best["train.lr"])
        assert result.model["num_negatives"] == 4

    def test_the_first_trial_has_the_settings_at_the_start(self, whole):
        assert (whole[0].trials[0]["model.rank"], whole[0].trials[0]["train.lr"]) == (2, 0.02)

    def test_a_start_outside_of_the_space_is_told(self, tmp_path):
        said: list[str] = []
        space = {"model": {"rank": [3, 4]}, "train": {"lr": [0.02, 0.1]}}
        found = run(space=space, out=tmp_path, trials=1, say=said.append)
        assert (found.trials[0]["model.rank"] in (3, 4), found.trials[0]["train.lr"]) == (True, 0.02)
        assert said[0].startswith("note: not in the space: model.rank = 2; no trial has all values at the start")
        text = (tmp_path / "tune.md").read_text(encoding="utf-8")
        assert "No trial has the values at the start: model.rank lie outside" in text
        run(space=space, out=tmp_path, trials=2, say=said.append, resume=True)
        assert sum(line.startswith("note:") for line in said) == 1

    def test_where_validation_comes_from_is_told(self, whole, tmp_path):
        held = "The data names no validation entries of 'tags': train.val_fraction = 0.1"
        assert held not in (whole[1] / "tune.md").read_text(encoding="utf-8")
        data = make_data()
        data["tags"].val_mask[:] = False
        run(data, out=tmp_path, trials=1)
        assert held in (tmp_path / "tune.md").read_text(encoding="utf-8")

    def test_a_training_with_the_best_settings_scores_what_was_said(self, whole):
        result, data = whole[0], make_data()
        torch.manual_seed(0)
        model = HyperLearn.from_data(data, **result.model)
        again = fit(model, data, TrainConfig.from_preset("links", **result.train), progress=False, refit=False)
        assert again.score == result.score
        assert again.validation["auc"] == result.best["auc"] == pytest.approx(1 - result.score)

    def test_a_score_is_the_mean_over_the_repeats(self):
        result, scores = run(trials=1, repeats=2), []
        for seed in (0, 1):
            torch.manual_seed(seed)
            data = make_data()
            model = HyperLearn.from_data(data, **MODEL)
            config = TrainConfig.from_preset("links", **TRAIN, seed=seed, refit=False)
            scores.append(fit(model, data, config, progress=False).score)
        assert result.score == pytest.approx(sum(scores) / 2)
        assert scores[0] != scores[1]

    def test_files(self, whole):
        result, out = whole
        assert sorted(path.name for path in out.iterdir()) == ["best.toml", "study.jsonl", "trials.csv", "tune.md"]
        table = list(csv.DictReader((out / "trials.csv").read_text(encoding="utf-8").splitlines()))
        assert [float(row["score"]) for row in table] == [row["score"] for row in result.trials]
        assert load_toml(out / "best.toml") == {
            "model": {"rank": result.model["rank"]},
            "train": {"lr": result.train["lr"]},
        }
        text = (out / "tune.md").read_text(encoding="utf-8")
        assert f"Best: trial {result.best['trial']}, score {result.score:.4f}" in text
        assert "| model.rank | 1 to 4 | 2 |" in text
        assert "The first trial has the values at the start." in text


def scrambled(data: MultiModalHeteroData, splits: tuple[str, ...]) -> MultiModalHeteroData:
    """Put other items and absurd values in the entries of some splits."""
    out, generator = make_data(valued=True), torch.Generator().manual_seed(1)
    for name in data.hyperedge_types:
        view, store = data.relation(name), data[name]
        mask = torch.stack([store[f"{split}_mask"] for split in splits]).any(0)
        index = torch.stack([torch.randint(n, mask.shape, generator=generator) for n in view.sizes])
        index = torch.where(mask, index, view.index)
        options = {} if view.value is None else {"value": torch.where(mask, 1e6, view.value)}
        masks = {key: store[key] for key in ("train_mask", "val_mask", "test_mask") if key in store}
        out.remove_hyperedges(name)
        out.add_hyperedges(name, index, modalities=view.modalities, **options, **masks)
    return out


class TestTest:
    def test_the_search_is_the_same_whatever_the_test_entries_are(self):
        data = make_data(valued=True)
        assert all(data[name].test_mask.any() for name in ("tags", "rates"))
        options: dict[str, Any] = {"preset": "ratings", "trials": 3, "model": {"rank": 2, "hidden": 4, "dropout": 0.1}}
        space = {"model": {"pair_counts": [False, True], "dropout": {"low": 0.0, "high": 0.5}}}
        before = run(data, space=space, **options)
        after = run(scrambled(data, ("test",)), space=space, **options)
        assert rows(before) == rows(after)
        assert math.isfinite(before.score)
        kept = data["tags"].val_mask, data["rates"].value
        data["rates"].value = torch.where(data["rates"].val_mask, -data["rates"].value, data["rates"].value)
        assert rows(run(data, space=space, **options)) != rows(before)  # validation entries do count
        assert kept[0].any()

    def test_no_training_is_given_a_test_entry(self, monkeypatch):
        seen: list[int] = []

        def watched(model: HyperLearn, data: MultiModalHeteroData, *rest: Any, **options: Any) -> Any:
            store = data["tags"]
            seen.append(int(store.test_mask.sum()))
            assert bool((store.train_mask | store.val_mask).all())
            return fit(model, data, *rest, **options)

        monkeypatch.setattr(search, "fit", watched)
        run(trials=2)
        assert seen == [0, 0]


class Killed(BaseException):
    """Stands for the end of a process."""


def kill_at(monkeypatch: pytest.MonkeyPatch, training: int, epoch: int) -> list[int]:
    """End the search in the midst of a training; return the trainings that were begun."""
    begun: list[int] = []

    def killed(*args: Any, callback: Callable[[Any], None], **options: Any) -> Any:
        begun.append(len(begun))

        def look(result: Any) -> None:
            callback(result)
            if len(begun) == training and len(result.history) == epoch:
                raise Killed

        return fit(*args, callback=look, **options)

    monkeypatch.setattr(search, "fit", killed)
    return begun


class TestResume:
    @pytest.mark.parametrize(("training", "epoch"), [(1, 1), (3, 2), (6, 1)])
    def test_a_killed_search_goes_on_to_the_same_end(self, whole, tmp_path, monkeypatch, training, epoch):
        begun = kill_at(monkeypatch, training, epoch)
        with pytest.raises(Killed):
            run(out=tmp_path)
        assert len(begun) == training
        if training == 3:  # in the midst of a line
            with (tmp_path / "study.jsonl").open("a", encoding="utf-8") as file:
                file.write('{"op_code":4,"wor')
        begun = kill_at(monkeypatch, 0, 0)
        result = run(out=tmp_path, resume=True)
        assert rows(result) == rows(whole[0])
        assert len(begun) == 6 - (training - 1)  # what was finished is not done again
        assert rows(run(out=tmp_path, resume=True)) == rows(whole[0])
        assert len(begun) == 6 - (training - 1)

    def test_fewer_trials_and_then_more_are_the_same(self, whole, tmp_path):
        run(out=tmp_path, trials=2)
        assert rows(run(out=tmp_path, resume=True)) == rows(whole[0])

    def test_time_that_is_over_ends_the_trial_under_way(self, whole, tmp_path, monkeypatch):
        looks: list[int] = []

        def watched(*args: Any, callback: Callable[[Any], None], **options: Any) -> Any:
            def look(result: Any) -> None:
                looks.append(len(result.history))
                callback(result)

            return fit(*args, callback=look, **options)

        monkeypatch.setattr(search, "fit", watched)
        clock = SimpleNamespace(monotonic=lambda: 61.0 if len(looks) > 7 else 0.0)
        monkeypatch.setattr(search, "time", clock)
        result = run(out=tmp_path, minutes=1.0, trials=None)
        assert (len(result.trials), looks[-1]) == (2, 2)  # in the midst of the third one
        monkeypatch.undo()
        assert rows(run(out=tmp_path, resume=True)) == rows(whole[0])

    def test_ctrl_c_keeps_what_is_there(self, whole, tmp_path, monkeypatch):
        def interrupted(*args: Any, **options: Any) -> Any:
            begun.append(0)
            result = fit(*args, **options)
            result.interrupted = len(begun) == 3
            return result

        begun: list[int] = []
        monkeypatch.setattr(search, "fit", interrupted)
        result = run(out=tmp_path)
        assert (result.interrupted, len(result.trials)) == (True, 2)
        assert rows(run(out=tmp_path, resume=True)) == rows(whole[0])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"train": {**TRAIN, "seed": 1}}, "is a search of another train"),
            ({"model": {**MODEL, "rank": 3}}, "is a search of another model"),
            ({"space": {"model": {"rank": [1, 2]}}}, "space: model.rank = 1 to 4 .now 1 or 2.,.*train.lr = .*now none"),
            ({"repeats": 2}, "is a search of another repeats"),
        ],
    )
    def test_another_search_is_refused(self, whole, options, message):
        before = (whole[1] / "study.jsonl").read_bytes()
        with pytest.raises(InputError, match=message):
            run(out=whole[1], resume=True, **options)
        assert (whole[1] / "study.jsonl").read_bytes() == before

    def test_other_data_is_refused(self, whole):
        with pytest.raises(InputError, match="is a search of another data"):
            run(make_data(valued=True), out=whole[1], resume=True)

    @pytest.mark.parametrize("name", ["rates", "tags"])
    def test_other_entries_of_the_same_shape_are_refused(self, tmp_path, name):
        run(make_data(valued=True), out=tmp_path, trials=1)
        data = make_data(valued=True)
        run(data, out=tmp_path, resume=True, trials=1)  # read anew, it is the same
        if name == "rates":
            data["rates"].value = data["rates"].value.flip(0)
            message = "the data changed since this search began: other value of relation rates"
        else:
            index = data["user", "member", "tags"].edge_index
            index[0] = index[0].flip(0)
            message = "the data changed since this search began: other items of relation tags"
        with pytest.raises(InputError, match=message):
            run(data, out=tmp_path, resume=True, trials=1)

    def test_a_damaged_study_is_named(self, tmp_path):
        (tmp_path / "study.jsonl").write_text("{]\n{}\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"study.jsonl' is damaged .*: delete it and start afresh"):
            run(out=tmp_path, resume=True)

    def test_what_is_there_is_not_written_over(self, whole):
        before = (whole[1] / "study.jsonl").read_bytes()
        with pytest.raises(InputError, match="is a search already: resume it"):
            run(out=whole[1])
        assert (whole[1] / "study.jsonl").read_bytes() == before

    def test_nothing_to_resume(self, tmp_path):
        with pytest.raises(InputError, match="nothing to resume"):
            run(out=tmp_path / "none", resume=True)
        assert not (tmp_path / "none").exists()
        with pytest.raises(InputError, match="nothing to resume"):
            run(resume=True)


class TestPruning:
    def test_hopeless_trials_are_cut_short(self):
        space = {"train": {"lr": [0.02, 1e-9]}}
        result = run(space=space, train={**TRAIN, "epochs": 6}, trials=12)
        cut = [row for row in result.trials if row["state"] == "pruned"]
        assert cut
        assert [row["state"] for row in result.trials[:5]] == ["complete"] * 5
        assert result.best["train.lr"] == 0.02
        slow = [row["state"] for row in result.trials if row["train.lr"] == 1e-9]
        assert slow.count("pruned") >= slow[5:].count("complete")

    def test_a_training_that_diverges_is_no_end_of_the_search(self):
        result = run(space={"train": {"lr": [0.02, 1e30]}}, trials=8)
        wild = [row for row in result.trials if row["train.lr"] == 1e30]
        assert wild
        assert all((row["state"], row["score"]) == ("pruned", math.inf) for row in wild)
        assert "lower train.lr" in wild[0]["fault"]
        assert result.train["lr"] == 0.02
        with pytest.raises(InputError, match=r"none of 2 trials gave a score to choose by .*lower train.lr"):
            run(space={"train": {"lr": [1e30, 2e30]}}, trials=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, r"trials: expected at least 1 \(got 0\)"),
        ({"minutes": 0.0}, "minutes: expected a positive number"),
        ({"minutes": float("nan")}, "minutes: expected a positive number"),
        ({"repeats": 0}, "repeats: expected at least 1"),
        ({"minutes": 1e-9}, "no trial was finished in the time"),
        ({"train": {**TRAIN, "val_fraction": 0.0}, "space": SPACE}, "nothing is held out to choose by"),
        ({"model": {"rnak": 2}}, "Did you mean 'rank'"),
        ({"preset": "lnks"}, "Did you mean 'links'"),
        ({"relations": ["tag"]}, "no relation 'tag'|'tag'"),
        (
            {"space": {"model": {"pair_counts": [True], "link_loss": ["all_cells"]}}, "trials": 1},
            r"trial 1 with model.pair_counts = True, model.link_loss = 'all_cells': model.pair_counts: ",
        ),
    ],
)
def test_faults_are_told(options, message, tmp_path):
    data = make_data()
    if "val_fraction" in options.get("train", {}):
        del data["tags"].val_mask
    with pytest.raises(InputError, match=message):
        run(data, out=tmp_path / "out", **options)


def test_no_relation():
    with pytest.raises(InputError, match="no relation to learn from"):
        run(MultiModalHeteroData().add_modality("user", num_nodes=0))
