"""Check-ins of New York: who was when in which venue of which category."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import FoursquareCheckins
from hyperlearn_pyg.experiments.experiment import Experiment, Row, Target
from hyperlearn_pyg.experiments.measures import Attribution, Links
from hyperlearn_pyg.experiments.sources import distinct, read_raw
from hyperlearn_pyg.transforms import RandomRelationSplit

_LINKS: dict[str, Any] = {"rank": 32, "decoder": "cp_around_ones", "num_negatives": 100, "negatives": "all", "l2": 1e-2}
_TRAIN: dict[str, Any] = {
    "lr": 0.01,
    "batch_size": 2048,
    "target_fraction": 0.3,
    "epochs": 60,
    "eval_every": 3,
    "patience": 4,
    "refit": True,
}
_VENUE: dict[str, Any] = {**_LINKS, "decoder": "pairwise", "link_loss": "softmax", "l2": 1e-3, "pair_counts": True}


def _load(base: Path) -> MultiModalHeteroData:
    data = read_raw(base, "lbsn2vec", FoursquareCheckins)
    del data["user", "friend_after", "user"]
    return distinct(data, "checkin")


def _split(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    out: MultiModalHeteroData = RandomRelationSplit("checkin", val=0.0, test=0.2, seed=seed)(data)
    return out


EXPERIMENTS = (
    Experiment(
        name="nyc-checkins",
        title="Check-ins of New York: links of order 4, and the venue given user, hour and category",
        load=_load,
        split=_split,
        split_note="a fifth of the distinct check-ins for the test, by seed; validation a tenth of the rest; refit",
        rows=(
            Row(name="CP around ones", model=_LINKS, train=_TRAIN),
            Row(name="pairs and biases", model={**_LINKS, "decoder": "pairwise"}, train=_TRAIN),
            Row(name="pure CP", model={**_LINKS, "decoder": "cp", "bias": False}, train=_TRAIN),
            Row(name="pairs and counts, softmax", model=_VENUE, train={**_TRAIN, "val_metric": "mrr"}),
        ),
        measures=(Links("checkin", draws=3), Attribution("checkin", "venue", k=(1, 5), prefix="venue ")),
        metrics=("auc", "ap", "venue accuracy@1", "venue mrr"),
        targets=(
            Target(metric="auc", must=0.885, goal=0.900),
            Target(metric="venue accuracy@1", must=0.485, goal=0.52, row="pairs and counts, softmax"),
            Target(metric="venue mrr", must=0.600, goal=0.63, row="pairs and counts, softmax"),
        ),
        seeds=3,
        note="Friendship prediction is not in this table yet.",
    ),
)
