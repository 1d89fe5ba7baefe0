"""A modality added to a trained model, beside as many further epochs without it: MovieLens and CiteULike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import CiteULike, MovieLens100K
from hyperlearn_pyg.experiments.experiment import Experiment, Metrics, Row
from hyperlearn_pyg.experiments.growth import Growth
from hyperlearn_pyg.experiments.measures import Recommendation, Values
from hyperlearn_pyg.experiments.sources import read_raw
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.training import linear_probe
from hyperlearn_pyg.training.evaluation import encoded
from hyperlearn_pyg.training.metrics import auc_ap, corrupt
from hyperlearn_pyg.transforms import RandomRelationSplit

#: The attribute of the films that holds what the probe is to read.
PERIOD = "period"


@dataclass(frozen=True)
class Probe:
    """Accuracy of a linear classifier that reads a label from the vectors of a modality: means over five draws.

    Attributes:
        modality: the modality.
        label: its attribute of whole numbers, below zero where there is none.
    """

    modality: str
    label: str

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model."""
        vectors = _vectors(model, data, self.modality)
        return {"probe": linear_probe(vectors, data[self.modality][self.label], method="ridge")["accuracy"]}

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score the most frequent label."""
        label = data[self.modality][self.label]
        majority = linear_probe(torch.zeros(len(label), 1), label, method="ridge")["majority"]
        return {"most frequent label": {"probe": majority}}


@dataclass(frozen=True)
class PairsApart:
    """AUC of the cosine of two items' vectors: pairs of a relation that no model is trained on, against corrupted ones.

    Attributes:
        relation: a relation of two slots of one modality.
        name: the name of the metric.
    """

    relation: str
    name: str = "pairs auc"

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model."""
        view = data.relation(self.relation)
        unit = torch.nn.functional.normalize(_vectors(model, data, view.modalities[0]), dim=1)
        index = view.index.to(unit.device)
        negative, source = corrupt(index, index, view.sizes, torch.Generator().manual_seed(seed))

        def cosine(pairs: Tensor) -> Tensor:
            return (unit[pairs[0]] * unit[pairs[1]]).sum(1)

        return {self.name: auc_ap(cosine(index[:, source]), cosine(negative))[0]}

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Nothing: chance is one half."""
        return {}


def _vectors(model: HyperLearn, data: MultiModalHeteroData, modality: str) -> Tensor:
    """Return the vectors of the items, without biases ``[N, R]``."""
    _, factors = encoded(model, data, "test", None)
    return factors[modality][:, : model.rank]


def _movielens(base: Path) -> MultiModalHeteroData:
    """Read MovieLens-100K with genres as a modality; the periods are four of about as many films."""
    data = read_raw(base, "ml-100k", partial(MovieLens100K, split="u1"))
    year, genres = data["film"].x[:, 0], data["film"].x[:, 1:]
    cuts = year.quantile(torch.tensor([0.25, 0.5, 0.75]))
    data["film"][PERIOD] = torch.bucketize(year, cuts)
    for modality in ("user", "film"):
        del data[modality].x
    data.add_modality("genre", num_nodes=genres.size(1))
    return data.add_hyperedges("is_a", genres.nonzero().t().contiguous(), modalities=("film", "genre"))


def _split_movielens(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    """Hold out a tenth of the training ratings for validation, and of genres nothing."""
    store = data["rates"]
    train = store.train_mask.nonzero().view(-1)
    held = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[: len(train) // 10]]
    store.val_mask = torch.zeros_like(store.train_mask).index_fill_(0, held, True)
    store.train_mask = store.train_mask & ~store.val_mask
    return data


def _citeulike(base: Path) -> MultiModalHeteroData:
    return read_raw(base, "citeulike-a", CiteULike)


def _split_citeulike(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    out: MultiModalHeteroData = RandomRelationSplit("collects", val=0.08, test=0.2, seed=seed)(data)
    return out


def _rows(make: Callable[[str | None, int], Growth], modality: str, epochs: int, **values: Any) -> tuple[Row, ...]:
    return (
        Row(name=f"{modality} added, {epochs} further epochs", growth=make(modality, epochs), **values),
        Row(name=f"{epochs} further epochs without", growth=make(None, epochs), **values),
        Row(name="before", growth=make(None, 0), **values),
    )


_NOTE = (
    "A model is trained on the first relation alone, its epoch chosen on validation. Then it takes in the modality "
    "with its relation, whose loss counts a tenth, and goes on, or goes on without; the weights that are best on "
    "validation entries of the first relation are kept, those from before included. All rows of a seed begin with "
    "the same model."
)
_COLLECTS: dict[str, Any] = {
    "rank": 64,
    "decoder": "cp",
    "bias": False,
    "link_loss": "all_cells",
    "unobserved": 0.02,
    "l2": 0.05,
}
_COLLECTS_TRAIN: dict[str, Any] = {
    "lr": 0.02,
    "batch_size": None,
    "epochs": 60,
    "eval_every": 10,
    "patience": 2,
    "val_fraction": 0.0,
    "val_metric": "mrr",
    "refit": False,
}

EXPERIMENTS = (
    Experiment(
        name="modality-added-movielens",
        title="Genres added to a model of users and films (MovieLens-100K, u1)",
        load=_movielens,
        split=_split_movielens,
        split_note="published; validation a tenth of the training ratings, by seed; no refit",
        rows=_rows(
            lambda modality, epochs: Growth("rates", modality, epochs, eval_every=10, metric="rmse", weight=0.1),
            "genre",
            200,
            preset="ratings",
            model={"rank": 10, "encoder": "embedding", "features": False, "link_loss": "softmax", "num_negatives": 19},
            train={"val_fraction": 0.0, "refit": False},
        ),
        measures=(Values("rates"), Probe("film", PERIOD)),
        metrics=("rmse", "mae", "probe"),
        seeds=3,
        note=_NOTE + " The probe reads the period of release, one of four, from the films' vectors.",
    ),
    Experiment(
        name="modality-added-citeulike",
        title="Tags added to a model of users and articles (CiteULike)",
        load=_citeulike,
        split=_split_citeulike,
        split_note="a fifth of what users keep for the test and a twelfth for validation, by seed; no refit",
        rows=_rows(
            lambda modality, epochs: Growth("collects", modality, epochs, eval_every=5, metric="mrr", weight=0.1),
            "tag",
            20,
            model=_COLLECTS,
            train=_COLLECTS_TRAIN,
        ),
        measures=(Recommendation("collects", "article", k=(300, 20)), PairsApart("cites")),
        metrics=("recall@300", "recall@20", "pairs auc"),
        seeds=3,
        note=_NOTE + " The cosine of two articles' vectors ranks pairs of which one cites the other, which no row is "
        "trained on, against random ones (pairs auc).",
    ),
)
