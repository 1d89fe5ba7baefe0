"""Images and texts of Wikipedia: find the texts of an image's category, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import Dropout, Linear, Module, ReLU, Sequential

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.datasets import WikipediaImageText
from hyperlearn_pyg.experiments.experiment import Experiment, Metrics, Quoted, Row, Target
from hyperlearn_pyg.experiments.sources import read_raw
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.training import hold_out, retrieval_map
from hyperlearn_pyg.training.evaluation import encoded
from hyperlearn_pyg.training.scorers import ModelScorer

_SIDES, _CATEGORY = ("image", "text"), "category"
_OF_SIDES = tuple(f"{side} is of" for side in _SIDES)


class FeatureEncoder(Module):
    """A small network of the item features, and nothing else: test items have nothing else.

    Args:
        in_channels: width of the features.
        channels: width of the vectors.
        hidden: width of the hidden layer.
        dropout: dropout probability of the features and the hidden layer.
    """

    def __init__(self, in_channels: int, channels: int, hidden: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.net = Sequential(
            Dropout(dropout), Linear(in_channels, hidden), ReLU(), Dropout(dropout), Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors ``[N, C]``."""
        out: Tensor = self.net(x)
        return out


@dataclass(frozen=True)
class Retrieval:
    """Mean average precision of the test items of each side for those of the other, and their mean.

    Items are compared by the probabilities of the categories that their features alone give: the softmax of the
    model's scores over the category slot, the mean over the other side where the relation holds it. The cosine is
    taken after centring each item's probabilities (the normalised correlation of Rasiwasia et al., ACM MM 2010). The
    cosine of the vectors themselves stands beside it (``mean by vectors``).

    Attributes:
        strengths: inverse ridges that logistic regression, a floor, is chosen from on validation.
    """

    strengths: tuple[float, ...] = (1e-3, 1e-2, 0.1, 1.0, 10.0)

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model."""
        data, factors = encoded(model, data, "test", None)
        by_vectors = _both_ways(data, {m: factors[m][:, : model.rank].cpu() for m in _SIDES})
        found = _both_ways(data, {m: _centred(category_scores(model, factors, m)).cpu() for m in _SIDES})
        return {**found, "mean by vectors": by_vectors["mean"]}

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score canonical correlations of the training pairs, and a logistic regression of the categories a side."""
        train = data.relation("pair").index[:, split_positions(data, "pair", ("train", "val"))]
        pairs = [data[m].x[row].numpy() for m, row in zip(_SIDES, train, strict=False)]
        cca = CCA(n_components=9, max_iter=2000).fit(*pairs)
        found = cca.transform(*(data[m].x.numpy() for m in _SIDES))
        return {
            "CCA": _both_ways(data, {m: torch.from_numpy(v) for m, v in zip(_SIDES, found, strict=True)}),
            "logistic regression a side": _both_ways(data, {m: _regression(data, m, self.strengths) for m in _SIDES}),
        }


@torch.no_grad()
def category_scores(model: HyperLearn, factors: Mapping[str, Tensor], side: str) -> Tensor:
    """Return the log-probabilities of the categories ``[N, C]`` for all items of a side, from the side alone.

    They are read from the relation of the fewest slots that ties both; a slot that is not told counts as the mean over
    its items.
    """
    fit = {name: spec for name, spec in model.relations.items() if {side, _CATEGORY} <= set(spec.modalities)}
    name = min(fit, key=lambda name: fit[name].order)
    own, slot = (fit[name].modalities.index(m) for m in (side, _CATEGORY))
    scorer = ModelScorer(model, name, factors, [s for s in range(fit[name].order) if s not in (own, slot)])
    table = factors[side]
    index = torch.zeros(fit[name].order, len(table), dtype=torch.long, device=table.device)
    index[own] = torch.arange(len(table), device=table.device)
    return scorer.slot_scores(index, slot).log_softmax(1)


def _centred(log_probability: Tensor) -> Tensor:
    probability = log_probability.exp()
    return probability - probability.mean(1, keepdim=True)


def _regression(data: MultiModalHeteroData, side: str, strengths: tuple[float, ...]) -> Tensor:
    """Return what :func:`_centred` gives for a logistic regression whose ridge is chosen on validation."""
    at = data.relation("pair").index[_SIDES.index(side)]
    train, val = (at[split_positions(data, "pair", (split,))] for split in ("train", "val"))
    x, y = data[side].x.numpy(), data[side].y.numpy()

    def fitted(rows: Tensor, strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=2000).fit(x[rows], y[rows])

    def likelihood(strength: float) -> float:
        return float(fitted(train, strength).predict_log_proba(x[val])[range(len(val)), y[val]].mean())

    best = fitted(torch.cat([train, val]), max(strengths, key=likelihood))
    return _centred(torch.from_numpy(best.predict_log_proba(x)))


def _both_ways(data: MultiModalHeteroData, vectors: dict[str, Tensor]) -> Metrics:
    test = data.relation("pair").index[:, split_positions(data, "pair", ("test",))]
    rows = dict(zip(_SIDES, test, strict=False))
    out = {}
    for one, other in (_SIDES, _SIDES[::-1]):
        sides = [vectors[m][rows[m]] for m in (one, other)]
        labels = [data[m].y[rows[m]] for m in (one, other)]
        out[f"{one} to {other}"] = retrieval_map(*sides, *labels)["map"]
    return {**out, "mean": fmean(out.values())}


def _load(base: Path) -> MultiModalHeteroData:
    """Read the pairs with their category, and add the relations of each side alone with it."""
    data = read_raw(base, "wikipedia-xmodal", partial(WikipediaImageText, order=3))
    pair = data["pair"]
    for modality in _SIDES:
        x = data[modality].x.clamp(min=0).sqrt()  # histograms
        train = split_positions(data, "pair", ("train",))
        data[modality].x = (x - x[train].mean(0)) / x[train].std(0).clamp(min=1e-6)
    index = data.relation("pair").index
    for slot, modality in enumerate(_SIDES):
        masks = {"train_mask": pair.train_mask, "test_mask": pair.test_mask}
        data.add_hyperedges(f"{modality} is of", index[[slot, 2]], modalities=(modality, _CATEGORY), **masks)
    return data


def _split(data: MultiModalHeteroData, seed: int) -> MultiModalHeteroData:
    """Draw validation pairs, the same for all relations: an item is held out with its category."""
    held = hold_out(data, 0.1, seed)["pair"]
    for name in data.hyperedge_types:
        data[name].train_mask, data[name].val_mask = held.train_mask, held.val_mask
    return data


def _encoders(data: MultiModalHeteroData, rank: int) -> dict[str, Module]:
    return {m: FeatureEncoder(data[m].x.size(1), rank) for m in _SIDES}


_MODEL: dict[str, Any] = {
    "rank": 32,
    "decoder": "pairwise",
    "link_loss": "softmax",
    "num_negatives": 200,
    "l2": 1e-2,
    "bias": False,
}
_TRAIN: dict[str, Any] = {
    "lr": 3e-3,
    "batch_size": 256,
    "epochs": 60,
    "eval_every": 3,
    "patience": 4,
    "weight_decay": 1e-4,
    "refit": True,
}


def _row(name: str, relations: tuple[str, ...], **model: Any) -> Row:
    return Row(name=name, model={**_MODEL, **model}, train=_TRAIN, relations=relations, encoders=_encoders)


EXPERIMENTS = (
    Experiment(
        name="wikipedia",
        title="Wikipedia: images and texts of one category",
        load=_load,
        split=_split,
        split_note="published; validation a tenth of the training pairs; refit on all of them",
        rows=(
            _row("category of each side", _OF_SIDES),
            _row("the same and the pairs", ("pair", *_OF_SIDES)),
            _row("image, text and category", ("pair",)),
            _row("image, text and category, CP", ("pair",), decoder="cp"),
        ),
        measures=(Retrieval(),),
        metrics=("image to text", "text to image", "mean", "mean by vectors"),
        targets=(
            Target(metric="image to text", must=0.250, goal=0.277),
            Target(metric="text to image", must=0.200, goal=0.226),
        ),
        quoted=(
            Quoted(
                name="CCA",
                values={"image to text": 0.244, "text to image": 0.198},
                source="Rasiwasia et al., ACM MM 2010",
            ),
            Quoted(
                name="semantic correlation matching",
                values={"image to text": 0.277, "text to image": 0.226},
                source="Rasiwasia et al., ACM MM 2010",
            ),
        ),
        note="The categories of training pairs are given to the model, those of test pairs are not. Images and texts "
        "are compared by the probabilities of the categories that the model gives to each from its features alone; "
        "by vectors, by the cosine of these.",
    ),
)
