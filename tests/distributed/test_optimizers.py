from __future__ import annotations

import pytest
import torch

from hyperlearn_pyg.distributed.checkpoint import load_latest, save
from hyperlearn_pyg.distributed.optimizers import load_optimizer_state, optimizer_state


def module(parts=("a", "b", "c")):
    torch.manual_seed(0)
    linears = {name: torch.nn.Linear(3, 2).double() for name in ("a", "b", "c")}
    return torch.nn.ModuleDict({name: linears[name] for name in parts})


def step(net, optimizer, count=3):
    """Every part has a loss of its own, so each goes its way whatever is beside it."""
    for i in range(count):
        optimizer.zero_grad()
        x = torch.arange(3.0, dtype=torch.float64) + i
        sum(part(x).square().sum() for part in net.values()).backward()
        optimizer.step()


KINDS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_goes_on_bit_by_bit_in_other_groups_and_parts(tmp_path, kind):
    make, whole = KINDS[kind], module()
    optimizer = make(whole.parameters())
    step(whole, optimizer)
    optimizer.param_groups[0]["lr"] = 0.05  # as a schedule does
    save(tmp_path, 3, whole.state_dict(), optimizer=optimizer_state(optimizer, whole.named_parameters()))
    step(whole, optimizer)
    for parts in (("a", "b", "c"), ("c", "a"), ("b",)):
        part = module(parts)
        found = load_latest(tmp_path, part.state_dict())
        part.load_state_dict(found.tensors)
        groups = [{"params": list(part[name].parameters())} for name in parts]
        resumed = make(groups)
        load_optimizer_state(resumed, part.named_parameters(), found.optimizer)
        step(part, resumed)
        for name, value in part.state_dict().items():
            assert torch.equal(value, whole.state_dict()[name])
        assert {group["lr"] for group in resumed.param_groups} == {0.05}


def test_before_the_first_step_and_without_parameters():
    net = module(("a",))
    state = optimizer_state(torch.optim.Adam(net.parameters()), net.named_parameters())
    assert set(state) == {"a.weight", "a.bias"}
    assert all(entry["state"] == {} and entry["options"]["lr"] == 1e-3 for entry in state.values())
    other = torch.optim.Adam(net.parameters(), lr=9.0)
    step(net, other)
    load_optimizer_state(other, net.named_parameters(), state)
    assert other.param_groups[0]["lr"] == 1e-3
    assert not other.state
    empty = torch.optim.Adam([{"params": []}])
    load_optimizer_state(empty, [], state)
    assert optimizer_state(empty, []) == {}


def test_the_state_is_not_shared():
    net = module(("a",))
    optimizer = torch.optim.Adam(net.parameters())
    step(net, optimizer)
    state = optimizer_state(optimizer, net.named_parameters())
    other = torch.optim.Adam(net.parameters())
    load_optimizer_state(other, net.named_parameters(), state)
    other.state[net["a"].weight]["exp_avg"].zero_()
    assert state["a.weight"]["state"]["exp_avg"].abs().sum() > 0


def test_tensor_options():
    net = module(("a",))
    optimizer = torch.optim.Adam(net.parameters(), lr=torch.tensor(0.5), capturable=False, foreach=False)
    state = optimizer_state(optimizer, net.named_parameters())
    other = torch.optim.Adam(net.parameters(), lr=torch.tensor(0.1), foreach=False)
    load_optimizer_state(other, net.named_parameters(), state)
    assert other.param_groups[0]["lr"] == 0.5


def test_faults_leave_the_optimizer_as_it_was():
    net = module(("a", "b"))
    groups = [{"params": list(net[name].parameters()), "lr": lr} for name, lr in (("a", 0.1), ("b", 0.2))]
    optimizer = torch.optim.Adam(groups)
    state = optimizer_state(optimizer, net.named_parameters())
    other = torch.optim.Adam(net.parameters(), lr=0.7)
    with pytest.raises(ValueError, match=r"'a.weight' and 'b.weight' are in one group.*lr=0.1 and 0.2.*two groups"):
        load_optimizer_state(other, net.named_parameters(), state)
    del state["b.bias"]
    with pytest.raises(ValueError, match=r"no optimizer state was saved for 'b.bias'. Did you mean 'a.bias'\?"):
        load_optimizer_state(optimizer, net.named_parameters(), state)
    with pytest.raises(ValueError, match=r"parameter 0 of the optimizer, of shape \(2, 3\), is not among"):
        optimizer_state(optimizer, net["b"].named_parameters())
    assert other.param_groups[0]["lr"] == 0.7
