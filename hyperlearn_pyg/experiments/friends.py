"""Friendship prediction: who will be a friend of whom, from check-ins and the friends before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.datasets import FoursquareCheckins
from hyperlearn_pyg.experiments.experiment import Experiment, Metrics, Row
from hyperlearn_pyg.experiments.sources import distinct, read_raw
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.training.evaluation import encoded
from hyperlearn_pyg.training.links import SEEN
from hyperlearn_pyg.training.scorers import ModelScorer


@dataclass(frozen=True)
class Friendship:
    """Average precision and AUC over **all** pairs of items that are no known pair, those of a split against the rest.

    A pair has no order: its score is the mean of both orders. The floors are common neighbours, Adamic-Adar (Adamic and
    Adar, Social Networks 2003) and the same two of the items of a slot of another relation (venues that both were at).

    Attributes:
        relation: the relation of two slots of one modality.
        through: the other relation.
        place: the modality of the items there that two may have in common.
        split: whose pairs are to be found.
    """

    relation: str
    through: str
    place: str
    split: str = "test"

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model."""
        data, factors = encoded(model, data, self.split, None)
        size = data.relation(self.relation).sizes[0]
        every = torch.arange(size, device=next(iter(factors.values())).device).repeat(2, 1)
        with torch.no_grad():
            table = ModelScorer(model, self.relation, factors).slot_scores(every, 1).double().cpu()
        return self._metrics(data, table.numpy())

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score what two items have in common, without a model."""
        view, other = data.relation(self.relation), data.relation(self.through)
        known = view.index[:, split_positions(data, self.relation, SEEN[self.split])]
        rows = [other.modalities.index(m) for m in (view.modalities[0], self.place)]
        friends = _incidence(torch.cat([known, known.flip(0)], dim=1), view.sizes)
        places = _incidence(other.index[rows], [other.sizes[row] for row in rows])
        found = {
            "common neighbours": friends @ friends.T,
            "Adamic-Adar": _weighted(friends),
            f"common {self.place}s": places @ places.T,
            f"Adamic-Adar of {self.place}s": _weighted(places),
        }
        found["Adamic-Adar of both"] = found["Adamic-Adar"] + found[f"Adamic-Adar of {self.place}s"]
        return {name: self._metrics(data, table.toarray()) for name, table in found.items()}

    def _metrics(self, data: MultiModalHeteroData, table: NDArray[Any]) -> Metrics:
        view = data.relation(self.relation)
        own = view.index[:, split_positions(data, self.relation, (self.split,))].numpy(force=True)
        known = view.index[:, split_positions(data, self.relation, SEEN[self.split])].numpy(force=True)
        mark = np.zeros(table.shape, dtype=np.int8)
        for value, (one, two) in ((1, own), (-1, known)):
            mark[one, two] = mark[two, one] = value
        one, two = np.triu_indices(len(table), k=1)
        label, score = mark[one, two], (table[one, two] + table[two, one]) / 2
        label, score = label[label >= 0], score[label >= 0]
        if label.min(initial=1) == label.max(initial=0):
            raise ValueError(f"relation '{self.relation}' needs pairs in the split {self.split!r}, and others")
        return {
            "ap": float(average_precision_score(label, score)),
            "auc": float(roc_auc_score(label, score)),
            "chance": float(label.mean()),
        }


def _incidence(index: Tensor, sizes: tuple[int, ...] | list[int]) -> csr_matrix:
    """Return the 0/1 incidence of pairs ``[2, E]``."""
    one, two = index.numpy(force=True)
    table = csr_matrix((np.ones(len(one)), (one, two)), shape=tuple(sizes))
    table.data[:] = 1.0
    return table


def _weighted(table: csr_matrix) -> csr_matrix:
    """Return what rows have in common, each column weighted by one over the logarithm of its number of rows."""
    degree = np.asarray(table.sum(0)).ravel()
    weight = np.where(degree > 1, 1 / np.log(np.maximum(degree, 2)), 0.0)
    return table @ diags(weight) @ table.T


def _load(base: Path) -> MultiModalHeteroData:
    data = distinct(read_raw(base, "lbsn2vec", FoursquareCheckins), "checkin")
    before, after = (_pairs(data, name) for name in ("friend_before", "friend_after"))
    size = int(data["user"].num_nodes)
    new = after[:, ~torch.isin(after[0] * size + after[1], before[0] * size + before[1])]
    for name in ("friend_before", "friend_after"):
        del data["user", name, "user"]
    test = torch.zeros(before.size(1) + new.size(1), dtype=torch.bool)
    test[before.size(1) :] = True
    data.add_hyperedges(
        "friends",
        torch.cat([before, new], dim=1),
        modalities=(("user", "one"), ("user", "other")),
        train_mask=~test,
        test_mask=test,
    )
    return data


def _pairs(data: MultiModalHeteroData, name: str) -> Tensor:
    """Return each friendship once, ``[2, E]``; nobody is a friend of themselves."""
    index: Tensor = data["user", name, "user"].edge_index
    return index[:, index[0] < index[1]]


_MODEL: dict[str, Any] = {
    "rank": 64,
    "encoder": "hypergraph_conv",
    "decoder": "pairwise",
    "num_negatives": 300,
    "l2": 1e-2,
    "common_neighbors": True,
}
_TRAIN: dict[str, Any] = {
    "lr": 0.01,
    "batch_size": 2048,
    "target_fraction": 0.3,
    "epochs": 200,
    "val_fraction": 0.0,
    "refit": False,
}

EXPERIMENTS = (
    Experiment(
        name="nyc-friends",
        title="Check-ins of New York: who becomes a friend of whom",
        load=_load,
        split_note="friends before are for training; friends after that were none before are the test, against all "
        "pairs of users that are no friends before",
        rows=(
            Row(name="friends alone", model=_MODEL, train=_TRAIN, relations=("friends",)),
            Row(
                name="friends alone, without common neighbours",
                model={**_MODEL, "common_neighbors": False},
                train=_TRAIN,
                relations=("friends",),
            ),
            Row(
                name="friends alone, without convolution",
                model={**_MODEL, "encoder": "embedding"},
                train=_TRAIN,
                relations=("friends",),
            ),
            Row(name="check-ins and friends", model=_MODEL, train=_TRAIN),
        ),
        measures=(Friendship("friends", "checkin", "venue"),),
        metrics=("ap", "auc", "chance"),
        seeds=3,
        note="Chance is the share of new friends among the pairs: the average precision of a random order. Settings "
        "and the number of epochs were chosen on a tenth of the friends before; the models are trained on all of them. "
        "A seed draws start and negatives alone.",
    ),
)
