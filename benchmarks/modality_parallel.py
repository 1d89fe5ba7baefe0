"""ModalityParallel: what a rank works and sends from 1 to 8 modalities, what the wrapper costs, and whether all agrees.

* scaling: a ring of modalities, one a rank, at a fixed number of targets a step and order 2: time of the processor per
  rank and step, bytes sent beside the plan's formula, and the plain module with all modalities as contrast. Ranks are
  processes whose work is measured **one at a time**, with the messages of a real step played back; what is counted is
  the time of the processor of each, not the wall. The times of a step on real machines are modelled from it;
* wrapper: the plain loop and a ``ModalityParallel`` of one process, in turn;
* memory: peak of a rank that is given the data of its own modality alone, beside the planner's estimate;
* metrics: the same test metrics from the plain loop and from a rank a modality, on data of orders 2, 3 and 4.

The exit status is 1 where a must is missed.

    python benchmarks/modality_parallel.py [--parts scaling,wrapper,memory,metrics] [--rounds 8] [--data ../shared/data]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from _ranks import World
from _same_metrics import SOURCES, Learner, load
from _spread import Memory, Trainer, Workload, Wrapped
from harness import RESULTS, environment, markdown_table, print_table, write_results

from hyperlearn_pyg.distributed import Machine

SIZES = (1, 2, 4, 8)
#: Judged: CPU per rank at the largest number of modalities over that at one; the wrapper over the plain loop.
CPU_MUST, CPU_GOAL, WRAPPER_MUST = 1.25, 1.05, 1.03
#: Largest difference of metrics and losses in float64.
EXACT = 1e-9
DIGITS = 4


@dataclass
class Part:
    """A finished part: tables (title, columns, rows), remarks, verdicts (what, found, must, goal, state), raw rows."""

    tables: list[tuple[str, Sequence[str], list[list[str]]]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    verdicts: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def judge(self, what: str, found: float, must: float, goal: float | None = None) -> None:
        """Judge a number that is to be small."""
        state = "MISSED" if found > must else "must met" if goal is None or found > goal else "goal met"
        self.verdicts.append((what, f"{found:.3f}", f"{must:g}", "" if goal is None else f"{goal:g}", state))

    def judge_equal(self, what: str, good: int, of: int) -> None:
        """Judge whether all of some comparisons came out equal."""
        self.verdicts.append((what, f"{good} of {of}", "all", "all", "goal met" if good == of else "MISSED"))


# ---------------------------------------------------------------------- scaling

CPU_COLUMNS = (
    "modalities",
    "rank ms, max",
    "mean",
    "work ms",
    "messages ms",
    "all at once ms",
    "plain ms",
    "bytes sent",
    "formula",
    "sent in ms",
    "modelled ms",
    "plain / modelled",
)


def scaling(rounds: int, *, work: Workload, sizes: Sequence[int] = SIZES) -> Part:
    """Measure both presets at a fixed batch, and contrasts that are not judged."""
    part, equal = Part(), [0, 0]
    for preset in ("ratings", "links"):
        own = replace(work, preset=preset)
        rows = _measure({str(size): (size, own) for size in sizes}, rounds, plain=True)
        cells = [_cells(rows[str(size)], rows[f"plain {size}"], equal) for size in sizes]
        part.tables.append((f"{preset}: {work.batch:,} targets a step, whatever the modalities", CPU_COLUMNS, cells))
        ratio = _most(rows[str(sizes[-1])]) / _most(rows[str(sizes[0])])
        part.judge(f"CPU per rank, {sizes[0]} to {sizes[-1]} modalities, {preset}", ratio, CPU_MUST, CPU_GOAL)
        part.raw[preset] = _brief(rows)
    part.remarks.append(
        "That a rank of links works less the more modalities there are has one reason: the targets of a step, of a "
        "fixed number, are scored by more ranks. The work of a rank for its own modality stays; what all relations "
        "cost each rank grows. The contrast that follows shows it."
    )
    few = replace(work, preset="links", batch=work.batch // sizes[-1])
    ends = {str(size): (size, replace(few, batch=few.batch * size)) for size in (sizes[0], sizes[-1])}
    large = {"large": (4, replace(work, preset="links", first=10))}
    rows = _measure({**ends, **large}, rounds, plain=False)
    first, last = (_most(rows[name]) for name in ends)
    part.remarks.append(
        f"Contrast, not judged: links with {few.batch:,} targets a rank, so that the batch grows with the modalities: "
        f"{1e3 * first:.1f} ms a rank and step with {sizes[0]}, {1e3 * last:.1f} ms with {sizes[-1]} "
        f"({last / first:.2f} times). Here nothing hides what {sizes[-1]} relations cost each rank."
    )
    times = [1e3 * _middle(rank, "cpu") for rank in rows["large"]]
    part.remarks.append(
        f"Unequal modalities: four, the first with {10 * work.items:,} items in place of {work.items:,} (links): "
        f"{', '.join(f'{t:.1f}' for t in times)} ms a rank and step, {max(times) / statistics.fmean(times):.2f} times "
        "the mean: the step waits for the largest modality."
    )
    part.raw["contrasts"] = _brief(rows)
    _waiting(part, replace(work, preset="links"), sizes[-1])
    part.judge_equal("steps of a rank in which the bytes sent equal the formula", *equal)
    return part


def _measure(worlds: dict[str, tuple[int, Workload]], rounds: int, *, plain: bool) -> dict[str, list[Any]]:
    """Return for each world a row a round of each rank; the worlds have their turns round by round."""
    with ExitStack() as stack:
        alive = {name: World(size, Trainer, work) for name, (size, work) in worlds.items()}
        if plain:
            alive |= {f"plain {size}": World(1, Trainer, work, size) for size, work in worlds.values()}
        for world in alive.values():
            stack.enter_context(world)
        for world in alive.values():
            world.ask("live")  # in the first step the ranks agree on what they do; it counts for nothing
        found: dict[str, list[Any]] = {name: [] for name in alive}
        for _ in range(rounds):
            for name, world in alive.items():
                told = zip(world.ask("live"), world.in_turn("alone", 2), world.ask("messages", 5), strict=True)
                rows = [{**live, "work": statistics.fmean(alone), **sent} for live, alone, sent in told]
                found[name].append([{**row, "cpu": row["work"] + row["messages"]} for row in rows])
        return {name: list(zip(*rows, strict=True)) for name, rows in found.items()}


def _brief(worlds: dict[str, list[Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return for each rank of each world the medians over the rounds, and the seconds of every round."""
    return {
        name: [
            {**{key: _middle(rank, key) for key in rank[0]}, "rounds": [row["cpu"] for row in rank]} for rank in ranks
        ]
        for name, ranks in worlds.items()
    }


def _middle(rank: Sequence[dict[str, float]], key: str) -> float:
    return statistics.median(row[key] for row in rank)


def _most(ranks: Sequence[Any], key: str = "cpu") -> float:
    """Return what a step asks of the rank of which it asks most."""
    return max(_middle(rank, key) for rank in ranks)


def _cells(ranks: Sequence[Any], plain: Sequence[Any], equal: list[int]) -> list[str]:
    machine, size = Machine(), len(ranks)
    right = [
        row["rows"] == row["rows_formula"] and row["sent"] == row["sent_formula"] for rank in ranks for row in rank
    ]
    equal[0], equal[1] = equal[0] + sum(right), equal[1] + len(right)
    sent, whole = _most(ranks, "sent"), _middle(plain[0], "cpu")
    latency = _most(ranks, "calls") * (size - 1) * machine.latency
    modelled = _most(ranks) + latency + sent / machine.network_bandwidth
    mean = statistics.fmean(_middle(rank, "cpu") for rank in ranks)
    times = [_most(ranks), mean, *(_most(ranks, key) for key in ("work", "messages", "live")), whole]
    return [
        str(size),
        *(f"{1e3 * seconds:.1f}" for seconds in times),
        f"{sent:,.0f}",
        f"{_most(ranks, 'sent_formula'):,.0f}",
        f"{1e3 * _most(ranks, 'messages_wall'):.1f}",
        f"{1e3 * modelled:.1f}",
        f"{whole / modelled:.2f}",
    ]


def _waiting(part: Part, work: Workload, size: int, late: float = 0.3) -> None:
    """Tell what a rank's processor does while the rank waits for another."""
    with World(size, Trainer, work) as world:
        world.ask("live")
        both = [[world.ask("live", wait)[1:] for _ in range(4)] for wait in (0.0, late)]
    middles = [[_middle(rank, "live") for rank in zip(*rows, strict=True)] for rows in both]
    burnt = statistics.median(b - a for a, b in zip(*middles, strict=True)) / late
    part.raw["waiting"] = burnt
    part.remarks.append(
        f"Waiting: with rank 0 {late:g} s late in every step, the processors of the other {size - 1} ranks, gloo's "
        f"threads included, worked {1e3 * burnt:.1f} ms more for each second waited: gloo sleeps, it does not spin."
    )


SCALING_NOTE = """
Relation r ties modality r to the next one, in a ring, so that every modality has two slots, whatever their number; one
modality alone is tied to itself in two roles. {work}. Ratings: half of the entries carry messages, the targets are of
the other half; links: 100 candidates a slot. A step is loss, backward pass and Adam; batches are drawn before, start
factors are random, the allocator keeps what is freed. Times are those of the processor, all threads of a process, in
the median over rounds; the worlds have their turns in every round. `work`: after a step of all ranks together, each
takes it again, alone, with the messages that came in it played back. `messages`: all ranks send the messages of that
step again, with nothing in between; on the loopback interface, the kernel's copies are in it. The first two columns are
the sum of both, the largest and the mean over ranks. `all at once`: the same in the step of all ranks together, where
they share cores, caches and memory, and wait: no measure of a machine a rank. Bytes: of a rank and step, the most over
ranks, of all kinds; a ring is assumed for sums. `sent in`: wall time of the messages, by ranks that share {cores} cores
with whatever else runs. Modelled, not measured: the busiest rank, plus for each message M - 1 latencies of {latency:g}
s, plus the bytes at {bandwidth:.3g} B/s.
"""

# ---------------------------------------------------------------------- wrapper

WRAPPER_COLUMNS = ("data", "preset", "plain ms", "wrapped ms", "ratio of medians", "ratio of minima")


def wrapper(rounds: int, *, folder: Path, sets: Sequence[str], steps: int = 20) -> Part:
    """Measure what the wrapper adds to a step in one process."""
    part, cells = Part(), []
    for data in sets:
        loaded = load(data, folder)
        for preset in ("ratings", "links"):
            with World(1, Wrapped, loaded, preset) as world:
                world.ask("measure", 4)
                told = [world.ask("measure", steps)[0] for _ in range(rounds)]
            plain, wrapped = ([s for row in told for s in row[name]] for name in ("plain", "wrapped"))
            ratio = statistics.median(wrapped) / statistics.median(plain)
            line = [1e3 * statistics.median(plain), 1e3 * statistics.median(wrapped), ratio, min(wrapped) / min(plain)]
            cells.append([data, preset, *(f"{value:.3f}" for value in line)])
            part.judge(f"ModalityParallel of one process over the plain loop, {data}, {preset}", ratio, WRAPPER_MUST)
            row = dict(zip(("plain_ms", "wrapped_ms", "ratio_of_medians", "ratio_of_minima"), line, strict=True))
            part.raw[f"{data} {preset}"] = {**row, "steps": len(plain)}
    part.tables.append(("One process: the wrapper beside the plain loop", WRAPPER_COLUMNS, cells))
    return part


# ---------------------------------------------------------------------- memory

MEMORY_COLUMNS = ("preset", "modalities", "rank MiB", "planned MiB", "measured / planned", "whole MiB", "planned whole")


def memory(*, work: Workload, sizes: Sequence[int] = (1, 2, 4)) -> Part:
    """Measure the peak of a rank that holds the data of one modality, and of the process that holds all."""
    part, cells = Part(), []
    for preset in ("ratings", "links"):
        own, peaks = replace(work, preset=preset), []
        for size in sizes:
            with World(size, Memory, own) as world:
                peaks.append(max(world.ask("added", 3)))
            with World(1, Memory, own, size) as world:
                whole = world.ask("added", 3)[0]
                plan = world.ask("estimate")[0]
            row = {"rank": peaks[-1], "whole": whole, **plan}
            part.raw[f"{preset} {size}"] = row
            mib = [row[key] / 2**20 for key in ("rank", "memory", "whole", "memory_whole")]
            text = [f"{value:.0f}" for value in mib]
            cells.append([preset, str(size), text[0], text[1], f"{mib[0] / max(mib[1], 1e-9):.2f}", *text[2:]])
        part.remarks.append(
            f"{preset}: the peak of a rank with {sizes[-1]} modalities is {peaks[-1] / max(peaks[0], 1):.2f} "
            f"times that with {sizes[0]}."
        )
    part.tables.append(("Peak memory added to a process", MEMORY_COLUMNS, cells))
    return part


# ---------------------------------------------------------------------- metrics

METRICS_COLUMNS = ("data", "order", "metric", "1 process", "a rank a modality", "same digits", "difference in float64")


def metrics(*, folder: Path, steps: int, sources: Sequence[str]) -> Part:
    """Train alone and over ranks with the same seeds, and compare the test metrics as printed."""
    part, cells, good = Part(), [], 0
    exact = 0.0
    for name in sources:
        data = load(name, folder)
        runs = {}
        for kind in ("float32", "float64"):
            for size in (1, len(data.modalities)):
                with World(size, Learner, data, kind) as world:
                    runs[kind, size > 1] = world.ask("learn", steps)[0]
        order = max(data.relation(relation).order for relation in data.hyperedge_types)
        for key, alone in runs["float32", False].metrics.items():
            one, many = (f"{value:.{DIGITS}f}" for value in (alone, runs["float32", True].metrics[key]))
            apart = abs(runs["float64", False].metrics[key] - runs["float64", True].metrics[key])
            good, exact = good + (one == many), max(exact, apart)
            cells.append([name, str(order), key, one, many, "yes" if one == many else "NO", f"{apart:.1e}"])
        for kind in ("float32", "float64"):
            pairs = zip(runs[kind, False].losses, runs[kind, True].losses, strict=True)
            apart = max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs)
            exact = max(exact, apart) if kind == "float64" else exact
            part.remarks.append(
                f"{name}: largest relative difference of the loss over {steps} steps, {kind}: {apart:.1e}."
            )
        part.raw[name] = {
            f"{kind} {'spread' if many else 'plain'}": run._asdict() for (kind, many), run in runs.items()
        }
    part.tables.append((f"Test metrics after {steps} steps", METRICS_COLUMNS, cells))
    part.judge_equal(f"float32 metrics with the same {DIGITS} digits", good, len(cells))
    state = "goal met" if exact <= EXACT else "MISSED"
    part.verdicts.append(("float64: largest difference of metrics and losses", f"{exact:.1e}", f"{EXACT:g}", "", state))
    return part


# ---------------------------------------------------------------------- all of it

VERDICT_COLUMNS = ("what", "found", "must", "goal", "verdict")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("HYPERLEARN_DATA", "../shared/data")
    parser.add_argument("--parts", default="scaling,wrapper,memory,metrics")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60, help="of training, for the metrics")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with ml-100k, hetrec-lastfm and tate")
    parser.add_argument("--out", type=Path, help="folder of the results (default: benchmarks/results; none if quick)")
    parser.add_argument("--quick", action="store_true", help="toy sizes, synthetic data: the numbers mean nothing")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)  # as the ranks do
    began, place = time.perf_counter(), environment()
    work = Workload(items=50, entries=400, batch=64, rank=4, hidden=4, features=4) if args.quick else Workload()
    sizes = (1, 2) if args.quick else SIZES
    sources = ["synthetic"] if args.quick else [name for name in SOURCES if name != "synthetic"]
    sets = list(SOURCES)[: 1 if args.quick else 2]
    runs: dict[str, Callable[[], Part]] = {
        "scaling": lambda: scaling(args.rounds, work=work, sizes=sizes),
        "wrapper": lambda: wrapper(args.rounds, folder=args.data, sets=sets, steps=2 if args.quick else 40),
        "memory": lambda: memory(work=work, sizes=sizes[:2] if args.quick else (1, 2, 4)),
        "metrics": lambda: metrics(folder=args.data, steps=args.steps, sources=sources),
    }
    parts = {}
    for name in args.parts.split(","):
        parts[name] = runs[name]()
        for table in parts[name].tables:
            print_table(*table)
        print("\n".join(parts[name].remarks), file=sys.stderr, flush=True)
    verdicts = [list(line) for part in parts.values() for line in part.verdicts]
    print_table("Verdicts", VERDICT_COLUMNS, verdicts)
    folder = args.out or (None if args.quick else RESULTS)
    if folder is not None:
        note = _note(parts, verdicts, work, time.perf_counter() - began)
        raw = _rounded({name: part.raw for name, part in parts.items()})
        payload = {"work": vars(work), "verdicts": verdicts, "parts": raw}
        print(*write_results("modality-parallel", payload, note, place=place, folder=folder))
    return int(any(line[-1] == "MISSED" for line in verdicts))


def _rounded(value: Any) -> Any:
    """Return nested rows with numbers of seven digits, beyond which these measurements say nothing."""
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _note(parts: dict[str, Part], verdicts: list[list[str]], work: Workload, seconds: float) -> str:
    texts = [markdown_table(VERDICT_COLUMNS, verdicts)]
    for name, part in parts.items():
        texts.append(f"## {name.capitalize()}\n")
        for title, columns, rows in part.tables:
            texts.append(f"{title}\n\n{markdown_table(columns, rows)}")
        if name == "scaling":
            sizes = f"{work.items:,} items a modality, {work.entries:,} entries a relation, rank {work.rank}"
            machine = Machine()
            texts.append(
                SCALING_NOTE.strip().format(
                    work=sizes, latency=machine.latency, bandwidth=machine.network_bandwidth, cores=os.cpu_count()
                )
                + "\n"
            )
        texts.append("\n".join(f"* {remark}" for remark in part.remarks) + "\n" if part.remarks else "")
    return "\n".join(text for text in texts if text) + f"\nThe whole run took {seconds / 60:.1f} minutes.\n"


if __name__ == "__main__":
    sys.exit(main())
