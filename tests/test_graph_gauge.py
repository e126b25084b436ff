"""balance(): equal norms, invariance under every ReLU rescaling, and nothing else changed."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from innersight_graph.graph.gauge import balance
from innersight_graph.graph.layered import Layer, LayeredDiGraph

WIDTHS = [6, 5, 4, 7, 3]
SKIPS = [(0, 1), (1, 2), (2, 3), (3, 4), (1, 3), (0, 3), (2, 4)]


def connections(rng: np.random.Generator, share: float = 1.0) -> dict[tuple[str, str], np.ndarray]:
    found = {}
    for s, t in SKIPS:
        W = rng.normal(size=(WIDTHS[s], WIDTHS[t])) * np.exp(rng.normal(size=WIDTHS[t]))
        found[f"l{s}", f"l{t}"] = (W * (rng.random(W.shape) < share)).astype(np.float32)
    return found


def build(W: dict[tuple[str, str], Any], **options: Any) -> LayeredDiGraph:
    return LayeredDiGraph.from_arrays([Layer(f"l{i}", i, w, "linear") for i, w in enumerate(WIDTHS)], W, **options)


def rescaled(W: dict[tuple[str, str], np.ndarray], factor: list[np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    return {(s, t): (w / factor[int(s[1])][:, None] * factor[int(t[1])]).astype(np.float32) for (s, t), w in W.items()}


def factors(rng: np.random.Generator, draw: Any) -> list[np.ndarray]:
    return [draw(w) if 0 < i < len(WIDTHS) - 1 else np.ones(w) for i, w in enumerate(WIDTHS)]


def reachable(W: dict[tuple[str, str], np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return which neurons hear the input and which are heard by the output."""
    hears = [np.full(w, i == 0) for i, w in enumerate(WIDTHS)]
    heard = [np.full(w, i == len(WIDTHS) - 1) for i, w in enumerate(WIDTHS)]
    for s, t in sorted(SKIPS, key=lambda pair: pair[1]):
        hears[t] = hears[t] | (W[f"l{s}", f"l{t}"][hears[s]] != 0).any(axis=0)
    for s, t in sorted(SKIPS, reverse=True):
        heard[s] = heard[s] | (W[f"l{s}", f"l{t}"][:, heard[t]] != 0).any(axis=1)
    return hears, heard


def matter(W: dict[tuple[str, str], np.ndarray], pair: tuple[str, str]) -> np.ndarray:
    """Return which weights join neurons of which at least one hears the input or is heard by the output."""
    hears, heard = reachable(W)
    s, t = int(pair[0][1]), int(pair[1][1])
    return (hears[s] | heard[s])[:, None] & (hears[t] | heard[t])


def norms(G: LayeredDiGraph, name: str) -> tuple[np.ndarray, np.ndarray]:
    dense = {p: w.toarray() if sparse.issparse(w) else w for p, w in G.connections.items()}
    into = sum((dense[s, name].astype(float) ** 2).sum(axis=0) for s in G.incoming(name))
    out = sum((dense[name, t].astype(float) ** 2).sum(axis=1) for t in G.outgoing(name))
    return into, out


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_norms_are_equal_and_outer_layers_keep_their_scale(form: Any) -> None:
    W = connections(np.random.default_rng(0))
    B = balance(build({pair: form(w) for pair, w in W.items()}))
    for name in B.hidden_layers:
        into, out = norms(B, name)
        assert into == pytest.approx(out, rel=1e-5)
    # what the input sees and the output sends is one positive factor per hidden neuron, nothing per input or output
    ratio = (
        np.asarray(B.matrix("l0", "l1").toarray() if form is not np.asarray else B.matrix("l0", "l1")) / W["l0", "l1"]
    )
    assert ratio == pytest.approx(np.broadcast_to(ratio[0], ratio.shape), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.4]))
def test_powers_of_two_cancel_to_the_last_bit(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    W = connections(rng, share)
    other = rescaled(W, factors(rng, lambda w: 2.0 ** rng.integers(-9, 10, w)))
    A, B = balance(build(W)), balance(build(other))
    for pair in W:
        kept = matter(W, pair)
        assert np.array_equal(A.connections[pair][kept], B.connections[pair][kept])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.4]))
def test_any_rescaling_cancels_to_rounding(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    W = connections(rng, share)
    other = rescaled(W, factors(rng, lambda w: np.exp(rng.normal(size=w))))
    A, B = balance(build(W)), balance(build(other))
    for pair in W:
        kept = matter(W, pair)
        assert A.connections[pair][kept] == pytest.approx(B.connections[pair][kept], rel=2e-5, abs=1e-7)


def test_products_along_paths_are_kept() -> None:
    W = connections(np.random.default_rng(2))
    B = balance(build(W))
    path = [("l0", "l1"), ("l1", "l2"), ("l2", "l4")]
    before = np.linalg.multi_dot([W[p].astype(float) for p in path])
    after = np.linalg.multi_dot([np.asarray(B.connections[p], dtype=float) for p in path])
    assert after == pytest.approx(before, rel=1e-4)


def test_a_neuron_with_one_side_gets_its_layers_norm_and_disturbs_nobody() -> None:
    W = connections(np.random.default_rng(3))
    for s, t in (("l2", "l3"), ("l2", "l4")):
        W[s, t][1] = 0.0  # neuron 1 of l2 feeds nobody
    W["l0", "l1"][:, 2] = 0.0  # neuron 2 of l1 hears nobody
    loud = {pair: w.copy() for pair, w in W.items()}
    loud["l1", "l2"][:, 1] *= 1000.0
    A, B = balance(build(W)), balance(build(loud))
    for pair in W:
        assert A.connections[pair] == pytest.approx(B.connections[pair], rel=1e-5, abs=1e-7)
    into, _ = norms(A, "l2")
    live = [0, 2, 3]
    assert np.isfinite(A.matrix("l1", "l2")).all()
    assert into[1] < 10 * into[live].max()


def test_gates_are_left_as_they_are() -> None:
    W = connections(np.random.default_rng(4))
    B = balance(build(W, kinds={("l1", "l3"): "gate"}))
    assert np.array_equal(B.matrix("l1", "l3"), W["l1", "l3"])
    assert B.kinds["l1", "l3"] == "gate"


def test_attributes_ids_and_layers_go_along_and_the_graph_is_kept() -> None:
    W = connections(np.random.default_rng(5))
    G = build(
        W,
        node_attributes={"l1": {"silent": np.array([True] + [False] * 4)}},
        nodes={"l4": ["a", "b", "c"]},
        graph={"x": 1},
    )
    B = balance(G)
    assert (B.layers, B.graph, list(B)) == (G.layers, G.graph, list(G))
    assert B.node_attributes["l1"]["silent"].tolist() == [True] + [False] * 4
    assert all(np.array_equal(G.connections[pair], W[pair]) for pair in W)
    assert balance(G) is B
    twice = balance(B)
    assert all(twice.connections[p] == pytest.approx(B.connections[p], rel=1e-5, abs=1e-8) for p in W)


def test_a_graph_without_hidden_neurons_is_left_alone() -> None:
    K = nx.karate_club_graph()
    assert np.array_equal(balance(K).matrix("graph", "graph").toarray(), nx.to_numpy_array(K))
    two = LayeredDiGraph.from_arrays([Layer("a", 0, 2, "x"), Layer("b", 1, 2, "x")], {("a", "b"): np.eye(2)})
    assert balance(two) is two


def test_a_deep_chain_converges() -> None:
    rng = np.random.default_rng(6)
    L = [Layer(f"l{i}", i, 4, "linear") for i in range(40)]
    W = {(f"l{i}", f"l{i + 1}"): rng.normal(size=(4, 4)) * 10.0 ** rng.integers(-3, 4) for i in range(39)}
    B = balance(LayeredDiGraph.from_arrays(L, W))
    for name in B.hidden_layers:
        into, out = norms(B, name)
        assert into == pytest.approx(out, rel=1e-4)


def test_a_stream_that_nothing_feeds_keeps_its_scale() -> None:
    # Its first writer has no inputs; the second closes a circle through the hidden layer. Growing the circle shrank
    # what leaves it, sweep after sweep, and balancing twice was not balancing once.
    rng = np.random.default_rng(0)
    layers = [Layer(name, i, 3, "linear") for i, name in enumerate(("embed", "up", "down", "head"))]
    read = rng.normal(size=(3, 3)).astype(np.float32)
    W = {
        ("embed", "up"): rng.normal(size=(3, 3)), ("up", "down"): rng.normal(size=(3, 3)),
        ("embed", "head"): read, ("down", "head"): read,
    }  # fmt: skip
    once = balance(LayeredDiGraph.from_arrays(layers, W))
    np.testing.assert_array_equal(once.connections["down", "head"], read)
    into, out = norms(once, "up")
    np.testing.assert_allclose(into, out, rtol=1e-5)
    twice = balance(once)
    for pair in W:
        np.testing.assert_allclose(twice.connections[pair], once.connections[pair], rtol=1e-5)


def test_neurons_that_feed_only_each_other_through_a_stream_are_no_path() -> None:
    layers = [Layer(n, i, 2, "linear") for i, n in enumerate(("in", "a", "up", "b", "out"))]
    read = np.array([[1.0, 2.0], [3.0, 4.0]])
    W = {
        ("in", "a"): np.diag([1.0, 0.0]), ("a", "up"): np.eye(2), ("up", "b"): np.diag([2.0, 3.0]),
        ("a", "out"): read, ("b", "out"): read,
    }  # fmt: skip
    once = balance(LayeredDiGraph.from_arrays(layers, W))
    twice = balance(once)
    for pair in W:
        assert np.isfinite(once.connections[pair]).all()
        np.testing.assert_allclose(twice.connections[pair], once.connections[pair], rtol=1e-5)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_what_float32_cannot_hold_neither_vanishes_nor_becomes_infinite(form: Any) -> None:
    layers = [Layer(name, i, 2, "linear") for i, name in enumerate(("in", "hidden", "out"))]
    W = {
        ("in", "hidden"): form(np.array([[1e-45, 1e30], [1.0, -3e38]], dtype=np.float32)),
        ("hidden", "out"): form(np.array([[-3e38, 1e-45], [1e-45, 0.0]], dtype=np.float32)),
    }
    balanced = balance(LayeredDiGraph.from_arrays(layers, W))
    for pair, given_weights in W.items():
        found = balanced.connections[pair]
        dense = found.toarray() if sparse.issparse(found) else found
        assert np.isfinite(dense).all()
        before = given_weights.toarray() if sparse.issparse(given_weights) else given_weights
        np.testing.assert_array_equal(np.sign(dense), np.sign(before))
