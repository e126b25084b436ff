"""How labels pass through operators that hold no neurons: arithmetic, norms, data movement, reductions, resampling."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from innersight_graph.neuronize.planes import constant_along, group, map_ids, merge, union
from innersight_graph.neuronize.tracer import Op, Tracer, floats

__all__ = [
    "along",
    "copy",
    "fold",
    "gates",
    "halves",
    "keep",
    "move",
    "overwrite",
    "pointwise",
    "reduce",
    "reinterpret",
    "resample",
    "without_neurons",
    "write_into",
]


def _labelled(tracer: Tracer, op: Op) -> list[torch.Tensor]:
    return [x for x in op.ins if tracer.labels(x) is not None]


def without_neurons(tracer: Tracer, op: Op) -> bool:
    """Treat an operator that meets no neurons; computed from parameters alone, its results remain weights."""
    if _labelled(tracer, op):
        return False
    tracer.pass_constant(op)
    return True


def _pass_score(tracer: Tracer, op: Op) -> None:
    """Scaled, masked, moved scores of attention remain scores."""
    scores = [score for x in op.ins if (score := tracer.score_of(x)) is not None]
    if scores:
        for out in floats(op.outs):
            tracer.memory.cell(out).score = scores[0]


def pointwise(tracer: Tracer, op: Op) -> None:
    """Merge the producers of all operands, element by element."""
    if without_neurons(tracer, op):
        return
    sources = _labelled(tracer, op)
    merged = tracer.labels(sources[0])
    assert merged is not None
    for source in sources[1:]:
        other = tracer.labels(source)
        assert other is not None
        merged = merge(tracer.sets, merged, other)
    for out in floats(op.outs):
        if len(sources) == 1 and out.shape == sources[0].shape:
            tracer.memory.share(out, sources[0])
        elif _fits(merged, out):
            tracer.memory.write(out, merged)
    _pass_score(tracer, op)


def _fits(labels: torch.Tensor, out: torch.Tensor) -> bool:
    try:
        return bool(torch.broadcast_shapes(labels.shape, out.shape) == out.shape)
    except RuntimeError:
        return False


def keep(tracer: Tracer, op: Op) -> None:
    """Pass the first argument's labels, as a norm does: its statistics do not count as producers."""
    if without_neurons(tracer, op):
        return
    source = op.ins[0]
    for out in floats(op.outs):
        if out.shape == source.shape:
            tracer.memory.share(out, source)


def copy(tracer: Tracer, op: Op) -> None:
    """Overwrite the first argument by the second."""
    source = op.ins[-1]
    labels = tracer.labels(source)
    cell = tracer.memory.cell(op.outs[0])
    if labels is None and not tracer.inputs_of(source) and tracer.labels(op.outs[0]) is None:
        cell.params |= tracer.weight_of(source)
    tracer.memory.write(op.outs[0], labels)
    _pass_score(tracer, op)


def reinterpret(tracer: Tracer, op: Op) -> None:
    """Leave labels as they are: the operator changes how its argument reads its memory, not the memory."""


def overwrite(tracer: Tracer, op: Op) -> None:
    """Forget the labels: the results hold constants or noise."""
    for out in floats(op.outs):
        tracer.memory.write(out, None)


def move(tracer: Tracer, op: Op) -> None:
    """Do to the labels what the operator does to the data."""
    if without_neurons(tracer, op):
        return
    moved = _replayed(tracer, op)
    for out, labels in zip(op.outs, moved, strict=True):
        if labels is not None and labels.shape == out.shape:
            tracer.memory.write(out, labels)
        else:
            tracer.approximated[op.full_name] += 1
            tracer.memory.write(out, tracer.everything(_labelled(tracer, op)).expand(out.shape))
    _pass_score(tracer, op)


def _replayed(tracer: Tracer, op: Op) -> list[torch.Tensor | None]:
    """Run the operator on labels, or return None for each result where that cannot be done."""
    chosen = any(not x.is_floating_point() and tracer.inputs_of(x) for x in op.ins)
    if chosen or any(x.is_meta and not x.is_floating_point() for x in op.ins):
        return _any_of_chosen(tracer, op)

    def stand_in(x: Any, dtype: torch.dtype) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        if not (x.is_floating_point() or x.is_complex()):
            return x.cpu()
        labels = tracer.labels(x)
        return torch.zeros(x.shape, dtype=dtype) if labels is None else labels.to(dtype)

    # Some movements exist for floating-point numbers only; ids are exact in float64.
    for dtype in (torch.int32, torch.float64):
        args, kwargs = tree_map(lambda x, dtype=dtype: stand_in(x, dtype), (tuple(op.args), op.kwargs))
        if op.name.startswith(("constant_pad", "pad")):
            args, kwargs = args[:2], {}
        kwargs.pop("out", None)
        try:
            result = op.func(*args, **kwargs)
        except (RuntimeError, NotImplementedError):
            continue
        return [x.to(torch.int32) for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
    return [None] * len(op.outs)


def _any_of_chosen(tracer: Tracer, op: Op) -> list[torch.Tensor | None]:
    """Merge along axes where the data choose (or, on meta tensors, nobody knows): any position could be meant."""
    source = op.ins[0]
    labels = tracer.labels(source)
    if labels is None:
        return [None] * len(op.outs)
    if op.name in ("index", "_unsafe_index"):
        axes = [axis for axis, index in enumerate(op.arg("indices")) if index is not None]
        if axes == list(range(axes[0], axes[-1] + 1)):
            chosen = group(tracer.sets, labels, axes)
            index_ndim = op.outs[0].ndim - (source.ndim - len(axes))
            shape = [*source.shape[: axes[0]], *[1] * index_ndim, *source.shape[axes[-1] + 1 :]]
            return [chosen.reshape(shape).expand(op.outs[0].shape)]
    elif op.name in ("gather", "index_select", "take_along_dim"):
        chosen = group(tracer.sets, labels, [op.arg("dim")])
        if _fits(chosen, op.outs[0]):
            return [chosen.expand(op.outs[0].shape)]
    return [None] * len(op.outs)


def reduce(tracer: Tracer, op: Op) -> None:
    """Merge along the reduced axes."""
    if without_neurons(tracer, op):
        return
    source = op.ins[0]
    labels = tracer.labels(source)
    if labels is None:
        return
    dims = op.arg("dim")
    axes = list(range(source.ndim)) if dims is None or dims == [] else [dims] if isinstance(dims, int) else list(dims)
    grouped = group(tracer.sets, labels, axes)
    for out in floats(op.outs):
        kept = out.ndim == source.ndim and source.ndim > 0
        shape = (
            grouped.shape
            if kept
            else [s for d, s in enumerate(grouped.shape) if d not in {a % source.ndim for a in axes}]
        )
        tracer.memory.write(out, grouped.reshape(shape))


def along(tracer: Tracer, op: Op) -> None:
    """Treat running sums and orderings: along their axis any earlier (or any) element can count."""
    if without_neurons(tracer, op):
        return
    source = op.ins[0]
    labels = tracer.labels(source)
    if labels is None:
        return
    dim = op.arg("dim", -1)
    if not constant_along(labels, [dim % max(source.ndim, 1)]):
        labels = group(tracer.sets, labels, [dim])
    else:
        labels = labels.narrow(dim, 0, 1) if source.ndim else labels
    for out in floats(op.outs):
        tracer.memory.write(out, labels.expand(out.shape))


def write_into(tracer: Tracer, op: Op) -> None:
    """Write at given places: the old producers stay, and a new one may be anywhere (exact if places do not matter)."""
    if without_neurons(tracer, op):
        return
    target, out = op.ins[0], op.outs[0]
    merged = tracer.labels(target)
    for source in op.ins[1:]:
        labels = tracer.labels(source)
        if labels is None:
            continue
        axes = _moving_axes(op, target, source)
        spread = group(tracer.sets, labels, axes) if axes is not None else None
        if spread is None or not _fits(spread, out):
            tracer.approximated[op.full_name] += 1
            spread = tracer.everything([source])
        merged = spread.expand(out.shape) if merged is None else union(tracer.sets, merged, spread)
    tracer.memory.write(out, merged)


def _moving_axes(op: Op, target: torch.Tensor, source: torch.Tensor) -> list[int] | None:
    """Return the axes of the written values whose position in the target is not their own."""
    if source.ndim == 0:
        return []
    if op.arg("dim") is not None and source.ndim == target.ndim:
        return [op.arg("dim")]
    indices = op.arg("indices")
    if indices is not None and all(x is not None and x.ndim <= 1 for x in indices):
        moved = max(source.ndim - (target.ndim - len(indices)), 0)
        return list(range(moved))
    return None


def halves(tracer: Tracer, op: Op) -> None:
    """Merge both halves of an axis (gated linear unit)."""
    if without_neurons(tracer, op):
        return
    labels = tracer.labels(op.ins[0])
    assert labels is not None
    tracer.memory.write(op.outs[0], union(tracer.sets, *labels.chunk(2, dim=op.arg("dim"))))


def fold(tracer: Tracer, op: Op) -> None:
    """Sum overlapping patches back into maps (col2im): a channel may get every producer of its own patch rows."""
    labels = tracer.labels(op.ins[0])
    if labels is None:
        return
    out = op.outs[0]
    channels = out.shape[-3]
    lead = labels.shape[:-2]
    per_channel = labels.reshape(*lead, channels, labels.shape[-2] // channels, labels.shape[-1])
    if not constant_along(per_channel, [per_channel.ndim - 1, per_channel.ndim - 2]):
        tracer.approximated[op.full_name] += 1
    tracer.memory.write(out, group(tracer.sets, per_channel, [-1, -2]).expand(out.shape))


def resample(tracer: Tracer, op: Op) -> None:
    """Pooling and interpolation: the producers of a channel, wherever in space they are."""
    if without_neurons(tracer, op):
        return
    source = op.ins[0]
    labels = tracer.labels(source)
    if labels is None:
        return
    found = re.search(r"([123])d", op.full_name)
    n_axes = int(found.group(1)) if found else source.ndim - 2
    axes = list(range(source.ndim - n_axes, source.ndim))
    if not constant_along(labels, axes):
        tracer.approximated[op.full_name] += 1
    grouped = group(tracer.sets, labels, axes)
    for out in floats(op.outs):
        tracer.memory.write(out, grouped.expand(out.shape))


def gates(tracer: Tracer, labels: torch.Tensor) -> torch.Tensor:
    """Return the same neurons as gates."""
    return map_ids(labels, tracer.sets.gate)
