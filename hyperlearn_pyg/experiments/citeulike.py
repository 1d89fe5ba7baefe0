"""CiteULike: articles for a user, with tags and citations as further relations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import CiteULike
from hyperlearn_pyg.experiments.als import ListALS
from hyperlearn_pyg.experiments.experiment import Experiment, Row
from hyperlearn_pyg.experiments.measures import Recommendation
from hyperlearn_pyg.experiments.sources import read_raw
from hyperlearn_pyg.transforms import RandomRelationSplit

_MODEL: dict[str, Any] = {
    "rank": 64,
    "decoder": "cp",
    "link_loss": "in_batch_softmax",
    "num_negatives": 500,
    "l2": 1e-3,
}
_TRAIN: dict[str, Any] = {"lr": 0.01, "batch_size": 2048, "epochs": 40, "eval_every": 2, "patience": 3, "refit": True}


def _load(base: Path) -> MultiModalHeteroData:
    return read_raw(base, "citeulike-a", CiteULike)


def _split(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    out: MultiModalHeteroData = RandomRelationSplit("collects", val=0.0, test=0.2, seed=seed)(data)
    return out


EXPERIMENTS = (
    Experiment(
        name="citeulike",
        title="CiteULike: articles for a user",
        load=_load,
        split=_split,
        split_note="a fifth of what users keep for the test, by seed; validation a tenth of the rest; refit",
        rows=(
            Row(name="three relations", model=_MODEL, train=_TRAIN),
            Row(name="collects and tagged", model=_MODEL, train=_TRAIN, relations=("collects", "tagged")),
            Row(name="collects alone", model=_MODEL, train=_TRAIN, relations=("collects",)),
        ),
        measures=(Recommendation("collects", "article", k=(300, 20)), ListALS("collects", "article", (300, 20))),
        metrics=("recall@300", "recall@20", "ndcg@20"),
        seeds=3,
        note="Must: above ALS on the one relation.",
    ),
)
