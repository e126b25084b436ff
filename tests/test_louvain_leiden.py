"""Louvain and Leiden on signed modularity, against dense formulas, exhaustive search and planted groups."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from innersight_graph.detection import detect, methods
from innersight_graph.detection._modular import objective
from innersight_graph.detection.leiden import leiden_communities, leiden_levels
from innersight_graph.detection.louvain import louvain_communities, louvain_levels
from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.graph.profiles import binarize, project_layer, projection
from innersight_graph.partition import Partition

BOTH = pytest.mark.parametrize("method", [louvain_communities, leiden_communities])


def signed_modularity(A: np.ndarray, labels: np.ndarray, resolution: float = 1.0) -> float:
    """Gómez, Jensen & Arenas (2009), term by term over all pairs of nodes; A symmetric or directed."""
    together = labels[:, None] == labels
    numerator, total = 0.0, 0.0
    for sign in (1.0, -1.0):
        W = np.maximum(sign * A, 0.0)
        m = W.sum()
        if m:
            numerator += sign * ((W - resolution * np.outer(W.sum(axis=1), W.sum(axis=0)) / m) * together).sum()
            total += m
    return numerator / total if total else 0.0


def planted(seed: int = 0, groups: int = 3, noise: float = 0.05) -> tuple[LayeredDiGraph, np.ndarray]:
    """A hidden layer whose groups share the signs of their connections, magnitudes saying nothing."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(24) % groups)
    signs_in, signs_out = (rng.choice([-1.0, 1.0], size=(groups, width)) for width in (20, 16))
    flip = lambda shape: np.where(rng.random(shape) < noise, -1.0, 1.0)  # noqa: E731
    into = (signs_in[truth] * rng.uniform(0.5, 1.5, (24, 20)) * flip((24, 20))).T
    out = signs_out[truth] * rng.uniform(0.5, 1.5, (24, 16)) * flip((24, 16))
    layers = [Layer("input", 0, 20, "input"), Layer("fc", 1, 24, "linear"), Layer("out", 2, 16, "linear")]
    return LayeredDiGraph.from_arrays(layers, {("input", "fc"): into, ("fc", "out"): out}), truth


def labellings(n: int) -> Iterator[list[int]]:
    """Every way to group n nodes, once."""
    if n == 0:
        yield []
        return
    for rest in labellings(n - 1):
        yield from ([*rest, k] for k in range(max(rest, default=-1) + 2))


# ---------------------------------------------------------------------- the objective


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([0.3, 1.0, 2.0]))
def test_the_objective_is_signed_modularity(seed: int, directed: bool, resolution: float) -> None:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(7, 7)) * (rng.random((7, 7)) < 0.6)
    A = A if directed else A + A.T
    labels = rng.integers(0, 3, 7)
    target = objective(A, "signed", directed=directed, resolution=resolution)
    assert target.value(labels) == pytest.approx(signed_modularity(A, labels, resolution), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_without_signs_it_is_networkxs_modularity(seed: int, directed: bool) -> None:
    G = nx.gnp_random_graph(9, 0.4, seed=seed, directed=directed)
    G.add_edge(0, 1)
    G.add_edge(2, 2)
    A = nx.to_numpy_array(G)
    if not directed:
        A += np.diag(A.diagonal())
    labels = np.random.default_rng(seed).integers(0, 3, 9)
    labels = np.unique(labels, return_inverse=True)[1]
    communities = [set(np.flatnonzero(labels == k).tolist()) for k in range(labels.max() + 1)]
    value = objective(A, "signed", directed=directed, resolution=1.3).value(labels)
    assert value == pytest.approx(nx.community.modularity(G, communities, resolution=1.3), abs=1e-12)


@pytest.mark.parametrize("directed", [False, True])
def test_levels_never_lose_and_reach_the_best_labelling_of_small_graphs(directed: bool) -> None:
    reached = {"louvain": 0, "leiden": 0}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        A = rng.normal(size=(6, 6)) * (rng.random((6, 6)) < 0.8)
        np.fill_diagonal(A, 0.0)
        A = A if directed else A + A.T
        target = objective(A, "signed", directed=directed, resolution=1.0)
        best = max(target.value(np.array(labels)) for labels in labellings(6))
        for name, levels in (
            ("louvain", lambda s, t=target: louvain_levels(t, np.random.default_rng(s))),
            ("leiden", lambda s, t=target: leiden_levels(t, s)),
        ):
            values = [[target.value(labels) for labels in levels(start)] for start in range(8)]
            assert all(v == sorted(v) or np.allclose(np.sort(v), v) for v in values)
            reached[name] += max(v[-1] for v in values) == pytest.approx(best, abs=1e-9)
    assert min(reached.values()) >= 5


# ---------------------------------------------------------------------- on layers


@BOTH
def test_planted_groups_come_back_from_the_signs(method: Any) -> None:
    G, truth = planted()
    P = method(G, density=1.0, seed=0)
    assert adjusted_rand_score(P.labels("fc"), truth) == 1.0
    assert P.stats["fc"]["n_communities"] == 3
    assert P.stats["fc"]["stability"] == 1.0
    blind = method(G, density=1.0, sign="absolute", seed=0)
    assert adjusted_rand_score(blind.labels("fc"), truth) < 0.2


@BOTH
@pytest.mark.parametrize("sign", ["signed", "positive", "absolute"])
def test_the_reported_modularity_is_that_of_the_projection(method: Any, sign: str) -> None:
    G, _ = planted(noise=0.2)
    P = method(G, sign=sign, seed=1, resolution=1.1)
    U = projection(binarize(G, "fc"), sign if sign != "absolute" else "positive")
    if sign == "absolute":
        strong = binarize(G, "fc")
        B = np.hstack(
            [strong.activation_in | strong.inhibition_in, strong.activation_out | strong.inhibition_out]
        ).astype(float)
        U = B @ B.T - np.diag((B**2).sum(axis=1))
    assert P.stats["fc"]["modularity"] == pytest.approx(signed_modularity(U, P.labels("fc"), 1.1), abs=1e-10)


@BOTH
@pytest.mark.parametrize("sign", ["signed", "positive", "absolute"])
def test_the_whole_graph_is_grouped_by_its_signed_weights_and_cut_by_layer(method: Any, sign: str) -> None:
    G, _ = planted(noise=0.1)
    P = method(G, scope="graph", sign=sign, gauge="none", seed=0)
    everything = method(G, scope="graph", sign=sign, gauge="none", seed=0, layers=["input", "fc", "out"])
    assert everything.labels("fc").tolist() == P.labels("fc").tolist()
    assert P.layers == ("fc",)
    A = nx.to_numpy_array(G)
    A = {"signed": A, "positive": np.maximum(A, 0), "absolute": np.abs(A)}[sign]
    # the cut by layer loses which parts belonged together, so compare with the best joining of the parts
    reported = P.stats["fc"]["modularity"]
    assert reported == everything.stats["out"]["modularity"]
    assert reported >= signed_modularity(
        A, np.concatenate([everything.labels(n) + 100 * i for i, n in enumerate(everything.layers)])
    )


@BOTH
def test_gates_and_silent_neurons_are_left_out(method: Any) -> None:
    G, truth = planted()
    W = dict(G.connections)
    silent = np.arange(24) < 5
    H = LayeredDiGraph.from_arrays(G.layers, W, node_attributes={"fc": {"silent": silent}})
    for scope in ("layer", "graph"):
        P = method(H, scope=scope, density=1.0, seed=0)
        assert P[P.stats["fc"]["silent"]] == {("fc", i) for i in range(5)}
    P = method(H, density=1.0, seed=0)
    assert adjusted_rand_score(P.labels("fc")[5:], truth[5:]) == 1.0
    gated = LayeredDiGraph.from_arrays(G.layers, W, kinds={("input", "fc"): "gate"})
    alone = LayeredDiGraph.from_arrays(G.layers, {("fc", "out"): W["fc", "out"]})
    for scope in ("layer", "graph"):
        assert method(gated, scope=scope, layers="fc", gauge="none", seed=0) == method(
            alone, scope=scope, layers="fc", gauge="none", seed=0
        )


@BOTH
def test_rescaling_hidden_neurons_changes_nothing(method: Any) -> None:
    G, _ = planted(noise=0.2)
    factor = 2.0 ** np.random.default_rng(0).integers(-4, 5, 24)
    W = {("input", "fc"): G.matrix("input", "fc") * factor, ("fc", "out"): G.matrix("fc", "out") / factor[:, None]}
    H = LayeredDiGraph.from_arrays(G.layers, W)
    for scope in ("layer", "graph"):
        assert method(G, scope=scope, seed=0) == method(H, scope=scope, seed=0)
    assert method(G, gauge="none", seed=0) != method(H, gauge="none", seed=0)


@BOTH
def test_plain_graphs_go_in_as_they_are(method: Any) -> None:
    K = nx.karate_club_graph()
    P = method(K, scope="graph", seed=0)
    assert nx.community.is_partition(K, P)
    best = max(nx.community.modularity(K, nx.community.louvain_communities(K, seed=s)) for s in range(10))
    assert P.stats["graph"]["modularity"] == pytest.approx(nx.community.modularity(K, P), abs=1e-12)
    assert P.stats["graph"]["modularity"] >= best - 1e-12
    G, _ = planted()
    assert method(G.to_networkx(), seed=0) == method(G, seed=0)


@BOTH
def test_loops_isolated_nodes_and_empty_graphs_are_fine(method: Any) -> None:
    K = nx.Graph([(0, 0), (0, 1), (1, 2), (3, 3)])
    K.add_nodes_from([8, 9])
    for scope in ("layer", "graph"):
        assert nx.community.is_partition(K, method(K, scope=scope, seed=0))
        assert nx.community.is_partition(nx.empty_graph(3), method(nx.empty_graph(3), scope=scope, seed=0))
        assert len(method(nx.empty_graph(1), scope=scope, seed=0)) == 1
    P = method(K, scope="graph", seed=0)
    assert P.stats["graph"]["modularity"] == pytest.approx(nx.community.modularity(K, P), abs=1e-12)


@BOTH
def test_seeds_repeat_and_are_recorded(method: Any) -> None:
    G, _ = planted(noise=0.4)
    P = method(G, seed=3)
    assert P.to_json() == method(G, seed=3).to_json()
    free = method(G)
    assert free.to_json() == method(G, seed=free.seed).to_json()
    assert P.params["n_init"] == 10
    assert 0 <= P.stats["fc"]["stability"] <= 1
    assert method(G, seed=3, n_init=1).stats["fc"]["stability"] is None


@BOTH
def test_more_starts_are_never_worse(method: Any) -> None:
    G, _ = planted(noise=0.45)
    values = [method(G, seed=0, n_init=n).stats["fc"]["modularity"] for n in (1, 3, 10)]
    assert values == sorted(values)


@BOTH
@pytest.mark.parametrize(
    "options",
    [
        {"scope": "world"}, {"sign": "none"}, {"resolution": -1}, {"resolution": float("nan")}, {"n_init": 0},
        {"layers": "z"},
        {"density": 0}, {"gauge": "x"}, {"seed": -1}, {"backend": "nobody", "sign": "positive"},
    ],
)  # fmt: skip
def test_bad_options_are_refused(method: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        method(planted()[0], **options)


def test_leiden_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "leidenalg", None)
    with pytest.raises(MissingExtraError, match=r"innersight-graph\[leiden\]"):
        leiden_communities(nx.path_graph(3), seed=0)
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(MissingExtraError, match=r"innersight-graph\[leiden\]"):
        louvain_communities(nx.path_graph(3), sign="positive", backend="igraph")


# ---------------------------------------------------------------------- other optimisers


@BOTH
def test_igraph_optimises_the_same_unsigned_objective(method: Any) -> None:
    K = nx.karate_club_graph()
    P = method(K, scope="graph", sign="positive", backend="igraph", seed=0)
    assert P.stats["graph"]["modularity"] == pytest.approx(nx.community.modularity(K, P), abs=1e-12)
    assert method(K, scope="graph", sign="positive", backend="igraph", seed=0) == P
    with pytest.raises(InputError, match="sign='positive'"):
        method(K, backend="igraph", seed=0)


def test_igraph_leaves_pythons_random_numbers_alone() -> None:
    import random

    random.seed(0)
    before = random.getstate()
    louvain_communities(nx.karate_club_graph(), sign="positive", backend="igraph", seed=0)
    assert random.getstate() == before


def test_networkx_itself_is_a_backend() -> None:
    K = nx.karate_club_graph()
    P = louvain_communities(K, scope="graph", sign="positive", backend="networkx", seed=0)
    assert P.stats["graph"]["modularity"] > 0.44
    native = hasattr(nx.community, "leiden_communities") and "networkx" in nx.community.leiden_communities.backends
    if not native:
        with pytest.raises(InputError, match="has no leiden"):
            leiden_communities(K, sign="positive", backend="networkx", seed=0)


def test_a_networkx_with_a_leiden_of_its_own_is_asked_for_modularity(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def native(
        G: nx.Graph, *, weight: str, resolution: float, seed: Any = None, metric: str = "cpm", **rest: Any
    ) -> Any:
        asked.append({"weight": weight, "resolution": resolution, "seed": seed, "metric": metric, **rest})
        return nx.community.louvain_communities(G, weight=weight, resolution=resolution, seed=seed)

    monkeypatch.setattr(nx.community, "leiden_communities", native, raising=False)
    P = leiden_communities(nx.karate_club_graph(), scope="graph", sign="positive", backend="networkx", n_init=1, seed=0)
    assert nx.community.is_partition(nx.karate_club_graph(), P)
    expected = {"weight": "weight", "resolution": 1.0, "metric": "modularity", "backend": "networkx"}
    assert {name: value for name, value in asked[0].items() if name != "seed"} == expected
    assert isinstance(asked[0]["seed"], int)


def test_cugraph_is_named_by_its_extra_where_it_is_missing() -> None:
    if "cugraph" in nx.utils.backends.backends:
        pytest.skip("nx-cugraph is installed")
    with pytest.raises(MissingExtraError, match=r"cugraph13"):
        leiden_communities(nx.path_graph(3), sign="positive", backend="cugraph")


# ---------------------------------------------------------------------- by name, and in other processes


def test_detect_finds_methods_by_file_name() -> None:
    assert {"louvain", "leiden"} <= set(methods())
    G, _ = planted()
    assert detect(G, "louvain", seed=0) == louvain_communities(G, seed=0)
    assert detect(nx.karate_club_graph(), nx.community.louvain_communities, seed=0).method == "given"
    assert isinstance(detect(G, leiden_communities, seed=0), Partition)
    with pytest.raises(InputError, match=r"takes no option 'speed'.*resolution"):
        detect(G, "louvain", speed=3)
    for wrong in ("nobody", "_layers", "os.path", "", 3):
        with pytest.raises(InputError, match="louvain"):
            detect(G, wrong)


def test_the_same_seed_gives_the_same_partition_in_another_process() -> None:
    code = (
        "import networkx as nx, innersight_graph as isg\n"
        "G = nx.relabel_nodes(nx.les_miserables_graph(), str)\n"
        "for f in (isg.louvain_communities, isg.leiden_communities):\n"
        "    for scope in ('layer', 'graph'):\n"
        "        print(f(G, scope=scope, seed=5, n_init=3).to_json())\n"
        "print(sorted(map(sorted, nx.community.louvain_communities(G, backend='innersight', sign='signed', seed=1))))\n"
        "if hasattr(nx.community, 'leiden_communities'):\n"
        "    print(sorted(map(sorted, nx.community.leiden_communities(G, backend='innersight', seed=1))))\n"
    )
    outputs = set()
    for hash_seed in (0, 1):
        environment = {"PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
        )
        outputs.add(run.stdout)
    assert len(outputs) == 1


def test_projections_of_the_graph_and_of_networkx_agree() -> None:
    G, _ = planted(noise=0.3)
    U = project_layer(G, "fc", sign="positive")
    P = louvain_communities(G, sign="positive", seed=0)
    assert P.stats["fc"]["modularity"] == pytest.approx(nx.community.modularity(U, P), abs=1e-12)
