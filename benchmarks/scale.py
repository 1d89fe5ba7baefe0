"""How time and peak memory of one epoch grow with tuples and items: a relation of order 3, rank 32.

Each size runs in a process of its own, so that the peak is that of the size, and under a limit of the operating system
on its data (all memory that is not a file's), so that what passes has kept it. An epoch is that of the preset: "links"
takes all tuples as targets, in at most 100 steps; "ratings" half of them, the other half carries messages. Model and
start values are timed apart. By default users are a tenth of the tuples, items a hundredth, tags a thousandth: at the
largest size 1M users, 100k items, 10k tags, 10M tuples. The second command has 1M users, 1M items, 100k tags and 50M
tuples at its largest.

    python benchmarks/scale.py
    python benchmarks/scale.py --name scale-training --shares 0.02,0.02,0.002 --sizes 5e5,5e6,5e7 --limit-gib 16
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from harness import environment, markdown_table, print_table, write_results
from matplotlib.figure import Figure

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg._io import atomic_path
from hyperlearn_pyg.training import fit

RANK = 32
COLUMNS = (
    "preset",
    "tuples",
    "items",
    "prepare s",
    "epoch s",
    "CPU s",
    "ms a step",
    "us a tuple",
    "peak MiB",
    "data MiB",
)


SHARES = (0.1, 0.01, 0.001)


def make_data(tuples: int, *, valued: bool, shares: Sequence[float] = SHARES) -> MultiModalHeteroData:
    """Draw tuples with popular and rare items (the density falls with the square root of the rank)."""
    generator = torch.Generator().manual_seed(0)
    sizes = {m: max(round(tuples * s), 2) for m, s in zip(("user", "item", "tag"), shares, strict=True)}
    data = MultiModalHeteroData()
    for name, size in sizes.items():
        data.add_modality(name, num_nodes=size)
    index = torch.stack([(torch.rand(tuples, generator=generator).square() * n).long() for n in sizes.values()])
    value = torch.randint(1, 6, (tuples,), generator=generator).float() if valued else None
    return data.add_hyperedges("tagged", index, modalities=tuple(sizes), value=value)


def measure(preset: str, tuples: int, shares: Sequence[float], limit_gib: float) -> dict[str, Any]:
    """Train one epoch of one size in this process."""
    limit = int(limit_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    data = make_data(tuples, valued=preset == "ratings", shares=shares)
    held = _peak_mib()
    began, cpu = time.perf_counter(), time.process_time()
    model = HyperLearn.from_data(data, rank=RANK, preset=preset)
    made = time.perf_counter()
    result = fit(model, data, epochs=1, val_fraction=0.0, refit=False, progress=False)
    seconds = time.perf_counter() - made
    return {
        "preset": preset,
        "tuples": tuples,
        "items": {m: int(data[m].num_nodes) for m in data.modalities},
        "prepare_seconds": made - began + seconds - result.seconds,
        "epoch_seconds": result.seconds,
        "cpu_seconds": time.process_time() - cpu,
        "step_seconds": result.seconds_per_step,
        "loss": result.history[-1]["loss"],
        "peak_mib": _peak_mib(),
        "data_mib": held,
        "parameters": sum(p.numel() for p in model.parameters()),
        "threads": torch.get_num_threads(),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def slope(rows: list[dict[str, Any]], key: str) -> float:
    """Return the exponent of growth between the two largest sizes: 1 is linear."""
    low, high = rows[-2], rows[-1]
    return math.log(high[key] / low[key]) / math.log(high["tuples"] / low["tuples"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="scale", help="what the results are called")
    parser.add_argument("--sizes", default="1e5,3e5,1e6,3e6,1e7", help="numbers of tuples")
    parser.add_argument("--shares", default=",".join(map(str, SHARES)), help="users, items and tags for each tuple")
    parser.add_argument("--presets", default="links,ratings")
    parser.add_argument("--limit-gib", type=float, default=8.0)
    parser.add_argument("--one", nargs=2, metavar=("PRESET", "TUPLES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        shares = [float(share) for share in arguments.shares.split(",")]
        preset, tuples = arguments.one
        print(json.dumps(measure(preset, int(float(tuples)), shares, arguments.limit_gib)))
        return
    at, rows, told = environment(), [], []
    for preset in arguments.presets.split(","):
        own = [_child(preset, size, arguments) for size in arguments.sizes.split(",")]
        rows += own
        if len(own) > 1:
            told.append(
                f"{preset}: from {own[-2]['tuples']:,} to {own[-1]['tuples']:,} tuples the time of an epoch grows "
                f"with exponent {slope(own, 'epoch_seconds'):.2f}, peak memory with {slope(own, 'peak_mib'):.2f}."
            )
    cells = [_cells(row) for row in rows]
    print_table("One epoch, order 3, rank 32", COLUMNS, cells)
    peak = max(row["peak_mib"] for row in rows) / 1024
    told.append(f"Largest peak {peak:.2f} GiB, under a limit of {arguments.limit_gib:g} GiB for the data of a process.")
    print("\n".join(told))
    note = markdown_table(COLUMNS, cells) + "\n" + "\n".join(told) + "\n"
    paths = write_results(arguments.name, {"rows": rows, "limit_gib": arguments.limit_gib}, note, place=at)
    print(*paths, save_plot(rows, arguments.limit_gib, paths[0].with_suffix(".png")))


def _child(preset: str, size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    options = ["--shares", arguments.shares, "--limit-gib", str(arguments.limit_gib)]
    command = [sys.executable, __file__, *options, "--one", preset, size]
    row: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print(row, file=sys.stderr, flush=True)
    return row


def save_plot(rows: Sequence[Mapping[str, Any]], limit_gib: float, path: Path) -> Path:
    """Draw time and peak memory against the number of tuples, one line a preset."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for preset in dict.fromkeys(row["preset"] for row in rows):
        own = [row for row in rows if row["preset"] == preset]
        tuples = [row["tuples"] for row in own]
        time_axes.plot(tuples, [row["epoch_seconds"] for row in own], marker="o", label=preset)
        memory_axes.plot(tuples, [row["peak_mib"] / 1024 for row in own], marker="o", label=preset)
    memory_axes.axhline(limit_gib, color="black", linestyle="--", linewidth=1, label=f"limit {limit_gib:g} GiB")
    for axes, label in ((time_axes, "seconds an epoch"), (memory_axes, "peak resident memory, GiB")):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("tuples")
        axes.set_ylabel(label)
        axes.legend(fontsize="small")
    with atomic_path(path) as target:
        figure.savefig(target, format="png", dpi=110)
    return path


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["preset"],
        f"{row['tuples']:,}",
        f"{sum(row['items'].values()):,}",
        f"{row['prepare_seconds']:.1f}",
        f"{row['epoch_seconds']:.1f}",
        f"{row['cpu_seconds']:.0f}",
        f"{1e3 * row['step_seconds']:.0f}",
        f"{1e6 * row['epoch_seconds'] / row['tuples']:.1f}",
        f"{row['peak_mib']:.0f}",
        f"{row['data_mib']:.0f}",
    ]


if __name__ == "__main__":
    main()
