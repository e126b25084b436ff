"""`flow`: which communities drive which on the live model, beside what their weights say."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import torch

from innersight_graph.evaluation.members import Members
from innersight_graph.evaluation.progress import steps
from innersight_graph.partition.community_graph import community_graph
from innersight_graph.probe.batches import Batches
from innersight_graph.probe.capturing import eager, forward, recorded
from innersight_graph.probe.closing import Closed, closing
from innersight_graph.probe.functions import locate_points
from innersight_graph.probe.session import undisturbed
from innersight_graph.probe.sites import find_sites

__all__ = ["flow"]


def flow(model: Any, data: Any, G: Any, P: Any, *, value: float | str = 0.0, progress: bool = False) -> nx.DiGraph:
    """Close each community and measure how much every other one's output changes.

    Parameters
    ----------
    model : Module
        The model that G was made from.
    data
        Batches of ``(inputs, targets)`` or inputs, a pair of tensors, or a tensor.
    G : LayeredDiGraph or networkx graph
    P : Partition
    value : float, "mean" or "resample"
        How to close.
    progress : bool, default False
        Show a bar with the time left on anything over two seconds.

    Returns
    -------
    networkx.DiGraph
        One node per community, named as in the partition, with ``community`` (its number), ``layer``, ``size``,
        ``subset``; an edge A → B where closing A changes B, with ``effect`` (root mean square change of B's outputs
        over their root mean square), ``signed`` (mean of B's outputs with A open minus with A closed, over the same
        scale: positive means A excites B) and the attributes of `community_graph` between the two where it has them,
        prefixed ``weight_``.

    Notes
    -----
    One forward pass per community and batch. Layers whose neurons have no tensor of their own are left out.
    """
    members = Members.of(G, P)
    layers = [g.layer for g in members.layers if members.graph.layer(g.layer).kind != "input"]
    m = len(members.partition)
    changed, signed, power = np.zeros((m, m)), np.zeros((m, m)), np.zeros(m)
    with undisturbed(model) as inner, eager(model), torch.no_grad():
        batches = Batches(data, inner)
        few = batches.first().rows(slice(0, 1))
        samples = 0
        sites = locate_points(inner, few, find_sites(inner, members.graph, layers))
        with recorded(inner, sites, detach=True, located=True) as store:
            forward(inner, few)
        seen = {name: site for name, site in sites.items() if store.calls[name]}
        groups = {g.layer: (torch.from_numpy(g.one_hot()), g.communities) for g in members.layers if g.layer in seen}
        for batch in batches:
            with recorded(inner, seen, detach=True, located=True) as store:
                forward(inner, batch)
            clean = dict(store)
            samples += batch.size
            for layer, (table, communities) in groups.items():
                power[communities] += _per_group(clean[layer] ** 2, table)
            for layer, (table, communities) in groups.items():
                pairs = list(zip(table, communities.tolist(), strict=True))
                for row, source in steps(pairs, f"closings in {layer}", progress):
                    plan = Closed(seen[layer], row, value)
                    with (
                        closing(inner, [plan], located=True),
                        recorded(inner, seen, detach=True, located=True) as store,
                    ):
                        forward(inner, batch)
                    for other, (targets, numbers) in groups.items():
                        if other != layer:
                            change = clean[other] - store[other]
                            changed[source, numbers] += _per_group(change**2, targets)
                            signed[source, numbers] += _per_group(change, targets)
    by_weights = community_graph(members.graph, members.partition)
    return _as_graph(members, changed, signed, power, samples, by_weights)


def _per_group(values: torch.Tensor, table: torch.Tensor) -> Any:
    """Sum over samples and positions' mean, mean over members: (k,)."""
    per_neuron = values.double().mean(2).sum(0).cpu()
    weights = table.double()
    return ((weights @ per_neuron) / weights.sum(1).clamp(min=1)).numpy()


def _as_graph(
    members: Members, changed: Any, signed: Any, power: Any, samples: int, by_weights: nx.DiGraph
) -> nx.DiGraph:
    P = members.partition
    graph = nx.DiGraph(samples=samples)
    names = P.names
    for i, name in enumerate(names):
        layer = members.graph.layer(P.layer_of(i))
        graph.add_node(name, community=i, layer=layer.name, size=len(P[i]), subset=layer.depth)
    scale = np.sqrt(np.where(power > 0, power / samples, np.inf))
    for a, b in np.argwhere(changed > 0).tolist():
        edge = {
            "effect": float(np.sqrt(changed[a, b] / samples) / scale[b]),
            "signed": float(signed[a, b] / samples / scale[b]),
        }
        if edge["effect"] > 0:
            known = by_weights.get_edge_data(names[a], names[b]) or {}
            graph.add_edge(names[a], names[b], **edge, **{f"weight_{key}": value for key, value in known.items()})
    return graph
