from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from typing_extensions import Self

from hyperlearn_pyg.distributed import _parts
from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.ranks import Ranks


class Held(Module):
    """What one rank holds of a module: the encoders of its modalities and what all ranks share, by its plain names."""

    module: Any
    plan: ModalityPlan
    ranks: Ranks
    names: list[str]

    def _share_registries(self, module: Module) -> None:
        """Be the module to everything that asks for parameters: names are then those of the plain module."""
        self.__dict__.update(module=module, _modules=module._modules, _parameters=module._parameters)
        self.__dict__.update(_buffers=module._buffers, training=module.training)
        self.__dict__["_inert"] = Parameter(torch.zeros(0))
        self.__dict__["call"] = _parts.Call(module)  # no submodule: it would call itself
        self._frozen: set[str] = set()

    def _place(self) -> None:
        """Drop the encoders of other ranks; bring what is left to its devices."""
        plan, encoders = self.plan, self.module.encoders
        places = [self.ranks.rank] if self.ranks.together else range(plan.world_size)
        groups = {place: plan.coordinates(place)[0] for place in places}
        self.local = [name for name in self.names if plan.owners[name] in groups.values()]
        for name in list(encoders.keys()):
            if name not in self.local:
                del encoders[name]
        missing = [name for name in self.local if name not in encoders]
        if missing:
            raise ValueError(f"the plan places {missing} on rank {self.ranks.rank}, which has no encoder for it")
        first = next(iter(places))
        given = plan.device_of(first)
        self.device = _parts.device_of(self.module) if given is None else torch.device(given)
        self.devices = {}
        if given is not None:
            self.module.to(self.device)
        for place, group in groups.items():
            for name in plan.groups[group]:
                named = plan.device_of(place)
                self.devices[name] = _parts.device_of(encoders[name], self.device)
                if named is not None:
                    self.devices[name] = torch.device(named)
                    encoders[name].to(self.devices[name])

    def shared(self) -> dict[str, Parameter]:
        """Return the trained parameters that every rank holds, by name."""
        return _parts.shared_parameters(self.module)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters of this rank; an empty one where it has none, so that an optimizer can be made."""
        first = True
        for entry in super().named_parameters(*args, **kwargs):
            first = False
            yield entry
        if first:
            yield _parts.INERT, self._inert

    def train(self, mode: bool = True) -> Self:
        """Set the mode of everything here; frozen encoders stay in evaluation mode."""
        super().train(mode)
        self.module.training = mode
        for name in self._frozen & set(self.local):
            self.module.encoders[name].eval()
        return self

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            module = self.__dict__.get("module")
            if module is None:
                raise
            return getattr(module, name)

    def placed(self, name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Bring the tensors that ``encode`` is given besides the data to the device of a modality."""
        device = self.devices[name]

        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device)
            return {key: move(entry) for key, entry in value.items()} if isinstance(value, Mapping) else value

        return {key: None if value is None else move(value) for key, value in kwargs.items()}
