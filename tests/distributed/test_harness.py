from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist


def total(rank: int, world_size: int, start: float) -> float:
    value = torch.tensor([start + rank])
    dist.all_reduce(value)
    return value.item()


def raise_on(rank: int, world_size: int, culprit: int) -> None:
    if rank == culprit:
        raise KeyError("broken on purpose")


def stop_on(rank: int, world_size: int, culprit: int) -> None:
    if rank == culprit:
        os.kill(os.getpid(), signal.SIGSTOP)


def die(rank: int, world_size: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_in_here(rank: int, world_size: int) -> None:
    time.sleep(60)


def threads(rank: int, world_size: int) -> tuple[int, bool]:
    return torch.get_num_threads(), dist.is_initialized()


def test_ranks_talk_and_return_their_values(ranks: Any) -> None:
    assert ranks.run(total, 2, 1.0) == [3.0, 3.0]


def test_one_rank(ranks: Any) -> None:
    assert ranks.run(total, 1, 1.0) == [1.0]


def test_one_thread_a_rank_and_no_group_where_none_is_wanted(ranks: Any) -> None:
    assert ranks.run(threads, 2, init=False) == [(1, False), (1, False)]


def test_error_of_a_rank_is_shown_and_the_others_end(ranks: Any) -> None:
    start = time.monotonic()
    with pytest.raises(AssertionError, match=r"rank 1 \(exit status 1\)(.|\n)*broken on purpose"):
        ranks.run(raise_on, 2, 1)
    assert time.monotonic() - start < 20


def test_rank_that_hangs_is_killed_and_shown(ranks: Any) -> None:
    found = ranks.outcomes(sleep_in_here, 1, limit=0.5)
    assert found[0].status == -signal.SIGKILL
    assert "sleep_in_here" in found[0].log


def test_stopped_rank_is_killed(ranks: Any) -> None:
    found = ranks.outcomes(stop_on, 2, 0, init=False, limit=1)
    assert [outcome.status for outcome in found] == [-signal.SIGKILL, 0]


def test_death_of_a_rank_is_told(ranks: Any) -> None:
    found = ranks.outcomes(die, 1, init=False)
    assert (found[0].ok, found[0].status) == (False, -signal.SIGKILL)


@pytest.mark.slow
def test_server_that_gives_no_answer_is_killed_and_started_again(ranks: Any) -> None:
    ranks.run(threads, 1, init=False)
    os.kill(ranks._server.pid, signal.SIGSTOP)
    with pytest.raises(AssertionError, match="gave no answer"):
        ranks.outcomes(threads, 1, init=False, limit=-49)
    assert ranks.run(total, 2, 1.0) == [3.0, 3.0]
