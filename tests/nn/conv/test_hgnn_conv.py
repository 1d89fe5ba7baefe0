from __future__ import annotations

from typing import Any

import torch

from hyperlearn_pyg.nn import HGNNConv
from hyperlearn_pyg.testing import dense_hgnn_conv


def test_laws(laws: Any) -> None:
    laws.preset(HGNNConv, "symmetric", dense_hgnn_conv)


def test_the_operator_is_symmetric_with_its_spectrum_between_zero_and_one(laws: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    for nodes, edges, entries in ((1, 1, 1), (5, 3, 9), (12, 20, 60), (30, 4, 40)):
        index = torch.stack([torch.randint(n, (entries,), generator=generator) for n in (nodes, edges)])
        weight, values = (torch.rand(n, dtype=torch.float64, generator=generator) for n in (edges, entries))
        conv = HGNNConv(nodes, nodes, bias=False).double()
        conv.lin.weight.data = torch.eye(nodes, dtype=torch.float64)
        for own in (None, weight):
            operator = conv(torch.eye(nodes, dtype=torch.float64), index, own, num_edges=edges, incidence_weight=values)
            assert torch.allclose(operator, operator.t())
            spectrum = torch.linalg.eigvalsh(operator)
            assert spectrum.min() > -1e-12
            assert spectrum.max() < 1 + 1e-12
            reached = torch.zeros(nodes, dtype=torch.bool).index_fill(0, index[0], True)
            assert abs(spectrum.max() - float(reached.any())) < 1e-12  # the root of the degrees
