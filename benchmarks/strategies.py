"""Training strategies on dealt data: labels of co-authorship and co-citation Cora, users of MovieLens-100K.

On Cora every worker has the whole hypergraph and the words of all papers, and labels of its own alone; on MovieLens the
ratings of its own users alone. Settings were chosen on validation entries of other splits (``--tune`` prints that
choice); the test entries are scored once a run.
Run: ``python benchmarks/strategies.py``, or with ``--only co-learning`` some methods.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import _users
from _jobs import COMMON, OPTIMIZERS, Job, NodeJob, UserJob
from _ranks import World
from _workers import SPLITS, TUNED_ON, VALIDATION, choices, parser_of, run
from _workers import Method as Plain
from harness import Row, spread
from node_classification import load

from hyperlearn_pyg.distributed.strategies import Codistillation, CoLearning, GradientPush

COLUMNS = (
    "data",
    "skew",
    "workers",
    "optimizer",
    "method",
    "test",
    "validation",
    "syncs",
    "MB sent",
    "seconds*",
)
SKEWS = ("classes", "dirichlet")
MOVIELENS = "MovieLens"


# ---------------------------------------------------------------- methods: each trains the net of a job


def alone(job: Job) -> None:
    """Train on the labels at hand."""
    for _ in range(job.epochs):
        job.step()


def co_learning(job: Job) -> None:
    """Train in rounds; with a rate that stays and rounds that stay: plain averaging."""
    co = CoLearning(job.net, job.optimizer, **job.options)
    co.comm_stats.reset()
    for rnd in co.rounds(job.epochs):
        for _ in rnd:
            job.step()
    job.syncs, job.num_bytes = len(co.trace), co.comm_stats.total


def all_reduce(job: Job) -> None:
    """Average the gradients in every step."""
    co = CoLearning(job.net, job.optimizer)  # for its ranks and its start alone
    co.comm_stats.reset()
    for _ in range(job.epochs):
        job.step(then=lambda: _reduced(co, job))
    job.syncs, job.num_bytes = job.epochs, co.comm_stats.total


def _reduced(co: CoLearning, job: Job) -> None:
    co.average_([p.grad for p in job.net.parameters() if p.grad is not None], "gradients")
    job.optimizer.step()


def gradient_push(job: Job) -> None:
    """Push half of the parameters to one peer in every step; one average at the end."""
    push = GradientPush(job.optimizer, job.net, **job.options)
    push.comm_stats.reset()
    for _ in range(job.epochs):
        job.step(then=push.step)
    push.average()
    job.syncs, job.num_bytes = job.epochs + 1, push.comm_stats.total


def codistillation(job: Job) -> None:
    """Learn from what the peers say of all nodes; nets start alike here, and stay different."""
    distil = Codistillation(**job.options)
    distil.comm_stats.reset()
    for _ in range(job.epochs):
        job.step(distil)
    job.syncs, job.num_bytes = job.epochs // distil.every, distil.comm_stats.total


@dataclass(frozen=True)
class Method(Plain):
    """A method, with what was chosen for MovieLens, None where it does not apply."""

    users: Mapping[str, Any] | None = None
    users_grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    central: bool = False

    def options_on(self, data: str) -> Mapping[str, Any] | None:
        """Return the options that were chosen for some data."""
        return self.users if data == MOVIELENS else self.options

    def choices_on(self, data: str) -> Iterator[dict[str, Any]]:
        """Yield all options that they were chosen among."""
        if data != MOVIELENS:
            return self.choices() if self.grid else iter(())
        return choices(self.users or {}, self.users_grid) if self.users_grid else iter(())


RATES = {"rate": (1.0, 1.67)}
SIZES = {"l2": (0.05, 0.1, 0.2)}
PLAIN = {"local_epochs": 1, "decay": 1.0, "epsilon": -1.0}
METHODS: dict[str, Method] = {
    "centralised": Method(alone, {"rate": 1.67}, RATES, {"l2": 0.1}, SIZES, central=True),
    "local only": Method(alone, {"rate": 1.67}, {}, {"l2": 0.2}, SIZES),
    "all-reduce of gradients": Method(all_reduce, {"rate": 1.67}, {}, {"l2": 0.1}),
    "plain averaging, every step": Method(co_learning, {**PLAIN, "rate": 1.67}, RATES, {**PLAIN, "l2": 0.1}),
    "co-learning": Method(
        co_learning,
        {"local_epochs": 2, "decay": 1.0, "epsilon": 0.01, "rate": 1.67},
        {"rate": (0.33, 0.67, 1.0, 1.67, 3.3), "decay": (0.5, 1.0)},
        {"local_epochs": 5, "decay": 1.0, "epsilon": 0.01, "l2": 0.1},
        {"local_epochs": (2, 5, 10)},
    ),
    "gradient push": Method(gradient_push, {"rate": 1.67}, RATES, {"l2": 0.1}),
    "gradient push, overlap": Method(gradient_push, {"overlap": True, "rate": 1.67}, {}, {"overlap": True, "l2": 0.1}),
    "codistillation of outputs": Method(
        codistillation, {"alpha": 0.3, "every": 2}, {"alpha": (0.3, 1.0, 3.0, 10.0), "every": (2, 10)}
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
        self.rank, self.size, self.base = rank, size, base
        self.tasks: dict[str, Any] = {}

    def run(self, method: str, options: Mapping[str, Any], case: Case, split: int, test: bool) -> dict[str, Any]:
        """Train, and score."""
        if case.data not in self.tasks:
            self.tasks |= (
                {MOVIELENS: _users.load(self.base / "ml-100k")} if case.data == MOVIELENS else load(self.base, 10)
            )
        make = UserJob if case.data == MOVIELENS else NodeJob
        job = make(self.tasks[case.data], split, self.rank, self.size, case.skew, options, case.optimizer)
        began = time.perf_counter()
        METHODS[method].train(job)
        out = {"syncs": job.syncs, "bytes": job.num_bytes, "seconds": time.perf_counter() - began}
        return {**out, **{part: job.score(part) for part in ("validation", *(["test"] if test else []))}}


def measure(
    world: World, method: str, options: Mapping[str, Any], case: Case, split: int, *, test: bool = True
) -> dict[str, float]:
    """Run a method once; scores are over the entries of all workers: per cent of right ones, or the RMSE."""
    found = world.ask("run", method, options, case, split, test)
    out = {key: statistics.fmean(entry[key] for entry in found) for key in ("syncs", "bytes")}
    for part in ("validation", *(["test"] if test else [])):
        total, count = (sum(values) for values in zip(*(entry[part] for entry in found), strict=True))
        out[part] = math.sqrt(total / count) if case.data == MOVIELENS else 100 * total / count
    return {**out, "seconds": max(entry["seconds"] for entry in found)}


def tune(world: World, size: int, case: Case, only: Sequence[str]) -> None:
    """Print the validation score of every option, on splits that no result is of."""
    for name, method in METHODS.items():
        if (only and name not in only) or method.central != (size == 1):
            continue
        for options in method.choices_on(case.data):
            runs = [measure(world, name, options, case, split, test=False) for split in TUNED_ON]
            score = spread([r["validation"] for r in runs], _digits(case.data))
            syncs = statistics.fmean(r["syncs"] for r in runs)
            print(f"{', '.join(case)}, {size} workers, {name}, {options}: {score}, {syncs:.0f} syncs", flush=True)


def rows_of(world: World, size: int, case: Case, splits: Sequence[int], only: Sequence[str]) -> list[Row]:
    """Measure all methods of so many workers in one case."""
    rows = []
    for name, method in METHODS.items():
        options = method.options_on(case.data)
        if (only and name not in only) or method.central != (size == 1) or options is None:
            continue
        runs = [measure(world, name, options, case, split) for split in splits]
        kept = {key: [r[key] for r in runs] for key in ("syncs", "bytes")}
        rows.append(
            Row(
                name,
                [r["test"] for r in runs],
                validation=[r["validation"] for r in runs],
                seconds=[r["seconds"] for r in runs],
                extra={**case._asdict(), "workers": size, "options": options, **kept},
            )
        )
        print(*cells(rows[-1]), sep=", ", flush=True)
    return rows


def _digits(data: str) -> int:
    return 4 if data == MOVIELENS else 1


def cells(row: Row) -> list[str]:
    """Return the texts of :data:`COLUMNS`."""
    syncs, sent = (statistics.fmean(row.extra[key]) for key in ("syncs", "bytes"))
    scores = [spread(values, _digits(row.extra["data"])) for values in (row.test, row.validation)]
    where = [row.extra["data"], row.extra["skew"], str(row.extra["workers"]), row.extra["optimizer"], row.model]
    return [*where, *scores, f"{syncs:.0f}", f"{sent / 1e6:.2f}", f"{statistics.fmean(row.seconds):.1f}"]


def _chosen(on: Sequence[str]) -> str:
    """Name the options that were chosen, and what among."""
    found = []
    for name, m in METHODS.items():
        pairs = [(m.options, m.grid)] if set(on) - {MOVIELENS} else []
        pairs += [(m.users, m.users_grid)] if MOVIELENS in on and m.users is not None else []
        found += [f"{name}: {dict(options or {})} among {dict(grid)}" for options, grid in pairs if grid]
    return "; ".join(found)


NODES = f"""
Test accuracy in per cent, mean ± sample deviation over splits {SPLITS[0]} to {SPLITS[-1]} of the authors of the data;
the split's number is the seed. The 140 labels are dealt over the workers: whole classes, class ``c`` to worker ``c``
modulo their number, or shares of each class drawn from a Dirichlet distribution of concentration 0.5. The hypergraph
and the words are known to all. {VALIDATION} nodes without a training label are for validation, the rest for
the test, scored once a run, after the last epoch. Where the workers' nets differ (local only, codistillation) it is the
mean over the workers.

One setting for all: {", ".join(f"{key} {value:g}" for key, value in COMMON.items())} full-batch steps; Adam at rate
0.01, SGD with Nesterov momentum 0.9 at rate 0.3 times the option ``rate``. Options were chosen with SGD by the
validation nodes of splits {TUNED_ON[0]} and {TUNED_ON[1]} of co-citation Cora with 4 workers
(``--tune --on co-citation --optimizer sgd``), those of co-learning and codistillation by the mean over both ways to
deal, others by whole classes, and taken for both ways, all numbers of workers and both hypergraphs. Local epochs and
epsilon of co-learning were chosen before its rate, at rate 1, among 2, 5, 10 and 0.01, 0.05. All-reduce, overlap
and local only take the rate of plain averaging, of gradient push and of one worker.
"""
USERS = f"""
Test RMSE of split u1 of MovieLens-100K, mean ± sample deviation over seeds {SPLITS[0]} to {SPLITS[-1]}. The users are
dealt over the workers at random, with all of their ratings; a worker's test users are its own. Ratings are predicted by
{_users.FACTORS} factors and biases of user and film: those of the films are brought together, those of a user stay. A
tenth of u1.base, drawn by seed, is for validation and not trained on; the test is scored once a run. {_users.EPOCHS}
full-batch steps of Adam at rate {_users.RATE:g}. Options were chosen by validation with seeds {TUNED_ON[0]} and
{TUNED_ON[1]} and 4 workers (``--tune --on MovieLens``); what is not named takes ``l2`` of one worker. Codistillation
does not apply: workers have no common rows, and their films' factors no common axes.
"""
LAST = """
Syncs: how often the workers wait for one another; MB: sent by a worker in training, in the mean.

\\* Wall time of the slowest worker, all workers on two shared cores: **not comparable** between methods, and no measure
of scaling.
"""


def report(rows: list[Row]) -> tuple[str, Sequence[str], list[list[str]], str, Mapping[str, Any]]:
    """See :func:`_workers.run`."""
    keys = ("data", "workers", "skew", "optimizer")
    lines = [cells(row) for row in sorted(rows, key=lambda row: [row.extra[key] for key in keys])]
    on = {row.extra["data"] for row in rows}
    parts = [NODES] * bool(on - {MOVIELENS}) + [USERS] * (MOVIELENS in on)
    note = f"{''.join(parts)}\nOptions: {_chosen(sorted(on))}.\n{LAST}"
    return "Training strategies on dealt data", COLUMNS, lines, note, COMMON


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark."""
    parser = parser_of(__doc__, list(METHODS), "strategies", ["co-authorship", "co-citation", MOVIELENS])
    parser.add_argument("--skew", nargs="+", default=list(SKEWS), choices=SKEWS, help="ways to deal the labels")
    parser.add_argument("--optimizer", nargs="+", default=["sgd"], choices=OPTIMIZERS, help="optimizers for the labels")
    args = parser.parse_args(arguments)

    def cases(size: int) -> list[Case]:
        nodes = [name for name in args.on if name != MOVIELENS]
        found = [Case(*c) for c in itertools.product(nodes, args.skew if size > 1 else ["none"], args.optimizer)]
        return found + [Case(MOVIELENS, "users" if size > 1 else "none", "adam")] * (MOVIELENS in args.on)

    return run(args, Worker, cases, tune, rows_of, report)


if __name__ == "__main__":
    main()
