from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import Module
from typing_extensions import Self

from hyperlearn_pyg.distributed import _parts, saving
from hyperlearn_pyg.distributed._agreement import agree
from hyperlearn_pyg.distributed._forward import Pass
from hyperlearn_pyg.distributed._held import Held
from hyperlearn_pyg.distributed._share import Share, Table, as_batch, batches_key, same_key
from hyperlearn_pyg.distributed._step import make_tables_share
from hyperlearn_pyg.distributed._streams import Streams
from hyperlearn_pyg.distributed.adasum import COMBINES
from hyperlearn_pyg.distributed.plan import ModalityPlan
from hyperlearn_pyg.distributed.ranks import Ranks
from hyperlearn_pyg.distributed.traffic import EXCHANGES
from hyperlearn_pyg.distributed.wire import CommStats
from hyperlearn_pyg.errors import did_you_mean
from hyperlearn_pyg.typing import LossModule, TupleBatch

CHECKS = ("first", "always", "never")
ON_NONFINITE = ("raise", "skip", "ignore")


class ModalityParallel(Held):
    """Spreads a module over devices, one or more modalities each, with the results of the plain module.

    Three ways to run, one code path:

    * one process with several ``devices``;
    * a process a device, under ``torchrun`` or on any process group;
    * more ranks than modalities: a mesh whose data axis splits the tuples (``plan.replicas``).

    Each rank keeps the encoders of its own modalities and what all ranks share (decoders); parameters keep the names
    that they have in the plain module. Only rows of factors, their gradients and a few numbers travel. Batches must be
    the same on all ranks (seed their loaders alike); loss and scores are then the same on all ranks, so the training
    loop is the plain one::

        model = ModalityParallel(module)
        optimizer = torch.optim.Adam(model.parameters())
        loss = model.loss(inputs, batch)  # or: F.mse_loss(model(data, batch), batch.value)
        loss.backward()
        optimizer.step()

    When a rank dies, hangs or raises, the others raise an error that names it and its modalities; see :meth:`guard` for
    what they cannot see. Then start anew: :meth:`load` takes the newest whole checkpoint. Under ``torchrun
    --max-restarts`` join the ranks by :func:`connected`, or set ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1``: otherwise the
    new ranks may be given the addresses of the dead ones
    (`pytorch#135712 <https://github.com/pytorch/pytorch/issues/135712>`_).

    Args:
        module: meets :class:`~hyperlearn_pyg.typing.ModalityModule`, or :class:`~hyperlearn_pyg.typing.LossModule` for
            :meth:`loss`. It is kept, not copied; encoders of other ranks are taken out of it.
        plan: who holds what; ``"auto"`` goes by the sizes of the encoders, and ``hyperlearn plan`` by the data as well.
        devices: the devices of this process, or one for each rank. Several devices in one process are places of the
            plan as ranks are; the same one may stand there more than once. Where absent nothing is moved, unless the
            plan names devices.
        mesh: a device mesh with the axes ``("modality", "data")`` or ``("modality",)``.
        process_group: the ranks; the default group where absent.
        exchange: ``"rows"``, ``"full"`` or ``"auto"``, see :func:`~hyperlearn_pyg.distributed.route.make_route`.
        exchange_dtype: send rows and their gradients as this type (``torch.bfloat16``), no longer with equal results.
        combine: gradients of data replicas: their ``"sum"``, or ``"adasum"``, which averages what agrees in them.
        seed: of dropout and the like, with a count of the passes; drawn from the global generator where absent.
        check: when the ranks compare their tuples, seeds and sizes: ``"first"`` step, ``"always"`` or ``"never"``.
        on_nonfinite: NaN or infinity in a loss: ``"raise"`` with the names of the modalities, ``"skip"`` the step on
            all ranks (the loss is NaN and its backward leaves no gradient), or ``"ignore"``.
        timeout: seconds that a rank is waited for; that of the process group where absent. With data replicas pass it:
            torch tells nobody what that of a group is, and the groups made for them have torch's half an hour.

    Attributes:
        module: the module.
        plan: the plan.
        local: the modalities here.
        device: where this rank scores its tuples.
        devices: where each modality here is encoded.

    Raises:
        TypeError: the module does not meet the protocol.
        ValueError: the plan does not fit the module or the ranks, a device is not there, the module cannot be split
            without another result, an argument is unknown, or the ranks differ in what they build.
    """

    def __init__(
        self,
        module: Module,
        plan: ModalityPlan | str = "auto",
        *,
        devices: Sequence[str | torch.device] | None = None,
        mesh: DeviceMesh | None = None,
        process_group: Any = None,
        exchange: str = "auto",
        exchange_dtype: torch.dtype | None = None,
        combine: str = "sum",
        seed: int | None = None,
        check: str = "first",
        on_nonfinite: str = "raise",
        timeout: float | None = None,
    ) -> None:
        super().__init__()
        choices: list[tuple[str, str, Sequence[str]]] = [("exchange", exchange, ("auto", *EXCHANGES))]
        choices += [("check", check, CHECKS), ("on_nonfinite", on_nonfinite, ON_NONFINITE)]
        for key, value, known in (*choices, ("combine", combine, COMBINES)):
            if value not in known:
                raise ValueError(f"{key!r} must be one of {list(known)} (got {value!r}).{did_you_mean(value, known)}")
        self.ranks = Ranks(process_group=process_group, mesh=mesh, timeout=timeout, dtype=exchange_dtype)
        with self.ranks.all_or_none("the module cannot be spread over these ranks"):
            self.names = _parts.modality_names(module)
            self.plan = _parts.make_plan(module, self.names, plan, devices, mesh, process_group, exchange)
            if self.plan.world_size > 1:
                _parts.check_encoders(module)
            if self.ranks.together:
                _parts.check_shared(module)
        if self.ranks.together:
            agree(self.ranks, {**_parts.to_agree(module, self.names, self.plan, exchange_dtype), "combine": combine})
        self.ranks.settle(self.plan)
        self.exchange, self.combine, self.check = self.plan.exchange, combine, check
        self.on_nonfinite, self.seed = on_nonfinite, seed
        with self.ranks.all_or_none("the module cannot be spread over these ranks"):
            self._share_registries(module)
            self._place()
        self.streams = Streams(enabled=self.ranks.world_size == 1 and len(self.devices) > 1)
        self.tables: dict[str, Table] = {}
        self.steps, self.syncing, self.unsynced, self.stopping, self.stop_requested = 0, True, False, False, False
        self._has_loss = isinstance(module, LossModule)  # which looks for every method: too slow for every step
        self._last: Pass | None = None
        self._shares: tuple[list[Any], Share] | None = None

    def __repr__(self) -> str:
        here = ", ".join(f"{name} on {self.devices[name]}" for name in self.local) or "no modality"
        return f"{type(self).__name__}({type(self.module).__name__}, rank {self.ranks.rank}: {here})\n{self.plan}"

    # ------------------------------------------------------------------ steps

    def forward(self, data: Any, tuples: Any, *, seed: int | None = None, **kwargs: Any) -> Any:
        """Score tuples; the same scores on every rank.

        Args:
            data: what ``module.encode`` reads; only the parts of this rank's modalities need be there.
            tuples: a batch with ``relation``, ``modalities`` and ``index [k, B]``, or a list of them, which then share
                one exchange. Indices on the CPU save a copy.
            seed: of this pass.
            **kwargs: for ``module.encode``.

        Returns:
            Scores ``[B, ...]``, or a list of them.
        """
        self.ranks.check()
        several = isinstance(tuples, list | tuple)
        batches = [as_batch(batch) for batch in (tuples if several else [tuples])]
        with self.ranks.guard():
            self._last = Pass(self, self._pass_seed(seed))
            scores = self._last.scores(data, batches, **kwargs)
        return scores if several else scores[0]

    def smoothness(self, data: Any) -> Tensor:
        """Return the sum over modalities of ``module.smoothness`` of the factors of the last call; a scalar.

        Raises:
            RuntimeError: nothing was scored before.
        """
        if self._last is None:
            raise RuntimeError("smoothness(data) is of the factors of a forward pass: call model(data, tuples) before")
        with self.ranks.guard():
            return self._last.smoothness(data)

    def loss(
        self,
        data: Any,
        batch: Any = None,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return the loss of a :class:`~hyperlearn_pyg.typing.LossModule`; the same scalar on every rank.

        Args:
            data: what ``module.targets``, ``encode`` and ``penalty`` read, :meth:`prepare` makes it.
            batch: the target entries.
            generator: source of sampled negatives, in the same state on every rank.
            seed: of dropout in this pass.
            **kwargs: for ``module.encode``: ``keep``.

        Raises:
            TypeError: the module has no loss of its own.
            ModalityError: an encoder, or the scoring, raised on some rank; on all ranks.
            NonFiniteError: the loss is not finite; on all ranks, with the modalities at fault.
            RankLostError: a rank died or does not answer.
            ValueError: the ranks differ in their batches or seeds.
        """
        if not self._has_loss:
            raise TypeError(
                f"{type(self.module).__name__} has no loss of its own (see hyperlearn_pyg.typing.LossModule): compute "
                "one from the scores, model(data, tuples)"
            )
        self.ranks.check()
        with self.ranks.guard():
            now = Pass(self, self._pass_seed(seed))
            self.__dict__["_last"] = now  # past Module's own __setattr__, which takes its time
            return now.loss(data, batch, generator, **kwargs)

    def share(self, batches: Sequence[TupleBatch]) -> Share:
        """Return what this rank scores of some batches; the last one is kept, as full batches come again."""
        key = batches_key(batches, self.tables)
        if self._shares is None or not same_key(self._shares[0], key):
            self._shares = (key, make_tables_share(self, batches))
        return self._shares[1]

    def prepare(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Return ``module.prepare(data, ...)`` with the inputs of each modality on its device."""
        inputs = self.module.prepare(data, *args, **kwargs)
        cpu = torch.device("cpu")
        return inputs if all(d == cpu for d in self.devices.values()) else inputs.place(self.devices)

    def _pass_seed(self, seed: int | None) -> int | None:
        """Return the seed of a pass; None where nothing is drawn at random."""
        if not self.module.training:
            return None
        self.__dict__["steps"] += 1
        return _parts.pass_seed(seed, self.seed, self.steps)

    # ------------------------------------------------------------------ training

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Leave gradients of shared parameters and of data replicas unsummed; the next step outside sums them all.

        Gradients of rows travel all the same: without them a modality would learn nothing. What a loss takes from a
        shared parameter directly, not by way of scores, is here counted once for each rank: leave it outside.
        """
        self.syncing = False
        try:
            yield
        finally:
            self.syncing, self.unsynced = True, True

    @torch.no_grad()
    def clip_grad_norm_(
        self, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
    ) -> Tensor:
        """Clip the gradients by the norm over **all** ranks; as :func:`torch.nn.utils.clip_grad_norm_` otherwise.

        Returns:
            The norm before clipping, the same on every rank.
        """
        return saving.clip(self, max_norm, norm_type, error_if_nonfinite, foreach)

    def request_stop(self) -> None:
        """Ask all ranks to stop: ``stop_requested`` is true on each of them after the next step."""
        self.stopping = True

    def any(self, flag: bool) -> bool:
        """Tell whether some rank says yes; every rank must ask."""
        return any(self.ranks.tell(bool(flag)))

    def compile_encoders(self, **kwargs: Any) -> Self:
        """Compile the encoders here with :func:`torch.compile`, in place; parameter names stay."""
        for name in self.local:
            self.module.encoders[name].compile(**kwargs)
        return self

    def grad_scaler(self, **kwargs: Any) -> torch.amp.GradScaler:
        """Return a gradient scaler that skips a step on all ranks where one of them found an overflow."""
        return saving.grad_scaler(self, **kwargs)

    def guard(self) -> AbstractContextManager[None]:
        """Tell the other ranks of what a block raises here, such as a backward pass out of memory.

        They raise it in place of their next message. A block may be ``loss.backward()`` or the whole loop. Without it
        the others notice as soon as this process ends, and else after their time-out; a rank that catches such an error
        and goes on alone is out of step with them.
        """
        return self.ranks.guard()

    def add_modality(
        self,
        name: str,
        encoder: Module | None = None,
        *,
        group: int | None = None,
        freeze_others: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Add a modality to a trained module; what is there stays as it is, bit for bit. Every rank calls it.

        Args:
            name: the new modality.
            encoder: its encoder; ranks that will not hold it may pass None. Where the module has a method
                ``add_modality``, as :class:`~hyperlearn_pyg.HyperLearn` has, that one adds it.
            group: the group of ranks that holds it; where absent, the first of those that hold fewest modalities.
            freeze_others: train only what is new; encoders that were there go into evaluation mode for good.
            **kwargs: for the module's own ``add_modality``: ``data=``, ``relations=``.

        Raises:
            ValueError: there is such a modality, no such group, no encoder was given, or the ranks differ.
        """
        if name in self.names:
            raise ValueError(f"there is a modality {name!r} already")
        plan = _parts.extended(self.plan, name, group)
        old = {id(p) for p in self.module.parameters()}
        here = not self.ranks.together or plan.owners[name] == self.ranks.group
        self.ranks.check()
        _parts.add_together(self.ranks, self.module, name, encoder, here, kwargs)
        if freeze_others:
            self._frozen |= set(self.names)
            for parameter in self.module.parameters():
                parameter.requires_grad_(parameter.requires_grad and id(parameter) not in old)
        self.names = [*self.names, name]
        self.plan = self.ranks.plan = plan
        self.tables, self._shares = {}, None
        self._place()
        agree(self.ranks, _parts.to_agree(self.module, self.names, plan, self.ranks.row.dtype))
        return self.train(self.training)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the state of this rank, by the names of the plain module; :meth:`full_state_dict` has all."""
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load from a state of the plain module; what belongs to other ranks is passed over."""
        mine = saving.of_this_rank(self, state_dict)
        return self.module.load_state_dict(mine, strict=strict, assign=assign)

    def saved_names(self) -> set[str]:
        """Return the names of the tensors that this rank saves; every name is saved by one rank."""
        return set(saving.saved_here(self))

    def full_state_dict(self) -> dict[str, Tensor]:
        """Return the state of the plain module on the CPU of rank 0; empty elsewhere. Every rank calls it."""
        return saving.full_state_dict(self)

    def gather_module(self) -> Module | None:
        """Return the plain module with all encoders, on the CPU of rank 0; None elsewhere. Every rank calls it."""
        return saving.gather_module(self)

    def gather_factors(self, data: Any, **kwargs: Any) -> dict[str, Tensor] | None:
        """Encode all modalities without gradients; the tables on rank 0, None elsewhere. Every rank calls it."""
        return saving.gather_factors(self, data, **kwargs)

    def save(
        self,
        folder: str | os.PathLike[str],
        step: int,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        extra: Mapping[str, Any] | None = None,
        keep: int | None = None,
        asynchronous: bool = False,
    ) -> str:
        """Save a checkpoint of all ranks, see :mod:`hyperlearn_pyg.distributed.checkpoint`. Every rank calls it.

        Args:
            folder: of the run's checkpoints, on a file system that all ranks see.
            step: the training step.
            optimizer: the optimizer of :meth:`parameters`.
            extra: further values that JSON holds.
            keep: delete what is older than so many checkpoints.
            asynchronous: write in a thread; :meth:`wait` waits for it, as does the next save.

        Returns:
            The directory.

        Raises:
            OSError, ValueError: this rank's part cannot be written.
            ParallelError: another rank's cannot. The checkpoint before stays the newest, and training can go on.
            RankLostError: a rank died meanwhile.
        """
        return saving.save(self, folder, step, optimizer, extra, keep, asynchronous)

    def wait(self) -> None:
        """Wait for the last asynchronous save; raises what went wrong with it, on all ranks. Every rank calls it."""
        saving.wait(self)

    def load(
        self, folder: str | os.PathLike[str], *, optimizer: torch.optim.Optimizer | None = None, strict: bool = True
    ) -> dict[str, Any] | None:
        """Load the newest checkpoint that is whole, whoever wrote it, under this placement. Every rank calls it.

        Args:
            folder: of the run's checkpoints.
            optimizer: takes its state from there.
            strict: all parameters must be in the checkpoint; otherwise what it lacks stays as it is.

        Returns:
            ``step``, and what was saved as ``extra``; None where there is no checkpoint.
        """
        return saving.load(self, folder, optimizer, strict)

    @property
    def comm_stats(self) -> CommStats:
        """What this rank has sent, by kind: bytes, messages and seconds; ``comm_stats.reset()`` starts anew."""
        return self.ranks.stats
