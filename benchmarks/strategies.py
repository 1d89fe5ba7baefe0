"""Training strategies on label-skewed nodes: co-authorship and co-citation Cora, labels dealt over workers.

Every worker has the whole hypergraph and the words of all papers, and labels of its own alone. Settings were chosen
on validation nodes of other splits (``--tune`` prints that choice); the test nodes are scored once a run.
Run: ``python benchmarks/strategies.py``, or with ``--only co-learning`` some methods.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from _ranks import World
from harness import RESULTS, Row, environment, markdown_table, print_table, spread, write_results
from node_classification import Task, load
from torch import Tensor

from hyperlearn_pyg.distributed.strategies import Codistillation, CoLearning, GradientPush
from hyperlearn_pyg.nn import HypergraphConv

COMMON = {"hidden": 64, "weight_decay": 5e-4, "dropout": 0.5, "epochs": 100}
#: With SGD, to average parameters in every step is to average gradients; with Adam each worker scales its own first.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=0.3, momentum=0.9, nesterov=True, weight_decay=COMMON["weight_decay"]),
    "adam": partial(torch.optim.Adam, lr=0.01, weight_decay=COMMON["weight_decay"]),
}
VALIDATION = 300  # nodes drawn from those without a training label
#: Splits that results are of, and splits that settings were chosen on.
SPLITS, TUNED_ON = range(5), (8, 9)
COLUMNS = (
    "data",
    "skew",
    "workers",
    "optimizer",
    "method",
    "test accuracy",
    "validation",
    "syncs",
    "MB sent",
    "seconds*",
)
SKEWS = ("classes", "dirichlet")
HIDDEN = int(COMMON["hidden"])


class Net(torch.nn.Module):
    """A linear map of the words, then two hypergraph convolutions."""

    def __init__(self, words: int, classes: int) -> None:
        super().__init__()
        self.words = torch.nn.Parameter(torch.empty(words, HIDDEN))
        torch.nn.init.xavier_uniform_(self.words)
        self.first, self.second = HypergraphConv(HIDDEN, HIDDEN), HypergraphConv(HIDDEN, classes)

    def forward(self, x: Tensor, hyperedge_index: Tensor) -> Tensor:
        """Return the scores of the classes, of words ``[N, W]`` as a sparse tensor."""
        h = self.first(torch.sparse.mm(x, self.words), hyperedge_index).relu()
        return self.second(F.dropout(h, COMMON["dropout"], self.training), hyperedge_index)


def dealt(task: Task, split: int, size: int, skew: str) -> list[Tensor]:
    """Deal the training nodes of a split over workers, by class; return those of each.

    ``"classes"``: class ``c`` goes to worker ``c`` modulo their number, whole. ``"dirichlet"``: the shares of a class
    are drawn from a Dirichlet distribution of concentration 0.5.
    """
    known = task.train[split].nonzero().flatten()
    if skew != "dirichlet":
        return [known[task.y[known] % size == rank] for rank in range(size)]
    random, parts = np.random.default_rng(split), [[] for _ in range(size)]
    for label in range(task.num_classes):
        nodes = known[task.y[known] == label].numpy()
        ends = (random.dirichlet([0.5] * size).cumsum()[:-1] * len(nodes)).round().astype(int)
        for part, chosen in zip(parts, np.split(random.permutation(nodes), ends), strict=True):
            part.append(chosen)
    return [torch.from_numpy(np.concatenate(part)) for part in parts]


@dataclass
class Job:
    """One run of one worker: its module, its labels, and what it counts.

    Attributes:
        rank, size: this worker among so many.
        skew: how labels are dealt.
        labels: the nodes whose labels it has.
        options: of the method.
        kind: of the optimizer.
        syncs: how often the workers waited for one another.
        num_bytes: what this worker sent in training.
    """

    task: Task
    split: int
    rank: int
    size: int
    skew: str
    options: Mapping[str, Any]
    kind: str = "sgd"
    syncs: int = 0
    num_bytes: int = 0
    net: Net = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.split)
        self.net = Net(self.task.x.size(1), self.task.num_classes)
        self.optimizer = OPTIMIZERS[self.kind](self.net.parameters())
        self.labels = dealt(self.task, self.split, self.size, self.skew)[self.rank]
        torch.manual_seed(1000 * self.split + self.rank)

    def forward(self) -> Tensor:
        """Return the scores of all nodes in training, a part of their words dropped."""
        values = F.dropout(self.task.x[self.task.words], COMMON["dropout"], self.net.training)
        x = torch.sparse_coo_tensor(torch.stack(self.task.words), values, self.task.x.shape, check_invariants=False)
        return self.net(x, self.task.hyperedge_index)

    def loss(self, scores: Tensor) -> Tensor:
        """Return the loss on this worker's labels."""
        total = F.cross_entropy(scores[self.labels], self.task.y[self.labels], reduction="sum")
        return total / max(len(self.labels), 1)

    def step(self, change: Callable[[Tensor, Tensor], Tensor] = lambda loss, scores: loss, then: Any = None) -> None:
        """Take one step on all labels of this worker; ``then`` is called with the gradients there."""
        self.net.train()
        self.optimizer.zero_grad()
        scores = self.forward()
        change(self.loss(scores), scores).backward()
        if then is not None:
            then()
        else:
            self.optimizer.step()

    def accuracy(self, part: str) -> float:
        """Return the accuracy on the nodes for ``"validation"`` or ``"test"``, in per cent."""
        self.net.eval()
        with torch.no_grad():
            right = self.forward().argmax(1) == self.task.y
        rest = self.task.test[self.split].nonzero().flatten()
        order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(self.split))
        chosen = order[:VALIDATION] if part == "validation" else order[VALIDATION:]
        return 100 * float(right[rest[chosen]].double().mean())


# ---------------------------------------------------------------- methods: each trains the net of a job


def alone(job: Job) -> None:
    """Train on the labels at hand."""
    for _ in range(int(COMMON["epochs"])):
        job.step()


def co_learning(job: Job) -> None:
    """Train in rounds; with a rate that stays and rounds that stay: plain averaging."""
    co = CoLearning(job.net, job.optimizer, **job.options)
    co.comm_stats.reset()
    for rnd in co.rounds(int(COMMON["epochs"])):
        for _ in rnd:
            job.step()
    job.syncs, job.num_bytes = len(co.trace), co.comm_stats.total


def all_reduce(job: Job) -> None:
    """Average the gradients in every step."""
    co = CoLearning(job.net, job.optimizer)  # for its ranks and its start alone
    co.comm_stats.reset()
    for _ in range(int(COMMON["epochs"])):
        job.step(then=lambda: _reduced(co, job))
    job.syncs, job.num_bytes = int(COMMON["epochs"]), co.comm_stats.total


def _reduced(co: CoLearning, job: Job) -> None:
    co.average_([p.grad for p in job.net.parameters() if p.grad is not None], "gradients")
    job.optimizer.step()


def gradient_push(job: Job) -> None:
    """Push half of the parameters to one peer in every step; one average at the end."""
    push = GradientPush(job.optimizer, job.net, **job.options)
    push.comm_stats.reset()
    for _ in range(int(COMMON["epochs"])):
        job.step(then=push.step)
    push.average()
    job.syncs, job.num_bytes = int(COMMON["epochs"]) + 1, push.comm_stats.total


def codistillation(job: Job) -> None:
    """Learn from what the peers say of all nodes; nets start alike here, and stay different."""
    distil = Codistillation(**job.options)
    distil.comm_stats.reset()
    for _ in range(int(COMMON["epochs"])):
        job.step(distil)
    job.syncs, job.num_bytes = int(COMMON["epochs"]) // distil.every, distil.comm_stats.total


@dataclass(frozen=True)
class Method:
    """How a net is trained, with the options that were chosen, and those that they were chosen among."""

    train: Callable[[Job], None]
    options: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    central: bool = False

    def choices(self) -> Iterator[dict[str, Any]]:
        """Yield all options of the grid."""
        for values in itertools.product(*self.grid.values()):
            yield {**self.options, **dict(zip(self.grid, values, strict=True))}


METHODS: dict[str, Method] = {
    "centralised": Method(alone, central=True),
    "local only": Method(alone),
    "all-reduce of gradients": Method(all_reduce),
    "plain averaging, every step": Method(co_learning, {"local_epochs": 1, "decay": 1.0, "epsilon": -1.0}),
    "co-learning": Method(
        co_learning,
        {"local_epochs": 2, "decay": 1.0, "epsilon": 0.01},
        {"local_epochs": (2, 5, 10), "decay": (0.25, 1.0), "epsilon": (0.01, 0.05)},
    ),
    "gradient push": Method(gradient_push),
    "gradient push, overlap": Method(gradient_push, {"overlap": True}),
    "codistillation of outputs": Method(
        codistillation, {"alpha": 1.0, "every": 10}, {"alpha": (0.3, 1.0, 3.0, 10.0), "every": (2, 10)}
    ),
}


class Case(NamedTuple):
    """What methods are compared on: a hypergraph, how its labels are dealt, and an optimizer."""

    data: str
    skew: str
    optimizer: str


class Worker:
    """What a rank of :class:`World` answers."""

    def __init__(self, rank: int, size: int, base: Path) -> None:
        self.rank, self.size, self.tasks = rank, size, load(base, 10)

    def run(self, method: str, options: Mapping[str, Any], case: Case, split: int, test: bool) -> dict[str, Any]:
        """Train, and score."""
        job = Job(self.tasks[case.data], split, self.rank, self.size, case.skew, options, case.optimizer)
        began = time.perf_counter()
        METHODS[method].train(job)
        out = {"syncs": job.syncs, "bytes": job.num_bytes, "seconds": time.perf_counter() - began}
        scores = {part: job.accuracy(part) for part in ("validation", *(["test"] if test else []))}
        return {**scores, **out}


def measure(
    world: World, method: str, options: Mapping[str, Any], case: Case, split: int, *, test: bool = True
) -> dict[str, float]:
    """Run a method once; accuracies are means over the workers, which differ where nobody averages."""
    found = world.ask("run", method, options, case, split, test)
    means = {key: statistics.fmean(entry[key] for entry in found) for key in found[0]}
    return {**means, "seconds": max(entry["seconds"] for entry in found)}


def tune(world: World, size: int, case: Case, only: Sequence[str]) -> None:
    """Print the validation accuracy of every option, on splits that no result is of."""
    for name, method in METHODS.items():
        if only and name not in only:
            continue
        for options in method.choices() if method.grid else ():
            runs = [measure(world, name, options, case, split, test=False) for split in TUNED_ON]
            score, syncs = spread([r["validation"] for r in runs], 1), statistics.fmean(r["syncs"] for r in runs)
            print(f"{', '.join(case)}, {size} workers, {name}, {options}: {score}, {syncs:.0f} syncs", flush=True)


def rows_of(world: World, size: int, case: Case, splits: Sequence[int], only: Sequence[str]) -> list[Row]:
    """Measure all methods of so many workers on one hypergraph."""
    rows = []
    for name, method in METHODS.items():
        if (only and name not in only) or method.central != (size == 1):
            continue
        runs = [measure(world, name, method.options, case, split) for split in splits]
        extra = {
            **case._asdict(),
            "workers": size,
            "syncs": [r["syncs"] for r in runs],
            "options": method.options,
        }
        rows.append(
            Row(
                name,
                [r["test"] for r in runs],
                validation=[r["validation"] for r in runs],
                seconds=[r["seconds"] for r in runs],
                extra={**extra, "bytes": [r["bytes"] for r in runs]},
            )
        )
        print(*cells(rows[-1]), sep=", ", flush=True)
    return rows


def cells(row: Row) -> list[str]:
    """Return the texts of :data:`COLUMNS`."""
    syncs, sent = (statistics.fmean(row.extra[key]) for key in ("syncs", "bytes"))
    scores = [spread(row.test, 1), spread(row.validation, 1)]
    where = [row.extra["data"], row.extra["skew"], str(row.extra["workers"]), row.extra["optimizer"], row.model]
    return [*where, *scores, f"{syncs:.0f}", f"{sent / 1e6:.2f}", f"{statistics.fmean(row.seconds):.1f}"]


NOTE = f"""
Test accuracy in per cent, mean ± sample deviation over splits {SPLITS[0]} to {SPLITS[-1]} of the authors of the data;
the split's number is the seed. The 140 labels are dealt over the workers: whole classes, class ``c`` to worker ``c``
modulo their number, or shares of each class drawn from a Dirichlet distribution of concentration 0.5. The hypergraph
and the words are known to all. {VALIDATION} nodes without a training label are for validation, the rest for
the test, scored once a run, after the last epoch. Where the workers' nets differ (local only, codistillation) it is the
mean over the workers.

One setting for all: {", ".join(f"{key} {value:g}" for key, value in COMMON.items())} full-batch steps. SGD
with Nesterov momentum 0.9 at rate 0.3, which the validation nodes of splits {TUNED_ON[0]} and {TUNED_ON[1]} chose for
one worker among 0.3, 1 and 3; Adam at rate 0.01. The options of co-learning and of codistillation were chosen with Adam
by the same nodes, the mean over both ways to deal (``--tune --on co-citation --optimizer adam``), and taken for both.
Syncs: how often
the workers wait for one another; MB: sent by a worker in training, in the mean.

\\* Wall time of the slowest worker, all workers on two shared cores: **not comparable** between methods, and no measure
of scaling.
"""


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("HYPERLEARN_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with hypergcn")
    parser.add_argument("--workers", type=int, nargs="+", default=[4], help="numbers of workers")
    parser.add_argument("--on", nargs="+", default=["co-authorship", "co-citation"], help="hypergraphs")
    parser.add_argument("--skew", nargs="+", default=list(SKEWS), choices=SKEWS, help="ways to deal the labels")
    parser.add_argument("--optimizer", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS, help="optimizers")
    parser.add_argument("--only", nargs="+", default=[], choices=METHODS, help="methods; all where absent")
    parser.add_argument("--tune", action="store_true", help="print the choice of the options, and score no test node")
    parser.add_argument("--out", type=Path, help="folder of the results (default: benchmarks/results; none if quick)")
    parser.add_argument("--quick", action="store_true", help="one split alone: the numbers mean nothing")
    args = parser.parse_args(arguments)
    began, place, rows = time.perf_counter(), environment(), []
    for size in ([] if args.tune else [1]) + args.workers:
        with World(size, Worker, args.data) as world:
            for chosen in itertools.product(args.on, args.skew if size > 1 else ["none"], args.optimizer):
                if args.tune:
                    tune(world, size, Case(*chosen), args.only)
                else:
                    rows += rows_of(world, size, Case(*chosen), SPLITS[:1] if args.quick else SPLITS, args.only)
    if args.tune:
        return rows
    keys = ("data", "workers", "skew", "optimizer")
    lines = [cells(row) for row in sorted(rows, key=lambda row: [row.extra[key] for key in keys])]
    print_table("Label-skewed node classification", COLUMNS, lines)
    folder = args.out or (None if args.quick else RESULTS)
    if folder is not None:
        seconds = time.perf_counter() - began
        note = f"{markdown_table(COLUMNS, lines)}{NOTE}\nThe whole run took {seconds / 60:.1f} minutes.\n"
        payload = {"settings": COMMON, "seconds": seconds, "rows": rows}
        for path in write_results("strategies", payload, note, place=place, folder=folder):
            print(path)
    return rows


if __name__ == "__main__":
    main()
