"""Rates of negatives: NegativeSampler and RelationLoader beside PyG's negative sampling on the star form.

Equal work in each task: as many positives and negatives, filtered as far as the method can.

* one item: each pair gets a negative with another film. PyG: ``structured_negative_sampling`` of the bipartite edges.
* any pair: as many free pairs as there are known ones. PyG: ``negative_sampling`` of the bipartite edges.
* batches: positives in random order with one negative each, batch by batch, every batch filtered against all known
  pairs. PyG: ``negative_sampling`` for each batch, over a few batches only, since it sorts all edges each time.
* order three: each tuple gets a negative with another film. PyG: ``structured_negative_sampling`` of the memberships
  (hyperedge, film), one a hyperedge. The star form cannot tell that the new tuple is another hyperedge: the column
  "known" shows how often it is.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from harness import interleave
from torch import Tensor
from torch_geometric.utils import negative_sampling, structured_negative_sampling

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.data.tuples import TupleSet, tuple_ids, tuples_of_ids
from hyperlearn_pyg.loader import NegativeSampler, RelationLoader

COLUMNS = ("negatives", "method", "tuples", "M a second", "ours / PyG", "known")
OURS = ("NegativeSampler", "RelationLoader")
#: PyG's batches of the third task.
_FEW = 5


@dataclass
class Task:
    """One kind of work: each method gives its negatives ``[k, M]``, beside as many positives."""

    name: str
    known: TupleSet
    ours: str
    theirs: str
    run_ours: Callable[[], Tensor]
    run_theirs: Callable[[], Tensor]

    def rates(self, tuples: int, rounds: int) -> list[dict[str, Any]]:
        """Time both methods in turn."""
        methods = {self.ours: self.run_ours, self.theirs: self.run_theirs}
        drawn = {name: run() for name, run in methods.items()}
        seconds = interleave(methods, rounds, warmup=0)
        rates = {name: 2 * drawn[name].size(1) / statistics.median(seconds[name]) for name in methods}
        return [
            {
                "negatives": self.name,
                "method": name,
                "tuples": tuples,
                "seconds": seconds[name],
                "per_second": rates[name],
                "ratio": rates[name] / rates[self.theirs],
                "known_share": float(self.known.contains(negatives).double().mean()),
            }
            for name, negatives in drawn.items()
        ]


def negative_rates(tuples: int = 1_000_000, *, rounds: int = 3, batch_size: int = 4096) -> list[dict[str, Any]]:
    """Return a row for each task and method; positives and negatives both count in ``per_second``.

    Args:
        tuples: how many tuples are drawn, with popular and rare items; each distinct one is known.
        rounds: number of timed calls, of which the median counts; one more call warms up.
        batch_size: tuples in a batch of the third task.
    """
    data = _data(tuples)
    tasks = [*_pairs(data, batch_size), _triples(data)]
    return [row for task in tasks for row in task.rates(tuples, rounds)]


def measure(rounds: int, tuples: int = 1_000_000) -> tuple[Sequence[str], list[list[str]], list[str]]:
    """Return columns, rows and remarks for ``benchmarks/loaders.py``."""
    rows = negative_rates(tuples, rounds=rounds)
    ours = [row for row in rows if row["method"] in OURS]
    known = sum(row["known_share"] for row in ours)
    remarks = [
        f"Positives and negatives both count, {torch.get_num_threads()} thread(s); ours gave "
        f"{'no known tuple' if known == 0 else 'KNOWN TUPLES'}.",
        "Slowest against PyG: {negatives}, {ratio:.2f}.".format(**min(ours, key=lambda row: row["ratio"])),
    ]
    return COLUMNS, [cells(row) for row in rows], remarks


def cells(row: dict[str, Any]) -> list[str]:
    """Return the texts of :data:`COLUMNS`."""
    rate, known = f"{row['per_second'] / 1e6:.3g}", f"{row['known_share']:.3%}"
    return [row["negatives"], row["method"], f"{row['tuples']:,}", rate, f"{row['ratio']:.2f}", known]


def _data(tuples: int) -> MultiModalHeteroData:
    generator = torch.Generator().manual_seed(0)
    # PyG's structured sampling never ends where a user has seen every film
    sizes = {"user": max(tuples // 10, 3), "film": max(tuples // 100, 100), "tag": max(tuples // 1000, 3)}
    data = MultiModalHeteroData()
    for name, size in sizes.items():
        data.add_modality(name, num_nodes=size)
    for name, slots in {"saw": ("user", "film"), "tagged": ("user", "film", "tag")}.items():
        own = [sizes[slot] for slot in slots]
        rows = [(torch.rand(tuples, generator=generator).square() * size).long() for size in own]
        ids = tuple_ids(torch.stack(rows), own).unique()
        ids = ids[torch.randperm(len(ids), generator=generator)]
        data.add_hyperedges(name, tuples_of_ids(ids, own), modalities=slots)
    return data


def _pairs(data: MultiModalHeteroData, batch_size: int) -> list[Task]:
    relation = data.relation("saw")
    index, sizes = relation.index, relation.sizes
    known, count = TupleSet(index, sizes), index.size(1)
    one, both = (NegativeSampler(index, sizes, slots=slots, num_corrupted=len(slots)) for slots in ([1], [0, 1]))
    loader = RelationLoader(data, "saw", slots="film", batch_size=batch_size, shuffle=True)

    def structured() -> Tensor:
        row, _, other = structured_negative_sampling(index, num_nodes=sizes[1])
        return torch.stack([row, other])

    def free() -> Tensor:
        out: Tensor = negative_sampling(index, num_nodes=sizes, num_neg_samples=count)
        return out

    def loaded() -> Tensor:
        return torch.cat([batch.negatives[:, batch.negative_mask] for batch in loader], dim=1)

    def batched() -> Tensor:
        order = torch.randperm(count)
        drawn = []
        for at in order.split(batch_size)[:_FEW]:
            positive = index[:, at]
            drawn.append(negative_sampling(index, num_nodes=sizes, num_neg_samples=positive.size(1)))
        return torch.cat(drawn, dim=1)

    return [
        Task("one item", known, OURS[0], "structured_negative_sampling", lambda: _draw(one, index), structured),
        Task("any pair", known, OURS[0], "negative_sampling", lambda: _draw(both, index), free),
        Task(f"batches of {batch_size}", known, OURS[1], "negative_sampling", loaded, batched),
    ]


def _triples(data: MultiModalHeteroData) -> Task:
    relation = data.relation("tagged")
    index, sizes = relation.index, relation.sizes
    sampler = NegativeSampler(index, sizes, slots=[1])
    star = torch.stack([torch.arange(index.size(1)), index[1]])

    def structured() -> Tensor:
        return torch.stack([index[0], structured_negative_sampling(star, num_nodes=sizes[1])[2], index[2]])

    known = TupleSet(index, sizes)
    theirs = "structured_negative_sampling"
    return Task("order three", known, OURS[0], theirs, lambda: _draw(sampler, index), structured)


def _draw(sampler: NegativeSampler, index: Tensor) -> Tensor:
    negatives, mask = sampler.sample(index)
    return negatives[:, mask]
