from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.typing import LossModule, TupleBatch

KINDS = [
    ("squared", {"value_loss": "squared"}),
    ("all_cells of values", {"value_loss": "all_cells", "unobserved": 0.3}),
    ("all_cells", {"link_loss": "all_cells", "unobserved": 0.3, "l2": 0.1}),
    ("logistic", {"link_loss": "logistic", "l2": 0.1}),
    ("softmax", {"link_loss": "softmax", "negatives": "seen", "l2": 0.1}),
    ("in-batch softmax", {"link_loss": "in_batch_softmax", "n3": 0.1, "roles": "separate"}),
    ("full softmax", {"link_loss": "full_softmax", "pair_counts": True, "decoder": "tucker"}),
    ("context dropout", {"link_loss": "full_softmax", "context_dropout": 0.4, "decoder": "cp_around_ones"}),
    ("counts", {"link_loss": "logistic", "negatives": "seen", "pair_counts": True}),
    ("common neighbours", {"link_loss": "in_batch_softmax", "common_neighbors": True}),
    ("cross-entropy of values", {"value_loss": "cross_entropy", "n3": 0.1, "decoder": "pairwise_cp"}),
    ("expected level of values", {"value_loss": "expected_level", "roles": "separate"}),
]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(slots: list[int], count: int, *, value: bool, weighted: bool, seed: int = 0) -> MultiModalHeteroData:
    """One relation whose slot ``s`` is of modality ``slots[s]``; some weights are zero."""
    generator = torch.Generator().manual_seed(seed)
    data, sizes = MultiModalHeteroData(), [4, 3, 5, 2]
    for m in sorted(set(slots)):
        data.add_modality(f"m{m}", num_nodes=sizes[m])
    index = {(f"m{m}", f"role{s}"): torch.randint(sizes[m], (count,), generator=generator) for s, m in enumerate(slots)}
    attrs: dict[str, Any] = {"value": torch.randn(count, generator=generator)} if value else {}
    if weighted:
        attrs["weight"] = torch.rand(count, generator=generator) * (torch.arange(count) % 3 > 0)
    return data.add_hyperedges("r", index, num_hyperedges=count, **attrs)


def make_model(data: MultiModalHeteroData, kind: str, **options: Any) -> HyperLearn:
    torch.manual_seed(0)
    decoder = {"decoder": "pairwise_cp" if kind == "softmax" else "cp"}
    model = HyperLearn.from_data(data, 2, "links", num_negatives=4, **{**decoder, **dict(KINDS)[kind]}, **options)
    for p in model.parameters():
        torch.nn.init.normal_(p)
    return model


def valued(kind: str) -> bool:
    return kind == "squared" or kind.endswith("of values")


def part_of(target: TupleBatch, mask: Tensor) -> TupleBatch:
    taken = {
        n: None if (t := getattr(target, n)) is None else t[..., mask] for n in ("index", "value", "weight", "items")
    }
    return replace(target, **taken)


@st.composite
def problems(draw: st.DrawFn) -> tuple[HyperLearn, Any, TupleBatch, Tensor]:
    kind = draw(st.sampled_from([kind for kind, _ in KINDS]))
    slots = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    count, seed = draw(st.integers(0, 9)), draw(st.integers(0, 99))
    data = make(slots, count, value=valued(kind), weighted=draw(st.booleans()), seed=seed)
    model = make_model(data, kind)
    inputs = model.prepare(data)
    batch = {"r": torch.arange(count)[draw(st.integers(0, 2)) :]}
    (target,) = model.targets(inputs, batch, generator=torch.Generator().manual_seed(seed))
    parts = draw(st.lists(st.integers(0, 2), min_size=len(target), max_size=len(target)))
    return model, inputs, target, torch.tensor(parts, dtype=torch.long)


@given(problems())
@settings(max_examples=80, deadline=None)
def test_the_losses_of_the_parts_of_a_batch_add_up(problem: tuple[HyperLearn, Any, TupleBatch, Tensor]) -> None:
    model, inputs, target, part = problem
    rows = {m: table.detach().requires_grad_() for m, table in model(inputs).items()}
    whole = model.target_loss(rows, target)
    parts = [model.target_loss(rows, part_of(target, part == n)) for n in range(3)]
    assert torch.allclose(sum(parts, torch.zeros(())), whole, rtol=1e-12, atol=1e-12)
    tables = list(rows.values())
    expected = torch.autograd.grad(whole, tables)  # of every table, where there are no tuples too
    grads = [torch.autograd.grad(p, tables) for p in parts]
    for t, grad in enumerate(expected):
        assert torch.allclose(sum((g[t] for g in grads), torch.zeros(())), grad, rtol=1e-12, atol=1e-12)


@given(problems())
@settings(max_examples=60, deadline=None)
def test_tables_of_the_named_rows_are_enough(problem: tuple[HyperLearn, Any, TupleBatch, Tensor]) -> None:
    model, inputs, target, _ = problem
    factors = {m: table.detach() for m, table in model(inputs).items()}
    index, candidates, rows = target.index.clone(), list(target.candidates), {}
    for m, table in factors.items():
        at = [s for s, slot in enumerate(target.modalities) if slot == m]
        named = torch.cat([t for s in at for t in (target.index[s], *target.candidates[s : s + 1])]).unique()
        rows[m] = table[named]
        for s in at:
            index[s] = torch.searchsorted(named, target.index[s])
            if candidates:
                candidates[s] = torch.searchsorted(named, target.candidates[s])
    small = replace(
        target, index=index, candidates=tuple(candidates), items=target.index, candidate_items=target.candidates
    )
    expected = model.target_loss(factors, target)
    assert torch.allclose(model.target_loss(rows, small), expected, rtol=1e-12, atol=1e-12)
    assert torch.allclose(model.decode(rows, small), model.score("r", factors, target.index), atol=1e-12)


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])
@pytest.mark.parametrize("slots", [[0], [0, 1], [0, 0, 1], [0, 1, 2, 3]])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_that_of_its_targets_cells_and_modalities(kind: str, slots: list[int], weighted: bool) -> None:
    data = make(slots, 7, value=valued(kind), weighted=weighted)
    model = make_model(data, kind, smoothness=0.1, table_l2=0.2)
    inputs, batch = model.prepare(data), {"r": torch.tensor([0, 2, 3, 6])}
    factors = model(inputs)
    (target,) = model.targets(inputs, batch, generator=torch.Generator().manual_seed(1))
    columns = [model.columns("r", slot, factors[m]) for slot, m in enumerate(target.modalities)]
    expected_columns = model.decoders["r"].all_columns(model.rows("r", factors))
    assert all(torch.equal(a, b) for a, b in zip(columns, expected_columns, strict=True))
    assert (target.cells > 0) == ("all_cells" in kind)
    expected = model.target_loss(factors, target) + target.cells * model.decoders["r"].norm(columns)
    expected = expected + sum(model.penalty(m, factors[m], inputs) for m in model.modalities)
    loss = model.loss(inputs, batch, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(loss, expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["all_cells", "logistic", "squared"])
@pytest.mark.parametrize("at", [None, {"r": torch.tensor([0, 3])}])
def test_a_relation_counts_by_its_weight(kind: str, at: dict[str, Tensor] | None) -> None:
    losses = []
    for weights in ({}, {"r": 1.0}, {"r": 0.25}, {"r": 0}):
        data = make([0, 1], 6, value=valued(kind), weighted=True)
        model = make_model(data, kind, relation_weights=weights, table_l2=0.0)
        inputs = model.prepare(data)
        losses.append(model.loss(inputs, at, generator=torch.Generator().manual_seed(1)).item())
    assert losses[0] == losses[1]
    assert losses[2] == pytest.approx(losses[0] / 4)
    assert losses[3] == 0


def test_weights_of_relations_that_are_not_there_are_refused() -> None:
    data = make([0, 1], 6, value=False, weighted=False)
    with pytest.raises(InputError, match=r"model\.relation_weights: there is no relation 'rr'.*'r'"):
        make_model(data, "logistic", relation_weights={"rr": 0.5})


@pytest.mark.parametrize("kind", ["all_cells", "logistic"])
def test_the_penalty_is_the_mean_over_the_targets_of_their_rows(kind: str) -> None:
    data = make([0, 1], 6, value=False, weighted=False)
    plain, model = (make_model(data, kind).requires_grad_(False), make_model(data, kind).requires_grad_(False))
    plain.config, model.config = plain.config.replace(l2=0.0), model.config.replace(l2=0.7)
    inputs, factors = model.prepare(data), model(model.prepare(data))
    losses = []
    for own in (plain, model):
        (target,) = own.targets(inputs, generator=torch.Generator().manual_seed(1))
        losses.append(own.target_loss(factors, target))
    rows = [factors[m][i] for m, i in zip(("m0", "m1"), data.relation("r").index, strict=True)]
    assert torch.allclose(losses[1] - losses[0], 0.7 * sum(row.square().sum() for row in rows) / 6)


def test_candidates_are_drawn_slot_by_slot_and_none_for_no_tuples() -> None:
    data = make([0, 1], 6, value=False, weighted=False)
    model = make_model(data, "logistic", negatives="all")
    generator = torch.Generator().manual_seed(3)
    (target,) = model.targets(model.prepare(data), generator=generator)
    expected = torch.Generator().manual_seed(3)
    for drawn, size in zip(target.candidates, (4, 3), strict=True):
        assert torch.equal(drawn, torch.randint(size, (4,), generator=expected))
    state = generator.get_state()
    (empty,) = model.targets(model.prepare(data), {"r": torch.empty(0, dtype=torch.long)}, generator=generator)
    assert torch.equal(generator.get_state(), state)
    assert (len(empty), empty.candidates, empty.count) == (0, (), 0)


def test_the_model_meets_the_protocol() -> None:
    model: LossModule = make_model(make([0, 1], 3, value=True, weighted=False), "squared")
    assert isinstance(model, LossModule)
