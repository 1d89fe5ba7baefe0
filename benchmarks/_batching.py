"""Batching: many small hypergraphs at once, beside PyG on ``HeteroData`` of the same tensors.

Each hypergraph has 1,000 incidences: 100 hyperedges of five members, over users and films, and as many again of three
users and two films, with values and incidence weights. "plain" graphs hold the very tensors in the same stores. In the
row "some lack a modality" every second hypergraph has no tags and no relation over them, which PyG cannot batch.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from harness import interleave
from torch_geometric.data import Batch, HeteroData

from hyperlearn_pyg import MultiModalHeteroData

COLUMNS = ("batching", "method", "graphs", "incidences", "ms", "M incidences a second", "ours / PyG")
SIZES = {"user": 60, "film": 40, "tag": 10}


def batching_rates(graphs: int = 1000, incidences: int = 1000, *, rounds: int = 5) -> list[dict[str, Any]]:
    """Return a row for each task and method; ``ratio`` is the time against PyG's (None where PyG cannot).

    Args:
        graphs: how many hypergraphs go into one batch.
        incidences: memberships of each, rounded down to a multiple of ten.
        rounds: number of timed calls, of which the median counts; one more call warms up.
    """
    ours = [make_graph(seed, incidences) for seed in range(graphs)]
    theirs = [HeteroData.from_dict(data.to_dict()) for data in ours]
    some = [data if i % 2 else data.modality_subgraph(["user", "film"]) for i, data in enumerate(ours)]
    for data in some[::2]:
        data.remove_hyperedges("marks")
    batches = Batch.from_data_list(ours), Batch.from_data_list(theirs)
    tasks: dict[str, dict[str, Callable[[], Any]]] = {
        "from_data_list": {
            "MultiModalHeteroData": lambda: Batch.from_data_list(ours),
            "PyG": lambda: Batch.from_data_list(theirs),
        },
        "to_data_list": {"MultiModalHeteroData": batches[0].to_data_list, "PyG": batches[1].to_data_list},
        "from_data_list, some lack a modality": {"MultiModalHeteroData": lambda: Batch.from_data_list(some)},
    }
    rows = []
    for task, methods in tasks.items():
        held = some if "lack" in task else ours
        total = sum(data.num_edges for data in held)
        seconds = interleave(methods, rounds)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        rows += [
            {
                "batching": task,
                "method": name,
                "graphs": graphs,
                "incidences": total,
                "seconds": times,
                "median": medians[name],
                "ratio": medians[name] / medians["PyG"] if "PyG" in medians else None,
            }
            for name, times in seconds.items()
        ]
    return rows


def cells(row: dict[str, Any]) -> list[str]:
    """Return the texts of :data:`COLUMNS`."""
    rate = f"{row['incidences'] / row['median'] / 1e6:.3g}"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    counts = f"{row['graphs']:,}", f"{row['incidences']:,}"
    return [row["batching"], row["method"], *counts, f"{1e3 * row['median']:.0f}", rate, ratio]


def make_graph(seed: int, incidences: int) -> MultiModalHeteroData:
    """Make a hypergraph of three modalities and two relations, of ``incidences`` memberships in all."""
    generator = torch.Generator().manual_seed(seed)
    data = MultiModalHeteroData()
    for name, size in SIZES.items():
        data.add_modality(name, x=torch.rand(size, 16, generator=generator))
    count = incidences // 10
    for relation, slots in {"rates": {"user": 3, "film": 2}, "marks": {"user": 2, "film": 2, "tag": 1}}.items():
        members = {
            name: torch.stack(
                [
                    torch.randint(SIZES[name], (many * count,), generator=generator),
                    torch.arange(count).repeat_interleave(many),
                ]
            )
            for name, many in slots.items()
        }
        weights = {name: torch.rand(index.size(1), generator=generator) for name, index in members.items()}
        value = torch.rand(count, generator=generator)
        data.add_hyperedges(relation, members, value=value, incidence_weight=weights)
    return data
