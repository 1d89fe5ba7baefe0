from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import HyperLearn, ModelConfig, PairCounts
from hyperlearn_pyg.nn.models.inputs import RelationSpec, learnt_relations
from hyperlearn_pyg.nn.models.presets import model_config, resolve_preset
from hyperlearn_pyg.ops.seeds import seeded
from hyperlearn_pyg.training import TrainConfig
from hyperlearn_pyg.training.loop import held_out
from hyperlearn_pyg.tuning.defaults import default_space
from hyperlearn_pyg.tuning.space import Space

_NOT_COMPARED = ("device", "amp", "checkpoint_every")


class Problem:
    """What every trial of a search trains on, and the settings that it changes.

    Args:
        data: the data, or what gives it for a seed.
        preset: name of the preset.
        model: values of the model's config.
        train: values of the trainer's config.
        relations: the relations to learn from; all where absent.
        encoders: makes encoders of some modalities.
        repeats: number of trainings of a trial.

    Raises:
        InputError: a fault of the settings, or nothing is held out to choose by.
    """

    def __init__(
        self,
        data: MultiModalHeteroData | Callable[[int], MultiModalHeteroData],
        preset: str,
        model: dict[str, Any],
        train: dict[str, Any],
        relations: Sequence[str] | None,
        encoders: Callable[[MultiModalHeteroData, int], dict[str, Module]] | None,
        repeats: int,
        counts: Callable[[MultiModalHeteroData], dict[str, PairCounts]] | None = None,
    ) -> None:
        self.load = (lambda seed: data) if isinstance(data, MultiModalHeteroData) else data
        self.preset, self.model, self.train = preset, model, train
        self.relations, self.encoders, self.repeats, self.counts = relations, encoders, repeats, counts
        self._seed = TrainConfig().replace(**train).seed
        self._data: dict[int, MultiModalHeteroData] = {}
        self.model_config, self.train_config = self.configs({"model": {}, "train": {}})
        if not any(len(split_positions(self.data(0), name, ("val",))) for name in self.specs):
            raise InputError("nothing is held out to choose by: set train.val_fraction, or give the data a val_mask")

    def configs(self, changed: Mapping[str, Mapping[str, Any]]) -> tuple[ModelConfig, TrainConfig]:
        """Return both configs with some values changed."""
        preset = resolve_preset(self.preset, (spec.has_value for spec in self.specs.values()))
        model = model_config(preset, **{**self.model, **changed["model"]})
        return model, TrainConfig.from_preset(preset, **{**self.train, **changed["train"]})

    @cached_property
    def specs(self) -> dict[str, RelationSpec]:
        """The relations to learn from."""
        data = self._read(self._seed)
        if not data.hyperedge_types:
            raise InputError("the data has no relation to learn from")
        try:
            return learnt_relations(data, data.hyperedge_types if self.relations is None else self.relations)
        except ValueError as error:
            raise InputError(str(error)) from error

    def space(self) -> Space:
        """Return the space around the settings."""
        valued = (spec.has_value for spec in self.specs.values())
        return default_space(self.model_config, self.train_config, valued)

    def data(self, repeat: int) -> MultiModalHeteroData:
        """Return the data of a repeat: validation entries are drawn, and there is no other than them and training."""
        if repeat not in self._data:
            config = self.train_config.replace(seed=self._seed + repeat)
            held = held_out(self._read(config.seed), config)
            kept = {name: split_positions(held, name, ("train", "val")) for name in held.hyperedge_types}
            self._data[repeat] = held.hyperedge_subgraph(kept)
        return self._data[repeat]

    def build(self, changed: Mapping[str, Mapping[str, Any]], repeat: int) -> tuple[HyperLearn, TrainConfig]:
        """Return the model and the trainer's config of a training."""
        model, train = self.configs(changed)
        values = model.to_dict()
        rank, preset = values.pop("rank"), values.pop("preset")
        data = self.data(repeat)
        own = None if self.encoders is None else self.encoders(data, rank)
        terms = None if self.counts is None else self.counts(data)
        with seeded(self._seed + repeat):
            built = HyperLearn.from_data(
                data, rank, preset, relations=self.relations, encoders=own, counts=terms, **values
            )
        return built, train.replace(seed=self._seed + repeat, refit=False)

    def brief(self) -> dict[str, Any]:
        """Return what makes trials comparable."""
        train = {k: v for k, v in self.train_config.to_dict().items() if k not in _NOT_COMPARED}
        data = {name: [list(spec.slots), list(spec.sizes)] for name, spec in self.specs.items()}
        counts = {name: len(split_positions(self.data(0), name, ("train", "val"))) for name in self.specs}
        return {
            "data": {name: [*data[name], counts[name]] for name in data},
            "model": self.model_config.to_dict(),
            "train": train,
            "repeats": self.repeats,
            "contents": self._contents,
            "drawn": self._drawn,
        }

    @cached_property
    def _contents(self) -> dict[str, str]:
        """What the first training reads, as short digests by name; entries of the test are not among it."""
        data = self.data(0)
        found = {f"items of relation {name}": data.relation(name).index for name in self.specs}
        for store in data.stores:
            key = store._key
            what = f"relation {key}" if key in self.specs else f"modality {key}"
            what = f"graph {' '.join(key)}" if isinstance(key, tuple) else what
            if isinstance(key, tuple) and key[-1] in self.specs:  # its memberships: told by the items above
                continue
            found |= {f"{name} of {what}": value for name, value in store.items() if isinstance(value, Tensor)}
        return {name: _digest(tensor) for name, tensor in found.items()}

    @cached_property
    def _drawn(self) -> list[str]:
        """The relations without validation entries of their own: some are drawn from their training entries."""
        data = self._read(self._seed)
        fraction = self.train_config.val_fraction
        return [name for name in self.specs if fraction and not len(split_positions(data, name, ("val",)))]

    def _read(self, seed: int) -> MultiModalHeteroData:
        return self.load(seed)


def _digest(tensor: Tensor) -> str:
    """Return a short name of type, shape and values of a tensor."""
    plain = tensor.detach().cpu()
    plain = (plain.to_dense() if plain.layout is not torch.strided else plain).contiguous()
    told = hashlib.sha256(f"{plain.dtype} {list(plain.shape)}".encode())
    told.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return told.hexdigest()[:16]
