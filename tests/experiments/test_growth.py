from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.experiments import Experiment, Row, run
from hyperlearn_pyg.experiments import growth as module
from hyperlearn_pyg.experiments.experiment import fingerprint
from hyperlearn_pyg.experiments.growth import Growth
from hyperlearn_pyg.experiments.measures import Links
from hyperlearn_pyg.experiments.modality_added import PairsApart, Probe
from hyperlearn_pyg.experiments.runner import Options
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.training import TrainConfig, evaluate, fit
from hyperlearn_pyg.training.progress import Progress
from hyperlearn_pyg.transforms import RandomRelationSplit

VALUES = {"preset": "links", "rank": 2, "num_negatives": 3}
CONFIG = TrainConfig(epochs=2, eval_every=1, batch_size=16, val_fraction=0.0, refit=False, device="cpu")


def make() -> MultiModalHeteroData:
    relations = {
        "likes": SyntheticRelation(("user", "item"), 60, valued=False),
        "has": SyntheticRelation(("item", "tag"), 90, valued=False),
    }
    data = SyntheticMultiModal({"user": 12, "item": 15, "tag": 9}, relations)[0]
    for name in ("user", "item", "tag"):
        data[name].pop("x", None)
    return RandomRelationSplit("likes", val=0.2, test=0.2, seed=0)(data)


def grown(growth: Growth) -> tuple[HyperLearn, object]:
    torch.manual_seed(0)
    return growth.fit(make(), CONFIG, VALUES)


def test_no_further_epoch_and_no_modality_is_plain_training() -> None:
    model, result = grown(Growth("likes", None, 0, eval_every=1, metric="auc"))
    torch.manual_seed(0)
    plain = HyperLearn.from_data(make(), relations=["likes"], **VALUES)
    expected = fit(plain, make(), CONFIG, progress=False)
    assert result.best_epoch == expected.best_epoch
    for name, tensor in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_the_modality_comes_with_its_relations_and_both_ways_take_as_many_steps(monkeypatch) -> None:
    steps = []
    adam = torch.optim.Adam

    class Counting(adam):
        def step(self, *arguments: object, **values: object) -> object:
            steps[-1] += 1
            return super().step(*arguments, **values)

    monkeypatch.setattr(module.torch.optim, "Adam", Counting)
    fitted = module.fit
    monkeypatch.setattr(module, "fit", lambda *a, **k: (steps.append(0), fitted(*a, **k), steps.append(0))[1])
    models = [grown(Growth("likes", name, 3, eval_every=2, metric="auc"))[0] for name in ("tag", None)]
    assert [list(model.relations) for model in models] == [["likes", "has"], ["likes"]]
    assert [model.modalities for model in models] == [["user", "item", "tag"], ["user", "item"]]
    assert steps[1] == steps[3] == 3 * 3  # 36 training entries in batches of at most 16


@pytest.mark.parametrize("modality", ["tag", None])
def test_what_is_kept_is_at_least_as_good_on_validation_as_what_was_there(modality: str | None) -> None:
    scores = []
    for epochs in (0, 4):
        model, _ = grown(Growth("likes", modality, epochs, eval_every=1, metric="auc", lr=0.1))
        found = evaluate(model, make(), "val", known=("train", "val"), ranking_tuples=0)
        scores.append(found["relations"]["likes"]["auc"])
    assert scores[1] >= scores[0]


@pytest.mark.parametrize("stage", ["first", "second"])
def test_ctrl_c_ends_both_stages(monkeypatch, stage: str) -> None:
    def interrupt(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    growth = Growth("likes", "tag", 1, eval_every=1, metric="auc")
    if stage == "first":
        monkeypatch.setattr(Progress, "update", interrupt)
        monkeypatch.setattr(Growth, "_go_on", lambda *_: pytest.fail("went on"))
        assert grown(growth)[1].interrupted
    else:
        monkeypatch.setattr(module, "epoch_plan", interrupt)
        with pytest.raises(KeyboardInterrupt):
            grown(growth)


def test_rows_of_a_table_grow(tmp_path: Path) -> None:
    rows = tuple(
        Row(name=name, model={"rank": 2}, train=CONFIG.to_dict(), growth=Growth("likes", m, 1, 1, "auc"))
        for name, m in (("with", "tag"), ("without", None))
    )
    experiment = Experiment(
        name="toy",
        title="A toy",
        load=lambda base: make(),
        split_note="by seed",
        rows=rows,
        measures=(Links("likes", draws=1),),
        metrics=("auc",),
        seeds=1,
    )
    assert len({fingerprint(experiment, row, False) for row in rows}) == 2
    changed = replace(rows[0], growth=replace(rows[0].growth, lr=1.0))
    assert fingerprint(experiment, changed, False) != fingerprint(experiment, rows[0], False)
    text = run(experiment, Options(out=tmp_path, device="cpu", say=lambda line: None))[1].read_text(encoding="utf-8")
    assert "| with | measured |" in text
    assert "| without | measured |" in text


def test_the_probe_reads_what_the_vectors_hold_and_pairs_apart_are_told_by_their_cosine() -> None:
    data = make()
    model = HyperLearn.from_data(data, 4, "links", relations=["likes"], encoder="embedding")
    table = model.encoders["item"].encoder.weight
    data["item"].half = (torch.arange(15) % 2).long()
    with torch.no_grad():
        table.copy_(torch.eye(2)[data["item"].half].repeat(1, 2) + 0.01 * torch.randn(15, 4))
    found = Probe("item", "half").score(model, data, 0)["probe"]
    assert found == 1.0
    assert Probe("item", "half").floors(data, 0)["most frequent label"]["probe"] < 0.8
    same = torch.combinations(torch.arange(0, 15, 2)).t()
    data.add_hyperedges("alike", same, modalities=(("item", "one"), ("item", "other")))
    far = PairsApart("alike").score(model, data, 0)["pairs auc"]
    with torch.no_grad():
        table.normal_()
    assert far > 0.7 > PairsApart("alike").score(model, data, 0)["pairs auc"] - 0.2
