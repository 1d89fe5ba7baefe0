"""The HTML report of a finished run."""

from __future__ import annotations

from hyperlearn_pyg.report.report import write_report

__all__ = ["write_report"]
