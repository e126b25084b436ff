"""Which neurons stand together on the page: one box per community, and boxes for what was not partitioned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from innersight_graph.graph.layered import LayeredDiGraph
    from innersight_graph.partition import Partition

__all__ = ["Box", "group"]

# An unpartitioned last layer this small shows each output in a box of its own, so that a class can be clicked.
SINGLE_OUTPUTS = 40


@dataclass(frozen=True)
class Box:
    """Neurons of one layer that are drawn together.

    ``id`` is what deep links use: ``L1c7`` is the eighth community of the second layer, ``L1`` the whole layer,
    ``L4n3`` a single neuron, ``L1u`` the neurons that belong to no community. ``community`` is the position in the
    partition, or None. ``role`` is ``"community"``, ``"silent"``, ``"unassigned"``, ``"layer"`` or ``"class"``.
    """

    id: str
    layer: int
    role: str
    name: str
    short: str
    members: npt.NDArray[np.int64]
    community: int | None = None
    hue: int = -1  # which of the page's colours; -1 is grey

    @property
    def size(self) -> int:
        return len(self.members)


def group(G: LayeredDiGraph, P: Partition, class_names: tuple[str, ...] = ()) -> list[Box]:
    """Put every neuron of `G` into exactly one box, layer by layer in the order of ``G.layers``.

    Parameters
    ----------
    G : LayeredDiGraph
        The graph of neurons.
    P : Partition
        Its communities; layers that were not partitioned become one box (or one box per output).
    class_names : tuple of str
        Names of the outputs, used for the last layer when their number fits its width.

    Returns
    -------
    list of Box
        Communities in canonical order within a layer; an empty community gets no box.
    """
    members_of: dict[str, list[int]] = {layer.name: [] for layer in G.layers}
    for position in range(len(P)):
        members_of[P.layer_of(position)].append(position)
    boxes: list[Box] = []
    for number, layer in enumerate(G.layers):
        positions = members_of[layer.name]
        if any(P[position] for position in positions):
            boxes += _partitioned(number, layer.name, np.asarray(P.labels(layer.name)), positions, P)
        elif _is_output(G, number) and 1 < layer.width <= SINGLE_OUTPUTS:
            boxes += _outputs(number, layer.name, layer.width, class_names)
        else:
            everything = np.arange(layer.width, dtype=np.int64)
            boxes.append(Box(f"L{number}", number, "layer", layer.name, layer.name, everything))
    return boxes


def _is_output(G: LayeredDiGraph, number: int) -> bool:
    return number == len(G.layers) - 1 and len(G.layers) > 1


def _partitioned(
    number: int, layer: str, labels: npt.NDArray[np.int64], positions: list[int], P: Partition
) -> list[Box]:
    silent = (P.stats.get(layer) or {}).get("silent")
    boxes = []
    for local, position in enumerate(positions):
        if not P[position]:
            continue
        role = "silent" if position == silent else "community"
        name = P.names[position]
        short = name.removeprefix(f"{layer}/")
        members = np.flatnonzero(labels == local).astype(np.int64)
        boxes.append(
            Box(f"L{number}c{local}", number, role, name, short, members, position, -1 if role == "silent" else local)
        )
    rest = np.flatnonzero(labels < 0).astype(np.int64)
    if rest.size:
        boxes.append(Box(f"L{number}u", number, "unassigned", f"{layer}/unassigned", "unassigned", rest))
    return boxes


def _outputs(number: int, layer: str, width: int, class_names: tuple[str, ...]) -> list[Box]:
    names = class_names if len(class_names) == width else tuple(str(index) for index in range(width))
    return [
        Box(f"L{number}n{index}", number, "class", f"{layer}:{index}", names[index], np.array([index], dtype=np.int64))
        for index in range(width)
    ]
