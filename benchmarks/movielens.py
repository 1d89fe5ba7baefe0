"""MovieLens-100K, split u1: HyperLearn beside plain methods; and what smoothness on the dense matrix costs a step.

Every choice is made on a tenth of the training entries; the test entries are scored once a seed, after a refit on all
training entries. One thread. Run: ``python benchmarks/movielens.py``.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baselines import FORMS, SRGCNN, als, clipped_rmse, global_mean, item_biases, ratings_of, train
from baselines.ratings import Array, Ratings
from baselines.srgcnn import starts_of
from harness import COLUMNS, RESULTS, Row, environment, interleave, markdown_table, print_table, spread, write_results
from scipy.sparse import csr_matrix

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets import MontiSplit, MovieLens100K
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.nn.models.presets import training_values
from hyperlearn_pyg.ops import Laplacian
from hyperlearn_pyg.training import TrainConfig, evaluate, fit
from hyperlearn_pyg.training.steps import hold_out
from hyperlearn_pyg.transforms import KNNGraph

HELD_OUT = 0.1
BIAS_GRID = [{"ridge_row": a, "ridge_col": b} for a in (2.0, 5.0, 10.0) for b in (1.0, 2.0, 5.0, 10.0)]
ALS_GRID = [{"ridge": a, "sweeps": s} for a in (8.0, 10.0, 12.0, 15.0, 20.0) for s in (10, 30)]
GRAPH_GRID = [{"ridge": a, "smoothness": s, "sweeps": 15} for a in (1.0, 3.0, 6.0) for s in (5.0, 10.0, 15.0, 20.0)]
SRGCNN_STEPS = 800
STILL_FALLING = ": the best step was the last one allowed, so the number of steps limits this row"
SRGCNN_GRID = [
    {"published": True, "lr": 3e-2, "gamma": 1e-10, "share": 1.0},
    {"published": True, "lr": 3e-2, "gamma": 1e-10, "share": 0.5},
    {"published": False, "lr": 1e-2, "gamma": 1e-10, "share": 0.5},
]
#: As their authors print them for this split: NeurIPS 2017; poster of ACM Multimedia 2019, read off a curve;
#: arXiv:1706.02263; ICLR 2020; IEEE Access 2021; WWW 2021.
PUBLISHED = [
    Row("sRGCNN", [0.929], published=True),
    Row("HyperLearn, poster (read off a curve)", [0.942, 0.95], published=True),
    Row("GC-MC", [0.910], published=True),
    Row("GC-MC with features", [0.905], published=True),
    Row("IGMC", [0.905], published=True),
    Row("MG-GAT", [0.890], published=True),
    Row("GLocal-K", [0.889], published=True),
]
Predictor = Callable[..., Array]


def load(base: Path, root: Path | None) -> tuple[MultiModalHeteroData, MultiModalHeteroData]:
    """Return the data with the graphs that the command line makes, and the same with the given graphs."""
    given = MontiSplit(base / "mgcnn-movielens")[0]
    with tempfile.TemporaryDirectory() as scratch:
        if root is None:
            root = Path(scratch)
            (root / "raw").symlink_to((base / "ml-100k").resolve())
        made = KNNGraph(k=10)(MovieLens100K(root, split="u1")[0])
    _check_same(made, given)
    other = copy.copy(made)
    for ours, theirs in (("user", "user"), ("film", "item")):
        store = given[theirs, "knn", theirs]
        other[ours, "knn", ours].edge_index = store.edge_index
        other[ours, "knn", ours].edge_weight = store.edge_weight
    return made, other


def _check_same(ours: MultiModalHeteroData, theirs: MultiModalHeteroData) -> None:
    for split in ("train", "test"):
        cells = []
        for data in (ours, theirs):
            part = ratings_of(data, split)
            order = np.lexsort((part.col, part.row))
            cells.append(np.stack([part.row[order], part.col[order], part.value[order]]))
        if not np.array_equal(cells[0], cells[1]):
            raise ValueError(f"the {split} entries of the two sources differ: their graphs cannot be compared")


def floor_row(
    name: str,
    data: MultiModalHeteroData,
    predict: Predictor,
    grid: Sequence[Mapping[str, Any]],
    seeds: Sequence[int | None],
    **fixed: Any,
) -> Row:
    """Choose from ``grid`` on the entries that seed 0 holds out, then refit and score once a seed."""
    began = time.perf_counter()
    tried = [(_held_out_score(data, predict, 0, seeds[0], **fixed, **choice), n) for n, choice in enumerate(grid)]
    chosen = {**fixed, **grid[min(tried)[1]]}
    search = time.perf_counter() - began
    known, target = ratings_of(data, "train", "val"), ratings_of(data, "test")
    validation, test, seconds = [], [], []
    for seed in seeds:
        validation.append(_held_out_score(data, predict, seed or 0, seed, **chosen))
        began = time.perf_counter()
        score = predict(known, target, **_seeded(chosen, seed))
        seconds.append(time.perf_counter() - began)
        test.append(clipped_rmse(score, target.value))
    shown = {key: value for key, value in chosen.items() if key != "graphs"}
    steps = [s / shown["sweeps"] for s in seconds] if "sweeps" in shown else []
    extra = {"chosen": shown, "search_seconds": search, "grid": [[dict(grid[n]), score] for score, n in tried]}
    return Row(name, test, validation, steps, seconds, note=_settings(shown), extra=extra)


def _held_out_score(
    data: MultiModalHeteroData, predict: Predictor, fold: int, seed: int | None, **settings: Any
) -> float:
    parted = hold_out(data, HELD_OUT, fold)
    known, target = ratings_of(parted, "train"), ratings_of(parted, "val")
    return clipped_rmse(predict(known, target, **_seeded(settings, seed)), target.value)


def _seeded(settings: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    return dict(settings) if seed is None else {**settings, "seed": seed}


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:g}" if not isinstance(value, bool) else f"{key} {value}" for key, value in values.items()
    )


def model_row(
    name: str, data: MultiModalHeteroData, preset: str, seeds: Sequence[int], *, epochs: int | None, **overrides: Any
) -> Row:
    """Fit a preset as the command line does: its epochs chosen on held-out entries, refit, scored once a seed."""
    validation, test, steps, seconds, epoch = [], [], [], [], []
    for seed in seeds:
        torch.manual_seed(seed)
        model = HyperLearn.from_data(data, preset=preset, **overrides)
        values: dict[str, Any] = {"seed": seed, "device": "cpu"} | ({} if epochs is None else {"epochs": epochs})
        result = fit(model, data, TrainConfig.from_preset(model.config.preset, **values), progress=False)
        test.append(evaluate(model, data, "test")["rmse"])
        validation.append(result.validation["rmse"])
        steps.append(result.seconds_per_step)
        seconds.append(result.seconds)
        epoch.append(result.best_epoch)
        print(f"  {name}, seed {seed}: validation {validation[-1]:.4f}, {seconds[-1]:.0f} s", flush=True)
    extra = {"model": model.config.to_dict(), "train": training_values(model.config.preset), "best_epoch": epoch}
    return Row(name, test, validation, steps, seconds, note=f"best epochs {epoch}", extra=extra)


def srgcnn_row(data: MultiModalHeteroData, seeds: Sequence[int], steps: int, grid: Sequence[Mapping[str, Any]]) -> Row:
    """Train the sRGCNN-style model: settings chosen with seed 0, steps with each seed, then refit and scored once."""
    laplacians = laplacians_of(data)
    began = time.perf_counter()
    validation, test, prices, seconds, best = [], [], [], [], []
    tried = []
    for choice in grid:
        tried.append(train(laplacians, *_parts(data, 0), choice, steps=steps, seed=0))
        print(f"  sRGCNN-style, {_settings(choice)}: validation {tried[-1].score:.4f}", flush=True)
    at = min(range(len(grid)), key=lambda n: tried[n].score)
    chosen = grid[at]
    search = time.perf_counter() - began
    every, target = ratings_of(data, "train", "val"), ratings_of(data, "test")
    for seed in seeds:
        began = time.perf_counter()
        selected = tried[at] if seed == 0 else train(laplacians, *_parts(data, seed), chosen, steps=steps, seed=seed)
        final = train(laplacians, every, target, chosen, steps=steps, seed=seed, stop=selected.step)
        seconds.append(time.perf_counter() - began + (selected.seconds if seed == 0 else 0.0))
        validation.append(selected.score)
        test.append(clipped_rmse(final.test, target.value))
        prices.append(selected.step_seconds)
        best.append(selected.step)
        print(f"  sRGCNN-style, seed {seed}: validation {validation[-1]:.4f}, {seconds[-1]:.0f} s", flush=True)
    extra = {
        "chosen": chosen,
        "search_seconds": search,
        "grid": [[g, t.score] for g, t in zip(grid, tried, strict=True)],
        "best_step": best,
    }
    note = f"{_settings(chosen)}, best steps {best} of {steps}{STILL_FALLING if max(best) == steps else ''}"
    return Row("sRGCNN-style, given graphs", test, validation, prices, seconds, note=note, extra=extra)


def _parts(data: MultiModalHeteroData, seed: int) -> tuple[Ratings, Ratings]:
    parted = hold_out(data, HELD_OUT, seed)
    return ratings_of(parted, "train"), ratings_of(parted, "val")


def laplacians_of(data: MultiModalHeteroData) -> list[Laplacian]:
    """Return the Laplacians that the paper's preset sees."""
    model = HyperLearn.from_data(data, preset="paper")
    branches = model.prepare(data).branches
    return [branches[m].laplacian for m in model.relations["rates"].modalities]


def step_ratios(data: MultiModalHeteroData, rounds: int) -> tuple[list[list[str]], dict[str, Any]]:
    """Time steps of equal encoders under different losses, in turn; the ratio is to the paper's step."""
    laplacians, known = laplacians_of(data), ratings_of(data, "train", "val")
    starts = starts_of(known, 10, share=1.0, center=float(known.value.mean()), seed=0)
    paper = HyperLearn.from_data(data, preset="paper")
    inputs = paper.prepare(data)
    steps = {"paper": _stepper(paper, lambda: paper.loss(inputs))}
    offset = float(known.value.mean())
    for form in FORMS:
        model = SRGCNN(laplacians, starts, known, form=form, published=False, offset=offset)
        steps[form] = _stepper(model, model.loss)
    full = SRGCNN(laplacians, starts, known, form="literal", published=True)
    steps["published"] = _stepper(full, full.loss)
    seconds = interleave(steps, rounds)
    lines, record = [], {}
    for name, times in seconds.items():
        middle = statistics.median(times) / statistics.median(seconds["paper"])
        least = min(times) / min(seconds["paper"])
        record[name] = {"seconds": times, "ratio_of_medians": middle, "ratio_of_minima": least}
        lines.append([LOSSES[name], f"{1e3 * statistics.median(times):.1f}", f"{middle:.2f}", f"{least:.2f}"])
    return lines, record


LOSSES = {
    "paper": "paper preset: tr(A^T L A) on the factors, error over the entries",
    "literal": "sRGCNN-style, form of the published code: tr(X Lc X^T) + tr(X^T Lr X), everything dense",
    "dense": "sRGCNN-style, dense X, dense L, one product each and a sum over cells",
    "sparse": "sRGCNN-style, dense X, sparse L",
    "gram": "sRGCNN-style, the same number without X: <W^T W, H^T Lc H> + <W^T Lr W, H^T H>",
    "published": "the second row, with sigmoid cell and min-max rescaling as well",
}


def _stepper(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def graph_matrices(data: MultiModalHeteroData) -> list[csr_matrix]:
    """Return the normalised adjacency of each side's graph."""
    laplacians = laplacians_of(data)
    return [csr_matrix(lap.smooth(torch.eye(lap.num_nodes, dtype=torch.float64)).numpy()) for lap in laplacians]


def measure(made: MultiModalHeteroData, given: MultiModalHeteroData, seeds: Sequence[int], quick: bool) -> list[Row]:
    """Measure every method; ``quick`` only shows that all of it runs."""
    cut = 1 if quick else None
    epochs = 4 if quick else None
    graphs = graph_matrices(given)
    jobs: list[Callable[[], Row]] = [
        lambda: floor_row("global mean", given, global_mean, [{}], [None]),
        lambda: floor_row("biases", given, item_biases, BIAS_GRID[:cut], [None]),
        lambda: floor_row("biases + ALS", given, als, ALS_GRID[:cut], seeds),
        lambda: floor_row("biases + graph ALS, given graphs", given, als, GRAPH_GRID[:cut], seeds, graphs=graphs),
        lambda: srgcnn_row(given, seeds, epochs or SRGCNN_STEPS, SRGCNN_GRID[:cut]),
        lambda: model_row("HyperLearn paper, given graphs", given, "paper", seeds, epochs=epochs),
        lambda: model_row("HyperLearn paper, kNN graphs of the command line", made, "paper", seeds, epochs=epochs),
        lambda: model_row(
            "HyperLearn default, without features", made, "default", seeds, epochs=epochs, features=False
        ),
        lambda: model_row("HyperLearn default", made, "default", seeds, epochs=epochs),
    ]
    rows = []
    for job in jobs:
        rows.append(job())
        print(f"{rows[-1].model}: test {spread(rows[-1].test)} ({rows[-1].note})", flush=True)
    return rows


TABLE_NOTE = """
Mean ± sample deviation over seeds. Validation: a tenth of the training entries, by which every choice was made; the
test entries were scored once a seed, after a refit on all training entries. The two columns cannot be compared: the
test part holds other users than a random part. Seconds: selection of the step or epoch and the refit (floors: the refit
alone), without the search of a grid. A step of ALS is a sweep. Rows were timed one after the other: where the load
changed in between, their times cannot be compared. Rows marked published are printed by their authors.
"""
SRGCNN_NOTE = f"""
The sRGCNN-style row had the same protocol as the others: settings from {len(SRGCNN_GRID)} on validation (seed 0), step
on validation, refit. The settings named `published` follow the published code: sigmoid cell, predictions rescaled by
the smallest and the largest value of X, no mean. With `share` 0.5 the start is, as there, the SVD of half of the
training entries. The others have an LSTM cell and the mean as offset. It had {SRGCNN_STEPS} steps at most, with a
larger learning rate; the published code takes 10,000 and more, with 0.001.
"""
RATIO_NOTE = """
Equal encoders, optimizer and entries; the steps were taken in turn. The first four losses named sRGCNN-style are one
and the same number with the same gradient. So two effects are in the ratio of the published form: smoothness on the
dense matrix instead of the factors (the row with sparse L), and dense Laplacians with whole triple products (the rest).
Neither is forced by the method: the Gram row gives the dense matrix's smoothness without the matrix.
"""


def note(rows: Sequence[Row], ratios: Sequence[Sequence[str]], seconds: float) -> str:
    """Return the note in Markdown."""
    return "\n".join(
        [
            markdown_table(COLUMNS, [row.cells() for row in rows]) + TABLE_NOTE,
            "\n".join(f"* {row.model}: {row.note}" for row in rows if row.note),
            SRGCNN_NOTE,
            "## Step time against smoothness on the dense matrix\n",
            markdown_table(RATIO_COLUMNS, ratios) + RATIO_NOTE,
            f"The whole run took {seconds / 60:.1f} minutes.\n",
        ]
    )


RATIO_COLUMNS = ("loss", "median ms", "ratio of medians", "ratio of minima")


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("HYPERLEARN_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with ml-100k and mgcnn-movielens")
    parser.add_argument("--root", type=Path, help="keep the processed data set here (raw files in ROOT/raw)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--out", type=Path, help="folder of the results (default: benchmarks/results; none if quick)")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything: the numbers mean nothing")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began, place = time.perf_counter(), environment()
    made, given = load(args.data, args.root)
    ratios, record = step_ratios(given, 1 if args.quick else 25)
    rows = [*measure(made, given, range(1 if args.quick else args.seeds), args.quick), *PUBLISHED]
    seconds = time.perf_counter() - began
    print_table("MovieLens-100K, u1", COLUMNS, [row.cells() for row in rows])
    print_table("Time of a step", RATIO_COLUMNS, ratios)
    folder = args.out or (None if args.quick else RESULTS)
    if folder is not None:
        payload = {"seeds": args.seeds, "quick": args.quick, "seconds": seconds, "rows": rows, "steps": record}
        for path in write_results("movielens", payload, note(rows, ratios, seconds), place=place, folder=folder):
            print(path)
    return rows


if __name__ == "__main__":
    main()
