from __future__ import annotations

import os
import signal
import threading

import pytest

from hyperlearn_pyg.training.progress import Interrupt, Progress


def test_the_first_ctrl_c_asks_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with Interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_bar_shows_loss_and_validation(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(enabled=True) as bar:
        bar.start("select", 2, 0)
        bar.update({"phase": "select", "epoch": 1, "loss": 0.5, "val_rmse": 0.75}, 2)
        bar.update({"phase": "select", "epoch": 2, "loss": 0.25}, 2)
    shown = capsys.readouterr().err
    assert "loss 0.2500" in shown
    assert "val rmse 0.7500" in shown


def test_a_silent_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(enabled=False) as bar:
        bar.start("refit", 1, 0)
        bar.update({"phase": "refit", "epoch": 1, "loss": 0.5}, 1)
    assert capsys.readouterr().err == ""
