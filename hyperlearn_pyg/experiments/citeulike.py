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
    "bias": False,
    "link_loss": "all_cells",
    "unobserved": 0.02,
    "l2": 0.1,
}
_TRAIN: dict[str, Any] = {
    "lr": 0.02,
    "batch_size": None,
    "epochs": 60,
    "val_fraction": 0.0,
    "refit": False,
}


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
        split_note="a fifth of what users keep for the test, by seed; tags and citations are known in full",
        rows=(
            Row(name="three relations", model=_MODEL, train=_TRAIN),
            Row(name="collects and tagged", model=_MODEL, train=_TRAIN, relations=("collects", "tagged")),
            Row(name="collects and cites", model=_MODEL, train=_TRAIN, relations=("collects", "cites")),
            Row(name="collects alone", model=_MODEL, train=_TRAIN, relations=("collects",)),
        ),
        measures=(Recommendation("collects", "article", k=(300, 20)), ListALS("collects", "article", (300, 20))),
        metrics=("recall@300", "recall@20", "ndcg@20"),
        seeds=3,
        note="Settings and the number of epochs were chosen on a tenth of the training entries of seed 0, those of ALS "
        "on a tenth of those of each seed; both are then trained on all of them. The loss of the model is that of ALS, "
        "by gradient and over all relations.",
    ),
)
