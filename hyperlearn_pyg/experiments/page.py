"""The results page of the documentation, made from the files of results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.experiments.registry import EXPERIMENTS
from hyperlearn_pyg.experiments.results import KIND, markdown, markdown_table

_HEAD = """# Results

Every table stands beside its floors: what counting or a simple model gives (*floor*), and what others print
(*published*, not measured here). This page is made from the JSON files in `benchmarks/results/`, the latest of each
experiment, by `hyperlearn bench --page docs/reference/results.md`; `hyperlearn bench NAME` runs one anew.

How to read it:

* *must* and *goal* were set for an experiment before its figures were known: the must is what the package has to reach
  to be worth its place (a floor or an earlier measurement and a little more), the goal is the best figure in print or
  hoped for. They are decided on the mean of the first row, unless another is named; what misses them says so.
* A row is above a floor by so many *deviations*: the difference of the means over the root of the sum of the squares
  of both sample deviations over the seeds. Of all floors the nearest is named.
* The other rows are ablations and comparisons. They were tuned less than the first row, most of them not at all,
  and their settings are in the JSON file: they show what a part is worth there, not the best that it could do alone.
* Mean ± sample deviation over the seeds. A seed draws the split (where none is published), the validation entries, the
  start and the negatives. The epoch is chosen on validation; the test is scored once a seed. *CPU s* and *peak MiB*
  (resident memory) are those of selection, refit and test of one seed, interpreter and data included.
"""


def write_page(results: Path, page: Path) -> None:
    """Write the results page.

    Args:
        results: the folder of the JSON files that ``hyperlearn bench`` wrote.
        page: the Markdown file.

    Raises:
        InputError: a file is damaged, or there is none.
    """
    latest = read_latest(results)
    if not latest:
        raise InputError(f"--page: no results of experiments in '{results}': run one with 'hyperlearn bench NAME'")
    order = [*EXPERIMENTS, *(name for name in latest if name not in EXPERIMENTS)]
    chapters = [f"## {latest[n]['title']}\n\n`{n}`. {markdown(latest[n], explain=False)}" for n in order if n in latest]
    with atomic_path(page) as path:
        path.write_text(
            "\n".join([_HEAD, *chapters, costs({n: latest[n] for n in order if n in latest})]), encoding="utf-8"
        )


def costs(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the chapter that tells what each experiment takes: the sums over its floors, rows and seeds.

    Args:
        results: the content of the JSON file of each experiment.
    """
    rows, total = [], 0.0
    for name, content in results.items():
        parts = [part for own in content["parts"].values() for part in own]
        seconds = sum(part["cost"]["cpu_seconds"] for part in parts)
        peaks = [part["cost"]["peak_mib"] for part in parts if part["cost"]["peak_mib"] is not None]
        total += seconds
        rows.append([f"`{name}`", str(len(parts)), f"{seconds:.0f}", f"{max(peaks):.0f}" if peaks else ""])
    rows.append(["together", str(sum(int(row[1]) for row in rows)), f"{total:.0f}", ""])
    table = markdown_table(["", "pieces", "CPU s", "largest peak MiB"], rows)
    return (
        "## What a run takes\n\nA piece is a row, or the floors, of one seed; `hyperlearn bench all` runs all of them, "
        "and goes on where it was stopped. Reading the data is not counted. Together "
        f"{total / 3600:.2f} hours of one core.\n\n{table}"
    )


def read_latest(results: Path) -> dict[str, dict[str, Any]]:
    """Return the latest results of each experiment, by name; quick runs are passed over."""
    latest: dict[str, dict[str, Any]] = {}
    for path in sorted(results.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"'{path}' is damaged: {error}") from error
        if isinstance(content, dict) and content.get("kind") == KIND and not content["quick"]:
            latest[content["experiment"]] = content
    return latest
