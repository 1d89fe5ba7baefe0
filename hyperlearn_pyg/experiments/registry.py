from __future__ import annotations

from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.experiments import (
    artworks,
    checkins,
    citeulike,
    dhne,
    friends,
    knowledge,
    lastfm,
    modality_added,
    ratings,
    wikipedia,
)
from hyperlearn_pyg.experiments.experiment import Experiment

_FAMILIES = (dhne, knowledge, checkins, friends, artworks, lastfm, citeulike, wikipedia, ratings, modality_added)
#: Every experiment by name, in the order in which all of them run.
EXPERIMENTS: dict[str, Experiment] = {e.name: e for family in _FAMILIES for e in family.EXPERIMENTS}


def find(name: str) -> Experiment:
    """Return the experiment of a name.

    Raises:
        InputError: there is none.
    """
    if name not in EXPERIMENTS:
        raise InputError(
            f"there is no experiment {name!r} (known: {', '.join(EXPERIMENTS)})." + did_you_mean(name, EXPERIMENTS)
        )
    return EXPERIMENTS[name]
