"""Faults at a given rank, step and place: what the other ranks say, and how soon; what can go on does."""

from __future__ import annotations

import runpy
import signal
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hyperlearn_pyg.distributed.checkpoint import load_latest

faults = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("faults.py"))))
fault, train = faults.fault, faults.train
#: Seconds that a loaded machine may add to any time here.
SLACK = 8.0
GRACE = 1.0  # of the tests; the package's own is 5
LOST = "lost rank 1, which holds modality 'b': it died or does not answer"
RAISED = "rank 1, which holds modality 'b', raised ZeroDivisionError: broken on purpose"


@pytest.fixture
def run(ranks: Any, tmp_path: Path) -> Any:
    """Train for some steps, with faults; every one of them must have struck."""

    def go(world_size: int, *struck: dict[str, Any], **spec: Any) -> list[Any]:
        spec = {"folder": str(tmp_path), "steps": 4, "faults": struck, "grace": GRACE, **spec}
        spec.setdefault("checkpoints", str(tmp_path / "saves"))
        found = ranks.outcomes(train, world_size, spec, init=False, limit=60.0, grace=60.0)
        wanted = {f"{entry['where']}-{rank}-{entry['step']}" for entry in struck for rank in entry["ranks"]}
        assert set(faults.hits(tmp_path)) == wanted, [outcome.error for outcome in found]
        for outcome in found:
            assert outcome.ok or outcome.status == -signal.SIGKILL, outcome.error
        return [SimpleNamespace(**outcome.value) if outcome.value else outcome.status for outcome in found]

    go.seconds_since = lambda error: error["at"] - min(faults.hits(tmp_path).values())
    go.folder = tmp_path / "saves"
    return go


def diaries(ranks: Any, folder: Path, world_size: int, **spec: Any) -> list[Any]:
    spec = {"folder": str(folder), "steps": 4, **spec}
    return [SimpleNamespace(**diary) for diary in ranks.run(train, world_size, spec, init=False)]


@pytest.fixture(scope="module")
def plain(ranks: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Two ranks, undisturbed."""
    return diaries(ranks, tmp_path_factory.mktemp("plain"), 2)


@pytest.fixture(scope="module")
def without_step_1(ranks: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Two ranks, undisturbed, that leave out step 1."""
    return diaries(ranks, tmp_path_factory.mktemp("skipped"), 2, skip=[1])


def same_state(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def only_error(diary: Any) -> dict[str, Any]:
    assert len(diary.errors) == 1
    return next(iter(diary.errors.values()))


def remembered(diary: Any, error: dict[str, Any], served_by: str | None = None) -> None:
    """A further call says the same, at once; nothing is left running, but who asks a store that was stopped."""
    again = diary.again
    assert error["text"] in again["text"]
    assert "cannot go on since an earlier failure" in again["text"]
    assert (again["type"], again["ranks"], again["seconds"] < 0.5) == (error["type"], error["ranks"], True)
    assert diary.threads == ([] if served_by is None else ["notes of the ranks"])


# ---------------------------------------------------------------- a rank is gone


def assert_lost(
    run: Any, found: list[Any], dead: list[int], limit: float = GRACE + SLACK, served_by: str | None = None
) -> None:
    """Each rank that is left names those that are not, and the checkpoint of the step before loads."""
    for rank, diary in enumerate(found):
        if rank in dead:
            assert diary == -signal.SIGKILL
            continue
        error = only_error(diary)
        assert error["type"] == "RankLostError"
        assert (error["ranks"], error["modalities"]) == (tuple(dead), tuple("abcd"[r] for r in dead))
        assert all(f"rank {r}, which holds modality '{'abcd'[r]}'" in error["text"] for r in dead)
        assert run.seconds_since(error) < limit
        remembered(diary, error, served_by)


@pytest.mark.parametrize("where", ["encode", "between", "backward"])
def test_killed_rank_is_named_and_the_last_checkpoint_loads(run: Any, plain: list[Any], where: str) -> None:
    found = run(2, fault("kill", where, 1, 2), save_every=1)
    assert_lost(run, found, [1])
    assert only_error(found[0])["text"].startswith(LOST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rank 0 may have begun to save step 3
        saved = load_latest(run.folder)
    assert saved is not None
    assert saved.step == 2
    same_state(saved.tensors, {**plain[0].states[1]["values"], **plain[1].states[1]["values"]})


def test_killed_rank_0_that_serves_the_store(run: Any) -> None:
    found = run(2, fault("kill", "between", 0, 1), port=faults.free_port())
    assert_lost(run, found, [0])


@pytest.mark.slow
@pytest.mark.parametrize("dead", [(3,), (0,), (1, 2), (0, 3)])
@pytest.mark.parametrize("where", ["encode", "between", "backward"])
def test_killed_among_four(run: Any, dead: tuple[int, ...], where: str) -> None:
    assert_lost(run, run(4, fault("kill", where, dead, 2)), list(dead))


@pytest.mark.slow
def test_rank_0_of_four_that_serves_the_store_is_named_alone(run: Any) -> None:
    found = run(4, fault("kill", "between", 0, 1), port=faults.free_port())
    for diary in found[1:]:
        error = only_error(diary)
        assert (error["ranks"], error["modalities"]) == ((0,), ("a",))
        assert "nobody else can be asked without it" in error["text"]
        assert run.seconds_since(error) < GRACE + SLACK


def test_hung_rank_is_named_after_the_time_out(run: Any) -> None:
    found = run(2, fault("stop", "between", 1, 1), options={"timeout": 1.5})
    assert_lost(run, found, [1], limit=1.5 + GRACE + SLACK)
    assert run.seconds_since(only_error(found[0])) > 1.4


@pytest.mark.slow
def test_hung_rank_that_serves_the_store_is_named(run: Any) -> None:
    found = run(2, fault("stop", "between", 0, 1), options={"timeout": 1.5}, port=faults.free_port())
    assert_lost(run, found, [0], limit=1.5 + 2 * GRACE + SLACK, served_by="a stopped process")


@pytest.mark.slow
def test_hung_among_four(run: Any) -> None:
    found = run(4, fault("stop", "backward", 2, 1), options={"timeout": 3.0})
    assert_lost(run, found, [2], limit=3 + GRACE + SLACK)


def test_process_that_ends_unguarded_is_named_as_lost(run: Any, ranks: Any, tmp_path: Path) -> None:
    spec = {"folder": str(tmp_path), "steps": 3, "faults": [fault("raise", "backward", 1, 1)], "catch": False}
    left, ended = ranks.outcomes(train, 2, spec, init=False, grace=60.0)
    assert faults.hits(tmp_path)
    assert "ZeroDivisionError" in ended.error
    assert "RankLostError: " + LOST in left.error
    assert 4.5 < left.seconds - ended.seconds < 5 + SLACK  # the package's own time of grace


# ---------------------------------------------------------------- a rank raises


@pytest.mark.parametrize(
    ("where", "rank", "what", "modalities"),
    [
        ("encode", 1, "the encoder of modality 'b' on rank 1 (cpu)", ("b",)),
        ("encode", 0, "the encoder of modality 'a' on rank 0 (cpu)", ("a",)),
        ("decode", 1, "scoring its tuples on rank 1 (cpu)", ()),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_the_same_error_everywhere_and_on_it_goes(
    run: Any, without_step_1: list[Any], where: str, rank: int, what: str, modalities: tuple[str, ...], step: int
) -> None:
    found = run(2, fault("raise", where, rank, step))
    text = f"{what} raised ZeroDivisionError: broken on purpose. No rank took this step"
    for number, diary in enumerate(found):
        error = only_error(diary)
        assert list(diary.errors) == [step]
        assert (error["type"], error["text"], error["ranks"]) == ("ModalityError", text, (rank,))
        assert error["modalities"] == modalities
        assert error["cause"] == ("ZeroDivisionError" if number == rank else "NoneType")
        assert run.seconds_since(error) < SLACK
        assert list(diary.losses) == [s for s in range(4) if s != step]
        if step == 1:
            same_state(diary.states[1], diary.states[0])  # nobody took the step
            same_state(diary.states, without_step_1[number].states | {1: diary.states[0]})
            assert diary.losses == without_step_1[number].losses


def assert_told(run: Any, found: list[Any], step: int, text: str) -> None:
    """Rank 1 raised its own error, rank 0 the text of it within seconds, far from the time-out of a minute."""
    own, other = only_error(found[1]), only_error(found[0])
    assert (own["type"], own["text"]) == ("ZeroDivisionError", "broken on purpose")
    assert (other["type"], list(found[0].errors)) == ("RankLostError", [step])
    assert text in other["text"]
    assert (other["ranks"], other["modalities"]) == ((1,), ("b",))
    assert run.seconds_since(other) < SLACK
    remembered(found[0], other)
    assert text in found[1].again["text"]


@pytest.mark.parametrize("served", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("where", "guard", "step"), [("backward", "backward", 2), ("user", "step", 2), ("targets", None, 1)]
)
def test_guard_tells_the_others_while_the_process_lives_on(
    run: Any, where: str, guard: str | None, step: int, served: bool
) -> None:
    port = faults.free_port() if served else None
    assert_told(run, run(2, fault("raise", where, 1, 1), guard=guard, linger=30.0, port=port), step, RAISED)


def test_rank_0_that_serves_the_store_stays_until_it_was_heard(run: Any) -> None:
    found = run(2, fault("raise", "user", 0, 1), guard="step", port=faults.free_port())
    assert "rank 0, which holds modality 'a', raised ZeroDivisionError" in only_error(found[1])["text"]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["backward", "targets", "user"])
def test_guard_among_four(run: Any, where: str) -> None:
    found = run(4, fault("raise", where, 2, 1), guard="step", linger=30.0)
    for rank in (0, 1, 3):
        error = only_error(found[rank])
        assert "rank 2, which holds modality 'c', raised ZeroDivisionError: broken on purpose" in error["text"]
        assert run.seconds_since(error) < SLACK


# ---------------------------------------------------------------- a rank is slow, or differs


def test_slow_rank_changes_nothing_and_is_named_in_the_log(run: Any, plain: list[Any]) -> None:
    found = run(2, fault("sleep", "encode", 1, 2, seconds=1.5))
    for diary, wanted in zip(found, plain, strict=True):
        assert not diary.errors
        assert diary.losses == wanted.losses
        same_state(diary.states, wanted.states)
        assert any(
            line.startswith("rank 1, which holds modality 'b', was slow in this step: 1.5") for line in diary.log
        )


def test_slower_than_the_time_out_is_named(run: Any) -> None:
    found = run(2, fault("sleep", "encode", 1, 1, seconds=GRACE + 2.5), options={"timeout": 1.0})
    assert only_error(found[0])["text"].startswith(LOST)
    late = only_error(found[1])
    assert late["text"].startswith("the others gave up rank 1, which holds modality 'b': it did not answer in time")
    assert (late["ranks"], late["modalities"]) == ((1,), ("b",))


@pytest.mark.parametrize(("check", "step"), [("first", 0), ("always", 2)])
def test_other_tuples_are_refused_and_on_it_goes(run: Any, check: str, step: int) -> None:
    found = run(2, fault("other", "batch", 1, step), options={"check": check})
    texts = {only_error(diary)["text"] for diary in found}
    assert len(texts) == 1
    digests = [faults.digest([faults.batch_of(step, "ab", other)]) for other in (False, True)]
    assert f"differ in 'tuples': rank 0 has {digests[0]}, rank 1 has {digests[1]}" in texts.pop()
    for diary in found:
        assert sorted([*diary.losses, step]) == [0, 1, 2, 3]


# ---------------------------------------------------------------- memory, NaN


def test_out_of_memory_tells_estimate_and_limit(run: Any, without_step_1: list[Any]) -> None:
    found = run(2, fault("memory", "encode", 1, 1), options={"plan": "auto"})
    for diary in found:
        error = only_error(diary)
        assert error["type"] == "ModalityError"
        assert "out of memory in the encoder of modality 'b' on rank 1 (cpu): the plan's estimate" in error["text"]
        assert "for this rank is 480 B, the limit " in error["text"]
        assert "(CUDA out of memory. Tried to allocate 1 GiB)" in error["text"]
        same_state(diary.states[1], diary.states[0])
        assert list(diary.losses) == [0, 2, 3]


def test_memory_that_really_ran_out(run: Any) -> None:
    found = run(2, fault("limit", "encode", 1, 1))
    for diary in found:
        error = only_error(diary)
        assert "out of memory in the encoder of modality 'b' on rank 1 (cpu)" in error["text"]
        assert (error["ranks"], error["modalities"]) == ((1,), ("b",))
        same_state(diary.states[1], diary.states[0])
        assert list(diary.losses) == [0, 2, 3]


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_what_is_not_finite_is_named(run: Any, kind: str, without_step_1: list[Any]) -> None:
    found = run(2, fault(kind, "encode", 1, 1))
    for diary, wanted in zip(found, without_step_1, strict=True):
        error = only_error(diary)
        assert error["type"] == "NonFiniteError"
        assert "NaN or infinite numbers come from the factors of modality 'b'. No rank took this step" in error["text"]
        assert (error["ranks"], error["modalities"]) == ((1,), ("b",))
        same_state(diary.states, wanted.states | {1: diary.states[0]})


def test_step_that_is_not_finite_is_skipped(run: Any, without_step_1: list[Any]) -> None:
    found = run(2, fault("nan", "encode", 0, 1), options={"on_nonfinite": "skip"})
    for diary, wanted in zip(found, without_step_1, strict=True):
        assert not diary.errors
        assert [step for step, loss in diary.losses.items() if loss != loss] == [1]
        assert len(diary.warned) == 1
        assert "come from the factors of modality 'a'; the step is skipped on all ranks" in diary.warned[0]
        same_state(diary.states, wanted.states | {1: diary.states[0]})


def test_what_is_not_finite_is_ignored(run: Any) -> None:
    for diary in run(2, fault("nan", "encode", 0, 1), options={"on_nonfinite": "ignore"}):
        assert not diary.errors
        assert not diary.warned
        assert [step for step, loss in diary.losses.items() if loss != loss] == [1, 2, 3]
