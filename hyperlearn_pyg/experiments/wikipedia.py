"""Images and texts of Wikipedia: find the texts of an image's category, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from sklearn.cross_decomposition import CCA
from torch import Tensor
from torch.nn import Dropout, Linear, Module, ReLU, Sequential

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.datasets import WikipediaImageText
from hyperlearn_pyg.experiments.experiment import Experiment, Metrics, Quoted, Row, Target
from hyperlearn_pyg.experiments.sources import read_raw
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.training import retrieval_map
from hyperlearn_pyg.training.evaluation import encoded

_SIDES = ("image", "text")


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
    """Mean average precision of the test items of each side for those of the other, and their mean; CCA as a floor."""

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model by the cosine of its vectors."""
        data, factors = encoded(model, data, "test", None)
        return _both_ways(data, {m: factors[m][:, : model.rank].cpu() for m in _SIDES})

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score canonical correlations of the training pairs, and chance."""
        train = data.relation("pair").index[:, split_positions(data, "pair", ("train", "val"))]
        pairs = [data[m].x[row].numpy() for m, row in zip(_SIDES, train, strict=False)]
        cca = CCA(n_components=9, max_iter=2000).fit(*pairs)
        found = cca.transform(*(data[m].x.numpy() for m in _SIDES))
        return {"CCA": _both_ways(data, {m: torch.from_numpy(v) for m, v in zip(_SIDES, found, strict=True)})}


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
    data = read_raw(base, "wikipedia-xmodal", partial(WikipediaImageText, order=3))
    train = split_positions(data, "pair", ("train",))
    for modality in _SIDES:
        x = data[modality].x.clamp(min=0).sqrt()  # histograms
        data[modality].x = (x - x[train].mean(0)) / x[train].std(0).clamp(min=1e-6)
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

EXPERIMENTS = (
    Experiment(
        name="wikipedia",
        title="Wikipedia: images and texts of one category",
        load=_load,
        split_note="published; validation a tenth of the training pairs; refit on all of them",
        rows=(
            Row(name="image, text and category", model=_MODEL, train=_TRAIN, encoders=_encoders),
            Row(name="the same, CP", model={**_MODEL, "decoder": "cp"}, train=_TRAIN, encoders=_encoders),
        ),
        measures=(Retrieval(),),
        metrics=("image to text", "text to image", "mean"),
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
        note="The categories of training pairs are given to the model, those of test pairs are not.",
    ),
)
