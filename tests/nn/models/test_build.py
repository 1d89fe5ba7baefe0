from __future__ import annotations

import pytest
import torch
import torch_geometric.nn as pyg_nn

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.nn import (
    CPDecoder,
    DiffusionEncoder,
    EmbeddingEncoder,
    LevelConvEncoder,
    LevelDecoder,
    ModelConfig,
    PairCounts,
    PairwiseDecoder,
    PartnerEncoder,
    RelationEncoder,
    TuckerDecoder,
)
from hyperlearn_pyg.nn.models import RelationSpec
from hyperlearn_pyg.nn.models.build import as_branch, make_decoder, make_encoder
from hyperlearn_pyg.nn.models.inputs import relation_spec
from hyperlearn_pyg.nn.models.start import start_biases, start_factors


def make() -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("user", x=torch.randn(6, 3)).add_modality("film", num_nodes=5)
    index = torch.cartesian_prod(torch.arange(6), torch.arange(5)).t()[:, ::2]
    value = (index[0] % 3 + index[1] % 2).float()
    data.add_hyperedges("rates", index, modalities=("user", "film"), value=value)
    follows = {("user", "follower"): torch.tensor([0, 1, 2]), ("user", "followee"): torch.tensor([1, 2, 0])}
    return data.add_hyperedges("follows", follows)


def test_encoders_and_decoders_are_those_of_the_config() -> None:
    data = make()
    specs = {name: relation_spec(data, name) for name in data.hyperedge_types}
    kinds = {"diffusion": DiffusionEncoder, "embedding": EmbeddingEncoder, "relation": RelationEncoder}
    for name, kind in kinds.items():
        encoder = make_encoder(data, "user", specs, ModelConfig(encoder=name, rank=2))
        assert isinstance(encoder, kind)
        assert encoder.features is not None
        assert make_encoder(data, "user", specs, ModelConfig(encoder=name, features=False)).features is None
        assert make_encoder(data, "film", specs, ModelConfig(encoder=name)).features is None
    relation = make_encoder(data, "user", specs, ModelConfig(rank=2))
    assert isinstance(relation, RelationEncoder)
    assert relation.channels == ((4, 5), (1, 6), (1, 6))
    assert relation.out.out_features == 2 + 2  # rank, and a bias a relation
    spec = specs["rates"]
    assert isinstance(make_decoder(spec, ModelConfig(decoder="pairwise")), PairwiseDecoder)
    triple = RelationSpec(("user", "film", "tag"), (6, 5, 4), False)
    for name, product in (("pairwise", False), ("pairwise_cp", True)):
        decoder = make_decoder(triple, ModelConfig(decoder=name))
        assert isinstance(decoder, PairwiseDecoder)
        assert decoder.product == product
    for name, around_ones in (("cp", False), ("cp_around_ones", True)):
        decoder = make_decoder(spec, ModelConfig(decoder=name))
        assert isinstance(decoder, CPDecoder)
        assert (decoder.center is not None) == around_ones
    assert isinstance(make_decoder(triple, ModelConfig(decoder="tucker", rank=4)), TuckerDecoder)
    assert isinstance(make_decoder(RelationSpec(("user",), (6,), False), ModelConfig(decoder="pairwise")), CPDecoder)


def test_levels_and_counts_are_those_of_the_config() -> None:
    data = make()
    for loss in ("cross_entropy", "expected_level"):
        model = HyperLearn.from_data(data, 2, "ratings", value_loss=loss, pair_counts=True)
        decoder, tuples = model.decoders["rates"], model.prepare(data).tuples["rates"]
        assert isinstance(decoder, LevelDecoder)
        assert isinstance(decoder.base, CPDecoder)
        assert (decoder.counts, decoder.offset.item()) == (None, 0.0)
        assert tuples.value is not None
        assert decoder.values.tolist() == tuples.value.unique().tolist()
        shares = tuples.value.unique(return_counts=True)[1] / len(tuples)
        assert torch.allclose(decoder.prior.exp(), shares)
        assert (
            decoder.levels_of(tuples.value).tolist()
            == model.relations["rates"].levels(tuples.value, len(tuples), tuples.index.device).tolist()
        )
        counts = model.decoders["follows"].counts
        assert isinstance(counts, PairCounts)
        assert counts.counts.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["partner", "hypergraph_conv"])
def test_encoders_over_the_training_relation(name: str) -> None:
    data = make()
    specs = {name: relation_spec(data, name) for name in data.hyperedge_types}
    encoder = make_encoder(data, "user", specs, ModelConfig(encoder=name, rank=2))
    if name == "partner":
        assert isinstance(encoder, PartnerEncoder)
        assert encoder.partners.shape == (3, 2, 2)
    else:
        assert isinstance(encoder, LevelConvEncoder)
        assert encoder.channels == ((4, 5), (1, 6), (1, 6))
        assert encoder.out.out_features == 2 + 2
    model = HyperLearn.from_data(data, 2, encoder=name)
    model.loss(model.prepare(data)).backward()
    assert model(data)["film"].shape == (5, 3)


def test_the_start_is_that_of_the_training_entries() -> None:
    data = make()
    model = HyperLearn.from_data(data, 2, "paper", bias=True)
    tuples = model.prepare(data).tuples["rates"]
    sizes = model.relations["rates"].sizes
    assert tuples.value is not None
    assert model.decoders["rates"].offset.item() == pytest.approx(tuples.value.mean().item())
    biases, factors = start_biases(tuples, sizes), start_factors(tuples, sizes, 2)
    for m, bias, table in zip(("user", "film"), biases, factors, strict=True):
        assert torch.allclose(model.encoders[m].bias[:, 0], bias)
        assert torch.equal(model.encoders[m].encoder.start, table)
    assert model.decoders["follows"].offset.item() == 0
    assert model.encoders["user"].bias[:, 1].abs().max() == 0


@pytest.mark.parametrize("negatives", ["all", "seen"])
def test_items_without_an_entry_start_below_the_others_where_they_are_no_negatives(negatives: str) -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=4).add_modality("film", num_nodes=3)
    mask = torch.tensor([True, True, False])
    data.add_hyperedges("likes", torch.tensor([[0, 2, 3], [1, 0, 1]]), modalities=("user", "film"), train_mask=mask)
    model = HyperLearn.from_data(data, 2, "links", negatives=negatives)
    low = -1.0 if negatives == "seen" else 0.0
    assert model.encoders["user"].bias.flatten().tolist() == [0.0, low, 0.0, low]
    assert model.encoders["film"].bias.flatten().tolist() == [0.0, 0.0, low]
    inputs = model.prepare(data, ("train",))
    assert [s.tolist() for s in inputs.tuples["likes"].seen] == [[0, 2], [0, 1]]
    before = model.encoders["user"].encoder.weight
    model.loss(inputs, generator=torch.Generator().manual_seed(0)).backward()
    assert before.grad is not None
    assert bool((before.grad[[1, 3]] == 0).all()) == (negatives == "seen")


def test_an_encoder_of_ones_own_reads_a_table_where_there_are_no_features() -> None:
    data = make()
    own = {m: pyg_nn.GCN(3, 8, 2, 2) for m in ("user", "film")}
    model = HyperLearn.from_data(data, 2, encoders=own)
    assert model.encoders["user"].table is None
    assert model.encoders["film"].table.shape == (5, 3)
    assert model(data)["film"].shape == (5, 3)


def test_one_slot_and_no_features_leave_a_table() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=3)
    data.add_hyperedges("buys", torch.tensor([[0, 1, 2]]), modalities=("user",), value=torch.ones(3))
    model = HyperLearn.from_data(data, 2, "ratings")
    assert isinstance(model.encoders["user"].encoder, EmbeddingEncoder)
    assert model(data)["user"].shape == (3, 3)


def test_a_modality_without_relation() -> None:
    data = make().add_modality("tag", num_nodes=2)
    model = HyperLearn.from_data(data, 2)
    assert model.modalities == ["user", "film"]
    with pytest.raises(ValueError, match="'tag' takes part in no relation"):
        as_branch("tag", EmbeddingEncoder(2, 2), {}, ModelConfig(rank=2))
