"""How time and peak memory of one epoch grow with tuples and items: a relation of order 3, rank 32.

Each size runs in a process of its own, so that the peak is that of the size. An epoch is that of the preset: "links"
takes all tuples as targets, in at most 100 steps; "ratings" half of them, the other half carries messages. Model and
start values are timed apart. Users are a tenth of the
tuples, items a hundredth, tags a thousandth: at the largest size 1M users, 100k items, 10k tags, 10M tuples.

    python benchmarks/scale.py [--sizes 1e5,1e6,1e7] [--presets links,ratings] [--limit-gib 8]
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from typing import Any

import torch
from harness import markdown_table, print_table, write_results

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.training import fit

RANK = 32
COLUMNS = ("preset", "tuples", "items", "prepare s", "epoch s", "ms a step", "us a tuple", "peak MiB", "data MiB")


def make_data(tuples: int, *, valued: bool) -> MultiModalHeteroData:
    """Draw tuples with popular and rare items (the density falls with the square root of the rank)."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"user": max(tuples // 10, 2), "item": max(tuples // 100, 2), "tag": max(tuples // 1000, 2)}
    data = MultiModalHeteroData()
    for name, size in sizes.items():
        data.add_modality(name, num_nodes=size)
    index = torch.stack([(torch.rand(tuples, generator=generator).square() * n).long() for n in sizes.values()])
    value = torch.randint(1, 6, (tuples,), generator=generator).float() if valued else None
    return data.add_hyperedges("tagged", index, modalities=tuple(sizes), value=value)


def measure(preset: str, tuples: int) -> dict[str, Any]:
    """Train one epoch of one size in this process."""
    data = make_data(tuples, valued=preset == "ratings")
    held = _peak_mib()
    began = time.perf_counter()
    model = HyperLearn.from_data(data, rank=RANK, preset=preset)
    made = time.perf_counter()
    result = fit(model, data, epochs=1, val_fraction=0.0, refit=False, progress=False)
    seconds = time.perf_counter() - made
    return {
        "preset": preset,
        "tuples": tuples,
        "items": sum(int(data[m].num_nodes) for m in data.modalities),
        "prepare_seconds": made - began + seconds - result.seconds,
        "epoch_seconds": result.seconds,
        "step_seconds": result.seconds_per_step,
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
    parser.add_argument("--sizes", default="1e5,3e5,1e6,3e6,1e7")
    parser.add_argument("--presets", default="links,ratings")
    parser.add_argument("--limit-gib", type=float, default=8.0)
    parser.add_argument("--one", nargs=2, metavar=("PRESET", "TUPLES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(float(arguments.one[1])))))
        return
    rows, growth = [], []
    for preset in arguments.presets.split(","):
        own = []
        for size in arguments.sizes.split(","):
            done = subprocess.run(
                [sys.executable, __file__, "--one", preset, size], stdout=subprocess.PIPE, text=True, check=True
            )
            own.append(json.loads(done.stdout))
            print(own[-1], file=sys.stderr, flush=True)
        rows += own
        if len(own) > 1:
            growth.append(
                f"{preset}: from {own[-2]['tuples']:,} to {own[-1]['tuples']:,} tuples the time of an epoch grows "
                f"with exponent {slope(own, 'epoch_seconds'):.2f}, peak memory with {slope(own, 'peak_mib'):.2f}."
            )
    cells = [_cells(row) for row in rows]
    print_table("One epoch, order 3, rank 32", COLUMNS, cells)
    peak = max(row["peak_mib"] for row in rows)
    verdict = f"Largest peak {peak / 1024:.2f} GiB; limit {arguments.limit_gib:g} GiB: " + (
        "kept." if peak <= 1024 * arguments.limit_gib else "EXCEEDED."
    )
    print("\n".join([*growth, verdict]))
    note = markdown_table(COLUMNS, cells) + "\n" + "\n".join([*growth, verdict]) + "\n"
    print(*write_results("scale", {"rows": rows, "limit_gib": arguments.limit_gib}, note))


def _cells(row: dict[str, Any]) -> list[str]:
    rate = 1e6 * row["epoch_seconds"] / row["tuples"]
    return [
        row["preset"],
        f"{row['tuples']:,}",
        f"{row['items']:,}",
        f"{row['prepare_seconds']:.1f}",
        f"{row['epoch_seconds']:.1f}",
        f"{1e3 * row['step_seconds']:.0f}",
        f"{rate:.1f}",
        f"{row['peak_mib']:.0f}",
        f"{row['data_mib']:.0f}",
    ]


if __name__ == "__main__":
    main()
