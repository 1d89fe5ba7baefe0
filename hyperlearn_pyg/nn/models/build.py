from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Module

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.nn.decoder import (
    CommonNeighbors,
    CPDecoder,
    KruskalDecoder,
    LevelDecoder,
    PairCounts,
    PairwiseDecoder,
    TuckerDecoder,
)
from hyperlearn_pyg.nn.encoder import (
    DiffusionEncoder,
    EmbeddingEncoder,
    LevelConvEncoder,
    PartnerEncoder,
    RelationEncoder,
)
from hyperlearn_pyg.nn.models.branch import Branch, needs
from hyperlearn_pyg.nn.models.config import ModelConfig
from hyperlearn_pyg.nn.models.inputs import ModelInputs, RelationSpec
from hyperlearn_pyg.nn.models.residual_encoder import ResidualEncoder
from hyperlearn_pyg.nn.models.rows import relations_of, roles_of
from hyperlearn_pyg.nn.models.start import mean_value, start_biases, start_factors
from hyperlearn_pyg.ops.seeds import name_seed, seeded

if TYPE_CHECKING:
    from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn

#: Start of the biases of items without an entry, where these are never drawn as negatives: rarer than those with one.
_UNSEEN = -1.0


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
    if config.encoder == "residual":
        options: dict[str, Any] = {"in_channels": in_channels, "hidden": config.hidden, "dropout": config.dropout}
        return ResidualEncoder(num_items, config.rank, config.blocks, **options)
    channels = _channels(modality, relations)
    if config.encoder == "partner":
        count = len(channels)
        return PartnerEncoder(num_items, config.rank, count, in_channels=in_channels, dropout=config.dropout)
    if not channels and not in_channels:  # relations of one slot, no features: there is nothing to read
        return EmbeddingEncoder(num_items, config.rank, dropout=config.dropout)
    biases = len(relations_of(modality, relations)) if config.bias else 0
    options = {
        "in_channels": in_channels,
        "feature_hidden": config.feature_hidden,
        "zero_channels": biases,
        "dropout": config.dropout,
        "node_dropout": config.node_dropout,
    }
    if config.encoder == "hypergraph_conv":
        return LevelConvEncoder(num_items, channels, config.rank + biases, hidden=config.hidden, **options)
    width = _table_width(relations, config)
    return RelationEncoder(channels, config.rank + biases, hidden=width, **options)


def _channels(modality: str, relations: Mapping[str, RelationSpec]) -> list[tuple[int, int]]:
    """Return levels and items of each channel of messages to a modality: one per relation, slot and other slot."""
    return [
        (spec.num_levels, spec.sizes[other])
        for spec in relations.values()
        for slot, m in enumerate(spec.modalities)
        for other in range(spec.order)
        if m == modality and other != slot
    ]


def _table_width(relations: Mapping[str, RelationSpec], config: ModelConfig) -> int:
    """The width at which all hyperedge tables of all modalities stay within the limit."""
    rows = sum(spec.num_levels * sum(spec.sizes) * (spec.order - 1) for spec in relations.values())
    return max(1, min(config.hidden, config.max_table_parameters // max(rows, 1)))


def make_decoder(spec: RelationSpec, config: ModelConfig) -> KruskalDecoder:
    """Build the decoder of one relation as ``config`` says."""
    decoder = _tuple_decoder(spec, config)
    if spec.has_value and config.value_loss in ("cross_entropy", "expected_level"):
        return LevelDecoder(decoder, spec.boundaries)
    if config.common_neighbors and not spec.has_value and spec.order == 2 and len(set(spec.modalities)) == 1:
        decoder.counts = CommonNeighbors(spec.sizes[0])
    elif config.pair_counts and not spec.has_value and spec.order > 1:
        decoder.counts = PairCounts(spec.sizes)
    return decoder


def _tuple_decoder(spec: RelationSpec, config: ModelConfig) -> KruskalDecoder:
    if config.decoder.startswith("pairwise") and spec.order > 1:
        product = config.decoder == "pairwise_cp"
        return PairwiseDecoder(spec.order, config.rank, bias=config.bias, product=product)
    if config.decoder == "tucker":
        return TuckerDecoder(spec.order, config.rank, bias=config.bias)
    around_ones = config.decoder == "cp_around_ones"
    return CPDecoder(spec.order, config.rank, bias=config.bias, around_ones=around_ones)


def make_branch(
    data: MultiModalHeteroData,
    modality: str,
    relations: Mapping[str, RelationSpec],
    config: ModelConfig,
    encoder: Module | None = None,
    *,
    seed: int | None = None,
) -> Branch:
    """Build the branch of one modality around ``encoder``, or around the encoder that ``config`` says.

    With a ``seed``, what is drawn hangs on it and on the name of the modality alone.

    A given encoder that takes ``x`` and states its ``in_channels``, as PyG's modules do, reads a learnt table of that
    width where the modality has no features.
    """
    if seed is not None:
        with seeded(_seed_of(seed, modality)):
            return make_branch(data, modality, relations, config, encoder)
    if encoder is None:
        encoder = make_encoder(data, modality, relations, config)
    width = getattr(encoder, "in_channels", 0)
    lacks_x = "x" not in data[modality] and "x" in needs(encoder) and isinstance(width, int)
    return as_branch(modality, encoder, relations, config, table=max(width, 0) if lacks_x else 0)


def as_branch(
    modality: str, encoder: Module, relations: Mapping[str, RelationSpec], config: ModelConfig, *, table: int = 0
) -> Branch:
    """Wrap an encoder with the biases of its modality, and a table of width ``table`` for features it lacks."""
    known = relations_of(modality, relations)
    if isinstance(encoder, Branch):
        if encoder.relations is None:
            encoder.relations = tuple(known)  # relations may come later, and are not what it was made for
        return encoder
    sizes = {m: n for spec in relations.values() for m, n in zip(spec.modalities, spec.sizes, strict=True)}
    if modality not in sizes:
        raise ValueError(f"modality {modality!r} takes part in no relation: nothing could be learnt for it")
    biases = len(known) if config.bias else 0
    roles = len(roles_of(modality, relations)) if config.roles != "shared" else 1
    return Branch(
        encoder,
        sizes[modality],
        config.rank,
        biases,
        table,
        known,
        num_roles=roles,
        dropout=config.dropout,
        independent=config.roles == "independent",
    )


def make_decoders(
    relations: Mapping[str, RelationSpec],
    config: ModelConfig,
    seed: int,
    counts: Mapping[str, PairCounts] | None = None,
) -> dict[str, KruskalDecoder]:
    """Build the decoders of some relations; what is drawn for one hangs on the seed and its name alone.

    Raises:
        ValueError: ``counts`` are of a relation that is unknown, has values or is of other sizes.
        InputError: the loss is over all cells, which counts have no norm over.
    """
    counts = counts or {}
    for name, term in counts.items():
        if name not in relations or relations[name].has_value:
            known = [n for n, spec in relations.items() if not spec.has_value]
            raise ValueError(f"'counts': {name!r} is no 0/1 relation (those are {known}).{did_you_mean(name, known)}")
        if term.sizes != tuple(relations[name].sizes):
            raise ValueError(f"'counts' of {name!r} must be of sizes {relations[name].sizes} (got {term.sizes})")
        if config.link_loss == "all_cells":
            raise InputError("'counts': counts have no norm over all cells; choose another model.link_loss")
    out = {}
    for name, spec in relations.items():
        with seeded(name_seed(seed, f"decoder {name}")):
            out[name] = make_decoder(spec, config)
        if name in counts:
            out[name].counts = counts[name]
    return out


def _seed_of(seed: int, modality: str) -> int:
    return name_seed(seed, f"encoder {modality}")


@torch.no_grad()
def run_lazy(model: HyperLearn, inputs: ModelInputs, seed: int, modalities: Collection[str]) -> None:
    """Run the lazy encoders among some modalities once: they take their sizes, so that weights can be copied."""
    for name in modalities:
        branch = model.encoders[name]
        if any(torch.nn.parameter.is_lazy(t) for t in chain(branch.parameters(), branch.buffers())):
            with seeded(_seed_of(seed, name), device=branch.bias.device):
                model.encode(name, inputs)


@torch.no_grad()
def start(
    model: HyperLearn,
    inputs: ModelInputs,
    seed: int,
    *,
    relations: Collection[str] | None = None,
    modalities: Collection[str] | None = None,
) -> None:
    """Set offsets, biases and start factors from the entries of ``inputs``.

    Args:
        model: the model; only encoders that are here are touched.
        inputs: what the model prepared.
        seed: seed of the start factors.
        relations: whose offsets and biases are set; all where absent.
        modalities: whose start factors are set; all where absent.
    """
    factors_of = {m for m in (model.encoders.keys() if modalities is None else modalities) if m in model.encoders}
    factors_of = {m for m in factors_of if hasattr(model.encoders[m].encoder, "start")}
    for name in model.relations if relations is None else relations:
        spec = model.relations[name]
        tuples, decoder = inputs.tuples[name], model.decoders[name]
        if decoder.counts is not None:
            decoder.counts.count(tuples.index)
        if spec.has_value:
            if not isinstance(decoder, LevelDecoder):
                decoder.offset.copy_(mean_value(tuples))
            elif tuples.value is not None:
                decoder.start(tuples.value, tuples.weight)
            if model.config.clamp and tuples.value is not None and len(tuples):
                decoder.range.copy_(torch.stack(tuples.value.aminmax()))
        if decoder.bias and any(m in model.encoders for m in spec.modalities):
            biases = start_biases(tuples, spec.sizes)
            if not spec.has_value and model.config.negatives == "seen":
                biases = [b.masked_fill(tuples.counts(s, len(b)) == 0, _UNSEEN) for s, b in enumerate(biases)]
            _place_biases(model, name, spec, biases)
        if factors_of & set(spec.modalities):  # the first relation of a modality sets its factors
            factors = start_factors(tuples, spec.sizes, model.rank, seed=seed)
            for m, table in zip(spec.modalities, factors, strict=True):
                if m in factors_of:
                    model.encoders[m].encoder.start.copy_(table)
                    factors_of.remove(m)


def _place_biases(model: HyperLearn, name: str, spec: RelationSpec, biases: list[torch.Tensor]) -> None:
    for m in dict.fromkeys(spec.modalities):
        if m in model.encoders:
            same = [b for b, slot in zip(biases, spec.modalities, strict=True) if slot == m]
            model.encoders[m].bias_of(name).copy_(torch.stack(same).mean(0))
