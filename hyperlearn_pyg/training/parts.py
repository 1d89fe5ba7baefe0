"""Parts of the encoders, one a rank, dealt afresh in each round: GIST and ResIST within a training."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.distributed.strategies import GIST, ResIST, Strategy
from hyperlearn_pyg.distributed.strategies._parted import Parted
from hyperlearn_pyg.distributed.strategies._tensors import averaged_tensors
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import ResidualHypergraphStack
from hyperlearn_pyg.ops.seeds import derive_seed
from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.replicas import Replicas

#: What each strategy deals, and which encoders have it.
_DEALS = {
    "gist": "has no hidden channels that can be dealt: choose model.encoder 'relation' or 'hypergraph_conv'",
    "resist": "has no residual blocks that can be dealt: choose model.encoder 'residual'",
}


@dataclass
class Place:
    """Where a part stands in the model.

    Attributes:
        name: of the module that is dealt.
        owner: the module it is in.
        attribute: its name there.
        whole: the module itself.
    """

    name: str
    owner: Module
    attribute: str
    whole: Module


def find_places(model: Any, strategy: str) -> list[Place]:
    """Return what a strategy deals of each encoder of a model.

    Raises:
        InputError: an encoder has nothing to deal.
    """
    names = {id(module): name for name, module in model.named_modules()}
    places = []
    for modality, branch in model.encoders.items():
        inner = branch.encoder
        if strategy == "gist":
            found = inner if getattr(inner, "channel_axes", None) is not None else None
        else:
            found = next((part for part in inner.modules() if isinstance(part, ResidualHypergraphStack)), None)
        if found is None:
            raise InputError(
                f"train.strategy: {strategy!r} cannot split this model: the encoder of {modality!r}, a "
                f"{type(inner).__name__}, {_DEALS[strategy]}, or another strategy"
            )
        path, _, attribute = names[id(found)].rpartition(".")
        places.append(Place(names[id(found)], model.get_submodule(path), attribute, found))
    return places


def check_strategy(model: Any, config: TrainConfig) -> None:
    """Check that the strategy of a config can split a model.

    Raises:
        InputError: it cannot.
    """
    if config.strategy in _DEALS:
        find_places(model, config.strategy)


class _Dealt:
    """One part of the model, and its moving averages, which are dealt alike."""

    def __init__(self, place: Place, kind: str, seed: int) -> None:
        self.place, self.kind, self.seed = place, kind, seed
        self.strategy = self._deal(place.whole)
        self.shadow: Parted | None = None
        self._sub: Module | None = None
        self._mean: Module | None = None

    def _deal(self, whole: Module) -> Parted:
        return GIST(whole, seed=self.seed) if self.kind == "gist" else ResIST(whole, seed=self.seed)

    def names(self) -> dict[str, str]:
        """Return the names of the parameters in the model, by those in the part."""
        return {name: f"{self.place.name}.{name}" for name, _ in self.place.whole.named_parameters()}

    def take(self, averages: dict[str, Tensor]) -> None:
        """Put this worker's part in the place of the whole."""
        if averages and self.shadow is None:
            whole = copy.deepcopy(self.place.whole)
            with torch.no_grad():
                for name, parameter in whole.named_parameters():
                    parameter.copy_(averages[f"{self.place.name}.{name}"])
            self.shadow = self._deal(whole)
            self.shadow.rounds = self.strategy.rounds
        self._sub = self.strategy.take()
        setattr(self.place.owner, self.place.attribute, self._sub)
        if self.shadow is not None:
            self._mean = self.shadow.take()
            for name in self.names().values():
                del averages[name]
            averages.update({f"{self.place.name}.{name}": p.data for name, p in self._mean.named_parameters()})

    def give(self, averages: dict[str, Tensor]) -> None:
        """Bring the part back, and put the whole in its place."""
        assert self._sub is not None, "a round was begun"
        self.strategy.give(self._sub)
        self.place.whole.load_state_dict(self.strategy.full_state_dict())
        self.leave()
        if self.shadow is not None and self._mean is not None:
            self.shadow.give(self._mean)
            means = self.shadow.full_state_dict()
            averages.update({long: means[name] for name, long in self.names().items()})
            self._mean = None

    def leave(self) -> None:
        """Put the whole in its place."""
        self._sub = None
        setattr(self.place.owner, self.place.attribute, self.place.whole)

    def restart(self, rounds: int) -> None:
        """Begin anew from the whole as it is now, after so many rounds."""
        self.strategy.restart()
        self.strategy.rounds, self.shadow = rounds, None


class Parts(Replicas):
    """Each rank trains a part of every encoder, and the rest of the model; the optimizer begins anew in each round.

    A round ends where the model is evaluated or saved. Then the parts return to the whole, and what all ranks have (the
    decoders, biases, what stays whole of the encoders) is averaged.
    """

    renewed = True

    @property
    def now(self) -> Strategy:
        """See :class:`Replicas`."""
        return self._parts[0].strategy

    def begin(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        """See :class:`Parallel`."""
        kind, seed = str(self.config.strategy), self.config.seed
        places = find_places(self.model, kind)
        self._parts = [_Dealt(place, kind, derive_seed(seed, number)) for number, place in enumerate(places)]
        self._round = False
        self.now.broadcast_(self._rest(averaged_tensors(self.model)).values(), "start")

    def _rest(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is not dealt, by name."""
        dealt = tuple(f"{part.place.name}." for part in self._parts)
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(dealt)}

    def part(self, averages: dict[str, Tensor]) -> bool:
        """See :class:`Parallel`."""
        if self._round:
            return False
        for dealt in self._parts:
            dealt.take(averages)
        self._round = True
        return True

    def _bring_together(self, averages: dict[str, Tensor]) -> None:
        for dealt in self._parts:
            dealt.give(averages)
        self._round = False
        self.now.average_(self._rest(averaged_tensors(self.model)).values(), "averaged weights")
        self.now.average_(self._rest(averages).values(), "averages")

    def abandon(self) -> None:
        """See :class:`Parallel`."""
        for dealt in self._parts:
            dealt.leave()

    def _kept(self) -> dict[str, Any]:
        return {"rounds": self._parts[0].strategy.rounds}

    def _go_on(self, kept: Mapping[str, Any], epochs: int) -> None:
        for dealt in self._parts:
            dealt.restart(kept.get("rounds", 0))
