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

_MODEL: dict[str, Any] = {"rank": 64, "decoder": "pairwise", "link_loss": "softmax", "num_negatives": 300, "l2": 1e-3}
_TRAIN: dict[str, Any] = {"lr": 0.01, "batch_size": 2048, "epochs": 40, "eval_every": 2, "patience": 3, "refit": True}
_ALONE = ("tagged",)


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
        title="Last.fm (HetRec): links of order 3 and tags for a user and an artist",
        load=_load,
        split=_split,
        split_note="a fifth of the taggings for the test, by seed; validation a tenth of the rest; refit",
        rows=(
            Row(name="with listens and friends", model=_MODEL, train=_TRAIN),
            Row(name="taggings alone", model=_MODEL, train=_TRAIN, relations=_ALONE),
            Row(name="pure CP, alone", model={**_MODEL, "decoder": "cp"}, train=_TRAIN, relations=_ALONE),
        ),
        measures=(Links("tagged", draws=3), Recommendation("tagged", "tag", k=(10,))),
        metrics=("ndcg@10", "recall@10", "auc", "ap"),
        seeds=3,
        note="Must: above every floor by three deviations. Listens and friends are known in full when a tagging is "
        "predicted.",
    ),
)
