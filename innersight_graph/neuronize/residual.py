"""What a residual stream connects: all true producers, the nearest one, or only consecutive layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from innersight_graph.neuronize.layers import Connection, Plan

__all__ = ["POLICIES"]


def keep_all(plan: Plan) -> tuple[Connection, ...]:
    """Keep every true producer: a block after k residual adds reads k + 1 earlier layers."""
    return plan.connections


def keep_nearest(plan: Plan) -> tuple[Connection, ...]:
    """Keep for each input channel the producers of the greatest depth; concatenated channels each keep their own."""
    deepest: dict[tuple[int, int], np.ndarray] = {}
    for c in plan.connections:
        if not c.gate:
            channel = deepest.setdefault((c.target, id(c.feed)), np.full(len(c.feed.sources), -1))
            np.maximum.at(channel, c.channels, plan.layers[c.source].depth)
    kept = []
    for c in plan.connections:
        if c.gate:
            kept.append(c)
            continue
        near = deepest[c.target, id(c.feed)][c.channels] == plan.layers[c.source].depth
        if near.any():
            kept.append(replace(c, neurons=c.neurons[near], channels=c.channels[near]))
    return tuple(kept)


def keep_consecutive(plan: Plan) -> tuple[Connection, ...]:
    """Keep connections from one depth to the next, as in the paper's chains; every skip connection is dropped."""
    depth = [layer.depth for layer in plan.layers]
    return tuple(c for c in plan.connections if depth[c.target] - depth[c.source] == 1)


POLICIES: Mapping[str, Callable[[Plan], tuple[Connection, ...]]] = {
    "all": keep_all,
    "nearest": keep_nearest,
    "off": keep_consecutive,
}
