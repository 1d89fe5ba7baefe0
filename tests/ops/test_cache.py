from __future__ import annotations

import gc
import pickle

import pytest
import torch

from hyperlearn_pyg.ops.cache import TensorCache


class Builder:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


@pytest.fixture
def build() -> Builder:
    return Builder()


def test_an_entry_is_built_once(build: Builder) -> None:
    cache, tensor = TensorCache[int](), torch.zeros(3)
    assert [cache.get(tensor, "a", build) for _ in range(3)] == [1, 1, 1]
    assert cache.get(tensor, "b", build) == 2
    assert len(cache) == 2
    cache.clear()
    assert cache.get(tensor, "a", build) == 3


def test_a_write_outdates_the_entry(build: Builder) -> None:
    cache, tensor = TensorCache[int](), torch.zeros(3)
    cache.get(tensor, "a", build)
    tensor[0] = 1
    assert cache.get(tensor, "a", build) == 2
    assert len(cache) == 1


def test_a_write_through_a_view_outdates_the_entry(build: Builder) -> None:
    cache, tensor = TensorCache[int](), torch.zeros(2, 3)
    cache.get(tensor, "a", build)
    tensor[1].add_(1)
    assert cache.get(tensor, "a", build) == 2


def test_equal_tensors_have_entries_of_their_own(build: Builder) -> None:
    cache, tensor = TensorCache[int](), torch.zeros(3)
    copy = pickle.loads(pickle.dumps(tensor))
    assert cache.get(tensor, "a", build) == 1
    assert cache.get(copy, "a", build) == 2


def test_an_entry_dies_with_its_tensor(build: Builder) -> None:
    cache, tensor = TensorCache[int](), torch.zeros(3)
    cache.get(tensor, "a", build)
    del tensor
    gc.collect()
    assert len(cache) == 0


def test_the_least_recently_used_entry_goes_first(build: Builder) -> None:
    cache, tensors = TensorCache[int](capacity=2), [torch.zeros(1) for _ in range(3)]
    cache.get(tensors[0], "", build)
    cache.get(tensors[1], "", build)
    cache.get(tensors[0], "", build)
    cache.get(tensors[2], "", build)  # drops that of tensors[1]
    assert len(cache) == 2
    assert cache.get(tensors[0], "", build) == 1
    assert cache.get(tensors[1], "", build) == 4


def test_an_inference_tensor_is_not_cached(build: Builder) -> None:
    cache = TensorCache[int]()
    with torch.inference_mode():
        tensor = torch.zeros(3)
    assert [cache.get(tensor, "a", build) for _ in range(2)] == [1, 2]
    assert len(cache) == 0


def test_an_entry_of_several_tensors_holds_while_none_is_written_to_and_dies_with_the_first(build: Builder) -> None:
    cache, tensors = TensorCache[int](), [torch.zeros(3), torch.zeros(2)]
    assert [cache.get(tuple(tensors), "a", build) for _ in range(2)] == [1, 1]
    assert cache.get(tuple(reversed(tensors)), "a", build) == 2
    tensors[1].add_(1)
    assert cache.get(tuple(tensors), "a", build) == 3
    tensors.pop()
    gc.collect()
    assert len(cache) == 0
