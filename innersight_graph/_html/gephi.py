"""GEXF and GraphML with positions, colours and communities: for Gephi and other tools, at sizes no page can draw."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innersight_graph._html.flows import count_connections
from innersight_graph._html.scene import Scene, build_scene
from innersight_graph.figures.style import ACTIVATION, INHIBITION, hue
from innersight_graph.files import whole_file

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["export_gexf", "export_graphml"]

UNBOUNDED = 10**15
# Characters that XML 1.0 has no place for; user data may hold them.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def export_gexf(G: Any, P: Any, path: str | os.PathLike[str], *, max_edges: int | None = 500_000) -> Path:
    """Write the graph as GEXF 1.2 with the page's positions, sizes and colours, as Gephi reads them.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    P : Partition or iterable of sets of nodes
    path : str or path-like
        File to write.
    max_edges : int or None, default 500_000
        Above this number only the strongest inputs of each neuron are written, and the graph's description says so.
        None: all.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        `P` is a partition of another graph, or the path cannot be written.

    Notes
    -----
    ``weight`` is |weight|, as Gephi cannot lay out negative weights; ``signed_weight`` keeps the sign, ``sign`` says
    ``activation`` or ``inhibition``. Memory is about 1 KB per edge while writing.
    """
    import networkx as nx

    plain = _decorated(G, P, max_edges)
    for _, data in plain.nodes(data=True):
        red, green, blue = (int(data["colour"][at : at + 2], 16) for at in (1, 3, 5))
        # GEXF's y axis points up.
        place = {"x": data["x"], "y": -data["y"], "z": 0.0}
        data["viz"] = {"position": place, "size": data["size"], "color": {"r": red, "g": green, "b": blue, "a": 1.0}}
    for _, _, data in plain.edges(data=True):
        red, green, blue = (int(data["colour"][at : at + 2], 16) for at in (1, 3, 5))
        data["viz"] = {"color": {"r": red, "g": green, "b": blue, "a": 0.5}}
    return _write(path, lambda file: nx.write_gexf(plain, file))


def export_graphml(G: Any, P: Any, path: str | os.PathLike[str], *, max_edges: int | None = 500_000) -> Path:
    """Write the graph as GraphML, positions, sizes and colours as node attributes. Parameters as `export_gexf`."""
    import networkx as nx

    plain = _decorated(G, P, max_edges)
    return _write(path, lambda file: nx.write_graphml(plain, file))


def _write(path: str | os.PathLike[str], write: Any) -> Path:
    with whole_file(path, "graph") as temporary:
        write(temporary)
    return Path(path)


def _decorated(G: Any, P: Any, max_edges: int | None) -> nx.DiGraph:
    """Return a plain graph with string ids, places, colours and communities."""
    import networkx as nx

    from innersight_graph.graph.interchange import as_layered
    from innersight_graph.partition import as_partition

    G = as_layered(G)
    total = count_connections(G)
    everything = max_edges is None or total <= max_edges
    all_of_them = sum(layer.width for layer in G.layers)
    scene = build_scene(
        G,
        as_partition(G, P),
        max_edges=UNBOUNDED if everything else max_edges,
        per_neuron=all_of_them if everything else 10,
    )
    directed = G.graph.get("directed", True) or len(G.layers) > 1
    plain = nx.DiGraph() if directed else nx.Graph()
    kept = (
        "all connections"
        if everything
        else f"{len(scene.edges):,} of {total:,} connections, the strongest inputs of each neuron"
    )
    plain.graph["description"] = f"innersight-graph: {kept}"
    names = _add_neurons(plain, scene)
    edges = scene.edges
    for s, t, weight in zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), strict=True):
        sign = "activation" if weight > 0 else "inhibition"
        plain.add_edge(
            names[s],
            names[t],
            weight=abs(weight),
            signed_weight=weight,
            sign=sign,
            colour=ACTIVATION if weight > 0 else INHIBITION,
        )
    return plain


def _add_neurons(plain: nx.DiGraph, scene: Scene) -> list[str]:
    names, start = [], 0
    home = {(box.layer, int(member)): box for box in scene.boxes for member in box.members}
    for number, layer in enumerate(scene.graph.layers):
        for index, node in enumerate(scene.graph.nodes_of(layer.name)):
            box = home[number, index]
            names.append(f"L{number}n{index}")
            plain.add_node(
                names[-1], label=_clean(node), layer=_clean(layer.name), index=index, community=_clean(box.name),
                role=box.role,
                x=float(scene.layout.x[start + index]), y=float(scene.layout.y[start + index]), size=6.0,
                colour=hue(box.hue),
            )  # fmt: skip
        start += layer.width
    return names


def _clean(text: Any) -> str:
    return FORBIDDEN.sub("\ufffd", str(text))
