"""Subnetworks in place of the whole: GIST by width and ResIST by depth, on co-authorship and co-citation Cora.

Every worker has all of the data; what is dealt is the network. Options were chosen on validation nodes of other splits
(``--tune`` prints that choice); the test nodes are scored once a run.
Run: ``python benchmarks/subnetworks.py``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _ranks import World
from _workers import SPLITS, TUNED_ON, VALIDATION, parser_of, part_of, run
from _workers import Method as Plain
from harness import Row, spread
from node_classification import Task, drop_words, load
from torch import Tensor

from hyperlearn_pyg.distributed.strategies import GIST, ResIST
from hyperlearn_pyg.nn import HGNNConv, ResidualHypergraphStack

COMMON = {"lr": 0.01, "weight_decay": 5e-4, "dropout": 0.5, "steps": 100}
WIDTH, STACK_WIDTH, BLOCKS = 128, 64, 9
COLUMNS = ("data", "method", "workers", "test accuracy", "validation", "steps a worker", "parameters", "MB sent", "s*")
STEPS = int(COMMON["steps"])


class Net(torch.nn.Module):
    """Three hypergraph convolutions with two hidden layers of :data:`WIDTH` channels, and layer norms as in GIST."""

    def __init__(self, words: int, classes: int) -> None:
        super().__init__()
        self.convs = torch.nn.ModuleList([HGNNConv(words, WIDTH), HGNNConv(WIDTH, WIDTH), HGNNConv(WIDTH, classes)])
        self.norm = torch.nn.LayerNorm(WIDTH, elementwise_affine=False)

    def forward(self, x: Tensor, hyperedge_index: Tensor) -> Tensor:
        """Return the scores of the classes, of words ``[N, W]``."""
        for conv in self.convs[:-1]:
            x = F.dropout(self.norm(conv(x, hyperedge_index)).relu(), COMMON["dropout"], self.training)
        return self.convs[-1](x, hyperedge_index)


def stack(words: int, classes: int) -> torch.nn.Module:
    """Return a deep stack of narrow residual blocks."""
    return ResidualHypergraphStack(words, STACK_WIDTH, classes, BLOCKS, dropout=COMMON["dropout"])


@dataclass
class Job:
    """One run of one worker, and what it counts.

    Attributes:
        options: of the method: ``local_steps`` of a round, and whether steps are ``divided`` by the workers.
        taken: steps that this worker took.
        parameters: the most that it trained at once.
        num_bytes: what it sent in training.
    """

    task: Task
    split: int
    size: int
    options: Mapping[str, Any]
    taken: int = 0
    parameters: int = 0
    num_bytes: int = 0

    def learn(self, net: torch.nn.Module, steps: int) -> None:
        """Take steps on all labels of the split, with an optimizer of their own."""
        task, known = self.task, self.task.train[self.split]
        self.parameters = max(self.parameters, sum(p.numel() for p in net.parameters()))
        optimizer = torch.optim.Adam(net.parameters(), lr=COMMON["lr"], weight_decay=COMMON["weight_decay"])
        net.train()
        for _ in range(steps):
            optimizer.zero_grad()
            score = net(drop_words(task, COMMON["dropout"]), task.hyperedge_index)
            F.cross_entropy(score[known], task.y[known]).backward()
            optimizer.step()
        self.taken += steps

    def rounds(self, strategy: GIST | ResIST) -> dict[str, Tensor]:
        """Train in rounds; return the whole weights."""
        total = STEPS // self.size if self.options["divided"] else STEPS
        while self.taken < total:
            with strategy.round() as sub:
                self.learn(sub, min(self.options["local_steps"], total - self.taken))
        self.num_bytes = strategy.comm_stats.total
        return strategy.full_state_dict()


def alone(job: Job, net: torch.nn.Module) -> None:
    """Train the whole network in one process."""
    job.learn(net, STEPS)


def gist(job: Job, net: torch.nn.Module) -> None:
    """Deal the hidden channels."""
    strategy = GIST(net, (job.task.x, job.task.hyperedge_index), seed=job.split)
    strategy.comm_stats.reset()
    net.load_state_dict(job.rounds(strategy))


def resist(job: Job, net: torch.nn.Module) -> None:
    """Deal the residual blocks."""
    strategy = ResIST(net, seed=job.split, min_blocks=job.options["min_blocks"])
    strategy.comm_stats.reset()
    net.load_state_dict(job.rounds(strategy))


@dataclass(frozen=True)
class Method(Plain):
    """A method, with the net that it trains: made from the numbers of words and of classes."""

    make: Callable[[int, int], torch.nn.Module] = Net


GRID = {"local_steps": (5, 10, 25)}
METHODS: dict[str, Method] = {
    f"wide net, {WIDTH} channels": Method(alone),
    "GIST, steps divided by workers": Method(gist, {"local_steps": 5, "divided": True}, GRID),
    "GIST, as many steps": Method(gist, {"local_steps": 5, "divided": False}, GRID),
    f"deep stack, {BLOCKS} blocks": Method(alone, make=stack),
    "ResIST, as many steps": Method(
        resist,
        {"local_steps": 25, "divided": False, "min_blocks": 4},
        {"local_steps": (5, 25), "min_blocks": (1, 4)},
        make=stack,
    ),
}


class Worker:
    """What a rank of :class:`World` answers."""

    def __init__(self, rank: int, size: int, base: Path) -> None:
        torch.set_num_threads(1)
        self.rank, self.size, self.tasks = rank, size, load(base, 10)

    def run(self, method: str, options: Mapping[str, Any], data: str, split: int, test: bool) -> dict[str, Any]:
        """Train, and score the whole network."""
        task, job = self.tasks[data], Job(self.tasks[data], split, self.size, options)
        torch.manual_seed(split)
        net = METHODS[method].make(task.x.size(1), task.num_classes)
        torch.manual_seed(1000 * split + self.rank)
        began = time.perf_counter()
        METHODS[method].train(job, net)
        out = {"seconds": time.perf_counter() - began, "bytes": job.num_bytes}
        scores = {part: accuracy(net, task, split, part) for part in ("validation", *(["test"] if test else []))}
        return {**scores, **out, "steps": job.taken, "parameters": job.parameters}


def accuracy(net: torch.nn.Module, task: Task, split: int, part: str) -> float:
    """Return the accuracy on the nodes for ``"validation"`` or ``"test"``, in per cent."""
    net.eval()
    with torch.no_grad():
        right = net(task.x, task.hyperedge_index).argmax(1) == task.y
    return 100 * float(right[part_of(task, split, part)].double().mean())


def measure(
    world: World, method: str, options: Mapping[str, Any], data: str, split: int, *, test: bool = True
) -> dict[str, float]:
    """Run a method once; all workers score the same whole network."""
    found = world.ask("run", method, options, data, split, test)
    return {
        **found[0],
        "bytes": statistics.fmean(entry["bytes"] for entry in found),
        **{key: max(entry[key] for entry in found) for key in ("seconds", "parameters")},
    }


def tune(world: World, size: int, data: str, only: Sequence[str]) -> None:
    """Print the validation accuracy of every option, on splits that no result is of."""
    for name, method in METHODS.items():
        if (only and name not in only) or not method.grid or size == 1:
            continue
        for options in method.choices():
            runs = [measure(world, name, options, data, split, test=False) for split in TUNED_ON]
            print(
                f"{data}, {size} workers, {name}, {options}: {spread([r['validation'] for r in runs], 1)}", flush=True
            )


def rows_of(world: World, size: int, data: str, splits: Sequence[int], only: Sequence[str]) -> list[Row]:
    """Measure all methods of so many workers on one hypergraph."""
    rows = []
    for name, method in METHODS.items():
        if (only and name not in only) or (method.train is alone) != (size == 1):
            continue
        runs = [measure(world, name, method.options, data, split) for split in splits]
        kept = {key: [r[key] for r in runs] for key in ("steps", "parameters", "bytes")}
        rows.append(
            Row(
                name,
                [r["test"] for r in runs],
                validation=[r["validation"] for r in runs],
                seconds=[r["seconds"] for r in runs],
                extra={"data": data, "workers": size, "options": method.options, **kept},
            )
        )
        print(*cells(rows[-1]), sep=", ", flush=True)
    return rows


def cells(row: Row) -> list[str]:
    """Return the texts of :data:`COLUMNS`."""
    steps, parameters, sent = (statistics.fmean(row.extra[key]) for key in ("steps", "parameters", "bytes"))
    scores = [spread(row.test, 1), spread(row.validation, 1)]
    counts = [f"{steps:.0f}", f"{parameters:,.0f}", f"{sent / 1e6:.1f}", f"{statistics.fmean(row.seconds):.1f}"]
    return [row.extra["data"], row.model, str(row.extra["workers"]), *scores, *counts]


NOTE = f"""
Test accuracy in per cent of the **whole** network, mean ± sample deviation over splits {SPLITS[0]} to {SPLITS[-1]} of
the authors of the data; the split's number is the seed. All workers have the hypergraph, all words and the 140 labels.
{VALIDATION} nodes without a training label are for validation, the rest for the test, scored once a run, after the last
step. Parameters: the most that a worker trains at once. MB: what a worker sends in training, in the mean.

One setting for all: {", ".join(f"{key} {value:g}" for key, value in COMMON.items())} full-batch, Adam anew in each
round, singleton hyperedges for isolated nodes. The wide net is three HGNNConv layers with {WIDTH} hidden channels, with
a layer norm without weights behind each hidden one, as in the paper on GIST: without them the whole net adds up more
channels than its weights were trained with. The deep stack is a ResidualHypergraphStack of {BLOCKS} blocks of
{STACK_WIDTH} channels. Options were chosen by the validation nodes of splits {TUNED_ON[0]} and {TUNED_ON[1]} of
co-citation Cora with 4 workers (``--tune --on co-citation --workers 4``); the whole nets had no options to choose, and
two layers do better on these data (``node_classification.py``). Options:
{"; ".join(f"{name}: {dict(m.options)} among {dict(m.grid)}" for name, m in METHODS.items() if m.grid)}.

\\* Wall time of the slowest worker, all workers on two shared cores: **not comparable**, and no measure of scaling.
"""


def report(rows: list[Row]) -> tuple[str, Sequence[str], list[list[str]], str, Mapping[str, Any]]:
    """See :func:`_workers.run`."""
    lines = [cells(row) for row in sorted(rows, key=lambda row: (row.extra["data"], list(METHODS).index(row.model)))]
    return "Networks trained in parts", COLUMNS, lines, NOTE, COMMON


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark."""
    args = parser_of(__doc__, list(METHODS), "subnetworks", ["co-authorship", "co-citation"]).parse_args(arguments)
    return run(args, Worker, lambda size: args.on, tune, rows_of, report)


if __name__ == "__main__":
    main()
