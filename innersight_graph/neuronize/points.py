"""Which point of the model shows the neurons of which layer of a plan."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from innersight_graph.neuronize.closing import Closing
from innersight_graph.neuronize.layers import LayerPlan, Plan
from innersight_graph.neuronize.record import Trace

__all__ = ["closing_points", "layer_point", "readable", "samples_per_pass"]

# Bytes of maps that one pass of the model may leave behind.
_MAP_BYTES = 12 * 2**20


def layer_point(trace: Trace, layer: LayerPlan, at: str = "post_act") -> Closing | None:
    """Return where a layer's neurons can be read, or None if their order is lost there.

    Parameters
    ----------
    at : {"unit", "post_norm", "post_act"}
    """
    if layer.unit is None:
        return None
    point = trace.points[layer.unit.name].get(at)
    if point is None or layer.rows is None:
        return point
    return replace(point, rows=tuple(int(r) for r in layer.rows))


def closing_points(trace: Trace, plan: Plan) -> dict[str, Closing]:
    """Return the readable closing points of all layers but the inputs."""
    found = {layer.name: layer_point(trace, layer) for layer in plan.layers}
    return {name: point for name, point in found.items() if point is not None and readable(point)}


def readable(point: Closing) -> bool:
    """Tell whether the neurons stand in order on one axis of something that can be read."""
    return point.direct or point.operator_axis >= 0


def samples_per_pass(layers: Iterable[LayerPlan]) -> int:
    """Return how many samples keep the maps of some layers within bounds."""
    size = sum(layer.width * math.prod(layer.positions) for layer in layers)
    return max(1, _MAP_BYTES // max(1, 4 * size))
