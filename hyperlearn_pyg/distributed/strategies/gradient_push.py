from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import Module

from hyperlearn_pyg.distributed.strategies import _tensors
from hyperlearn_pyg.distributed.strategies.base import Strategy
from hyperlearn_pyg.errors import InputError

#: Gives the rank that a rank sends to in a step: ``graph(step, rank, world_size)``.
Graph = Callable[[int, int, int], int]


def exponential_graph(step: int, rank: int, world_size: int) -> int:
    """Return the peer at distance 1, 2, 4, ... in turn, one a step; after ``log2(world_size)`` steps all have met."""
    hops = max((world_size - 1).bit_length(), 1)
    return (rank + (1 << step % hops)) % world_size


class GradientPush(Strategy):
    r"""Replicas that send half of their parameters to one peer a step, in place of a sum over all ranks.

    After Assran et al., `Stochastic Gradient Push <https://arxiv.org/abs/1811.10792>`_. Rank :math:`i` has a vector
    :math:`x_i` and a weight :math:`w_i`, at first 1. In each step the optimizer moves :math:`x_i` by the gradient at
    :math:`z_i = x_i / w_i`, which is what the module holds; then :math:`(x_i, w_i) / 2` goes to the peer of that step,
    and what comes is added to the half that stayed. The weights sum to the number of ranks at all times. With
    :func:`exponential_graph` on :math:`2^k` ranks, ``k`` steps without gradients give every rank the mean, exactly.
    The graph is known to all ranks, so that each computes all weights, and no weight is sent. The loop stays as it is::

        optimizer = GradientPush(torch.optim.Adam(model.parameters()), model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    At the start every rank takes the parameters and buffers of rank 0, on the device where they then stay. Float
    buffers are pushed as parameters are; the state of the optimizer stays local. :meth:`average` gives all ranks one
    module at the end. Make schedulers for the inner optimizer, and save that one.

    Args:
        optimizer: any optimizer of the module's parameters that needs no closure.
        module: what is trained.
        overlap: send while the next gradients are computed. Then what comes is added one step later than it would be,
            so replicas lie further apart at equal steps; and as much memory again as the parameters take is in use
            during the step.
        graph: who sends to whom, the same on all ranks.
        process_group: see :class:`Strategy`.
        mesh: see :class:`Strategy`.
        timeout: see :class:`Strategy`.

    Attributes:
        weights: the push-sum weights of all ranks; with ``overlap`` those of what has arrived.
        steps: how many steps were taken.

    Raises:
        RanksDifferError: the ranks differ in module or arguments.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        module: Module,
        *,
        overlap: bool = False,
        graph: Graph = exponential_graph,
        process_group: Any = None,
        mesh: DeviceMesh | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(process_group=process_group, mesh=mesh, timeout=timeout)
        self.optimizer, self.module, self.overlap, self.graph = optimizer, module, overlap, graph
        self.weights, self.steps = [1.0] * self.world_size, 0
        self._pending: _Pending | None = None
        named = _tensors.averaged_tensors(module)
        self.require_alike(module=_tensors.describe(named), overlap=overlap, graph=getattr(graph, "__name__", ""))
        self.broadcast_(_tensors.all_tensors(module).values(), "start")
        self._held = list(named.values())

    @property
    def weight(self) -> float:
        """The push-sum weight of this rank."""
        return self.weights[self.rank]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the optimizer."""
        return self.optimizer.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Empty the gradients."""
        self.optimizer.zero_grad(set_to_none=set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step and send half of it to the peer of this step; every rank must call this.

        Args:
            closure: computes the loss and its gradients; called once.

        Raises:
            RankLostError: a rank died or does not answer.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.check()
        self._scale(self.weight)
        self.optimizer.step()
        if self.world_size > 1:
            self._receive()
            self._send()
            if not self.overlap:
                self._receive()
        self._scale(1 / self.weight)
        self.steps += 1
        return loss

    @torch.no_grad()
    def push(self) -> None:
        """Send and receive once, without a step of the optimizer; every rank must call this."""
        if self.world_size > 1:
            self.check()
            self._scale(self.weight)
            self._receive()
            self._send()
            self._receive()
            self._scale(1 / self.weight)
        self.steps += 1

    @torch.no_grad()
    def average(self) -> None:
        """Give all ranks the mean of the modules, to the last bit; every rank must call this."""
        if self.world_size > 1:
            self.check()
            self._scale(self.weight)
            self._receive()
            self.average_(self._held, "average")
            self.weights = [1.0] * self.world_size

    def restart(self) -> None:
        """Begin with weights of 1, from the module as it is now; what is on its way is dropped."""
        super().restart()
        if self._pending is not None:
            self._pending.rows()
        self.weights, self.steps, self._pending = [1.0] * self.world_size, 0, None

    def _scale(self, factor: float) -> None:
        if factor != 1.0:
            for tensor in self._held:
                tensor.mul_(factor)

    def _send(self) -> None:
        """Keep one half, and send the other on its way."""
        size, me = self.world_size, self.rank
        peers = [self.graph(self.steps, rank, size) for rank in range(size)]
        if any(not 0 <= peer < size for peer in peers):
            raise InputError(f"'graph' must give ranks below {size} (got {peers} in step {self.steps})")
        self._scale(0.5)
        self.weights = [w / 2 for w in self.weights]
        send, receive = [0] * size, [0] * size
        send[peers[me]] = 1
        for rank, peer in enumerate(peers):
            receive[rank] = int(peer == me)
        waits = {
            kind: self.wire.begin_all_to_all(flat[None], send, receive, "pushed")
            for kind, flat in _tensors.Flat(self._held).pack().items()
        }
        arriving = [sum(w for w, peer in zip(self.weights, peers, strict=True) if peer == r) for r in range(size)]
        self._pending = _Pending(arriving, waits)

    def _receive(self) -> None:
        """Wait for what is on its way, and add it in order of rank."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        flat = _tensors.Flat(self._held)
        flats = flat.pack()
        for kind, rows in pending.rows().items():
            for row in rows:
                flats[kind] += row
        flat.unpack_(flats)
        self.weights = [w + more for w, more in zip(self.weights, pending.weights, strict=True)]

    def _state(self) -> dict[str, Any]:
        """With ``overlap`` it waits for what is on its way, and keeps it apart, so that a resumed run is the same."""
        rows = [] if self._pending is None else [value.clone() for value in self._pending.rows().values()]
        arriving = None if self._pending is None else list(self._pending.weights)
        return {"weights": list(self.weights), "steps": self.steps, "arrived": rows, "arriving": arriving}

    def _load_state(self, state: dict[str, Any]) -> None:
        if len(state["weights"]) != self.world_size:
            raise InputError(
                f"'state_dict' is of {len(state['weights'])} ranks, these are {self.world_size}: load the module alone"
            )
        self.weights, self.steps, self._pending = list(state["weights"]), state["steps"], None
        if state["arriving"] is not None:
            kinds = _tensors.Flat(self._held).groups
            rows = {kind: value.to(kind[1]) for kind, value in zip(kinds, state["arrived"], strict=True)}
            self._pending = _Pending(list(state["arriving"]), {}, rows)


class _Pending:
    """A message on its way: the weights that arrive with it on each rank, and what waits for its rows."""

    def __init__(
        self,
        weights: list[float],
        waits: dict[_tensors.Kind, Callable[[], Tensor]],
        rows: dict[_tensors.Kind, Tensor] | None = None,
    ) -> None:
        self.weights, self.waits, self._rows = weights, waits, rows

    def rows(self) -> dict[_tensors.Kind, Tensor]:
        """Return what came, ``[senders, n]`` for each type; waits for it the first time."""
        if self._rows is None:
            self._rows = {kind: wait() for kind, wait in self.waits.items()}
            self.waits = {}
        return self._rows
