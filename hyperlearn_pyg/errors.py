from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input that a user can mend: the command line prints its text alone and ends with exit code 2."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the candidate closest to ``name``, or an empty string, whatever the case."""
    wanted, known = str(name), [str(c) for c in candidates]
    close = difflib.get_close_matches(wanted.casefold(), {c.casefold(): None for c in known}, n=1)
    if not close:
        return ""
    alike = [c for c in known if c.casefold() == close[0]]
    best = max(alike, key=lambda c: difflib.SequenceMatcher(None, wanted, c).ratio())
    return f" Did you mean {best!r}?"
