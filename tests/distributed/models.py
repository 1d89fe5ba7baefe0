"""Models, data and loops by which the tests compare a module spread over ranks with the plain one.

A *case* is a dict that tells everything: it is pickled for the ranks, and the plain loop reads the same one.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh
from torch_geometric.data import HeteroData
from torch_geometric.nn import GCN, GraphSAGE

from hyperlearn_pyg import HyperLearn
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.distributed import ModalityParallel, ModalityPlan
from hyperlearn_pyg.ops.seeds import name_seed, seeded
from hyperlearn_pyg.typing import TupleBatch

SIZES = {"user": 9, "film": 7, "tag": 5, "star": 4, "place": 6, "day": 3}
#: name -> slots, number of tuples, with values or not, with weights or not
RELATIONS = {
    "rates": (("user", "film"), 30, True, False),
    "tags": (("user", "film", "tag"), 25, False, True),
    "cast": (("film", ("star", "lead"), ("star", "second")), 20, False, False),
    "knows": ((("user", "one"), ("user", "other")), 16, False, False),
    "visits": (("user", "place", "day", "tag"), 28, True, True),
    "at": (("user", "place"), 15, True, False),
    "alone": (("tag",), 5, False, False),
}


def case(modalities, relations, groups, **options):
    """A case: what is learnt, who holds what, and how."""
    made = {"names": modalities.split(), "relations": relations.split(), "groups": [g.split() for g in groups]}
    known = {"replicas": 1, "exchange": "auto", "model": {}, "batch": 8, "keep": False, "frozen": (), "steps": 20}
    known |= {"edit": "", "wrap": {}, "ranks": ""}
    assert not set(options) - set(known), options
    return made | known | options


@contextmanager
def double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


# ---------------------------------------------------------------- HyperLearn


def hyper_data(names, relations):
    """Modalities with features (but for one) and a graph each, and relations whose tuples are all different."""
    data, generator = MultiModalHeteroData(), torch.Generator().manual_seed(7)
    for i, (name, size) in enumerate(SIZES.items()):
        x = torch.randn(size, 3, generator=generator, dtype=torch.float64)
        edges = torch.randint(size, (2, 2 * size), generator=generator)
        if name in names:
            data.add_modality(name, num_nodes=size, x=None if i == 2 else x)
            data[name, "linked", name].edge_index = edges[:, edges[0] != edges[1]]
    for name in relations:
        slots, count, valued, weighted = RELATIONS[name]
        sizes = [SIZES[s if isinstance(s, str) else s[0]] for s in slots]
        cells = torch.cartesian_prod(*map(torch.arange, sizes)).view(-1, len(sizes))
        index = cells[torch.randperm(len(cells), generator=generator)[:count]].t().contiguous()
        value = torch.randint(1, 6, (index.size(1),), generator=generator).double()
        weight = torch.rand(index.size(1), generator=generator, dtype=torch.float64) + 0.5
        chosen = {"value": value if valued else None, "weight": weight if weighted else None}
        data.add_hyperedges(name, index, modalities=slots, **chosen)
    return data


def hyper_model(c):
    """The data and the plain model of a case, alike in every process."""
    torch.manual_seed(0)
    data = hyper_data(c["names"], c["relations"])
    options = {"rank": 4, "preset": "links", "hidden": 6, "num_negatives": 5, "cheb_order": 3, "steps": 2}
    model = HyperLearn.from_data(data, **{**options, **c["model"]})
    freeze(model, c["frozen"])
    return data, model


def freeze(model, frozen):
    """Freeze encoders by name, and with "shared" all else."""
    for name, parameter in model.named_parameters():
        part = name.split(".")[1] if name.startswith("encoders.") else "shared"
        parameter.requires_grad_(part not in frozen)


def hyper_draw(c, inputs, step):
    """The targets of a step, and which entries carry messages."""
    generator = torch.Generator().manual_seed(step)
    counts = {name: len(tuples) for name, tuples in inputs.tuples.items()}
    batch = {name: torch.randperm(n, generator=generator)[: c["batch"]] for name, n in counts.items()}
    if c["edit"] == "one relation empty" and step % 2:
        batch[list(batch)[-1]] = torch.empty(0, dtype=torch.long)
    if c["edit"] == "others empty":
        batch = {name: at[: int(i == 0)] for i, (name, at) in enumerate(batch.items())}
    if c["edit"] == "nothing":
        batch = {name: at[:0] for name, at in batch.items()}
    keep = {n: torch.ones(counts[n], dtype=torch.float64).index_fill(0, at, 0.0) for n, at in batch.items()}
    return None if c["edit"] == "all" else batch, keep if c["keep"] else None


def hyper_loop(model, c, inputs, optimizer, steps):
    """The plain loop. Returns losses, and the gradients of the first step."""
    losses, grads = [], None
    for step in steps:
        torch.manual_seed(100 + step)
        batch, keep = hyper_draw(c, inputs, step)
        loss = model.loss(inputs, batch, keep=keep, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        grads = gradients(model) if grads is None else grads
        optimizer.step()
        losses.append(loss.item())
    return losses, grads


def gradients(model):
    named = [(n, p) for n, p in model.named_parameters() if n != "<none>"]  # of a rank without parameters
    return {name: None if p.grad is None else p.grad.clone() for name, p in named}


def hyper_plain(c):
    with double():
        data, model = hyper_model(c)
        model.train()
        inputs = model.prepare(data, ("train",))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        losses, grads = hyper_loop(model, c, inputs, optimizer, range(c["steps"]))
        return {"losses": losses, "grads": grads, "state": copied(model.state_dict())}


def options_of(c):
    """Options of the wrapper, with the ranks given in the way that the case names."""
    options, names = dict(c["wrap"]), ("modality", "data")
    if c["ranks"] == "mesh":
        options["mesh"] = init_device_mesh("cpu", (len(c["groups"]), c["replicas"]), mesh_dim_names=names)
    if c["ranks"] == "group":
        options["process_group"] = dist.new_group(list(range(dist.get_world_size())))
    return options


def plan_of(c):
    return ModalityPlan(c["groups"], replicas=c["replicas"], exchange=c["exchange"])


def copied(state):
    return {name: value.detach().clone() for name, value in state.items()}


def hyper_spread(rank, world_size, c, devices=None):
    with double():
        data, plain = hyper_model(c)
        names = set(plain.state_dict())
        model = ModalityParallel(plain, plan_of(c), devices=devices, **options_of(c))
        model.train()
        assert set(model.state_dict()) <= names
        inputs = model.prepare(data, ("train",))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        losses, grads = hyper_loop(model, c, inputs, optimizer, range(c["steps"]))
        return {"losses": losses, "grads": grads, "state": model.full_state_dict(), "local": model.local}


# ---------------------------------------------------------------- a user's own module


class Scorer(torch.nn.Module):
    """Meets ``ModalityModule`` and knows no loss: graph networks with BatchNorm and dropout, and an MLP for all."""

    def __init__(self, names, width=5, hidden=6):
        super().__init__()
        kinds = {"dropout": 0.3, "norm": "BatchNorm"}
        made = [(GraphSAGE if i % 2 else GCN)(3, hidden, 2, width, **kinds) for i in range(len(names))]
        self.encoders = torch.nn.ModuleDict(dict(zip(names, made, strict=True)))
        self.mlp = torch.nn.Sequential(torch.nn.Linear(width, 4), torch.nn.GELU(), torch.nn.Linear(4, 1))
        self.unused = torch.nn.Parameter(torch.ones(2))

    def encode(self, name, data, scale=None):
        out = self.encoders[name](data[name].x, data[name, "to", name].edge_index)
        return out if scale is None else out * scale[name]

    def decode(self, rows, tuples):
        product = torch.stack([rows[m][i] for m, i in zip(tuples.modalities, tuples.index, strict=True)]).prod(0)
        return self.mlp(product).squeeze(-1)

    def smoothness(self, name, factors, data):
        a, b = data[name, "to", name].edge_index
        return (factors[a] - factors[b]).square().sum()


class Table(torch.nn.Module):
    """An encoder without parameters, or without anything trained."""

    def forward(self, x, edge_index):
        return torch.cat([x, x[:, :2]], dim=1)


def user_data(names, step=None):
    """A graph for each modality; with a step, of another size in each."""
    generator, data = torch.Generator().manual_seed(3 if step is None else step), HeteroData()
    for name in names:
        size = SIZES[name] + (0 if step is None else step % 3)
        data[name].x = torch.randn(size, 3, generator=generator, dtype=torch.float64)
        data[name, "to", name].edge_index = torch.randint(size, (2, 3 * size), generator=generator)
    return data


def user_model(c):
    torch.manual_seed(0)
    model = Scorer(c["names"]).double()
    if c["edit"] == "no parameters":
        model.encoders[c["names"][0]] = Table()
    freeze(model, c["frozen"])
    return model


def user_batches(c, step, count=2):
    """Batches of two relations of different orders: the first pair of modalities, and all of them."""
    generator = torch.Generator().manual_seed(step)
    made = []
    for number, slots in enumerate(((c["names"][0], c["names"][1]), tuple(c["names"][:4]))):
        size = c["batch"] if number == 0 else max(c["batch"] - 3, 0)
        size = 0 if number and c["edit"] == "one relation empty" else size
        index = torch.stack([torch.randint(SIZES[m], (size,), generator=generator) for m in slots])
        value = torch.rand(size, generator=generator, dtype=torch.float64)
        made.append(TupleBatch(f"r{number}", slots, index, value))
    return made[:count]


def plain_scores(model, data, batches, seed, **kwargs):
    factors = {}
    for name in model.encoders:
        with seeded(name_seed(seed, name)):
            factors[name] = model.encode(name, data, **kwargs)
    scores = [model.decode(factors, batch) for batch in batches]
    return scores, sum(model.smoothness(name, table, data) for name, table in factors.items())


def user_loss(scores, batches, smooth):
    """An error, a ranking loss that is no sum over tuples, and the smoothness of the factors."""
    first, second = scores
    loss = F.mse_loss(first, batches[0].value) if len(first) else first.sum()
    return loss + (second.logsumexp(0) if len(second) else second.sum()) + 0.01 * smooth


def user_loop(model, c, optimizer, steps, scores_of):
    """The plain loop; ``scores_of(model, data, batches, seed)`` gives scores and smoothness."""
    losses, grads = [], None
    data = user_data(c["names"])
    for step in steps:
        batches = user_batches(c, step)
        scores, smooth = scores_of(model, data, batches, step)
        loss = user_loss(scores, batches, smooth)
        optimizer.zero_grad()
        loss.backward()
        grads = gradients(model) if grads is None else grads
        optimizer.step()
        losses.append(loss.item())
    return losses, grads


def spread_scores(model, data, batches, seed, **kwargs):
    return model(data, batches, seed=seed, **kwargs), model.smoothness(data)


def user_plain(c):
    model = user_model(c).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses, grads = user_loop(model, c, optimizer, range(c["steps"]), plain_scores)
    return {"losses": losses, "grads": grads, "state": copied(model.state_dict())}


def user_spread(rank, world_size, c, devices=None):
    model = ModalityParallel(user_model(c), plan_of(c), devices=devices, **options_of(c)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses, grads = user_loop(model, c, optimizer, range(c["steps"]), spread_scores)
    return {"losses": losses, "grads": grads, "state": model.full_state_dict(), "local": model.local}


# ---------------------------------------------------------------- what is compared


def compare(found, wanted, tolerance=1e-12, after=1e-8):
    """What the ranks found must be what the plain loop gave."""
    for result in found:
        assert result["losses"] == found[0]["losses"], "the ranks have different losses"
        mine, theirs = (torch.tensor(r["losses"], dtype=torch.float64) for r in (result, wanted))
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
        for name, grad in result["grads"].items():
            other = wanted["grads"][name]
            assert (grad is None) == (other is None), f"{name}: {grad} in place of {other}"
            if grad is not None:
                torch.testing.assert_close(
                    grad, other, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
                )
    assert set().union(*(result["grads"] for result in found)) == set(wanted["grads"])
    state = found[0]["state"]
    assert list(state.keys() - wanted["state"].keys()) == list(wanted["state"].keys() - state.keys()) == []
    for name, value in wanted["state"].items():
        assert state[name].dtype == value.dtype
        torch.testing.assert_close(state[name], value, rtol=0, atol=after, msg=lambda m, n=name: f"{n}: {m}")
