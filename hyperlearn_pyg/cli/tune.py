"""The command 'hyperlearn tune'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hyperlearn_pyg.cli.fit import check_out
from hyperlearn_pyg.cli.source import load_source, run_name
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.experiments import find
from hyperlearn_pyg.experiments.tuning import tune_row
from hyperlearn_pyg.nn.models.presets import PRESETS
from hyperlearn_pyg.tuning import TuneResult, load_space, tune
from hyperlearn_pyg.tuning.search import check_budget
from hyperlearn_pyg.tuning.study import has_study


def tune_command(
    source: Annotated[
        str | None, typer.Argument(help="'synthetic', 'ml-100k' or the path of a TOML config, as in 'fit'.")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="Tune a row of this experiment of 'bench' instead.")] = None,
    row: Annotated[str | None, typer.Option(help="The row of the experiment; the first if left out.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets of experiments, as in 'bench'.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data, as in 'fit'.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the search; runs/NAME-tune if left out.")] = None,
    space: Annotated[Path | None, typer.Option(help="TOML file of what may change; else around the settings.")] = None,
    minutes: Annotated[float | None, typer.Option(help="End after so many minutes.")] = None,
    trials: Annotated[
        int | None, typer.Option(help="End with so many trials; 30 if neither this nor --minutes is given.", min=1)
    ] = None,
    repeats: Annotated[int, typer.Option(help="Trainings of a trial, with a seed each; their mean counts.", min=1)] = 1,
    preset: Annotated[str | None, typer.Option(help=f"One of {', '.join(PRESETS)}.")] = None,
    rank: Annotated[int | None, typer.Option(help="Length of the vectors at the start.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="Largest number of passes of a training.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search and of the first training.", min=0)] = None,
    device: Annotated[str | None, typer.Option(help="'auto', 'cpu', 'cuda', 'cuda:1' ...")] = None,
    split: Annotated[str | None, typer.Option(help="Split of ml-100k: u1 ... u5, ua, ub.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line for each trial.")] = False,
) -> None:
    """Search for the settings that score best on validation entries, and write them as a config for 'fit'.

    The test entries are not read.
    """
    check_budget(trials, minutes, repeats)
    _check_names(source, experiment, row=row, data=data, root=root, split=split, preset=preset, rank=rank)
    chosen = None if space is None else load_space(space)
    out = out or Path("runs") / f"{experiment or run_name(str(source))}-tune"
    _check_out(out, resume)
    given = {"rank": rank, "preset": preset}, {"epochs": epochs, "seed": seed, "device": device}
    model, train = ({key: value for key, value in part.items() if value is not None} for part in given)
    options: dict[str, Any] = {"trials": trials, "minutes": minutes, "repeats": repeats, "out": out, "resume": resume}
    options |= {"space": chosen, "say": _silent if quiet else typer.echo}
    try:
        if experiment is not None:
            result = tune_row(find(experiment), row, data=data, train=train, **options)
        else:
            result = _tune_source(str(source), root, split, model, train, options)
    except BaseException as error:
        if not isinstance(error, (InputError, ImportError)) and has_study(out):
            _note(out)
        raise
    _tell(result, out, source)
    if result.interrupted:
        _note(out)
        raise KeyboardInterrupt


def _tune_source(
    source: str,
    root: Path | None,
    split: str | None,
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    options: dict[str, Any],
) -> TuneResult:
    loaded = load_source(source, root, split, model=model, train=train)
    for note in loaded.notes:
        typer.echo(f"note: {note}", err=True)
    values = dict(loaded.model)
    preset = values.pop("preset", "default")
    name = _best_file(source)
    return tune(
        loaded.data, preset=preset, model=values, train=loaded.train, settings=loaded.settings, name=name, **options
    )


def _best_file(source: str) -> str:
    """Name the config of the best settings: after the source, so that 'fit' takes a folder of that name for it."""
    return f"{run_name(source)}-tuned.toml"


def _check_names(source: str | None, experiment: str | None, **options: Any) -> None:
    """Check that a source or an experiment is named, and the options that go with it alone."""
    if (source is None) == (experiment is None):
        raise InputError("name a SOURCE to tune, as in 'hyperlearn fit', or an --experiment: one of them")
    others = ("row", "data") if experiment is None else ("root", "split", "preset", "rank")
    for name in others:
        if options[name] is not None:
            goes = "an --experiment" if experiment is None else "a SOURCE; the row names its own"
            raise InputError(f"--{name}: goes with {goes}: leave it out")


def _check_out(out: Path, resume: bool) -> None:
    """Check the directory before anything is computed."""
    if resume and not has_study(out):
        raise InputError(f"nothing to resume: '{out}' holds no search. Leave --resume out to start")
    if not resume and has_study(out):
        raise InputError(f"--out: '{out}' holds a search already: --resume goes on with it, or name another directory")
    if not resume:
        check_out(out, resume=False)


def _tell(result: TuneResult, out: Path, source: str | None) -> None:
    best = result.best
    typer.echo(f"\nbest of {len(result.trials)} trials: trial {best['trial']}, validation score {result.score:.4f}")
    if source is None:
        typer.echo(f"model = {result.model!r}")
        typer.echo(f"train = { {key: v for key, v in result.train.items() if key not in ('seed', 'device')}!r}")
        typer.echo(f"trials and settings in {out}: tune.md, trials.csv, best.toml")
        return
    typer.echo(f"trials in {out}: tune.md, trials.csv; train with: hyperlearn fit {out / _best_file(source)}")


def _note(out: Path) -> None:
    typer.echo(f"note: the search is kept in '{out}': the same command with --resume goes on", err=True)


def _silent(line: str) -> None:
    pass
