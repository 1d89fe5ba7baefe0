from __future__ import annotations

import difflib
from collections.abc import Iterable


class ParallelError(RuntimeError):
    """Training over several ranks cannot go on; the same on every rank that is left. Restart from a checkpoint.

    Attributes:
        ranks: the ranks at fault, where they are known.
        modalities: the modalities that these ranks hold.
    """

    def __init__(self, message: str, ranks: Iterable[int] = (), modalities: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.ranks = tuple(ranks)
        self.modalities = tuple(modalities)


class RankLostError(ParallelError):
    """A rank died, hangs, or left."""


class ModalityError(ParallelError):
    """One modality's encoder, or one rank's scoring, raised; nobody took the step, and the ranks are still in step."""


class NonFiniteError(ParallelError):
    """NaN or infinite numbers in a step; nobody took it, and the ranks are still in step."""


class RanksDifferError(ValueError):
    """The ranks differ in what must be the same; raised by all of them at the same place, and they can go on."""


class InputError(ValueError):
    """Bad input that a user can mend: the command line prints its text alone and ends with exit code 2."""


class DivergedError(InputError):
    """A training ran away: its loss or weights are no finite numbers any more."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the candidate closest to ``name``, or an empty string, whatever the case."""
    wanted, known = str(name), [str(c) for c in candidates]
    close = difflib.get_close_matches(wanted.casefold(), {c.casefold(): None for c in known}, n=1)
    if not close:
        return ""
    alike = [c for c in known if c.casefold() == close[0]]
    best = max(alike, key=lambda c: difflib.SequenceMatcher(None, wanted, c).ratio())
    return f" Did you mean {best!r}?"
