from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch

from hyperlearn_pyg.transforms import _random
from hyperlearn_pyg.transforms._random import RandomSource


def test_workers_and_epochs_draw_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    source = RandomSource(5)
    first = source.rand(4)
    seen = [first]
    for seed in (100, 101, 200):  # two workers, and the first one in the next epoch
        monkeypatch.setattr(_random, "get_worker_info", lambda seed=seed: SimpleNamespace(seed=seed))
        seen.append(pickle.loads(pickle.dumps(source)).rand(4))
        assert torch.equal(seen[-1], RandomSource(5).rand(4))
    assert len({tuple(numbers.tolist()) for numbers in seen}) == 4


def test_no_numbers() -> None:
    assert RandomSource(0).rand(0).shape == (0,)
