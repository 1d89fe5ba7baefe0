from __future__ import annotations

import copy
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.distributed import ModalityParallel
from hyperlearn_pyg.distributed.optimizers import load_optimizer_state, optimizer_state
from hyperlearn_pyg.errors import DivergedError, InputError, NonFiniteError
from hyperlearn_pyg.nn.models.hyperlearn import KNOWN, HyperLearn
from hyperlearn_pyg.ops.seeds import derive_seed
from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.parallel import Parallel, Trainable, Writer
from hyperlearn_pyg.training.progress import Interrupt, Progress, events_of
from hyperlearn_pyg.training.spread import parallel_of
from hyperlearn_pyg.training.state import (
    STATE_FOLDER,
    FitResult,
    Position,
    join_groups,
    of_another_model,
    pack_extra,
    prune_states,
    read_state,
)
from hyperlearn_pyg.training.steps import Batch, epoch_plan, hold_out

#: The splits whose entries each phase trains on: selection, refit.
PHASES = (("train",), KNOWN)
#: So many validation entries are ranked where the epoch is chosen by rank.
_RANKED = 1000


def fit(
    model: HyperLearn | ModalityParallel,
    data: MultiModalHeteroData,
    config: TrainConfig | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    tensorboard: bool = False,
    callback: Callable[[FitResult], None] | None = None,
    **overrides: Any,
) -> FitResult:
    """Train a model in place.

    Validation entries are held out of the training entries where the data names none; they choose the epoch. The
    test entries are never read. The best state is kept; with ``config.refit`` the model is then trained again, from
    the same start, on training and validation entries together for the chosen number of epochs.

    Ctrl-C ends the training after the current step, in either phase, and sets ``interrupted`` in what is returned. With
    ``out`` the state is kept and ``resume`` goes on from it, to the same numbers bit by bit as without interruption.

    Args:
        model: the model; its start values are set anew from the training entries. Spread over ranks, every rank calls
            this with the same data, of which it may lack features and graphs of modalities of others
            (:func:`~hyperlearn_pyg.distributed.local_data`).
        data: the data.
        config: how to train; the values that go with the model's preset where absent.
        out: a directory for the training state, in its folder ``checkpoints`` (and TensorBoard events).
        resume: go on from the state in ``out``.
        progress: show a progress bar.
        tensorboard: also log to ``out`` for TensorBoard (extra ``viz``).
        callback: called after every epoch with what was done so far, the last row of ``history`` being that of the
            epoch; on every rank, and what it raises, which must then be raised on all of them, ends the training.
        **overrides: values of :class:`TrainConfig` that differ from ``config``, as in ``fit(model, data, epochs=60)``.

    Raises:
        InputError: nothing to resume, a state of another model or configuration, or a loss that is not finite.
        OSError: a training state could not be written; it may come with the next one or at the end.
    """
    config = (config or TrainConfig.from_preset(model.config.preset)).replace(**overrides)
    folder = None if out is None else Path(out)
    if folder is not None and not resume:
        folder.mkdir(parents=True, exist_ok=True)
    parallel = parallel_of(model, config)
    events = events_of(folder, parallel.rank) if tensorboard else None
    trainer = _Trainer(cast(Trainable, model), data, config, parallel, folder)
    if resume:
        trainer.resume()
    writing = nullcontext() if folder is None else parallel.writer(folder / STATE_FOLDER)
    # the writer is left first: a Ctrl-C while the last state is being written must not cut it short
    with Progress(enabled=progress and parallel.rank == 0) as bar, Interrupt() as interrupt, writing as writer:
        try:
            result = trainer.run(bar, interrupt, writer, events, callback)
        except BaseException:
            parallel.abandon()
            raise
    if events is not None:
        events.close()
    if interrupt.requested and not result.interrupted:  # came after the last step: it is the caller's
        raise KeyboardInterrupt
    return result


class _Trainer:
    """State and steps of one call of :func:`fit`; everything that a resumed run needs is in :meth:`_save`.

    With several ranks each has the parameters of its own; whatever decides how to go on is the same on all of them.
    """

    def __init__(
        self,
        model: Trainable,
        data: MultiModalHeteroData,
        config: TrainConfig,
        parallel: Parallel,
        out: Path | None,
    ) -> None:
        self.model, self.config, self.parallel, self.out = model, config, parallel, out
        self.device = parallel.device
        self.autocast = config.amp == "on" or (config.amp == "auto" and parallel.compute.type == "cuda")
        self.data = held_out(copy.copy(data).to(self.device), config)
        self.initial = _snapshot(model) if config.refit else {}
        self.best: dict[str, Tensor] = {}
        self.at = Position()
        self.fresh, self.stopped = True, False
        self._enter_phase(0)

    def run(
        self,
        bar: Progress,
        interrupt: Interrupt,
        writer: Writer | None,
        events: Any,
        callback: Callable[[FitResult], None] | None,
    ) -> FitResult:
        """Train what is left of both phases; leave the model with the weights to keep."""
        at, result = self.at, self.at.result
        clock = time.perf_counter() - result.seconds
        while not self._asked_to_stop(interrupt):
            inputs = self.model.prepare(self.data, PHASES[at.phase])
            bar.start("refit" if at.phase else "select", self._last_epoch(), at.epoch)
            while at.epoch < self._last_epoch() and not self._asked_to_stop(interrupt):
                if self.parallel.part(self.average):
                    self.optimizer = self._make_optimizer()
                if self._run_epoch(inputs, interrupt):
                    result.seconds = time.perf_counter() - clock
                    met = self.parallel.meet(at.epoch, self._last_epoch(), self.average)
                    if met.anew:
                        self.optimizer = self._make_optimizer()
                    self._end_epoch(inputs, bar, events, met.scored)
                    if met.saved:
                        self._save(writer)
                    if callback is not None:
                        callback(result)
            if self._asked_to_stop(interrupt) or at.phase or not (self.config.refit and at.has_best):
                break
            self._enter_phase(1)
        result.interrupted = self._asked_to_stop(interrupt)
        result.seconds = time.perf_counter() - clock
        result.seconds_per_step = statistics.median(at.step_seconds) if at.step_seconds else 0.0
        self._save(writer)
        if at.phase == 0 and at.has_best and not result.interrupted:
            self.model.load_state_dict(self.best)
        else:
            self._swap_average()
        self.model.eval()
        return result

    def _asked_to_stop(self, interrupt: Interrupt) -> bool:
        """Tell whether some rank was asked to stop: the same on all, so that all end after the same step."""
        self.stopped = self.stopped or self.parallel.stop(interrupt.requested)
        return self.stopped

    def _enter_phase(self, phase: int) -> None:
        self.at.enter(phase)
        if phase:
            self.model.load_state_dict(self.initial)
        self.model.start(self.data, splits=PHASES[phase])
        self.optimizer = self._make_optimizer()
        averaged = self.model.named_parameters() if self.config.ema else ()
        self.average: dict[str, Tensor] = {name: p.detach().clone() for name, p in averaged}
        self.parallel.begin(self.optimizer, self._last_epoch())

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config, parameters = self.config, list(self.model.parameters())
        return torch.optim.Adam(
            [{"params": parameters}], lr=config.lr, weight_decay=config.weight_decay, fused=True
        )  # one pass over each table, without temporaries

    def _last_epoch(self) -> int:
        if self.at.phase == 1:
            return self.at.result.best_epoch
        stop = self.config.patience and self.at.since_best >= self.config.patience
        return self.at.epoch if stop and self.at.epoch_steps == 0 else self.config.epochs

    def _run_epoch(self, inputs: Any, interrupt: Interrupt) -> bool:
        """Take the steps of an epoch that are left; tell whether it was finished."""
        at = self.at
        keep, batches = epoch_plan(inputs, self.config, at.phase, at.epoch)
        batches = self.parallel.own(batches, inputs)
        self.model.train()
        for number in range(at.epoch_steps, len(batches)):
            began = time.perf_counter()
            self._set_rate((at.epoch + number / len(batches)) / self.config.epochs)
            at.epoch_loss.append(self._train_step(inputs, keep, batches[number], number))
            at.step_seconds.append(time.perf_counter() - began)
            at.epoch_steps, at.total_steps = number + 1, at.total_steps + 1
            if at.epoch_steps < len(batches) and self._asked_to_stop(interrupt):
                return False
        at.epoch_steps = 0
        at.epoch += 1
        return True

    def _set_rate(self, progress: float) -> None:
        """Set the learning rate for the share of all epochs that is done."""
        factors = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factors[self.config.schedule]

    def _train_step(self, inputs: Any, keep: Mapping[str, Tensor] | None, batch: Batch, number: int) -> float:
        seed = derive_seed(self.config.seed, self.at.phase, self.at.epoch, number)
        compute = self.parallel.compute
        devices = [compute] if compute.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices), self.parallel.guard():
                torch.manual_seed(seed)
                generator = torch.Generator().manual_seed(seed)
                with torch.autocast(compute.type, torch.bfloat16, enabled=self.autocast):
                    loss = self.parallel.loss(self.model, inputs, batch, number, keep=keep, generator=generator)
                self.optimizer.zero_grad()
                loss.backward()
        except NonFiniteError as error:  # of several ranks: it names the modality
            raise self._diverged(str(error), self.at.epoch + 1) from error
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged(f"the loss became {value}", self.at.epoch + 1)
        if self.config.clip_norm:
            self.parallel.clip_grad_norm_(self.config.clip_norm)
        self.parallel.step(self.optimizer)
        self._update_average()
        return value

    def _diverged(self, what: str, epoch: int) -> DivergedError:
        return DivergedError(
            f"{what} in epoch {epoch}: lower train.lr (now {self.config.lr}) or set train.clip_norm, and check the "
            "features and values for very large numbers"
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the average of the weights; while young it weighs the present more, so that the start is forgotten."""
        self.at.averaged_steps += 1
        decay = min(self.config.ema, self.at.averaged_steps / (self.at.averaged_steps + 9))
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

    def _end_epoch(self, inputs: Any, bar: Progress, events: Any, scored: bool) -> None:
        at = self.at
        finite = all(bool(p.isfinite().all()) for p in self.model.parameters())
        if self.parallel.any(not finite):  # the last step has no loss after it
            raise self._diverged("weights became infinite or NaN", at.epoch)
        row: dict[str, Any] = {
            "phase": "refit" if at.phase else "select",
            "epoch": at.epoch,
            "loss": statistics.fmean(at.epoch_loss),
            "seconds": at.result.seconds,
        }
        at.epoch_loss = []
        if at.phase == 0 and scored:
            self._validate(inputs, row)
        at.result.history.append(row)
        bar.update(row, self._last_epoch())
        if events is not None:
            for key in row.keys() - {"phase", "epoch"}:
                events.add_scalar(f"{row['phase']}/{key}", row[key], at.epoch)

    def _validate(self, inputs: Any, row: dict[str, Any]) -> None:
        """Score the held-out entries with the weights to keep; remember the best."""
        at = self.at
        self._swap_average()
        config = self.config
        options = {"known": KNOWN, "seed": config.seed, "ranking_tuples": _RANKED if config.val_metric == "mrr" else 0}
        metrics = self.parallel.evaluate(self.model, self.data, inputs, "val", **options)
        if not metrics:  # nothing to choose by: the last epoch is the best
            at.result.best_epoch = at.epoch
        else:
            row.update(flat_metrics(metrics))
            score = _score(metrics, self.data, config.val_metric)
            at.since_best += 1
            if score < at.best_score or not at.has_best:
                at.best_score, at.since_best, at.has_best, at.result.best_epoch = score, 0, True, at.epoch
                at.result.score = score
                self.best = _snapshot(self.model)
                at.result.validation = {**next(iter(metrics.values())), "relations": metrics}
        self._swap_average()

    def _save(self, writer: Writer | None) -> None:
        """Begin to write the training state."""
        if writer is None or self.out is None:
            return
        first = self.parallel.rank == 0  # times differ from rank to rank, and of a value there may be one
        if self.fresh and first:
            prune_states(self.out, keep=0)  # of another run: this one must never fall back to it
        self.fresh, self.at.strategy = False, self.parallel.state()
        writer.save(
            self.at.total_steps,
            join_groups(self.model.state_dict(), average=self.average, best=self.best, initial=self.initial),
            optimizer=optimizer_state(self.optimizer, self.model.named_parameters()),
            extra=pack_extra(self.at, self.model, self.config) if first else {},
        )

    def resume(self) -> None:
        """Go on from the state in the output directory.

        Raises:
            InputError: there is none, or it is of another model or configuration.
        """
        fault = None
        try:
            self._restore()
        except InputError as error:
            fault = error
        told = self.parallel.fault(None if fault is None else str(fault))
        if told is not None:  # else the others would wait for this rank in the first step
            raise InputError(told) from fault
        self.fresh = False

    def _restore(self) -> None:
        saved = read_state(self.out, self.model, self.config, self.parallel)
        self._enter_phase(saved.position.phase)
        try:
            self.model.load_state_dict(saved.model)
            load_optimizer_state(self.optimizer, self.model.named_parameters(), saved.optimizer)
        except (RuntimeError, ValueError) as error:
            raise of_another_model(self.out, error) from error
        self.at, self.best, self.initial = saved.position, saved.best, saved.initial
        self.average = {name: mean.to(self.device) for name, mean in saved.average.items()}
        self.parallel.restore(self.at.strategy, self.at.epoch, self._last_epoch())


def held_out(data: MultiModalHeteroData, config: TrainConfig) -> MultiModalHeteroData:
    """Return the data with the validation entries that a training with ``config`` draws, see :func:`hold_out`."""
    like = config.val_kind.removeprefix("like_")
    try:
        return hold_out(data, config.val_fraction, config.seed, like=like, modality=config.val_modality)
    except ValueError as error:
        raise InputError(f"train.val_kind = {config.val_kind!r}: {error}") from error


def flat_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Name the validation metrics of a history row: those of the first relation, then of each if there are several.

    Those of single slots are left out.
    """
    plain = {n: {k: v for k, v in own.items() if not isinstance(v, Mapping)} for n, own in metrics.items()}
    row = {f"val_{key}": value for key, value in next(iter(plain.values())).items()}
    if len(plain) > 1:
        row.update({f"val_{name}_{key}": value for name, own in plain.items() for key, value in own.items()})
    return row


def _score(metrics: Mapping[str, Mapping[str, float]], data: MultiModalHeteroData, link_metric: str = "auc") -> float:
    """Mean over relations of what is to be lowered: error in units of the values' deviation, or one less the metric."""
    parts = []
    for name, values in metrics.items():
        if "rmse" in values:
            value = data[name].value[split_positions(data, name, ("train",))]
            spread = float(value.std()) if value.numel() > 1 else 1.0
            parts.append(values["rmse"] / (spread or 1.0))
        else:
            parts.append(1 - values[link_metric])
    score = statistics.fmean(parts)
    return score if math.isfinite(score) else math.inf


def _snapshot(model: Trainable) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
