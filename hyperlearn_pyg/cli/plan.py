from __future__ import annotations

from collections.abc import Sequence

import torch

from hyperlearn_pyg.cli.fit import build
from hyperlearn_pyg.cli.source import Source
from hyperlearn_pyg.distributed import ModalityPlan, ModalityPlanner, RelationLoad, modality_loads
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.nn.encoder import DiffusionEncoder
from hyperlearn_pyg.nn.models.branch import needs
from hyperlearn_pyg.nn.models.inputs import ModelInputs
from hyperlearn_pyg.training import TrainConfig
from hyperlearn_pyg.training.steps import epoch_plan

_GRAPH = {"edge_index", "edge_weight", "laplacian"}
_MESSAGES = {"incidences", "hyperedge_index"}


def make_plan(
    source: Source, world_size: int, *, replicas: int | None = None, memory_limit: float | None = None
) -> ModalityPlan:
    """Plan the training of what ``hyperlearn fit`` would build for a source.

    Args:
        source: the data and the values of both configs.
        world_size: number of ranks.
        replicas: length of the data axis; chosen where absent.
        memory_limit: the most GiB a rank may hold.

    Raises:
        InputError: nothing fits within the memory limit, or ``replicas`` does not divide the world size.
    """
    if replicas is not None and world_size % replicas:
        raise InputError(f"--replicas: must divide the world size {world_size} (got {replicas})")
    if memory_limit is not None and not memory_limit > 0:
        raise InputError(f"--memory-limit: expected a positive number of GiB (got {memory_limit})")
    model, config = build(source)
    return plan_of(model, config, source, world_size, replicas=replicas, memory_limit=memory_limit)


def plan_of(
    model: HyperLearn,
    config: TrainConfig,
    source: Source,
    world_size: int,
    *,
    replicas: int | None = None,
    memory_limit: float | None = None,
    devices: Sequence[str] | None = None,
) -> ModalityPlan:
    """Plan the training of a model that was built for a source, as :func:`make_plan` does."""
    inputs = model.prepare(source.data, ("train",))
    width = max(branch.width for branch in model.encoders.values())
    planner = ModalityPlanner(
        modality_loads(model, source.data, width, edges=_edges(model, inputs), passes=_passes(model)),
        relation_loads(model, inputs, config),
        memory_limit=None if memory_limit is None else max(1, int(memory_limit * 2**30)),
        shared_parameters=sum(p.numel() for p in model.decoders.parameters()),
        shared_tensors=len(list(model.decoders.parameters())),
    )
    return planner.plan(world_size, replicas=replicas, devices=devices)


def relation_loads(model: HyperLearn, inputs: ModelInputs, config: TrainConfig) -> list[RelationLoad]:
    """Return what the largest step of an epoch asks for, relation by relation."""
    steps = epoch_plan(inputs, config, 0, 0)[1]
    loads, slots = [], model.predicted_slots()
    for name, spec in model.relations.items():
        batch = max(len(inputs.tuples[name].take(None if step is None else step[name])) for step in steps)
        loss = model.config.value_loss if spec.has_value else model.config.link_loss
        sizes = [spec.sizes[s] for s in slots[name]]
        candidates = _candidates(loss, model.config.num_negatives, batch, sizes) * len(sizes) // spec.order
        gram = _side(model, name) if loss == "all_cells" else 0
        loads.append(RelationLoad(name, spec.modalities, batch, candidates, gram))
    return loads


def _candidates(loss: str, drawn: int, batch: int, sizes: Sequence[int]) -> int:
    """Return the number of items of each slot that a tuple is compared with, on average over the slots."""
    most = {"logistic": drawn, "softmax": drawn, "in_batch_softmax": drawn + batch, "full_softmax": max(sizes)}
    if loss not in most:
        return 0
    if loss in ("logistic", "softmax"):
        return drawn
    return sum(min(most[loss], size) for size in sizes) // len(sizes)


def _side(model: HyperLearn, relation: str) -> int:
    """Return the number of Kruskal columns of a relation."""
    decoder = model.decoders[relation]
    return int(decoder.columns(0, torch.zeros(1, decoder.in_channels)).size(1))


def _edges(model: HyperLearn, inputs: ModelInputs) -> dict[str, int]:
    """Count the edges that each encoder really reads."""
    counts = {}
    for name, branch in inputs.branches.items():
        wanted = needs(model.encoders[name].encoder)
        counts[name] = branch.edge_index.size(1) if wanted & _GRAPH else 0
        if wanted & _MESSAGES:
            counts[name] += sum(channel.incidence.nnz for channel in branch.channels)
    return counts


def _passes(model: HyperLearn) -> dict[str, int]:
    """Return how often each encoder that repeats its layers does so."""
    encoders = {name: branch.encoder for name, branch in model.encoders.items()}
    return {name: max(1, e.steps) for name, e in encoders.items() if isinstance(e, DiffusionEncoder)}
