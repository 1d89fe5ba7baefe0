from __future__ import annotations

import runpy
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.nn import GCN

from hyperlearn_pyg.datasets import SyntheticMultiModal
from hyperlearn_pyg.datasets.synthetic import SyntheticRelation
from hyperlearn_pyg.distributed import ModalityParallel
from hyperlearn_pyg.errors import ModalityError
from hyperlearn_pyg.loader import RelationLoader
from hyperlearn_pyg.typing import TupleBatch

models = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("models.py"))))

FOUR = "user film tag star"
TWO = models.case(FOUR, "", ["user star", "film tag"])
EMPTY = models.case(FOUR, "", ["", FOUR])
HYPER = models.case("user film tag", "rates tags", ["user", "film tag"], model={"dropout": 0.3}, steps=4)


def several(rank, world_size, names):
    return {name: globals()[name](rank, world_size) for name in names}


def wrapped(c, **options):
    return ModalityParallel(models.user_model(c), models.plan_of(c), **options)


def close(found, wanted, tolerance=1e-12):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- scores; each function checks against the plain module


def positives_and_negatives(rank, world_size):
    """The loop of the RelationLoader: two calls' worth of tuples in one."""
    names = ["user", "item", "tag"]
    planted = {
        "tags": SyntheticRelation(tuple(names), 150, valued=False),
        "rates": SyntheticRelation(("user", "item"), 150),
    }
    data = SyntheticMultiModal(dict.fromkeys(names, 20), planted, num_features=3)[0]
    for name in names:
        data[name].x = data[name].x.double()
        data[name, "to", name].edge_index = data[name, "linked", name].edge_index
    c = models.case(" ".join(names), "", ["user", "item tag"])
    loader = RelationLoader(data, batch_size=40, num_negatives=3, seed=1, rank=0, world_size=1)
    for number, batch in zip(range(2), loader, strict=False):
        negative = TupleBatch(batch.relation, batch.modalities, batch.negatives[:, batch.negative_mask])
        plain, model = models.user_model(c).train(), wrapped(c).train()
        for module, scores_of in ((plain, models.plain_scores), (model, models.spread_scores)):
            (good, bad), _ = scores_of(module, data, [batch, negative], number)
            (F.softplus(-good).sum() + F.softplus(bad).sum()).backward()
        wanted = models.gradients(plain)
        for name, grad in models.gradients(model).items():
            assert (grad is None) == (wanted[name] is None), name
            if grad is not None:
                close(grad, wanted[name])
    return True


def smoothness_alone(rank, world_size):
    """Its backward pass runs on a rank that holds nothing, too; types are the module's, not the default."""
    assert torch.get_default_dtype() == torch.float32
    plain, model = models.user_model(EMPTY).train(), wrapped(EMPTY).train()
    data, batches = models.user_data(EMPTY["names"]), models.user_batches(EMPTY, 0)
    with pytest.raises(RuntimeError, match="call model\\(data, tuples\\) before"):
        model.smoothness(data)
    _, wanted = models.plain_scores(plain, data, batches, 0)
    _, smooth = models.spread_scores(model, data, batches, 0)
    close(smooth, wanted)
    wanted.backward()
    smooth.backward()
    for name, grad in models.gradients(model).items():
        if name.startswith("encoders."):
            close(grad, models.gradients(plain)[name])
    return smooth.item()


def the_same_tensors_in_another_relation(rank, world_size):
    """A batch that shares its tensors with the one before, but not its modalities or relation."""
    data, index = models.user_data(TWO["names"]), torch.tensor([[0, 1, 2], [2, 1, 3]])
    plain, model = models.user_model(TWO).eval(), wrapped(TWO).eval()
    with torch.no_grad():
        for slots in (("user", "film"), ("tag", "star"), ("star", "tag"), ("tag", "star")):
            batch = TupleBatch("r", slots, index)
            close(model(data, batch), models.plain_scores(plain, data, [batch], 0)[0][0])
        index[1, 1] = 0
        close(model(data, batch), models.plain_scores(plain, data, [batch], 0)[0][0])
        before = model._shares
        model(data, replace(batch))
        assert model._shares is before  # what comes again is not worked out again
        model(data, replace(batch, mass=2.0))
        assert model._shares is not before
    return True


class Wide(models.Scorer):
    """Several scores a tuple, and an argument of ``encode``."""

    def decode(self, rows, tuples):
        a, b = (rows[m][i] for m, i in zip(tuples.modalities, tuples.index, strict=True))
        return torch.stack([a * b, a + b], dim=1)


def scores_of_several_columns(rank, world_size):
    torch.manual_seed(0)
    plain = Wide(TWO["names"]).double().eval()
    torch.manual_seed(0)
    model = ModalityParallel(Wide(TWO["names"]).double(), models.plan_of(TWO)).eval()
    data, batches = models.user_data(TWO["names"]), [b for b in models.user_batches(TWO, 0)[:1] for _ in range(2)]
    scale = {name: torch.full((), 2.0, dtype=torch.float64) for name in TWO["names"]}
    wanted, _ = models.plain_scores(plain, data, batches, 0, scale=scale)
    found = model(data, batches, scale=scale)
    assert found[0].shape == (8, 2, 5)
    for mine, theirs in zip(found, wanted, strict=True):
        close(mine, theirs)
    return True


def mixed_types(rank, world_size):
    """Tables of different types and widths come out of the exchange as they went in."""
    c, seen = models.case("user film", "", ["user", "film"]), []
    module = models.user_model(c).eval()
    module.encoders["film"] = GCN(3, 6, 2, 7).float()
    kinds = {"user": torch.float64, "film": torch.float32}

    def decode(rows, tuples):
        seen.append({name: (table.dtype, table.size(1)) for name, table in rows.items()})
        return rows["user"][tuples.index[0], 0]

    def encode(name, data):
        return module.encoders[name](data[name].x.to(kinds[name]), data[name, "to", name].edge_index)

    module.encode, module.decode = encode, decode
    ModalityParallel(module, models.plan_of(c))(models.user_data(c["names"]), models.user_batches(c, 0, 1))
    return seen == [{"user": (torch.float64, 5), "film": (torch.float32, 7)}]


def sizes_that_change(rank, world_size):
    """Sampled sub-graphs: each step of another size."""
    plain, model = models.user_model(TWO).train(), wrapped(TWO, check="always").train()
    index = torch.tensor([[0, 1, 2], [2, 1, 3]])
    for step in range(4):
        data, batches = models.user_data(TWO["names"], step), [TupleBatch("r", ("user", "film"), index)]
        with torch.no_grad():
            scores, smooth = models.spread_scores(model, data, batches, step)
            wanted, other = models.plain_scores(plain, data, batches, step)
        close(scores[0], wanted[0])
        close(smooth, other)
    return True


def sizes_that_must_not_change(rank, world_size):
    model = wrapped(TWO)
    model(models.user_data(TWO["names"], 0), models.user_batches(TWO, 0))
    data = models.user_data(TWO["names"], 0)
    changed = models.user_data(["film"], 1)
    data["film"].x, data["film", "to", "film"].edge_index = changed["film"].x, changed["film", "to", "film"].edge_index
    with pytest.raises(ModalityError) as caught:
        model(data, models.user_batches(TWO, 0))
    model(models.user_data(TWO["names"], 0), models.user_batches(TWO, 0))  # the ranks are still in step
    return str(caught.value)


SCORES = [
    "positives_and_negatives",
    "smoothness_alone",
    "the_same_tensors_in_another_relation",
    "scores_of_several_columns",
    "mixed_types",
    "sizes_that_change",
    "sizes_that_must_not_change",
]


def test_scores_equal_those_of_the_plain_module(ranks):
    one, other = ranks.run(several, 2, SCORES)
    assert one == other
    assert all(one[name] for name in SCORES)
    assert "check='always' where sizes change from step to step" in one["sizes_that_must_not_change"]
    assert "modality 'film' on rank 1" in one["sizes_that_must_not_change"]


def test_one_process_takes_sizes_that_change():
    model = ModalityParallel(models.user_model(TWO), models.plan_of(TWO), devices=["cpu", "cpu"])
    for step in range(3):
        model(models.user_data(TWO["names"], step), models.user_batches(TWO, 0))


# ---------------------------------------------------------------- seeds


def seeded(rank, world_size, c, seed):
    """With a seed of its own nothing is drawn from the global generator."""
    with models.double():
        data, plain = models.hyper_model(c)
        model = ModalityParallel(plain, models.plan_of(c), seed=seed).train()
        inputs, state = model.prepare(data, ("train",)), torch.get_rng_state()
        generator = torch.Generator().manual_seed(1)
        losses = [model.loss(inputs, generator=generator).item() for _ in range(3)]
        losses.append(model.loss(inputs, generator=generator, seed=3).item())
        losses += [model.eval().loss(inputs, generator=generator).item()]
        assert (seed is None) or torch.equal(state, torch.get_rng_state())
        return losses


def seeded_twice(rank, world_size):
    return [seeded(rank, world_size, c, 4) for c in (HYPER, {**HYPER, "groups": [["film"], ["user", "tag"]]})]


def test_a_seed_gives_the_same_numbers_everywhere(ranks):
    one = seeded(0, 1, {**HYPER, "groups": [["user", "film", "tag"]]}, 4)
    for found in ranks.run(seeded_twice, 2):
        assert found == [pytest.approx(one, rel=1e-12)] * 2
    other = seeded(0, 1, {**HYPER, "groups": [["user", "film", "tag"]]}, 5)
    assert len({*one[:3], *other[:3]}) == 6
    assert other[3:] == one[3:]


# ---------------------------------------------------------------- numbers of lower precision


def precise(rank, world_size, exchange_dtype, autocast):
    """Losses of some steps in float32."""
    data, plain = models.hyper_model(HYPER)
    for store in data.stores:
        for key, value in store.items():
            if torch.is_tensor(value) and value.is_floating_point():
                store[key] = value.float()
    model = ModalityParallel(plain, models.plan_of(HYPER), exchange_dtype=exchange_dtype, seed=1).train()
    inputs, optimizer, losses = model.prepare(data, ("train",)), torch.optim.Adam(model.parameters(), lr=0.01), []
    for step in range(4):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model.loss(inputs, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.comm_stats.num_bytes["rows"]


def all_precise(rank, world_size):
    return [precise(rank, world_size, *options) for options in ((None, False), (torch.bfloat16, False), (None, True))]


def test_lower_precision_is_close(ranks):
    one, other = ranks.run(all_precise, 2)
    assert [losses for losses, _ in one] == [losses for losses, _ in other]
    (wanted, num_bytes), (sent, less), (cast, _) = one
    assert less * 2 == num_bytes
    assert sent == pytest.approx(wanted, rel=0.02)
    assert cast == pytest.approx(wanted, rel=0.02)
    assert wanted != sent != cast


def user_autocast(rank, world_size):
    """A module of the user whose decoder runs in bfloat16 as well."""
    model = ModalityParallel(models.user_model(TWO).float(), models.plan_of(TWO)).train()
    data, batches = models.user_data(TWO["names"]), models.user_batches(TWO, 0)
    for store in data.node_stores:
        store.x = store.x.float()
    with torch.autocast("cpu", torch.bfloat16):
        scores, smooth = models.spread_scores(model, data, batches, 0)
        loss = F.mse_loss(scores[0].float(), batches[0].value.float()) + scores[1].logsumexp(0) + smooth
    loss.backward()
    grads = [p.grad for name, p in model.named_parameters() if name != "unused"]
    return scores[0].dtype, all(g is not None and g.dtype == torch.float32 and bool(g.isfinite().all()) for g in grads)


def scaled(rank, world_size, c, fused, device_type="cpu"):
    """An overflow on rank 1 alone: all ranks skip the step and halve the scale."""
    model = ModalityParallel(models.user_model(c).float(), models.plan_of(c)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    scaler, out = model.grad_scaler(init_scale=4.0, growth_interval=2), []
    data = models.user_data(c["names"])
    for store in data.node_stores:
        store.x = store.x.float()
    for step in range(4):
        before = models.copied(model.state_dict())
        optimizer.zero_grad()
        batches = models.user_batches(c, step)
        scaler.scale(sum(s.square().mean() for s in model(data, batches, seed=step))).backward()
        grad = next((p.grad for p in model.parameters() if p.grad is not None), None)
        if step == 1 and rank == 1 and grad is not None:
            grad.view(-1)[0] = torch.inf
        if step == 2:
            scaler.unscale_(optimizer)
            model.clip_grad_norm_(1.0)
        scaler.step(optimizer)
        scaler.update()
        moved = any(not torch.equal(before[n], p) for n, p in model.named_parameters())
        out.append((moved, scaler.get_scale()))
    return out


def cast_and_scaled(rank, world_size):
    out = [user_autocast(rank, world_size)] + [scaled(rank, world_size, TWO, fused) for fused in (False, True)]
    return [*out, scaled(rank, world_size, {**EMPTY, "groups": EMPTY["groups"][::-1], "frozen": ("shared",)}, False)]


def test_all_ranks_skip_a_step_that_overflows_on_one(ranks):
    (cast, *one), (other_cast, *other) = ranks.run(cast_and_scaled, 2)
    assert cast == other_cast == (torch.bfloat16, True)
    wanted = [(True, 4.0), (False, 2.0), (True, 2.0), (True, 4.0)]
    assert one[:2] == other[:2] == [wanted] * 2
    assert [scale for _, scale in one[2]] == [scale for _, scale in other[2]] == [4.0, 8.0, 8.0, 16.0]


def test_a_scaler_of_one_process():
    c = models.case(FOUR, "", [FOUR])
    assert scaled(0, 1, c, False) == [(True, 4.0), (True, 8.0), (True, 8.0), (True, 16.0)]


# ---------------------------------------------------------------- compiled encoders


def compiled(rank, world_size, c):
    warnings.simplefilter("ignore")  # the compiler's own, of parameters that are no leaves
    model = ModalityParallel(models.user_model(c), models.plan_of(c)).train()
    names = list(model.state_dict())
    assert model.compile_encoders(backend="eager") is model
    assert list(model.state_dict()) == names
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses, grads = models.user_loop(model, c, optimizer, range(3), models.spread_scores)
    whole = model.gather_module()
    assert whole is None or list(whole.state_dict()) == list(models.user_model(c).state_dict())
    return {"losses": losses, "grads": grads, "state": model.full_state_dict()}


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_compiled_encoders_give_the_same_numbers(ranks, replicas):
    groups = ["user", "film"] if replicas == 1 else ["user film"]
    c = models.case("user film", "", groups, replicas=replicas, steps=3)
    models.compare(ranks.run(compiled, 2, c, limit=90), models.user_plain(c))
