from __future__ import annotations

import pytest
import torch
import torch_geometric.nn as pyg_nn
from torch import Tensor
from torch.nn import Linear, Module, Sequential

from hyperlearn_pyg import HypergraphConv
from hyperlearn_pyg.nn import Branch
from hyperlearn_pyg.nn.models.branch import SUPPLIES, needs
from hyperlearn_pyg.nn.models.inputs import BranchInputs, MessageChannel
from hyperlearn_pyg.ops import Incidence


def make_inputs(x: Tensor | None = None) -> BranchInputs:
    graph = torch.tensor([[0, 1], [1, 0]])
    channels = [
        MessageChannel("rates", 0, 1, 2, 2, Incidence(torch.tensor([[0, 1, 2], [0, 3, 1]]), (3, 4))),
        MessageChannel("tags", 0, 1, 1, 5, Incidence(torch.tensor([[2, 2], [4, 0]]), (3, 5))),
    ]
    return BranchInputs(3, x, graph, torch.ones(2), channels)


class Recorder(Module):
    """Takes everything there is and returns zeros."""

    def forward(  # type: ignore[no-untyped-def]
        self, x, num_items, edge_index, edge_weight, laplacian, incidences, keep, hyperedge_index, num_edges, extra=None
    ) -> Tensor:
        self.seen = {name: value for name, value in locals().items() if name not in ("self", "extra")}
        return torch.zeros(num_items, 2)


def test_everything_is_filled_by_name() -> None:
    branch, inputs = Branch(Recorder(), 3, 2, 1), make_inputs(torch.ones(3, 4))
    assert set(branch.wanted) == set(SUPPLIES)
    keep = {"rates": torch.tensor([1.0, 0.0, 1.0])}
    branch(inputs, keep)
    seen = branch.encoder.seen
    assert seen["x"] is inputs.x
    assert seen["edge_index"] is inputs.edge_index
    assert seen["laplacian"] is inputs.laplacian
    assert [i.size for i in seen["incidences"]] == [(3, 4), (3, 5)]
    assert seen["keep"] == [keep["rates"], None]
    assert seen["hyperedge_index"].tolist() == [[0, 2, 2, 2], [0, 1, 8, 4]]
    assert seen["num_edges"] == 9


def test_biases_are_added_or_appended() -> None:
    class Fixed(Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.width = width

        def forward(self) -> Tensor:
            return torch.ones(3, self.width)

    for width, expected in ((2, [1, 1, 5]), (3, [1, 1, 6])):
        branch = Branch(Fixed(width), 3, 2, 1)
        torch.nn.init.constant_(branch.bias, 5.0)
        assert branch(make_inputs())[0].tolist() == expected
    with pytest.raises(ValueError, match=r"Fixed must return shape \[3, 2\] \(got \[3, 4\]\)"):
        Branch(Fixed(4), 3, 2, 1)(make_inputs())


def test_a_learnt_table_stands_for_missing_features() -> None:
    branch = Branch(pyg_nn.GCN(4, 8, 1, 2), 3, 2, 0, table=4)
    branch(make_inputs()).sum().backward()
    assert branch.table is not None
    assert branch.table.grad is not None
    assert branch.table.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("encoder", "wanted"),
    [
        (pyg_nn.GCN(4, 8, 2, 2), {"x", "edge_index", "edge_weight"}),
        (pyg_nn.GraphSAGE(4, 8, 2, 2), {"x", "edge_index", "edge_weight"}),
        (pyg_nn.MLP([4, 8, 2], norm=None), {"x"}),
        (HypergraphConv(4, 2), {"x", "hyperedge_index", "num_edges"}),
        (pyg_nn.HypergraphConv(4, 2), {"x", "hyperedge_index", "num_edges"}),
    ],
)
def test_modules_of_pyg(encoder: Module, wanted: set[str]) -> None:
    assert needs(encoder) == wanted
    assert Branch(encoder, 3, 2, 1)(make_inputs(torch.randn(3, 4))).shape == (3, 3)


def test_a_parameter_that_no_modality_has() -> None:
    with pytest.raises(ValueError, match=r"Sequential asks for \['input'\], which no modality has.*'edge_index'"):
        Branch(Sequential(Linear(4, 2)), 3, 2, 0)


def test_an_encoder_that_names_nothing_is_refused() -> None:
    class Blind(torch.nn.Module):
        def forward(self, *args: torch.Tensor) -> torch.Tensor:
            return args[0]

    with pytest.raises(ValueError, match="names nothing that a modality has"):
        Branch(Blind(), 3, 2, 1)
