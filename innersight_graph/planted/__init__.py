"""Graphs and models with known communities, in the manner of `networkx.generators`.

`graphs` signed layers, sign roles, hubs, noisy block weights, and a layer of a language model's size · `nulls` graphs
without communities · `networks` trained networks with known parts · `programs` networks compiled from small programs ·
`symmetry` changes of a network that change nothing it computes.

Every generator takes a `seed`, permutes its neurons, and returns ``(graph or model, truth)``.
"""

from __future__ import annotations

from innersight_graph.planted.graphs import (
    detectability,
    planted_blocks,
    planted_hubs,
    planted_layers,
    planted_roles,
    planted_scale,
)
from innersight_graph.planted.networks import merged_networks, two_digits_network
from innersight_graph.planted.nulls import null_layers, shuffled
from innersight_graph.planted.programs import compiled_programs, run_programs
from innersight_graph.planted.symmetry import equivalent_graph, translate

__all__ = [
    "compiled_programs",
    "detectability",
    "equivalent_graph",
    "merged_networks",
    "null_layers",
    "planted_blocks",
    "planted_hubs",
    "planted_layers",
    "planted_roles",
    "planted_scale",
    "run_programs",
    "shuffled",
    "translate",
    "two_digits_network",
]
