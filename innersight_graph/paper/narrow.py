"""A convolutional network cut down to the kernels left open: what closing equals, at a fraction of its cost.

A closed kernel sends zeros, so its channel can be left out of its own convolution and of the next one. What a stage
put out before is taken over while the kernels of all stages before it stay the same and its own only become fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from innersight_graph.data import Split
from innersight_graph.evaluation.members import Members

__all__ = ["Curve", "Narrow", "pruning_curve"]

Mask = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
# Images run at a time: more than these and the maps no longer fit the processor's cache.
CHUNK = 64


@dataclass
class _Stage:
    """A convolution with what follows it up to the next one, and its last result.

    That depends on the open kernels of every convolution before it, ``past``, and on its own, ``here``.
    """

    conv: nn.Conv2d
    after: nn.Sequential
    past: tuple[bytes, ...]
    here: Mask
    output: torch.Tensor

    def known(self, past: tuple[bytes, ...], here: Mask) -> torch.Tensor | None:
        """Return the output for these kernels, if it is part of the last one."""
        if past == self.past and not (here & ~self.here).any():
            return self.output[:, here[self.here]]
        return None


class Narrow:
    """A network of the paper's kind on one set of images, with any of its kernels closed.

    Parameters
    ----------
    model : torch.nn.Sequential
        Convolutions with their activation and pooling, a flatten, then linear layers; see `convolutional_network`.
    split : Split
    """

    def __init__(self, model: nn.Sequential, split: Split) -> None:
        parts = list(model.named_children())
        starts = [i for i, (_, module) in enumerate(parts) if isinstance(module, nn.Conv2d)]
        flat = next(i for i, (_, module) in enumerate(parts) if isinstance(module, nn.Flatten))
        self.layers = tuple(parts[i][0] for i in starts)
        first = parts[flat + 1][1]
        assert isinstance(first, nn.Linear)
        self._first, self._rest = first, nn.Sequential(*(module for _, module in parts[flat + 2 :]))
        self._targets = split.targets
        self._inputs, self._full = split.inputs, []
        with torch.no_grad():
            x, before = split.inputs, np.ones(split.inputs.shape[1], dtype=bool)
            past: tuple[bytes, ...] = ()
            for start, stop in zip(starts, [*starts[1:], flat], strict=True):
                conv = parts[start][1]
                assert isinstance(conv, nn.Conv2d)
                here = np.ones(conv.out_channels, dtype=bool)
                after = nn.Sequential(*(module for _, module in parts[start + 1 : stop]))
                x = _run(conv, after, x, before, here)
                self._full.append(_Stage(conv, after, past, here, x))
                before, past = here, (*past, here.tobytes())
        self._last = [_Stage(**vars(stage)) for stage in self._full]

    @torch.no_grad()
    def correct(self, closed: Mapping[str, Mask]) -> Mask:
        """Tell for each image whether its class is predicted with these kernels closed, none where nothing is said."""
        x, before = self._inputs, np.ones(self._inputs.shape[1], dtype=bool)
        past: tuple[bytes, ...] = ()
        for name, stage, full in zip(self.layers, self._last, self._full, strict=True):
            here = ~closed[name] if name in closed else np.ones_like(full.here)
            known = next((out for s in (stage, full) if (out := s.known(past, here)) is not None), None)
            past = (*past, here.tobytes())
            if not here.any():
                # Nothing left: one kernel stands in, silent, for those behind. It is nobody's result to take over.
                before = np.arange(len(here)) == 0
                x = torch.zeros_like(full.output[:, :1])
                continue
            x = _run(stage.conv, stage.after, x, before, here) if known is None else known
            stage.past, stage.here, stage.output = past[:-1], here, x
            before = here
        first, rest = self._first, self._rest
        weight = first.weight.reshape(len(first.weight), len(before), -1)[:, torch.from_numpy(before)].flatten(1)
        predicted = rest(nn.functional.linear(x.flatten(1), weight, first.bias)).argmax(1)
        return np.asarray((predicted == self._targets).numpy())


def _run(conv: nn.Conv2d, after: nn.Sequential, x: torch.Tensor, before: Mask, here: Mask) -> torch.Tensor:
    rows, columns = torch.from_numpy(here), torch.from_numpy(before)
    weight = conv.weight[rows][:, columns].contiguous(memory_format=torch.channels_last)
    bias = None if conv.bias is None else conv.bias[rows]

    def run(part: torch.Tensor) -> torch.Tensor:
        padding: Any = conv.padding
        result: torch.Tensor = after(nn.functional.conv2d(part, weight, bias, conv.stride, padding))
        return result

    return torch.cat([run(part) for part in x.split(CHUNK)])


@dataclass(frozen=True)
class Curve:
    """Pruning by one ranking, as `Pruning`: neurons left, accuracies after each step, the step of the key set."""

    kept: NDArray[np.intp]
    validation: FloatArray
    test: FloatArray
    key_step: int


def pruning_curve(select: Narrow, test: Narrow, members: Members, *, tolerance: float) -> Curve:
    """Close communities one after another, ranked once by loss of accuracy per neuron, as `prune_to_key` does.

    Parameters
    ----------
    select, test : Narrow
        Images to rank on and to report on.
    members : Members
        Of a partition of all convolutions.
    tolerance : float
        Loss of accuracy on ``select`` that the key set may cost.
    """
    m = len(members.partition)
    groups = [{name: np.zeros(members.graph.layer(name).width, dtype=bool) for name in select.layers} for _ in range(m)]
    for layer in members.layers:
        for k, i in enumerate(layer.communities):
            groups[i][layer.layer] = layer.labels == k
    nothing = {name: np.zeros_like(mask) for name, mask in groups[0].items()}
    clean = select.correct(nothing).astype(float)
    baseline = float(clean.mean())
    # Of the differences, not the difference of means: rounding must not decide between equal drops.
    drops = np.array([(clean - select.correct(group)).mean() for group in groups])
    order = np.argsort(drops / np.maximum(members.sizes, 1), kind="stable").tolist()
    validation, reported = (_along(network, groups, nothing, order) for network in (select, test))
    kept = int(members.sizes.sum()) - np.concatenate([[0], np.cumsum(members.sizes[order])]).astype(np.intp)
    key_step = int(np.flatnonzero(validation >= baseline - tolerance - 1e-12).max())
    return Curve(kept, validation, reported, key_step)


def _along(
    network: Narrow, groups: Sequence[Mapping[str, Mask]], nothing: Mapping[str, Mask], order: Sequence[int]
) -> FloatArray:
    closed = dict(nothing)
    curve = [network.correct(closed).mean()]
    for i in order:
        closed = {name: mask | groups[i][name] for name, mask in closed.items()}
        curve.append(network.correct(closed).mean())
    return np.array(curve)
