"""A toy experiment on generated data: a second for everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.experiments import Experiment, Quoted, Row, Target
from hyperlearn_pyg.experiments.measures import Links, Ranks
from hyperlearn_pyg.transforms import RandomRelationSplit


def load(base: Path) -> MultiModalHeteroData:
    relations = {"tags": SyntheticRelation(("user", "item", "tag"), 200, valued=False)}
    return SyntheticMultiModal({"user": 15, "item": 12, "tag": 5}, relations)[0]


def split(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    return RandomRelationSplit("tags", val=0.1, test=0.2, seed=seed)(data)


def make(must: float = 0.0, goal: float = 2.0, lr: float = 0.01) -> Experiment:
    train = {"epochs": 2, "eval_every": 1, "lr": lr}
    return Experiment(
        name="toy",
        title="A toy",
        load=load,
        split=split,
        split_note="by seed",
        rows=(
            Row(name="pairs", model={"rank": 2, "decoder": "pairwise"}, train=train, note="ours"),
            Row(name="CP, alone", model={"rank": 2, "decoder": "cp"}, train=train, relations=("tags",)),
        ),
        measures=(Links("tags", draws=2), Ranks("tags", "item", hits=(1,))),
        metrics=("auc", "mrr"),
        targets=(Target(metric="auc", must=must, goal=goal), Target(metric="mrr", must=0.0, row="CP, alone")),
        quoted=(Quoted(name="theirs", values={"auc": 0.9}, source="a paper"),),
        seeds=2,
    )


@pytest.fixture(scope="session")
def toy() -> Callable[..., Experiment]:
    """Give what makes the toy experiment."""
    return make
