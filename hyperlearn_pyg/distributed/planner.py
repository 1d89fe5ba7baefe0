from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hyperlearn_pyg.distributed.loads import Machine, ModalityLoad, RelationLoad
from hyperlearn_pyg.distributed.placement import place
from hyperlearn_pyg.distributed.plan import ModalityPlan, as_size
from hyperlearn_pyg.distributed.traffic import workspace
from hyperlearn_pyg.errors import InputError, did_you_mean

#: More ranks without a modality are accepted where they make a step faster by more than this factor.
_WORTH_EMPTY = 1.1


class ModalityPlanner:
    """Places modalities on ranks: as even in time as can be, within the memory of a rank.

    Args:
        loads: what each modality asks for, as :func:`modality_loads` counts it.
        relations: what each relation asks for in a step; without any, only the encoders count.
        seconds: measured times of a step by modality; they go before those of ``loads``.
        memory_limit: the most bytes a rank may hold; no limit where absent.
        exchange: as in :class:`ModalityPlan`; ``"auto"`` is decided here.
        shared_parameters: number of parameters that all ranks hold.
        itemsize: bytes a number that is sent.
        machine: what the estimates assume.
        shared_tensors: number of tensors that the shared parameters are in.

    Raises:
        ValueError: no modality, a doubled one, or an unknown one in ``relations`` or ``seconds``.
    """

    def __init__(
        self,
        loads: Iterable[ModalityLoad],
        relations: Iterable[RelationLoad] = (),
        *,
        seconds: Mapping[str, float] | None = None,
        memory_limit: int | None = None,
        exchange: str = "auto",
        shared_parameters: int = 0,
        itemsize: int = 4,
        machine: Machine | None = None,
        shared_tensors: int = 0,
    ) -> None:
        listed = list(loads)
        measured = dict(seconds or {})
        names = [load.name for load in listed]
        for name in measured:
            if name not in names:
                raise ValueError(f"'seconds' names {name!r}, which is no modality.{did_you_mean(name, names)}")
        self.loads = [replace(load, seconds=measured.get(load.name, load.seconds)) for load in listed]
        self.relations = list(relations)
        if memory_limit is not None and not memory_limit > 0:
            raise ValueError(f"'memory_limit' must be a positive number of bytes, or None (got {memory_limit})")
        if not names:
            raise ValueError("'loads' is empty: there is no modality to place")
        self.memory_limit = float("inf") if memory_limit is None else memory_limit
        self.blank = ModalityPlan(
            (tuple(names),),
            exchange=exchange,
            loads=tuple(self.loads),
            relations=tuple(self.relations),
            shared_parameters=shared_parameters,
            itemsize=itemsize,
            machine=machine or Machine(),
            shared_tensors=shared_tensors,
        )  # checks all names

    def plan(
        self, world_size: int, *, replicas: int | None = None, devices: Sequence[str] | None = None
    ) -> ModalityPlan:
        """Return the plan for a number of ranks.

        Up to as many ranks as modalities: a group a rank. Beyond that the ranks also divide over a data axis; of all
        meshes that fit, the one with the fastest modelled step. A rank may stay without a modality where that is
        clearly faster, or nothing else fits.

        Args:
            world_size: number of ranks.
            replicas: length of the data axis; chosen where absent.
            devices: the device of each rank.

        Raises:
            InputError: no placement keeps every rank within the memory limit; the numbers are named.
            ValueError: ``world_size`` is below 1, or no multiple of ``replicas``.
        """
        if world_size < 1:
            raise ValueError(f"'world_size' must be at least 1 (got {world_size})")
        if replicas is not None and (replicas < 1 or world_size % replicas):
            raise ValueError(f"'replicas' must divide the world size {world_size} (got {replicas})")
        found = [self._best_on(world_size // d, d) for d in self._data_axes(world_size, replicas)]
        plans = [plan for plan in found if plan is not None]
        if not plans:
            raise InputError(self._too_large(world_size, replicas or 1))
        return replace(_best(plans), devices=tuple(devices or ()))

    def _data_axes(self, world_size: int, replicas: int | None) -> list[int]:
        """Lengths of the data axis to try."""
        if replicas is not None:
            return [replicas]
        if world_size <= len(self.loads):
            return [1]
        return [d for d in range(1, world_size + 1) if world_size % d == 0]

    def _best_on(self, groups: int, replicas: int) -> ModalityPlan | None:
        seconds = [load.seconds for load in self.loads]
        memory = [load.memory for load in self.loads]
        owners = place(seconds, memory, groups, self.memory_limit - self._workspace(groups * replicas))
        if owners is None:
            return None
        members: list[list[str]] = [[] for _ in range(groups)]
        for load, group in zip(self.loads, owners, strict=True):
            members[group].append(load.name)
        plan = replace(self.blank, groups=tuple(map(tuple, members)), replicas=replicas)
        plan = replace(plan, exchange=plan.chosen_exchange)
        if max(plan.memory()) > self.memory_limit:  # "auto" took whole tables, and they do not fit
            plan = replace(plan, exchange="rows")
        return plan

    def _workspace(self, world_size: int) -> int:
        by_name = {load.name: load for load in self.loads}
        exchange, itemsize = self.blank.exchange, self.blank.itemsize
        return workspace(by_name, self.relations, world_size, exchange=exchange, itemsize=itemsize)

    def _too_large(self, world_size: int, replicas: int) -> str:
        largest = max(self.loads, key=lambda load: load.memory)
        total, buffer = sum(load.memory for load in self.loads), self._workspace(world_size)
        return (
            f"no placement of {len(self.loads)} modalities on {world_size // replicas} groups of ranks keeps within "
            f"the memory limit of {as_size(self.memory_limit)} a rank: they need {as_size(total)} in all, the largest, "
            f"{largest.name!r}, {as_size(largest.memory)}, and every rank {as_size(buffer)} for the rows of a step. "
            "Use more ranks, raise the limit, or lower the rank of the model or the batch size"
        )


def _best(plans: Sequence[ModalityPlan]) -> ModalityPlan:
    """Return the fastest plan; of plans about as fast, the one with the fewest ranks that hold nothing."""
    times = {plan: max(plan.seconds()) for plan in plans}
    best, *others = sorted(plans, key=lambda p: (p.groups.count(()) * p.replicas, times[p]))
    for plan in others:
        if times[plan] * _WORTH_EMPTY < times[best]:
            best = plan
    return best
