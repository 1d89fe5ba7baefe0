"""What the tests of checkpoints save: values that tell the step they are of."""

from __future__ import annotations

import warnings

import torch

from hyperlearn_pyg.distributed.checkpoint import load_latest, new_directory, save


def state(step, names=("encoders.user.weight", "encoders.film.weight", "decoder.bias")):
    return {name: torch.full((3, 2), float(step * 10 + i)) for i, name in enumerate(names)}


def moments(step, names=("encoders.user.weight", "encoders.film.weight")):
    return {
        name: {"state": {"step": torch.tensor(float(step))}, "options": {"lr": 0.1, "betas": (0.9, 0.99)}}
        for name in names
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def latest_step(folder):
    """The step of the newest checkpoint, all of whose values must be of it; 0 where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_latest(folder)
    if found is None:
        return 0
    assert same(found.tensors, state(found.step))
    assert found.extra == {"step": found.step}
    return found.step


def save_step(folder, step, **options):
    return save(folder, step, state(step), optimizer=moments(step), extra={"step": step}, **options)


def save_ranks(folder, step, world_size, **options):
    """Save the state over several ranks, one after the other; rank 0 comes last."""
    directory = new_directory(folder, step)
    whole, optimizer = state(step), moments(step)
    for rank in reversed(range(world_size)):
        tensors = {name: value for i, (name, value) in enumerate(whole.items()) if i % world_size == rank}
        mine = {name: value for name, value in optimizer.items() if name in tensors}
        extra = {"step": step} if rank else {}
        save(
            folder,
            step,
            tensors,
            optimizer=mine,
            extra=extra or {"step": step},
            rank=rank,
            world_size=world_size,
            directory=directory,
            **options,
        )
    return directory


def full_disk():
    return OSError(28, "No space left on device")
