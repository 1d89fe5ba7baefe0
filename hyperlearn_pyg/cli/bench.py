from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.experiments import EXPERIMENTS, find, run
from hyperlearn_pyg.experiments.page import write_page
from hyperlearn_pyg.experiments.runner import Options
from hyperlearn_pyg.experiments.sources import results_folder


def bench(
    names: Sequence[str],
    seeds: int | None,
    rows: Sequence[str] | None,
    data: Path | None,
    out: Path | None,
    minutes: float | None,
    device: str,
    quick: bool,
    page: Path | None,
    say: Callable[[str], None],
) -> None:
    """Run experiments, or list them; then write the results page, where one is asked for.

    Raises:
        InputError: an unknown experiment or row, no data, damaged files, or nothing to make a page of.
    """
    if rows and (len(names) != 1 or names[0] == "all"):
        raise InputError("--row: name the one experiment that has it")
    chosen = [find(name) for name in (EXPERIMENTS if list(names) == ["all"] else names)]
    folder = out or results_folder()
    limit = math.inf if minutes is None else minutes
    options = Options(
        out=folder, data=data, seeds=seeds, rows=rows or None, minutes=limit, quick=quick, device=device, say=say
    )
    for experiment in chosen:
        paths = run(experiment, options)
        say(f"wrote {', '.join(str(path) for path in paths)}")
    if page is not None:
        write_page(folder, page)
        say(f"wrote {page}")
    if not chosen and page is None:
        for name, experiment in EXPERIMENTS.items():
            say(f"{name}: {experiment.title} ({len(experiment.rows)} rows, {experiment.seeds} seeds)")
        say("'hyperlearn bench NAME --list-rows' names the rows; docs/reference/results.md tells what each one took")


def say_rows(names: Sequence[str], say: Callable[[str], None]) -> None:
    """Name the rows of experiments, as ``--row`` takes them.

    Raises:
        InputError: an unknown experiment.
    """
    for experiment in [find(name) for name in (EXPERIMENTS if list(names) == ["all"] else names)]:
        for row in experiment.rows:
            say(f"{experiment.name}: {row.name}")
