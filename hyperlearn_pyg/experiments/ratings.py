"""Ratings: MovieLens-100K with the split u1, and Douban."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import MontiSplit, MovieLens100K
from hyperlearn_pyg.experiments.als import RatingALS
from hyperlearn_pyg.experiments.experiment import Experiment, Quoted, Row, Target
from hyperlearn_pyg.experiments.measures import Values
from hyperlearn_pyg.experiments.sources import folder_of, read_raw

_HERE = "measured by benchmarks/movielens.py, benchmarks/results/2026-11-20-movielens.md"
_SPLIT = "published; validation a tenth of the training ratings at random; refit on all of them"


def _movielens(base: Path) -> MultiModalHeteroData:
    return read_raw(base, "ml-100k", partial(MovieLens100K, split="u1"))


def _douban(base: Path) -> MultiModalHeteroData:
    data: MultiModalHeteroData = MontiSplit(folder_of(base, "monti-douban"))[0]
    return data


def _quoted(name: str, rmse: float, source: str, kind: str = "published") -> Quoted:
    return Quoted(name=name, values={"rmse": rmse}, source=source, kind=kind)


def _row(name: str, *, train: dict[str, Any] | None = None, **model: Any) -> Row:
    return Row(name=name, preset="ratings", model=model, train=train or {})


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
            _row("without messages (embedding)", encoder="embedding", features=False),
        ),
        measures=(Values("rates"), RatingALS("rates")),
        metrics=("rmse", "mae"),
        targets=(
            Target(metric="rmse", must=0.902, goal=0.895),
            Target(metric="rmse", must=0.916, goal=0.910, row="without features"),
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
        rows=(_row("default preset"), _row("level as a mode, expected level", value_loss="expected_level")),
        measures=(Values("rates"), RatingALS("rates")),
        metrics=("rmse", "mae"),
        targets=(Target(metric="rmse", must=0.734, goal=0.720),),
        quoted=(_quoted("GC-MC", 0.734, "van den Berg et al., arXiv:1706.02263"),),
        seeds=3,
    ),
)
