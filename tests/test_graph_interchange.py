"""Graphs from anywhere in, and out again in every format, with nothing lost and no NumPy scalar leaked."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from innersight_graph.errors import GraphSchemaError, InputError, MissingExtraError
from innersight_graph.graph.interchange import (
    as_layered,
    edge_arrays,
    read_graph,
    to_igraph,
    to_pandas_edgelist,
    write_graph,
)
from innersight_graph.graph.layered import Layer, LayeredDiGraph, Neuron
from innersight_graph.graph.matrices import adjacency, degrees
from innersight_graph.graph.mirror import mirror
from innersight_graph.partition import Partition
from innersight_graph.partition.exchange import to_cdlib


def graph(**options: Any) -> LayeredDiGraph:
    rng = np.random.default_rng(3)
    layers = [
        Layer("input", 0, 4, "input", shape=(2, 2)),
        Layer("enc.fc1", 1, 5, "linear", closing="enc.relu"),
        Layer("side", 1, 2, "linear"),
        Layer("out", 2, 3, "linear"),
    ]
    connections = {
        ("input", "enc.fc1"): rng.normal(size=(4, 5)),
        ("input", "side"): sparse.random_array((4, 2), density=0.6, rng=rng),
        ("enc.fc1", "out"): sparse.random_array((5, 3), density=0.4, rng=rng, data_sampler=rng.normal),
        ("side", "out"): rng.normal(size=(2, 3)),
    }
    attributes = {"enc.fc1": {"silent": np.array([False, True, False, False, True]), "role": np.array(list("abcde"))}}
    kinds = {("side", "out"): "gate"}
    return LayeredDiGraph.from_arrays(layers, connections, kinds=kinds, node_attributes=attributes, **options)


def same(G: LayeredDiGraph, H: LayeredDiGraph) -> bool:
    arrays = all(np.array_equal(_dense(G, p), _dense(H, p)) for p in G.connections)
    return (
        G.layers == H.layers and set(G.connections) == set(H.connections) and dict(G.kinds) == dict(H.kinds)
        and arrays and nx.utils.graphs_equal(nx.create_empty_copy(G.copy(), True), nx.create_empty_copy(H.copy(), True))
    )  # fmt: skip


def _dense(G: LayeredDiGraph, pair: tuple[str, str]) -> np.ndarray:
    weights = G.connections[pair]
    return weights.toarray() if sparse.issparse(weights) else weights


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", [".npz", ".graphml", ".gexf", ".json"])
def test_every_format_gives_the_same_graph_back(suffix: str, tmp_path: Path) -> None:
    G = graph()
    write_graph(G, tmp_path / f"g{suffix}")
    H = read_graph(tmp_path / f"g{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [f"g{suffix}"]
    assert list(H) == list(G)
    assert all(type(node) is Neuron for node in H)
    assert dict(H.edges) == dict(G.edges) == {e: H.edges[e] for e in G.edges}
    for name in G.node_attributes["enc.fc1"]:
        assert H.node_attributes["enc.fc1"][name].tolist() == G.node_attributes["enc.fc1"][name].tolist()
    if suffix == ".gexf":  # it has no place for graph attributes, so shapes and closing points stay behind
        assert [(x.name, x.depth, x.width, x.kind) for x in H.layers] == [
            (x.name, x.depth, x.width, x.kind) for x in G.layers
        ]
    else:
        assert same(G, H)


def test_npz_keeps_own_ids_graph_attributes_and_sparsity(tmp_path: Path) -> None:
    ids = {"side": [("s", 1), "two"], "out": [10, 2.5, True]}
    G = graph(nodes=ids, graph={"name": "net", "acc": 0.9})
    G.save(tmp_path / "g.npz")
    H = LayeredDiGraph.load(tmp_path / "g.npz")
    assert same(G, H)
    assert H.graph == G.graph
    assert H.nodes_of("side") == ids["side"]
    assert {p: sparse.issparse(w) for p, w in H.connections.items()} == {
        p: sparse.issparse(w) for p, w in G.connections.items()
    }
    with np.load(tmp_path / "g.npz", allow_pickle=False) as file:
        assert json.loads(str(file["manifest"]))["format"] == "innersight-graph/1"


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "g.npz"
    graph().save(path)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        graph().save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["g.npz"]


def test_bad_files_and_targets_are_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    np.savez(tmp_path / "pickled.npz", manifest=np.array({"format": 1}, dtype=object))
    (tmp_path / "broken.graphml").write_text("<graphml>")
    (tmp_path / "broken.json").write_text("[1]")
    for name in ("broken.npz", "text.npz", "other.npz", "pickled.npz", "broken.graphml", "broken.json"):
        with pytest.raises(InputError, match=name):
            read_graph(tmp_path / name)
    for wrong in (lambda: read_graph(tmp_path / "missing.npz"), lambda: read_graph(tmp_path / "missing.gexf")):
        with pytest.raises(InputError, match="missing"):
            wrong()
    with pytest.raises(InputError, match="is a folder"):
        graph().save(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        write_graph(graph(), tmp_path / "no" / "g.npz")
    with pytest.raises(InputError, match=r"ends in '\.txt'"):
        write_graph(graph(), tmp_path / "g.txt")
    with pytest.raises(InputError, match="max_edges=3"):
        write_graph(graph(), tmp_path / "g.graphml", max_edges=3)
    assert not (tmp_path / "g.graphml").exists()


def test_what_no_file_can_hold_is_refused_before_writing(tmp_path: Path) -> None:
    for bad in (graph(graph={"model": object()}), graph(nodes={"side": [object(), "b"]})):
        with pytest.raises(InputError):
            bad.save(tmp_path / "g.npz")
    assert not list(tmp_path.iterdir())


def test_no_numpy_scalar_leaks_into_networkx_files(tmp_path: Path) -> None:
    D = graph().to_networkx()
    for _, data in D.nodes(data=True):
        assert {type(value) for value in data.values()} <= {str, int, float, bool}
    for _, _, data in D.edges(data=True):
        assert {type(value) for value in data.values()} <= {str, float}
    json.dumps(nx.node_link_data(D, edges="edges"))
    nx.write_graphml(D, tmp_path / "g.graphml")
    nx.write_gml(nx.relabel_nodes(D, str), tmp_path / "g.gml")


# ---------------------------------------------------------------------- from plain NetworkX


def chain(**node: dict[str, Any]) -> nx.DiGraph:
    D = nx.DiGraph()
    D.add_nodes_from((name, dict(data)) for name, data in node.items())
    return D


def test_text_ids_subset_only_and_missing_index_are_enough() -> None:
    D = chain(y={"subset": 1}, a={"subset": 0, "size": 2}, b={"subset": 0, "size": 3})
    D.add_weighted_edges_from([("b", "y", -2), ("a", "y", 1)])
    G = LayeredDiGraph.from_networkx(D)
    assert [(x.name, x.depth, x.width) for x in G.layers] == [("0", 0, 2), ("1", 1, 1)]
    assert G.nodes_of("0") == ["a", "b"]
    assert np.array_equal(_dense(G, ("0", "1")), [[1], [-2]])
    assert G.node_attributes["0"]["size"].tolist() == [2, 3]


def test_layer_names_without_depth_are_ordered_by_the_flow() -> None:
    D = chain(o={"layer": "out"}, h={"layer": "hid"}, x={"layer": "in"})
    D.add_weighted_edges_from([("x", "h", 1.0), ("h", "o", 1.0)])
    assert [x.name for x in LayeredDiGraph.from_networkx(D).layers] == ["in", "hid", "out"]
    D.add_edge("o", "x", weight=1.0)  # a cycle: the order of appearance is all that is left
    assert [x.name for x in LayeredDiGraph.from_networkx(D).layers] == ["out", "hid", "in"]


def test_index_decides_the_order_within_a_layer() -> None:
    D = chain(p={"layer": "a", "index": 2}, q={"layer": "a", "index": 0}, r={"layer": "b", "index": 0})
    D.add_edge("p", "r", weight=1)
    assert LayeredDiGraph.from_networkx(D).nodes_of("a") == ["q", "p"]
    D.nodes["q"]["index"] = 2
    with pytest.raises(GraphSchemaError, match="'index'"):
        LayeredDiGraph.from_networkx(D)


def test_another_edge_attribute_can_hold_the_weight() -> None:
    D = chain(a={"layer": 0}, b={"layer": 1})
    D.add_edge("a", "b", w="3.5")
    assert LayeredDiGraph.from_networkx(D, weight="w").edges["a", "b"]["weight"] == 3.5


@pytest.mark.parametrize(
    ("edge", "nodes", "message"),
    [
        ({}, {"a": {"layer": "x"}, "b": {"layer": "y"}}, "no attribute 'weight'"),
        ({"weight": float("nan")}, {"a": {"layer": "x"}, "b": {"layer": "y"}}, "weight=nan"),
        ({"weight": "heavy"}, {"a": {"layer": "x"}, "b": {"layer": "y"}}, "weight='heavy'"),
        ({"weight": 1}, {"a": {"layer": "x"}, "b": {}}, "node 'b' does not"),
        ({"weight": 1}, {"a": {"layer": 1}, "b": {"layer": "1"}}, "same name"),
        ({"weight": float("inf")}, {"a": {}, "b": {}}, "weight=inf"),
    ],
)
def test_bad_graphs_are_refused_by_node_edge_or_attribute(edge: dict, nodes: dict, message: str) -> None:
    D = chain(**nodes)
    D.add_edge("a", "b", **edge)
    with pytest.raises(GraphSchemaError, match=message):
        as_layered(D)
    with pytest.raises(nx.NetworkXError):
        as_layered(D)


@pytest.mark.parametrize("thing", [None, 3, "graph", [[0, 1], [1, 0]], np.eye(2)])
def test_what_is_no_graph_is_refused(thing: Any) -> None:
    with pytest.raises(GraphSchemaError, match="A graph was expected"):
        as_layered(thing)
    with pytest.raises(GraphSchemaError, match="no nodes"):
        as_layered(nx.DiGraph())


@pytest.mark.parametrize(
    "make",
    [
        nx.karate_club_graph,
        lambda: nx.gn_graph(20, seed=1),
        lambda: nx.MultiGraph([(0, 1), (0, 1), (1, 2), (2, 2)]),
        lambda: nx.MultiDiGraph([(0, 1), (0, 1), (1, 0)]),
        lambda: nx.Graph([(0, 0), (0, 1)]),
        lambda: nx.complete_multipartite_graph(2, 3),
        lambda: nx.path_graph(1),
    ],
)
def test_any_graph_is_one_layer_with_networkxs_own_matrix(make: Any) -> None:
    D = make()
    G = as_layered(D)
    assert G.hidden_layers == ("graph",)
    assert G.nodes_of("graph") == list(D)
    assert G.graph["directed"] is D.is_directed()
    assert np.array_equal(adjacency(G).toarray(), nx.to_numpy_array(D))
    assert as_layered(G) is G


def test_a_plain_layered_digraph_goes_the_way_of_a_layered_graph() -> None:
    G = graph()
    H = as_layered(G.to_networkx())
    assert same(G, H)
    assert H.hidden_layers == G.hidden_layers == ("enc.fc1", "side")


def test_the_plain_graph_is_not_changed() -> None:
    D = graph().to_networkx()
    before = json.dumps(nx.node_link_data(D, edges="edges"))
    as_layered(D)
    assert json.dumps(nx.node_link_data(D, edges="edges")) == before


def test_mirror_keeps_orders_and_attributes() -> None:
    D = nx.DiGraph(name="d")
    D.add_edges_from([(2, 0, {"capacity": 3}), (1, 0, {"weight": "x"}), (2, 1), (0, 0, {"weight": 4})])
    D.nodes[1]["color"] = "red"
    M = mirror(D)
    assert nx.utils.graphs_equal(M, D)
    assert [list(M.pred[v]) for v in M] == [list(D.pred[v]) for v in D]
    assert [list(M.adj[v]) for v in M] == [list(D.adj[v]) for v in D]
    assert dict(M.degree(weight="capacity")) == dict(D.degree(weight="capacity"))
    D.edges[2, 0]["capacity"] = 9
    assert M.edges[2, 0]["capacity"] == 3
    for wrong in (nx.Graph(), nx.MultiDiGraph()):
        with pytest.raises(GraphSchemaError):
            mirror(wrong)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 12))
def test_any_digraph_is_mirrored_in_every_order_and_read_with_every_weight(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    names = rng.permutation(size).tolist()
    D = nx.DiGraph()
    D.add_nodes_from(names)
    for u, v in rng.permutation([(u, v) for u in names for v in names] or np.zeros((0, 2), int)).tolist():
        if rng.random() < 0.3:
            D.add_edge(u, v, **({"weight": float(rng.normal())} if rng.random() < 0.7 else {"x": 1}))
    M = mirror(D)
    assert list(M.edges(data=True)) == list(D.edges(data=True))
    assert list(M.in_edges(data=True)) == list(D.in_edges(data=True))
    assert [M.has_edge(u, v) for u in names for v in names] == [D.has_edge(u, v) for u in names for v in names]
    if size:
        G = as_layered(D)
        assert np.array_equal(adjacency(G).toarray(), nx.to_numpy_array(D, dtype=np.float32))
        assert list(G.edges) == list(D.edges)


# ---------------------------------------------------------------------- matrices and other libraries


@pytest.mark.parametrize("weight", ["weight", "activation", "inhibition", None])
def test_adjacency_and_degrees_equal_networkx(weight: str | None) -> None:
    G = graph()
    A = nx.to_numpy_array(G.copy(), weight=weight)
    assert np.array_equal(adjacency(G, weight).toarray(), A)
    assert degrees(G, weight, "out") == pytest.approx(A.sum(axis=1))
    assert degrees(G, weight, "in") == pytest.approx(A.sum(axis=0))
    with pytest.raises(InputError, match="'kind'"):
        adjacency(G, "kind")


def test_igraph_has_the_same_vertices_edges_and_attributes() -> None:
    G = graph()
    ig = to_igraph(G)
    assert ig.is_directed()
    assert ig.vs["name"] == [str(node) for node in G]
    assert ig.vs["silent"][:6] == [None, None, None, None, False, True]
    nodes = list(G)
    for edge in ig.es:
        data = G.edges[nodes[edge.source], nodes[edge.target]]
        assert edge.attributes() == dict(data)
    assert ig.ecount() == G.number_of_edges()
    assert min(to_igraph(G, signed=False).es["weight"]) > 0
    K = nx.karate_club_graph()
    assert to_igraph(K).ecount() == K.number_of_edges()
    assert sum(to_igraph(K).es["weight"]) == K.size(weight="weight")


def test_pandas_edge_list_equals_networkxs() -> None:
    pd = pytest.importorskip("pandas")
    G = graph()
    mine, theirs = to_pandas_edgelist(G), nx.to_pandas_edgelist(G.to_networkx())
    key = ["source", "target"]
    columns = ["source", "target", "weight", "activation", "inhibition", "kind"]
    for frame in (mine, theirs):
        frame[key] = frame[key].map(str)
    mine, theirs = (frame.sort_values(key, ignore_index=True)[columns] for frame in (mine, theirs))
    pd.testing.assert_frame_equal(mine, theirs, check_dtype=False)


def test_edges_as_arrays_are_empty_without_edges() -> None:
    assert {len(found) for found in edge_arrays(nx.empty_graph(3)).values()} == {0}


def test_cdlib_gets_communities_in_order_with_their_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = []
    stand_in = types.ModuleType("cdlib")
    stand_in.NodeClustering = lambda communities, **options: calls.append((communities, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cdlib", stand_in)
    K = nx.path_graph(5)
    P = Partition.from_labels(K, {"graph": [1, 0, 1, 1, 0]}, method="by hand", params={"x": 1})
    to_cdlib(P, K)
    communities, options = calls[0]
    assert communities == [[0, 2, 3], [1, 4]]
    assert (options["method_name"], options["method_parameters"], options["overlap"]) == ("by hand", {"x": 1}, False)
    assert set(options["graph"]) == set(K)


def test_missing_libraries_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("igraph", "pandas", "cdlib"):
        monkeypatch.setitem(sys.modules, name, None)
    P = Partition.from_labels(nx.path_graph(2), {"graph": [0, 0]}, method="x")
    calls: dict[Any, str] = {
        lambda: to_igraph(nx.path_graph(2)): "leiden",
        lambda: to_pandas_edgelist(nx.path_graph(2)): "pandas",
        P.to_pandas: "pandas",
        lambda: to_cdlib(P): "bench",
    }
    for call, extra in calls.items():
        with pytest.raises(MissingExtraError, match=rf"innersight-graph\[{extra}\]"):
            call()


def test_a_json_graph_whose_attributes_are_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    write_graph(LayeredDiGraph.from_arrays([Layer("a", 0, 1, "input")], {}), path)
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {"graph": None}), encoding="utf-8")
    with pytest.raises(InputError, match="'graph' is None"):
        read_graph(path)
