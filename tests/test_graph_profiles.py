"""binarize() and project_layer() against loops written from Definition 2 and Eq. 12."""

from __future__ import annotations

from math import ceil
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from innersight_graph.errors import InputError
from innersight_graph.graph.gauge import balance
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.graph.profiles import binarize, project_layer, projection

WIDTHS = {"a": 4, "b": 5, "c": 6, "d": 3}


def build(seed: int = 0, form: Any = np.asarray, **options: Any) -> LayeredDiGraph:
    rng = np.random.default_rng(seed)
    L = [Layer(name, i, w, "linear") for i, (name, w) in enumerate(WIDTHS.items())]
    pairs = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("b", "d")]
    W = {
        p: rng.normal(size=(WIDTHS[p[0]], WIDTHS[p[1]])) * (rng.random((WIDTHS[p[0]], WIDTHS[p[1]])) < 0.8)
        for p in pairs
    }
    return LayeredDiGraph.from_arrays(L, {p: form(w) for p, w in W.items()}, **options)


def dense(G: LayeredDiGraph, s: str, t: str) -> np.ndarray:
    W = G.matrix(s, t)
    return W.toarray() if sparse.issparse(W) else np.asarray(W)


def strongest(W: np.ndarray, sign: int, density: float) -> np.ndarray:
    """The top fraction of one sign's own connections, ties kept, by sorting."""
    sizes = sorted((sign * W)[sign * W > 0].tolist(), reverse=True)
    if not sizes:
        return np.zeros(W.shape, dtype=bool)
    return sign * W >= sizes[max(1, ceil(density * len(sizes) - 1e-9)) - 1]


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("gauge", ["none", "balanced"])
@pytest.mark.parametrize("density", [0.01, 0.25, 0.5, 1.0])
def test_profiles_are_the_strongest_of_each_sign_and_side(form: Any, gauge: str, density: float) -> None:
    G = build(form=form)
    H = balance(G) if gauge == "balanced" else G
    for layer in "abcd":
        profile = binarize(G, layer, density=density, gauge=gauge)
        for sign, into, out in (
            (1, profile.activation_in, profile.activation_out),
            (-1, profile.inhibition_in, profile.inhibition_out),
        ):
            want_in = [strongest(dense(H, s, layer), sign, density).T for s in G.incoming(layer)]
            want_out = [strongest(dense(H, layer, t), sign, density) for t in G.outgoing(layer)]
            none = np.zeros((WIDTHS[layer], 0), dtype=bool)
            assert np.array_equal(into, np.hstack([none, *want_in]))
            assert np.array_equal(out, np.hstack([none, *want_out]))
        blocks = [profile.activation_in, profile.inhibition_in, profile.activation_out, profile.inhibition_out]
        assert np.array_equal(profile.matrix(), np.hstack(blocks))
        assert profile.matrix().dtype == bool
        assert profile.observed() is profile.missing_in is profile.missing_out is None
        assert profile.nodes == tuple(G.nodes_of(layer))


def test_ties_at_the_threshold_are_kept() -> None:
    W = np.array([[3.0, 2.0, 2.0, 2.0, 1.0, -1.0, -1.0]])
    G = LayeredDiGraph.from_arrays([Layer("a", 0, 1, "x"), Layer("b", 1, 7, "x")], {("a", "b"): W})
    profile = binarize(G, "a", density=0.4, gauge="none")
    assert profile.activation_out.tolist() == [[True, True, True, True, False, False, False]]
    assert profile.inhibition_out.tolist() == [[False] * 5 + [True, True]]


def test_ties_survive_the_rounding_of_a_rescaling() -> None:
    rng = np.random.default_rng(1)
    signs = [rng.choice([-1.0, 1.0], size=shape) for shape in ((6, 8), (8, 5))]
    factor = np.exp(rng.normal(size=8))
    L = [Layer("a", 0, 6, "x"), Layer("b", 1, 8, "x"), Layer("c", 2, 5, "x")]
    plain = LayeredDiGraph.from_arrays(L, {("a", "b"): signs[0], ("b", "c"): signs[1]})
    scaled = LayeredDiGraph.from_arrays(L, {("a", "b"): signs[0] * factor, ("b", "c"): signs[1] / factor[:, None]})
    for density in (0.1, 0.5, 0.9):
        assert np.array_equal(
            binarize(plain, "b", density=density).matrix(), binarize(scaled, "b", density=density).matrix()
        )


def test_thresholds_are_the_papers_definition() -> None:
    W = np.array([[0.9, 0.5, 0.3, 0.1, 0.0, -0.1, -0.3, -0.5, -0.9]], dtype=np.float32)
    G = LayeredDiGraph.from_arrays([Layer("a", 0, 1, "x"), Layer("b", 1, 9, "x")], {("a", "b"): W})
    xi = {"xi1": 0.4, "xi2": -0.4, "xi3": 0.2, "xi4": -0.2}
    profile = binarize(G, "a", thresholds=xi)
    assert profile.activation_out[0].tolist() == [bool(w > 0.4) for w in W[0]]
    assert profile.inhibition_out[0].tolist() == [bool(w < -0.4) for w in W[0]]
    missing_a = [bool(not w > 0.4 and not w < 0.2) for w in W[0]]
    missing_i = [bool(not w < -0.4 and not w > -0.2) for w in W[0]]
    assert profile.observed()[0].tolist() == [not m for m in missing_a + missing_i]
    assert profile.missing_out[0].tolist() == [a or i for a, i in zip(missing_a, missing_i, strict=True)]
    without = binarize(G, "a", thresholds={"xi1": 0.4, "xi2": -0.4})
    assert without.observed() is None
    assert np.array_equal(without.matrix(), profile.matrix())


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_thresholds_are_in_units_of_the_trained_weights(form: Any) -> None:
    G = build(form=form)
    profile = binarize(G, "b", thresholds={"xi1": 0.3, "xi2": -0.3})
    assert np.array_equal(profile.activation_in, dense(G, "a", "b").T > 0.3)
    assert np.array_equal(profile.inhibition_out, np.hstack([dense(G, "b", t) < -0.3 for t in ("c", "d")]))


def test_an_undirected_graph_has_its_rows_a_directed_one_both_sides() -> None:
    K = nx.karate_club_graph()
    profile = binarize(K, "graph", density=1.0)
    assert np.array_equal(profile.activation_out, nx.to_numpy_array(K, weight=None) > 0)
    assert profile.activation_in.shape == (34, 0)
    assert not profile.inhibition_out.any()
    D = nx.gn_graph(12, seed=0)
    profile = binarize(D, "graph", density=1.0)
    assert np.array_equal(profile.activation_out, nx.to_numpy_array(D) > 0)
    assert np.array_equal(profile.activation_in, nx.to_numpy_array(D).T > 0)


def test_gates_are_left_out() -> None:
    G = build(kinds={("a", "c"): "gate"})
    assert binarize(G, "c").activation_in.shape == (6, 5)
    assert binarize(G, "a").activation_out.shape == (4, 5)


@pytest.mark.parametrize(
    "options",
    [
        {"density": 0.0}, {"density": 1.1}, {"density": -1}, {"density": True}, {"density": float("nan")},
        {"gauge": "other"},
        {"thresholds": {}}, {"thresholds": {"xi1": 0.1}}, {"thresholds": {"xi1": 1, "xi2": -1, "xi5": 0}},
        {"thresholds": {"xi1": 0.1, "xi2": -0.1, "xi3": 0.2}}, {"thresholds": {"xi1": float("nan"), "xi2": 0}},
    ],
)  # fmt: skip
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        binarize(build(), "b", **options)
    with pytest.raises(InputError, match="no layer"):
        binarize(build(), "z")


def shared(profile: Any, i: int, j: int, sign: str) -> int:
    """Count shared valid neighbours of two neurons one by one."""
    total = 0
    for A, B in ((profile.activation_in, profile.inhibition_in), (profile.activation_out, profile.inhibition_out)):
        for k in range(A.shape[1]):
            a, b = int(A[i, k]) - int(B[i, k]), int(A[j, k]) - int(B[j, k])
            total += {
                "signed": a * b,
                "positive": int(A[i, k] and A[j, k]) + int(B[i, k] and B[j, k]),
                "activation": int(A[i, k] and A[j, k]),
                "inhibition": int(B[i, k] and B[j, k]),
            }[sign]
    return total


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from(["signed", "positive", "activation", "inhibition"]),
    st.sampled_from([0.2, 0.6, 1.0]),
)
def test_projection_counts_shared_neighbours(seed: int, sign: str, density: float) -> None:
    G = build(seed)
    profile = binarize(G, "c", density=density)
    U = projection(profile, sign)
    for i in range(6):
        for j in range(6):
            assert U[i, j] == (0 if i == j else shared(profile, i, j, sign))
    graph = project_layer(G, "c", sign=sign, density=density)
    assert type(graph) is nx.Graph
    assert list(graph) == G.nodes_of("c")
    assert np.array_equal(nx.to_numpy_array(graph), U)
    assert {type(w) for _, _, w in graph.edges(data="weight")} <= {int}
    with pytest.raises(InputError, match="sign"):
        projection(profile, "other")
