"""CP scores of a million tuples: our chunked function against gather, multiply, sum, forward and backward.

Orders 2 to 4, rank 32. Both get the same factors and tuples and give the same numbers (checked). Every measurement
runs in a process of its own, with the allocator as it comes ("stock") and with large temporaries kept ("tuned").

    python benchmarks/cp_scoring.py [--tuples 1000000] [--items 100000] [--rank 32] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from harness import (
    ALLOCATORS,
    RETURNED,
    added_peaks,
    environment,
    interleave,
    markdown_table,
    print_table,
    run_child,
    write_results,
)
from torch import Tensor

from hyperlearn_pyg.ops import cp_score

ORDERS = (2, 3, 4)
#: Allocator -> (must, goal), time of the plain form over ours, forward and backward.
TARGETS = {"tuned": (1.3, 2.0), "stock": (3.0, 4.0)}


def plain(factors: Sequence[Tensor], index: Tensor) -> Tensor:
    """Gather the rows of every slot, multiply, sum."""
    product = factors[0][index[0]]
    for factor, row in zip(factors[1:], index[1:], strict=True):
        product = product * factor[row]
    return product.sum(1)


def problem(order: int, tuples: int, items: int, rank: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    factors = [torch.randn(items, rank, generator=generator, requires_grad=True) for _ in range(order)]
    return factors, torch.randint(items, (order, tuples), generator=generator)


def step(score: Callable[..., Tensor], factors: list[Tensor], index: Tensor) -> Callable[[], None]:
    def run() -> None:
        for factor in factors:
            factor.grad = None
        score(factors, index).sum().backward()

    return run


def check(factors: list[Tensor], index: Tensor) -> float:
    """Return the largest relative difference of scores and gradients."""
    worst = 0.0
    results = []
    for score in (cp_score, plain):
        out = score(factors, index)
        results.append([out.detach(), *torch.autograd.grad(out.sum(), factors)])
    for ours, theirs in zip(*results, strict=True):
        worst = max(worst, float((ours - theirs).abs().max() / theirs.abs().max()))
    return worst


def measure(order: int, arguments: argparse.Namespace) -> dict[str, Any]:
    factors, index = problem(order, arguments.tuples, arguments.items, arguments.rank)
    difference = check(factors, index)
    if difference > 1e-5:
        raise SystemExit(f"the two forms differ by {difference:.1e}: nothing to compare")
    steps = {"ours": step(cp_score, factors, index), "plain": step(plain, factors, index)}
    seconds = interleave(steps, arguments.rounds)
    return {
        "order": order,
        "ms": {name: 1e3 * statistics.median(values) for name, values in seconds.items()},
        "difference": difference,
    }


def memory(order: int, name: str, arguments: argparse.Namespace) -> dict[str, float]:
    score = cp_score if name == "ours" else plain
    step(score, *problem(order, 1000, 100, arguments.rank))()
    factors, index = problem(order, arguments.tuples, arguments.items, arguments.rank)
    first, later = added_peaks(step(score, factors, index), calls=2)
    return {"first_mib": first, "peak_mib": later}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuples", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000, help="a slot")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", nargs=2, metavar=("ORDER", "WHAT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        order, what = int(arguments.child[0]), arguments.child[1]
        print(json.dumps(measure(order, arguments) if what == "time" else memory(order, what, arguments)))
        return
    place = environment()
    common = [f"--{key}={getattr(arguments, key)}" for key in ("tuples", "items", "rank", "rounds", "threads")]
    rows, lines = [], []
    for order in ORDERS:
        for allocator in ALLOCATORS:
            row = {"allocator": allocator, **run_child(__file__, [*common, "--child", str(order), "time"], allocator)}
            for name in ("ours", "plain"):
                peaks = run_child(__file__, [*common, "--child", str(order), name], RETURNED)
                row |= {f"{name}_{key}": value for key, value in peaks.items()}
            rows.append(row)
            ratio, (must, goal) = row["ms"]["plain"] / row["ms"]["ours"], TARGETS[allocator]
            lines.append(
                f"order {order}, {allocator}: plain takes {ratio:.2f} times as long; must {must:g}: "
                f"{'kept' if ratio >= must else 'MISSED'}; "
                f"goal {goal:g}: {'reached' if ratio >= goal else 'not reached'}"
            )
    columns = ["order", "allocator", "ours ms", "plain ms", "ratio", "ours MiB", "plain MiB", "ours MiB, first call"]
    cells = [
        [
            str(row["order"]),
            row["allocator"],
            f"{row['ms']['ours']:.0f}",
            f"{row['ms']['plain']:.0f}",
            f"{row['ms']['plain'] / row['ms']['ours']:.2f}",
            f"{row['ours_peak_mib']:.0f}",
            f"{row['plain_peak_mib']:.0f}",
            f"{row['ours_first_mib']:.0f}",
        ]
        for row in rows
    ]
    print_table("CP scores, forward and backward", columns, cells)
    print("\n".join(lines))
    note = markdown_table(columns, cells) + "\n" + "\n".join(f"* {line}" for line in lines) + "\n"
    settings = {key: getattr(arguments, key) for key in ("tuples", "items", "rank", "rounds", "threads")}
    print(*write_results("cp-scoring", {"rows": rows, "settings": settings}, note, place=place))


if __name__ == "__main__":
    main()
