"""The NetworkX backend "innersight": entry points, policy, and every function against NetworkX's own."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from innersight_graph import nxbackend
from innersight_graph._nxinfo import FUNCTIONS, detector_names, get_info
from innersight_graph.detection import methods
from innersight_graph.detection.leiden import leiden_communities
from innersight_graph.detection.louvain import louvain_communities
from innersight_graph.errors import InputError
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.graph.mirror import mirror
from innersight_graph.nxbackend.dispatchables import DETECTORS, _dispatchable

HERE = Path(__file__).parent
# NetworkX has the name since 3.5; before, only our own function can be called.
HAS_LEIDEN = hasattr(nx.community, "leiden_communities")


def leiden(G: nx.Graph, *, backend: str, **options: Any) -> list[set[Any]]:
    if HAS_LEIDEN:
        return nx.community.leiden_communities(G, backend=backend, **options)
    return nxbackend.BackendInterface.leiden_communities(G, **options)


@pytest.fixture(autouse=True)
def no_cache_warnings() -> Iterator[None]:
    """NetworkX warns at every second call with the same plain graph that it kept the conversion of the first."""
    before = set(nx.config.warnings_to_ignore)
    nx.config.warnings_to_ignore = before | {"cache"}
    yield
    nx.config.warnings_to_ignore = before


def layered(seed: int = 0) -> LayeredDiGraph:
    rng = np.random.default_rng(seed)
    L = [Layer("a", 0, 5, "x"), Layer("b", 1, 6, "x"), Layer("c", 2, 4, "x")]
    W = {("a", "b"): rng.normal(size=(5, 6)), ("b", "c"): sparse.random_array((6, 4), density=0.5, rng=rng)}
    W["c", "a"] = np.round(rng.normal(size=(4, 5)))
    return LayeredDiGraph.from_arrays(L, W)


def graphs() -> dict[str, nx.Graph]:
    weighted = nx.gnp_random_graph(12, 0.3, seed=2, directed=True)
    for i, (u, v) in enumerate(weighted.edges):
        weighted.edges[u, v]["weight"] = 1 + i % 3
    loops = nx.Graph([(0, 0), (0, 1), (1, 2), (2, 3), (3, 0)])
    return {
        "layered": layered(), "directed": weighted, "mirrored": mirror(weighted), "undirected":
        nx.les_miserables_graph(),
        "loops": loops, "multi": nx.MultiGraph([(0, 1), (0, 1), (1, 2)]), "multi directed": nx.MultiDiGraph([(0, 1),
        (0, 1), (1, 0)]),
    }  # fmt: skip


@pytest.fixture(params=graphs())
def graph(request: pytest.FixtureRequest) -> nx.Graph:
    return graphs()[request.param]


# ---------------------------------------------------------------------- how NetworkX finds it


def test_networkx_finds_the_backend_by_its_entry_points() -> None:
    for group in ("networkx.backends", "networkx.backend_info"):
        assert [e.name for e in entry_points(group=group) if e.value.startswith("innersight_graph")] == ["innersight"]
    assert nx.utils.backends.backends["innersight"].load() is nxbackend.BackendInterface
    assert "innersight" in nx.config.backends


def test_the_info_names_exactly_what_is_implemented() -> None:
    names = set(get_info()["functions"])
    assert names == set(FUNCTIONS) | set(DETECTORS)
    assert all(callable(getattr(nxbackend.BackendInterface, name)) for name in names)
    registered = nx.utils.backends._registered_algorithms
    # Older releases of NetworkX lack Leiden, or do not dispatch everything newer ones do.
    assert names - set(registered) <= {"leiden_communities", "leiden_partitions", "number_of_selfloops"}
    public = {name for name in vars(nxbackend.BackendInterface) if not name.startswith("_")}
    assert public - names == {"convert_from_nx", "convert_to_nx", "can_run", "should_run"}
    for name in set(FUNCTIONS) & set(registered):
        assert "innersight" in registered[name].__doc__


def test_the_info_function_is_light() -> None:
    # NetworkX calls it whenever it is imported.
    code = (
        "import sys, re, pathlib, importlib.metadata; from innersight_graph._nxinfo import get_info; get_info()\n"
        "print(sorted({'networkx', 'numpy', 'scipy', 'torch', 'sklearn'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split()[0] == "[]"


def test_conversion_copies_nothing_and_warns_of_no_cache() -> None:
    G = layered()
    assert nxbackend.BackendInterface.convert_from_nx(G) is G
    nx.config.warnings_to_ignore = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            nx.pagerank(G, weight="activation", backend="innersight")
    assert nxbackend.BackendInterface.convert_to_nx(G) is G
    K = nx.path_graph(3)
    assert nxbackend.BackendInterface.convert_to_nx(nxbackend.BackendInterface.convert_from_nx(K)) is K


def test_networkx_prefers_it_only_where_it_gains() -> None:
    should, can = nxbackend.BackendInterface.should_run, nxbackend.BackendInterface.can_run
    K = nx.path_graph(3)
    assert should("pagerank", (layered(),), {}) is True
    assert isinstance(should("pagerank", (K,), {}), str)
    assert should("leiden_communities", (K,), {}) is True
    assert isinstance(should("louvain_communities", (K,), {}), str)
    assert should("louvain_communities", (nx.complete_graph(150),), {}) is True
    assert isinstance(can("is_negatively_weighted", (K, (0, 1)), {}), str)
    assert can("is_negatively_weighted", (K, None, "weight"), {}) is True
    assert isinstance(can("to_numpy_array", (K,), {"dtype": np.dtype([("a", float)])}), str)
    assert isinstance(can("to_numpy_array", (nx.MultiGraph(),), {"multigraph_weight": max}), str)
    assert can("to_numpy_array", (K,), {}) is True


def test_a_priority_sends_our_graph_here_and_leaves_the_rest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    G, K = layered(), nx.path_graph(4)
    called: list[str] = []

    def note(name: str) -> Any:
        real = getattr(nxbackend.BackendInterface, name)
        return staticmethod(lambda *args, **options: called.append(name) or real(*args, **options))

    for name in ("pagerank", "degree_centrality"):
        monkeypatch.setattr(nxbackend.BackendInterface, name, note(name))
    with nx.config(backend_priority=["innersight"]):
        assert nx.pagerank(G, weight="activation") == nx.pagerank(G, weight="activation", backend="innersight")
        assert len(called) == 2
        assert nx.pagerank(K) == nx.pagerank(K, backend="networkx")
        assert nx.shortest_path(G, ("a", 0), ("b", 1))
        assert nx.degree_centrality(K)
    assert called == ["pagerank", "pagerank"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.3, 0.8]), st.booleans())
def test_random_graphs_get_networkxs_answers(seed: int, share: float, frozen: bool) -> None:
    rng = np.random.default_rng(seed)
    D = nx.gnp_random_graph(int(rng.integers(1, 12)), share, seed=seed, directed=True)
    D.add_edges_from((n, n) for n in D if rng.random() < 0.2)
    for u, v in D.edges:
        D.edges[u, v]["weight"] = float(rng.integers(0, 4))
    G = mirror(D) if frozen else D
    assert nx.pagerank(G, backend="innersight") == pytest.approx(nx.pagerank(D), abs=1e-6)
    assert nx.degree_centrality(G, backend="innersight") == nx.degree_centrality(D)
    assert nx.reciprocity(G, list(D), backend="innersight") == nx.reciprocity(D, list(D))
    assert np.array_equal(nx.to_numpy_array(G, backend="innersight"), nx.to_numpy_array(D))
    communities = [{n for n in D if n % 3 == k} for k in range(3)]
    communities = [community for community in communities if community]
    if sum(w for _, _, w in D.edges(data="weight")):
        expected = nx.community.modularity(D, communities)
        assert nx.community.modularity(G, communities, backend="innersight") == pytest.approx(expected, abs=1e-12)


@pytest.mark.gpu
def test_cugraph_itself_finds_planted_groups() -> None:
    pytest.importorskip("nx_cugraph")
    G = nx.planted_partition_graph(4, 50, 0.6, 0.02, seed=1)
    truth = sorted(list(range(50 * i, 50 * (i + 1))) for i in range(4))
    for P in (
        louvain_communities(G, scope="graph", sign="positive", backend="cugraph"),
        leiden_communities(G, scope="graph", sign="positive", backend="cugraph", seed=0),
    ):
        assert sorted(map(sorted, P)) == truth


# ---------------------------------------------------------------------- the same answers


CALLS: dict[str, Any] = {
    "degree_centrality": lambda G, **b: nx.degree_centrality(G, **b),
    "in_degree_centrality": lambda G, **b: nx.in_degree_centrality(G, **b),
    "out_degree_centrality": lambda G, **b: nx.out_degree_centrality(G, **b),
    "number_of_selfloops": lambda G, **b: nx.number_of_selfloops(G, **b),
    "is_negatively_weighted": lambda G, **b: nx.is_negatively_weighted(G, **b),
    "to_numpy_array": lambda G, **b: nx.to_numpy_array(G, **b).tolist(),
    "to_numpy_array, unweighted": lambda G, **b: nx.to_numpy_array(G, weight=None, nonedge=-1.0, **b).tolist(),
    "to_numpy_array, some": lambda G, **b: nx.to_numpy_array(G, nodelist=list(G)[1::-1], dtype=np.float32,
    **b).tolist(),
    "to_scipy_sparse_array": lambda G, **b: nx.to_scipy_sparse_array(G, **b).toarray().tolist(),
    "to_scipy_sparse_array, some": lambda G, **b: nx.to_scipy_sparse_array(
        G, nodelist=list(G)[1::2], format="coo", dtype=int, weight=None, **b
    ).toarray().tolist(),
    "unknown attribute": lambda G, **b: nx.to_scipy_sparse_array(G, weight="nothing", **b).toarray().tolist(),
    "pagerank": lambda G, **b: nx.pagerank(G, weight=None, **b),
    "pagerank, all options": lambda G, **b: nx.pagerank(
        G, alpha=0.7, personalization={n: i for i, n in enumerate(G)}, nstart=dict.fromkeys(G, 1), weight="activation",
        dangling={next(iter(G)): 1}, tol=1e-9, max_iter=500, **b,
    ),
    "reciprocity": lambda G, **b: nx.reciprocity(G, **b),
    "reciprocity of some": lambda G, **b: nx.reciprocity(G, list(G)[:3], **b),
    "reciprocity of one": lambda G, **b: nx.reciprocity(G, next(iter(G)), **b),
    "overall_reciprocity": lambda G, **b: nx.overall_reciprocity(G, **b),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_every_function_gives_what_networkx_gives(call: str, graph: nx.Graph) -> None:
    if call.split(",")[0] == "number_of_selfloops" not in nx.utils.backends._registered_algorithms:
        pytest.skip("this release of NetworkX does not dispatch it")
    if "reciprocity" in call and (graph.is_multigraph() or not graph.is_directed()):
        with pytest.raises((NotImplementedError, nx.NetworkXNotImplemented)):
            CALLS[call](graph, backend="innersight")
        return
    try:
        expected = CALLS[call](graph.copy() if isinstance(graph, LayeredDiGraph) else graph, backend="networkx")
    except nx.NetworkXNotImplemented:
        with pytest.raises(nx.NetworkXNotImplemented):
            CALLS[call](graph, backend="innersight")
        return
    found = CALLS[call](graph, backend="innersight")
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        assert found == pytest.approx(expected, abs=1e-9)
    else:
        assert np.array(found) == pytest.approx(np.array(expected), rel=1e-6)
    assert not any(isinstance(value, np.generic) for value in (found.values() if isinstance(found, dict) else [found]))


def test_errors_are_networkxs_own() -> None:
    G, empty = layered(), nx.DiGraph()
    for call in (
        lambda **b: nx.to_scipy_sparse_array(G, format="other", **b),
        lambda **b: nx.to_scipy_sparse_array(G, nodelist=["stranger"], **b),
        lambda **b: nx.to_numpy_array(G, nodelist=[("a", 0), ("a", 0)], **b),
        lambda **b: nx.to_scipy_sparse_array(G, nodelist=[], **b),
        lambda **b: nx.to_scipy_sparse_array(empty, **b),
        lambda **b: nx.overall_reciprocity(nx.empty_graph(2, nx.DiGraph), **b),
        lambda **b: nx.reciprocity(nx.empty_graph(2, nx.DiGraph), 0, **b),
        lambda **b: nx.pagerank(G, weight=None, max_iter=1, tol=1e-12, **b),
        lambda **b: nx.community.modularity(G, [{("a", 0)}], weight=None, **b),
    ):
        for backend in ("networkx", "innersight"):
            with pytest.raises(nx.NetworkXException):
                call(backend=backend)
    for backend in ("networkx", "innersight"):
        with pytest.raises(ZeroDivisionError):
            nx.pagerank(G, weight=None, personalization={("a", 0): 0}, backend=backend)
        assert nx.pagerank(empty, backend=backend) == {}
        assert nx.to_numpy_array(empty, backend=backend).shape == (0, 0)
        assert nx.degree_centrality(nx.empty_graph(1), backend=backend) == {0: 1}


# ---------------------------------------------------------------------- communities


@pytest.mark.parametrize("name", ["directed", "undirected", "loops", "multi"])
def test_modularity_equals_networkx(name: str) -> None:
    G = graphs()[name]
    communities = [set(list(G)[::2]), set(list(G)[1::2])]
    for weight in ("weight", None):
        for resolution in (0.5, 1, 2):
            options = {"weight": weight, "resolution": resolution}
            expected = nx.community.modularity(G, communities, **options, backend="networkx")
            assert nx.community.modularity(G, communities, **options, backend="innersight") == pytest.approx(
                expected, abs=1e-12
            )


def test_raw_signed_weights_in_an_unsigned_objective_name_the_choices() -> None:
    G = layered()
    H = G.to_undirected()
    cover = [set(G.nodes_of(name)) for name in "abc"]
    for call in (
        lambda: nx.community.modularity(G, cover, backend="innersight"),
        lambda: nx.community.louvain_communities(G, backend="innersight", seed=0),
        lambda: list(nx.community.louvain_partitions(G, backend="innersight", seed=0)),
        lambda: leiden(H, backend="innersight", seed=0),
        lambda: nx.pagerank(G, backend="innersight"),
    ):
        with pytest.raises(InputError, match=r"(?s)negative weights.*weight='activation'"):
            call()
    for sign in ("signed", "positive", "absolute"):
        assert -1 <= nx.community.modularity(G, cover, backend="innersight", sign=sign) <= 1
        assert nx.community.is_partition(
            G, nx.community.louvain_communities(G, backend="innersight", sign=sign, seed=0)
        )
        assert nx.community.is_partition(H, leiden(H, backend="innersight", sign=sign, seed=0))
    with pytest.raises(InputError, match="sign='other'"):
        nx.community.modularity(G, cover, backend="innersight", sign="other")


def test_signed_modularity_is_that_of_gomez() -> None:
    G = layered()
    cover = [set(list(G)[::3]), set(list(G)[1::3]), set(list(G)[2::3])]
    A = nx.to_numpy_array(G)
    labels = np.arange(len(G)) % 3
    numerator, total = 0.0, 0.0
    for sign in (1, -1):
        W = np.maximum(sign * A, 0)
        expected = np.outer(W.sum(axis=1), W.sum(axis=0)) / W.sum()
        numerator += sign * ((W - expected) * (labels[:, None] == labels)).sum()
        total += W.sum()
    found = nx.community.modularity(G, cover, backend="innersight", sign="signed")
    assert found == pytest.approx(numerator / total, abs=1e-10)


@pytest.mark.skipif(not HAS_LEIDEN, reason="this release of NetworkX has no Leiden, not even the name")
def test_leiden_works_where_networkx_has_only_the_name() -> None:
    K = nx.karate_club_graph()
    # Release 3.7 has an algorithm of its own, with another default objective.
    known = inspect.signature(nx.community.leiden_communities).parameters
    options = {"metric": "modularity"} if "metric" in known else {}
    found = nx.community.leiden_communities(K, backend="innersight", seed=1, **options)
    assert nx.community.is_partition(K, found)
    assert nx.community.modularity(K, found) > 0.41
    assert found == nx.community.leiden_communities(K, backend="innersight", seed=1, **options)
    levels = list(nx.community.leiden_partitions(K, backend="innersight", seed=1, **options))
    assert levels[-1] == found
    assert nx.community.leiden_communities(K, backend="innersight", seed=1, max_level=1, **options) == levels[0]
    qualities = [nx.community.modularity(K, level) for level in levels]
    assert qualities == sorted(qualities)
    singles = nx.community.leiden_communities(
        K, backend="innersight", weight=None, resolution=1.01, metric="cpm", seed=0
    )
    assert len(singles) == len(K)
    for kind in (InputError, nx.NetworkXError):
        with pytest.raises(kind, match="metric"):
            nx.community.leiden_communities(K, backend="innersight", metric="other")
    # What is meant by no objective at all is up to NetworkX: release 3.7 means the Potts model.
    default = known["metric"].default if "metric" in known else "modularity"
    assert nx.community.leiden_communities(K, backend="innersight", seed=2) == nx.community.leiden_communities(
        K, backend="innersight", seed=2, metric=default
    )


def test_large_graphs_take_the_fast_way_to_the_same_groups() -> None:
    groups = [range(i * 80, (i + 1) * 80) for i in range(4)]
    for directed in (False, True):
        G = nx.planted_partition_graph(4, 80, 0.9, 0.05, seed=1, directed=directed)
        assert G.number_of_edges() > 10_000
        found = nx.community.louvain_communities(G, backend="innersight", seed=0)
        assert sorted(map(sorted, found)) == [list(group) for group in groups]
        assert len(nx.community.louvain_communities(G, backend="innersight", seed=0, max_level=1)) >= 4


# ---------------------------------------------------------------------- our detectors as dispatchables


def test_every_detector_is_a_dispatchable() -> None:
    assert set(detector_names()) == set(methods()) - {"consensus"}  # which takes partitions, too
    for name in detector_names():
        function = getattr(nxbackend, f"innersight_{name}_communities")
        assert function.name == f"innersight_{name}_communities"
        assert pickle.loads(pickle.dumps(function)) is function
        assert "Backends" in function.__doc__
        assert "innersight" in function.backends


def test_dispatchables_return_sets_of_the_graphs_own_nodes() -> None:
    K = nx.relabel_nodes(nx.karate_club_graph(), str)
    for backend in (None, "networkx", "innersight"):
        found = nxbackend.innersight_louvain_communities(K, scope="graph", seed=0, backend=backend)
        assert type(found) is list
        assert all(type(community) is set for community in found)
        assert nx.community.is_partition(K, found)
    G = layered()
    assert nxbackend.innersight_random_communities(G, 2, seed=0, backend="innersight")


def test_the_guard_notices_when_networkx_renames_its_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hasattr(nx, "_dispatchable")
    monkeypatch.delattr(nx, "_dispatchable")
    assert _dispatchable("innersight_other_communities")(len) is len


# ---------------------------------------------------------------------- cuGraph, by a stand-in

STAND_IN = """
import networkx as nx

calls = []


def note(name, G, weight, resolution, seed, **rest):
    weights = [w for _, _, w in G.edges(data=weight)]
    loops = sum(u == v for u, v in G.edges())
    calls.append({
        "name": name, "class": type(G).__name__, "nodes": sorted(G), "loops": loops, "least": min(weights),
        "total": sum(weights), "resolution": resolution, "seed": seed and seed.random(), **rest,
    })
    nodes = sorted(G, reverse=True)
    return [set(nodes[::2]), set(nodes[1::2])]


class Interface:
    @staticmethod
    def louvain_communities(G, weight="weight", resolution=1, threshold=1e-7, max_level=None, seed=None):
        return note("louvain", G, weight, resolution, None)

    @staticmethod
    def leiden_communities(G, weight="weight", resolution=1, max_level=None, seed=None, **rest):
        return note("leiden", G, weight, resolution, seed, **rest)

    @staticmethod
    def convert_from_nx(graph, **options):
        return graph

    @staticmethod
    def convert_to_nx(obj, **options):
        return obj


def info():
    return {"functions": {"louvain_communities": {}, "leiden_communities": {}}}
"""

SCRIPT = """
import json, networkx as nx, innersight_graph as isg, cugraph_stand_in
from innersight_graph.graph.layered import Layer, LayeredDiGraph
D = nx.DiGraph()
D.add_weighted_edges_from([("x", "y", 2.0), ("y", "x", 1.0), ("y", "z", -4.0), ("z", "z", 5.0), ("w", "z", 3.0)])
found = {}
for name in ("louvain", "leiden"):
    f = getattr(isg, name + "_communities")
    for sign in ("positive", "absolute"):
        P = f(D, scope="graph", sign=sign, backend="cugraph", resolution=1.5, n_init=2)
        found[name + " " + sign] = [sorted(c) for c in P]
    for options in ({"sign": "signed"}, {"sign": "positive", "seed": 3}, {"sign": "positive", "seed": 3}):
        try:
            f(D, scope="graph", backend="cugraph", n_init=1, **options)
            found[name + str(options)] = "ran"
        except isg.InputError as error:
            found[name + str(options)] = str(error)
print(json.dumps({"found": found, "calls": cugraph_stand_in.calls}))
"""


@pytest.mark.skipif(not HAS_LEIDEN, reason="this release of NetworkX has no Leiden, which the stand-in serves too")
def test_cugraph_is_reached_through_networkx_dispatch(tmp_path: Path) -> None:
    if any(e.name == "cugraph" for e in entry_points(group="networkx.backends")):
        pytest.skip("nx-cugraph itself is installed")
    (tmp_path / "cugraph_stand_in.py").write_text(STAND_IN)
    info = tmp_path / "cugraph_stand_in-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cugraph-stand-in\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[networkx.backends]\ncugraph = cugraph_stand_in:Interface\n[networkx.backend_info]\ncugraph = "
        "cugraph_stand_in:info\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(HERE.parent)])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for call in result["calls"]:
        # integers, undirected, no loops, both directions added, no negative weight
        assert (call["class"], call["nodes"], call["loops"]) == ("Graph", [0, 1, 2, 3], 0)
        assert call["least"] > 0
    totals = {call["total"] for call in result["calls"]}
    assert totals == {6.0, 10.0}
    found = result["found"]
    # The stand-in joins nodes 0 and 2, 1 and 3; these are x and z, y and w.
    assert found["louvain positive"] == found["leiden absolute"] == [["x", "z"], ["w", "y"]]
    for name in ("louvain", "leiden"):
        assert sorted(node for community in found[f"{name} positive"] for node in community) == ["w", "x", "y", "z"]
        assert "sign='positive'" in found[name + str({"sign": "signed"})]
    assert "seed=3" in found["louvain" + str({"sign": "positive", "seed": 3})]
    assert found["leiden" + str({"sign": "positive", "seed": 3})] == "ran"
    seeds = [call["seed"] for call in result["calls"] if call["name"] == "leiden"]
    assert seeds[-1] == seeds[-2]
    assert len(set(seeds)) == len(seeds) - 1
