"""Disjoint supervision: the targets of an epoch carry no messages, as if the graph were that of the others."""

from __future__ import annotations

import copy
from importlib import import_module

import pytest
import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.datasets import SyntheticMultiModal
from hyperlearn_pyg.nn import HypergraphConv
from hyperlearn_pyg.training import TrainConfig
from hyperlearn_pyg.training.steps import epoch_plan

ENCODERS = ("relation", "partner", "hypergraph_conv", "embedding", "own")


class Own(torch.nn.Module):
    """An encoder of one's own, that takes the training entries as one hypergraph."""

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.x = torch.nn.Parameter(torch.randn(num_items, 3))
        self.conv = HypergraphConv(3, 3)

    def forward(self, hyperedge_index: torch.Tensor, num_edges: int) -> torch.Tensor:
        out: torch.Tensor = self.conv(self.x, hyperedge_index, num_edges=num_edges)
        return out


def make(encoder: str) -> tuple[MultiModalHeteroData, HyperLearn]:
    torch.manual_seed(0)
    data = SyntheticMultiModal()[0]
    own = {m: Own(data[m].num_nodes) for m in data.modalities} if encoder == "own" else None
    kind = {"encoder": "embedding" if own else encoder, "encoders": own, "hidden": 6}
    model = HyperLearn.from_data(data, 3, "links", **kind).double()
    for store in data.node_stores:
        for key, value in list(store.items()):
            if torch.is_tensor(value) and value.is_floating_point():
                store[key] = value.double()
    if encoder == "partner":
        for branch in model.encoders.values():
            torch.nn.init.normal_(branch.encoder.partners)
    return data, model


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_the_graph_is_that_of_the_other_entries(encoder: str, fraction: float) -> None:
    data, model = make(encoder)
    inputs = model.prepare(data, ("train",))
    keep, batches = epoch_plan(inputs, TrainConfig(target_fraction=fraction, batch_size=500), 0, 0)
    factors = model(inputs, keep)
    assert (keep is None) == (fraction == 1)
    rest = copy.copy(data)
    for name, tuples in inputs.tuples.items():
        targets = torch.cat([batch[name] for batch in batches if batch is not None])
        assert targets.unique().numel() == targets.numel() == -(-int(1000 * fraction) * len(tuples) // 1000)
        if keep is not None:  # the training entries are those that are no targets
            assert bool((keep[name][targets] == 0).all())
            assert int(keep[name].sum()) == len(tuples) - len(targets)
            train = rest[name].train_mask.nonzero().flatten()
            rest[name].train_mask = rest[name].train_mask.index_fill(0, train[targets], False)
    other = model(model.prepare(rest, ("train",)))
    for name, table in factors.items():
        torch.testing.assert_close(table, other[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_no_step_of_an_epoch_builds_a_graph_anew(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = make(encoder)
    inputs, built = model.prepare(data, ("train",)), []
    incidences = import_module("hyperlearn_pyg.ops.incidence")  # the package has a function of that name
    compress = incidences.compress
    monkeypatch.setattr(incidences, "compress", lambda *args: (built.append(1), compress(*args))[1])
    config, sorts = TrainConfig(target_fraction=0.3, batch_size=500), []
    for epoch in range(3):
        keep, batches = epoch_plan(inputs, config, 0, epoch)
        for batch in batches[:3]:
            built.clear()
            model.loss(inputs, batch, keep=keep, generator=torch.Generator().manual_seed(0)).backward()
            sorts.append(len(built))
    first, *others = sorts
    if encoder == "own":  # its layers sort the entries of an epoch once
        assert others[:2] == [0, 0]
        assert others[2] > 0
        assert others[3:5] == [0, 0]
    else:
        assert set(others) == {0}
        assert (first == 0) == (encoder == "embedding")
