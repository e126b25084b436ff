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
    # The last ones: the smallest number there is (a denormal), the smallest with full precision, the largest.
    st.sampled_from([1.0, -1.0, 0.5, -0.5, 2.0, 1e-30, -1e30, -0.0, 1e-45, -1e-45, 1.1754944e-38, 3.4e38, -3.4e38]),
    st.floats(-8, 8, width=32, allow_nan=False),
)
# What a NetworkX graph may carry as a weight: not all of it can be one.
ODD_WEIGHTS: list[Any] = [
    {}, {"weight": 2}, {"weight": -0.5}, {"weight": 0}, {"weight": True}, {"weight": 1e-45}, {"weight": 1e300},
    {"weight": -(10**40)}, {"weight": 10**400}, {"weight": float("nan")}, {"weight": float("-inf")}, {"weight": "3"},
    {"weight": None}, {"weight": [1]}, {"weight": 2j}, {"weight": np.float32(0.25)},
]  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(["fc", "layer1.0.conv", "input", "graph", "", " ", "a/b", "a:b", "é", "ネット", "0"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=5),
)
IDS = st.one_of(NAMES, st.integers(-5, 5), st.tuples(st.just("a node"), st.integers(0, 3)), st.booleans())
# Ids that no file can hold stand among those that any can.
ODD_IDS = st.one_of(IDS, st.frozensets(st.integers(0, 2)), st.floats(allow_nan=False), st.just(10**30))
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
def plain_graphs(draw: Any, odd: bool = False) -> nx.Graph:
    """Return any kind of NetworkX graph, weighted or not; if odd, with weights, ids and layers that may be none."""
    graph = draw(st.sampled_from([nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph]))()
    graph.add_nodes_from(draw(st.lists(ODD_IDS if odd else IDS, min_size=1, max_size=8, unique_by=lambda n: (n,))))
    ends = st.sampled_from(list(graph))
    weights = st.sampled_from(ODD_WEIGHTS if odd else ODD_WEIGHTS[:4])
    for u, v in draw(st.lists(st.tuples(ends, ends), max_size=20)):
        graph.add_edge(u, v, **draw(weights))
    if odd and draw(st.booleans()):
        layers = st.sampled_from([0, 1, 1.5, "a", "", None, (1,), [1], float("nan"), True])
        for node in graph:
            graph.nodes[node].update(draw(st.sampled_from([{}, {"index": 0}, {"index": -3}])))
            graph.nodes[node][draw(st.sampled_from(["layer", "layer", "subset"]))] = draw(layers)
    return graph


@st.composite
def options(draw: Any) -> dict[str, Any]:
    """Return keyword arguments of detectors: sensible, at the edge, and beyond it."""
    numbers = st.sampled_from([0, 1, 2, 3, 7, -1, 10**9, 0.5, 1.0, 1e-300, float("nan"), float("inf"), "2", None, True])
    values: dict[str, Any] = {
        "n_communities": st.one_of(numbers, st.sampled_from([[1, 2], [], range(1, 4), [3, 3, 1], {"graph": 2}])),
        "density": numbers, "resolution": numbers, "n_init": numbers, "max_iter": numbers, "seed": numbers,
        "gauge": st.sampled_from(["balanced", "none", "", None]),
        "sign": st.sampled_from(["signed", "positive", "absolute", "both"]),
        "scope": st.sampled_from(["layer", "graph", "world"]),
        "likelihood": st.sampled_from(["bernoulli", "multinomial", "gauss"]),
        "criterion": st.sampled_from(["icl", "held-out", "luck", len]),
        "init": st.sampled_from(["random", "structured", "k-means++", "spectral", "luck"]),
        "thresholds": st.sampled_from([None, {}, {"xi1": 0.5, "xi2": -0.5}, {"xi1": -1, "xi2": 1}, {"xi1": "a"}, 3]),
        "layers": st.sampled_from([None, [], "graph", ["fc"], ["nobody"], "", 3]),
        "joint": st.booleans(), "sensitive": st.booleans(),
    }  # fmt: skip
    chosen = draw(st.lists(st.sampled_from(sorted(values)), unique=True, max_size=4))
    return {name: draw(values[name]) for name in chosen}


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
