"""Ratings: MovieLens-100K with the split u1, and Douban."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.data.tuples import tuple_ids
from hyperlearn_pyg.datasets import MontiSplit, MovieLens100K
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.experiments.als import RatingALS
from hyperlearn_pyg.experiments.experiment import Experiment, Quoted, Row, Target
from hyperlearn_pyg.experiments.measures import Values
from hyperlearn_pyg.experiments.sources import folder_of, read_raw
from hyperlearn_pyg.transforms import KNNGraph

_HERE = "measured by benchmarks/movielens.py, benchmarks/results/2026-11-20-movielens.md"
_SPLIT = "published; validation a tenth of the training ratings at random; refit on all of them"


#: On Douban validation stands still for half of the epochs before it falls: patience would stop in between.
_NEVER: dict[str, Any] = {"patience": 0}

Change = Callable[[MultiModalHeteroData], MultiModalHeteroData]


def _movielens(base: Path) -> MultiModalHeteroData:
    """Read features, ratings and the graphs that come with the split of Monti et al., which some rows use."""
    data = read_raw(base, "ml-100k", partial(MovieLens100K, split="u1"))
    given: MultiModalHeteroData = MontiSplit(folder_of(base, "mgcnn-movielens"))[0]
    if not torch.equal(_train_cells(data), _train_cells(given)):
        raise InputError(f"'{base}': the split of mgcnn-movielens is not u1 of ml-100k, so its graphs are not either")
    for modality, other in (("user", "user"), ("film", "item")):
        store = given[other, "knn", other]
        data[modality, "knn", modality].edge_index = store.edge_index
        data[modality, "knn", modality].edge_weight = store.edge_weight
    return data


def _train_cells(data: MultiModalHeteroData) -> Tensor:
    view = data.relation("rates")
    return tuple_ids(view.index[:, split_positions(data, "rates", ("train",))], view.sizes).sort().values


def no_user_features(data: MultiModalHeteroData) -> MultiModalHeteroData:
    """Return the data without the features of the users."""
    del data["user"].x
    return data


def no_film_features(data: MultiModalHeteroData) -> MultiModalHeteroData:
    """Return the data without the features of the films."""
    del data["film"].x
    return data


def graphs_of_features(data: MultiModalHeteroData) -> MultiModalHeteroData:
    """Return the data with graphs of the ten nearest neighbours on the features instead of those given."""
    for modality in ("user", "film"):
        del data[modality, "knn", modality]
    out: MultiModalHeteroData = KNNGraph(k=10)(data)
    return out


def _douban(base: Path) -> MultiModalHeteroData:
    data: MultiModalHeteroData = MontiSplit(folder_of(base, "monti-douban"))[0]
    return data


def _quoted(name: str, rmse: float, source: str, kind: str = "published") -> Quoted:
    return Quoted(name=name, values={"rmse": rmse}, source=source, kind=kind)


def _row(name: str, *, train: dict[str, Any] | None = None, change: Change | None = None, **model: Any) -> Row:
    return Row(name=name, preset="ratings", model=model, train=train or {}, change=change)


#: Biases and free factors, without features and messages.
_FREE: dict[str, Any] = {"encoder": "embedding", "features": False}
#: The paper's encoder with what the default preset has around it: biases, features, dropout-free, two steps.
_GRAPHS: dict[str, Any] = {"encoder": "diffusion", "rank": 10, "hidden": 32, "steps": 2}
_GRAPHS_TRAIN: dict[str, Any] = {"target_fraction": 1.0, "ema": 0.0, "lr": 1e-2, "schedule": "cosine", "clip_norm": 1.0}


EXPERIMENTS = (
    Experiment(
        name="movielens-u1",
        title="MovieLens-100K, split u1: ratings",
        load=_movielens,
        split_note=_SPLIT,
        rows=(
            _row("default preset"),
            _row("without features", features=False),
            _row("level as a mode, expected level", value_loss="expected_level"),
            _row("without leave-out", train={"target_fraction": 1.0}),
            _row("without features of users", change=no_user_features),
            _row("without features of films", change=no_film_features),
            _row("without convolution", encoder="embedding"),
            _row("without messages (embedding)", **_FREE),
            _row("pure CP", bias=False, **_FREE),
            _row("smoothness on the given graphs alone", smoothness=1e-3, **_FREE),
            _row("convolution on the given graphs alone", train=_GRAPHS_TRAIN, **_GRAPHS),
            Row(name="paper's preset, given graphs", preset="paper"),
            Row(name="paper's preset, nearest neighbours on features", preset="paper", change=graphs_of_features),
        ),
        measures=(Values("rates"), RatingALS("rates")),
        metrics=("rmse", "mae"),
        targets=(
            Target(metric="rmse", must=0.902, goal=0.895),
            Target(metric="rmse", must=0.916, goal=0.910, row="without features"),
            Target(metric="rmse", must=0.950, row="paper's preset, given graphs"),
        ),
        quoted=(
            _quoted("biases + ALS on graphs, given graphs", 0.9200, _HERE, "floor"),
            _quoted("sRGCNN", 0.929, "Monti et al., NeurIPS 2017"),
            _quoted("GC-MC", 0.910, "van den Berg et al., arXiv:1706.02263"),
            _quoted("GC-MC with features", 0.905, "van den Berg et al., arXiv:1706.02263"),
            _quoted("IGMC", 0.905, "Zhang and Chen, ICLR 2020"),
            _quoted("MG-GAT", 0.890, "Leng et al., 2020"),
            _quoted("GLocal-K", 0.889, "Han et al., CIKM 2021"),
        ),
    ),
    Experiment(
        name="douban",
        title="Douban (Monti's split): ratings",
        load=_douban,
        split_note=_SPLIT,
        rows=(
            _row("level as a mode, expected level", train=_NEVER, value_loss="expected_level"),
            _row("default preset", train=_NEVER),
        ),
        measures=(Values("rates"), RatingALS("rates")),
        metrics=("rmse", "mae"),
        targets=(Target(metric="rmse", must=0.734, goal=0.720),),
        quoted=(_quoted("GC-MC", 0.734, "van den Berg et al., arXiv:1706.02263"),),
        seeds=3,
        note="The first row is the better of the two on validation.",
    ),
)
