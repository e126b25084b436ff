"""One scene of the page: a graph, a partition of it and what was measured, as a record of plain JSON values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from innersight_graph._html.boxes import Box, group
from innersight_graph._html.flows import Edges, Flows, box_flows, select_edges
from innersight_graph._html.layout import Layout, arrange
from innersight_graph._html.packing import clip, column, rounded

if TYPE_CHECKING:
    from innersight_graph.graph.layered import LayeredDiGraph
    from innersight_graph.partition import Partition

__all__ = ["Detail", "Scene", "build_scene", "choose_detail"]

# Graphs up to this many connections carry every weight, so that a neuron's panel knows all of them.
WHOLE_WEIGHTS = 60_000
MOST_FLOWS = 6_000
RESTING_FLOWS = 2


@dataclass(frozen=True)
class Detail:
    """How much is drawn, by size: what the page opens with, and what its neuron view holds."""

    view: str
    max_edges: int
    neurons: bool = True
    selection_only: bool = False
    backdrop: bool = False
    expand: bool = False
    note: str = ""


def choose_detail(n_neurons: int, max_edges: int | None = None) -> Detail:
    """Return the level of detail for a graph of `n_neurons`; every cut is said in the caption.

    ===========  ============  =======================================================================
    neurons      opens in      neuron view
    ===========  ============  =======================================================================
    <= 1,500     neurons       all neurons, the three strongest inputs of each
    <= 5,000     communities   all neurons, connections as a backdrop, in full for what is selected
    <= 25,000    communities   only the selected community and its neighbours open
    more         communities   none: the page says so and points to the GraphML and GEXF export
    ===========  ============  =======================================================================
    """
    if n_neurons <= 1_500:
        return Detail("neurons", max_edges or 5_000)
    if n_neurons <= 5_000:
        return Detail("communities", max_edges or 15_000, selection_only=True, backdrop=True)
    if n_neurons <= 25_000:
        note = "Select a community to open its neurons and their neighbours."
        return Detail("communities", max_edges or 75_000, selection_only=True, expand=True, note=note)
    note = f"{n_neurons:,} neurons are too many to draw: these are the communities; use export_gexf for Gephi."
    return Detail("communities", max_edges or 1, neurons=False, note=note)


@dataclass(frozen=True)
class Scene:
    """Boxes, their places and connections, ready to be carried by pyvis or written into the page."""

    graph: LayeredDiGraph
    partition: Partition
    boxes: list[Box]
    layout: Layout
    flows: Flows
    edges: Edges
    detail: Detail
    class_names: tuple[str, ...]

    def record(self, label: str, *, shared_with: int | None = None) -> dict[str, Any]:
        """Return the scene as plain values; connections are left out if another scene of the page holds the same."""
        P, detail = self.partition, self.detail
        record: dict[str, Any] = {
            "label": clip(label),
            "method": clip(P.method),
            "layers": [self._layer(number) for number in range(len(self.graph.layers))],
            "boxes": [self._box(number) for number in range(len(self.boxes))],
            "empty": [clip(name) for name, community in zip(P.names, P, strict=True) if not community],
            "flows": self._flow_rows(),
            "nFlows": int(np.count_nonzero(self.flows.activation) + np.count_nonzero(self.flows.inhibition)),
            "flowMass": rounded(float(self.flows.activation.sum() + self.flows.inhibition.sum())),
            "hasNeurons": detail.neurons,
            "selectionOnly": detail.selection_only,
            "backdrop": detail.backdrop,
            "expand": detail.expand,
            "note": detail.note,
        }
        if shared_with is not None:
            record["sharedWith"] = shared_with
        else:
            record["edges"] = self._edges()
            record["weights"] = self._weights()
        return record

    def radius(self, box: Box) -> float:
        """Return the radius of a box's circle: it grows with the number of neurons, and circles never touch."""
        if box.role == "class":
            return 7.0
        largest = max((other.size for other in self.boxes if other.role != "layer"), default=1)
        return 7.0 + (self._widest_radius() - 7.0) * min(1.0, math.sqrt(box.size / max(largest, 1)))

    def _widest_radius(self) -> float:
        """Half of the least distance between two boxes of a layer, less the room for a label."""
        places = sorted(
            (box.layer, frame.y, box.role) for box, frame in zip(self.boxes, self.layout.frames, strict=True)
        )
        apart = [b[1] - a[1] for a, b in pairwise(places) if a[0] == b[0] and "class" not in (a[2], b[2])]
        tall = max(frame.y for frame in self.layout.frames) - min(frame.y for frame in self.layout.frames)
        return float(min(max(26.0, tall / 50), max(11.0, 0.4 * (min(apart, default=80.0) - 12.0))))

    def _layer(self, number: int) -> dict[str, Any]:
        layer = self.graph.layers[number]
        unit = "input" if layer.kind == "input" else layer.kind
        subtitle = f"{layer.width:,} · {unit}" if unit != layer.name else f"{layer.width:,}"
        record: dict[str, Any] = {
            "title": clip(layer.name, 80), "name": clip(layer.name), "subtitle": clip(subtitle, 60),
            "width": layer.width, "x": rounded(self.layout.layer_x[number]),
            "top": rounded(self.layout.layer_top[number]),
        }  # fmt: skip
        nodes = self.graph.nodes_of(layer.name)
        if self.detail.neurons and any(str(node) != f"{layer.name}:{index}" for index, node in enumerate(nodes)):
            record["names"] = [clip(node, 60) for node in nodes]
        soft = (self.partition.responsibilities or {}).get(layer.name)
        ids = [box.id for box in self.boxes if box.layer == number and box.role == "community"]
        if soft is not None and self.detail.neurons and len(ids) == np.shape(soft)[1] and np.size(soft) <= 200_000:
            record["responsibilities"] = {"ids": ids, "values": column(soft, "share")}
        return record

    def _box(self, number: int) -> dict[str, Any]:
        box, frame = self.boxes[number], self.layout.frames[number]
        record: dict[str, Any] = {
            "id": box.id, "layer": box.layer, "role": box.role, "name": clip(box.name), "short": clip(box.short),
            "size": box.size, "community": box.community, "hue": box.hue, "columns": frame.columns,
            "x": rounded(frame.x), "y": rounded(frame.y), "w": rounded(frame.width), "h": rounded(frame.height),
            "radius": rounded(self.radius(box)),
        }  # fmt: skip
        if self.detail.neurons:
            record["members"] = column(box.members)
        return record

    def _flow_rows(self) -> list[list[Any]]:
        """Return rows: source, target, activation, inhibition, both within the layer pair, what is drawn at rest."""
        flows = self.flows
        layer = np.array([box.layer for box in self.boxes], dtype=np.int64)
        if not len(flows.source):
            return []
        pair = layer[flows.source] * len(self.graph.layers) + layer[flows.target]
        top = np.zeros(len(self.graph.layers) ** 2)
        np.maximum.at(top, pair, np.maximum(flows.activation, flows.inhibition))
        up, down = flows.activation / top[pair], flows.inhibition / top[pair]
        rest = _resting(flows.target, up, pair) + 2 * _resting(flows.target, down, pair)
        keep = np.arange(len(up))
        if len(keep) > MOST_FLOWS:
            keep = np.sort(np.argsort(-(np.maximum(up, down) + (rest > 0)), kind="stable")[:MOST_FLOWS])
        columns = (flows.source, flows.target, flows.activation, flows.inhibition, up, down, rest)
        return [[rounded(values[i]) for values in columns] for i in keep]

    def _edges(self) -> dict[str, Any]:
        edges = self.edges
        if not self.detail.neurons:
            return {
                "total": edges.n_total,
                "mass": 0,
                "s": column([]),
                "t": column([]),
                "w": column([], "real"),
                "strength": column([], "share"),
            }
        mass = float(np.abs(edges.weight).sum(dtype=np.float64)) / edges.share if edges.share > 0 else 0.0
        return {
            "total": edges.n_total, "mass": rounded(mass), "s": column(edges.source), "t": column(edges.target),
            "w": column(edges.weight, "real"), "strength": column(edges.strength, "share"),
        }  # fmt: skip

    def _weights(self) -> list[dict[str, Any]] | None:
        pairs = [pair for pair in self.graph.connections if self.graph.kinds[pair] == "value"]
        size = sum(self.graph.layer(s).width * self.graph.layer(t).width for s, t in pairs)
        if not self.detail.neurons or size > WHOLE_WEIGHTS:
            return None
        number = {layer.name: i for i, layer in enumerate(self.graph.layers)}
        blocks = []
        for s, t in pairs:
            stored = self.graph.connections[s, t]
            matrix = np.asarray(stored.todense() if isinstance(stored, sparse.csr_array) else stored)
            largest = float(np.abs(matrix).max(initial=0.0))
            unit = largest / 32767 if largest > 0 else 1.0
            blocks.append({
                "source": number[s], "target": number[t], "unit": unit, "values": column(np.rint(matrix / unit),
                "signed"),
            })  # fmt: skip
        return blocks


def _resting(target: Any, strength: Any, pair: Any) -> Any:
    """1 where a flow is among the strongest of its sign into its box from that layer."""
    order = np.lexsort((-strength, pair, target))
    key = target[order] * (pair.max() + 1) + pair[order]
    rank = np.arange(len(order)) - np.searchsorted(key, key, side="left")
    chosen = np.zeros(len(order), dtype=np.int64)
    chosen[order] = rank < RESTING_FLOWS
    return chosen * (strength > 0.08)


def build_scene(
    G: LayeredDiGraph,
    P: Partition,
    *,
    class_names: tuple[str, ...] = (),
    max_edges: int | None = None,
    per_neuron: int = 3,
) -> Scene:
    """Group, connect and place the neurons of one graph."""
    detail = choose_detail(sum(layer.width for layer in G.layers), max_edges)
    boxes = group(G, P, class_names)
    flows = box_flows(G, boxes)
    layout = arrange(G, boxes, flows.attraction(np.array([box.layer for box in boxes], dtype=np.int64)))
    edges = select_edges(G, per_neuron=per_neuron, max_edges=detail.max_edges)
    return Scene(G, P, boxes, layout, flows, edges, detail, class_names)
