from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.func import functional_call
from torch.nn import Module

from hyperlearn_pyg.distributed.modality_parallel import ModalityParallel
from hyperlearn_pyg.distributed.strategies import _tensors
from hyperlearn_pyg.distributed.strategies.base import Strategy
from hyperlearn_pyg.errors import InputError, did_you_mean

#: How far outputs ``[B, C]`` are from those of a peer: ``distance(own, peer)``.
Distance = Callable[[Any, Any], Tensor]


def kl_divergence(own: Tensor, peer: Tensor) -> Tensor:
    """Return the mean over rows of the divergence of the peer's classes from the own ones, of logits ``[B, C]``."""
    divergence = torch.nn.functional.kl_div(
        own.log_softmax(-1), peer.log_softmax(-1), reduction="none", log_target=True
    )
    return divergence.sum() / max(math.prod(own.shape[:-1]), 1)


def squared_error(own: Tensor, peer: Tensor) -> Tensor:
    """Return the mean squared difference of scores ``[B, ...]``."""
    return (own - peer).square().sum() / max(own.numel(), 1)


DISTANCES: dict[str, Distance] = {"kl": kl_divergence, "squared_error": squared_error}


class Codistillation(Strategy):
    r"""Replicas that learn from what their peers answer, and exchange a message only every so many steps.

    After Sodhani et al., `A Closer Look at Codistillation for Distributed Training
    <https://arxiv.org/abs/2010.02838>`_. The loss of a replica becomes

    .. math:: \ell + \alpha \frac{1}{P - 1} \sum_p D\big(f(x), \tilde f_p(x)\big)

    with :math:`\tilde f_p` peer :math:`p` as it was at the last exchange; no gradient goes there. Replicas start from
    parameters of their own and stay different. One line is added to the loop::

        distil = Codistillation(model, every=50)
        out = model(x, edge_index)
        loss = F.cross_entropy(out[train], y[train])
        loss = distil(loss, out, x, edge_index)
        loss.backward()

    There are two things that peers can exchange. With a ``module``, its parameters and float buffers: the peers are
    then called, in evaluation mode, on the same arguments, so each rank may have data of its own, but all modules have
    the same shapes. Without one, the outputs that the call is given: replicas may then be any functions, with different
    modalities or parameters, but the rows of ``out`` must mean the same on all ranks and in all steps (all nodes of a
    graph, or a fixed set of tuples). That is much less to send for large modules.

    Distilling regularises: less weight decay than without is usually right.

    Args:
        module: this replica's module, or None to exchange outputs.
        alpha: :math:`\alpha`; with 0 nothing is sent, and training is that of independent replicas.
        every: steps between two exchanges; None where only :meth:`exchange` makes them. Before the first nothing is
            distilled.
        distance: :math:`D`: ``"kl"`` for logits of classes, ``"squared_error"`` for scores, or ``distance(own, peer)``
            of whatever the module gives.
        process_group: see :class:`Strategy`.
        mesh: see :class:`Strategy`.
        timeout: see :class:`Strategy`.

    Attributes:
        steps: how often it was called in training.

    Raises:
        InputError: an argument is out of range, or the module is a
            :class:`~hyperlearn_pyg.distributed.ModalityParallel`, which exchanges outputs.
        RanksDifferError: the ranks differ in module or arguments.
    """

    def __init__(
        self,
        module: Module | None = None,
        *,
        alpha: float = 1.0,
        every: int | None = 50,
        distance: str | Distance = "kl",
        process_group: Any = None,
        mesh: DeviceMesh | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(process_group=process_group, mesh=mesh, timeout=timeout)
        if not 0 <= alpha < math.inf:
            raise InputError(f"'alpha' must be at least 0 (got {alpha})")
        if every is not None and every < 1:
            raise InputError(f"'every' must be at least 1 (got {every})")
        if isinstance(distance, str) and distance not in DISTANCES:
            raise InputError(
                f"'distance' must be one of {list(DISTANCES)} or a function (got {distance!r})."
                f"{did_you_mean(distance, DISTANCES)}"
            )
        if isinstance(module, ModalityParallel):
            raise InputError(
                "'module' is spread over ranks, so no rank can run a peer: pass None, and replicas exchange the scores "
                "of tuples that are the same in every step"
            )
        self.module, self.alpha, self.every = module, alpha, every
        self.distance = DISTANCES[distance] if isinstance(distance, str) else distance
        self.steps = 0
        self._peers: list[list[Tensor]] = []
        shapes = None if module is None else _tensors.describe(_tensors.averaged_tensors(module))
        name = distance if isinstance(distance, str) else getattr(distance, "__name__", "")
        self.require_alike(module=shapes, alpha=alpha, every=every, distance=name)

    def __call__(self, loss: Tensor, out: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the loss with what is distilled from the peers; every rank calls it in each step of training.

        Args:
            loss: of this replica, a scalar.
            out: its outputs ``[B, ...]``, with their gradient: of rows with and without labels.
            *args: what the module was called with to get them; nothing where outputs are exchanged.
            **kwargs: the same.

        Raises:
            RankLostError: a rank died or does not answer.
            RanksDifferError: outputs are exchanged, and differ in shape or type.
        """
        self.steps += 1
        if self.world_size == 1 or self.alpha == 0:
            return loss
        if self._peers:
            answers = self._answers(out, args, kwargs)
            found = torch.stack([self.distance(out, answer) for answer in answers]).mean()
            loss = loss + self.alpha * found
        if self.every is not None and self.steps % self.every == 0:
            self._exchange(out)
        return loss

    @torch.no_grad()
    def _answers(self, out: Any, args: Any, kwargs: Any) -> list[Tensor]:
        """Return what the peers say to the same arguments."""
        module = self.module
        if module is None:
            answers = [peer[0] for peer in self._peers]
            if answers[0].shape != out.shape:
                raise InputError(
                    f"'out' must have the same rows in every step where outputs are exchanged (was "
                    f"{list(answers[0].shape)}, is {list(out.shape)})"
                )
            return answers
        modes = {part: part.training for part in module.modules()}
        named = _tensors.averaged_tensors(module)
        module.eval()
        try:
            values = [dict(zip(named, peer, strict=True)) for peer in self._peers]
            return [functional_call(module, peer, args, kwargs) for peer in values]
        finally:
            for part, mode in modes.items():
                part.training = mode

    def exchange(self) -> None:
        """Take the peers' modules as they are now, beside what ``every`` says; every rank must call this.

        Raises:
            InputError: outputs are exchanged, which a call alone has.
        """
        if self.module is None:
            raise InputError("'exchange' needs a module: outputs are exchanged when the strategy is called with them")
        if self.world_size > 1 and self.alpha > 0:
            self._exchange()

    @torch.no_grad()
    def _exchange(self, out: Tensor | None = None) -> None:
        """Take the peers as they are now."""
        self.check()
        own = [] if self.module is None else list(_tensors.averaged_tensors(self.module).values())
        if self.module is None and out is not None:
            self.require_alike(out=[list(out.shape), str(out.dtype)])
            own = [out.detach()]
        flat = _tensors.Flat(own)
        kind = "outputs" if self.module is None else "parameters"
        tables = {key: self.wire.all_gather(value[None], kind) for key, value in flat.pack().items()}
        self._peers = []
        for rank in range(self.world_size):
            if rank != self.rank:
                copies = [torch.empty_like(value) for value in own]
                _tensors.Flat(copies).unpack_({key: table[rank] for key, table in tables.items()})
                self._peers.append(copies)

    def restart(self) -> None:
        """Forget the peers, and count the steps anew."""
        super().restart()
        self.steps, self._peers = 0, []

    def _state(self) -> dict[str, Any]:
        return {"steps": self.steps, "peers": [[value.clone() for value in peer] for peer in self._peers]}

    def _load_state(self, state: dict[str, Any]) -> None:
        if len(state["peers"]) not in (0, self.world_size - 1):
            raise InputError(
                f"'state_dict' is of {len(state['peers']) + 1} ranks, these are {self.world_size}: load the module "
                "alone"
            )
        device = None if self.module is None else next((p.device for p in self.module.parameters()), None)
        self.steps = state["steps"]
        self._peers = [[value.to(device, copy=True) for value in peer] for peer in state["peers"]]
