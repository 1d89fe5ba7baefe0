from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(*parts: int) -> int:
    """Mix some whole numbers into one seed of 63 bits (the finaliser of SplitMix64, after each part)."""
    mask, state = 2**64 - 1, 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1


def name_seed(seed: int, name: str) -> int:
    """Mix a seed and a name: what is drawn for the name then hangs on nothing else, in no process."""
    return derive_seed(seed, zlib.crc32(name.encode()))  # 'hash' is another one in every process


def draw_seed() -> int:
    """Draw a seed of 63 bits from the global generator of the CPU."""
    return int(torch.randint(2**63 - 1, ()))


@contextmanager
def seeded(seed: int, *, device: torch.device | str | None = None) -> Iterator[None]:
    """Run a block with global generators that start from ``seed``; outside, they are as if it had not run.

    Args:
        seed: where the generator of the CPU, and that of ``device``, start.
        device: where the block draws, besides the CPU; no generator but that of a CUDA device is touched.
    """
    cuda = device is not None and torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=[torch.device(device)] if device is not None and cuda else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also move devices that nobody restores
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
