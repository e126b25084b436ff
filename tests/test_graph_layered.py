"""LayeredDiGraph against plain NetworkX graphs built edge by edge from the same arrays."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from innersight_graph.errors import GraphSchemaError, InputError
from innersight_graph.graph.layered import Layer, LayeredDiGraph, Neuron

WIDTHS = {"input": 4, "fc1": 5, "fc2": 3, "out": 2}
PAIRS = [("input", "fc1"), ("fc1", "fc2"), ("input", "fc2"), ("fc2", "out")]


def layers() -> list[Layer]:
    return [Layer(name, depth, width, "linear") for depth, (name, width) in enumerate(WIDTHS.items())]


def weights(seed: int = 0, share: float = 0.6) -> dict[tuple[str, str], np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for s, t in PAIRS:
        shape = (WIDTHS[s], WIDTHS[t])
        found[s, t] = (rng.normal(size=shape) * (rng.random(shape) < share)).astype(np.float32)
    return found


def plain(
    connections: dict[tuple[str, str], np.ndarray], kinds: dict[tuple[str, str], str] | None = None
) -> nx.DiGraph:
    """Build the same graph the slow and obvious way."""
    D = nx.DiGraph()
    for depth, (name, width) in enumerate(WIDTHS.items()):
        for i in range(width):
            D.add_node(Neuron(name, i), layer=name, index=i, subset=depth, kind="linear")
    for s in WIDTHS:
        for i in range(WIDTHS[s]):
            for t in WIDTHS:
                if (s, t) not in connections:
                    continue
                kind = (kinds or {}).get((s, t), "value")
                for j in range(WIDTHS[t]):
                    w = float(connections[s, t][i, j])
                    if w:
                        a, b = (max(w, 0.0), max(-w, 0.0)) if kind == "value" else (0.0, 0.0)
                        D.add_edge(Neuron(s, i), Neuron(t, j), weight=w, activation=a, inhibition=b, kind=kind)
    return D


def both(kind: str, seed: int = 0) -> tuple[LayeredDiGraph, nx.DiGraph]:
    W = weights(seed)
    stored: dict[tuple[str, str], Any] = dict(W)
    if kind != "dense":
        stored = {pair: sparse.csr_array(w) if kind == "sparse" or pair[0] == "input" else w for pair, w in W.items()}
    return LayeredDiGraph.from_arrays(layers(), stored), plain(W)


@pytest.fixture(params=["dense", "sparse", "mixed"])
def pair(request: pytest.FixtureRequest) -> tuple[LayeredDiGraph, nx.DiGraph]:
    return both(request.param)


def test_nodes_edges_and_their_order_equal_the_plain_graph(pair: tuple[LayeredDiGraph, nx.DiGraph]) -> None:
    G, D = pair
    assert list(G.nodes(data=True)) == list(D.nodes(data=True))
    assert list(G.edges(data=True)) == list(D.edges(data=True))
    assert [(v, list(G.predecessors(v))) for v in G] == [(v, list(D.predecessors(v))) for v in D]
    assert G.adj == D.adj
    assert D.pred == G.pred
    assert nx.utils.graphs_equal(G, D)
    assert all(type(n) is Neuron for n in G)
    assert all(type(data["weight"]) is float for _, _, data in G.edges(data=True))


def test_sizes_and_degrees_equal_the_plain_graph(pair: tuple[LayeredDiGraph, nx.DiGraph]) -> None:
    G, D = pair
    assert (len(G), G.number_of_edges(), G.size()) == (len(D), D.number_of_edges(), D.size())
    assert G.number_of_edges(("input", 0), ("fc1", 0)) == D.number_of_edges(("input", 0), ("fc1", 0))
    for view in ("degree", "in_degree", "out_degree"):
        assert dict(getattr(G, view)()) == dict(getattr(D, view)())
        for weight in ("weight", "activation", "inhibition", "unknown"):
            mine, theirs = dict(getattr(G, view)(weight=weight)), dict(getattr(D, view)(weight=weight))
            assert mine == pytest.approx(theirs, abs=1e-12)
        some = [("fc1", 1), ("out", 0)]
        assert dict(getattr(G, view)(some)) == dict(getattr(D, view)(some))
        assert getattr(G, view)(("fc1", 1)) == getattr(D, view)(("fc1", 1))
    assert G.size(weight="activation") == pytest.approx(D.size(weight="activation"))


@pytest.mark.parametrize(
    "algorithm",
    [
        lambda G: nx.pagerank(G, weight="activation"),
        lambda G: [sorted(level) for level in nx.topological_generations(G)],
        lambda G: {v: p.tolist() for v, p in nx.multipartite_layout(G).items()},
        lambda G: nx.betweenness_centrality(G),
        lambda G: dict(nx.all_pairs_shortest_path_length(G)),
        lambda G: nx.to_numpy_array(G).tolist(),
        lambda G: nx.adjacency_matrix(G, weight="inhibition").toarray().tolist(),
        lambda G: nx.dag_longest_path_length(G, weight="activation"),
        lambda G: sorted(map(sorted, nx.weakly_connected_components(G))),
        lambda G: nx.triadic_census(G),
        lambda G: nx.maximum_flow_value(G, ("input", 0), ("out", 0), capacity="activation"),
        lambda G: nx.node_link_data(G, edges="edges"),
    ],
)
def test_networkx_functions_give_what_they_give_on_the_plain_graph(algorithm: Any) -> None:
    G, D = both("mixed")
    assert algorithm(G) == algorithm(D)


def test_copies_subgraphs_and_views_are_what_networkx_makes(pair: tuple[LayeredDiGraph, nx.DiGraph]) -> None:
    G, D = pair
    some = [("input", 1), ("fc1", 0), ("fc1", 2), ("fc2", 1)]
    edges = list(D.edges)[::3]
    for make in (
        lambda H: H.copy(),
        lambda H: H.subgraph(some),
        lambda H: H.subgraph(some).copy(),
        lambda H: H.edge_subgraph(edges),
        lambda H: H.reverse(),
        lambda H: H.reverse(copy=False),
        lambda H: H.to_undirected(),
        lambda H: H.to_undirected(as_view=True),
        lambda H: H.to_directed(),
        lambda H: nx.DiGraph(H),
    ):
        assert nx.utils.graphs_equal(make(G), make(D))
    H = G.copy()
    assert type(H) is nx.DiGraph
    H.add_edge("a", "b")
    H.edges[edges[0]]["weight"] = 5.0
    assert G.edges[edges[0]]["weight"] == D.edges[edges[0]]["weight"]


def test_calling_the_class_makes_a_plain_mutable_graph() -> None:
    G, _ = both("dense")
    H = G.__class__()
    H.add_edge(1, 2)
    assert type(H) is nx.DiGraph
    assert H.number_of_edges() == 1
    assert LayeredDiGraph([(1, 2)], name="x").graph == {"name": "x"}


@pytest.mark.parametrize(
    "change",
    [
        lambda G: G.add_node(1),
        lambda G: G.add_nodes_from([1]),
        lambda G: G.remove_node(("fc1", 0)),
        lambda G: G.remove_nodes_from([("fc1", 0)]),
        lambda G: G.add_edge(1, 2),
        lambda G: G.add_edges_from([(1, 2)]),
        lambda G: G.add_weighted_edges_from([(1, 2, 3)]),
        lambda G: G.remove_edge(("fc1", 0), ("fc2", 0)),
        lambda G: G.remove_edges_from([]),
        lambda G: G.clear(),
        lambda G: G.clear_edges(),
        lambda G: G.update(edges=[(1, 2)]),
        lambda G: G.edges[next(iter(G.edges))].update(weight=1),
        lambda G: G.edges[next(iter(G.edges))].pop("weight"),
        lambda G: G.edges[next(iter(G.edges))].__setitem__("weight", 1),
        lambda G: G.edges[next(iter(G.edges))].__delitem__("weight"),
        lambda G: G.nodes["fc1", 0].__setitem__("layer", "x"),
        lambda G: nx.set_edge_attributes(G, 1, "weight"),
    ],
)
def test_every_way_to_change_it_raises_as_on_a_frozen_graph(change: Any) -> None:
    G, D = both("dense")
    assert nx.is_frozen(G)
    with pytest.raises(nx.NetworkXError):
        change(G)
    assert nx.utils.graphs_equal(G, D)


def test_edge_data_copies_and_pickles_to_plain_dicts() -> None:
    G, _ = both("sparse")
    data = G.edges[next(iter(G.edges))]
    for twin in (copy.copy(data), copy.deepcopy(data), pickle.loads(pickle.dumps(data)), data.copy(), data | {"x": 1}):
        assert type(twin) is dict
        assert twin["weight"] == data["weight"]


def test_the_graph_pickles_and_deep_copies(pair: tuple[LayeredDiGraph, nx.DiGraph]) -> None:
    G, D = pair
    G.graph["note"] = ["text"]
    for twin in (pickle.loads(pickle.dumps(G)), copy.deepcopy(G)):
        assert type(twin) is LayeredDiGraph
        assert twin.layers == G.layers
        assert list(twin.edges(data=True)) == list(D.edges(data=True))
        assert nx.is_frozen(twin)
        twin.graph["note"].append("more")
    assert G.graph["note"] == ["text"]


def test_arrays_are_views_and_the_users_array_stays_his() -> None:
    W = weights()
    G = LayeredDiGraph.from_arrays(layers(), W)
    for key, mine in W.items():
        held = G.matrix(*key)
        assert np.shares_memory(held, mine)
        assert mine.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            held[0, 0] = 1.0
    transposed = np.asfortranarray(W["input", "fc1"])
    G = LayeredDiGraph.from_arrays(layers(), {("input", "fc1"): transposed})
    assert np.shares_memory(G.matrix("input", "fc1"), transposed)


def test_sparse_input_is_not_changed_and_explicit_zeros_are_no_edges() -> None:
    given = sparse.coo_array((np.array([1.0, 2.0, 0.0]), ([0, 0, 1], [0, 0, 1])), shape=(4, 5))
    G = LayeredDiGraph.from_arrays(layers(), {("input", "fc1"): given})
    assert list(G.edges(data="weight")) == [(("input", 0), ("fc1", 0), 3.0)]
    assert given.nnz == 3
    with pytest.raises(ValueError, match="read-only"):
        G.matrix("input", "fc1").data[0] = 7.0


def test_gates_are_listed_but_carry_no_activation_and_feed_nothing() -> None:
    W = weights()
    kinds = {("input", "fc2"): "gate"}
    G = LayeredDiGraph.from_arrays(layers(), W, kinds=kinds)
    assert nx.utils.graphs_equal(G, plain(W, kinds))
    assert G.incoming("fc2") == ("fc1",)
    assert G.outgoing("input") == ("fc1",)
    assert dict(G.out_degree(weight="activation")) == pytest.approx(
        dict(plain(W, kinds).out_degree(weight="activation"))
    )


def test_layers_are_ordered_by_depth_and_hidden_layers_stand_between() -> None:
    G = LayeredDiGraph.from_arrays(reversed(layers()), weights())
    assert [layer.name for layer in G.layers] == list(WIDTHS)
    assert G.hidden_layers == ("fc1", "fc2")
    assert (G.incoming("fc2"), G.outgoing("input")) == (("input", "fc1"), ("fc1", "fc2"))
    assert G.nodes_of("out") == [Neuron("out", 0), Neuron("out", 1)]
    assert G.layer("fc1").width == 5
    with pytest.raises(InputError, match="no layer 'fc9'"):
        G.layer("fc9")
    with pytest.raises(InputError, match="No connection"):
        G.matrix("out", "input")


def test_node_attributes_become_plain_values() -> None:
    attributes = {"fc1": {"silent": np.array([True] + [False] * 4), "head": np.arange(5)}}
    G = LayeredDiGraph.from_arrays(layers(), weights(), node_attributes=attributes)
    assert G.nodes["fc1", 0]["silent"] is True
    assert type(G.nodes["fc1", 3]["head"]) is int
    assert "silent" not in G.nodes["fc2", 0]
    assert nx.get_node_attributes(G, "head") == {Neuron("fc1", i): i for i in range(5)}


def test_membership_asks_no_questions() -> None:
    G, _ = both("dense")
    for node in (("fc1", 0), Neuron("fc1", 4), ("fc1", np.int64(2))):
        assert node in G
    for node in (
        ("fc1", 5),
        ("fc1", -1),
        ("fc9", 0),
        "fc1",
        ("fc1",),
        ("fc1", 0, 0),
        3,
        None,
        ("fc1", 0.5),
        ["fc1", 0],
    ):
        assert node not in G
    with pytest.raises(KeyError):
        G["fc9", 0]
    with pytest.raises(nx.NetworkXError):
        G.successors(("fc1", 99))
    assert not G.has_edge(("out", 0), ("input", 0))


def test_to_networkx_refuses_above_the_limit_and_says_how_much_memory() -> None:
    G = LayeredDiGraph.from_arrays(
        [Layer("a", 0, 2000, "x"), Layer("b", 1, 2000, "x")], {("a", "b"): np.ones((2000, 2000), np.float32)}
    )
    with pytest.raises(InputError, match=r"4,000,000 edges.*1\.5 GB.*max_edges=1,000,000"):
        G.to_networkx()
    small, D = both("dense")
    assert list(small.to_networkx(max_edges=100).edges(data=True)) == list(D.edges(data=True))
    with pytest.raises(InputError):
        small.to_networkx(max_edges=1)


def test_a_dense_connection_costs_nothing_beyond_its_array() -> None:
    n = 1024
    W = np.ones((n, n), dtype=np.float32)
    LayeredDiGraph.from_arrays([Layer("a", 0, 2, "x"), Layer("b", 1, 2, "x")], {("a", "b"): W[:2, :2]})
    tracemalloc.start()
    try:
        G = LayeredDiGraph.from_arrays([Layer("a", 0, n, "x"), Layer("b", 1, n, "x")], {("a", "b"): W})
        G.number_of_edges(), list(G), G.adj["a", 0][("b", 3)], G.pred["b", 5][("a", 2)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / (n * n) < 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda L, W: W.update({("input", "fc1"): np.ones((5, 4))}), r"shape \(5, 4\)"),
        (lambda L, W: W.update({("input", "fc1"): np.full((4, 5), np.nan)}), "NaN or infinite"),
        (lambda L, W: W["fc1", "fc2"].__setitem__((0, 0), np.inf), "NaN or infinite"),
        (lambda L, W: W.update({("fc1", "fc2"): sparse.csr_array(np.full((5, 3), -np.inf))}), "NaN or infinite"),
        (lambda L, W: W.update({("fc1", "fc2"): np.array([[np.inf, -np.inf, 0.0]] * 5)}), "10 of them"),
        (lambda L, W: W.update({("fc1", "fc2"): np.full((5, 3), 1e300)}), "15 of them"),
        (lambda L, W: W.update({("fc1", "fc2"): np.full((5, 3), 1j)}), "complex128"),
        (lambda L, W: W.update({("fc1", "fc2"): np.full((5, 3), "1.0")}), "not an array of numbers"),
        (lambda L, W: W.update({("input", "nowhere"): np.ones((4, 5))}), "'nowhere'"),
        (lambda L, W: W.update({("input", "fc1"): [["a"] * 5] * 4}), "not an array of numbers"),
        (lambda L, W: L.append(Layer("fc1", 9, 1, "linear")), "named 'fc1'"),
        (lambda L, W: L.append(Layer("none", 9, 0, "linear")), "width 0"),
    ],
)
def test_bad_arrays_are_refused_by_name(change: Any, message: str) -> None:
    L, W = layers(), weights()
    change(L, W)
    with pytest.raises(GraphSchemaError, match=message):
        LayeredDiGraph.from_arrays(L, W)


def test_bad_kinds_attributes_and_ids_are_refused() -> None:
    L, W = layers(), weights()
    for options, message in (
        ({"kinds": {("input", "fc1"): "wire"}}, "kind 'wire'"),
        ({"node_attributes": {"fc9": {"x": [1]}}}, "'fc9'"),
        ({"node_attributes": {"fc1": {"x": [1]}}}, r"shape \(1,\)"),
        ({"node_attributes": {"fc1": {"layer": np.ones(5)}}}, "'layer'"),
        ({"nodes": {"fc1": ["a"]}}, "1 node ids"),
        ({"nodes": {"fc1": ["a", "a", "b", "c", "d"]}}, "occurs twice"),
        ({"nodes": {"fc1": [None, "a", "b", "c", "d"]}}, "cannot be a node"),
        ({"nodes": {"fc1": [[1], "a", "b", "c", "d"]}}, "cannot be a node"),
    ):
        with pytest.raises(GraphSchemaError, match=message):
            LayeredDiGraph.from_arrays(L, W, **options)


def test_short_representation_names_the_sizes() -> None:
    G, _ = both("dense")
    assert repr(G) == str(G) == f"LayeredDiGraph(4 layers, 14 neurons, {G.number_of_edges()} edges)"


@st.composite
def graphs(draw: st.DrawFn) -> LayeredDiGraph:
    widths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    L = [Layer(f"l{i}", i, w, "linear") for i, w in enumerate(widths)]
    value = st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, -2.5, 1e-30, 3e8])
    connections: dict[tuple[str, str], Any] = {}
    for i in range(len(L)):
        for j in range(i, len(L)):
            if draw(st.booleans()):
                cells = draw(st.lists(value, min_size=widths[i] * widths[j], max_size=widths[i] * widths[j]))
                matrix = np.array(cells, dtype=np.float32).reshape(widths[i], widths[j])
                connections[f"l{i}", f"l{j}"] = sparse.csr_array(matrix) if draw(st.booleans()) else matrix
    return LayeredDiGraph.from_arrays(L, connections)


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_any_graph_survives_plain_networkx_and_pickle(G: LayeredDiGraph) -> None:
    D = G.to_networkx(None)
    assert (D.number_of_edges(), len(D)) == (G.number_of_edges(), len(G))
    assert nx.utils.graphs_equal(pickle.loads(pickle.dumps(G)), G)
    back = LayeredDiGraph.from_networkx(D)
    assert back.layers == G.layers
    assert list(back) == list(G)
    assert list(back.edges(data=True)) == list(G.edges(data=True))
