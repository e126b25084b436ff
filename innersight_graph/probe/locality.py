"""Which functions of a model treat every channel, or every pixel, by itself."""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812

__all__ = ["CONVOLUTIONS", "POINTWISE", "POOLS", "SUMS", "is_batched"]

_T = torch.Tensor
CONVOLUTIONS = frozenset((torch.conv2d, F.conv2d))
# Functions of one tensor that treat every value by itself.
POINTWISE = frozenset((
    F.relu, torch.relu, torch.relu_, _T.relu, _T.relu_, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.gelu, F.silu,
    F.mish, F.hardswish, F.hardsigmoid, F.softplus, F.sigmoid, torch.sigmoid, _T.sigmoid, F.tanh, torch.tanh, _T.tanh,
    torch.clone, _T.clone, _T.contiguous,
))  # fmt: skip
# Poolings over windows that treat every channel by itself.
POOLS = frozenset((F.max_pool2d, torch.max_pool2d, F.avg_pool2d))
# Functions of two tensors or a tensor and a number that treat every value by itself.
SUMS = frozenset((
    torch.add, _T.add, _T.add_, _T.__add__, _T.__radd__, _T.__iadd__, torch.sub, _T.sub, _T.__sub__, torch.mul, _T.mul,
    _T.__mul__, _T.__rmul__,
))  # fmt: skip


def is_batched(tensor: torch.Tensor) -> bool:
    """Whether the tensor stands for many under ``torch.vmap``."""
    known: bool = torch._C._functorch.is_batchedtensor(tensor)
    return known
