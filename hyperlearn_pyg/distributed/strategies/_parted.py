"""What strategies share that train parts of one network, dealt afresh in each round."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.distributed.strategies._initial import without_values
from hyperlearn_pyg.distributed.strategies._narrow import release
from hyperlearn_pyg.distributed.strategies.base import Strategy
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.ops.seeds import derive_seed


class Parted(Strategy):
    """Each worker trains a part of one network by itself; the base of :class:`GIST` and :class:`ResIST`.

    Attributes:
        rounds: how many rounds are done.
        seed: draws what each worker has.
    """

    rounds: int
    seed: int

    @contextmanager
    def round(self) -> Iterator[Module]:
        """Give the network of this worker for a round; what it has learnt returns to the whole at the end.

        Every rank must come here. The network is a new one in each round, and empty after it: make the optimizer
        within. An error within leaves the weights as they were before the round.

        Raises:
            RankLostError: a rank died, hangs, or raised within its round.
        """
        with self.guard():
            sub = self.take()
            yield sub
            self.give(sub)

    def take(self) -> Module:
        """Begin a round: return the network of this worker. For loops that no ``with`` block fits: :meth:`give` ends
        it, and what raises in between belongs under :meth:`guard`. Every rank must call it."""
        self.check()
        with self.guard():
            return self._part(self.hands())

    def give(self, sub: Module) -> None:
        """End the round that :meth:`take` began: the network returns to the whole, and is empty after that."""
        self.check()
        with self.guard():
            self._merge(sub, self.hands())
            self.rounds += 1
            release(sub)

    def restart(self) -> None:
        """Begin anew with the weights that the model of the beginning has now, the same on all ranks.

        Raises:
            InputError: nobody holds that model any more, or it has no values.
        """
        super().restart()
        model = self._source()
        if model is None or without_values(model):
            raise InputError(
                f"{type(self).__name__} cannot begin anew without a model that has values: make a new one from such a "
                "model"
            )
        self._keep(model)
        self.rounds = 0

    def _generator(self) -> torch.Generator:
        """Return the source of the permutations of the coming round, the same on all ranks."""
        return torch.Generator().manual_seed(derive_seed(self.seed, self.rounds))

    # ------------------------------------------------------------------ for the strategies

    @abstractmethod
    def hands(self) -> Sequence[Any]:
        """Return what each worker has in the coming round; no message is sent."""

    @abstractmethod
    def full_state_dict(self) -> dict[str, Tensor]:
        """Return the state dict of the whole model, on every rank. Every rank must call it."""

    @abstractmethod
    def _part(self, hands: Any) -> Module:
        """Return the network of this worker."""

    @abstractmethod
    def _merge(self, sub: Module, hands: Any) -> None:
        """Bring a trained network back; nothing is overwritten before all messages came through."""

    @abstractmethod
    def _source(self) -> Module | None:
        """Return the model of the beginning, if somebody still holds it."""

    @abstractmethod
    def _keep(self, model: Module) -> None:
        """Store this rank's part of a model, which has the same values on all ranks."""

    @abstractmethod
    def _parts(self) -> dict[str, dict[str, Tensor]]:
        """Return what this rank stores, by kind and name: the dicts themselves."""

    def _place(self) -> list[int]:
        """Return what a state must agree in: the rank, the number of workers, and what the strategy adds."""
        return [self.rank, self.world_size]

    # ------------------------------------------------------------------ state

    def _state(self) -> dict[str, Any]:
        tensors = {kind: {n: t.clone() for n, t in part.items()} for kind, part in self._parts().items()}
        return {"rounds": self.rounds, "seed": self.seed, "place": self._place(), **tensors}

    def _load_state(self, state: dict[str, Any]) -> None:
        own, theirs = self._place(), list(state["place"])
        if theirs != own:
            words = [
                f"rank {rank} of {size}{f' with {more[0]} dealt blocks' if more else ''}"
                for rank, size, *more in (own, theirs)
            ]
            raise InputError(
                f"'state_dict' must be of {words[0]} (got that of {words[1]}): save full_state_dict() to change the "
                "number of workers"
            )
        for kind, part in self._parts().items():
            for name, tensor in part.items():
                if name not in state[kind] or state[kind][name].shape != tensor.shape:
                    got = "nothing" if name not in state[kind] else list(state[kind][name].shape)
                    raise InputError(f"'state_dict' must have {name!r} of shape {list(tensor.shape)} (got {got})")
        self.rounds, self.seed = state["rounds"], state["seed"]
        for kind, part in self._parts().items():
            part.update({name: state[kind][name].detach().to(old, copy=True) for name, old in part.items()})
