"""What follows a closed layer, run for many groups at once with as little work as the mathematics allows.

Three facts save work behind a closed convolution layer, none of which changes a result beyond rounding. A closed
channel stays alone until the next convolution: norms, activations, poolings and residual additions treat every channel
by itself. That convolution is linear, so each group needs only its own input channels once more, ``conv(closed) =
conv(open) + conv of the difference in the group's channels``, and all groups of a partition together cost about one
convolution instead of one each. And a norm in evaluation is one multiplication and one addition per channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from innersight_graph.probe.locality import CONVOLUTIONS, POINTWISE, POOLS, SUMS, is_batched

__all__ = ["Suffix"]

_T = torch.Tensor
_EXACT = (torch.float32, torch.float64)
_PER_CHANNEL = POINTWISE | POOLS | {F.adaptive_max_pool2d}


class _Local(NamedTuple):
    """What a tensor is that differs from its open version only in some channels: that version, and which ones."""

    clean: torch.Tensor
    channels: torch.Tensor


class Suffix(TorchFunctionMode):
    """While a model runs under ``torch.vmap`` over groups, do what is cheaper.

    Parameters
    ----------
    weights : dict
        Convolution weights in the memory layout that is fastest here, by address; filled and kept by the caller.
    budget : int
        Bytes these may take.
    """

    def __init__(self, weights: dict[int, tuple[torch.Tensor, torch.Tensor]], budget: int) -> None:
        super().__init__()
        self._weights = weights
        self._budget = budget
        # Weakly: what the model has done with takes no memory.
        self._local: Any = WeakTensorKeyDictionary()

    def closed(self, tensor: torch.Tensor, clean: torch.Tensor, channels: torch.Tensor) -> None:
        """Take note that ``tensor`` is ``clean`` with some channels (bool, one each) replaced."""
        if tensor.dtype in _EXACT and not is_batched(clean):
            self._keep(tensor, clean, channels)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in CONVOLUTIONS:
            return self._convolve(func, *args, **kwargs)
        func = _INSTEAD.get(func, func)
        here = self._known(args[0]) if args else None
        if func in SUMS and len(args) == 2 and not kwargs:
            return self._add(func, *args)
        if func is torch.cat:
            return self._concatenate(func, *args, **kwargs)
        if here is None or func is _passed:
            return func(*args, **kwargs)
        if func not in _PER_CHANNEL and func not in _OWN:
            result = func(*args, **kwargs)
            # It may be written into, now or through a view; asking for its shape changes nothing.
            if isinstance(result, torch.Tensor) or func is _T.__setitem__:
                self._local.pop(args[0], None)
            return result
        clean = func(here.clean.clone(), *args[1:], **kwargs)
        return self._keep(func(*args, **kwargs), clean, here.channels)

    def _keep(self, tensor: Any, clean: Any, channels: torch.Tensor) -> Any:
        if isinstance(tensor, torch.Tensor) and tensor.ndim == 4 and tensor.shape[1] == len(channels):
            self._local[tensor] = _Local(clean, channels)
        return tensor

    def _known(self, tensor: Any) -> _Local | None:
        found: _Local | None = self._local.get(tensor) if isinstance(tensor, torch.Tensor) else None
        return found

    def _add(self, func: Callable[..., Any], a: Any, b: Any) -> Any:
        known = [self._known(x) for x in (a, b)]
        channels = [local.channels for local in known if local is not None]
        plain = [x for x, local in zip((a, b), known, strict=True) if local is None]
        whole = all(not isinstance(x, torch.Tensor) or not is_batched(x) for x in plain)
        if not channels or not whole:
            result = func(a, b)
            if result is a and known[0] is not None:
                del self._local[a]
            return result
        opened = [x if local is None else local.clean for x, local in zip((a, b), known, strict=True)]
        if isinstance(opened[0], torch.Tensor):
            opened[0] = opened[0].clone()
        clean = func(*opened)
        result = func(a, b)
        return self._keep(result, clean, channels[0] if len(channels) == 1 else channels[0] | channels[1])

    def _concatenate(self, func: Callable[..., Any], tensors: Any, dim: int = 0, **kwargs: Any) -> Any:
        known = [self._known(x) for x in tensors]
        result = func(tensors, dim, **kwargs)
        plain = [x for x, local in zip(tensors, known, strict=True) if local is None]
        if dim != 1 or kwargs or len(plain) == len(known) or any(is_batched(x) for x in plain):
            return result
        closed = [
            torch.zeros(x.shape[1], dtype=torch.bool, device=x.device) if local is None else local.channels
            for x, local in zip(tensors, known, strict=True)
        ]
        opened = [x if local is None else local.clean for x, local in zip(tensors, known, strict=True)]
        return self._keep(result, func(opened, 1), torch.cat(closed))

    def _convolve(
        self,
        func: Callable[..., Any],
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        local = self._known(input)
        weight = self._laid_out(weight)
        if local is None or groups != 1 or is_batched(weight) or (bias is not None and is_batched(bias)):
            return func(input, weight, bias, stride, padding, dilation, groups)
        opened = func(local.clean, weight, bias, stride, padding, dilation)
        return _DifferenceConvolved.apply(opened, input, local.clean, local.channels, weight, stride, padding, dilation)

    def _laid_out(self, weight: torch.Tensor) -> torch.Tensor:
        if weight.device.type != "cpu" or weight.dtype not in _EXACT or is_batched(weight) or weight[0, 0].numel() == 1:
            return weight
        if id(weight) not in self._weights:
            held = sum(copy.numel() * copy.element_size() for _, copy in self._weights.values())
            if held + weight.numel() * weight.element_size() > self._budget:
                return weight
            # The original is held too, so that its number stays its own.
            self._weights[id(weight)] = (weight, weight.detach().contiguous(memory_format=torch.channels_last))
        return self._weights[id(weight)][1]


class _DifferenceConvolved(torch.autograd.Function):
    """``opened + conv(closed - clean)``, the convolution over the closed channels of each group alone."""

    @staticmethod
    def forward(
        opened: torch.Tensor,
        closed: torch.Tensor,
        clean: torch.Tensor,
        channels: torch.Tensor,
        weight: torch.Tensor,
        stride: Any,
        padding: Any,
        dilation: Any,
    ) -> torch.Tensor:
        return opened + F.conv2d(closed - clean, weight, None, stride, padding, dilation)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: closings are not differentiated."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        opened: torch.Tensor,
        closed: torch.Tensor,
        clean: torch.Tensor,
        channels: torch.Tensor,
        weight: torch.Tensor,
        stride: Any,
        padding: Any,
        dilation: Any,
    ) -> tuple[torch.Tensor, int]:
        """One small convolution per group."""
        closed, channels = closed.movedim(in_dims[1], 0), channels.movedim(in_dims[3], 0)
        results = opened.new_empty((len(closed), *opened.movedim(1, -1).shape)).movedim(-1, 2)
        for own, where, result in zip(closed, channels, results, strict=True):
            rows = where.nonzero()[:, 0]
            result.copy_(opened)
            if len(rows):
                difference = own.index_select(1, rows).sub_(clean.index_select(1, rows))
                part = weight.index_select(1, rows)
                result += F.conv2d(difference, part, None, stride, padding, dilation)
        return results, 0


def _as_affine(
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Batch-norm in evaluation as one multiplication and addition per channel."""
    if training or running_mean is None or running_var is None or input.dtype not in _EXACT or input.ndim < 2:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    scale = torch.rsqrt(running_var + eps) * (1.0 if weight is None else weight)
    shift = (0.0 if bias is None else bias) - running_mean * scale
    along = (-1, *[1] * (input.ndim - 2))
    return torch.addcmul(shift.reshape(along), input, scale.reshape(along))


def _averaged(input: torch.Tensor, output_size: Any) -> torch.Tensor:
    """Adaptive average pooling; to one position it is a mean, which needs no change of layout under vmap."""
    if output_size in (1, (1, 1), [1, 1]) and input.dtype in _EXACT:
        return input.mean((-2, -1), keepdim=True)
    return F.adaptive_avg_pool2d(input, output_size)


def _passed(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Dropout, which in evaluation hands on its input itself."""
    if training:
        raise NotImplementedError("a model that draws random numbers in evaluation has no clean run to compare with")
    return input


def _viewed(input: torch.Tensor, *shape: Any, **kwargs: Any) -> torch.Tensor:
    """View; the layout chosen for convolutions may need a copy where the model's own would not."""
    try:
        return input.view(*shape, **kwargs)
    except RuntimeError:
        return input.reshape(*shape, **kwargs)


_OWN = (_as_affine, _averaged)
_INSTEAD: dict[Any, Callable[..., Any]] = {
    F.batch_norm: _as_affine,
    F.adaptive_avg_pool2d: _averaged,
    F.dropout: _passed,
    _T.view: _viewed,
}
