"""What the benchmarks of training strategies share: methods with their options, splits, and the run of all of them."""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _ranks import World
from harness import RESULTS, Row, environment, markdown_table, print_table, write_results
from node_classification import Task
from torch import Tensor

VALIDATION = 300  # nodes drawn from those without a training label
#: Splits that results are of, and splits that settings were chosen on.
SPLITS, TUNED_ON = range(5), (8, 9)


@dataclass(frozen=True)
class Method:
    """How a net is trained, with the options that were chosen, and those that they were chosen among."""

    train: Callable[..., None]
    options: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def choices(self) -> Iterator[dict[str, Any]]:
        """Yield all options of the grid."""
        return choices(self.options, self.grid)


def choices(options: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield options with every combination of the values of a grid."""
    for values in itertools.product(*grid.values()):
        yield {**options, **dict(zip(grid, values, strict=True))}


def part_of(task: Task, split: int, part: str) -> Tensor:
    """Return the nodes for ``"validation"`` or ``"test"``: all of them have no training label."""
    rest = task.test[split].nonzero().flatten()
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(split))
    return rest[order[:VALIDATION] if part == "validation" else order[VALIDATION:]]


def parser_of(doc: str | None, methods: Sequence[str], name: str, on: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of what both benchmarks are told."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("HYPERLEARN_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder of the data sets")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4], help="numbers of workers")
    parser.add_argument("--on", nargs="+", default=list(on), choices=on, help="data")
    parser.add_argument("--only", nargs="+", default=[], choices=methods, help="methods; all where absent")
    parser.add_argument("--tune", action="store_true", help="print the choice of the options, and score no test entry")
    parser.add_argument("--name", default=name, help="of the result files")
    parser.add_argument("--out", type=Path, help="folder of the results (default: benchmarks/results; none if quick)")
    parser.add_argument("--quick", action="store_true", help="one split alone: the numbers mean nothing")
    return parser


def run(
    args: argparse.Namespace,
    worker: Callable[..., Any],
    cases: Callable[[int], Sequence[Any]],
    tune: Callable[[World, int, Any, Sequence[str]], None],
    rows_of: Callable[[World, int, Any, Sequence[int], Sequence[str]], list[Row]],
    report: Callable[[list[Row]], tuple[str, Sequence[str], list[list[str]], str, Mapping[str, Any]]],
) -> list[Row]:
    """Measure every case with every number of workers, one alone first, and write the results; or print the choice.

    Args:
        args: from :func:`parser_of`.
        worker: makes what a rank answers with, from its rank, their number and the folder of the data.
        cases: gives what to compare on with so many workers.
        tune: prints the choice of the options in one case.
        rows_of: measures all methods in one case.
        report: gives title, columns, cells and note of the table, and the settings for the JSON file.
    """
    began, place, rows = time.perf_counter(), environment(), []
    for size in dict.fromkeys([1, *args.workers]):
        with World(size, worker, args.data) as world:
            for case in cases(size):
                if args.tune:
                    tune(world, size, case, args.only)
                else:
                    rows += rows_of(world, size, case, SPLITS[:1] if args.quick else SPLITS, args.only)
    if args.tune:
        return rows
    title, columns, lines, note, settings = report(rows)
    print_table(title, columns, lines)
    folder = args.out or (None if args.quick else RESULTS)
    if folder is not None:
        seconds = time.perf_counter() - began
        text = f"{markdown_table(columns, lines)}{note}\nThe whole run took {seconds / 60:.1f} minutes.\n"
        payload = {"settings": settings, "seconds": seconds, "rows": rows}
        for path in write_results(args.name, payload, text, place=place, folder=folder):
            print(path)
    return rows
