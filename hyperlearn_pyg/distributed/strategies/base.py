"""What the training strategies share: the ranks of the replica axis, averaging, counting, faults, state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from hyperlearn_pyg.distributed._agreement import agree
from hyperlearn_pyg.distributed.ranks import Ranks
from hyperlearn_pyg.distributed.strategies import _tensors
from hyperlearn_pyg.distributed.wire import CommStats
from hyperlearn_pyg.errors import InputError, did_you_mean

#: Axis of a mesh whose ranks hold replicas: the same module, trained on different data or in turns.
REPLICA = "replica"


class Strategy(ABC):
    """Trains replicas of a module on several ranks; the base of all strategies.

    A strategy acts on the *replica* axis: its ranks hold the same modules, by shape. Where modalities are spread as
    well, each rank of a :class:`~hyperlearn_pyg.distributed.ModalityParallel` has replicas of its own part::

        mesh = init_device_mesh("cpu", (R, M), mesh_dim_names=("replica", "modality"))
        model = ModalityParallel(module, mesh=mesh["modality"])
        strategy = SomeStrategy(model, mesh=mesh)

    In one process a strategy does nothing, and the loop around it trains as it would without.

    **Faults.** All messages raise :class:`~hyperlearn_pyg.errors.RankLostError` on the ranks that are left, naming the
    rank that died or hangs; after that the strategy cannot be used (:meth:`check`). An error within :meth:`guard` on
    one rank is raised by the others at their next message. What a rank alone may refuse goes into
    ``self.ranks.all_or_none``.

    **To write a strategy** derive from this class, call ``super().__init__`` first, then :meth:`require_alike` with
    what must be the same on all ranks; use :meth:`average_`, :meth:`broadcast_` and ``self.wire`` for messages, each
    of a kind of its own in :attr:`comm_stats`; return what a resumed run needs from :meth:`_state`.

    Args:
        process_group: the ranks; the default group where absent, or this process alone where there is none.
        mesh: a mesh with an axis ``"replica"``, in place of ``process_group``.
        timeout: seconds that a rank is waited for; that of the group where absent.

    Attributes:
        ranks: the replicas of what this rank holds, see :class:`~hyperlearn_pyg.distributed.ranks.Ranks`.
        everyone: all ranks of the mesh, or the same where it has one axis.

    Raises:
        ValueError: both a group and a mesh were given, or this rank is in neither.
    """

    def __init__(
        self, *, process_group: Any = None, mesh: DeviceMesh | None = None, timeout: float | None = None
    ) -> None:
        self.ranks = Ranks(process_group=_replicas(process_group, mesh), timeout=timeout)
        self.wire = self.ranks.world
        several = mesh is not None and mesh.ndim > 1
        self.everyone = Ranks(process_group=_everyone(mesh), timeout=timeout) if several else self.ranks

    @property
    def rank(self) -> int:
        """Number of this replica."""
        return self.ranks.rank

    @property
    def world_size(self) -> int:
        """Number of replicas."""
        return self.ranks.world_size

    @property
    def comm_stats(self) -> CommStats:
        """What this rank has sent, by kind: bytes, messages and seconds; ``comm_stats.reset()`` starts anew."""
        return self.ranks.stats

    def guard(self) -> AbstractContextManager[None]:
        """Tell the other ranks of what a block raises here; put it around the training loop.

        They raise it in place of their next message. Without it they notice as soon as this process ends, and else
        after their time-out.
        """
        return self.ranks.guard()

    def check(self) -> None:
        """Raise what broke these ranks before: after a rank was lost no message can be sent."""
        self.ranks.check()
        self.everyone.check()

    # ------------------------------------------------------------------ for strategies

    def require_alike(self, **values: Any) -> None:
        """Check that all ranks have the same values (anything that JSON holds), versions and strategy.

        Raises:
            RanksDifferError: two ranks differ; both values are in the message, on every rank.
        """
        usual = {"torch": str(torch.__version__), "hyperlearn_pyg": version("hyperlearn-pyg")}
        agree(self.ranks, {**usual, "strategy": type(self).__name__, **values})

    def average_(self, tensors: Iterable[Tensor], kind: str = "parameters") -> None:
        """Overwrite tensors with their means over the ranks, equal on all ranks to the last bit."""
        self.check()
        _tensors.mean_(tensors, self.wire, kind)

    def broadcast_(self, tensors: Iterable[Tensor], kind: str = "parameters", root: int = 0) -> None:
        """Overwrite tensors with those of one rank."""
        self.check()
        _tensors.broadcast_(tensors, self.wire, kind, root)

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs besides the module and its optimizer, of this rank alone.

        Tensors and plain values: ``torch.save`` writes it, and a weights-only load reads it. No message is sent.
        """
        return {"strategy": type(self).__name__, **self._state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a state that :meth:`state_dict` returned on the same rank; every rank loads its own.

        Raises:
            InputError: it is of another strategy, or lacks something; this strategy is left as it was.
        """
        name, own = type(self).__name__, self._state()
        if state_dict.get("strategy") != name:
            raise InputError(
                f"'state_dict' must be of {name} (got that of {state_dict.get('strategy')!r}): to change the strategy, "
                "load the module alone and start a new one"
            )
        for key in own:
            if key not in state_dict:
                raise InputError(f"'state_dict' of {name} lacks {key!r}.{did_you_mean(key, state_dict)}")
        self._load_state({key: value for key, value in state_dict.items() if key != "strategy"})

    def restart(self) -> None:
        """Begin anew with the module as it is now: another one was loaded into it, the same on all ranks."""
        self.check()

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Return the state: tensors, numbers, texts, None, and lists and dicts of these."""

    @abstractmethod
    def _load_state(self, state: dict[str, Any]) -> None:
        """Take a state that has all keys of :meth:`_state`."""


def _replicas(process_group: Any, mesh: DeviceMesh | None) -> Any:
    """Return the group of the replicas of this rank."""
    if mesh is None:
        return process_group
    if process_group is not None:
        raise ValueError("give 'process_group' or 'mesh', not both")
    names = mesh.mesh_dim_names or ()
    if REPLICA not in names:
        raise ValueError(
            f"'mesh' must have an axis {REPLICA!r} (got {names}): init_device_mesh(device, (R, M), "
            "mesh_dim_names=('replica', 'modality'))"
        )
    if dist.get_rank() not in mesh.mesh.flatten().tolist():
        raise ValueError(f"'mesh' must hold this rank, {dist.get_rank()}")
    return mesh.get_group(REPLICA)


def _everyone(mesh: DeviceMesh | None) -> Any:
    """Return a group of all ranks of a mesh."""
    if mesh is None or mesh.size() == dist.get_world_size():
        return None
    return dist.new_group(sorted(mesh.mesh.flatten().tolist()), use_local_synchronization=True)
