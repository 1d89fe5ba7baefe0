from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch.nn import Module

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.nn.decoder import CPDecoder, KruskalDecoder, PairwiseDecoder
from hyperlearn_pyg.nn.encoder import DiffusionEncoder, EmbeddingEncoder, RelationEncoder
from hyperlearn_pyg.nn.models.branch import Branch, needs
from hyperlearn_pyg.nn.models.config import ModelConfig
from hyperlearn_pyg.nn.models.inputs import ModelInputs, RelationSpec
from hyperlearn_pyg.nn.models.start import mean_value, start_biases, start_factors

if TYPE_CHECKING:
    from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn

#: Start of the biases of items without an entry, where these are never drawn as negatives: rarer than those with one.
_UNSEEN = -1.0


def relations_of(modality: str, relations: Mapping[str, RelationSpec]) -> list[str]:
    """Return the relations that a modality takes part in, in order."""
    return [name for name, spec in relations.items() if modality in spec.modalities]


def make_encoder(
    data: MultiModalHeteroData, modality: str, relations: Mapping[str, RelationSpec], config: ModelConfig
) -> Module:
    """Build the encoder of one modality as ``config`` says."""
    num_items = int(data[modality].num_nodes)
    in_channels = data[modality].x.size(1) if config.features and "x" in data[modality] else 0
    if config.encoder == "diffusion":
        return DiffusionEncoder(
            num_items,
            config.rank,
            in_channels=in_channels,
            hidden=config.hidden,
            order=config.cheb_order,
            steps=config.steps,
        )
    if config.encoder == "embedding":
        return EmbeddingEncoder(num_items, config.rank, in_channels=in_channels, dropout=config.dropout)
    biases = len(relations_of(modality, relations)) if config.bias else 0
    channels = [
        (spec.num_levels, spec.sizes[other])
        for spec in relations.values()
        for slot, m in enumerate(spec.modalities)
        for other in range(spec.order)
        if m == modality and other != slot
    ]
    if not channels and not in_channels:  # relations of one slot, no features: there is nothing to read
        return EmbeddingEncoder(num_items, config.rank, dropout=config.dropout)
    return RelationEncoder(
        channels,
        config.rank + biases,
        in_channels=in_channels,
        hidden=_table_width(relations, config),
        feature_hidden=config.feature_hidden,
        zero_channels=biases,
        dropout=config.dropout,
        node_dropout=config.node_dropout,
    )


def _table_width(relations: Mapping[str, RelationSpec], config: ModelConfig) -> int:
    """The width at which all hyperedge tables of all modalities stay within the limit."""
    rows = sum(spec.num_levels * sum(spec.sizes) * (spec.order - 1) for spec in relations.values())
    return max(1, min(config.hidden, config.max_table_parameters // max(rows, 1)))


def make_decoder(spec: RelationSpec, config: ModelConfig) -> KruskalDecoder:
    """Build the decoder of one relation as ``config`` says."""
    if config.decoder.startswith("pairwise") and spec.order > 1:
        product = config.decoder == "pairwise_cp"
        return PairwiseDecoder(spec.order, config.rank, bias=config.bias, product=product)
    around_ones = config.decoder == "cp_around_ones"
    return CPDecoder(spec.order, config.rank, bias=config.bias, around_ones=around_ones)


def make_branch(
    data: MultiModalHeteroData,
    modality: str,
    relations: Mapping[str, RelationSpec],
    config: ModelConfig,
    encoder: Module | None = None,
) -> Branch:
    """Build the branch of one modality around ``encoder``, or around the encoder that ``config`` says.

    A given encoder that takes ``x`` and states its ``in_channels``, as PyG's modules do, reads a learnt table of that
    width where the modality has no features.
    """
    if encoder is None:
        encoder = make_encoder(data, modality, relations, config)
    width = getattr(encoder, "in_channels", 0)
    lacks_x = "x" not in data[modality] and "x" in needs(encoder) and isinstance(width, int)
    return as_branch(modality, encoder, relations, config, table=max(width, 0) if lacks_x else 0)


def as_branch(
    modality: str, encoder: Module, relations: Mapping[str, RelationSpec], config: ModelConfig, *, table: int = 0
) -> Branch:
    """Wrap an encoder with the biases of its modality, and a table of width ``table`` for features it lacks."""
    if isinstance(encoder, Branch):
        return encoder
    sizes = {m: n for spec in relations.values() for m, n in zip(spec.modalities, spec.sizes, strict=True)}
    if modality not in sizes:
        raise ValueError(f"modality {modality!r} takes part in no relation: nothing could be learnt for it")
    num_biases = len(relations_of(modality, relations)) if config.bias else 0
    return Branch(encoder, sizes[modality], config.rank, num_biases, table)


@torch.no_grad()
def start(model: HyperLearn, inputs: ModelInputs, seed: int) -> None:
    """Set offsets, biases and start factors from the entries of ``inputs``."""
    placed: set[str] = set()
    for name, spec in model.relations.items():
        tuples, decoder = inputs.tuples[name], model.decoders[name]
        if spec.has_value:
            decoder.offset.copy_(mean_value(tuples))
            if model.config.clamp and tuples.value is not None and len(tuples):
                decoder.range.copy_(torch.stack(tuples.value.aminmax()))
        if decoder.bias:
            biases = start_biases(tuples, spec.sizes)
            if not spec.has_value and model.config.negatives == "seen":
                biases = [b.masked_fill(tuples.counts(s, len(b)) == 0, _UNSEEN) for s, b in enumerate(biases)]
            _place_biases(model, name, spec, biases)
        new = [m for m in spec.modalities if m not in placed and hasattr(model.encoders[m].encoder, "start")]
        if new:
            factors = start_factors(tuples, spec.sizes, model.rank, seed=seed)
            for m, table in zip(spec.modalities, factors, strict=True):
                if m in new and m not in placed:
                    model.encoders[m].encoder.start.copy_(table)
                    placed.add(m)


def _place_biases(model: HyperLearn, name: str, spec: RelationSpec, biases: list[torch.Tensor]) -> None:
    for m in dict.fromkeys(spec.modalities):
        table = model.encoders[m].bias
        same = [b for b, slot in zip(biases, spec.modalities, strict=True) if slot == m]
        table[:, relations_of(m, model.relations).index(name)] = torch.stack(same).mean(0).to(table)
