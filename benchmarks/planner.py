"""The planner's estimates beside measured times: one training step of 24 encoders of different size and kind.

What a plan needs is their order, so the rank correlation is printed; at least 0.9 is wanted. One thread; times of the
processor, so that other processes on the machine count little.

    python benchmarks/planner.py [--rounds 6]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from harness import environment, markdown_table, print_table, write_results
from scipy.stats import spearmanr

from hyperlearn_pyg import HyperLearn
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.distributed import modality_loads

SIZES = (100, 300, 1000, 3000)
WANTED = 0.9


def measure(rounds: int, sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """Return estimated and measured seconds of a step of every encoder."""
    rows = []
    for size in sizes:
        counts = {"a": size, "b": max(20, size // 4), "c": size // 2}
        data = SyntheticMultiModal(counts, {"r": SyntheticRelation(("a", "b", "c"), 8 * size)})[0]
        for preset in ("ratings", "paper"):
            model = HyperLearn.from_data(data, preset=preset)
            passes = dict.fromkeys(counts, model.config.steps if preset == "paper" else 1)
            edges = None if preset == "ratings" else {m: data[m, "linked", m].num_edges for m in counts}
            inputs = model.prepare(data)
            for load in modality_loads(model, data, model.rank + 1, edges=edges, passes=passes):
                seconds = step_seconds(model, inputs, load.name, rounds)
                rows.append({"preset": preset, "items": load.items, "estimated": load.seconds, "measured": seconds})
    return rows


def step_seconds(model: HyperLearn, inputs: Any, name: str, rounds: int) -> float:
    optimizer = torch.optim.Adam(model.encoders[name].parameters())
    times = []
    for _ in range(rounds + 1):
        began = time.process_time()
        optimizer.zero_grad()
        model.encode(name, inputs).sum().backward()
        optimizer.step()
        times.append(time.process_time() - began)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    place = environment()
    rows = measure(arguments.rounds)
    columns = ["preset", "items", "estimated ms", "measured ms"]
    cells = [
        [row["preset"], str(row["items"]), f"{1e3 * row['estimated']:.2f}", f"{1e3 * row['measured']:.2f}"]
        for row in rows
    ]
    print_table("Estimates of the planner", columns, cells)
    found = float(spearmanr([r["estimated"] for r in rows], [r["measured"] for r in rows]).statistic)
    verdict = "kept" if found >= WANTED else "MISSED"
    line = f"rank correlation {found:.3f} over {len(rows)} encoders; wanted {WANTED}: {verdict}"
    print(line)
    note = markdown_table(columns, cells) + f"\n* {line}\n"
    print(*write_results("planner", {"rows": rows, "rank_correlation": found}, note, place=place))


if __name__ == "__main__":
    main()
