"""pyvis as the carrier: data assigned directly, positions fixed, physics off, plain Python values only."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from innersight_graph._html.packing import clip
from innersight_graph._html.scene import Scene, build_scene
from innersight_graph.figures.style import ACTIVATION, INHIBITION, hue

if TYPE_CHECKING:
    from pyvis.network import Network

__all__ = ["overview", "to_pyvis"]


def to_pyvis(G: Any, P: Any, *, max_edges: int | None = None) -> Network:
    """Return a plain `pyvis.network.Network` of the neurons, for people who know pyvis and want to go on from there.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
        The graph; it is not changed.
    P : Partition or iterable of sets of nodes
        Its communities; neurons are coloured and placed by them.
    max_edges : int, optional
        Most edges taken, the strongest inputs of each neuron first. Default: by the size of the graph (5,000 up to
        1,500 neurons).

    Returns
    -------
    pyvis.network.Network
        Node ids are strings (``"L1n5"``); activation is a solid blue edge, inhibition a dashed orange one.

    Raises
    ------
    InputError
        `P` is a partition of another graph.

    Notes
    -----
    Its own ``generate_html`` makes pyvis' page, which needs the network for style sheets and has no panel; `to_html` is
    the offline page. Time is linear in the connections of G.

    Examples
    --------
    >>> import networkx as nx
    >>> net = to_pyvis(nx.karate_club_graph(), [set(range(17)), set(range(17, 34))])
    >>> len(net.nodes), net.nodes[0]["id"]
    (34, 'L0n0')
    """
    from innersight_graph.graph.interchange import as_layered
    from innersight_graph.partition import as_partition

    G = as_layered(G)
    scene = build_scene(G, as_partition(G, P), max_edges=max_edges)
    net = _empty_network(directed=G.graph.get("directed", True))
    net.nodes = _neurons(scene)
    net.edges = _edges(scene)
    _register(net)
    return net


def overview(scene: Scene) -> Network:
    """Return the network of communities, which carries the page."""
    net = _empty_network(directed=True)
    net.nodes = [
        {
            "id": box.id, "label": " ", "shape": "dot", "x": round(frame.x, 1), "y": round(frame.y, 1), "fixed": True,
            "size": round(scene.radius(box), 1), "color": hue(box.hue),
        }
        for box, frame in zip(scene.boxes, scene.layout.frames, strict=True)
    ]  # fmt: skip
    _register(net)
    return net


def _empty_network(*, directed: bool) -> Network:
    from pyvis.network import Network

    net = Network(height="800px", width="100%", directed=directed, cdn_resources="in_line")
    net.toggle_physics(False)
    net.options.edges.smooth.enabled = True
    net.options.edges.smooth.type = "cubicBezier"
    net.options.interaction.dragNodes = True
    return net


def _register(net: Network) -> None:
    """Tell pyvis about nodes that were assigned directly, so that its own queries work."""
    net.node_ids = [node["id"] for node in net.nodes]
    net.node_map = {node["id"]: node for node in net.nodes}


def _neurons(scene: Scene) -> list[dict[str, Any]]:
    nodes = []
    start = 0
    ids = {layer.name: scene.graph.nodes_of(layer.name) for layer in scene.graph.layers}
    starts = []
    for layer in scene.graph.layers:
        starts.append(start)
        start += layer.width
    for box in scene.boxes:
        layer = scene.graph.layers[box.layer]
        for member in box.members.tolist():
            number = starts[box.layer] + member
            nodes.append({
                "id": f"L{box.layer}n{member}", "label": " ", "shape": "dot", "size": 6, "fixed": False,
                "physics": False,
                "x": round(float(scene.layout.x[number]), 1), "y": round(float(scene.layout.y[number]), 1),
                "color": hue(box.hue), "group": box.id,
                "title": f"{clip(ids[layer.name][member])} in {clip(box.name)}", "layer": clip(layer.name),
                "community": clip(box.name),
            })  # fmt: skip
    return _safe_titles(nodes)


def _safe_titles(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Escape titles where needed: pyvis shows all of them as HTML as soon as one contains "href"."""
    if any("href" in node["title"] for node in nodes):
        for node in nodes:
            node["title"] = html.escape(node["title"])
    return nodes


def _edges(scene: Scene) -> list[dict[str, Any]]:
    names = [f"L{number}n{index}" for number, layer in enumerate(scene.graph.layers) for index in range(layer.width)]
    edges = scene.edges
    return [
        {
            "from": names[s], "to": names[t], "weight": w, "width": round(0.4 + 2.2 * strength**1.5, 2), "arrows": "",
            "color": {"color": ACTIVATION if w > 0 else INHIBITION, "opacity": 0.38}, "dashes": w < 0,
        }
        for s, t, w, strength in zip(
            edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), edges.strength.tolist(), strict=True
        )
    ]  # fmt: skip
