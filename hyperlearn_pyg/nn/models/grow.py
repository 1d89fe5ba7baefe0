"""A model that is trained already takes one more modality; nothing of what it has is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch.nn import Module

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import did_you_mean
from hyperlearn_pyg.nn.models import build
from hyperlearn_pyg.nn.models.inputs import RelationSpec, check_sizes, learnt_relations
from hyperlearn_pyg.nn.models.rows import relations_of
from hyperlearn_pyg.ops.seeds import draw_seed

if TYPE_CHECKING:
    from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn


def new_relations(
    model: HyperLearn, name: str, data: MultiModalHeteroData, relations: Sequence[str] | None
) -> dict[str, RelationSpec]:
    """Describe the relations that come with the modality ``name``.

    Raises:
        ValueError: the modality is known or not in ``data``, no relation ties it, or a relation is known already or
            ties a modality that is not.
    """
    data.validate()
    if name in model.modalities:
        raise ValueError(f"the model has a modality {name!r} already")
    if name not in data.modalities:
        raise ValueError(f"'data' has no modality {name!r}.{did_you_mean(name, data.modalities)}")
    check_sizes(data, model.relations)
    if relations is None:
        known = [r for r in data.hyperedge_types if r not in model.relations]
        relations = [r for r in known if name in data.relation(r).modalities]
    specs = learnt_relations(data, relations, model.relations)
    for relation, spec in specs.items():
        if relation in model.relations:
            raise ValueError(f"'relations': the model has {relation!r} already; name new ones alone")
        strange = sorted(set(spec.modalities) - {*model.modalities, name})
        if strange:
            raise ValueError(
                f"relation {relation!r} ties {strange}, which the model does not know: add these modalities first, or "
                "leave the relation out with 'relations'"
            )
    if not relations_of(name, specs):
        raise ValueError(f"no new relation of 'data' ties {name!r}: nothing could be learnt for it")
    return specs


def grow(
    model: HyperLearn,
    name: str,
    data: MultiModalHeteroData,
    specs: dict[str, RelationSpec],
    encoder: Module | None,
    make: bool,
) -> None:
    """Give ``model`` the modality ``name`` and the relations ``specs``, and their start values."""
    seed, like = draw_seed(), next(iter(model.decoders.values())).offset
    parts: dict[str, Module] = {}
    if make:  # all relations, for the limit on tables counts all modalities
        parts[name] = build.make_branch(data, name, model.relations | specs, model.config, encoder, seed=seed)
    decoders = build.make_decoders(specs, model.config, seed)
    for part in (*parts.values(), *decoders.values()):
        part.to(device=like.device).train(model.training)
        if encoder is None or part in decoders.values():  # an encoder of one's own keeps its types
            part.to(dtype=like.dtype)
    for relation, spec in specs.items():
        for m in dict.fromkeys(spec.modalities):
            if model.config.bias and m in model.encoders:
                model.encoders[m].add_bias(relation)
    model.modalities.append(name)
    model.relations.update(specs)
    model.encoders.update(parts)
    model.decoders.update(decoders)
    inputs = model.prepare(data, ("train",))
    build.start(model, inputs, 0, relations=specs, modalities=parts)
    build.run_lazy(model, inputs, seed, parts)
