from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from hyperlearn_pyg._optional import require
from hyperlearn_pyg.errors import InputError


class Progress:
    """A progress bar over epochs with loss, validation metric and time left; silent where not enabled."""

    def __init__(self, *, enabled: bool) -> None:
        columns = [
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        ]
        self._bar = RichProgress(*columns, console=Console(stderr=True), disable=not enabled)
        self._note = ""
        self._validation = ""

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, description: str, total: int, completed: int) -> None:
        """Begin a bar of its own for a phase."""
        self._task = self._bar.add_task(description, total=total, completed=completed, note="")

    def update(self, row: Mapping[str, Any], total: int) -> None:
        """Show a row of the history."""
        shown = [f"{key[4:]} {value:.4f}" for key, value in row.items() if key.startswith("val_")]
        if shown:
            self._validation = f"  val {shown[0]}"
        note = f"loss {row['loss']:.4f}{self._validation if row['phase'] == 'select' else ''}"
        self._bar.update(self._task, completed=row["epoch"], total=total, note=note)


class Interrupt:
    """Turns the first Ctrl-C into a request to stop after the current step; a second one interrupts at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def events_of(out: Path | None, rank: int) -> Any:
    """Return what writes TensorBoard events to a directory; None on other ranks than the first.

    Raises:
        InputError: no directory.
    """
    if out is None:
        raise InputError("'tensorboard' needs 'out': name a directory for the events")
    require("tensorboard")
    if rank:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out))
