"""Occlusion by recomputing only what a covered window changes, layer by layer.

While the model runs once on whole images, every function on its way also computes its result inside the changed window
of each position: a convolution's window grows by its kernel, a pooling's shrinks by its stride, and what surrounds the
window is taken from the whole image's own maps. So a deep layer costs its window and not its receptive field, one sweep
serves all layers, and the borders are those of the whole image. Functions that are not local in space, and whatever
follows them, are left to the other ways of `occluding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from innersight_graph.probe.capturing import Pass, Reached, watched
from innersight_graph.probe.locality import CONVOLUTIONS, POINTWISE, POOLS, SUMS
from innersight_graph.probe.sites import Site, neuron_axis

__all__ = ["window_changes"]


@dataclass(frozen=True)
class _Window:
    """Where the changed windows of all positions lie in maps of one size, all of one shape.

    Attributes
    ----------
    tops, lefts : Tensor of int (n_positions,)
    height, width : int
    """

    tops: torch.Tensor
    lefts: torch.Tensor
    height: int
    width: int


@dataclass(frozen=True)
class _Patched:
    """What a map would be inside each position's window; outside, nothing changes.

    Attributes
    ----------
    window : _Window
    values : Tensor (n_positions * batch, channels, window height, window width)
    """

    window: _Window
    values: torch.Tensor


def window_changes(
    model: nn.Module,
    image: torch.Tensor,
    sites: Mapping[str, Site],
    positions: NDArray[np.intp],
    window: int,
    fill: float,
    *,
    widest: list[int] | None = None,
) -> dict[str, torch.Tensor]:
    """Mean squared change of every neuron's whole map, ``(n_positions, batch, n_neurons)``, of the layers in reach.

    Parameters
    ----------
    model : Module
        Bare, in evaluation mode.
    image : Tensor (batch, channels, height, width)
    sites : mapping of layer to Site
        Layers that are wanted; those behind a function that is not local in space are missing from the result.
    positions : ndarray of int (n_positions, 2)
        Centres of the windows.
    window, fill
        As in `occlusion_maps`.
    widest : list of int, optional
        Gets the bytes that each function's windows took.
    """
    changes: dict[str, torch.Tensor] = {}
    local = _Local(widest)

    def see(name: str, tensor: torch.Tensor, state: Pass) -> None:
        with torch._C.DisableTorchFunction():
            found = local.change(tensor, state.sites[name])
        if found is not None:
            changes[name] = found
            if len(changes) == len(sites):
                raise Reached

    image = image.clone()
    with torch.no_grad(), local, watched(model, sites, see, located=True), suppress(Reached):
        local.cover(image, positions, window, fill)
        model(image)
    return changes


class _Local(TorchFunctionMode):
    """Follows the windows through the functions of one forward pass."""

    def __init__(self, widest: list[int] | None) -> None:
        super().__init__()
        self._widest = widest
        # Weakly: what the model has done with takes no memory.
        self._known: Any = WeakTensorKeyDictionary()
        self._lost: Any = WeakTensorKeyDictionary()

    def cover(self, image: torch.Tensor, positions: NDArray[np.intp], window: int, fill: float) -> None:
        """Start from images of which a window around each position is filled."""
        with torch._C.DisableTorchFunction():
            height, width = (min(window, n) for n in image.shape[2:])
            first = torch.from_numpy(positions - window // 2).to(image.device)
            tops, lefts = first[:, 0].clamp(0, image.shape[2] - height), first[:, 1].clamp(0, image.shape[3] - width)
            where = _Window(tops, lefts, height, width)
            values = _taken(image, None, where).reshape(len(positions), len(image), image.shape[1], height, width)
            rows = _within(tops[:, None] + torch.arange(height, device=image.device), first[:, :1], window)
            columns = _within(lefts[:, None] + torch.arange(width, device=image.device), first[:, 1:], window)
            covered = (rows[:, :, None] & columns[:, None, :])[:, None, None]
            values = torch.where(covered, torch.as_tensor(fill, dtype=values.dtype, device=values.device), values)
            self._known[image] = _Patched(where, values.flatten(0, 1))

    def change(self, tensor: torch.Tensor, site: Site) -> torch.Tensor | None:
        """Mean squared change of each channel of a map that was followed, or None."""
        known: _Patched | None = self._known.get(tensor)
        if known is None or site.rows is not None or neuron_axis(tensor.shape, site) != 1:
            return None
        before = _taken(tensor, None, known.window)
        change = (known.values - before).square_().sum((2, 3)) / (tensor.shape[2] * tensor.shape[3])
        return change.reshape(-1, len(tensor), tensor.shape[1])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        touched = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if not any(x in self._known or x in self._lost for x in touched):
            return func(*args, **kwargs)
        # Windows first: a function may write into its input.
        follow = None if any(x in self._lost for x in touched) else self._rule(func)
        patched = None
        if follow is not None:
            with suppress(_NotLocalError, TypeError):
                patched = follow(func, args, kwargs)
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor) and patched is not None:
            window, values = patched
            if self._widest is not None:
                self._widest.append(2 * values.numel() * values.element_size())
            self._known[result] = _Patched(window, values)
        elif isinstance(result, torch.Tensor) or func is torch.Tensor.__setitem__ or isinstance(result, tuple | list):
            written = touched if func is torch.Tensor.__setitem__ or follow is None else []
            self._lose([*written, *(x for x in tree_leaves(result) if isinstance(x, torch.Tensor))])
        return result

    def _lose(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            self._known.pop(tensor, None)
            self._lost[tensor] = True

    def _rule(self, func: Any) -> Callable[..., tuple[_Window, torch.Tensor]] | None:
        if func in CONVOLUTIONS:
            return self._convolution
        if func in POOLS:
            return self._pooling
        if func in POINTWISE or func in (F.batch_norm, F.dropout):
            return self._pointwise
        if func in SUMS:
            return self._sum
        return self._concatenation if func is torch.cat else None

    def _of(self, tensor: Any) -> _Patched:
        known: _Patched | None = self._known.get(tensor) if isinstance(tensor, torch.Tensor) else None
        if known is None:
            raise _NotLocalError
        return known

    def _pointwise(self, func: Any, args: Any, kwargs: Any) -> tuple[_Window, torch.Tensor]:
        known = self._of(args[0])
        if func is F.batch_norm and _argument(args, kwargs, 5, "training", False):
            raise _NotLocalError
        if func is F.dropout and _argument(args, kwargs, 2, "training", True):
            raise _NotLocalError
        return known.window, func(known.values.clone(), *args[1:], **kwargs)

    def _convolution(self, func: Any, args: Any, kwargs: Any) -> tuple[_Window, torch.Tensor]:
        known = self._of(args[0])
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        given = dict(zip(names, args, strict=False)) | kwargs
        weight, groups = given["weight"], given.get("groups", 1)
        steps, pads, gaps = (_pair(given.get(key, usual)) for key, usual in zip(names[3:6], (1, 0, 1), strict=True))
        if weight in self._known:
            raise _NotLocalError
        window, context = _reached(args[0], known, tuple(weight.shape[2:]), steps, pads, gaps, 0.0)
        return window, F.conv2d(context, weight, given.get("bias"), steps, 0, gaps, groups)

    def _pooling(self, func: Any, args: Any, kwargs: Any) -> tuple[_Window, torch.Tensor]:
        known = self._of(args[0])
        largest = func is not F.avg_pool2d
        last = ("dilation", "ceil_mode") if largest else ("ceil_mode", "count_include_pad", "divisor_override")
        names = ("input", "kernel_size", "stride", "padding", *last)
        given = dict(zip(names, args, strict=False)) | kwargs
        size, step = _pair(given["kernel_size"]), _pair(given.get("stride") or given["kernel_size"])
        pads, gaps = _pair(given.get("padding", 0)), _pair(given.get("dilation", 1))
        odd = given.get("ceil_mode") or given.get("return_indices") or given.get("divisor_override")
        if odd or (not given.get("count_include_pad", True) and pads != (0, 0)):
            raise _NotLocalError
        window, context = _reached(args[0], known, size, step, pads, gaps, -torch.inf if largest else 0.0)
        if largest:
            return window, F.max_pool2d(context, size, step, 0, gaps)
        return window, F.avg_pool2d(context, size, step)

    def _sum(self, func: Any, args: Any, kwargs: Any) -> tuple[_Window, torch.Tensor]:
        if len(args) != 2 or set(kwargs) - {"alpha"}:
            raise _NotLocalError
        window, parts = self._together(args)
        return window, func(parts[0].clone() if isinstance(parts[0], torch.Tensor) else parts[0], parts[1], **kwargs)

    def _concatenation(self, func: Any, args: Any, kwargs: Any) -> tuple[_Window, torch.Tensor]:
        given = dict(zip(("tensors", "dim"), args, strict=False)) | kwargs
        if given.get("dim", 0) not in (1, -3):
            raise _NotLocalError
        window, parts = self._together(given["tensors"])
        return window, torch.cat(parts, 1)

    def _together(self, items: Iterable[Any]) -> tuple[_Window, list[Any]]:
        """Bring several maps to one window that holds each one's; whatever has no place in space stays as it is."""
        items = list(items)
        known = [self._known.get(x) if isinstance(x, torch.Tensor) else None for x in items]
        shapes = [x.shape for x, patched in zip(items, known, strict=True) if patched is not None]
        shape = shapes[0]
        if any(other[2:] != shape[2:] for other in shapes):
            raise _NotLocalError
        window = _union([patched.window for patched in known if patched is not None], shape)
        parts: list[Any] = []
        for item, patched in zip(items, known, strict=True):
            if patched is not None:
                parts.append(_taken(item, patched, window))
            elif not isinstance(item, torch.Tensor) or _everywhere(item):
                parts.append(item)
            elif item.ndim == 4 and item.shape[2:] == shape[2:] and len(item) in (1, shape[0]):
                parts.append(_taken(item.expand(shape[0], *item.shape[1:]), None, window))
            else:
                raise _NotLocalError
        return window, parts


class _NotLocalError(Exception):
    """A function whose result in a window is not told by its input around the window."""


def _everywhere(item: torch.Tensor) -> bool:
    """Whether a tensor is a number per channel at most, the same for all samples and pixels."""
    return item.ndim == 0 or (item.ndim in (3, 4) and item.shape[-2:] == (1, 1) and (item.ndim == 3 or len(item) == 1))


def _argument(args: Any, kwargs: Any, position: int, name: str, usual: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, usual)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if isinstance(value, tuple | list) and len(value) in (1, 2) and all(isinstance(v, int) for v in value):
        return (value[0], value[-1])
    raise _NotLocalError


def _within(places: torch.Tensor, first: torch.Tensor, length: int) -> torch.Tensor:
    return (places >= first) & (places < first + length)


def _reached(
    whole: torch.Tensor,
    known: _Patched,
    size: tuple[int, ...],
    steps: tuple[int, int],
    pads: tuple[int, int],
    gaps: tuple[int, int],
    beyond: float,
) -> tuple[_Window, torch.Tensor]:
    """Window of the outputs that read a changed value, and all the inputs that these outputs read."""
    first, lengths, starts, reads = [], [], [], []
    shape = whole.shape[2:]
    own = ((known.window.tops, known.window.height), (known.window.lefts, known.window.width))
    for (top, length), n, k, step, pad, gap in zip(own, shape, size, steps, pads, gaps, strict=True):
        span = gap * (k - 1)
        outputs = (n + 2 * pad - span - 1) // step + 1
        most = min(outputs, (length - 1 + span) // step + 1)
        start = (-((span - top - pad) // step)).clamp(0, outputs - most)
        first.append(start)
        lengths.append(most)
        starts.append(start * step - pad)
        reads.append((most - 1) * step + span + 1)
    context = _Window(starts[0], starts[1], reads[0], reads[1])
    return _Window(first[0], first[1], lengths[0], lengths[1]), _taken(whole, known, context, pads, beyond)


def _union(windows: list[_Window], shape: torch.Size) -> _Window:
    first, lengths = [], []
    for starts, sizes, n in (
        ([w.tops for w in windows], [w.height for w in windows], shape[2]),
        ([w.lefts for w in windows], [w.width for w in windows], shape[3]),
    ):
        low = torch.stack(starts).amin(0)
        high = torch.stack([s + size for s, size in zip(starts, sizes, strict=True)]).amax(0)
        length = int((high - low).max())
        first.append(low.clamp(max=n - length))
        lengths.append(length)
    return _Window(first[0], first[1], lengths[0], lengths[1])


def _taken(
    whole: torch.Tensor, patched: _Patched | None, at: _Window, pads: tuple[int, int] = (0, 0), beyond: float = 0.0
) -> torch.Tensor:
    """Cut a window out of the maps for every position, its changed values in place: (n_positions * batch, C, h, w).

    One table of pixels, of the whole maps and of the changed windows, is indexed by row: a pixel's channels lie
    together in memory, which is also the layout that convolutions like best.
    """
    batch, channels = whole.shape[:2]
    padded = F.pad(whole, (pads[1], pads[1], pads[0], pads[0]), value=beyond) if any(pads) else whole
    height, width = padded.shape[2:]
    count, device = len(at.tops), whole.device
    rows = at.tops[:, None] + torch.arange(at.height, device=device) + pads[0]
    columns = at.lefts[:, None] + torch.arange(at.width, device=device) + pads[1]
    image = torch.arange(batch, device=device)[None, :, None, None]
    index = (image * height + rows[:, None, :, None]) * width + columns[:, None, None, :]
    table = padded.permute(0, 2, 3, 1).reshape(-1, channels)
    if patched is not None:
        own = patched.window
        down = (rows - pads[0] - own.tops[:, None])[:, None, :, None]
        across = (columns - pads[1] - own.lefts[:, None])[:, None, None, :]
        changed = (down >= 0) & (down < own.height) & (across >= 0) & (across < own.width)
        number = torch.arange(count, device=device)[:, None, None, None] * batch + image
        inside = (number * own.height + down) * own.width + across + len(table)
        index = torch.where(changed, inside, index)
        table = torch.cat([table, patched.values.permute(0, 2, 3, 1).reshape(-1, channels)])
    cut = table.index_select(0, index.reshape(-1)).reshape(count * batch, at.height, at.width, channels)
    return cut.permute(0, 3, 1, 2)
