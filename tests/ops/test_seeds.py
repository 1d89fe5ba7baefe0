from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg.ops.seeds import derive_seed, draw_seed, name_seed, seeded


def test_seeds_do_not_collide() -> None:
    seeds = {derive_seed(a, b, c) for a in range(20) for b in range(20) for c in range(20)}
    assert len(seeds) == 8000
    assert derive_seed(1, 2) != derive_seed(2, 1)
    assert all(0 <= s < 2**63 for s in seeds)


def test_the_seed_of_a_name_is_the_same_in_every_process() -> None:
    assert name_seed(3, "user") == derive_seed(3, 0x8D93D649)
    assert len({name_seed(s, n) for s in (0, 1) for n in ("", "user", "users", "künstler")}) == 8


def test_a_drawn_seed_moves_the_global_generator_once() -> None:
    torch.manual_seed(0)
    first, second = draw_seed(), draw_seed()
    torch.manual_seed(0)
    assert draw_seed() == first != second
    assert 0 <= first < 2**63


def test_a_seeded_block_draws_alike_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    draws = []
    for _ in range(2):
        with seeded(5, device="cpu"):
            draws.append(torch.rand(4))
    with seeded(6):
        draws.append(torch.rand(4))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    with pytest.raises(RuntimeError), seeded(5):
        torch.rand(-1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_seeded_block_on_a_device() -> None:
    before = torch.cuda.get_rng_state()
    with seeded(5, device="cuda"):
        first = torch.rand(4, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), before)
    with seeded(5):  # the device is not named: it goes on as it was
        torch.rand(4, device="cuda")
    assert not torch.equal(torch.cuda.get_rng_state(), before)
    with seeded(5, device="cuda"):
        assert torch.equal(torch.rand(4, device="cuda"), first)
