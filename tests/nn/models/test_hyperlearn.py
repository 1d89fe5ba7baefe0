from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg_nn
from torch import Tensor
from torch.nn import Module

from hyperlearn_pyg import HypergraphConv, HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.nn.models import ModelInputs
from hyperlearn_pyg.testing import (
    dense_cp,
    dense_graph_laplacian,
    dense_incidence,
    dense_tensor,
    unfolding_error,
)
from hyperlearn_pyg.training import TrainConfig, evaluate, fit

SIZES = [6, 5, 4, 3]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def every_cell(order: int) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(n) for n in SIZES[:order]]).view(-1, order).t()


def make(order: int, *, value: bool = True, relations: int = 1, weight: bool = False) -> MultiModalHeteroData:
    """Modalities m0, m1, ... with features and graphs, distinct tuples, a fifth of them for each of val and test."""
    generator = torch.Generator().manual_seed(order)
    data = MultiModalHeteroData()
    for m, size in enumerate(SIZES[:order]):
        data.add_modality(f"m{m}", x=torch.randn(size, 3, generator=generator))
        data[f"m{m}", "near", f"m{m}"].edge_index = torch.randint(size, (2, 6), generator=generator)
    cells = every_cell(order)
    for r in range(relations):
        drawn = torch.randperm(max(cells.size(1), 20), generator=generator)[:20] % cells.size(1)
        index = cells[:, drawn]
        attrs: dict[str, Any] = {"value": torch.randint(1, 6, (20,), generator=generator).double()} if value else {}
        if weight:
            attrs["weight"] = torch.rand(20, generator=generator)
        part = torch.arange(20) % 5
        masks = {"train_mask": part < 3, "val_mask": part == 3, "test_mask": part == 4}
        data.add_hyperedges(f"r{r}", index, modalities=[f"m{m}" for m in range(order)], **attrs, **masks)
    return data


def parameters_of(model: HyperLearn, modality: str) -> list[Tensor]:
    return list(model.encoders[modality].parameters())


def grads(loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def same(left: list[Tensor], right: list[Tensor], tolerance: float = 1e-10) -> bool:
    scale = max([1.0, *(float(r.abs().max()) for r in right if r.numel())])
    return all(torch.allclose(a, b, rtol=0, atol=tolerance * scale) for a, b in zip(left, right, strict=True))


LOSSES = [
    {"value": True, "value_loss": "squared"},
    {"value": True, "value_loss": "all_cells"},
    {"value": False, "link_loss": "all_cells"},
    {"value": False, "link_loss": "logistic"},
    {"value": False, "link_loss": "softmax"},
]


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("preset", ["paper", "ratings", "links"])
@pytest.mark.parametrize("relations", [1, 2])
def test_the_losses_of_the_modalities_have_the_gradient_of_the_joint_loss(
    order: int, loss: dict[str, Any], preset: str, relations: int
) -> None:
    options = {"smoothness": 0.1, "l2": 0.01, "table_l2": 0.5, "hidden": 8, "num_negatives": 5, **loss}
    data = make(order, value=options.pop("value"), relations=relations, weight=relations == 2)
    model = HyperLearn.from_data(data, 3, preset, steps=2, dropout=0.0, node_dropout=0.0, **options)
    inputs = model.prepare(data, ("train",))
    batch = {"r0": torch.tensor([0, 3, 5, 7])}
    keep = {"r0": torch.ones(12).index_fill(0, batch["r0"], 0.0)}

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(7)

    joint = model.loss(inputs, batch, keep=keep, generator=generator())
    losses = model.modality_losses(inputs, batch, keep=keep, generator=generator())
    assert list(losses) == model.modalities
    for m in model.modalities:
        ours, theirs = grads(losses[m], parameters_of(model, m)), grads(joint, parameters_of(model, m))
        assert any(bool((g != 0).any()) for g in theirs)
        assert same(ours, theirs)
        for other in set(model.modalities) - {m}:  # what is given does not move
            own_terms = grads(losses[m], parameters_of(model, other))
            assert all(not g.any() for g in own_terms)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize(("value", "observed"), [(True, True), (True, False), (False, False)])
def test_they_are_the_printed_losses_of_the_unfoldings(order: int, value: bool, observed: bool) -> None:
    r"""||X_(m) - A_m Omega_m||^2 / E + lambda / 2 tr(A_m^T L_m A_m), over all cells or the observed ones."""
    data = make(order, value=value)
    kinds = {"value_loss": "squared" if observed else "all_cells", "link_loss": "all_cells"}
    model = HyperLearn.from_data(data, 3, "paper", smoothness=0.1, steps=2, unobserved=1.0, **kinds)
    if not observed:
        for decoder in model.decoders.values():
            decoder.offset.zero_()
    inputs = model.prepare(data, ("train",))
    entries, factors = inputs.tuples["r0"], model(inputs)
    target = entries.value - model.decoders["r0"].offset if entries.value is not None else None
    tensor = dense_tensor(entries.index, target, SIZES[:order])
    mask = dense_tensor(entries.index, None, SIZES[:order]) if observed else None
    losses = model.modality_losses(inputs)
    for mode, m in enumerate(model.modalities):
        graph = inputs.branches[m].edge_index
        laplacian = dense_graph_laplacian(dense_incidence(graph, (SIZES[mode],) * 2))
        tables = [f if n == m else f.detach() for n, f in factors.items()]
        printed = unfolding_error(tensor, tables, mode, mask) / len(entries)
        printed = printed + 0.1 * 0.5 * torch.trace(factors[m].t() @ laplacian @ factors[m])
        assert torch.allclose(losses[m], printed)
        assert same(grads(losses[m], parameters_of(model, m)), grads(printed, parameters_of(model, m)))


def test_modality_losses_without_a_generator() -> None:
    data = make(2, value=False)
    model = HyperLearn.from_data(data, 3, "links")
    assert all(bool(loss.isfinite()) for loss in model.modality_losses(model.prepare(data)).values())


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_of_the_loss_are_right(loss: dict[str, Any]) -> None:
    options = dict(loss)
    data = make(3, value=options.pop("value"))
    options |= {"encoder": "embedding", "smoothness": 0.1, "l2": 0.01, "num_negatives": 4}
    model = HyperLearn.from_data(data, 2, "links", **options)
    inputs = model.prepare(data)

    def f(*_: Tensor) -> Tensor:
        return model.loss(inputs, generator=torch.Generator().manual_seed(1))

    assert torch.autograd.gradcheck(f, tuple(p for p in model.parameters() if p.requires_grad))


def test_the_loss_is_the_sum_of_its_printed_terms() -> None:
    data = make(2, weight=True)
    model = HyperLearn.from_data(data, 3, "ratings", table_l2=0.5, smoothness=0.1).eval()
    inputs = model.prepare(data, ("train",))
    factors, entries = model(inputs), inputs.tuples["r0"]
    assert entries.weight is not None
    score = model.score("r0", factors, entries.index)
    expected = (entries.weight * (score - entries.value).square()).sum() / entries.weight.sum()
    for m in model.modalities:
        expected = expected + 0.1 * model.smoothness(m, factors[m], inputs)
        expected = expected + 0.5 / len(entries) * model.encoders[m].encoder.penalty()
    assert torch.allclose(model.loss(inputs), expected)
    assert torch.allclose(model.loss(inputs, factors=factors), expected)


def test_all_cells_batches_add_up() -> None:
    data = make(3)
    model = HyperLearn.from_data(data, 3, "paper", smoothness=0.0, value_loss="all_cells", steps=1)
    inputs = model.prepare(data, ("train",))
    parts = [model.loss(inputs, {"r0": p}) * len(p) for p in torch.arange(12).tensor_split(5)]
    assert torch.allclose(sum(parts), model.loss(inputs) * 12)
    assert model.loss(inputs, {"r0": torch.empty(0, dtype=torch.long)}).item() == 0


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("preset", ["paper", "ratings", "links"])
def test_decode_is_the_dense_kruskal_tensor(order: int, preset: str) -> None:
    data = make(order)
    model = HyperLearn.from_data(data, 3, preset).eval()
    factors = model(data)
    columns = model.decoders["r0"].all_columns(model.rows("r0", factors))
    cells = every_cell(order)
    expected = dense_cp(columns).flatten() + model.decoders["r0"].offset
    assert torch.allclose(model.score("r0", factors, cells), expected)
    low, high = model.decoders["r0"].range
    assert torch.allclose(model.predict(data, "r0", cells), expected.clamp(low, high))


class TestLeaks:
    """What must not be seen is not seen."""

    def inputs(self, data: MultiModalHeteroData, model: HyperLearn) -> ModelInputs:
        return model.prepare(data, ("train",))

    def test_a_target_never_influences_its_own_message(self) -> None:
        data = make(3)
        model = HyperLearn.from_data(data, 3, "ratings").eval()
        keep = {"r0": torch.ones(12)}
        keep["r0"][[2, 5]] = 0.0
        before = model(self.inputs(data, model), keep)
        at = data["r0"].train_mask.nonzero().squeeze(1)[[2, 5]]
        data["r0"].value[at] = 6 - data["r0"].value[at]  # another value, another level
        after = model(self.inputs(data, model), keep)
        assert all(torch.equal(before[m], after[m]) for m in before)
        data["m0", "member", "r0"].edge_index[0, at] = (data["m0", "member", "r0"].edge_index[0, at] + 1) % 6
        after = model(self.inputs(data, model), keep)
        assert all(torch.allclose(before[m], after[m], atol=1e-12) for m in before)

    def test_but_another_entry_does(self) -> None:
        data = make(3)
        model = HyperLearn.from_data(data, 3, "ratings").eval()
        keep = {"r0": torch.ones(12).index_fill(0, torch.tensor([2]), 0.0)}
        before = model(self.inputs(data, model), keep)
        at = data["r0"].train_mask.nonzero().squeeze(1)[3]
        data["r0"].value[at] = 6 - data["r0"].value[at] + (data["r0"].value[at] == 3)
        after = model(self.inputs(data, model), keep)
        assert any(not torch.equal(before[m], after[m]) for m in before)

    @pytest.mark.parametrize("own", [False, True])
    def test_keeping_all_is_keeping_none_out(self, own: bool) -> None:
        data = make(3)
        encoders = {"m0": HypergraphConv(3, 3)} if own else {}
        model = HyperLearn.from_data(data, 3, "ratings", encoders=encoders).eval()
        inputs = self.inputs(data, model)
        kept = model(inputs, {"r0": torch.ones(12)})
        assert all(torch.allclose(kept[m], out, atol=1e-14) for m, out in model(inputs).items())

    @pytest.mark.parametrize("preset", ["paper", "ratings", "links"])
    @pytest.mark.parametrize("value", [False, True])
    def test_the_start_sees_training_entries_alone(self, preset: str, value: bool) -> None:
        data, other = make(3, value=value), make(3, value=value)
        hidden = ~other["r0"].train_mask
        if value:
            other["r0"].value[hidden] = 100 * other["r0"].value[hidden] + 7
        for m, size in zip(other.modalities, SIZES, strict=False):
            items = other[m, "member", "r0"].edge_index[0]
            items[hidden] = (items[hidden] + 1) % size
        states = []
        for d in (data, other):
            torch.manual_seed(1)
            states.append(HyperLearn.from_data(d, 3, preset).state_dict())
        assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])

    def test_predictions_do_not_see_test_entries_unless_named(self) -> None:
        data, other = make(2), make(2)
        other["r0"].value[other["r0"].test_mask] += 1
        model = HyperLearn.from_data(data, 3, "ratings")
        index = data.relation("r0").index
        assert torch.equal(model.predict(data, "r0", index), model.predict(other, "r0", index))
        named = [model.predict(model.prepare(d, ("train", "val", "test")), "r0", index) for d in (data, other)]
        assert not torch.equal(*named)


def test_a_branch_reads_nothing_of_another() -> None:
    data = make(3)
    model = HyperLearn.from_data(data, 3, "ratings").eval()
    before = model.encode("m0", model.prepare(data))
    for m in ("m1", "m2"):
        data[m].x += 1
        for p in model.encoders[m].parameters():
            torch.nn.init.normal_(p)
    assert torch.equal(model.encode("m0", model.prepare(data)), before)


ENCODERS: dict[str, Any] = {
    "gcn": lambda: pyg_nn.GCN(3, 8, 2, 3),
    "sage": lambda: pyg_nn.GraphSAGE(3, 8, 2, 3),
    "mlp": lambda: pyg_nn.MLP([3, 8, 3], norm=None),
    "hypergraph": lambda: Stack(),
    "pyg hypergraph": lambda: pyg_nn.HypergraphConv(3, 3),
}


class Stack(Module):
    """Two layers of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = torch.nn.ModuleList([HypergraphConv(3, 8), HypergraphConv(8, 3)])

    def forward(self, x: Tensor, hyperedge_index: Tensor, num_edges: int) -> Tensor:
        for conv in self.convs:
            x = conv(x.relu(), hyperedge_index, num_edges=num_edges)
        return x


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("features", [False, True])
def test_any_module_may_be_an_encoder(name: str, features: bool) -> None:
    data = make(2)
    if not features:
        del data["m0"].x
    encoder = ENCODERS[name]()
    model = HyperLearn.from_data(data, 3, encoders={"m0": encoder})
    assert model.encoders["m0"].encoder is encoder
    if name == "hypergraph" and not features:  # a module that does not state its width: x is None
        with pytest.raises(AttributeError):
            model(data)
        return
    model.loss(model.prepare(data, ("train",))).backward()
    used = [p.grad is not None and bool(p.grad.any()) for p in encoder.parameters()]
    assert any(used)


def test_roles_share_factors_and_biases() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=5)
    slots = {("user", "follower"): torch.tensor([0, 1, 2]), ("user", "followee"): torch.tensor([1, 2, 4])}
    data.add_hyperedges("follows", slots)
    model = HyperLearn.from_data(data, 3, "links")
    assert model.relations["follows"].modalities == ("user", "user")
    index = data.relation("follows").index
    assert torch.allclose(model.predict(data, "follows", index), model.predict(data, "follows", index.flip(0)))
    joint = model.loss(model.prepare(data), generator=torch.Generator().manual_seed(0))
    own = model.modality_losses(model.prepare(data), generator=torch.Generator().manual_seed(0))["user"]
    assert same(grads(own, parameters_of(model, "user")), grads(joint, parameters_of(model, "user")))


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("preset", ["paper", "ratings", "links"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_relations_of_no_or_one_entry(count: int, value: bool, preset: str, order: int) -> None:
    data = MultiModalHeteroData()
    for m in range(order):
        data.add_modality(f"m{m}", num_nodes=1, x=torch.ones(1, 2))
    attrs = {"value": torch.full((count,), 2.0)} if value else {}
    index = torch.zeros(order, count, dtype=torch.long)
    data.add_hyperedges("r", index, modalities=data.modalities, num_hyperedges=count, **attrs)
    model = HyperLearn.from_data(data, 2, preset)
    loss = model.loss(model.prepare(data))
    loss.backward()
    assert bool(loss.isfinite())
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    assert model.predict(data, "r", index).shape == (count,)


def test_predict_leaves_the_mode_as_it_was() -> None:
    data = make(2)
    model = HyperLearn.from_data(data, 3, "ratings")
    index = data.relation("r0").index
    assert torch.equal(model.predict(data, "r0", index), model.predict(data, "r0", index))
    assert model.training
    assert repr(model) == "HyperLearn(m0, m1; r0(m0, m1); rank=3, preset='ratings')"
    assert (model.rank, model.modalities) == (3, ["m0", "m1"])


def test_a_saved_state_gives_the_same_model() -> None:
    data = make(3, relations=2)
    models = [HyperLearn.from_data(data, 3).eval() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    index = data.relation("r1").index
    assert torch.equal(*[m.predict(data, "r1", index) for m in models])


def test_errors() -> None:
    data = make(2)
    with pytest.raises(InputError, match="Did you mean 'paper'"):
        HyperLearn.from_data(data, preset="papper")
    with pytest.raises(InputError, match="Did you mean 'hidden'"):
        HyperLearn.from_data(data, hiden=3)
    with pytest.raises(ValueError, match=r"'encoders': no modality 'm11' is in a relation\. Did you mean 'm1'\?"):
        HyperLearn.from_data(data, encoders={"m11": pyg_nn.GCN(3, 3, 1)})
    with pytest.warns(UserWarning, match="isolated"), pytest.raises(ValueError, match="has no relation"):
        HyperLearn.from_data(MultiModalHeteroData().add_modality("user", num_nodes=2))
    model = HyperLearn.from_data(data)
    with pytest.raises(ValueError, match=r"unknown relation 'r'\. Did you mean 'r0'\?"):
        model.predict(data, "r", torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"no encoder or decoder was given for \['m1', 'r0'\]"):
        HyperLearn({"m0": model.encoders["m0"]}, {}, model.relations, model.config)


def test_lazy_encoders_train_and_refit() -> None:
    data = make(2)
    model = HyperLearn.from_data(data, rank=4, encoders={"m0": pyg_nn.GraphSAGE(-1, 8, num_layers=2, out_channels=4)})
    result = fit(model, data, epochs=2, eval_every=1, refit=True, progress=False)
    assert {row["phase"] for row in result.history} == {"select", "refit"}


def test_data_of_other_sizes_is_refused() -> None:
    model = HyperLearn.from_data(make(2), rank=3)
    with pytest.raises(ValueError, match=r"relation 'r\w*' ties .* the model was made for"):
        model(make(3))
    with pytest.raises(ValueError, match="'data' has no relation"):
        model(MultiModalHeteroData().add_modality("m0", num_nodes=6))


def test_auxiliary_hyperedge_sets_are_left_out_by_name_and_any_name_will_do() -> None:
    data = MultiModalHeteroData().add_modality("type", num_nodes=3).add_modality("film", num_nodes=4)
    index = torch.tensor([[0, 1, 2, 0], [0, 1, 2, 3]])
    data = data.add_hyperedges("rates", index, modalities=("type", "film"), value=[1.0, 2.0, 3.0, 2.0])
    data = data.add_hyperedges("genre", {"film": [[0, 1], [2, 3, 1]]})
    with pytest.raises(ValueError, match=r"'genre' has hyperedges .* pass relations=\['rates'\]"):
        HyperLearn.from_data(data, rank=2)
    with pytest.raises(ValueError, match="no relation 'rate'"):
        HyperLearn.from_data(data, rank=2, relations=["rate"])
    model = HyperLearn.from_data(data, rank=2, relations=["rates"])
    assert model.modalities == ["type", "film"]
    assert set(model(data)) == {"type", "film"}
    result = fit(model, data, TrainConfig(epochs=1), progress=False)
    assert len(result.history) == 1
    assert evaluate(model, data, split="train")["rmse"] >= 0
