from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import Module

from hyperlearn_pyg.distributed.modality_parallel import ModalityParallel
from hyperlearn_pyg.distributed.strategies import _tensors
from hyperlearn_pyg.distributed.strategies.base import Strategy
from hyperlearn_pyg.errors import InputError


@dataclass(frozen=True)
class RoundTrace:
    r"""What the rule of :class:`CoLearning` saw in a round.

    Attributes:
        round: number of the round.
        epochs: local epochs of the round, :math:`T_i`.
        delta: relative change of the averaged parameters, :math:`\delta_i`.
        doubled: whether the next round is twice as long.
    """

    round: int
    epochs: int
    delta: float
    doubled: bool


class CoLearning(Strategy):
    r"""Replicas learn from data that stay where they are, and are averaged in rounds that become rarer.

    After Xu et al., `Collaborative Deep Learning Across Multiple Data Centers <https://arxiv.org/abs/1810.06877>`_.
    In round :math:`i` each rank trains :math:`T_i` epochs on its own data. The learning rate of epoch :math:`j` of the
    round is :math:`\eta_0 \lambda^{j / T_i}`, so that it starts anew in each. Then all parameters and float buffers are
    averaged, and

    .. math:: \delta_i = \frac{\lVert w_i - w_{i-1} \rVert}{\lVert w_{i-1} \rVert}, \qquad
        T_{i+1} = 2 T_i \text{ if } \delta_i \le \epsilon, \text{ else } T_i

    with :math:`w_i` the averaged parameters. The loop over epochs becomes two::

        co = CoLearning(model, optimizer)
        for rnd in co.rounds(total_epochs):
            for epoch in rnd:
                train(model, optimizer)

    At the start every rank takes the parameters and buffers of rank 0. The state of the optimizer stays local, and
    :class:`CoLearning` sets its learning rate, so use no scheduler besides. In one process there is one round of all
    epochs, and the learning rate is left alone.

    Args:
        module: what is trained; a :class:`~hyperlearn_pyg.distributed.ModalityParallel` together with ``mesh``.
        optimizer: of its parameters; its learning rates are :math:`\eta_0`.
        local_epochs: :math:`T_0`.
        decay: :math:`\lambda`; 1 for a constant rate.
        epsilon: :math:`\epsilon`; a negative one never doubles.
        process_group: see :class:`Strategy`.
        mesh: see :class:`Strategy`.
        timeout: see :class:`Strategy`. Ranks wait for the slowest at the end of a round.

    Attributes:
        trace: a :class:`RoundTrace` for each round that ended.

    Raises:
        InputError: an argument is out of range.
        RanksDifferError: the ranks differ in module or arguments.
    """

    def __init__(
        self,
        module: Module,
        optimizer: torch.optim.Optimizer,
        *,
        local_epochs: int = 1,
        decay: float = 0.25,
        epsilon: float = 0.01,
        process_group: Any = None,
        mesh: DeviceMesh | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(process_group=process_group, mesh=mesh, timeout=timeout)
        if local_epochs < 1:
            raise InputError(f"'local_epochs' must be at least 1 (got {local_epochs})")
        if not 0 < decay <= 1:
            raise InputError(f"'decay' must be in (0, 1] (got {decay})")
        if math.isnan(epsilon):
            raise InputError("'epsilon' must be a number (got nan)")
        self.module, self.optimizer, self.decay, self.epsilon = module, optimizer, decay, epsilon
        self.trace: list[RoundTrace] = []
        self._first_length, self._in_epoch = local_epochs, False
        self._round, self._start, self._done, self._length = 0, 0, 0, local_epochs
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        rule = {"local epochs": local_epochs, "decay": decay, "epsilon": epsilon}
        self.require_alike(module=_tensors.describe(_tensors.averaged_tensors(module)), rule=rule)
        self.broadcast_(_tensors.all_tensors(module).values(), "start")
        self._before = self._parameters()

    @property
    def epoch(self) -> int:
        """Number of epochs that are done, the one that is running included: save at its end."""
        return self._start + self._done + self._in_epoch

    def rounds(self, total_epochs: int) -> Iterator[Round]:
        """Yield rounds until so many epochs are done in all; a loaded state goes on in the midst of its round.

        Leaving a round with ``break`` ends it here with fewer epochs, and the ranks are averaged all the same.

        Args:
            total_epochs: epochs of each rank, the same on all.

        Raises:
            RankLostError: a rank died or does not answer.
            RanksDifferError: the ranks are in different rounds.
        """
        while self._start + self._done < total_epochs or self._done:
            length = self._length if self.world_size > 1 else total_epochs
            rnd = Round(self, max(min(self._start + length, total_epochs) - self._start, self._done))
            yield rnd
            rnd.end()

    def _epochs(self, length: int) -> Iterator[int]:
        while self._done < length:
            self._set_rates(self._done / length)
            self._in_epoch = True
            yield self._start + self._done
            self._in_epoch = False
            self._done += 1

    def _set_rates(self, position: float) -> None:
        if self.world_size == 1:
            return
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.decay**position

    @torch.no_grad()
    def _end_round(self, length: int) -> None:
        self._in_epoch = False
        if self.world_size > 1:
            self.check()
            self.require_alike(round=self._round, start=self._start, epochs=length)
            self.average_(_tensors.averaged_tensors(self.module).values())
            self._set_rates(0.0)
            delta, now = self._delta()
            doubled = delta <= self.epsilon
            self.trace.append(RoundTrace(self._round, length, delta, doubled))
            self._length *= 1 + doubled
            self._before = now
        self._round += 1
        self._start, self._done = self._start + length, 0

    def _parameters(self) -> list[Tensor]:
        """Return a copy of the parameters, each of which one rank of a replica has."""
        if self.world_size == 1:
            return []
        named = dict(self.module.named_parameters())
        if isinstance(self.module, ModalityParallel):
            here = self.module.saved_names() if self.module.ranks.replica == 0 else set()
            named = {name: value for name, value in named.items() if name in here}
        return [value.detach().clone() for value in named.values()]

    def _delta(self) -> tuple[float, list[Tensor]]:
        """Return the relative change of the parameters, as rank 0 has it, and the parameters."""
        now = self._parameters()
        change = sum(float((a - b).abs().double().square().sum()) for a, b in zip(now, self._before, strict=True))
        size = sum(float(b.abs().double().square().sum()) for b in self._before)
        told = self.everyone.tell([self.rank, change, size])
        change, size = (math.fsum(entry[i] for entry in told if entry[0] == 0) for i in (1, 2))
        if size == 0:
            return (math.inf if change else 0.0), now
        return math.sqrt(change / size), now

    def restart(self) -> None:
        """Begin with the first round, from the module as it is now; all ranks have the same one."""
        super().restart()
        self.trace, self._in_epoch = [], False
        self._round, self._start, self._done, self._length = 0, 0, 0, self._first_length
        self._before = self._parameters()

    def _state(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "start": self._start,
            "done": self._done + self._in_epoch,
            "length": self._length,
            "rates": list(self._rates),
            "trace": [asdict(entry) for entry in self.trace],
            "before": [value.clone() for value in self._before],
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        shapes = [list(value.shape) for value in self._before]
        if [list(value.shape) for value in state["before"]] != shapes:
            raise InputError("'state_dict' is of a module with other parameters, or of another number of ranks")
        if len(state["rates"]) != len(self._rates):
            raise InputError(f"'state_dict' has {len(state['rates'])} learning rates, the optimizer {len(self._rates)}")
        self._round, self._start, self._done = state["round"], state["start"], state["done"]
        self._length, self._rates = state["length"], list(state["rates"])
        self.trace = [RoundTrace(**entry) for entry in state["trace"]]
        with torch.no_grad():
            for value, saved in zip(self._before, state["before"], strict=True):
                value.copy_(saved)
        self._in_epoch = False


class Round:
    """The epochs of one round: iterate over it once; after the last the ranks are averaged.

    Attributes:
        epochs: how many epochs it has.
    """

    def __init__(self, owner: CoLearning, epochs: int) -> None:
        self.owner, self.epochs, self._ended = owner, epochs, False

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the epochs, counted over all rounds."""
        yield from self.owner._epochs(self.epochs)
        self.end()

    def end(self) -> None:
        """Average the ranks, once."""
        if not self._ended:
            self._ended = True
            self.owner._end_round(self.epochs)
