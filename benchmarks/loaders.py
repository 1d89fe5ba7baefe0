"""The loaders: batching, sampling of neighbourhoods, negatives; each beside PyG on the star form where that runs.

* batching: 1,000 hypergraphs of 1,000 incidences each, against PyG's batches of ``HeteroData`` of the same tensors;
* sampling: sampled incidences a second on one core in plain torch: the sampler alone, and the loader with the features
  joined; PyG's ``NeighborLoader`` on the same memberships, turned round as well, where pyg-lib or torch-sparse is
  installed;
* negatives: filtered tuples a second, against PyG's negative sampling;
* an epoch: all users of a hypergraph of 1M items and 10M incidences as seeds, in a process of its own, with its peak
  memory; then some steps of training on the same loader.

    python benchmarks/loaders.py [--parts batching,sampling,negatives,epoch] [--incidences 1e7] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch_geometric.typing
from harness import environment, interleave, markdown_table, print_table, write_results
from torch_geometric.data import HeteroData
from torch_geometric.loader import NeighborLoader

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.loader import HypergraphNeighborLoader
from hyperlearn_pyg.nn import HeteroHypergraphConv

#: Parts that live in a module of their own, beside its ``COLUMNS`` and ``cells(row)``: the module and its function.
MODULES = {
    "batching": ("_batching", "batching_rates"),
    "negatives": ("_negatives", "negative_rates"),
}
SHARES = {"user": 0.6, "item": 0.3, "tag": 0.1}
HOPS = [(10, -1), (5, -1)]
CHANNELS = 32
MUST = {"incidences": 200_000, "gib": 6.0}
#: Arguments of the loader, by kind of sampling.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "with replacement": {"replace": True},
    "disjoint": {"disjoint": True},
    "in time": {"time_attr": "time"},
    "tuples, own left out": {"input_nodes": None, "input_tuples": "tagged"},
}


class Part(NamedTuple):
    """One table: its columns and cells, what is said below it, and the rows for the JSON file."""

    columns: list[str]
    cells: list[list[str]]
    remarks: list[str]
    rows: list[dict[str, Any]]


def make_data(incidences: int) -> MultiModalHeteroData:
    """Draw tuples of order 3 with popular and rare items; ten incidences an item, a time for each tuple."""
    generator = torch.Generator().manual_seed(0)
    sizes = {name: max(int(share * incidences / 10), 1) for name, share in SHARES.items()}
    data = MultiModalHeteroData()
    for name, size in sizes.items():
        data.add_modality(name, x=torch.randn(size, CHANNELS, generator=generator))
    tuples = incidences // len(sizes)
    index = torch.stack([(torch.rand(tuples, generator=generator).square() * n).long() for n in sizes.values()])
    value = torch.rand(tuples, generator=generator)
    return data.add_hyperedges("tagged", index, modalities=tuple(sizes), value=value, time=torch.arange(tuples))


def count(batch: Any) -> int:
    """Return the number of sampled incidences of a batch."""
    return sum(batch[edge_type].e_id.numel() for edge_type in batch.edge_types)


def star_form(data: MultiModalHeteroData) -> HeteroData:
    """Return the same stores with the memberships turned round beside them, as PyG's sampler needs."""
    star = HeteroData(data.to_dict())
    for src, name, dst in data.edge_types:
        star[dst, f"rev_{name}", src].edge_index = data[src, name, dst].edge_index.flip(0)
    return star


def pyg_loader(data: MultiModalHeteroData, **kwargs: Any) -> NeighborLoader | None:
    """Return PyG's loader with the same fan-outs, two of its hops for one; None where it cannot run."""
    if not (torch_geometric.typing.WITH_PYG_LIB or torch_geometric.typing.WITH_TORCH_SPARSE):
        return None
    star = star_form(data)
    fan_out = {
        edge_type: [n for out, into in HOPS for n in ((out, 0) if edge_type[1].startswith("rev_") else (0, into))]
        for edge_type in star.edge_types
    }
    return NeighborLoader(star, fan_out, input_nodes="user", shuffle=True, **kwargs)


def sampling(rounds: int, incidences: int = 1_000_000, batches: int = 5, batch_size: int = 1024) -> Part:
    """Time a few batches of each kind, in turn."""
    data = make_data(incidences)
    theirs = pyg_loader(data, batch_size=batch_size)
    steps: dict[str, Callable[[], int]] = {}
    for kind, kwargs in KINDS.items():
        if kind == "in time":
            kwargs = {**kwargs, "input_time": torch.full((data["user"].num_nodes,), incidences // 6)}
        given = {"input_nodes": "user", "batch_size": batch_size, "shuffle": True, "seed": 0, **kwargs}
        loader = HypergraphNeighborLoader(data, HOPS, **given)
        bare = HypergraphNeighborLoader(data, neighbor_sampler=loader.node_sampler, filter_per_worker=False, **given)
        steps[f"{kind}: sampler"] = lambda bare=bare: sum(_sampled(bare, batches, batch_size))
        steps[f"{kind}: loader"] = lambda loader=loader: sum(map(count, islice(loader, batches)))
    if theirs is not None:
        steps["PyG, star form: loader"] = lambda: sum(map(count, islice(theirs, batches)))
    found: dict[str, list[int]] = {name: [] for name in steps}
    timed = {name: lambda name=name, step=step: found[name].append(step()) for name, step in steps.items()}
    seconds = interleave(timed, rounds)
    rows = [
        {
            "kind": name,
            "incidences_a_batch": statistics.fmean(found[name]) / batches,
            "ms_a_batch": 1e3 * statistics.median(seconds[name]) / batches,
            "rates": [n / s for n, s in zip(found[name][-rounds:], seconds[name], strict=True)],
        }
        for name in steps
    ]
    lowest = min(statistics.median(row["rates"]) for row in rows)
    remarks = [f"Lowest rate {lowest:,.0f} incidences a second; at least {MUST['incidences']:,} wanted."]
    remarks.append(
        "PyG's NeighborLoader does not run here: neither pyg-lib nor torch-sparse is installed."
        if theirs is None
        else f"PyG samples with {'pyg-lib' if torch_geometric.typing.WITH_PYG_LIB else 'torch-sparse'}; it returns "
        "each membership once for each way that it was walked."
    )
    columns = [f"{batch_size:,} seeds a batch", "incidences", "ms a batch", "incidences a second", "slowest round"]
    cells = [
        [row["kind"]]
        + [f"{row[key]:,.0f}" for key in ("incidences_a_batch", "ms_a_batch")]
        + [f"{rate:,.0f}" for rate in (statistics.median(row["rates"]), min(row["rates"]))]
        for row in rows
    ]
    return Part(columns, cells, remarks, rows)


def _sampled(loader: HypergraphNeighborLoader, batches: int, batch_size: int) -> Iterator[int]:
    """Run the sampler alone."""
    for _ in range(batches):
        index = torch.randint(len(loader.dataset), (batch_size,)).tolist()
        yield sum(edge.numel() for edge in loader.collate_fn(index).edge.values())


def epoch(incidences: int, steps: int = 10) -> dict[str, Any]:
    """Pass once over all users in this process; then train a few steps."""
    data = make_data(incidences)
    held = _peak_gib()
    began = time.perf_counter()
    loader = HypergraphNeighborLoader(data, HOPS, "user", batch_size=1024, shuffle=True, seed=0)
    made = time.perf_counter()
    batches = found = 0
    for batch in loader:
        batches, found = batches + 1, found + count(batch)
    passed = time.perf_counter()
    peak = _peak_gib()
    loss = [float(value) for value in train(loader, steps)]
    return {
        "items": sum(int(data[m].num_nodes) for m in data.modalities),
        "incidences": sum(data[t].edge_index.size(1) for t in data.edge_types),
        "batches": batches,
        "sampled": found,
        "build_seconds": made - began,
        "epoch_seconds": passed - made,
        "step_seconds": (time.perf_counter() - passed) / max(steps, 1),
        "loss": loss,
        "data_gib": held,
        "epoch_gib": peak,
        "peak_gib": _peak_gib(),
        "threads": torch.get_num_threads(),
    }


def train(loader: HypergraphNeighborLoader, steps: int) -> Iterator[torch.Tensor]:
    """Take a few steps of two layers that learn the users' features back."""
    layers = torch.nn.ModuleList([HeteroHypergraphConv(dict.fromkeys(SHARES, CHANNELS), CHANNELS) for _ in HOPS])
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.01)
    for batch in islice(loader, steps):
        x_dict = {m: batch[m].x for m in SHARES}
        for layer in layers:
            x_dict = layer(x_dict, batch.relation("tagged"))
        size = batch["user"].batch_size
        loss = (x_dict["user"][:size] - batch["user"].x[:size]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.detach()


def _peak_gib() -> float:
    """Return the peak of this process; what 'getrusage' tells starts from the peak of the process that started it."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return (kibibytes or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 2**20


def epoch_apart(incidences: int, threads: int) -> Part:
    """Run :func:`epoch` in a process of its own, so that the peak is its own."""
    command = [sys.executable, __file__, "--one", str(incidences), "--threads", str(threads)]
    row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    rate = row["sampled"] / row["epoch_seconds"]
    cells = {
        "items": f"{row['items']:,}",
        "incidences": f"{row['incidences']:,}",
        "batches": f"{row['batches']:,}",
        "sampled": f"{row['sampled']:,}",
        "build s": f"{row['build_seconds']:.1f}",
        "epoch s": f"{row['epoch_seconds']:.0f}",
        "a second": f"{rate:,.0f}",
        "ms a training step": f"{1e3 * row['step_seconds']:.0f}",
        "data GiB": f"{row['data_gib']:.2f}",
        "peak GiB": f"{row['peak_gib']:.2f}",
    }
    kept = "kept" if row["peak_gib"] <= MUST["gib"] else "EXCEEDED"
    remark = f"Peak {row['peak_gib']:.2f} GiB; limit {MUST['gib']:g} GiB: {kept}."
    return Part(list(cells), [list(cells.values())], [remark], [row])


def elsewhere(part: str, rounds: int) -> Part | None:
    """Run a part that lives in a module of its own; None where the module is absent."""
    name, function = MODULES[part]
    if find_spec(name) is None:
        print(f"{part}: {name}.py is absent")
        return None
    module = import_module(name)
    rows = getattr(module, function)(rounds=rounds)
    return Part(list(module.COLUMNS), [module.cells(row) for row in rows], [], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="batching,sampling,negatives,epoch", help="by commas")
    parser.add_argument("--incidences", type=float, default=1e7)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.one:
        print(json.dumps(epoch(arguments.one)))
        return
    place, payload, notes = environment(), {}, []
    for name in arguments.parts.split(","):
        if name == "epoch":
            part = epoch_apart(int(arguments.incidences), arguments.threads)
        else:
            part = sampling(arguments.rounds) if name == "sampling" else elsewhere(name, arguments.rounds)
        if part is None:
            continue
        print_table(name, part.columns, part.cells)
        print("\n".join(part.remarks), flush=True)
        payload[name] = {"rows": part.rows, "remarks": part.remarks}
        notes.append("\n".join([f"## {name}\n", markdown_table(part.columns, part.cells), *part.remarks, ""]))
    print(*write_results("loaders", payload, "\n".join(notes), place=place))


if __name__ == "__main__":
    main()
