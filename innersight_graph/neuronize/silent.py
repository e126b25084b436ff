"""Neurons that never fire: marked, because they would gather in one community and inflate every score."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from innersight_graph.neuronize.layers import Plan
from innersight_graph.neuronize.observe import Maps, observe
from innersight_graph.neuronize.points import closing_points, samples_per_pass
from innersight_graph.neuronize.record import Trace

__all__ = ["silent_neurons"]

# A neuron is silent if it fires on fewer than this share of the samples ...
RARELY = 0.005
# ... where firing means more than this share of the layer's largest activation.
FAINT = 1e-6


def silent_neurons(
    model: nn.Module, trace: Trace, plan: Plan, data: Any, *, progress: bool = False
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return for each layer which neurons fire on fewer than 0.5 % of the samples.

    A neuron fires on a sample if its activation at the closing point exceeds, somewhere, one millionth of the layer's
    largest one in absolute value.

    Returns
    -------
    dict from layer name to ndarray of bool, shape (width,)
    """
    points = closing_points(trace, plan)
    fired: dict[str, torch.Tensor] = {}

    def count_fires(maps: Maps, _samples: int) -> None:
        for name, values in maps.items():
            size = values.abs().amax(dim=2)
            active = (size > FAINT * size.max()).sum(dim=0)
            fired[name] = fired[name] + active if name in fired else active

    limit = samples_per_pass(layer for layer in plan.layers if layer.name in points)
    total = observe(model, data, points, count_fires, samples_per_pass=limit, progress=progress)
    return {name: (count.cpu().numpy() < RARELY * total) for name, count in fired.items()}
