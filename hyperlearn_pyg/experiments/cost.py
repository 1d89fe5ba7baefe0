"""What a run costs and where it ran."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hyperlearn_pyg.experiments.sources import ROOT
from hyperlearn_pyg.training.run import versions


@dataclass
class Cost:
    """What a piece of work took.

    Attributes:
        seconds: wall time.
        cpu_seconds: user and system time of this process, all its threads together.
        peak_mib: the largest resident memory of the process meanwhile, the interpreter and the data included; None
            where the system does not tell it for a part of a process.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mib: float | None = None


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the work of a block; what is yielded holds it afterwards."""
    cost, resets = Cost(), _reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    yield cost
    cost.seconds, cost.cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    cost.peak_mib = _peak() if resets else None


def _reset_peak() -> bool:
    """Set the largest resident memory back to the present one; tell whether that could be done."""
    gc.collect()
    try:
        if sys.platform == "linux":
            with suppress(AttributeError):  # another C library
                ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _peak() -> float | None:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None


def place() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, threads, load, versions, revision."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(x, 1) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "memory_gib": _memory_gib(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(terse=True),
        **known_revision(),
        "versions": versions(),
    }


def known_revision() -> dict[str, str]:
    """Return ``revision``, or nothing where it is unknown: outside of a checkout."""
    found = revision()
    return {} if found is None else {"revision": found}


def revision() -> str | None:
    """Return the revision of the checkout, marked where the package or the benchmarks differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        own = ["hyperlearn_pyg", "benchmarks/*.py"]
        changed = subprocess.run([*git, "status", "--porcelain", *own], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
