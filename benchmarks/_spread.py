"""What the ranks of ``modality_parallel.py`` do: training steps on a ring of modalities, counted and timed."""

from __future__ import annotations

import copy
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from _ranks import keep_memory
from torch import Tensor

from hyperlearn_pyg import HyperLearn, ModalityParallel, ModalityPlan, MultiModalHeteroData
from hyperlearn_pyg.cli.plan import make_plan
from hyperlearn_pyg.cli.source import Source
from hyperlearn_pyg.distributed.route import Layout, Tuples, distinct_rows
from hyperlearn_pyg.distributed.traffic import exchanged_bytes, reduced_bytes, split_batch, vote_bytes
from hyperlearn_pyg.distributed.wire import Wire
from hyperlearn_pyg.nn.models import build
from hyperlearn_pyg.ops.seeds import name_seed
from hyperlearn_pyg.training import TrainConfig
from hyperlearn_pyg.training.steps import epoch_plan
from hyperlearn_pyg.typing import TupleBatch

SEED = 0


@dataclass(frozen=True)
class Workload:
    """A ring: relation ``r`` ties modality ``r`` to the next one, so that each modality is in two slots, however many.

    With one modality the ring is one relation that ties it to itself, in two roles.

    Attributes:
        preset: of the model: ``"ratings"`` (relations with values) or ``"links"`` (0/1 relations).
        items: items of a modality.
        entries: entries of a relation.
        batch: targets of a step, over all relations.
        rank: width of the factors.
        hidden: width of the hyperedge tables of "ratings".
        features: features of an item.
        first: how many times larger the first modality is.
    """

    preset: str = "ratings"
    items: int = 20_000
    entries: int = 100_000
    batch: int = 8_192
    rank: int = 32
    hidden: int = 32
    features: int = 32
    first: int = 1

    def model(self) -> dict[str, Any]:
        """Return the values of the model's config."""
        return {"preset": self.preset, "rank": self.rank, "hidden": self.hidden}


def ring(modalities: int, work: Workload, here: Sequence[str] | None = None) -> MultiModalHeteroData:
    """Make the data; features and graphs only of the modalities that are ``here``, all where absent."""
    data = MultiModalHeteroData()
    names = [f"m{number}" for number in range(modalities)]
    for number, name in enumerate(names):
        size = work.items * (work.first if number == 0 else 1)
        data.add_modality(name, num_nodes=size)
        if here is None or name in here:
            generator = torch.Generator().manual_seed(name_seed(SEED, name))
            data[name].x = torch.randn(size, work.features, generator=generator)
            edges = torch.randint(size, (2, 4 * size), generator=generator)
            data[name, "linked", name].edge_index = torch.cat([edges, edges.flip(0)], dim=1)
    for number, name in enumerate(names):
        slots = [(name, "from"), (names[(number + 1) % modalities], "to")]
        generator = torch.Generator().manual_seed(name_seed(SEED, f"r{number}"))
        index = torch.stack(
            [torch.randint(int(data[m].num_nodes), (work.entries,), generator=generator) for m, _ in slots]
        )
        value = torch.randint(1, 6, (work.entries,), generator=generator).float()
        valued = value if work.preset == "ratings" else None
        data.add_hyperedges(f"r{number}", index, modalities=slots, value=valued)
    return data


class Tape:
    """What came out of the messages of a step, so that a rank can take the step again while the others sleep."""

    def __init__(self) -> None:
        self.mode, self.place = "off", 0
        self.kept: list[tuple[Any, list[Any], Tensor, Any]] = []
        live = Wire._timed

        def timed(wire: Wire, kind: str, num_bytes: int, call: Any, *args: Any) -> None:
            if self.mode == "alone":
                args[0].copy_(self.kept[self.place][2])  # the first argument is where the message goes
                self.place += 1
                return
            before = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args if self.mode == "live"]
            live(wire, kind, num_bytes, call, *args)
            if self.mode == "live":
                self.kept.append((call, before, args[0].clone(), wire.group))

        Wire._timed = timed  # type: ignore[method-assign]

    def rewind(self, mode: str) -> None:
        """Start a step: ``"live"`` keeps its messages, ``"alone"`` gives back what was kept."""
        self.mode, self.place = mode, 0
        if mode == "live":
            self.kept = []

    def send(self) -> None:
        """Send and get the messages that were kept, with nothing in between."""
        for call, args, _, group in self.kept:
            call(*args, group=group)


class Trainer:
    """Training steps on one of several ranks, a modality each, or of the plain module with all modalities.

    Args:
        rank: this rank.
        size: number of ranks.
        work: the workload.
        modalities: how many there are in the plain module; as many as ranks where absent, spread over these.
    """

    def __init__(self, rank: int, size: int, work: Workload, modalities: int | None = None) -> None:
        self.work, count = work, modalities or size
        self.prepare_process()
        torch.manual_seed(SEED)
        plan = ModalityPlan([[f"m{number}"] for number in range(size)], exchange="rows")
        here = None if modalities else plan.modalities_of(rank)
        data = ring(count, work, here)
        values = work.model()
        build.start_factors = _random_factors  # the time of a step does not hang on where it starts
        model = HyperLearn.from_data(data, preset=values.pop("preset"), only=here, **values)
        self.model: Any = model if modalities else ModalityParallel(model, plan, seed=SEED)
        self.model.train()
        self.inputs = self.model.prepare(data, ("train",))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.keep, self.targets = _parts_of(self.inputs.tuples)
        self.tape = Tape()
        self.number = 0

    def prepare_process(self) -> None:
        """Set up the allocator before the data is made."""
        keep_memory()

    def _batch(self) -> dict[str, Tensor]:
        """Draw the targets of the next step: of every relation as many."""
        generator = torch.Generator().manual_seed(self.number)
        sizes = split_batch(self.work.batch, len(self.targets))
        return {
            name: positions[torch.randint(len(positions), (size,), generator=generator)]
            for (name, positions), size in zip(self.targets.items(), sizes, strict=True)
        }

    def step(self, batch: Mapping[str, Tensor]) -> None:
        """Take one training step."""
        generator = torch.Generator().manual_seed(self.number)
        keep = self.keep if self.work.preset == "ratings" else {}
        loss = self.model.loss(self.inputs, batch, keep=keep, generator=generator, seed=self.number)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def live(self, late: float = 0.0) -> dict[str, Any]:
        """Take the next step with all ranks; return what it cost this one, and what the formula foretells it to send.

        Args:
            late: seconds that rank 0 sleeps before, so that the others wait for it.
        """
        self.number += 1
        self.tape.rewind("live")
        batch, before = self._batch(), self._sent()
        if late and self._rank() == 0:
            time.sleep(late)
        wall, cpu = time.perf_counter(), time.process_time()
        self.step(batch)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        row = {key: value - before[key] for key, value in self._sent().items()}
        return {"live": cpu, "wall": wall, **row, **self._foretold(batch)}

    def alone(self, steps: int) -> list[float]:
        """Take the last step again, some times and once before that, with the messages that came then.

        Returns:
            The processor seconds of each.
        """
        out = []
        for _ in range(steps + 1):
            batch = self._batch()
            self.tape.rewind("alone")
            began = time.process_time()
            self.step(batch)
            out.append(time.process_time() - began)
        return out[1:]

    def messages(self, times: int) -> dict[str, float]:
        """Send the messages of the last step again, with nothing in between; return seconds for one time."""
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            self.tape.send()
        return {
            "messages": (time.process_time() - cpu) / times,
            "messages_wall": (time.perf_counter() - wall) / times,
        }

    def _rank(self) -> int:
        return self.model.ranks.rank if isinstance(self.model, ModalityParallel) else 0

    def _sent(self) -> dict[str, float]:
        if not isinstance(self.model, ModalityParallel):
            return {"rows": 0, "sent": 0, "calls": 0}
        stats = self.model.comm_stats
        return {"rows": stats.exchanged, "sent": stats.total, "calls": sum(stats.calls.values())}

    def _foretold(self, batch: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the bytes of rows, and of everything, that the plan's formulas give for this batch."""
        if not isinstance(self.model, ModalityParallel):
            return {"rows_formula": 0, "sent_formula": 0}
        module, rank, size = self.model.module, self.model.ranks.rank, self.model.plan.world_size
        targets = module.targets(self.inputs, batch, generator=torch.Generator().manual_seed(self.number))
        rows = foretold_rows(targets, self.model.plan, module)[rank] if size > 1 else 0
        shared = list(self.model.shared().values())
        numbers = sum(p.numel() for p in shared) + len(shared)
        return {"rows_formula": rows, "sent_formula": rows + vote_bytes(size) + reduced_bytes(numbers, size)}

    def estimate(self) -> dict[str, Any]:
        """Return the planner's estimates for this data (all of it must be here), a modality a rank, and for one."""
        data = ring(len(self.model.modalities), self.work)
        model = {**self.work.model(), "clamp": True}
        train = {"batch_size": self.work.batch} if self.work.preset == "links" else {}
        source = Source("ring", data, {}, model=model, train=train)
        spread, whole = (make_plan(source, size, replicas=1) for size in (len(data.modalities), 1))
        return {
            "memory": max(spread.memory()),
            "memory_whole": max(whole.memory()),
            "imbalance": spread.imbalance,
            "bytes": max(spread.bytes_sent()),
        }

    def peak(self) -> int:
        """Return the largest resident memory of this process so far, in bytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def foretold_rows(targets: Sequence[TupleBatch], plan: ModalityPlan, module: Any) -> list[int]:
    """Return the bytes of rows and their gradients that each rank sends, by the formula of the plan."""
    size, entries, sizes = plan.world_size, [], {}
    for batch in targets:
        shares = tuple(split_batch(len(batch), size))
        sizes |= dict(zip(batch.modalities, module.relations[batch.relation].sizes, strict=True))
        entries.append(Tuples(batch.modalities, batch.index, shares))
        readers = sum(share > 0 for share in shares)
        for modality, items in zip(batch.modalities, batch.candidates, strict=False):
            counts = tuple(len(items) * (share > 0) for share in shares)
            entries.append(Tuples((modality,), items.repeat(readers)[None], counts))
    relations_of = [sum(name in batch.modalities for batch in targets) for name in sizes]
    width = module.rank + max(relations_of)
    needed = distinct_rows(entries, Layout(sizes, {name: plan.owners[name] for name in sizes}, size))
    return exchanged_bytes(plan.owners, needed, size, width=width)


def _random_factors(tuples: Any, sizes: Sequence[int], rank: int, *, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(size, rank, generator=generator) for size in sizes]


def _parts_of(tuples: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part the entries of each relation: half carry messages, half are targets."""
    keep, targets = {}, {}
    for name, entries in tuples.items():
        order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(name_seed(SEED, name)))
        targets[name] = order[: len(order) // 2]
        keep[name] = torch.ones(len(order)).index_fill_(0, targets[name], 0.0)
    return keep, targets


class Memory(Trainer):
    """A trainer that tells how much memory it added to a process that has taken a step of a toy already."""

    before = 0

    def __init__(self, rank: int, size: int, work: Workload, modalities: int | None = None) -> None:
        toy = Workload(work.preset, items=20, entries=60, batch=8, rank=2, hidden=2, features=2)
        super().__init__(0, 1, toy, 1)
        self.added(2)  # code is read in, and counts for nothing
        self.before = self.peak()
        super().__init__(rank, size, work, modalities)

    def prepare_process(self) -> None:
        """Leave the allocator as it is."""

    def added(self, steps: int) -> int:
        """Take some steps; return the bytes by which the peak of the process grew since before the data was made."""
        for _ in range(steps):
            self.number += 1
            self.step(self._batch())
        return self.peak() - self.before


class Wrapped:
    """A plain module and its like in a :class:`ModalityParallel` of one process: their steps in turn.

    Args:
        data: the data; ``preset`` "links" takes it as 0/1.
        preset: of the model.
    """

    def __init__(self, rank: int, size: int, data: MultiModalHeteroData, preset: str) -> None:
        del rank, size
        keep_memory()
        if preset == "links":
            for name in data.hyperedge_types:
                data[name].pop("value", None)
        torch.manual_seed(SEED)
        plain = HyperLearn.from_data(data, preset=preset)
        self.models: dict[str, Any] = {"plain": plain, "wrapped": ModalityParallel(copy.deepcopy(plain))}
        self.config = TrainConfig.from_preset(preset, epochs=1)
        self.inputs = plain.prepare(data, ("train",))
        self.optimizers = {
            name: torch.optim.Adam(model.parameters(), lr=self.config.lr, fused=True)
            for name, model in self.models.items()
        }

    def measure(self, steps: int) -> dict[str, list[float]]:
        """Return the seconds of the processor of each step, by name; who goes first changes from step to step."""
        keep, batches = epoch_plan(self.inputs, self.config, 0, 0)
        seconds: dict[str, list[float]] = {name: [] for name in self.models}
        for number in range(steps):
            names = list(self.models) if number % 2 else list(self.models)[::-1]
            for name in names:
                model, optimizer = self.models[name].train(), self.optimizers[name]
                generator = torch.Generator().manual_seed(number)
                began = time.process_time()
                loss = model.loss(self.inputs, batches[number % len(batches)], keep=keep, generator=generator)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                del loss  # its graph goes here, and not in the step of the other one
                seconds[name].append(time.process_time() - began)
        return seconds
