from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import torch

from hyperlearn_pyg.distributed.loads import Machine, ModalityLoad, RelationLoad
from hyperlearn_pyg.distributed.traffic import (
    EXCHANGES,
    choose_exchange,
    exchanged_bytes,
    gram_bytes,
    needed_rows,
    reduced_bytes,
    split_batch,
    vote_bytes,
    workspace,
)
from hyperlearn_pyg.errors import did_you_mean

_COUNTS = ("items", "edges", "parameters")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
#: Messages a step: rows, their gradients, the loss, the gradients of shared parameters.
_MESSAGES = 4


@dataclass(frozen=True)
class ModalityPlan:
    """Which ranks hold which modalities: plain arithmetic that can be printed, compared and saved.

    The ranks are a mesh of ``len(groups)`` by ``replicas``: rank ``r`` is replica ``r % replicas`` of group
    ``r // replicas``, as in ``init_device_mesh(type, (groups, replicas), mesh_dim_names=("modality", "data"))``.

    Args:
        groups: the modalities of each group of ranks; an empty group has none and still scores tuples.
        replicas: length of the data axis: ranks of a group hold the same modalities and share the tuples.
        devices: the device of each rank; each rank's own choice where empty.
        exchange: what is sent: ``"rows"`` (those that tuples name, each once), ``"full"`` (whole tables) or ``"auto"``.
        loads: what each modality asks for; none, or one for every modality.
        relations: what each relation asks for in a step.
        shared_parameters: number of parameters that all ranks hold, those of the decoders.
        shared_tensors: number of tensors that they are in.
        itemsize: bytes a number that is sent.
        machine: what the estimates assume.

    Raises:
        ValueError: a doubled modality, a wrong number of devices or loads, an unknown exchange or modality.
    """

    groups: tuple[tuple[str, ...], ...]
    replicas: int = 1
    devices: tuple[str, ...] = ()
    exchange: str = "auto"
    loads: tuple[ModalityLoad, ...] = ()
    relations: tuple[RelationLoad, ...] = ()
    shared_parameters: int = 0
    itemsize: int = 4
    machine: Machine = field(default_factory=Machine)
    shared_tensors: int = 0

    def __post_init__(self) -> None:
        for name, value in (("groups", _groups(self.groups)), ("devices", tuple(map(str, self.devices)))):
            object.__setattr__(self, name, value)
        for name in ("loads", "relations"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, low in (("replicas", 1), ("shared_parameters", 0), ("shared_tensors", 0), ("itemsize", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise ValueError(f"'{name}' must be a whole number of at least {low} (got {value!r})")
        self._check_choices()

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities, group by group."""
        return tuple(name for group in self.groups for name in group)

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return len(self.groups) * self.replicas

    @cached_property
    def owners(self) -> dict[str, int]:
        """The group of each modality."""
        return {name: number for number, group in enumerate(self.groups) for name in group}

    @property
    def chosen_exchange(self) -> str:
        """The exchange, with what ``"auto"`` stands for; ``"rows"`` where no relations are known."""
        if self.exchange != "auto":
            return self.exchange
        return choose_exchange(self._loads, self.relations, self.owners, len(self.groups), replicas=self.replicas)

    @property
    def digest(self) -> str:
        """The sha256 of the placement: what all ranks must agree in. Estimates may differ, by measured times, say."""
        placement = [self.groups, self.replicas, self.devices, self.chosen_exchange]
        return hashlib.sha256(json.dumps(placement, separators=(",", ":")).encode()).hexdigest()

    def coordinates(self, rank: int) -> tuple[int, int]:
        """Return the group and the replica of a rank.

        Raises:
            ValueError: there is no such rank.
        """
        if not 0 <= rank < self.world_size:
            raise ValueError(f"'rank' must be in [0, {self.world_size}) for this plan (got {rank})")
        return divmod(rank, self.replicas)

    def modalities_of(self, rank: int) -> tuple[str, ...]:
        """Return the modalities that a rank holds."""
        return self.groups[self.coordinates(rank)[0]]

    def ranks_of(self, modality: str) -> tuple[int, ...]:
        """Return the ranks that hold a modality.

        Raises:
            ValueError: the plan has no such modality.
        """
        if modality not in self.owners:
            hint = did_you_mean(modality, self.owners)
            raise ValueError(f"the plan has no modality {modality!r} (it has: {list(self.modalities)}).{hint}")
        return self._ranks(self.owners[modality])

    def device_of(self, rank: int) -> str | None:
        """Return the device of a rank; None where the rank is to choose."""
        self.coordinates(rank)
        return self.devices[rank] if self.devices else None

    def check(self, modalities: Iterable[str], *, world_size: int | None = None, rank: int | None = None) -> None:
        """Check the plan against a module and this machine, before anything is sent.

        Args:
            modalities: the modalities of the module.
            world_size: the number of ranks there are; not checked where absent.
            rank: this rank, whose device must be there; those of all ranks where absent.

        Raises:
            ValueError: a modality unknown to the module or missing from the plan, another number of ranks, or a device
                that does not exist.
        """
        wanted = list(modalities)
        for name in self.modalities:
            if name not in wanted:
                hint = did_you_mean(name, wanted)
                raise ValueError(f"the plan places {name!r}, which the module has not (it has: {wanted}).{hint}")
        missing = [name for name in wanted if name not in self.owners]
        if missing:
            raise ValueError(f"the plan places no {missing}: name every modality of the module in one of its groups")
        if world_size is not None and world_size != self.world_size:
            mesh = f"{len(self.groups)} groups x {self.replicas} replicas"
            raise ValueError(f"the plan is made for {self.world_size} ranks ({mesh}), there are {world_size}")
        if rank is not None:
            self.coordinates(rank)
        for number, device in enumerate(self.devices):
            if rank is None or rank == number:
                _check_device(device, number)

    def seconds(self) -> list[float]:
        """Return the modelled time of a step for each group: encoders, scores of its tuples, what it sends."""
        return [
            sum(self._loads[name].seconds for name in group) + self._decode_seconds(number) + self._send_seconds(sent)
            for number, (group, sent) in enumerate(zip(self.groups, self.bytes_sent(), strict=True))
        ]

    def memory(self) -> list[int]:
        """Return the bytes that a rank of each group holds: its modalities, and the rows that it reads in a step."""
        buffer = workspace(
            self._loads, self.relations, self.world_size, exchange=self.chosen_exchange, itemsize=self.itemsize
        )
        return [sum(self._loads[name].memory for name in group) + buffer for group in self.groups]

    def bytes_sent(self) -> list[int]:
        """Return the bytes that a rank of each group sends in a step, forward and backward.

        Rows and Gram matrices, the vote, and the sums of gradients: of shared parameters over the groups, and of all
        parameters over the replicas (as a ring sends them; with each tensor a number travels that tells how many ranks
        had a gradient). Of rows it is the number expected of uniform draws.
        """
        groups, size = len(self.groups), self.itemsize
        needed = needed_rows(self._loads, self.relations, groups, exchange=self.chosen_exchange, replicas=self.replicas)
        width = max((load.width for load in self.loads), default=0)
        rows = exchanged_bytes(self.owners, needed, groups, width=width, itemsize=size)
        grams = gram_bytes(self.owners, self.relations, groups, itemsize=size)
        shared = self.shared_parameters + self.shared_tensors
        own = [sum(self._loads[m].parameters + self._loads[m].tensors for m in group) for group in self.groups]
        reduced = [reduced_bytes(count + shared, self.replicas, itemsize=size) for count in own]
        common = grams + reduced_bytes(shared, groups, itemsize=size) + vote_bytes(self.world_size)
        return [sum(parts) + common for parts in zip(rows, reduced, strict=True)]

    @property
    def imbalance(self) -> float:
        """Encoder time of the slowest group over the mean of the groups; 1 where all take the same."""
        times = [sum(self._loads[name].seconds for name in group) for group in self.groups]
        return max(times) * len(times) / sum(times) if sum(times) else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain lists and dicts."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModalityPlan:
        """Build from what :meth:`to_dict` gave.

        Raises:
            ValueError: an unknown or missing key, or a value that makes no plan.
        """
        values = _known(cls, values, "a plan")
        if "groups" not in values:
            raise ValueError("a plan has no 'groups': expected a list with the modalities of each group")
        values["loads"] = [ModalityLoad(**_known(ModalityLoad, v, "a load")) for v in values.get("loads", ())]
        values["relations"] = [
            RelationLoad(**_known(RelationLoad, v, "a relation")) for v in values.get("relations", ())
        ]
        if "machine" in values:
            values["machine"] = Machine(**_known(Machine, values["machine"], "a machine"))
        return cls(**values)

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> ModalityPlan:
        """Build from what :meth:`to_json` gave.

        Raises:
            ValueError: no JSON object, or none that makes a plan.
        """
        return cls.from_dict(json.loads(text))

    def rows(self) -> list[dict[str, str]]:
        """Return the table of the plan, a row a group; without loads, only the placement."""
        out = []
        figures = list(zip(self.memory(), self.seconds(), self.bytes_sent(), strict=True))
        for number, group in enumerate(self.groups):
            ranks = self._ranks(number)
            row = {"group": str(number), "ranks": ", ".join(map(str, ranks)), "modalities": ", ".join(group) or "-"}
            if self.devices:
                row["devices"] = ", ".join(self.devices[rank] for rank in ranks)
            if self.loads:
                count = {k: sum(getattr(self._loads[name], k) for name in group) for k in _COUNTS}
                memory, seconds, sent = figures[number]
                row |= {key: f"{value:,}" for key, value in count.items()}
                row |= {"memory": as_size(memory), "step": f"{1000 * seconds:.2f} ms", "sent": as_size(sent)}
                if not self._knows_data:
                    row |= dict.fromkeys(("items", "edges", "step", "sent"), "?")
            out.append(row)
        return out

    def __str__(self) -> str:
        rows = self.rows()
        table = [list(rows[0]), *([row[key] for key in row] for row in rows)]
        widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
        lines.insert(1, "  ".join("-" * width for width in widths))
        mesh = f"{len(self.groups)} x {self.replicas} (modality x data)"
        lines.append(f"world size {self.world_size} = {mesh}, exchange {self.chosen_exchange}")
        empty = [rank for number, group in enumerate(self.groups) if not group for rank in self._ranks(number)]
        if empty:
            lines.append(f"ranks without a modality score tuples and no more: {', '.join(map(str, empty))}")
        if self.loads and not self._knows_data:
            lines.append("by the parameters alone; 'hyperlearn plan', or modality_loads(...), knows the data as well")
        elif self.loads:
            m = self.machine
            lines.append(f"estimated step {1000 * max(self.seconds()):.2f} ms, imbalance {self.imbalance:.2f}")
            lines.append(
                f"modelled with {m.flops:.3g} flop/s, memory {m.memory_bandwidth:.3g} B/s, network "
                f"{m.network_bandwidth:.3g} B/s, latency {m.latency:.3g} s, {m.overhead:.3g} s an encoder"
            )
        return "\n".join(line.rstrip() for line in lines)

    @property
    def _knows_data(self) -> bool:
        """Tell whether the loads were counted on data, without which most estimates mean nothing."""
        return bool(self.relations) or any(load.items or load.width for load in self.loads)

    @cached_property
    def _loads(self) -> dict[str, ModalityLoad]:
        known = {load.name: load for load in self.loads}
        return {name: known.get(name, ModalityLoad(name)) for name in self.modalities}

    def _ranks(self, group: int) -> tuple[int, ...]:
        return tuple(range(group * self.replicas, (group + 1) * self.replicas))

    def _decode_seconds(self, group: int) -> float:
        """Time to score the tuples of a group's first replica: each reads its rows, and the candidates of a slot."""
        moved = flops = 0.0
        for relation in self.relations:
            tuples = split_batch(max(split_batch(relation.batch, self.replicas)), len(self.groups))[group]
            width = sum(self._loads[name].width for name in relation.modalities)
            moved += 12 * tuples * width * self.itemsize
            flops += 6 * tuples * width * relation.candidates
        return moved / self.machine.memory_bandwidth + flops / self.machine.flops

    def _send_seconds(self, sent: int) -> float:
        messages = _MESSAGES if self.world_size > 1 else 0
        return messages * self.machine.latency + sent / self.machine.network_bandwidth

    def _check_choices(self) -> None:
        choices = ("auto", *EXCHANGES)
        if self.exchange not in choices:
            hint = did_you_mean(self.exchange, choices)
            raise ValueError(f"'exchange' must be one of {list(choices)} (got {self.exchange!r}).{hint}")
        if self.devices and len(self.devices) != self.world_size:
            raise ValueError(
                f"'devices' must name one device a rank, {self.world_size} (got {len(self.devices)}), or none"
            )
        names = sorted(load.name for load in self.loads)
        if names and names != sorted(self.modalities):
            raise ValueError(f"'loads' must be those of the modalities {sorted(self.modalities)} (got {names})")
        for relation in self.relations:
            for name in relation.modalities:
                if name not in self.owners:
                    hint = did_you_mean(name, self.owners)
                    raise ValueError(f"relation {relation.name!r} names {name!r}, which the plan does not place.{hint}")


def as_size(count: float) -> str:
    """Return a number of bytes in the largest unit it fills."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.2f} {_UNITS[unit]}"


def _groups(groups: Iterable[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    found: dict[str, int] = {}
    if isinstance(groups, str):
        raise ValueError(f"'groups' must list the modalities of each group, as [['user'], ['film']] (got {groups!r})")
    listed = list(groups)
    for number, group in enumerate(listed):
        if isinstance(group, str):
            raise ValueError(f"group {number} must be a list of modalities: write [{group!r}]")
        for name in group:
            if not isinstance(name, str) or not name:
                raise ValueError(f"group {number} must hold names of modalities (got {name!r})")
            if name in found:
                raise ValueError(f"modality {name!r} is placed twice, in the groups {found[name]} and {number}")
            found[name] = number
    if not listed:
        raise ValueError("'groups' is empty: a plan needs at least one group of ranks")
    return tuple(tuple(group) for group in listed)


def _known(kind: Any, values: Any, what: str) -> dict[str, Any]:
    names = [known.name for known in fields(kind)]
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} must be a mapping with the keys {names} (got {values!r})")
    for key in values:
        if key not in names:
            raise ValueError(f"{what} has no key {key!r}.{did_you_mean(key, names)} Known: {', '.join(names)}")
    return dict(values)


def _check_device(name: str, rank: int) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"rank {rank}: {name!r} is no device: expected 'cpu', 'cuda', 'cuda:1' and so on") from error
    if device.type == "cpu":
        return
    try:
        count = torch.get_device_module(device.type).device_count()
    except (RuntimeError, AttributeError):
        count = 0
    if (device.index or 0) >= count:
        there = ", ".join(["'cpu'", *(f"'{device.type}:{i}'" for i in range(count))])
        raise ValueError(f"rank {rank}: the device {name!r} does not exist here (there are: {there})")
