"""What every benchmark shares: where it ran, how long things take, how results are shown and kept."""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.experiments.cost import place

RESULTS = Path(__file__).resolve().parent / "results"
#: Settings of the allocator: as it comes, and with large temporaries kept instead of given back and faulted in again.
ALLOCATORS: dict[str, dict[str, str]] = {
    "stock": {},
    "tuned": dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(32 << 30)),
}
#: For memory: every large block is given back at once, so that the resident memory is what is in use.
RETURNED = "returned"
COLUMNS = ("model", "source", "validation RMSE", "test RMSE", "ms a step", "seconds")


@dataclass(frozen=True)
class Row:
    """One line of a table; a list holds one number a seed.

    Attributes:
        model: what was measured.
        test: scores on the test entries, each taken once.
        validation: the scores that every choice was made by.
        step_seconds: wall time of a step, one a seed.
        seconds: wall time of selection and refit, one a seed.
        published: printed by its authors (``test`` as printed), not measured here.
        note: settings and remarks.
        extra: anything else for the JSON file.
    """

    model: str
    test: Sequence[float]
    validation: Sequence[float] = ()
    step_seconds: Sequence[float] = ()
    seconds: Sequence[float] = ()
    published: bool = False
    note: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def cells(self) -> list[str]:
        """Return the texts of :data:`COLUMNS`."""
        source = "published" if self.published else "measured"
        test = " to ".join(f"{v:.3f}" for v in self.test) if self.published else spread(self.test)
        step = f"{1e3 * statistics.fmean(self.step_seconds):.3g}" if self.step_seconds else ""
        total = f"{statistics.fmean(self.seconds):.1f}" if self.seconds else ""
        return [self.model, source, spread(self.validation), test, step, total]


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Return mean and sample deviation as text; the mean alone for one value, nothing for none."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def environment() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, threads, load, versions, revision."""
    return place()


def interleave(steps: Mapping[str, Callable[[], Any]], rounds: int, *, warmup: int = 1) -> dict[str, list[float]]:
    """Time several steps in turn, so that other load on the machine hits all alike.

    Args:
        steps: what to time, by name.
        rounds: number of timed calls of each.
        warmup: rounds before that are not counted.

    Returns:
        Seconds of each call, by name.

    Raises:
        ValueError: no rounds.
    """
    if rounds < 1:
        raise ValueError(f"'rounds' must be at least 1 (got {rounds})")
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warmup + rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def run_child(script: str, arguments: Sequence[str], allocator: str) -> dict[str, Any]:
    """Run a script in a process of its own, ``allocator`` one of :data:`ALLOCATORS` or :data:`RETURNED`.

    The last line of its output is JSON.
    """
    settings = {"MALLOC_MMAP_THRESHOLD_": str(64 << 10)} if allocator == RETURNED else ALLOCATORS[allocator]
    done = subprocess.run(
        [sys.executable, script, *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, **settings},
        text=True,
        check=True,
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print({"allocator": allocator, **row}, file=sys.stderr, flush=True)
    return row


def added_peaks(run: Callable[[], Any], calls: int) -> list[float]:
    """Return, for each of several calls, the peak in MiB above the resident memory before the first."""
    _trim()
    before = _resident()
    return [_watched_peak(run) - before for _ in range(calls)]


def _watched_peak(run: Callable[[], Any]) -> float:
    """Return the largest resident memory while ``run`` runs, after what the allocator had kept was given back."""
    _trim()
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], _resident())
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return peak[0]


def _resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def _trim() -> None:
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to the terminal."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=None if Console().is_terminal else 140).print(table)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def write_results(
    name: str,
    payload: Mapping[str, Any],
    markdown: str,
    *,
    place: Mapping[str, Any] | None = None,
    folder: Path = RESULTS,
) -> tuple[Path, Path]:
    """Write ``<date>-<name>.json`` and ``.md``, whole or not at all; a later run of the day replaces them.

    Args:
        name: short name of the benchmark.
        payload: what goes into the JSON file, beside the date and :func:`environment`; rows may be :class:`Row`.
        markdown: the note, without its title line.
        place: :func:`environment` as it was at the start of the run, when the code was read; as it is now where absent.
        folder: where to write.

    Returns:
        The two paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.date.today().isoformat()
    now = environment()
    place = {**(now if place is None else place), "load_at_end": now["load"]}
    paths = folder / f"{date}-{name}.json", folder / f"{date}-{name}.md"
    content = {"benchmark": name, "date": date, "environment": place, **payload}
    with atomic_path(paths[0]) as path:
        path.write_text(json.dumps(content, indent=1, default=_plain) + "\n", encoding="utf-8")
    with atomic_path(paths[1]) as path:
        path.write_text(f"# {name}, {date}\n\n{_where(place)}\n\n{markdown}", encoding="utf-8")
    return paths


def _where(place: Mapping[str, Any]) -> str:
    found = ", ".join(f"{package} {number}" for package, number in place["versions"].items())
    revision = f"Revision {place['revision']}. " if place.get("revision") else ""
    return (
        f"{place['processor']}, {place['cores']} cores, {place['memory_gib']} GiB, {place['threads']} thread(s), "
        f"accelerator: {place['accelerator'] or 'none'}, load {place['load']} at the start and "
        f"{place['load_at_end']} at the end. {revision}{found}."
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Row):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot be written as JSON: {type(value).__name__}")
