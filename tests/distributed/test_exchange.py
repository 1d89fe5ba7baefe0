from __future__ import annotations

import os
import signal
import warnings
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hyperlearn_pyg.distributed import wire as wire_module
from hyperlearn_pyg.distributed.exchange import exchange_rows, gather_values, sum_grads, sum_value
from hyperlearn_pyg.distributed.route import Layout, Tuples, distinct_rows, make_route
from hyperlearn_pyg.distributed.traffic import exchanged_bytes, reduced_bytes
from hyperlearn_pyg.distributed.wire import Wire

WIDTH = 3
DOUBLE = torch.float64
KINDS = ((0, slice(0, 2)), (1, slice(2, 3)))  # the shared parameters by type: float64, float32
Problem = dict[str, Any]


def problem(
    sizes: dict[str, int],
    owners: dict[str, int],
    slots: tuple[str, ...],
    batch: int,
    shares: tuple[int, ...] | None = None,
    frozen: str = "",
) -> Problem:
    """A model of one linear map a modality, two relations, a weight and a bias that all ranks share."""
    return {"sizes": sizes, "owners": owners, "slots": slots, "batch": batch, "shares": shares, "frozen": frozen}


def parts(p: Problem, world_size: int) -> tuple[dict[str, Tensor], list[Tensor], list[Tuples], Layout]:
    generator = torch.Generator().manual_seed(1)
    factors = {m: torch.randn(n, WIDTH, dtype=DOUBLE, generator=generator) for m, n in p["sizes"].items()}
    for name, factor in factors.items():
        factor.requires_grad_(name not in p["frozen"])
    shared = [torch.randn(*shape, dtype=DOUBLE, generator=generator) for shape in ((WIDTH,), (2, 1))]
    shared.append(torch.randn((), generator=generator))
    for tensor in shared:
        tensor.requires_grad_("shared" not in p["frozen"])
    pairs = ((p["slots"], p["batch"], p["shares"]), (p["slots"][:2], p["batch"] // 2, None))
    tuples = []
    for slots, count, shares in pairs:
        draws = [torch.randint(p["sizes"][m], (count,), generator=generator) for m in slots]
        tuples.append(Tuples(slots, torch.stack(draws), shares))
    return factors, shared, tuples, Layout(p["sizes"], p["owners"], world_size)


def score(rows: list[Tensor], shared: list[Tensor] | tuple[Tensor, ...], relation: int) -> Tensor:
    weight, scale, bias = shared
    return (torch.stack(rows).prod(0) * weight).sum(-1) * scale[relation] + bias


def plain(p: Problem, whole: bool) -> dict[str, Any]:
    """Loss and gradients by plain indexing."""
    factors, shared, tuples, _ = parts(p, 1 + max(p["owners"].values()))
    loss = torch.zeros((), dtype=DOUBLE)
    for i, entry in enumerate(tuples):
        rows = [factors[m][entry.index[s]] for s, m in enumerate(entry.modalities)]
        scores = score(rows, shared, i)
        loss = loss + (scores.logsumexp(0) if whole and len(scores) else scores.square().sum())
    loss.backward()
    return {"loss": loss.item(), **{m: f.grad for m, f in factors.items()}, "shared": [s.grad for s in shared]}


def step(rank: int, world_size: int, p: Problem, exchange: str, whole: bool) -> dict[str, Any]:
    """The same on one of several ranks."""
    factors, shared, tuples, layout = parts(p, world_size)
    route, wire = make_route(tuples, layout, rank, exchange), Wire()
    own = {m: factors[m] for m in layout.local(rank)}
    got = exchange_rows(route.select(own, like=torch.empty(0, WIDTH, dtype=DOUBLE)), route, wire, shared)
    tables, loss = route.tables(got.rows), got.tie
    for i, (entry, index) in enumerate(zip(tuples, route.index, strict=True)):
        rows = [tables[m][index[s]] for s, m in enumerate(entry.modalities)]
        scores = score(rows, got.shared, i)
        if whole and entry.index.size(1):
            loss = loss + gather_values(scores, entry.split(world_size), wire).logsumexp(0)
        else:
            loss = loss + scores.square().sum()
    loss = loss if whole else sum_value(loss, wire)
    loss.backward()
    needed = {m: [layout.sizes[m]] * world_size for m in route.layout.names}
    needed = needed if route.full else distinct_rows(tuples, layout)
    sent = exchanged_bytes(layout.owners, needed, world_size, width=WIDTH, itemsize=8)[rank]
    sums = [reduced_bytes(sum(t.numel() + 1 for t in shared[s]), world_size, itemsize=8 >> i) for i, s in KINDS]
    return {
        "loss": loss.item(),
        **{m: f.grad for m, f in own.items()},
        "shared": [s.grad for s in shared],
        "bytes": (wire.stats.exchanged, route.num_bytes(WIDTH, 8), sent),
        "sums": (wire.stats.num_bytes.get("shared gradients", 0), sum(sums) * shared[0].requires_grad),
        "calls": wire.stats.calls,
    }


def agree(found: list[dict[str, Any]], wanted: dict[str, Any], p: Problem) -> None:
    for rank, result in enumerate(found):
        assert result["loss"] == found[0]["loss"]
        assert result["loss"] == pytest.approx(wanted["loss"], rel=1e-12, abs=1e-12)
        assert len(set(result["bytes"])) == 1, result["bytes"]
        assert len(set(result["sums"])) == 1, result["sums"]
        for grad, other in zip(result["shared"], wanted["shared"], strict=True):
            close(grad, other)
        for name in p["sizes"]:
            if p["owners"][name] == rank:
                close(result[name], wanted[name])


def close(found: Tensor | None, wanted: Tensor | None) -> None:
    assert (found is None) == (wanted is None)
    if found is not None:
        assert wanted is not None
        torch.testing.assert_close(found, wanted, rtol=1e-12 if wanted.dtype == DOUBLE else 1e-5, atol=1e-12)


ABC = {"a": 5, "b": 4, "c": 6}
PROBLEMS = {
    "three modalities": problem(ABC, {"a": 0, "b": 1, "c": 0}, ("a", "b", "c"), 9),
    "one size": problem({"a": 4, "b": 4}, {"a": 0, "b": 1}, ("a", "b"), 40),
    "roles": problem(ABC, {"a": 1, "b": 1, "c": 0}, ("a", "a", "c", "b"), 7),
    "batch of one": problem(ABC, {"a": 0, "b": 1, "c": 0}, ("a", "b", "c"), 1),
    "no tuples at all": problem(ABC, {"a": 0, "b": 1, "c": 0}, ("a", "b", "c"), 0),
    "rank 0 without tuples": problem(ABC, {"a": 0, "b": 1, "c": 1}, ("a", "b", "c"), 1, (0, 1)),
    "rank 1 without tuples": problem(ABC, {"a": 0, "b": 1, "c": 1}, ("a", "b", "c"), 1, (1, 0)),
    "rank 1 without modalities": problem(ABC, {"a": 0, "b": 0, "c": 0}, ("a", "b", "c"), 9),
    "rank 0 without modalities": problem(ABC, {"a": 1, "b": 1, "c": 1}, ("a", "b", "c"), 9),
    "frozen rank": problem(ABC, {"a": 0, "b": 1, "c": 0}, ("a", "b", "c"), 9, frozen="ac"),
    "frozen rank and decoder": problem(ABC, {"a": 0, "b": 1, "c": 0}, ("a", "b", "c"), 9, frozen="b shared"),
    "all in one place": problem(ABC, {"a": 0, "b": 1, "c": 0}, ("b", "b"), 6, (0, 6)),
}
CASES = [(name, exchange, whole) for name in PROBLEMS for exchange in ("rows", "full") for whole in (0, 1)]
CASES += [(name, "auto", 0) for name in ("three modalities", "one size", "no tuples at all")]


def every_step(rank: int, world_size: int, cases: list[tuple[Problem, str, bool]]) -> list[dict[str, Any]]:
    return [step(rank, world_size, *case) for case in cases]


@pytest.fixture(scope="module")
def two(ranks: Any) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    found = ranks.run(every_step, 2, [(PROBLEMS[name], exchange, bool(whole)) for name, exchange, whole in CASES])
    return {case: [results[i] for results in found] for i, case in enumerate(CASES)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_two_ranks_equal_plain_indexing(two: Any, case: tuple[str, str, int]) -> None:
    p = PROBLEMS[case[0]]
    agree(two[case], plain(p, bool(case[2])), p)


def test_one_message_a_kind_whatever_a_rank_holds(two: Any) -> None:
    for results in two.values():
        assert results[0]["calls"].get("row gradients", 0) == results[1]["calls"].get("row gradients", 0) == 1


@pytest.mark.slow
def test_no_collective_is_mismatched(ranks: Any) -> None:
    cases = [(PROBLEMS[name], exchange, bool(whole)) for name, exchange, whole in CASES]
    ranks.run(every_step, 2, cases, env={"TORCH_DISTRIBUTED_DEBUG": "DETAIL"})


@pytest.mark.slow
@pytest.mark.parametrize("exchange", ["rows", "full", "auto"])
@pytest.mark.parametrize("world_size", [3, 4])
def test_more_ranks_equal_plain_indexing(ranks: Any, world_size: int, exchange: str) -> None:
    names = "abcdef"
    problems = []
    for i in range(12):
        sizes = {m: 1 + (3 * i + 5 * j) % 7 for j, m in enumerate(names[: 2 + i % 5])}
        owners = {m: (i + j * (1 + i % 3)) % world_size for j, m in enumerate(sizes)}
        slots = tuple(list(sizes)[(i + s) % len(sizes)] for s in range(2 + i % 3))
        problems.append(problem(sizes, owners, slots, (0, 1, 2, 5, 11, 30)[i % 6], frozen="a" if i % 4 == 3 else ""))
    cases = [(p, exchange, whole) for p in problems for whole in (False, True)]
    found = ranks.run(every_step, world_size, cases)
    for i, (p, _, whole) in enumerate(cases):
        agree([results[i] for results in found], plain(p, whole), p)


@pytest.mark.parametrize("exchange", ["rows", "full", "auto"])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("batch", [0, 1, 9])
def test_alone_without_a_process_group(exchange: str, whole: bool, batch: int) -> None:
    p = problem(ABC, dict.fromkeys(ABC, 0), ("a", "b", "c"), batch)
    result = step(0, 1, p, exchange, whole)
    agree([result], plain(p, whole), p)
    assert result["bytes"] == (0, 0, 0)
    assert result["calls"] == {}


def test_alone_within_a_group_of_one(ranks: Any) -> None:
    p = problem(ABC, dict.fromkeys(ABC, 0), ("a", "b", "c"), 9)
    agree(ranks.run(step, 1, p, "rows", False), plain(p, False), p)


# ---------------------------------------------------------------- the others, one call for all


def small_bridges(rank: int, world_size: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    wire = Wire()
    # values: uneven blocks of matrices, Gram say
    sizes = (2, 1)
    mine = torch.full((sizes[rank], 2, 2), 1.0 + rank, dtype=DOUBLE, requires_grad=True)
    gathered = gather_values(mine, sizes, wire)
    (gathered * torch.arange(3.0, dtype=DOUBLE)[:, None, None]).sum().backward()
    out["values"] = (gathered.detach(), mine.grad)
    out["no values"] = gather_values(torch.empty(0, 4), (0, 0), wire).shape
    out["bytes of values"] = wire.stats.num_bytes["values"]
    # sums
    part = torch.tensor([0.1, 0.7][rank], dtype=DOUBLE, requires_grad=True)
    total = sum_value(part, wire)
    (3 * total).backward()
    out["sum"] = (total.item(), part.grad)
    # gradients of data replicas: one used nowhere, one used on rank 1 only, one frozen, one of other type
    p = [torch.ones(2, dtype=DOUBLE, requires_grad=True) for _ in range(3)]
    p += [torch.ones(2, dtype=DOUBLE), torch.ones(1, requires_grad=True)]
    used = sum_grads(p, wire)
    loss = (used[0] * (rank + 1)).sum() + used[3].sum() + used[4].double().sum()
    loss = loss + used[1].sum() if rank else loss
    loss.backward()
    out["replicas"] = [t.grad for t in p]
    out["calls"] = wire.stats.calls["data gradients"]
    return out


def test_values_sums_and_replicas(ranks: Any) -> None:
    found = ranks.run(small_bridges, 2)
    for rank, result in enumerate(found):
        values, grad = result["values"]
        assert values[:, 0, 0].tolist() == [1.0, 1.0, 2.0]
        assert grad[:, 0, 0].tolist() == ([0.0, 1.0], [2.0])[rank]
        assert result["no values"] == (0, 4)
        assert result["bytes of values"] == 2 * 4 * 8  # a padded block to one other rank; nothing for empty blocks
        assert result["sum"] == (0.1 + 0.7, torch.tensor(3.0, dtype=DOUBLE))
        first, second, unused, frozen, single = result["replicas"]
        assert first.tolist() == [3.0, 3.0]
        assert second.tolist() == [1.0, 1.0]
        assert unused is None
        assert frozen is None
        assert (single.dtype, single.tolist()) == (torch.float32, [2.0])
        assert result["calls"] == 2


def as_bfloat16(rank: int, world_size: int, exchange: str) -> tuple[Tensor, Tensor | None, int, int]:
    layout = Layout({"a": 3, "b": 3}, {"a": 0, "b": 1}, 2)
    route = make_route([Tuples(("a", "b"), torch.tensor([[0, 1, 2, 0], [0, 0, 1, 2]]))], layout, rank, exchange)
    wire = Wire(dtype=torch.bfloat16)
    factor = torch.full((3, 2), 1.001, requires_grad=True)
    got = exchange_rows(route.select({"ab"[rank]: factor}), route, wire)
    got.rows.sum().backward()
    return got.rows.detach(), factor.grad, wire.stats.exchanged, route.num_bytes(2, 2)


@pytest.mark.parametrize(("exchange", "wanted"), [("rows", [[2, 1, 1], [1, 1, 1]]), ("full", [[2, 2, 2]] * 2)])
def test_rows_travel_as_bfloat16(ranks: Any, exchange: str, wanted: list[list[float]]) -> None:
    for rank, (rows, grad, counted, formula) in enumerate(ranks.run(as_bfloat16, 2, exchange)):
        assert rows.dtype == grad.dtype == torch.float32
        assert rows.unique().tolist() == [1.0]
        assert grad[:, 0].tolist() == wanted[rank]
        assert counted == formula


def no_decoder_here(rank: int, world_size: int) -> list[Tensor | None]:
    layout = Layout({"a": 2, "b": 2}, {"a": 0, "b": 1}, 2)
    route = make_route([Tuples(("a", "b"), torch.tensor([[0, 1], [0, 1]]), (2, 0))], layout, rank, "rows")
    factor, scale = torch.ones(2, 1, requires_grad=True), torch.ones((), requires_grad=True)
    got = exchange_rows(route.select({"ab"[rank]: factor}), route, Wire(), [scale])
    (got.tie if rank else got.rows.sum() * got.shared[0]).backward()
    return [factor.grad, scale.grad]


def test_the_tie_alone_takes_a_rank_through_the_backward_pass(ranks: Any) -> None:
    for factor, scale in ranks.run(no_decoder_here, 2):
        assert factor.flatten().tolist() == [1.0, 1.0]
        assert scale.item() == 4.0


def twice_or_dead(rank: int, world_size: int, dead: bool) -> list[float]:
    layout = Layout({"a": 2, "b": 2}, {"a": 0, "b": 1}, 2)
    route = make_route([Tuples(("a", "b"), torch.tensor([[0, 1], [0, 1]]))], layout, rank, "rows")
    factor = torch.ones(2, 1, requires_grad=True)
    loss = exchange_rows(route.select({"ab"[rank]: factor}), route, Wire()).rows.sum()
    loss.backward(retain_graph=True)
    if dead and rank:
        os.kill(os.getpid(), signal.SIGKILL)
    loss.backward()
    assert factor.grad is not None
    return factor.grad.flatten().tolist()


def test_backward_twice_adds_up(ranks: Any) -> None:
    assert ranks.run(twice_or_dead, 2, False) == [[2.0, 2.0]] * 2


def test_rank_whose_peer_dies_between_forward_and_backward_raises_at_once(ranks: Any) -> None:
    left, dead = ranks.outcomes(twice_or_dead, 2, True)
    assert dead.status == -signal.SIGKILL
    assert "RuntimeError" in left.error
    assert left.seconds - dead.seconds < 15  # the group's own limit is 20 s


def older_name(rank: int, world_size: int) -> list[float]:
    if hasattr(dist, "all_gather_single"):
        del dist.all_gather_single
    warnings.simplefilter("ignore", FutureWarning)  # newer versions of torch warn of the older name
    return Wire().all_gather(torch.tensor([1.0 + rank]), "values").tolist()


def test_gather_under_its_older_name(ranks: Any) -> None:
    assert ranks.run(older_name, 2) == [[1.0, 2.0]] * 2


def test_older_names_where_newer_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "all_gather_into_tensor", len)
    monkeypatch.delattr(dist, "all_gather_single", raising=False)
    assert wire_module.public("all_gather_single", "all_gather_into_tensor") is len


def without_gradients(rank: int, world_size: int) -> tuple[bool, bool]:
    layout = Layout({"a": 2, "b": 2}, {"a": 0, "b": 1}, 2)
    route, wire = make_route([Tuples(("a", "b"), torch.tensor([[0, 1], [0, 1]]))], layout, rank, "rows"), Wire()
    rows = route.select({"ab"[rank]: torch.ones(2, 1, requires_grad=rank == 0)})
    with torch.no_grad():
        quiet = exchange_rows(rows, route, wire)
    return quiet.rows.requires_grad, exchange_rows(rows, route, wire).rows.requires_grad


def test_node_lives_on_frozen_ranks_but_not_without_gradients(ranks: Any) -> None:
    assert ranks.run(without_gradients, 2) == [(False, True)] * 2


def not_in_group(rank: int, world_size: int) -> str:
    group = dist.new_group([0])
    try:
        return str(Wire(group).world_size)
    except ValueError as error:
        return str(error)


def test_group_without_this_rank_is_refused(ranks: Any) -> None:
    assert ranks.run(not_in_group, 2) == ["1", "'group' must be one that this rank is in"]


def test_bad_arguments_are_named() -> None:
    layout = Layout({"a": 2, "b": 2}, {"a": 0, "b": 1}, 2)
    route = make_route([Tuples(("a", "b"), torch.tensor([[0, 1], [0, 1]]))], layout, 0, "rows")
    with pytest.raises(ValueError, match=r"'rows' must have shape \[2, C\] for this route \(got \[3, 1\]\)"):
        exchange_rows(torch.ones(3, 1), route, Wire())
    with pytest.raises(ValueError, match=r"'route' must be made for rank 0 of 1 \(got rank 0 of 2\)"):
        exchange_rows(torch.ones(2, 1), route, Wire())
    with pytest.raises(ValueError, match=r"'sizes' must be 1 counts with 3 as that of rank 0 \(got \[2\]\)"):
        gather_values(torch.ones(3), [2], Wire())


def test_stats_add_up_and_start_anew() -> None:
    stats = wire_module.CommStats()
    stats.add("rows", 3, 0.5)
    stats.add("rows", 4, 0.5)
    stats.add("sums", 1, 0.5)
    assert (stats.exchanged, stats.total, stats.calls, stats.seconds["rows"]) == (7, 8, {"rows": 2, "sums": 1}, 1.0)
    stats.reset()
    assert stats.total == 0
