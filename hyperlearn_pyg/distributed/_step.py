from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import Parameter

from hyperlearn_pyg.distributed._agreement import compare, tables_to_tell, tables_told
from hyperlearn_pyg.distributed._faults import Fault, describe_fault, name_straggler, raise_together
from hyperlearn_pyg.distributed._share import Share, Table, digest, make_share, to_device
from hyperlearn_pyg.distributed.exchange import exchange_rows, gather_values, sum_grads
from hyperlearn_pyg.errors import RanksDifferError
from hyperlearn_pyg.ops.seeds import name_seed, seeded
from hyperlearn_pyg.typing import TupleBatch

if TYPE_CHECKING:
    from hyperlearn_pyg.distributed.modality_parallel import ModalityParallel

_SEED_BITS = 2**52


@dataclass
class Step:
    """One forward pass on one rank.

    Attributes:
        owner: the wrapper.
        seed: of this pass, the same on every rank; None where nothing is drawn.
        values: parameters to use in place of the module's own, by name.
        factors: the factors of the modalities here.
        fault: what went wrong here, if anything did.
        tie: to be added to what the user calls backward on.
        waiting: a zero that the tie takes up where gradients of earlier passes wait to be summed.
    """

    owner: ModalityParallel
    seed: int | None
    values: dict[str, Tensor] = field(default_factory=dict)
    factors: dict[str, Tensor] = field(default_factory=dict)
    fault: Fault | None = None
    tie: Tensor | None = None
    waiting: Tensor | None = None
    seconds: float = 0.0

    def encode(self, data: Any, **kwargs: Any) -> None:
        """Encode the modalities here, each with random numbers of its own; keep what goes wrong."""
        began = time.perf_counter()
        owner = self.owner
        if owner.ranks.data.world_size > 1 and torch.is_grad_enabled():
            self._tie_replicas()
        for name in owner.local:
            device = owner.devices[name]
            drawn = nullcontext() if self.seed is None else seeded(name_seed(self.seed, name), device=device)
            try:
                with drawn, owner.streams.on(device, name):
                    self.factors[name] = self._factors(name, data, **kwargs)
            except Exception as error:
                self.fault = describe_fault(error, name, owner.ranks.rank, device, owner.plan)
                break
        owner.streams.join(self.factors.values())
        self.seconds += time.perf_counter() - began

    def _factors(self, name: str, data: Any, **kwargs: Any) -> Tensor:
        owner = self.owner
        kwargs = owner.placed(name, kwargs)
        if self.values:
            factors = owner.call.using(self.values, "encode", name, data, **kwargs)
        else:
            factors = owner.module.encode(name, data, **kwargs)
        if not isinstance(factors, Tensor) or factors.dim() != 2:
            got = list(factors.shape) if isinstance(factors, Tensor) else type(factors).__name__
            raise ValueError(f"encode({name!r}, data) must return a table [N, C] (got {got})")
        known = owner.tables.get(name)
        if known is not None and owner.check != "always" and Table.of(factors) != known:
            raise ValueError(
                f"the table of factors was {known} and is now {Table.of(factors)}; the other ranks cannot know: pass "
                "check='always' where sizes change from step to step"
            )
        return factors

    def _tie_replicas(self) -> None:
        """Let the gradients of all parameters of this rank be summed over its replicas, in one message."""
        owner = self.owner
        named = {name: p for name, p in owner.module.named_parameters() if p.requires_grad}
        if owner.syncing:
            nothing = torch.empty(0)  # what waits in shared ones goes the way of the exchange
            held = [nothing if name in self.shared else p for name, p in named.items()]
            if not owner.unsynced:
                summed = sum_grads(list(named.values()), owner.ranks.data, combine=owner.combine)
                self.values = dict(zip(named, summed, strict=True))
            elif named:  # what waits may be of a modality that no tuple of this step names: the anchor reaches it
                anchor = torch.zeros((), dtype=next(iter(named.values())).dtype, device=owner.device)
                given = [anchor.requires_grad_(), *named.values()]
                pending = [torch.empty(0), *held]
                self.waiting, *values = sum_grads(given, owner.ranks.data, pending=pending, combine=owner.combine)
                self.values = dict(zip(named, values, strict=True))

    def raise_faults(self) -> None:
        """Raise on every rank what went wrong on one; every rank must call this."""
        raise_together(self.owner.ranks, self.fault)

    # ------------------------------------------------------------------ several ranks

    def meet(self, batches: Sequence[TupleBatch]) -> None:
        """At the first step (or each, where asked for) let the ranks compare what they are about to do."""
        owner = self.owner
        if owner.tables and owner.check != "always":
            return
        told = owner.ranks.tell(
            {
                "same": {} if owner.check == "never" else self._to_compare(batches),
                "tables": tables_to_tell({name: Table.of(f) for name, f in self.factors.items()}),
                "fault": self.fault is not None,
            }
        )
        if any(entry["fault"] for entry in told):
            raise_together(owner.ranks, self.fault)
        compare([entry["same"] for entry in told])
        owner.tables = tables_told([entry["tables"] for entry in told])

    def _to_compare(self, batches: Sequence[TupleBatch]) -> dict[str, Any]:
        mode = "train" if self.owner.module.training else "eval"
        return {"tuples": digest(batches), "seed": self.seed, "mode": f"{mode}, gradients {torch.is_grad_enabled()}"}

    def exchange(self, batches: Sequence[TupleBatch]) -> tuple[dict[str, Tensor], list[TupleBatch], Share]:
        """Fetch the rows that this rank's tuples name; return the tables, the tuples and who scores what."""
        owner = self.owner
        share = owner.share(batches)
        width = max((t.width for t in owner.tables.values()), default=1)
        kind = common_type(owner.tables.values())
        rows = self._rows(share, width, kind)
        shared = {name: self.values.get(name, p) for name, p in self.shared.items()}
        syncing = owner.syncing and torch.is_grad_enabled()
        pending = list(self.shared.values()) if owner.unsynced else []
        sent = list(shared.values()) if syncing else []
        got = exchange_rows(rows, share.route, owner.ranks.row, sent, pending=pending if syncing else ())
        if syncing:
            self.values.update(zip(shared, got.shared, strict=True))
            owner.unsynced = False
        self.tie = got.tie if self.waiting is None else got.tie + self.waiting
        tables = share.route.tables(got.rows)
        tables = {n: table[:, : owner.tables[n].width].to(owner.tables[n].dtype) for n, table in tables.items()}
        return tables, [to_device(batch, owner.device) for batch in share.batches], share

    def _rows(self, share: Share, width: int, kind: torch.dtype) -> Tensor:
        owner, route = self.owner, share.route
        like = torch.empty(0, width, dtype=kind, device=owner.device)
        if self.fault is not None:  # the others wait for rows; they will hear of the fault in the vote
            count = route.send[route.rank] if route.full else sum(route.send)
            return like.new_zeros(count, width)
        padded = {
            name: _padded(factors.to(owner.device, kind), width)
            for name, factors in self.factors.items()
            if name in route.layout.names
        }
        return route.select(padded, like=like)

    def vote(self, value: Tensor) -> Tensor:
        """Sum a value over the ranks; raise the same error on all of them where something went wrong on one.

        Raises:
            ModalityError: an encoder, or the scoring, raised on some rank.
            ValueError: the ranks drew different random numbers.
        """
        owner = self.owner
        on_card = value.device.type != "cpu"
        own = [0.0 if on_card else float(value.detach()), self.fault is not None, self.seconds, owner.stopping]
        vector = torch.tensor([*own, float((self.seed or 0) % _SEED_BITS)], dtype=torch.float64)
        table = owner.ranks.control.all_gather(vector[None], "votes")
        losses, faults, seconds, stops, seeds = table.t()
        if bool(faults.any()):
            raise_together(owner.ranks, self.fault)
        if bool((seeds != seeds[0]).any()):
            raise RanksDifferError(
                f"the ranks differ in their random numbers (seeds {[int(s) for s in seeds]}): call torch.manual_seed "
                "with one number on every rank, or pass seed="
            )
        owner.stop_requested = bool(stops.any())
        name_straggler(seconds.tolist(), owner.ranks)
        if on_card:
            total = owner.ranks.world.all_gather(value.detach()[None], "sums").sum(0)
        else:
            total = value.new_tensor(sum(losses.tolist()))
        return Total.apply(value, total)  # type: ignore[no-untyped-call, no-any-return]

    def cells(self, batches: Sequence[TupleBatch]) -> Tensor | None:
        """Return the weighted sums over all cells, from one Gram matrix a slot; the same on every rank."""
        owner, plan = self.owner, self.owner.plan
        wanted = [(b, slot) for b in batches if b.cells for slot in range(len(b.modalities))]
        if not wanted:
            return None
        wanted.sort(key=lambda entry: plan.owners[entry[0].modalities[entry[1]]])
        sides = [self._side(batch, slot) for batch, slot in wanted]
        held = [plan.owners[batch.modalities[slot]] for batch, slot in wanted]
        most, like = max(sides), common_type(owner.tables.values())
        own = [
            _framed(self._gram(batch, slot, side, like), most)
            for (batch, slot), group, side in zip(wanted, held, sides, strict=True)
            if group == owner.ranks.group
        ]
        stack = torch.stack(own) if own else torch.zeros(0, most, most, dtype=like, device=owner.device)
        grams = gather_values(stack, [held.count(g) for g in range(len(plan.groups))], owner.ranks.row)
        products: dict[int, Tensor] = {}
        weights = {id(batch): batch.cells for batch, _ in wanted}
        for (batch, _), side, gram in zip(wanted, sides, grams, strict=True):
            part = gram[:side, :side]
            products[id(batch)] = products[id(batch)] * part if id(batch) in products else part
        total = sum((products[key].sum() * weight for key, weight in weights.items()), start=stack.new_zeros(()))
        share = total / plan.replicas  # every replica holds these parameters, and their gradients are summed
        return share + (total - share).detach()

    def _side(self, batch: TupleBatch, slot: int) -> int:
        """Return the number of columns of a slot, which every rank can tell from the width of its table."""
        table = self.owner.tables[batch.modalities[slot]]
        with torch.no_grad():
            probe = torch.zeros(1, table.width, dtype=table.dtype, device=self.owner.device)
            return int(self.owner.module.columns(batch.relation, slot, probe).size(1))

    def _gram(self, batch: TupleBatch, slot: int, side: int, kind: torch.dtype) -> Tensor:
        owner = self.owner
        if self.fault is not None:
            return torch.zeros(side, side, dtype=kind, device=owner.device)
        factors = self.factors[batch.modalities[slot]].to(owner.device, kind)
        columns = owner.call.using(self.decoder_values(), "columns", batch.relation, slot, factors)
        gram: Tensor = columns.t() @ columns
        return gram

    def decoder_values(self) -> dict[str, Tensor]:
        """Return the parameters to use outside of the encoders."""
        return {name: value for name, value in self.values.items() if name in self.shared}

    @cached_property
    def shared(self) -> dict[str, Parameter]:
        """The trained parameters that every rank holds, by name; looked up once a pass."""
        return self.owner.shared()

    def trying(self, function: Any, otherwise: Any) -> Any:
        """Return what a function returns; keep what it raises, and return ``otherwise``."""
        if self.fault is not None:
            return otherwise
        began = time.perf_counter()
        try:
            return function()
        except Exception as error:
            owner = self.owner
            self.fault = describe_fault(error, None, owner.ranks.rank, owner.device, owner.plan)
            return otherwise
        finally:
            self.seconds += time.perf_counter() - began


class Total(Function):
    """A sum over the ranks that is known already; each rank's part gets the gradient of the sum."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, total: Tensor) -> Tensor:
        """Return the sum."""
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Pass the gradient to the part."""
        return grads[0], None


def make_tables_share(owner: ModalityParallel, batches: Sequence[TupleBatch]) -> Share:
    """Make the share of this rank, its route on the device of the rank."""
    share = make_share(batches, owner.tables, owner.plan, owner.ranks.rank, owner.exchange)
    if owner.device.type == "cpu":
        return share
    return Share(share.route.to(owner.device, non_blocking=True), share.batches, share.blocks)


def _padded(factors: Tensor, width: int) -> Tensor:
    missing = width - factors.size(1)
    return torch.nn.functional.pad(factors, (0, missing)) if missing else factors


def _framed(gram: Tensor, side: int) -> Tensor:
    missing = side - gram.size(0)
    return torch.nn.functional.pad(gram, (0, missing, 0, missing)) if missing else gram


def common_type(tables: Any) -> torch.dtype:
    kind: torch.dtype | None = None
    for table in tables:
        kind = table.dtype if kind is None else torch.promote_types(kind, table.dtype)
    return kind or torch.get_default_dtype()


def culprits(factors: Mapping[str, Tensor]) -> list[str]:
    """Return the modalities whose factors hold NaN or infinite numbers."""
    return [name for name, table in factors.items() if not bool(table.isfinite().all())]
