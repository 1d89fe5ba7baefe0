from __future__ import annotations

import copy
import math
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg._io import load_torch, save_torch
from hyperlearn_pyg._optional import require
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.nn.models.hyperlearn import KNOWN, HyperLearn
from hyperlearn_pyg.nn.models.inputs import ModelInputs
from hyperlearn_pyg.ops.seeds import derive_seed
from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.evaluation import evaluate_inputs
from hyperlearn_pyg.training.progress import Interrupt, Progress
from hyperlearn_pyg.training.steps import Batch, epoch_plan, hold_out

STATE_FILE = "training_state.pt"
_FORMAT = 1
#: The splits whose entries each phase trains on: selection, refit.
PHASES = (("train",), KNOWN)
_STATE = (
    "phase",
    "epoch",
    "step",
    "averaged_steps",
    "best_score",
    "since_best",
    "best_state",
    "step_seconds",
    "epoch_loss",
    "average",
    "initial",
)
#: Settings that a resumed run may change.
_MAY_CHANGE = ("device", "amp", "checkpoint_every")


@dataclass
class FitResult:
    """What :func:`fit` did.

    Attributes:
        history: a row per epoch: ``epoch``, ``loss``, ``seconds``, and ``val_...`` where it was evaluated.
        best_epoch: the epoch with the best validation score, counted from 1; 0 before any evaluation.
        validation: the validation metrics of that epoch, as :func:`evaluate` gives them.
        seconds: wall time of the training, evaluations included.
        seconds_per_step: median wall time of an optimizer step.
        interrupted: ended by Ctrl-C before its time.
    """

    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    best_epoch: int = 0
    validation: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_per_step: float = 0.0
    interrupted: bool = False


def fit(
    model: HyperLearn,
    data: MultiModalHeteroData,
    config: TrainConfig | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    tensorboard: bool = False,
    **overrides: Any,
) -> FitResult:
    """Train a model in place.

    Validation entries are held out of the training entries where the data names none; they choose the epoch. The
    test entries are never read. The best state is kept; with ``config.refit`` the model is then trained again, from
    the same start, on training and validation entries together for the chosen number of epochs.

    Ctrl-C ends the training after the current step; with ``out`` the state is kept and ``resume`` goes on from it, to
    the same numbers bit by bit as without the interruption.

    Args:
        model: the model; its start values are set anew from the training entries.
        data: the data.
        config: how to train; the values that go with the model's preset where absent.
        out: a directory for the training state (and TensorBoard events).
        resume: go on from the state in ``out``.
        progress: show a progress bar.
        tensorboard: also log to ``out`` for TensorBoard (extra ``viz``).
        **overrides: values of :class:`TrainConfig` that differ from ``config``, as in ``fit(model, data, epochs=60)``.

    Raises:
        InputError: nothing to resume, a state of another model or configuration, or a loss that is not finite.
    """
    config = (config or TrainConfig.from_preset(model.config.preset)).replace(**overrides)
    folder = None if out is None else Path(out)
    if folder is not None and not resume:
        folder.mkdir(parents=True, exist_ok=True)
    writer = _writer(folder) if tensorboard else None
    trainer = _Trainer(model, data, config, folder)
    if resume:
        trainer.resume()
    with Progress(enabled=progress) as bar, Interrupt() as interrupt:
        result = trainer.run(bar, interrupt, writer)
    if writer is not None:
        writer.close()
    return result


class _Trainer:
    """State and steps of one call of :func:`fit`; everything that a resumed run needs is in :meth:`save`."""

    def __init__(self, model: HyperLearn, data: MultiModalHeteroData, config: TrainConfig, out: Path | None) -> None:
        self.config, self.out = config, out
        self.device = pick_device(config.device)
        self.autocast = config.amp == "on" or (config.amp == "auto" and self.device.type == "cuda")
        self.model = model.to(self.device)
        self.data = hold_out(copy.copy(data).to(self.device), config.val_fraction, config.seed)
        self.initial = _snapshot(model) if config.refit else {}
        self.phase, self.epoch, self.step, self.averaged_steps = 0, 0, 0, 0
        self.best_score, self.since_best = math.inf, 0
        self.best_state: dict[str, Tensor] = {}
        self.result = FitResult()
        self.step_seconds: list[float] = []
        self.epoch_loss: list[float] = []
        self._enter_phase(0)

    def run(self, bar: Progress, interrupt: Interrupt, writer: Any) -> FitResult:
        """Train what is left of both phases; leave the model with the weights to keep."""
        clock = time.perf_counter() - self.result.seconds
        while not interrupt.requested:
            inputs = self.model.prepare(self.data, PHASES[self.phase])
            bar.start("refit" if self.phase else "select", self._last_epoch(), self.epoch)
            while self.epoch < self._last_epoch() and not interrupt.requested:
                if self._run_epoch(inputs, interrupt):
                    self.result.seconds = time.perf_counter() - clock
                    self._end_epoch(inputs, bar, writer)
            if interrupt.requested or self.phase or not (self.config.refit and self.best_state):
                break
            self._enter_phase(1)
        self.result.interrupted = interrupt.requested
        self.result.seconds = time.perf_counter() - clock
        self.result.seconds_per_step = statistics.median(self.step_seconds) if self.step_seconds else 0.0
        self._save()
        if self.phase == 0 and self.best_state and not interrupt.requested:
            self.model.load_state_dict(self.best_state)
        else:
            self._swap_average()
        self.model.eval()
        return self.result

    def _enter_phase(self, phase: int) -> None:
        self.phase, self.epoch, self.step, self.averaged_steps = phase, 0, 0, 0
        if phase:
            self.model.load_state_dict(self.initial)
        self.model.start(self.data, splits=PHASES[phase])
        config = self.config
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )  # one pass over each table, without temporaries
        self.average = {name: p.detach().clone() for name, p in self.model.named_parameters()} if config.ema else {}

    def _last_epoch(self) -> int:
        if self.phase == 1:
            return self.result.best_epoch
        stop = self.config.patience and self.since_best >= self.config.patience
        return self.epoch if stop and self.step == 0 else self.config.epochs

    def _run_epoch(self, inputs: ModelInputs, interrupt: Interrupt) -> bool:
        """Take the steps of an epoch that are left; tell whether it was finished."""
        keep, batches = epoch_plan(inputs, self.config, self.phase, self.epoch)
        self.model.train()
        for number in range(self.step, len(batches)):
            began = time.perf_counter()
            self._set_rate((self.epoch + number / len(batches)) / self.config.epochs)
            self.epoch_loss.append(self._train_step(inputs, keep, batches[number], number))
            self.step_seconds.append(time.perf_counter() - began)
            self.step = number + 1
            if interrupt.requested and self.step < len(batches):
                return False
        self.step = 0
        self.epoch += 1
        return True

    def _set_rate(self, progress: float) -> None:
        """Set the learning rate for the share of all epochs that is done."""
        factors = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factors[self.config.schedule]

    def _train_step(self, inputs: ModelInputs, keep: Mapping[str, Tensor] | None, batch: Batch, number: int) -> float:
        seed = derive_seed(self.config.seed, self.phase, self.epoch, number)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                loss = self.model.loss(inputs, batch, keep=keep, generator=generator)
            self.optimizer.zero_grad()
            loss.backward()
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged(f"the loss became {value}", self.epoch + 1)
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self._update_average()
        return value

    def _diverged(self, what: str, epoch: int) -> InputError:
        return InputError(
            f"{what} in epoch {epoch}: lower train.lr (now {self.config.lr}) or set train.clip_norm, and check the "
            "features and values for very large numbers"
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the average of the weights; while young it weighs the present more, so that the start is forgotten."""
        self.averaged_steps += 1
        decay = min(self.config.ema, self.averaged_steps / (self.averaged_steps + 9))
        parameters = dict(self.model.named_parameters())
        for name, mean in self.average.items():
            mean.lerp_(parameters[name], 1 - decay)

    @torch.no_grad()
    def _swap_average(self) -> None:
        """Exchange the weights and their average, where one is kept."""
        parameters = dict(self.model.named_parameters())
        for name, mean in self.average.items():
            now = parameters[name].clone()
            parameters[name].copy_(mean)
            mean.copy_(now)

    def _end_epoch(self, inputs: ModelInputs, bar: Progress, writer: Any) -> None:
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):  # the last step has no loss after it
            raise self._diverged("weights became infinite or NaN", self.epoch)
        row: dict[str, Any] = {
            "phase": "refit" if self.phase else "select",
            "epoch": self.epoch,
            "loss": statistics.fmean(self.epoch_loss),
            "seconds": self.result.seconds,
        }
        self.epoch_loss = []
        if self.phase == 0 and (self.epoch % self.config.eval_every == 0 or self.epoch == self.config.epochs):
            self._validate(inputs, row)
        self.result.history.append(row)
        bar.update(row, self._last_epoch())
        if writer is not None:
            for key in row.keys() - {"phase", "epoch"}:
                writer.add_scalar(f"{row['phase']}/{key}", row[key], self.epoch)
        if self.epoch % self.config.checkpoint_every == 0:
            self._save()

    def _validate(self, inputs: ModelInputs, row: dict[str, Any]) -> None:
        """Score the held-out entries with the weights to keep; remember the best."""
        self._swap_average()
        metrics = evaluate_inputs(self.model, self.data, inputs, "val", known=KNOWN, seed=self.config.seed)
        if not metrics:  # nothing to choose by: the last epoch is the best
            self.result.best_epoch = self.epoch
        else:
            row.update(flat_metrics(metrics))
            score = _score(metrics, self.data)
            self.since_best += 1
            if score < self.best_score or not self.best_state:
                self.best_score, self.since_best, self.result.best_epoch = score, 0, self.epoch
                self.best_state = _snapshot(self.model)
                self.result.validation = {**next(iter(metrics.values())), "relations": metrics}
        self._swap_average()

    def _save(self) -> None:
        """Write the training state, under a temporary name first."""
        if self.out is None:
            return
        state = {name: getattr(self, name) for name in _STATE}
        state.update(format=_FORMAT, config=self.config.to_dict(), model_config=self.model.config.to_dict())
        state.update(model=self.model.state_dict(), optimizer=self.optimizer.state_dict(), result=asdict(self.result))
        save_torch(state, self.out / STATE_FILE)

    def resume(self) -> None:
        """Go on from the state in the output directory.

        Raises:
            InputError: there is none, or it is of another model or configuration.
        """
        state = load_state(self.out)
        ours = {"config": self.config.to_dict(), "model_config": self.model.config.to_dict()}
        for key, values in ours.items():
            different = [n for n, v in values.items() if state[key].get(n) != v and n not in _MAY_CHANGE]
            if different:
                raise InputError(
                    f"the training state in '{self.out}' was made with {_differences(state[key], values, different)}: "
                    "resume with the same settings, or start afresh in another directory"
                )
        self._enter_phase(state["phase"])
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise InputError(f"the training state in '{self.out}' is that of another model: {error}") from error
        self.optimizer.load_state_dict(state["optimizer"])
        for name in _STATE:
            setattr(self, name, state[name])
        self.average = {name: mean.to(self.device) for name, mean in self.average.items()}
        self.result = FitResult(**state["result"])


def load_state(out: Path | None) -> dict[str, Any]:
    """Read the training state of an output directory.

    Raises:
        InputError: there is none, or the file is damaged.
    """
    path = None if out is None else out / STATE_FILE
    if path is None or not path.is_file():
        raise InputError(f"nothing to resume: '{out}' holds no {STATE_FILE}. Start without 'resume'")
    return load_torch(path, _FORMAT, {"config", "model_config"}, "training state", "delete it and start afresh")


def pick_device(name: str) -> torch.device:
    """Return the device that ``TrainConfig.device`` means.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"train.device: expected 'auto', 'cpu', 'cuda' or one card such as 'cuda:1' (got {name!r})"
            + did_you_mean(name, ("auto", "cpu", "cuda"))
        ) from error
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"train.device: {name!r} is not to be had here ({reason}): use 'auto' or 'cpu'") from error
    return device


def flat_metrics(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Name the validation metrics of a history row: those of the first relation, then of each if there are several."""
    row = {f"val_{key}": value for key, value in next(iter(metrics.values())).items()}
    if len(metrics) > 1:
        row.update({f"val_{name}_{key}": value for name, own in metrics.items() for key, value in own.items()})
    return row


def _score(metrics: Mapping[str, Mapping[str, float]], data: MultiModalHeteroData) -> float:
    """Mean over relations of what is to be lowered: error in units of the values' deviation, or 1 - AUC."""
    parts = []
    for name, values in metrics.items():
        if "rmse" in values:
            value = data[name].value[split_positions(data, name, ("train",))]
            spread = float(value.std()) if value.numel() > 1 else 1.0
            parts.append(values["rmse"] / (spread or 1.0))
        else:
            parts.append(1 - values["auc"])
    score = statistics.fmean(parts)
    return score if math.isfinite(score) else math.inf


def _snapshot(model: HyperLearn) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _writer(out: Path | None) -> Any:
    if out is None:
        raise InputError("'tensorboard' needs 'out': name a directory for the events")
    require("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{n}={old.get(n)!r} (now {new[n]!r})" for n in names)
