from __future__ import annotations

from hyperlearn_pyg.ops.seeds import derive_seed


def test_seeds_do_not_collide() -> None:
    seeds = {derive_seed(a, b, c) for a in range(20) for b in range(20) for c in range(20)}
    assert len(seeds) == 8000
    assert derive_seed(1, 2) != derive_seed(2, 1)
    assert all(0 <= s < 2**63 for s in seeds)
