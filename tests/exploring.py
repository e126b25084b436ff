"""Random inputs for the property tests: graphs, labels, tables, damage; and how many of them are tried."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

import innersight_graph as isg

# Tried by default, and under `-m slow` (there EXAMPLES sets another number): 10,000 for each property.
budgets = pytest.mark.parametrize(
    "budget", [12, pytest.param(int(os.environ.get("EXAMPLES", 10_000)), marks=pytest.mark.slow)]
)

WEIGHTS = st.one_of(
    st.just(0.0),
    st.sampled_from([1.0, -1.0, 0.5, -0.5, 2.0, 1e-30, -1e30, 3.4e38]),
    st.floats(-8, 8, width=32, allow_nan=False),
)
NAMES = st.one_of(
    st.sampled_from(["fc", "layer1.0.conv", "input", "graph", "", " ", "a/b", "a:b", "é", "ネット", "0"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=5),
)
IDS = st.one_of(NAMES, st.integers(-5, 5), st.tuples(st.just("a node"), st.integers(0, 3)), st.booleans())
SEEDS = st.integers(0, 2**32 - 1)


def explore(claim: Callable[..., None], budget: int, **strategies: Any) -> None:
    """Try a claim on random inputs; the default budget tries the same ones every time."""
    many = budget > 100
    profile = settings(
        max_examples=budget,
        deadline=None,
        database=None,
        derandomize=not many,
        # Making a failing input small can take minutes: done in the long run only.
        phases=tuple(Phase) if many else (Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    profile(given(**strategies)(claim))()


def is_told(error: Exception) -> None:
    """Check that a refusal says more than that something is wrong."""
    assert len(str(error)) > 40


@st.composite
def matrices(draw: Any, rows: int, columns: int, weights: Any = WEIGHTS) -> Any:
    dense = draw(hnp.arrays(np.float32, (rows, columns), elements=weights.map(np.float32)))
    return sparse.csr_array(dense) if draw(st.booleans()) else dense


@st.composite
def layered(draw: Any, weights: Any = WEIGHTS, plain: bool = False) -> isg.LayeredDiGraph:
    """Return a layered graph of up to four layers, with skips, loops, gates, own ids and attributes unless plain."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    layers = [isg.Layer(name, depth, draw(st.integers(1, 5)), "linear") for depth, name in enumerate(names)]
    pairs = [(a, b) for a in layers for b in layers if a.depth < b.depth or (not plain and a is b)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    connections = {(a.name, b.name): draw(matrices(a.width, b.width, weights)) for a, b in chosen}
    if plain:
        return isg.LayeredDiGraph.from_arrays(layers, connections)
    kinds = {pair: draw(st.sampled_from(["value", "value", "gate"])) for pair in connections}
    ids = draw(st.lists(IDS, min_size=20, max_size=20, unique_by=lambda node: (node,)))
    given_ids = {layer.name: [ids.pop() for _ in range(layer.width)] for layer in layers if draw(st.booleans())}
    silent = {
        layer.name: {"silent": np.array(draw(st.lists(st.booleans(), min_size=layer.width, max_size=layer.width)))}
        for layer in layers
        if draw(st.booleans())
    }
    return isg.LayeredDiGraph.from_arrays(
        layers, connections, kinds=kinds, node_attributes=silent, nodes=given_ids, graph={"title": draw(NAMES)}
    )


@st.composite
def plain_graphs(draw: Any) -> nx.Graph:
    """Return any kind of NetworkX graph, weighted or not."""
    graph = draw(st.sampled_from([nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph]))()
    nodes = draw(st.lists(IDS.filter(lambda node: node is not None), min_size=1, max_size=8, unique_by=lambda n: (n,)))
    graph.add_nodes_from(nodes)
    ends = st.sampled_from(list(graph))
    for u, v in draw(st.lists(st.tuples(ends, ends), max_size=20)):
        graph.add_edge(u, v, **draw(st.sampled_from([{}, {"weight": 2}, {"weight": -0.5}, {"weight": 0}])))
    return graph


@st.composite
def labelled(draw: Any) -> tuple[isg.LayeredDiGraph, dict[str, Any]]:
    """Return a graph and labels for some of its layers, -1 among them."""
    G = draw(layered())
    chosen = draw(st.lists(st.sampled_from([layer.name for layer in G.layers]), unique=True, min_size=1))
    width = {layer.name: layer.width for layer in G.layers}
    return G, {
        name: np.array(draw(st.lists(st.integers(-1, 4), min_size=width[name], max_size=width[name])))
        for name in chosen
    }


@st.composite
def tables(draw: Any) -> tuple[Any, Any]:
    """Return a small binary table and a mask, or None."""
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 6)))
    X = draw(hnp.arrays(np.bool_, shape))
    return X, draw(st.one_of(st.none(), hnp.arrays(np.bool_, shape)))


@st.composite
def damage(draw: Any) -> Callable[[bytes], bytes]:
    """Return a way to damage a file: bytes changed, cut, doubled, inserted."""
    kind = draw(st.sampled_from(["change", "cut", "insert", "double", "swap"]))
    places = draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8))
    values = draw(st.binary(min_size=8, max_size=8))

    def apply(content: bytes) -> bytes:
        data = bytearray(content)
        for place, value in zip(places, values, strict=False):
            at = int(place * len(data)) if data else 0
            if kind == "cut":
                del data[at:]
            elif kind == "insert":
                data[at:at] = values
            elif kind == "double":
                data[at:at] = data[at : at + 40]
            elif kind == "swap":
                data[at : at + 16] = data[at : at + 16][::-1]
            elif data:
                data[at] = value
        return bytes(data)

    return apply
