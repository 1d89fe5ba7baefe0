from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperlearn_pyg.data.tuples import tuple_ids, tuples_of_ids


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 20), st.integers(0, 100))
def test_ids_are_positions_in_the_dense_array(sizes: list[int], count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randint(size, (count,), generator=generator) for size in sizes])
    ids = tuple_ids(index, sizes)
    cells = torch.arange(torch.Size(sizes).numel()).view(sizes)
    assert torch.equal(ids, cells[tuple(index)])
    assert torch.equal(tuples_of_ids(ids, sizes), index)


def test_more_cells_than_an_integer_holds() -> None:
    index = torch.tensor([[0, 5, 0, 5], [1, 2, 1, 3], [7, 7, 7, 7]])
    ids = tuple_ids(index, [2**31, 2**31, 2**31])
    assert ids[0] == ids[2]
    assert ids.unique().numel() == 3
