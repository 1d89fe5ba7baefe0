from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input that a user can mend: the command line prints its text alone and ends with exit code 2."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the candidate closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(c) for c in candidates], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
