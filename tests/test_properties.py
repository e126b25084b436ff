"""What must hold for every graph, threshold, partition and mixture, tried on random ones."""

from __future__ import annotations

import inspect
import itertools
import pickle
import tempfile
import warnings
from math import ceil
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from exploring import SEEDS, budgets, explore, is_told, labelled, layered, options, plain_graphs, tables
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

import innersight_graph as isg
from innersight_graph.errors import InnerSightError
from innersight_graph.graph.profiles import projection
from innersight_graph.graph.streams import distinct_sources, repeated_readings

NORMAL = st.floats(-8, 8, width=32).filter(lambda w: w == 0 or abs(w) > 1e-3)


def dense(matrix: Any) -> Any:
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def same_graph(G: isg.LayeredDiGraph, H: isg.LayeredDiGraph) -> None:
    assert G.layers == H.layers
    assert list(G) == list(H)
    assert [type(node) for node in G] == [type(node) for node in H]
    assert dict(G.kinds) == dict(H.kinds)
    assert list(G.connections) == list(H.connections)
    for pair in G.connections:
        assert sparse.issparse(G.connections[pair]) == sparse.issparse(H.connections[pair])
        np.testing.assert_array_equal(dense(G.connections[pair]), dense(H.connections[pair]))
    assert dict(G.nodes(data=True)) == dict(H.nodes(data=True))
    assert G.graph == H.graph


# ---------------------------------------------------------------------- graphs


@budgets
def test_a_graph_equals_the_plain_graph_made_edge_by_edge(budget: int) -> None:
    def claim(G: isg.LayeredDiGraph) -> None:
        D = nx.DiGraph()
        for layer in G.layers:
            silent = G.node_attributes.get(layer.name, {}).get("silent")
            for i, node in enumerate(G.nodes_of(layer.name)):
                more = {} if silent is None else {"silent": bool(silent[i])}
                D.add_node(node, layer=layer.name, index=i, subset=layer.depth, kind=layer.kind, **more)
        for (s, t), matrix in G.connections.items():
            value = G.kinds[s, t] == "value"
            for i, j in zip(*np.nonzero(dense(matrix)), strict=True):
                w = float(dense(matrix)[i, j])
                parts = {"activation": max(w, 0.0) * value, "inhibition": max(-w, 0.0) * value}
                D.add_edge(G.nodes_of(s)[i], G.nodes_of(t)[j], weight=w, kind=G.kinds[s, t], **parts)
        assert dict(G.nodes(data=True)) == dict(D.nodes(data=True))
        assert {(u, v): d for u, v, d in G.edges(data=True)} == {(u, v): d for u, v, d in D.edges(data=True)}
        assert {v: set(G.pred[v]) for v in G} == {v: set(D.pred[v]) for v in D}
        assert dict(G.degree(weight="activation")) == pytest.approx(dict(D.degree(weight="activation")))
        assert G.number_of_edges() == D.number_of_edges()
        assert dict(G.in_degree()) == dict(D.in_degree())
        assert nx.utils.graphs_equal(G.copy(), G)

    explore(claim, budget, G=layered())


@budgets
def test_files_and_copies_keep_a_graph(budget: int) -> None:
    def claim(G: isg.LayeredDiGraph) -> None:
        same_graph(G, pickle.loads(pickle.dumps(G)))
        with tempfile.TemporaryDirectory() as folder:
            first, second = Path(folder, "é.npz"), Path(folder, "b.npz")
            G.save(first)
            H = isg.LayeredDiGraph.load(first)
            same_graph(G, H)
            H.save(second)
            assert first.read_bytes() == second.read_bytes()

    explore(claim, budget, G=layered())


@budgets
def test_text_formats_keep_layers_and_weights(budget: int) -> None:
    def claim(G: isg.LayeredDiGraph, suffix: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "g" + suffix)
            isg.write_graph(G, path)
            H = isg.read_graph(path)
        assert [layer.name for layer in H.layers] == [layer.name for layer in G.layers]
        assert [layer.width for layer in H.layers] == [layer.width for layer in G.layers]
        for pair, matrix in G.connections.items():
            if np.any(dense(matrix)):
                np.testing.assert_array_equal(dense(H.connections[pair]), dense(matrix))

    explore(claim, budget, G=layered(plain=True), suffix=st.sampled_from([".graphml", ".gexf", ".json"]))


@budgets
def test_any_networkx_graph_is_one_layer_with_its_adjacency(budget: int) -> None:
    def claim(K: nx.Graph) -> None:
        G = isg.as_layered(K)
        assert list(G) == list(K)
        expected = nx.to_numpy_array(K, weight="weight")
        if not K.is_directed() and not K.is_multigraph():
            assert np.array_equal(expected, expected.T)
        np.testing.assert_allclose(dense(G.matrix("graph", "graph")), expected)
        assert G.graph["directed"] is K.is_directed()

    explore(claim, budget, K=plain_graphs())


def carrying(G: isg.LayeredDiGraph) -> set[Any]:
    """Return the neurons on a path from a layer without sources to a layer without targets."""
    nodes, start, first, last = list(G), 0, set(), set()
    for x in G.layers:
        own = nodes[start : start + x.width]
        first |= set(own) if not set(G.incoming(x.name)) - {x.name} else set()
        last |= set(own) if not set(G.outgoing(x.name)) - {x.name} else set()
        start += x.width
    reached = first.union(*(nx.descendants(G, node) for node in first))
    return reached & last.union(*(nx.ancestors(G, node) for node in last))


@budgets
def test_balance_is_a_projection_and_blind_to_rescaling(budget: int) -> None:
    def claim(G: isg.LayeredDiGraph, seed: int) -> None:
        B = isg.balance(G)
        twice = isg.balance(B)
        for pair in G.connections:
            np.testing.assert_allclose(dense(twice.connections[pair]), dense(B.connections[pair]), rtol=1e-4, atol=1e-6)
            assert np.array_equal(np.sign(dense(B.connections[pair])), np.sign(dense(G.connections[pair])))
        scale = {x.name: 2.0 ** np.random.default_rng(seed).integers(-6, 7, x.width) for x in G.layers}
        free = [x.name for x in G.layers if set(G.incoming(x.name)) - {x.name} and set(G.outgoing(x.name)) - {x.name}]
        scale |= {x.name: np.ones(x.width) for x in G.layers if x.name not in free}
        # A neuron without a path from an input or to an output keeps the one size it has: it has nothing to trade.
        nodes, start = list(G), 0
        for x in G.layers:
            scale[x.name] = np.where([node in carrying(G) for node in nodes[start : start + x.width]], scale[x.name], 1)
            start += x.width
        moved = {(s, t): dense(w) / scale[s][:, None] * scale[t] for (s, t), w in G.connections.items()}
        H = isg.LayeredDiGraph.from_arrays(G.layers, moved)
        # Small random weights can be equal by chance, which makes their sources one stream with one factor.
        if repeated_readings(G) or repeated_readings(H):
            return
        other = isg.balance(H)
        for pair in G.connections:
            np.testing.assert_allclose(dense(other.connections[pair]), dense(B.connections[pair]), rtol=1e-4, atol=1e-6)

    explore(claim, budget, G=layered(NORMAL, plain=True), seed=SEEDS)


# ---------------------------------------------------------------------- thresholds


def strongest(weights: Any, sign: int, density: float) -> Any:
    """Return by sorting which weights of one sign are among the top fraction, ties kept."""
    sizes = sorted((w * sign for w in weights.ravel().tolist() if w * sign > 0), reverse=True)
    if not sizes:
        return np.zeros(weights.shape, dtype=bool)
    limit = sizes[max(1, ceil(density * len(sizes) - 1e-9)) - 1]
    return weights * sign >= limit


@budgets
def test_binarize_keeps_the_top_fraction_of_each_sign(budget: int) -> None:
    def claim(G: isg.LayeredDiGraph, density: float) -> None:
        for layer in G.layers:
            found = isg.binarize(G, layer.name, density=density, gauge="none")
            # Weights that several layers are read through count once; small random ones can be equal too.
            into = [dense(G.connections[s, layer.name]).T for s in distinct_sources(G, layer.name)]
            out = [dense(G.connections[layer.name, t]) for t in G.outgoing(layer.name)]
            for matrices, positive, negative in (
                (into, found.activation_in, found.inhibition_in),
                (out, found.activation_out, found.inhibition_out),
            ):
                for sign, given in ((1, positive), (-1, negative)):
                    parts = [strongest(m, sign, density) for m in matrices]
                    expected = np.hstack(parts) if parts else np.zeros((layer.width, 0), dtype=bool)
                    np.testing.assert_array_equal(given, expected)
            U = projection(found, "signed")
            assert np.array_equal(U, U.T)
            assert not np.diag(U).any()

    explore(claim, budget, G=layered(), density=st.floats(0.01, 1.0))


@budgets
def test_thresholds_follow_definition_2(budget: int) -> None:
    def claim(G: isg.LayeredDiGraph, bounds: list[float]) -> None:
        xi2, xi4, xi3, xi1 = sorted(bounds)
        for layer in G.layers:
            found = isg.binarize(G, layer.name, thresholds={"xi1": xi1, "xi2": xi2, "xi3": xi3, "xi4": xi4})
            seen = found.observed()
            seen = np.ones_like(found.matrix()) if seen is None else seen
            W = [dense(G.connections[s, layer.name]).T for s in distinct_sources(G, layer.name)]
            W = np.hstack(W) if W else np.zeros((layer.width, 0))
            for i, j in np.ndindex(W.shape):
                w, n = float(W[i, j]), W.shape[1]
                assert found.activation_in[i, j] == (w > xi1)
                assert found.inhibition_in[i, j] == (w < xi2)
                assert seen[i, j] == (w > xi1 or w < xi3 or xi1 == xi3)
                assert seen[i, n + j] == (w < xi2 or w > xi4 or xi2 == xi4)

    explore(claim, budget, G=layered(), bounds=st.lists(st.floats(-4, 4, width=32), min_size=4, max_size=4))


# ---------------------------------------------------------------------- partitions


@budgets
def test_a_partition_is_what_its_labels_say(budget: int) -> None:
    def claim(case: tuple[isg.LayeredDiGraph, dict[str, Any]], seed: int) -> None:
        G, labels = case
        P = isg.Partition.from_labels(G, labels, method="test", seed=3, params={"n": np.int64(2)})
        assert isg.Partition.from_json(P.to_json()).to_json() == P.to_json()
        assert sum(map(len, P)) == sum(int((row >= 0).sum()) for row in labels.values())
        cover = P.cover(G)
        assert sorted(map(repr, (node for c in cover for node in c))) == sorted(map(repr, G))
        order = [(list(P.nodes).index(P.layer_of(i)), -len(c)) for i, c in enumerate(P)]
        assert order == sorted(order)
        for name, row in labels.items():
            again = P.labels(name)
            assert np.array_equal(again < 0, row < 0)
            if (row >= 0).any():
                kept = row >= 0
                assert adjusted_rand_score(row[kept], again[kept]) == 1.0
            renamed = np.random.default_rng(seed).permutation(5)
            shuffled = {**labels, name: np.where(row < 0, -1, renamed[row])}
            assert isg.Partition.from_labels(G, shuffled, method="test").communities == P.communities

    explore(claim, budget, case=labelled(), seed=SEEDS)


@budgets
def test_agreement_is_scikit_learns_and_symmetric(budget: int) -> None:
    def claim(case: tuple[isg.LayeredDiGraph, dict[str, Any]], seed: int) -> None:
        G, labels = case
        rng = np.random.default_rng(seed)
        other = {
            name: np.where(rng.random(len(row)) < 0.5, row, rng.integers(0, 3, len(row)))
            for name, row in labels.items()
        }
        P = isg.Partition.from_labels(G, labels, method="p")
        R = isg.Partition.from_labels(G, other, method="r")
        rows = [(labels[n], other[n]) for n in labels if (labels[n] >= 0).any() and (other[n] >= 0).any()]
        if not any(((a >= 0) & (b >= 0)).any() for a, b in rows):
            with pytest.raises(InnerSightError):
                isg.agreement(P, R)
            return
        found, back = isg.agreement(P, R), isg.agreement(R, P)
        assert (found.ari, found.vi) == pytest.approx((back.ari, back.vi))
        assert isg.agreement(P, P).ari == 1.0
        assert isg.agreement(P, P).vi == 0.0
        for name, value in found.layers.items():
            kept = (labels[name] >= 0) & (other[name] >= 0)
            a, b = labels[name][kept], other[name][kept]
            assert value.ari == pytest.approx(adjusted_rand_score(a, b))
            assert value.ami == pytest.approx(adjusted_mutual_info_score(a, b))
        pairs = isg.align(P, R)
        assert len(set(pairs.values())) == len(pairs)
        assert all(P.layer_of(p) == R.layer_of(r) and P[p] & R[r] for r, p in pairs.items())

    explore(claim, budget, case=labelled(), seed=SEEDS)


# ---------------------------------------------------------------------- mixtures


def log_likelihood(X: Any, mask: Any, weights: Any, probabilities: Any) -> float:
    """Return Eq. 8 by loops in float64, probabilities clipped inside the logs as published."""
    total = 0.0
    for k in range(len(X)):
        row = 0.0
        for w, p in zip(weights, probabilities, strict=True):
            term = w
            for j in range(X.shape[1]):
                if mask is None or mask[k, j]:
                    term *= p[j] if X[k, j] else 1.0 - p[j]
            row += term
        total += np.log(row) if row > 0 else -np.inf
    return float(total)


@budgets
def test_a_mixture_is_one_and_its_parts_fit_together(budget: int) -> None:
    def claim(case: tuple[Any, Any], n: int, seed: int) -> None:
        X, mask = case
        n = min(n, len(X))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = isg.BernoulliMixture(n, n_init=3, random_state=seed, engine="numpy").fit(X, mask=mask)
        assert model.weights_.sum() == pytest.approx(1.0)
        assert (model.weights_ >= 0).all()
        assert ((model.probabilities_ >= 0) & (model.probabilities_ <= 1)).all()
        shares = model.predict_proba(X, mask=mask)
        assert shares.sum(axis=1) == pytest.approx(np.ones(len(X)))
        assert np.array_equal(model.predict(X, mask=mask), shares.argmax(axis=1))
        naive = log_likelihood(X, mask, model.weights_, model.probabilities_) / len(X)
        assert model.score(X, mask=mask) == pytest.approx(naive, abs=1e-4)
        # The clipping inside the logs (1e-6) lets each feature's terms exceed a likelihood's by as much.
        assert np.diff(model.lower_bounds_).min(initial=0.0) >= -2e-6 * X.shape[1]
        order = np.random.default_rng(seed).permutation(len(X))
        assert model.score(X[order], mask=None if mask is None else mask[order]) == pytest.approx(
            model.score(X, mask=mask)
        )

    explore(claim, budget, case=tables(), n=st.integers(1, 4), seed=SEEDS)


@budgets
def test_one_component_is_the_column_means(budget: int) -> None:
    def claim(case: tuple[Any, Any]) -> None:
        X, mask = case
        model = isg.BernoulliMixture(1, random_state=0, engine="numpy").fit(X, mask=mask)
        seen = np.ones(X.shape, dtype=bool) if mask is None else mask
        counts = seen.sum(axis=0)
        means = (X & seen).sum(axis=0) / np.maximum(counts, 1)
        np.testing.assert_allclose(model.probabilities_[0][counts > 0], means[counts > 0], atol=1e-5)
        assert model.weights_.tolist() == [1.0]

    explore(claim, budget, case=tables())


# ---------------------------------------------------------------------- every detector, on anything

METHODS = ["em", "louvain", "blockmodel", "spectral", "geometric", "random", "degree"]


@budgets
def test_detectors_return_a_partition_or_an_error_of_ours(budget: int) -> None:
    def claim(G: Any, method: str, seed: int, n: int) -> None:
        options: dict[str, Any] = {"seed": seed}
        if method not in ("louvain",):
            options["n_communities"] = n
        if method == "em":
            options |= {"init": "random", "n_init": 2, "engine": "numpy"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                P = isg.detect(G, method, **options)
            except InnerSightError as error:
                is_told(error)
                return
        assert isinstance(P, isg.Partition)
        assert P.method
        nodes = [node for community in P for node in community]
        assert len(nodes) == len(set(nodes))
        assert isg.Partition.from_json(P.to_json()).to_json() == P.to_json()
        assert sum(map(len, P.cover(G))) == len(isg.as_layered(G))

    explore(
        claim, budget, G=st.one_of(layered(), layered(NORMAL), plain_graphs()), method=st.sampled_from(METHODS),
        seed=SEEDS, n=st.integers(1, 4),
    )  # fmt: skip


@budgets
def test_any_option_on_any_graph_gives_a_result_or_an_error_of_ours(budget: int) -> None:
    accepted = {
        method: set(inspect.signature(getattr(isg, f"{method}_communities")).parameters)
        for method in (*METHODS, "leiden")
    }

    def claim(G: Any, method: str, given: dict[str, Any]) -> None:
        wanted = {name: value for name, value in given.items() if name in accepted[method]}
        if method == "em":
            # Choosing the number takes seconds of random tables, even on a tiny graph.
            wanted = {"n_communities": 2, "init": "random", "n_init": 2, "engine": "numpy"} | wanted
        # A thousand million starts would be made: no mistake, and no end.
        if wanted.get("n_init") == 10**9:
            wanted.pop("n_init", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                P = isg.detect(G, method, **wanted)
            except InnerSightError as error:
                is_told(error)
                return
            assert sum(map(len, P.cover(G))) == len(isg.as_layered(G))
            values = isg.evaluate(G, P, isg.Structure(isg.as_layered(G)), nulls=2, seed=0)
            assert len(values.table()) == len(P)

    explore(
        claim, max(24, budget), G=st.one_of(layered(), plain_graphs(odd=True)),
        method=st.sampled_from(sorted(accepted)), given=options(),
    )  # fmt: skip


@budgets
def test_any_graph_has_a_page_a_picture_and_a_table(budget: int) -> None:
    def claim(case: tuple[isg.LayeredDiGraph, dict[str, Any]]) -> None:
        G, labels = case
        P = isg.Partition.from_labels(G, labels, method="</script>")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            page = isg.make_page(G, P)
            assert page.html.count("</script>") == isg.make_page(G, P).html.count("</script>") >= 1
            assert page.policy["neurons"] == len(G)
            assert len(isg.to_pyvis(G, P).nodes) == len(G)
            table = isg.compare(G, {"one": P, "=two": P}, seed=0)
            assert len(table.to_csv().splitlines()) == 3
            with tempfile.TemporaryDirectory() as folder:
                try:
                    isg.export_gexf(G, P, Path(folder, "g.gexf"))
                    isg.export_graphml(G, P, Path(folder, "g.graphml"))
                except InnerSightError as error:
                    is_told(error)

    explore(claim, max(6, budget // 20), case=labelled())


# ---------------------------------------------------------------------- what broke something once


def test_a_layer_without_a_connection_has_a_structure() -> None:
    G = isg.LayeredDiGraph.from_arrays([isg.Layer("fc", 0, 5, "linear")], {})
    P = isg.Partition.from_labels(G, {"fc": [1, 1, 4, 3, 2]}, method="test")
    report = isg.evaluate(G, P, isg.Structure(G), nulls=3, seed=0)
    assert report.evaluations["structure"].per_community.tolist() == [0.0] * 4
    assert len(isg.make_page(G, P).html) > 10_000


@pytest.mark.parametrize("method", [*METHODS, "leiden"])
def test_a_layer_of_silent_neurons_only_is_no_obstacle(method: str) -> None:
    layers = [isg.Layer(name, depth, 3, "linear") for depth, name in enumerate(("input", "fc", "silent", "out"))]
    rng = np.random.default_rng(0)
    names = [layer.name for layer in layers]
    pairs = {(a, b): rng.normal(size=(3, 3)) for a, b in itertools.pairwise(names)}
    G = isg.LayeredDiGraph.from_arrays(layers, pairs, node_attributes={"silent": {"silent": [True] * 3}})
    options: dict[str, Any] = {} if method in ("louvain", "leiden") else {"n_communities": 1}
    P = isg.detect(G, method, layers=["fc", "silent"], seed=0, **options)
    assert sum(map(len, P.restrict("silent"))) == 3
    assert sum(map(len, P.restrict("fc"))) == 3


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("em", {"n_communities": 2, "density": 7}),
        ("em", {"n_communities": 2, "gauge": ""}),
        ("louvain", {"density": "half"}),
        ("leiden", {"thresholds": {"xi1": "a"}}),
    ],
)
def test_options_are_looked_at_even_where_no_layer_needs_them(method: str, options: dict[str, Any]) -> None:
    layers = [isg.Layer("input", 0, 3, "linear"), isg.Layer("silent", 1, 3, "linear"), isg.Layer("out", 2, 3, "linear")]
    pairs = {("input", "silent"): np.ones((3, 3)), ("silent", "out"): np.ones((3, 3))}
    G = isg.LayeredDiGraph.from_arrays(layers, pairs, node_attributes={"silent": {"silent": [True] * 3}})
    with pytest.raises(isg.InputError, match=next(name for name in options if name != "n_communities")):
        isg.detect(G, method, layers="silent", seed=0, **options)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_init", "2"), ("keep", "all"), ("keep", 0), ("levels", 1.5), ("replicates", None), ("rotations", -1),
     ("alpha", 2), ("max_communities", True)],
)  # fmt: skip
def test_the_block_model_says_which_option_is_wrong(name: str, value: Any) -> None:
    with pytest.raises(isg.InputError, match=f"{name}="):
        isg.blockmodel_communities(nx.karate_club_graph(), **{name: value})
