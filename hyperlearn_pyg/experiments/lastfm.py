"""Last.fm: who tags which artist with what, with listens and friends as further relations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import HetRecLastFM
from hyperlearn_pyg.experiments.experiment import Experiment, Row
from hyperlearn_pyg.experiments.measures import Links, Recommendation
from hyperlearn_pyg.experiments.sources import read_raw
from hyperlearn_pyg.transforms import RandomRelationSplit

_LINKS: dict[str, Any] = {
    "rank": 32,
    "decoder": "pairwise_cp",
    "link_loss": "logistic",
    "num_negatives": 100,
    "negatives": "seen",
    "l2": 1e-2,
}
_TAGS: dict[str, Any] = {
    "rank": 64,
    "decoder": "pairwise",
    "link_loss": "in_batch_softmax",
    "num_negatives": 300,
    "l2": 3e-3,
    "pair_counts": True,
    "predict": {"tagged": ["tag"]},
}
_SLOTS = {"tagged": ["tag"], "listens": ["artist"], "friends": ["user.other"]}
_TRAIN: dict[str, Any] = {
    "lr": 0.02,
    "schedule": "linear",
    "batch_size": 2048,
    "epochs": 24,
    "val_fraction": 0.0,
    "refit": False,
}
_RANKED: dict[str, Any] = {**_TRAIN, "epochs": 8}
_ALONE = ("tagged",)
_SPLIT = "a fifth of the taggings for the test, by seed; listens and friends are known in full"
_NOTE = (
    "Settings and the number of epochs were chosen on a tenth of the training entries of seed 0; the models are "
    "trained on all of them. Taggings are drawn one by one, which lets history through: of a user and an artist of the "
    "test, other tags are known as a rule, and so is that this user tagged this artist."
)


def _load(base: Path) -> MultiModalHeteroData:
    data = read_raw(base, "hetrec-lastfm", HetRecLastFM)
    del data["listens"].value  # how often is not predicted: that they listen is
    index = data["user", "friend", "user"].edge_index
    once = index[:, index[0] < index[1]]
    data.add_hyperedges("friends", once, modalities=(("user", "one"), ("user", "other")))
    return data


def _split(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    out: MultiModalHeteroData = RandomRelationSplit("tagged", val=0.0, test=0.2, seed=seed)(data)
    return out


EXPERIMENTS = (
    Experiment(
        name="lastfm",
        title="Last.fm (HetRec): links of order 3",
        load=_load,
        split=_split,
        split_note=_SPLIT,
        rows=(
            Row(name="taggings alone", model=_LINKS, train=_TRAIN, relations=_ALONE),
            Row(name="with listens and friends", model=_LINKS, train=_TRAIN),
            Row(name="pure CP, alone", model={**_LINKS, "decoder": "cp"}, train=_TRAIN, relations=_ALONE, floor=True),
        ),
        measures=(Links("tagged", draws=3),),
        metrics=("auc", "ap"),
        seeds=3,
        note=_NOTE,
    ),
    Experiment(
        name="lastfm-tags",
        title="Last.fm (HetRec): tags for a user and an artist",
        load=_load,
        split=_split,
        split_note=_SPLIT,
        rows=(
            Row(name="taggings alone", model=_TAGS, train=_RANKED, relations=_ALONE),
            Row(name="with listens and friends", model={**_TAGS, "predict": _SLOTS}, train=_RANKED),
            Row(name="without counts, alone", model={**_TAGS, "pair_counts": False}, train=_RANKED, relations=_ALONE),
            Row(
                name="pure CP, alone",
                model={**_TAGS, "decoder": "cp", "pair_counts": False},
                train=_RANKED,
                relations=_ALONE,
                floor=True,
            ),
        ),
        measures=(Recommendation("tagged", "tag", k=(10,)),),
        metrics=("ndcg@10", "recall@10"),
        seeds=3,
        note=_NOTE,
    ),
)
