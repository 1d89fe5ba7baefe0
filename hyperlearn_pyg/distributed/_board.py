from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch.distributed as dist

#: Seconds that a rank is given to answer once messages between the ranks failed, and the store each time.
GRACE = 5.0
Note = dict[str, Any]


class Board:
    """Notes that ranks leave one another in the key-value store of their group, for when messages fail.

    A note has ``"error"``, what was raised, or None; and ``"lost"``, the ranks that its writer found missing. No call
    takes longer than :data:`GRACE`, even where whoever serves the store has died or was stopped.

    Args:
        store: of the group.
        key: of the wrapper, the same on all ranks.
        rank: this rank.
        host: the rank whose end is that of the store, where one of these ranks serves it.

    Attributes:
        gone: the store does not answer any more.
    """

    def __init__(self, store: Any, key: str, rank: int, host: int | None) -> None:
        self.store, self.key, self.rank, self.host = store, key, rank, host
        self.gone = False

    def post(self, error: str | None = None, lost: Iterable[int] = ()) -> None:
        """Leave a note, and raise the alarm: ranks that wait for a message look whether there is one."""
        text = json.dumps({"error": error, "lost": list(lost)})
        self._ask(lambda: self._set({f"{self.rank}": text, "alarm": "1"}))

    def alarm(self) -> bool:
        """Tell whether some rank has left a note."""
        return bool(self._ask(lambda: self._has("alarm"), False))

    def roll_call(self, world_size: int) -> dict[int, Note]:
        """Return the notes that are left within the time of grace, or until one of them says what happened."""
        notes: dict[int, Note] = {}
        end = time.monotonic() + GRACE
        while len(notes) < world_size and not self.gone:
            missing = set(range(world_size)) - notes.keys()
            notes |= self._ask(partial(self._read, missing), {})
            if time.monotonic() >= end or any(note["error"] or note["lost"] for note in notes.values()):
                break
            time.sleep(0.02)
        return notes

    def leave(self, others: Iterable[int]) -> None:
        """Tell that this rank has read all it wants; the rank that serves the store waits until the others have."""
        waited = set(others) - {self.rank}
        end = time.monotonic() + GRACE
        self._ask(lambda: self._set({f"{self.rank}/read": "1"}))
        while self.host == self.rank and waited and not self.gone and time.monotonic() < end:
            time.sleep(0.02)
            waited -= self._ask(partial(self._left, waited), set())

    def _read(self, ranks: Iterable[int]) -> dict[int, Note]:
        return {rank: json.loads(self.store.get(f"{self.key}/{rank}")) for rank in ranks if self._has(f"{rank}")}

    def _left(self, ranks: Iterable[int]) -> set[int]:
        return {rank for rank in ranks if self._has(f"{rank}/read")}

    def _has(self, name: str) -> bool:
        return bool(self.store.check([f"{self.key}/{name}"]))

    def _set(self, texts: Mapping[str, str]) -> bool:
        for name, text in texts.items():
            self.store.set(f"{self.key}/{name}", text)
        return True

    def _ask(self, question: Callable[[], Any], otherwise: Any = None) -> Any:
        """Ask the store in a thread: one whose server was stopped keeps who asks waiting for ever."""
        if self.gone:
            return otherwise
        answers: list[Any] = []

        def ask() -> None:
            try:
                answers.append(question())
            except RuntimeError:  # the server is gone
                self.gone = True

        thread = threading.Thread(target=ask, name="notes of the ranks", daemon=True)
        thread.start()
        thread.join(GRACE)
        self.gone = self.gone or not answers
        return answers[0] if answers else otherwise


def served(store: Any) -> bool:
    """Tell whether a process serves a store, in contrast to a file."""
    kinds: Any = vars(dist)  # public, and named in no __all__
    while isinstance(store, kinds["PrefixStore"]):
        store = store.underlying_store
    return not isinstance(store, kinds["FileStore"])
