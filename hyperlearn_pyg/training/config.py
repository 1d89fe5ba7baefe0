from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.nn.models.config import check_keys
from hyperlearn_pyg.nn.models.presets import training_values

#: Strategies that ``fit`` knows; see :mod:`hyperlearn_pyg.distributed.strategies`.
STRATEGIES = ("co-learning", "gradient-push", "codistillation", "gist", "resist")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained. Frozen; can be printed, compared and saved.

    Attributes:
        epochs: the largest number of passes over the targets.
        batch_size: target entries of the largest relation in a step; None for all at once.
        max_steps: largest number of steps in an epoch; where it binds, the batches are larger than ``batch_size``, so
            that the cost of an epoch stays linear in tuples and items.
        lr: learning rate of Adam at the start.
        schedule: how it goes on over ``epochs``: ``"constant"``, ``"linear"`` or ``"cosine"`` (both to zero).
        weight_decay: weight decay of Adam.
        target_fraction: share of the training entries that an epoch predicts. Below one, these entries carry no
            messages in that epoch (leave-out); at one, all are predicted and all carry messages.
        ema: decay of the moving average of the weights that is evaluated and kept; 0 for none.
        clip_norm: largest norm of the gradient; 0 for no clipping.
        eval_every: epochs between two evaluations on the held-out entries.
        patience: evaluations without an improvement before training stops; 0 for never.
        val_fraction: share of the training entries that is held out where a relation has no validation entries.
        val_kind: how they are drawn: ``"tuple"``, ``"warm"``, ``"item"``, ``"share"``, ``"time"``, or ``"like_test"``,
            as the test entries of each relation were; see :func:`hold_out`.
        val_modality: whose items, by item and by share; as those of the test where absent.
        val_metric: what chooses the epoch for 0/1 relations: ``"auc"``, or ``"mrr"``, the filtered MRR of all slots
            over a thousand validation entries. Relations with values go by their RMSE.
        refit: after the best epoch is chosen, train again from the start on all training entries, held-out ones
            included, for that number of epochs.
        seed: seed of the held-out entries, targets, negatives and dropout.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ...
        amp: bfloat16 autocast: ``"auto"`` (on CUDA), ``"on"`` or ``"off"``.
        checkpoint_every: epochs between two saved training states, where an output directory is given.
        strategy: how several ranks train replicas, or parts, of a whole model: ``"co-learning"``,
            ``"gradient-push"``, ``"codistillation"``, ``"gist"`` (encoders ``"relation"`` and ``"hypergraph_conv"``) or
            ``"resist"`` (encoder ``"residual"``), see :mod:`hyperlearn_pyg.distributed.strategies`. Each rank has its
            share of the targets of each step. They meet, are evaluated and saved at the end of a round of co-learning,
            and else every ``eval_every`` and ``checkpoint_every`` epochs, which with GIST and ResIST is a round. None
            or ``"none"``, or one process: one model.
    """

    epochs: int = 100
    batch_size: int | None = None
    max_steps: int = 100
    lr: float = 1e-2
    schedule: str = "constant"
    weight_decay: float = 0.0
    target_fraction: float = 1.0
    ema: float = 0.0
    clip_norm: float = 0.0
    eval_every: int = 5
    patience: int = 5
    val_fraction: float = 0.1
    val_kind: str = "tuple"
    val_modality: str | None = None
    val_metric: str = "auc"
    refit: bool = False
    seed: int = 0
    device: str = "auto"
    amp: str = "auto"
    checkpoint_every: int = 10
    strategy: str | None = None

    def __post_init__(self) -> None:
        at_least = {"epochs": 0, "max_steps": 1, "eval_every": 1, "patience": 0, "checkpoint_every": 1, "seed": 0}
        for key, low in at_least.items():
            if getattr(self, key) < low:
                raise InputError(f"train.{key}: expected a whole number of at least {low} (got {getattr(self, key)})")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(
                f"train.batch_size: expected at least 1, or nothing for a full batch (got {self.batch_size})"
            )
        if not 0 < self.lr < math.inf:
            raise InputError(f"train.lr: expected a positive number (got {self.lr})")
        for key in ("weight_decay", "clip_norm"):
            if not 0 <= getattr(self, key) < math.inf:
                raise InputError(f"train.{key}: expected a number of at least 0 (got {getattr(self, key)})")
        if not 0 < self.target_fraction <= 1:
            raise InputError(f"train.target_fraction: expected a number in (0, 1] (got {self.target_fraction})")
        for key in ("ema", "val_fraction"):
            if not 0 <= getattr(self, key) < 1:
                raise InputError(f"train.{key}: expected a number in [0, 1) (got {getattr(self, key)})")
        if self.schedule not in ("constant", "linear", "cosine"):
            raise InputError(f"train.schedule: expected 'constant', 'linear' or 'cosine' (got {self.schedule!r})")
        kinds = ("tuple", "warm", "item", "share", "time", "like_test")
        if self.val_kind not in kinds:
            raise InputError(
                f"train.val_kind: expected one of {list(kinds)} (got {self.val_kind!r})"
                + did_you_mean(str(self.val_kind), kinds)
            )
        if self.val_metric not in ("auc", "mrr"):
            raise InputError(f"train.val_metric: expected 'auc' or 'mrr' (got {self.val_metric!r})")
        if self.strategy == "none":
            object.__setattr__(self, "strategy", None)
        if self.strategy is not None and self.strategy not in STRATEGIES:
            raise InputError(
                f"train.strategy: expected one of {[*STRATEGIES, 'none']} (got {self.strategy!r})"
                + did_you_mean(str(self.strategy), STRATEGIES)
            )
        if self.amp not in ("auto", "on", "off"):
            raise InputError(f"train.amp: expected 'auto', 'on' or 'off' (got {self.amp!r})")

    @classmethod
    def from_preset(cls, preset: str, **overrides: Any) -> TrainConfig:
        """Return the trainer's half of a resolved preset, with some values changed."""
        return cls(**training_values(preset)).replace(**overrides)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build from a plain mapping.

        Raises:
            InputError: an unknown name (with the closest known one) or a value of the wrong type.
        """
        return cls().replace(**values)

    def replace(self, **changes: Any) -> TrainConfig:
        """Return a copy with some values changed; unknown names raise :class:`InputError`."""
        check_keys(type(self), changes, "train")
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as a plain dict."""
        return asdict(self)
