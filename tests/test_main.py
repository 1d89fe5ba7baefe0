from __future__ import annotations

import os
import runpy
import sys

import pytest

from hyperlearn_pyg import __version__
from hyperlearn_pyg.cli.app import fill_closed_streams


def test_python_m_is_the_same_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hyperlearn", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("hyperlearn_pyg", run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out == f"hyperlearn_pyg {__version__}\n"


def test_streams_that_cannot_be_told_how_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hyperlearn", "--version"])
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("hyperlearn_pyg", run_name="__main__")
    assert not ended.value.code


def test_closed_streams_are_filled(monkeypatch):
    handles = iter([2, 7])
    closed = []
    monkeypatch.setattr(os, "open", lambda *_: next(handles))
    monkeypatch.setattr(os, "close", closed.append)
    fill_closed_streams()
    assert closed == [7]
