"""HypergraphConv against PyG, other hypergraph packages and the memory: time, peak memory, preparation.

Sizes (nodes / hyperedges / incidences / channels): S 10k/5k/100k/64, M 100k/50k/1M/64, L 100k/50k/5M/64,
XL 1M/200k/10M/32. Every measurement runs in a process of its own, once with the allocator as it comes ("stock") and
once with large temporaries kept (``MALLOC_MMAP_THRESHOLD_`` and ``MALLOC_TRIM_THRESHOLD_`` raised: "tuned", which makes
PyG itself up to 3.5 times faster). Within a process the competitors take turns. Two bounds of the forward are measured
there too: the rows that its two products name are gathered, and nothing else; and they are summed, and nothing else.
Memory is measured with an allocator that gives large blocks back at once: what is resident is then what is in use.

    python benchmarks/conv.py [--sizes S,M,L,XL] [--threads 1] [--device cpu] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
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
from torch_geometric import EdgeIndex
from torch_geometric.nn import HypergraphConv as PyGConv

from hyperlearn_pyg.nn import HypergraphConv
from hyperlearn_pyg.ops import Incidence

SIZES = {
    "S": (10_000, 5_000, 100_000, 64),
    "M": (100_000, 50_000, 1_000_000, 64),
    "L": (100_000, 50_000, 5_000_000, 64),
    "XL": (1_000_000, 200_000, 10_000_000, 32),
}
GATHERED = 4096  # rows at a time
#: Ratios of the target table, forward and backward: (size, allocator, kind, layer) -> (must, goal).
TARGETS = {
    ("M", "tuned", "f32", "PyG"): (4.5, 6.0),
    ("L", "tuned", "f32", "PyG"): (9.0, 11.0),
    ("S", "stock", "f32", "PyG"): (8.0, 10.0),
    ("M", "stock", "f32", "PyG"): (12.0, 16.0),
    ("L", "stock", "f32", "PyG"): (25.0, 35.0),
    ("M", "tuned", "f32", "dhg HGNN+"): (3.0, 3.5),
    ("M", "tuned", "f32", "TopoModelX UniGCN"): (2.5, 3.0),
    ("M", "stock", "attention", "PyG"): (4.0, 4.0),
    ("M", "tuned", "attention", "PyG"): (4.0, 4.0),
}
#: Forward against a bound, at most: size -> (must, goal).
BOUNDS = {"M": (1.8, 1.3), "L": (1.1, 1.0), "XL": (1.2, 1.1)}
#: Peak memory of PyG in units of ours, at least: (size, kind) -> (must, goal).
MEMORY = {("M", "f32"): (4.0, 6.0), ("L", "f32"): (20.0, 28.0), ("M", "attention"): (4.0, 4.0)}


class Problem:
    """Random incidences and features of one size on one device."""

    def __init__(self, size: str, device: str) -> None:
        self.nodes, self.edges, nnz, self.channels = SIZES[size]
        generator = torch.Generator().manual_seed(0)
        parts = [torch.randint(n, (nnz,), generator=generator) for n in (self.nodes, self.edges)]
        self.index = torch.stack(parts).to(device)
        self.x = torch.randn(self.nodes, self.channels, generator=generator).to(device)
        self.attr = torch.randn(self.edges, self.channels, generator=generator).to(device)
        self.device = device


def layers(problem: Problem, kind: str, *, peers: bool = True) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what is compared, all with one linear map of equal widths; the first is ours, the second PyG's."""
    c, m, device = problem.channels, problem.edges, problem.device
    if kind == "attention":
        ours, theirs = HypergraphConv(c, c, True).to(device), PyGConv(c, c, True).to(device)
        return {
            "ours": lambda x: ours(x, problem.index, None, problem.attr),
            "PyG": lambda x: theirs(x, problem.index, None, problem.attr, m),
        }
    ours, theirs = HypergraphConv(c, c).to(device), PyGConv(c, c).to(device)
    if kind == "bf16":
        ours16, theirs16 = HypergraphConv(c, c).to(device).bfloat16(), PyGConv(c, c).to(device).bfloat16()
        return {
            "ours": lambda x: ours16(x.bfloat16(), problem.index, num_edges=m),
            "ours f32": lambda x: ours(x, problem.index, num_edges=m),
            "PyG": lambda x: theirs16(x.bfloat16(), problem.index, num_edges=m),
        }
    found = {
        "ours": lambda x: ours(x, problem.index, num_edges=m),
        "PyG": lambda x: theirs(x, problem.index, num_edges=m),
    }
    if peers:
        found |= {"PyG EdgeIndex product": _edge_index(problem), **_others(problem)}
    return found


def _edge_index(problem: Problem) -> Callable[[Tensor], Tensor]:
    """The same operator by the sparse product of PyG's EdgeIndex, degrees and sorting done beforehand."""
    lin = torch.nn.Linear(problem.channels, problem.channels, bias=False).to(problem.device)
    there = EdgeIndex(problem.index.flip(0), sparse_size=(problem.edges, problem.nodes)).sort_by("row").values
    back = EdgeIndex(problem.index, sparse_size=(problem.nodes, problem.edges)).sort_by("row").values
    inverse = [
        1 / torch.bincount(i, minlength=n).clamp(min=1)
        for i, n in zip(problem.index, (problem.nodes, problem.edges), strict=True)
    ]
    for matrix in (there, back):
        matrix.fill_cache_()

    def run(x: Tensor) -> Tensor:
        edges = there.matmul(lin(x)) * inverse[1][:, None]
        out: Tensor = back.matmul(edges) * inverse[0][:, None]
        return out

    return run


def _others(problem: Problem) -> dict[str, Callable[[Tensor], Tensor]]:
    """Other packages, where they are installed."""
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    try:
        import dhg

        lists = [[] for _ in range(problem.edges)]
        for node, edge in problem.index.t().tolist():
            lists[edge].append(node)
        hypergraph = dhg.Hypergraph(problem.nodes, [e for e in lists if e])
        conv = dhg.nn.HGNNPConv(problem.channels, problem.channels, is_last=True)  # without activation and dropout
        found["dhg HGNN+"] = lambda x: conv(x, hypergraph)
    except ImportError:
        pass
    try:
        from topomodelx.nn.hypergraph.unigcn_layer import UniGCNLayer

        incidence = torch.sparse_coo_tensor(
            problem.index, torch.ones(problem.index.size(1)), (problem.nodes, problem.edges)
        )
        layer = UniGCNLayer(problem.channels, problem.channels)
        found["TopoModelX UniGCN"] = lambda x: layer(x, incidence)[0]
    except ImportError:
        pass
    return found


def step(call: Callable[[Tensor], Tensor], problem: Problem, *, backward: bool) -> Callable[[], None]:
    """Return one timed call: forward, or forward and backward to features and weights."""
    leaf = problem.x.clone().requires_grad_(backward)

    def run() -> None:
        leaf.grad = None
        with torch.set_grad_enabled(backward):
            out = call(leaf)
        if backward:
            out.float().sum().backward()
        if problem.device != "cpu":
            torch.cuda.synchronize()

    return run


def bounds(problem: Problem) -> dict[str, Callable[[], None]]:
    """Return what a forward cannot do without.

    "row gather": every row that the two products name is read once, in the order of the bags, into a buffer that stays
    in the cache. "sums alone": the same rows summed by the kernel that we use, without map, scalings and bias.
    """
    inc = Incidence(problem.index, (problem.nodes, problem.edges))
    edges = torch.zeros(problem.edges, problem.channels, device=problem.device)
    parts = [(inc.by_col, problem.x), (inc.by_row, edges)]
    pieces = [(csr.idx.split(GATHERED), table) for csr, table in parts]
    buffer = torch.empty(GATHERED, problem.channels, device=problem.device)

    def gather() -> None:
        for chunks, table in pieces:
            for chunk in chunks:
                torch.index_select(table, 0, chunk, out=buffer[: len(chunk)])
        if problem.device != "cpu":
            torch.cuda.synchronize()

    def sums() -> None:
        for csr, table in parts:
            torch.embedding_bag(table, csr.idx, csr.ptr, False, 0, False, None, True)
        if problem.device != "cpu":
            torch.cuda.synchronize()

    return {"bound: row gather": gather, "bound: sums alone": sums}


def measure_time(size: str, kind: str, rounds: int, device: str) -> dict[str, Any]:
    """Time every competitor of one size and kind, in turn, in this process."""
    problem = Problem(size, device)
    began = time.perf_counter()
    inc = Incidence(problem.index, (problem.nodes, problem.edges))
    _ = inc.bags(0), inc.bags(1)
    built = time.perf_counter() - began
    calls = layers(problem, kind)
    row: dict[str, Any] = {"size": size, "kind": kind, "build_ms": 1e3 * built}
    for backward in (False, True):
        steps = {name: step(call, problem, backward=backward) for name, call in calls.items()}
        if not backward:
            steps |= bounds(problem)
        seconds = interleave(steps, rounds)
        row["forward_backward_ms" if backward else "forward_ms"] = {
            name: 1e3 * statistics.median(values) for name, values in seconds.items()
        }
    if device != "cpu":
        row["copy_gb_s"], row["bytes"] = _copy_bandwidth(), _bytes(problem)
    return row


def _bytes(problem: Problem) -> int:
    """Bytes that the two products of a forward must move: rows read, sums written, indices."""
    nnz = problem.index.size(1)
    return 4 * (problem.channels * (2 * nnz + problem.nodes + problem.edges) + 2 * nnz)


def _copy_bandwidth() -> float:
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    target.copy_(source)
    start.record()
    for _ in range(10):
        target.copy_(source)
    end.record()
    torch.cuda.synchronize()
    return 10 * 2 * source.numel() * 4 / start.elapsed_time(end) / 1e6


def measure_memory(size: str, kind: str, name: str, device: str) -> dict[str, Any]:
    """Return the peaks that forward and backward add to what lay in memory before the first call.

    Once for the first call, which prepares whatever a layer prepares, and once for the calls after it, with all that
    the layer has kept since.
    """
    tiny = Problem("S", device)
    step(layers(tiny, kind, peers=False)[name], tiny, backward=True)()  # libraries and thread pools are there already
    problem = Problem(size, device)
    run = step(layers(problem, kind, peers=False)[name], problem, backward=True)
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        peaks = []
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats()
            run()
            peaks.append((torch.cuda.max_memory_allocated() - before) / 2**20)
    else:
        peaks = added_peaks(run, calls=2)
    return {"first_mib": peaks[0], "peak_mib": peaks[1]}


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Compare what was measured with the targets."""
    lines = []
    for row in rows:
        own = {
            name: value for (size, allocator, kind, name), value in TARGETS.items() if _fits(row, size, allocator, kind)
        }
        times = row["forward_backward_ms"]
        for name, (must, goal) in own.items():
            if name in times:
                lines.append(_verdict(row, f"{name} takes", times[name] / times["ours"], must, goal))
        if row["kind"] == "bf16" and row["size"] == "M":
            lines.append(_verdict(row, "our own f32 takes", times["ours f32"] / times["ours"], 1.6, 2.0))
        if row["kind"] == "f32" and row["size"] in BOUNDS:
            forward = row["forward_ms"]
            for name in (n for n in forward if n.startswith("bound")):
                must, goal = BOUNDS[row["size"]]
                lines.append(
                    _verdict(row, f"forward against {name}:", forward["ours"] / forward[name], must, goal, most=True)
                )
        if "peak_mib" in row and (row["size"], row["kind"]) in MEMORY:
            must, goal = MEMORY[row["size"], row["kind"]]
            for key, word in (
                ("peak_mib", "peak memory of PyG, structure counted:"),
                ("first_mib", "the same, first call:"),
            ):
                lines.append(_verdict(row, word, row[key]["PyG"] / row[key]["ours"], must, goal))
    return lines


def _fits(row: dict[str, Any], size: str, allocator: str, kind: str) -> bool:
    return bool((row["size"], row["allocator"], row["kind"]) == (size, allocator, kind))


def _verdict(row: dict[str, Any], text: str, ratio: float, must: float, goal: float, *, most: bool = False) -> str:
    kept, reached = (ratio <= must, ratio <= goal) if most else (ratio >= must, ratio >= goal)
    return (
        f"{row['size']} {row['kind']}, {row['allocator']}: {text} {ratio:.2f} times; must {must:g}: "
        f"{'kept' if kept else 'MISSED'}; goal {goal:g}: {'reached' if reached else 'not reached'}"
    )


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and cells of the result table."""
    columns = ["size", "kind", "allocator", "layer", "forward ms", "forward+backward ms", "ratio to ours", "peak MiB"]
    cells = []
    for row in rows:
        both = row["forward_backward_ms"]
        for name, forward in row["forward_ms"].items():
            total = both.get(name)
            peak = row.get("peak_mib", {}).get(name)
            ratio = (total / both["ours"]) if total else forward / row["forward_ms"]["ours"]
            cells.append(
                [
                    row["size"],
                    row["kind"],
                    row["allocator"],
                    name,
                    f"{forward:.1f}",
                    f"{total:.1f}" if total else "",
                    f"{ratio:.2f}",
                    f"{peak:.0f}" if peak is not None else "",
                ]
            )
    return columns, cells


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw forward+backward times of every size, both allocators."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["kind"] == "f32"]
    names = list(dict.fromkeys(name for row in shown for name in row["forward_backward_ms"]))
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(names):
        at = [j + 0.8 * i / len(names) for j, row in enumerate(shown) if name in row["forward_backward_ms"]]
        axes.bar(
            at,
            [r["forward_backward_ms"][name] for r in shown if name in r["forward_backward_ms"]],
            width=0.8 / len(names),
            label=name,
        )
    axes.set_xticks([j + 0.4 for j in range(len(shown))], [f"{r['size']}\n{r['allocator']}" for r in shown])
    axes.set_yscale("log")
    axes.set_ylabel("forward + backward, ms")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="S,M,L,XL")
    parser.add_argument("--kinds", default="f32,bf16,attention")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=3, metavar=("SIZE", "KIND", "LAYER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        size, kind, name = arguments.child
        if name == "time":
            print(json.dumps(measure_time(size, kind, arguments.rounds, arguments.device)))
        else:
            print(json.dumps(measure_memory(size, kind, name, arguments.device)))
        return
    place = environment()
    rows = []
    for size in arguments.sizes.split(","):
        for kind in arguments.kinds.split(","):
            if kind == "attention" and size in ("L", "XL"):
                continue  # PyG's attention would need 16 GiB and more
            for allocator in ALLOCATORS if arguments.device == "cpu" else ("stock",):
                common = ["--device", arguments.device, "--threads", str(arguments.threads)]
                common += ["--rounds", str(arguments.rounds), "--child", size, kind]
                row = {"allocator": allocator, **run_child(__file__, [*common, "time"], allocator)}
                if allocator == "stock" and kind != "bf16":
                    names = ["ours", "PyG"]
                    peaks = {n: run_child(__file__, [*common, n], RETURNED) for n in names}
                    row |= {key: {n: p[key] for n, p in peaks.items()} for key in ("peak_mib", "first_mib")}
                rows.append(row)
    columns, cells = table(rows)
    print_table("HypergraphConv", columns, cells)
    lines = verdicts(rows) + [
        f"{r['size']} {r['kind']}: compressing the incidence once takes {r['build_ms']:.0f} ms ({r['allocator']})"
        for r in rows
        if r["kind"] == "f32"
    ]
    lines += [
        f"{r['size']} {r['kind']}: peak memory 1/{r['peak_mib']['PyG'] / r['peak_mib']['ours']:.1f} of PyG's with the "
        f"cached structure counted, 1/{r['first_mib']['PyG'] / r['first_mib']['ours']:.1f} in the call that builds it"
        for r in rows
        if "peak_mib" in r
    ]
    lines += [
        f"{r['size']} {r['allocator']}: forward takes {r['forward_ms']['ours'] / r['forward_ms'][name]:.2f} "
        f"times the {name}"
        for r in rows
        if r["kind"] == "f32"
        for name in r["forward_ms"]
        if name.startswith("bound")
    ]
    lines += [
        f"{r['size']} {r['allocator']}: bf16 is "
        f"{r['forward_backward_ms']['ours f32'] / r['forward_backward_ms']['ours']:.2f} times as fast as our own f32"
        for r in rows
        if r["kind"] == "bf16"
    ]
    lines += [
        f"{r['size']}: {r['bytes'] / r['forward_ms']['ours'] / 1e6:.0f} GB/s, "
        f"{r['bytes'] / r['forward_ms']['ours'] / 1e6 / r['copy_gb_s']:.0%} of a copy's bandwidth"
        for r in rows
        if "copy_gb_s" in r and r["kind"] == "f32"
    ]
    print("\n".join(lines))
    note = markdown_table(columns, cells) + "\n" + "\n".join(f"* {line}" for line in lines) + "\n"
    name = "conv" if arguments.device == "cpu" else "conv-cuda"
    paths = write_results(name, {"rows": rows, "threads": arguments.threads}, note, place=place)
    plot(rows, paths[0].with_suffix(".png"))
    print(*paths)


if __name__ == "__main__":
    main()
