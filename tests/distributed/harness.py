"""Run a function on several ranks: one server imports torch once and forks the ranks of each call from itself.

A server of its own, because a process that ran a backward pass cannot be forked and go on with autograd, and pytest's
workers have. The ranks of a call meet in a file. Nothing here waits for ever: collectives give up after ``timeout``;
the server kills what is left of a call after its ``limit`` (or ``grace`` seconds after the first rank failed), and
shows the stack of each rank that it killed; the test process kills the server if even that gets no answer; the server
and the ranks die with their parents.

    outcome = ranks.run(function, 2, *arguments)    # function(rank, world_size, *arguments) on each rank; its values

The function is at the top of the test's file, which every rank loads by its path; arguments and values are pickled.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import faulthandler
import importlib.util
import json
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
START = 20  # seconds that ranks have to come to their function before their limit counts
PRELOAD = ("pytest", "hypothesis", "torch", "torch.distributed", "hyperlearn_pyg")


@dataclass(frozen=True)
class Outcome:
    """What became of a rank: its value, or its error with traceback; ``status`` is negative for a signal."""

    rank: int
    status: int
    value: Any
    error: str
    log: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.status == 0 and not self.error


class RanksFailedError(AssertionError):
    """Some rank raised, died or was killed; shows what each of them said."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        parts = [f"rank {o.rank} ({_status(o.status)}):\n{o.error}{o.log}" for o in outcomes if not o.ok]
        super().__init__("\n".join(parts))
        self.outcomes = outcomes


class Ranks:
    """The test process's side: starts the server at the first call, and again if it died."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None

    def run(self, function: Callable[..., Any], world_size: int, *arguments: Any, **options: Any) -> list[Any]:
        """Return the value of each rank; :class:`RanksFailedError` if any failed. Options: see :meth:`outcomes`."""
        found = self.outcomes(function, world_size, *arguments, **options)
        if not all(outcome.ok for outcome in found):
            raise RanksFailedError(found)
        return [outcome.value for outcome in found]

    def outcomes(
        self,
        function: Callable[..., Any],
        world_size: int,
        *arguments: Any,
        limit: float = 45.0,
        timeout: float = 20.0,
        grace: float = 5.0,
        init: bool = True,
        env: dict[str, str] | None = None,
        preload: tuple[str, ...] = (),
    ) -> list[Outcome]:
        """Run ``function(rank, world_size, *arguments)`` on each rank and return what became of them.

        Args:
            limit: seconds in the function until ranks that still run are killed.
            timeout: of the process group.
            grace: seconds that the others have once a rank failed.
            init: make the default process group (gloo).
            env: environment variables of the ranks.
            preload: further modules that the server imports, once, before it forks.
        """
        folder = Path(tempfile.mkdtemp(prefix="ranks-"))
        try:
            (folder / "arguments").write_bytes(pickle.dumps(arguments))
            call = {
                "folder": str(folder),
                "file": function.__code__.co_filename,
                "function": function.__qualname__,
                "world_size": world_size,
                "limit": limit,
                "timeout": timeout,
                "grace": grace,
                "init": init,
                "env": env or {},
                "preload": preload,
                "coverage": _coverage(),
            }
            ended = self._ask(json.dumps(call).encode() + b"\n", limit + START + 30)
            return [_outcome(folder, rank, *ended[str(rank)]) for rank in range(world_size)]
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _ask(self, line: bytes, patience: float) -> dict[str, Any]:
        server = self._start()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(line)
        server.stdin.flush()
        deadline, answer = time.monotonic() + patience + 60 * (not self._warm), b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([server.stdout], [], [], max(deadline - time.monotonic(), 0))
            got = os.read(server.stdout.fileno(), 1 << 16) if ready else b""
            if not got:
                self.close()
                raise AssertionError(f"the server of ranks {'died' if ready else 'gave no answer and was killed'}")
            answer += got
        self._warm = True
        found: dict[str, Any] = json.loads(answer)
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        if self._server is not None and self._server.poll() is None:
            return self._server
        self._warm = False
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-W", "error", "-W", "ignore:`torch.jit:DeprecationWarning", __file__]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        return self._server

    def close(self) -> None:
        """Kill the server and all that it started (they share its session)."""
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            for stream in (server.stdin, server.stdout):
                assert stream is not None
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _status(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _coverage() -> dict[str, str] | None:
    """Where the run measures coverage: its files, so that ranks are measured as well."""
    module = sys.modules.get("coverage")
    current = module.Coverage.current() if module is not None else None
    if current is None:
        return None
    return {"data_file": current.get_option("run:data_file"), "config_file": str(ROOT / "pyproject.toml")}


def _outcome(folder: Path, rank: int, status: int, seconds: float) -> Outcome:
    value, error = None, ""
    with contextlib.suppress(FileNotFoundError):
        value, error = pickle.loads((folder / f"{rank}.value").read_bytes())
    log = (folder / f"{rank}.log").read_text(errors="replace")
    return Outcome(rank, status, value, error, log, seconds)


# ---------------------------------------------------------------- server: forks, waits, kills


def serve() -> None:
    """Take calls from the standard input until it ends; answer with the exit status of each rank."""
    _die_with_parent()
    for name in PRELOAD:
        importlib.import_module(name)
    answers = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        call = json.loads(line)
        for name in call["preload"]:
            importlib.import_module(name)
        running = {_fork(call, rank, answers): rank for rank in range(call["world_size"])}
        os.write(answers, json.dumps(_await(call, running)).encode() + b"\n")


def _fork(call: dict[str, Any], rank: int, answers: int) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(answers)
            code = _rank(call, rank)
        except BaseException:
            traceback.print_exc()  # the harness itself is broken; the rank's log shows it
        finally:
            os._exit(code)
    return pid


def _await(call: dict[str, Any], running: dict[int, int]) -> dict[int, tuple[int, float]]:
    start = time.monotonic()
    begun = [Path(call["folder"], f"{rank}.begun") for rank in running.values()]
    deadline, ended = start + call["limit"] + START, {}
    while running:
        if begun and all(mark.exists() for mark in begun):  # the limit counts from here: start-up takes what it takes
            begun, deadline = [], min(deadline, time.monotonic() + call["limit"])
        for pid in list(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                ended[running.pop(pid)] = (code, time.monotonic() - start)
                if code:
                    deadline = min(deadline, time.monotonic() + call["grace"])
        if running and time.monotonic() > deadline:
            _kill(running)
            deadline = float("inf")
        time.sleep(0.002)
    return ended


def _kill(running: dict[int, int]) -> None:
    """Let each rank write down where it is, then kill it; a stopped one is just killed."""
    for pid in running:
        os.kill(pid, signal.SIGUSR1)
    time.sleep(0.5)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------- a rank


def _rank(call: dict[str, Any], rank: int) -> int:
    _die_with_parent()
    folder = Path(call["folder"])
    log = os.open(folder / f"{rank}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    faulthandler.enable(log)
    faulthandler.register(signal.SIGUSR1, log, all_threads=True)
    os.environ.update(call["env"], RANK=str(rank), WORLD_SIZE=str(call["world_size"]))
    measured = _measure(call["coverage"])
    value, error = None, ""
    try:
        value = _call(call, rank, folder)
    except BaseException:
        error = traceback.format_exc()
    measured()
    sys.stdout.flush()
    part = folder / f"{rank}.part"
    part.write_bytes(pickle.dumps((value, error)))
    part.rename(folder / f"{rank}.value")
    return 1 if error else 0


def _call(call: dict[str, Any], rank: int, folder: Path) -> Any:
    import torch
    import torch.distributed as dist

    warnings.simplefilter("error")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    function = getattr(_load(Path(call["file"])), call["function"])
    arguments = pickle.loads((folder / "arguments").read_bytes())
    begun = folder / f"{rank}.begun"
    if not call["init"]:
        begun.touch()
        return function(rank, call["world_size"], *arguments)
    dist.set_debug_level_from_env()
    store = dist.FileStore(str(folder / "store"), call["world_size"])
    limit = datetime.timedelta(seconds=call["timeout"])
    dist.init_process_group("gloo", store=store, rank=rank, world_size=call["world_size"], timeout=limit)
    begun.touch()
    value = function(rank, call["world_size"], *arguments)
    dist.barrier()  # nobody closes its sockets while another still talks
    dist.destroy_process_group()
    return value


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _measure(options: dict[str, str] | None) -> Callable[[], None]:
    if options is None:
        return lambda: None
    import coverage

    measure = coverage.Coverage(data_suffix=True, messages=False, **options)
    measure.start()

    def stop() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a rank need not have entered the package
            measure.stop()
            measure.save()

    return stop


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux; elsewhere the server notices the end of its input
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    serve()
