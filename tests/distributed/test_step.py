from __future__ import annotations

import runpy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from hyperlearn_pyg.distributed import ModalityLoad, ModalityParallel, ModalityPlan, RelationLoad
from hyperlearn_pyg.distributed.loads import modality_loads
from hyperlearn_pyg.distributed.route import Layout, Tuples, distinct_rows
from hyperlearn_pyg.distributed.traffic import exchanged_bytes, gram_bytes, reduced_bytes, split_batch, vote_bytes

models = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("models.py"))))

FOUR = "user film tag star"
TWO = models.case(FOUR, "", ["user star", "film tag"])
REPLICAS = models.case(FOUR, "", [FOUR], replicas=2)
MESH = models.case(FOUR, "", ["tag star", "user film"], replicas=2, frozen=("shared",))
NORMS = (1.0, 2.0, float("inf"))


def several(rank, world_size, calls):
    return [globals()[name](rank, world_size, *arguments) for name, *arguments in calls]


def close(found, wanted):
    """Gradients by name, of some ranks, against those of the plain model."""
    for grads in found:
        for name, grad in grads.items():
            assert (grad is None) == (wanted[name] is None), name
            if grad is not None:
                torch.testing.assert_close(
                    grad, wanted[name], rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
                )


# ---------------------------------------------------------------- clipping


def step_of(model, c, scores_of, step=0):
    batches, data = models.user_batches(c, step), models.user_data(c["names"])
    scores, smooth = scores_of(model, data, batches, step)
    models.user_loss(scores, batches, smooth).backward()


def clipped(rank, world_size, c, norm, limit):
    model = ModalityParallel(models.user_model(c), models.plan_of(c)).train()
    step_of(model, c, models.spread_scores)
    total = model.clip_grad_norm_(limit, norm)
    return total, models.gradients(model)


def refused(rank, world_size):
    model = ModalityParallel(models.user_model(TWO), models.plan_of(TWO)).train()
    step_of(model, TWO, models.spread_scores)
    if rank:
        next(model.module.encoders["tag"].parameters()).grad[0] = torch.nan
    try:
        model.clip_grad_norm_(1.0, error_if_nonfinite=True)
    except RuntimeError as error:
        return str(error), bool(model.clip_grad_norm_(1.0).isnan())


def clip_calls(cases):
    return [("clipped", c, norm, limit) for c in cases for norm in NORMS for limit in (0.05, 1e6)]


def check_clipped(calls, found):
    for (_, c, norm, limit), results in zip(calls, found, strict=True):
        plain = models.user_model(c).train()
        step_of(plain, c, models.plain_scores)
        total = clip_grad_norm_(plain.parameters(), limit, norm)
        for mine, _ in results:
            torch.testing.assert_close(mine, total, rtol=1e-12, atol=0)
        close([grads for _, grads in results], models.gradients(plain))


def test_clipping_by_the_norm_over_all_ranks(ranks):
    calls = clip_calls([TWO, REPLICAS, models.case(FOUR, "", ["", FOUR], frozen=("shared",))])
    found = ranks.run(several, 2, [*calls, ("refused",)])
    check_clipped(calls, list(zip(*found, strict=True))[:-1])
    text = "the norm of the gradients of all ranks is nan, so they cannot be clipped"
    assert [results[-1] for results in found] == [(text, True)] * 2


# ---------------------------------------------------------------- accumulation


def accumulated(rank, world_size, c, wait, count):
    """Steps without sums, then one that sums; a second round tells whether something was left over."""
    model = ModalityParallel(models.user_model(c), models.plan_of(c)).train()
    out = []
    for _ in range(2):
        model.zero_grad()
        with model.no_sync():
            for step in range(wait):
                step_of(model, c, models.spread_scores, step)
        data, batches = models.user_data(c["names"]), models.user_batches(c, 9, count)
        sum(scores.square().sum() for scores in model(data, batches, seed=9)).backward()
        out.append(models.gradients(model))
    return out


def accumulated_plain(c, wait, count):
    model, data = models.user_model(c).train(), models.user_data(c["names"])
    out = []
    for _ in range(2):
        model.zero_grad()
        for step in range(wait):
            step_of(model, c, models.plain_scores, step)
        scores, _ = models.plain_scores(model, data, models.user_batches(c, 9, count), 9)
        sum(entry.square().sum() for entry in scores).backward()
        out.append(models.gradients(model))
    return out


def check_accumulated(ranks, world_size, cases):
    calls = [("accumulated", c, *more) for c in cases for more in ((2, 2), (1, 1), (0, 2))]
    found = ranks.run(several, world_size, calls)
    for (_, c, *more), results in zip(calls, zip(*found, strict=True), strict=True):
        for round_, wanted in enumerate(accumulated_plain(c, *more)):
            close([result[round_] for result in results], wanted)


def test_accumulation_without_sums(ranks):
    check_accumulated(ranks, 2, [TWO, REPLICAS, {**TWO, "frozen": ("user", "star")}])


@pytest.mark.slow
def test_accumulation_and_clipping_in_a_mesh(ranks):
    # a modality that the last batch does not name, on ranks that hold nothing else that is trained
    check_accumulated(ranks, 4, [MESH, {**MESH, "frozen": ()}])
    calls = clip_calls([MESH, {**MESH, "frozen": ()}])
    check_clipped(calls, list(zip(*ranks.run(several, 4, calls), strict=True)))


# ---------------------------------------------------------------- optimizers, schedulers


def scheduled(rank, world_size, c):
    model = ModalityParallel(models.user_model(c), models.plan_of(c)).train()
    return schedule(model, c, models.spread_scores)


def schedule(model, c, scores_of):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    rates = []
    for step in range(8):
        losses, _ = models.user_loop(model, c, optimizer, [step], scores_of)
        (scheduler.step(losses[0]) if step > 3 else warm.step())
        rates.append(optimizer.param_groups[0]["lr"])
    return rates, losses


def test_schedulers_stay_in_step(ranks):
    rates, losses = schedule(models.user_model(TWO).train(), TWO, models.plain_scores)
    for found in ranks.run(scheduled, 2, models.case(FOUR, "", ["user star", "film tag"])):
        assert found[0] == rates
        assert found[1] == pytest.approx(losses, rel=1e-10)
    assert len(set(rates)) > 4


# ---------------------------------------------------------------- bytes on the wire

MODEL = {"rank": 3, "decoder": "cp_around_ones", "link_loss": "logistic", "value_loss": "all_cells", "num_negatives": 4}
SMALL = models.case("user film tag star", "rates tags cast", ["user star", "film tag"], model=MODEL, batch=7)


def counted(rank, world_size, c):
    """The bytes of the second step, by kind, and what the plan foretells."""
    with models.double():
        data, plain = models.hyper_model(c)
        model = ModalityParallel(plain, models.plan_of(c)).train()
        inputs = model.prepare(data, ("train",))
        for step in range(2):
            model.comm_stats.reset()
            batch, keep = models.hyper_draw(c, inputs, step)
            model.loss(inputs, batch, keep=keep, generator=torch.Generator().manual_seed(step)).backward()
        return dict(model.comm_stats.num_bytes), model.comm_stats.exchanged, model.comm_stats.total


def foretold(c, rank):
    """The same by arithmetic, from the tuples alone."""
    with models.double():
        data, model = models.hyper_model(c)
        inputs, groups, replicas = model.prepare(data, ("train",)), len(c["groups"]), c["replicas"]
        batch, _ = models.hyper_draw(c, inputs, 1)
        targets = model.targets(inputs, batch, generator=torch.Generator().manual_seed(1))
        owners = {name: g for g, names in enumerate(c["groups"]) for name in names}
        group, replica = divmod(rank, replicas)
        entries, grams = [], []
        for target in targets:
            sizes = split_batch(len(target), groups * replicas)
            parts = target.index.split(sizes, dim=1)[replica::replicas]
            shares = tuple(part.size(1) for part in parts)
            entries.append(Tuples(target.modalities, torch.cat(parts, dim=1), shares))
            for modality, items in zip(target.modalities, target.candidates, strict=False):
                there = tuple(len(items) * (share > 0) for share in shares)
                entries.append(Tuples((modality,), items.repeat(sum(s > 0 for s in shares))[None], there))
            if target.cells:
                side = model.decoders[target.relation].columns(0, torch.zeros(1, 4)).size(1)
                grams.append(RelationLoad(target.relation, target.modalities, gram=side))
        tables = model(inputs, seed=0)
        layout = Layout({m: inputs.branches[m].num_items for m in owners}, owners, groups)
        needed = distinct_rows(entries, layout)
        if c["exchange"] == "full":
            needed = {m: [layout.sizes[m]] * groups for m in needed}
        width = max(table.size(1) for table in tables.values())
        shared = [p for name, p in model.named_parameters() if not name.startswith("encoders.")]
        own = [p for m in c["groups"][group] for p in model.encoders[m].parameters()]
        count, all_of = (sum(p.numel() + 1 for p in ps) for ps in (shared, [*own, *shared]))
        kinds = {
            "rows and gradients": exchanged_bytes(owners, needed, groups, width=width, itemsize=8)[group],
            "shared gradients": reduced_bytes(count, groups, itemsize=8),
            "data gradients": reduced_bytes(all_of, replicas, itemsize=8),
            "values": gram_bytes(owners, grams, groups, itemsize=8),
            "votes": vote_bytes(groups * replicas),
        }
        plan = ModalityPlan(
            c["groups"],
            replicas=replicas,
            exchange=c["exchange"],
            loads=[ModalityLoad(load.name, **_widths(load, width)) for load in modality_loads(model, data, width)],
            relations=[
                RelationLoad(
                    t.relation, t.modalities, len(t), len(t.candidates[0]) if t.candidates else 0, _side(t, grams)
                )
                for t in targets
            ],
            shared_parameters=sum(p.numel() for p in shared),
            shared_tensors=len(shared),
            itemsize=8,
        )
        return kinds, plan.bytes_sent()[group]


def _widths(load, width):
    return {"items": load.items, "parameters": load.parameters, "width": width, "tensors": load.tensors}


def _side(target, grams):
    return next((load.gram for load in grams if load.name == target.relation), 0)


BYTES = [{**SMALL, "exchange": exchange} for exchange in ("rows", "full")]
BYTES += [{**c, "groups": [["user", "star", "film", "tag"]], "replicas": 2} for c in BYTES]


def check_bytes(found, c):
    for rank, (kinds, exchanged, total) in enumerate(found):
        wanted, plan = foretold(c, rank)
        moved = wanted.pop("rows and gradients")
        assert exchanged == moved
        kinds = {kind: n for kind, n in kinds.items() if kind not in ("rows", "row gradients")}
        assert kinds == {kind: n for kind, n in wanted.items() if n}
        assert total == sum(wanted.values()) + moved
        if c["exchange"] == "full":
            assert total == plan


@pytest.mark.parametrize(
    "world_size", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_bytes_are_those_of_the_formulas(ranks, world_size):
    cases = BYTES
    if world_size == 3:
        cases = [{**SMALL, "exchange": e, "groups": [["tag"], [], ["user", "film", "star"]]} for e in ("rows", "full")]
    if world_size == 4:
        cases = [{**SMALL, "exchange": e, "replicas": 2} for e in ("rows", "full")]
    found = ranks.run(several, world_size, [("counted", c) for c in cases])
    for c, results in zip(cases, zip(*found, strict=True), strict=True):
        check_bytes(results, c)


def test_an_evaluation_sends_no_gradients(ranks):
    for kinds in ranks.run(evaluated, 2):
        assert set(kinds) == {"rows", "values", "votes"}


def evaluated(rank, world_size):
    model = ModalityParallel(models.user_model(TWO), models.plan_of(TWO)).eval()
    for _ in range(2):
        model.comm_stats.reset()
        with torch.no_grad():
            model(models.user_data(TWO["names"]), models.user_batches(TWO, 0))
    return model.comm_stats.num_bytes


def test_calls_do_not_grow_with_the_number_of_relations(ranks):
    few, many = (
        ranks.run(calls_of, 2, c)
        for c in (SMALL, {**SMALL, "relations": ["rates"], "names": ["user", "film"], "groups": [["user"], ["film"]]})
    )
    for one, other in pairwise([*few, *many]):
        assert one == other
        assert set(one.values()) == {1}


def calls_of(rank, world_size, c):
    with models.double():
        data, plain = models.hyper_model(c)
        model = ModalityParallel(plain, models.plan_of(c)).train()
        inputs = model.prepare(data, ("train",))
        for step in range(2):
            model.comm_stats.reset()
            model.loss(inputs, models.hyper_draw(c, inputs, step)[0], seed=0).backward()
        return model.comm_stats.calls
