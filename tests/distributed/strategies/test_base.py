"""What all strategies share: means that are the same everywhere, bytes, what ranks must have alike, faults."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from hyperlearn_pyg.distributed.strategies import Strategy
from hyperlearn_pyg.distributed.strategies import _tensors as tensors_module
from hyperlearn_pyg.errors import InputError, ParallelError

said = runpy.run_path(str(Path(__file__).parent / "problems.py"))["said"]
DOUBLE = torch.float64
KINDS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex128)


class Plain(Strategy):
    """A strategy with a count and a tensor as its state."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.count, self.table = 0, torch.zeros(2)

    def _state(self) -> dict[str, Any]:
        return {"count": self.count, "table": self.table}

    def _load_state(self, state: dict[str, Any]) -> None:
        self.count, self.table = state["count"], state["table"]


def drawn(rank: int, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(rank)).to(dtype)


def mixed(rank: int) -> list[Tensor]:
    """Tensors of all types and some shapes, none of a length that two or four ranks divide."""
    found = [drawn(rank, kind, *shape) for kind in KINDS for shape in ((3, 5), (), (0, 2), (1,), (7,))]
    return [*found, drawn(rank, DOUBLE, 6, 4).t()]


def average(rank: int, world_size: int) -> dict[str, Any]:
    strategy = Plain()
    found = mixed(rank)
    strategy.average_(found)
    values = torch.randn(1001, generator=torch.Generator().manual_seed(rank))
    alone = tensors_module.mean(values, strategy.wire, "alone")
    behind = tensors_module.mean(torch.cat([values.new_ones(123), values]), strategy.wire, "behind")
    sent = [torch.tensor([rank, 5]), torch.tensor([rank == 0, True]), drawn(rank, torch.bfloat16, 3), torch.ones(2)]
    strategy.broadcast_(sent, kind="first")
    strategy.broadcast_([second := torch.tensor([float(rank)])], root=1)
    return {
        "mean": found,
        "alone": alone,
        "behind": behind[123:],
        "sent": [*sent, second],
        "bytes": strategy.comm_stats.num_bytes,
    }


def wanted(world_size: int) -> list[Tensor]:
    """Means in float64."""
    stacks = [torch.stack(entry) for entry in zip(*(mixed(rank) for rank in range(world_size)), strict=True)]
    return [s.to(torch.complex128 if s.is_complex() else DOUBLE).mean(0).to(s.dtype) for s in stacks]


def check_means(ranks: Any, world_size: int) -> None:
    found = ranks.run(average, world_size)
    for entry in found:
        for value, first, mean in zip(entry["mean"], found[0]["mean"], wanted(world_size), strict=True):
            assert torch.equal(value, first)
            exact = {"rtol": 1e-12, "atol": 1e-15} if value.dtype in (DOUBLE, torch.complex128) else {}
            torch.testing.assert_close(value, mean, **exact)
        assert torch.equal(entry["alone"], found[0]["alone"])
        assert torch.equal(entry["behind"], entry["alone"])  # whatever stands before
        integers, flags, halves, _, second = entry["sent"]
        assert integers.tolist() == [0, 5]
        assert flags.tolist() == [True, True]
        assert torch.equal(halves, drawn(0, torch.bfloat16, 3))
        assert second.tolist() == [1.0]
        assert entry["bytes"]["alone"] == 2 * (world_size - 1) * -(-1001 // world_size) * 4
    assert [entry["bytes"]["first"] for entry in found] == [(world_size - 1) * (16 + 2 + 6 + 8)] + [0] * (
        world_size - 1
    )


def test_means_are_the_same_on_two_ranks(ranks: Any) -> None:
    check_means(ranks, 2)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [3, 4])
def test_means_are_the_same_on_more_ranks(ranks: Any, world_size: int) -> None:
    check_means(ranks, world_size)


def test_alone_nothing_is_done() -> None:
    strategy, value = Plain(), torch.tensor([0.1])
    strategy.average_([value])
    strategy.broadcast_([value])
    strategy.require_alike(size=3)
    with strategy.guard():
        strategy.check()
    assert value.tolist() == torch.tensor([0.1]).tolist()
    assert (strategy.rank, strategy.world_size, strategy.comm_stats.total) == (0, 1, 0)


def test_averaged_are_parameters_and_saved_float_buffers() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(2, 3))
    module[2].weight = module[0].weight
    module.register_buffer("scratch", torch.zeros(3), persistent=False)
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "2.bias", "1.running_mean", "1.running_var"]
    assert list(tensors_module.averaged_tensors(module)) == names
    assert list(tensors_module.all_tensors(module)) == [*names, "1.num_batches_tracked"]


def differ(rank: int, world_size: int) -> dict[str, Any]:
    out: dict[str, Any] = {"alike": said(lambda: Plain().require_alike(rate=0.5))}
    out["differ"] = said(lambda: Plain().require_alike(rate=0.5 + rank))
    strategy = Plain(timeout=30.0)  # a group of its own, as this one will break

    def guarded() -> None:
        with strategy.guard():
            if rank:
                raise KeyError("broken on purpose")
            strategy.average_([torch.ones(2)])

    out["guarded"] = said(guarded)
    out["then"] = said(lambda: strategy.average_([torch.ones(2)]))
    return out


def test_what_ranks_say(ranks: Any) -> None:
    first, second = ranks.run(differ, 2)
    assert first["alike"][0] == second["alike"][0] == ""
    assert first["differ"] == second["differ"]
    assert first["differ"][0] == "RanksDifferError"
    assert "'rate': rank 0 has 0.5, rank 1 has 1.5" in first["differ"][1]
    assert first["guarded"][0] == "RankLostError"
    assert "rank 1, raised KeyError: 'broken on purpose'" in first["guarded"][1]
    assert first["guarded"][2] == (1,)
    assert second["guarded"][0] == "KeyError"
    assert first["then"][0] == "RankLostError"
    assert second["then"][0] == ParallelError.__name__
    assert "cannot go on since an earlier failure" in first["then"][1]


def on_a_mesh(rank: int, world_size: int) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (2, world_size // 2), mesh_dim_names=("replica", "modality"))
    strategy = Plain(mesh=mesh)
    value = torch.tensor([float(rank)])
    strategy.average_([value])
    out: dict[str, Any] = {"place": (strategy.rank, strategy.world_size), "value": value.item()}
    flat = DeviceMesh("cpu", list(range(world_size)), mesh_dim_names=("modality",))
    out["no axis"] = said(lambda: Plain(mesh=flat))
    out["both"] = said(lambda: Plain(mesh=mesh, process_group=dist.group.WORLD))
    return out


def test_replica_axis_of_a_mesh(ranks: Any) -> None:
    found = ranks.run(on_a_mesh, 2)
    assert [entry["place"] for entry in found] == [(0, 2), (1, 2)]
    assert [entry["value"] for entry in found] == [0.5, 0.5]
    assert found[0]["no axis"][0] == "ValueError"
    assert "must have an axis 'replica' (got ('modality',))" in found[0]["no axis"][1]
    assert "not both" in found[0]["both"][1]


@pytest.mark.slow
def test_each_modality_has_its_own_replicas(ranks: Any) -> None:
    found = ranks.run(on_a_mesh, 4)
    assert [entry["place"] for entry in found] == [(0, 2), (0, 2), (1, 2), (1, 2)]
    assert [entry["value"] for entry in found] == [1.0, 2.0, 1.0, 2.0]


def test_state_goes_round_and_others_are_refused() -> None:
    first, second = Plain(), Plain()
    first.count, first.table = 3, torch.ones(2)
    second.load_state_dict(first.state_dict())
    assert second.count == 3
    assert torch.equal(second.table, first.table)
    with pytest.raises(InputError, match=r"must be of Plain \(got that of 'Other'\)"):
        second.load_state_dict({**first.state_dict(), "strategy": "Other"})
    with pytest.raises(InputError, match=r"lacks 'count'\. Did you mean 'counts'"):
        second.load_state_dict({"strategy": "Plain", "table": 1, "counts": 2})
