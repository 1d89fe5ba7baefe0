from __future__ import annotations

import errno
import functools
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import torch
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hyperlearn_pyg import __version__, _optional
from hyperlearn_pyg.cli.bench import bench, say_rows
from hyperlearn_pyg.cli.job import Job, OtherRankError, run_job
from hyperlearn_pyg.cli.plan import make_plan
from hyperlearn_pyg.cli.predict import predict_file
from hyperlearn_pyg.cli.source import load_source, run_name
from hyperlearn_pyg.cli.tune import tune_command
from hyperlearn_pyg.data.init_config import write_config
from hyperlearn_pyg.distributed.launch import connected, launched
from hyperlearn_pyg.errors import InputError, ParallelError, did_you_mean
from hyperlearn_pyg.nn.models.presets import PRESETS
from hyperlearn_pyg.training.config import STRATEGIES
from hyperlearn_pyg.training.run import Run, versions
from hyperlearn_pyg.training.state import has_state

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="hyperlearn",
    help="Learn a vector for every item of multimodal, relational data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)
_STRATEGIES = " or ".join(map(repr, STRATEGIES))

RunDir = Annotated[
    Path | None,
    typer.Option("--run", help="Directory that 'hyperlearn fit' wrote; the newest below runs/ if left out."),
]


def main() -> None:
    """Run the command line."""
    fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that a terminal of few characters cannot show
    app()


def fill_closed_streams() -> None:
    """Point closed standard streams at nowhere, or the next file opened takes their number and their output."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)


def _show_version(wanted: bool) -> None:
    if wanted:
        _out.print(f"hyperlearn_pyg {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _clear_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Print faults of the input without a traceback and end with exit code 2; with 130 after Ctrl-C."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        code = 2
        try:
            return function(*args, **kwargs)
        except (InputError, ImportError) as error:
            message = str(error)
        except OtherRankError:
            raise typer.Exit(2) from None
        except ParallelError as error:
            message = str(error)
            code = 1
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output went away, as 'head' does
                raise
            message = _describe(error)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            message = "out of memory: lower --rank or train.batch_size, or use another --device"
        except KeyboardInterrupt:
            if _speaks():
                _note("stopped")
            raise typer.Exit(130) from None
        _err.print("error:", *_here(), message, style="red", markup=False, highlight=False)
        raise typer.Exit(code)

    return wrapper


def _here() -> list[str]:
    """Name this process among those that were started together."""
    return [f"rank {os.environ['RANK']}:"] if launched() else []


def _speaks() -> bool:
    """Tell whether this process is the one that tells the user what concerns all that were started together."""
    return not launched() or os.environ["RANK"] == "0"


def _say(*words: str) -> None:
    """Print for the user."""
    print_to = _err if words and words[0] == "note:" else _out
    print_to.print(*words, markup=False, highlight=False)


def _describe(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f", '{error.filename}' could not be written" if error.filename else ""
        return f"the disk is full{where}: free some space or name another directory with --out"
    return f"'{error.filename}': {error.strerror}" if error.filename and error.strerror else str(error)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _note(*words: str) -> None:
    _err.print(*words, markup=False, highlight=False)


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Say that training can go on, where it ended for a reason outside of the input."""
    try:
        yield
    except (InputError, ImportError):
        raise
    except BaseException:
        if _speaks() and has_state(out):
            _note(f"note: the training is kept in '{out}': the same command with --resume goes on")
        raise


@app.command("fit")
@_clear_errors
def fit_command(
    source: Annotated[str, typer.Argument(help="'synthetic', 'ml-100k' or the path of a TOML config.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data: ml-100k reads ROOT/raw, a config ROOT/...")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory for the results; runs/NAME if left out.")] = None,
    preset: Annotated[str | None, typer.Option(help=f"One of {', '.join(PRESETS)}.")] = None,
    rank: Annotated[int | None, typer.Option(help="Length of the vectors.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="Largest number of passes over the data.", min=0)] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the training; the split of a config has one of its own.", min=0)
    ] = None,
    device: Annotated[str | None, typer.Option(help="'auto', 'cpu', 'cuda', 'cuda:1' ...")] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            help="Spread the modalities over these devices of one process, as 'cuda:0,cuda:1' or 'cpu,cpu'; "
            "under torchrun, the device of each rank."
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(help="Under torchrun: ranks that share each group of modalities; chosen if left out.", min=1),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help=f"Under torchrun: train replicas, or parts, of the whole model, by {_STRATEGIES}; 'none' ends that."
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Under torchrun: seconds that a rank is waited for; 600 if left out.", min=1)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of ml-100k: u1 ... u5, ua, ub.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the training state in --out.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard events to --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Train on a data set and write metrics, embeddings, model and report to a directory.

    Under torchrun the modalities are spread over its ranks, or, with --strategy, each has a replica of the model.
    """
    out = out or Path("runs") / run_name(source)
    train = _given(epochs=epochs, seed=seed, device=device, strategy=strategy)
    values = {"model": _given(preset=preset, rank=rank), "train": train}
    places = tuple(part.strip() for part in devices.split(",") if part.strip()) if devices else ()
    job = Job(source, root, split, values, out, resume, not quiet, tensorboard, places, replicas, timeout, _say)
    with connected(timeout) as launch, _resumable(out):
        result, metrics = run_job(job, launch)
        if result.interrupted:
            raise KeyboardInterrupt
    if launch.first:
        _print_metrics(metrics)
        _say(f"\nresults in {out}: report.html, metrics.json, embeddings/, model.pt, config.toml")


app.command("tune")(_clear_errors(tune_command))


@app.command("plan")
@_clear_errors
def plan_command(
    source: Annotated[str, typer.Argument(help="'synthetic', 'ml-100k' or the path of a TOML config.")],
    world_size: Annotated[int, typer.Option(help="Number of ranks (processes, one a device).", min=1)],
    memory_limit: Annotated[float | None, typer.Option(help="The most GiB a rank may hold.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Length of the data axis; chosen if left out.", min=1)] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data, as in 'fit'.")] = None,
    preset: Annotated[str | None, typer.Option(help=f"One of {', '.join(PRESETS)}.")] = None,
    rank: Annotated[int | None, typer.Option(help="Length of the vectors.", min=1)] = None,
    split: Annotated[str | None, typer.Option(help="Split of ml-100k: u1 ... u5, ua, ub.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show which rank would hold which modality, and what that costs; nothing is trained.

    edges: those that the encoders of the preset read. step: modelled time of a step. sent: bytes that a rank sends in
    a step. imbalance: time of the slowest group over the mean.
    """
    loaded = load_source(source, root, split, model=_given(preset=preset, rank=rank))
    for note in loaded.notes:
        _note("note:", note)
    plan = make_plan(loaded, world_size, replicas=replicas, memory_limit=memory_limit)
    typer.echo(plan.to_json() if as_json else str(plan))


@app.command("predict")
@_clear_errors
def predict_command(
    tuples: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet: a column of ids for each slot of the relation.")],
    run: RunDir = None,
    relation: Annotated[str | None, typer.Option(help="The relation; the first if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write; standard output if left out.")] = None,
) -> None:
    """Score tuples of items: values, or log-odds of a 0/1 relation."""
    table = predict_file(Run.load(_run_dir(run)), tuples, relation, out)
    if out is None:
        table.to_csv(sys.stdout, index=False)


@app.command("neighbors")
@_clear_errors
def neighbors_command(
    item: Annotated[str, typer.Argument(help="Id or name of the item.")],
    modality: Annotated[str, typer.Option(help="Modality of the item.")],
    to: Annotated[str | None, typer.Option(help="Modality of the neighbours; that of the item if left out.")] = None,
    run: RunDir = None,
    k: Annotated[int, typer.Option("-k", help="Number of neighbours.", min=1)] = 10,
) -> None:
    """Show the items nearest to one, within its modality or in another."""
    loaded = Run.load(_run_dir(run))
    at = loaded.find(modality, item)
    target = to or modality
    found = loaded.neighbors(modality, at, target, k)
    table = Table("id", *([] if loaded.names[target] == loaded.ids[target] else ["name"]), "score")
    for i, score in found:
        name = [] if loaded.names[target] == loaded.ids[target] else [Text(loaded.names[target][i])]
        table.add_row(Text(loaded.ids[target][i]), *name, f"{score:.4f}")
    _out.print(f"{target} nearest to {modality} {loaded.names[modality][at]}", markup=False, highlight=False)
    _out.print(table)


@app.command("bench")
@_clear_errors
def bench_command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Experiments, or 'all'; they are listed if left out.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number of seeds; that of the experiment if left out.", min=1)
    ] = None,
    row: Annotated[list[str] | None, typer.Option(help="Run this row alone; may be repeated.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets; else that of HYPERLEARN_DATA.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Begin nothing more after so many minutes.", min=0)] = None,
    device: Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda', 'cuda:1' ...")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="A few steps only, to see that it runs.")] = False,
    list_rows: Annotated[
        bool, typer.Option("--list-rows", help="Print the rows of the experiments; run none.")
    ] = False,
    page: Annotated[Path | None, typer.Option(help="Write the results page from the files in --out.")] = None,
) -> None:
    """Run experiments on real data: floors, models, what is published; JSON, a table and a plot."""
    if list_rows:
        say_rows(names or ["all"], _say)
        return
    bench(names or [], seeds, row, data, out, minutes, device, quick, page, lambda line: _say(line))


@app.command("init")
@_clear_errors
def init_command(
    files: Annotated[list[Path], typer.Argument(help="CSV, TSV or Parquet files of items and relations.")],
    out: Annotated[Path, typer.Option(help="The config to write.")] = Path("config.toml"),
) -> None:
    """Draft a commented TOML config from your own tables."""
    write_config(files, out)
    _out.print(f"wrote {out}: read it through, then run 'hyperlearn fit {out}'", markup=False)


@app.command("info")
@_clear_errors
def info_command() -> None:
    """Show versions, devices and the optional parts that are there."""
    table = Table("what", "value")
    for name, version in versions().items():
        table.add_row(name, version)
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    table.add_row("devices", ", ".join(["cpu", *(f"cuda:{i} ({name})" for i, name in enumerate(cuda))]))
    table.add_row("threads", str(torch.get_num_threads()))
    for name, extra in _optional.EXTRAS.items():
        there = "yes" if _optional.available(name) else f"no (pip install '.[{extra}]' in the clone)"
        table.add_row(f"optional: {name}", Text(there))
    _out.print(table)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _run_dir(run: Path | None) -> Path:
    if run is not None:
        if not run.is_dir():
            near = did_you_mean(str(run), [str(p) for p in Path("runs").glob("*")])
            raise InputError(f"--run: there is no directory '{run}'.{near}")
        return run
    found = sorted(Path("runs").glob("*/model.pt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError("no run found below runs/: name one with --run, or train one with 'hyperlearn fit'")
    if len(found) > 1:
        _note(f"note: of {len(found)} runs the newest, '{found[-1].parent}'; --run names another")
    return found[-1].parent


def _print_metrics(metrics: dict[str, Any]) -> None:
    table = Table("relation", "metric", "validation", "test", "floors (test)")
    test, validation = metrics["test"].get("relations", {}), metrics["validation"].get("relations", {})
    for relation in {**validation, **test}:
        for metric, value in {**validation.get(relation, {}), **test.get(relation, {})}.items():
            if isinstance(value, dict):  # those of single slots
                continue
            beside = {name: row.get("relations", {}).get(relation, {}) for name, row in metrics["floors"].items()}
            shown = [f"{name} {row[metric]:.4f}" for name, row in beside.items() if metric in row]
            cells = [part.get(relation, {}).get(metric) for part in (validation, test)]
            row = ("" if cell is None else f"{cell:.4f}" for cell in cells)
            table.add_row(Text(relation), metric, *row, "\n".join(shown))
    _out.print(table if table.row_count else "nothing was held out: no metric to show")
    step = 1000 * metrics["seconds_per_step"]
    _out.print(f"{metrics['seconds']:.1f} s of training, {step:.1f} ms a step, best epoch {metrics['best_epoch']}")
