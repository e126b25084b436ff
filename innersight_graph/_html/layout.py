"""Where everything stands on the page: layers as columns, boxes ordered by barycentre, neurons in small grids.

Pure geometry, deterministic, no drawing library. The y axis points down, as on a screen; one unit is one pixel at
zoom 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from innersight_graph._html.boxes import Box
    from innersight_graph.graph.layered import LayeredDiGraph

__all__ = ["Frame", "Layout", "arrange"]

STEP = 18.0  # distance of neighbouring neurons
PAD = 14.0  # from a box's edge to the centre of its outer neurons
LABEL = 20.0  # room above a box for its name
GAP_MIN, GAP_MAX = 14.0, 74.0  # between two boxes of a layer
COLUMN_MIN, COLUMN_MAX = 120.0, 300.0  # between two layers
STRETCH = 1.7  # how much taller than needed a wide drawing may be
ROW_GAP, WRAP = 110.0, 4.0  # between two rows of layers; how many times too wide before rows are made
ASPECT = 1.5  # width over height that fills a laptop's canvas beside the panel
NARROWEST, WIDEST_SMALL = 5, 7  # neurons in a row
HEIGHTS = (640.0, 760.0, 900.0, 1100.0, 1400.0, 1900.0, 2600.0, 3600.0, 5000.0, 7000.0)


@dataclass(frozen=True)
class Frame:
    """A box's place: its centre, its extent, and how many neurons stand in a row."""

    x: float
    y: float
    width: float
    height: float
    columns: int


@dataclass(frozen=True)
class Layout:
    """Places of boxes (in the order given) and of neurons (counted through all layers)."""

    frames: tuple[Frame, ...]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    layer_x: tuple[float, ...]
    layer_top: tuple[float, ...]


def arrange(G: LayeredDiGraph, boxes: Sequence[Box], traffic: npt.NDArray[np.float64]) -> Layout:
    """Place boxes and neurons.

    Parameters
    ----------
    G : LayeredDiGraph
        Only its layers are read.
    boxes : sequence of Box
        Every neuron in exactly one box.
    traffic : ndarray (n_boxes, n_boxes)
        How much is sent from box to box, by which boxes are ordered within their layer.

    Returns
    -------
    Layout
        No two boxes overlap. Each layer is a column, in the order of ``G.layers``; very many columns are wrapped into
        rows. A graph of one layer is laid out in a ring of boxes instead.
    """
    stacks: list[list[int]] = [[] for _ in G.layers]
    for number, box in enumerate(boxes):
        stacks[box.layer].append(number)
    if len(G.layers) == 1:
        frames = _ring(boxes, traffic)
        layer_x: tuple[float, ...] = (0.0,)
        layer_top: tuple[float, ...] = (min(frame.y - frame.height / 2 for frame in frames),)
    else:
        order_stacks(stacks, boxes, traffic)
        frames, layer_x, layer_top = _columns(stacks, boxes)
    x, y = _neurons(G, boxes, frames)
    return Layout(frames, x, y, layer_x, layer_top)


def order_stacks(
    stacks: list[list[int]], boxes: Sequence[Box], traffic: npt.NDArray[np.float64], sweeps: int = 8
) -> None:
    """Sort each layer's boxes, in place, by the mean position of what they are connected to (barycentre sweeps).

    The outputs keep the order of the classes; the silent group stays below the communities.
    """
    both = traffic + traffic.T
    position = np.zeros(len(boxes))
    _number(stacks, position)
    best, best_cost = [list(stack) for stack in stacks], _travel(both, position)
    for sweep in range(sweeps):
        for stack in stacks if sweep % 2 == 0 else reversed(stacks):
            if len(stack) < 2 or boxes[stack[0]].role == "class":
                continue
            pull = {number: _barycentre(both[number], position, number) for number in stack}
            stack.sort(key=lambda number: (boxes[number].role != "community", pull[number], number))
            _number([stack], position)
        cost = _travel(both, position)
        if cost < best_cost - 1e-12:
            best, best_cost = [list(stack) for stack in stacks], cost
    for stack, chosen in zip(stacks, best, strict=True):
        stack[:] = sorted(chosen, key=lambda number: boxes[number].role in ("silent", "unassigned"))


def _number(stacks: list[list[int]], position: npt.NDArray[np.float64]) -> None:
    for stack in stacks:
        for rank, number in enumerate(stack):
            position[number] = (rank + 0.5) / len(stack)


def _barycentre(weights: npt.NDArray[np.float64], position: npt.NDArray[np.float64], number: int) -> float:
    total = float(weights.sum())
    return float(weights @ position) / total if total > 0 else float(position[number])


def _travel(both: npt.NDArray[np.float64], position: npt.NDArray[np.float64]) -> float:
    """Mean vertical distance of a unit of weight."""
    total = both.sum()
    return float((both * np.abs(position[:, None] - position[None, :])).sum() / total) if total > 0 else 0.0


def _columns(
    stacks: list[list[int]], boxes: Sequence[Box]
) -> tuple[tuple[Frame, ...], tuple[float, ...], tuple[float, ...]]:
    height = _height(stacks, boxes)
    in_row = [_row_length(stack, boxes, height) for stack in stacks]
    extents = {number: _extent(boxes[number], in_row[layer]) for layer, stack in enumerate(stacks) for number in stack}
    widths = [max(extents[number][1] for number in stack) for stack in stacks]
    used = max(_stack_height([extents[number][2] for number in stack], GAP_MIN) for stack in stacks)
    height = max(min(height, used * 1.25), used)
    columns, between = _columns_in_a_row(widths, height)
    if columns == len(stacks):  # a wide drawing may use the height that a screen gives it
        height = max(height, min((sum(widths) + between * (len(widths) - 1)) / ASPECT, STRETCH * used))
    frames: list[Frame | None] = [None] * len(boxes)
    layer_x, layer_top = [], []
    left = top = 0.0
    for layer, (stack, width) in enumerate(zip(stacks, widths, strict=True)):
        if layer and layer % columns == 0:
            left, top = 0.0, top + height + ROW_GAP
        _stack(stack, extents, frames, left + width / 2, top, height)
        layer_x.append(left + width / 2)
        layer_top.append(top)
        left += width + between
    return tuple(frame for frame in frames if frame is not None), tuple(layer_x), tuple(layer_top)


def _columns_in_a_row(widths: list[float], height: float) -> tuple[int, float]:
    """Return how many layers stand side by side before the next row, and the distance between two of them."""
    spare = (ASPECT * height - sum(widths)) / max(len(widths) - 1, 1)
    between = min(max(spare, COLUMN_MIN), COLUMN_MAX)
    total = sum(widths) + between * (len(widths) - 1)
    rows = max(1, round(math.sqrt(total / (ASPECT * (height + ROW_GAP))))) if total > WRAP * ASPECT * height else 1
    return math.ceil(len(widths) / rows), between


def _stack(
    stack: list[int],
    extents: dict[int, tuple[int, float, float]],
    frames: list[Frame | None],
    x: float,
    top: float,
    height: float,
) -> None:
    """Place the boxes of one layer below each other, centred in the row."""
    heights = [extents[number][2] for number in stack]
    free = (height - _stack_height(heights, 0.0)) / max(len(stack) - 1, 1)
    gap = min(max(free, GAP_MIN), GAP_MAX * max(1.0, height / 1000.0))
    y = top + (height - _stack_height(heights, gap)) / 2
    for number, tall in zip(stack, heights, strict=True):
        columns, wide, _ = extents[number]
        frames[number] = Frame(x, y + LABEL + tall / 2, wide, tall, columns)
        y += LABEL + tall + gap


def _height(stacks: list[list[int]], boxes: Sequence[Box]) -> float:
    """Smallest listed height at which the drawing is not wider than a screen's aspect allows."""
    for height in HEIGHTS:
        lengths = [_row_length(stack, boxes, height) for stack in stacks]
        width = sum(
            max(_extent(boxes[number], length)[1] for number in stack)
            for stack, length in zip(stacks, lengths, strict=True)
        )
        natural = all(length <= WIDEST_SMALL for length in lengths)
        if natural or width + 0.7 * COLUMN_MAX * (len(stacks) - 1) <= ASPECT * height:
            return height
    return HEIGHTS[-1]


def _row_length(stack: list[int], boxes: Sequence[Box], height: float) -> int:
    """Fewest neurons in a row (at least five, so that a label fits) such that the layer's boxes fit the height."""
    largest = max(boxes[number].size for number in stack)
    low, high = NARROWEST, max(NARROWEST, largest)
    while low < high:
        middle = (low + high) // 2
        if _stack_height([_extent(boxes[number], middle)[2] for number in stack], GAP_MIN) <= height:
            high = middle
        else:
            low = middle + 1
    return low


def _extent(box: Box, in_row: int) -> tuple[int, float, float]:
    """Neurons in a row, width and height of a box."""
    side = math.isqrt(box.size)
    if box.role == "layer" and side * side == box.size:
        columns = side  # an image's pixels keep the image's shape
    elif box.role == "layer":
        columns = max(in_row, math.ceil(math.sqrt(box.size)))
    else:
        columns = in_row
    columns = max(1, min(columns, box.size))
    rows = math.ceil(box.size / columns)
    widest = columns if box.role in ("class", "layer") else in_row
    return columns, (widest - 1) * STEP + 2 * PAD, (rows - 1) * STEP + 2 * PAD


def _stack_height(heights: Sequence[float], gap: float) -> float:
    return sum(heights) + LABEL * len(heights) + gap * (len(heights) - 1)


def _ring(boxes: Sequence[Box], traffic: npt.NDArray[np.float64]) -> tuple[Frame, ...]:
    """Boxes of a one-layer graph around an ellipse, each next to what it is most connected to."""
    in_row = [max(NARROWEST, math.ceil(math.sqrt(box.size))) for box in boxes]
    extents = [_extent(box, length) for box, length in zip(boxes, in_row, strict=True)]
    if len(boxes) == 1:
        columns, wide, tall = extents[0]
        return (Frame(0.0, LABEL + tall / 2, wide, tall, columns),)
    both = traffic + traffic.T
    order, left = [0], set(range(1, len(boxes)))
    while left:
        order.append(max(left, key=lambda number: (both[order[-1], number], -number)))
        left.remove(order[-1])
    diagonal = max(math.hypot(wide, tall + LABEL) for _, wide, tall in extents)
    radius = max(170.0, 0.62 * diagonal / math.sin(math.pi / len(boxes)))
    frames: list[Frame | None] = [None] * len(boxes)
    for rank, number in enumerate(order):
        angle = math.pi + 2 * math.pi * rank / len(boxes)
        columns, wide, tall = extents[number]
        frames[number] = Frame(1.35 * radius * math.cos(angle), radius * math.sin(angle), wide, tall, columns)
    return tuple(frame for frame in frames if frame is not None)


def _neurons(
    G: LayeredDiGraph, boxes: Sequence[Box], frames: Sequence[Frame]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    starts = np.cumsum([0, *(layer.width for layer in G.layers)])
    x, y = np.zeros(starts[-1]), np.zeros(starts[-1])
    for box, frame in zip(boxes, frames, strict=True):
        rank = np.arange(box.size)
        number = starts[box.layer] + box.members
        x[number] = frame.x - frame.width / 2 + PAD + STEP * (rank % frame.columns)
        y[number] = frame.y - frame.height / 2 + PAD + STEP * (rank // frame.columns)
    return x, y
