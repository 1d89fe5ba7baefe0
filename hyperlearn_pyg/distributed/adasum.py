from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: How the gradients of data replicas are combined.
COMBINES = ("sum", "adasum")


def adasum(gradients: Sequence[Tensor]) -> Tensor:
    r"""Combine gradients: add what is orthogonal in them, and average what agrees.

    .. math:: \operatorname{adasum}(a, b) = \Big(1 - \frac{a \cdot b}{2 \lVert a \rVert^2}\Big) a
        + \Big(1 - \frac{a \cdot b}{2 \lVert b \rVert^2}\Big) b

    from Maleki et al., `Scaling Distributed Training with Adaptive Summation <https://arxiv.org/abs/2006.02924>`_.
    Several are combined as a tree: the result of the first half with that of the second.

    Args:
        gradients: one or more tensors of one shape.

    Returns:
        A tensor of that shape.

    Raises:
        ValueError: none was given.
    """
    if not gradients:
        raise ValueError("'gradients' must hold at least one tensor (got none)")
    if len(gradients) == 1:
        return gradients[0]
    middle = (len(gradients) + 1) // 2
    return _pair(adasum(gradients[:middle]), adasum(gradients[middle:]))


def _pair(a: Tensor, b: Tensor) -> Tensor:
    wide = torch.promote_types(a.dtype, torch.float64)
    x, y = a.reshape(-1).to(wide), b.reshape(-1).to(wide)
    product = torch.vdot(x, y).real if wide.is_complex else torch.dot(x, y)
    parts = (_share(product, x) * x, _share(product, y) * y)
    return (parts[0] + parts[1]).to(a.dtype).view_as(a)


def _share(product: Tensor, vector: Tensor) -> Tensor:
    """Return the factor of a vector; 1 for one of zeros, without asking the device which it is."""
    size = vector.abs().square().sum()
    return 1 - torch.where(size == 0, torch.zeros_like(size), product / (2 * size))
