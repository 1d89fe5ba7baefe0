"""Check-ins of New York: who was when in which venue of which category."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import FoursquareCheckins
from hyperlearn_pyg.datasets.foursquare import HOURS
from hyperlearn_pyg.experiments.experiment import Experiment, Row, Target
from hyperlearn_pyg.experiments.measures import Attribution, Links
from hyperlearn_pyg.experiments.sources import distinct, read_raw
from hyperlearn_pyg.transforms import RandomRelationSplit

_LINKS: dict[str, Any] = {
    "rank": 32,
    "decoder": "pairwise",
    "num_negatives": 100,
    "negatives": "all",
    "l2": 1e-2,
    "pair_counts": True,
}
_TRAIN: dict[str, Any] = {
    "lr": 0.02,
    "schedule": "linear",
    "batch_size": 2048,
    "target_fraction": 0.3,
    "epochs": 24,
    "val_fraction": 0.0,
    "refit": False,
}
#: A product alone learns under a softmax and a small penalty only; chosen as the rest was.
_PRODUCT: dict[str, Any] = {"pair_counts": False, "link_loss": "softmax", "l2": 1e-4}
_VENUE: dict[str, Any] = {**_LINKS, "link_loss": "softmax", "l2": 1e-3, "predict": {"checkin": ["venue"]}}
_VENUE_TRAIN: dict[str, Any] = {**_TRAIN, "epochs": 16}
_CHOSEN = (
    "Settings and the number of epochs were chosen on a tenth of the training entries of seed 0; the models are "
    "trained on all of them."
)


def _load(base: Path) -> MultiModalHeteroData:
    data = read_raw(base, "lbsn2vec", FoursquareCheckins)
    del data["user", "friend_after", "user"]
    data["hour"].x = _hours()
    return data


def _hours() -> torch.Tensor:
    """Return features of the hours of a week ``[168, 31]``: which hour of the day, and which day."""
    hour = torch.arange(HOURS)
    parts = [torch.nn.functional.one_hot(hour % 24, 24), torch.nn.functional.one_hot(hour // 24, HOURS // 24)]
    return torch.cat(parts, dim=1).float()


def _load_distinct(base: Path) -> MultiModalHeteroData:
    return distinct(_load(base), "checkin")


def _split(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    out: MultiModalHeteroData = RandomRelationSplit("checkin", val=0.0, test=0.2, seed=seed)(data)
    return out


def _split_rows(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    """Draw check-ins as they stand: a visit that was made several times may be in both parts, as history is here."""
    count = data.relation("checkin").num_hyperedges
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    test = torch.zeros(count, dtype=torch.bool).index_fill_(0, order[: count // 5], True)
    data["checkin"].train_mask, data["checkin"].test_mask = ~test, test
    return data


EXPERIMENTS = (
    Experiment(
        name="nyc-links",
        title="Check-ins of New York: links of order 4",
        load=_load_distinct,
        split=_split,
        split_note="a fifth of the distinct check-ins for the test, by seed",
        rows=(
            Row(
                name="pairs, product and counts",
                model={**_LINKS, "decoder": "pairwise_cp", "num_negatives": 300, "l2": 5e-3},
                train={**_TRAIN, "lr": 0.012},
            ),
            Row(
                name="the same, 100 negatives",
                model={**_LINKS, "decoder": "pairwise_cp"},
                train=_TRAIN,
            ),
            Row(name="pairs and counts", model=_LINKS, train=_TRAIN),
            Row(name="without features of hours", model={**_LINKS, "features": False}, train=_TRAIN),
            Row(name="without counts", model={**_LINKS, "pair_counts": False}, train=_TRAIN),
            Row(
                name="CP around ones",
                model={**_LINKS, **_PRODUCT, "decoder": "cp_around_ones"},
                train={**_TRAIN, "epochs": 72},
            ),
            Row(
                name="pure CP",
                model={**_LINKS, **_PRODUCT, "decoder": "cp", "bias": False},
                train={**_TRAIN, "epochs": 72},
                floor=True,
            ),
        ),
        measures=(Links("checkin", draws=3),),
        metrics=("auc", "ap"),
        targets=(Target(metric="auc", must=0.885, goal=0.900),),
        seeds=3,
        note=_CHOSEN,
    ),
    Experiment(
        name="nyc-venues",
        title="Check-ins of New York: the venue, given user, hour and category",
        load=_load,
        split=_split_rows,
        split_note="a fifth of all check-ins for the test, by seed, those made several times as often",
        rows=(
            Row(name="pairs, product and counts", model={**_VENUE, "decoder": "pairwise_cp"}, train=_TRAIN),
            Row(name="pairs and counts", model=_VENUE, train=_VENUE_TRAIN),
            Row(name="without features of hours", model={**_VENUE, "features": False}, train=_VENUE_TRAIN),
            Row(name="without counts", model={**_VENUE, "pair_counts": False}, train=_VENUE_TRAIN),
            Row(
                name="pure CP",
                model={**_VENUE, **_PRODUCT, "decoder": "cp", "bias": False},
                train={**_VENUE_TRAIN, "epochs": 48},
                floor=True,
            ),
        ),
        measures=(Attribution("checkin", "venue", k=(1, 5)),),
        metrics=("accuracy@1", "accuracy@5", "mrr"),
        targets=(
            Target(metric="accuracy@1", must=0.485, goal=0.52),
            Target(metric="mrr", must=0.600, goal=0.63),
        ),
        seeds=3,
        note=_CHOSEN,
    ),
)
