from __future__ import annotations


def derive_seed(*parts: int) -> int:
    """Mix some whole numbers into one seed of 63 bits (the finaliser of SplitMix64, after each part)."""
    mask, state = 2**64 - 1, 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1
