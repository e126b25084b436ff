"""Partition, agreement, alignment and the graph of communities, against counting by hand and scikit-learn."""

from __future__ import annotations

import json
import math
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from innersight_graph.detection._layers import (
    assemble,
    check_n_communities,
    live_layers,
    resolve_layers,
    resolve_seed,
    seed_sequence,
)
from innersight_graph.errors import InputError
from innersight_graph.graph.layered import Layer, LayeredDiGraph, Neuron
from innersight_graph.partition import Partition, agreement, align, as_partition, community_graph

WIDTHS = {"in": 3, "a": 6, "b": 4, "out": 2}


def build(silent: list[int] | None = None, seed: int = 0) -> LayeredDiGraph:
    rng = np.random.default_rng(seed)
    L = [Layer(name, i, w, "linear") for i, (name, w) in enumerate(WIDTHS.items())]
    names = list(WIDTHS)
    W: dict[tuple[str, str], Any] = {(s, t): rng.normal(size=(WIDTHS[s], WIDTHS[t])) for s, t in pairwise(names)}
    W["in", "b"] = sparse.random_array((3, 4), density=0.5, rng=rng, data_sampler=rng.normal)
    attributes = {} if silent is None else {"a": {"silent": np.isin(np.arange(6), silent)}}
    return LayeredDiGraph.from_arrays(L, W, kinds={("in", "b"): "value"}, node_attributes=attributes)


def made(labels_a: list[int], labels_b: list[int] | None = None, **about: Any) -> Partition:
    labels = {"a": labels_a} if labels_b is None else {"b": labels_b, "a": labels_a}
    return Partition.from_labels(build(), labels, method="by hand", **about)


# ---------------------------------------------------------------------- the record


def test_communities_come_by_depth_size_and_first_member() -> None:
    P = made([7, 3, 3, 9, 9, -1], [1, 1, 1, 0])
    expected = [("a", {1, 2}), ("a", {3, 4}), ("a", {0}), ("b", {0, 1, 2}), ("b", {3})]
    assert list(P) == [frozenset(Neuron(layer, i) for i in found) for layer, found in expected]
    assert P.names == ("a/c0", "a/c1", "a/c2", "b/c0", "b/c1")
    assert [P.layer_of(i) for i in range(5)] == ["a", "a", "a", "b", "b"]
    assert P.labels("a").tolist() == [2, 0, 0, 1, 1, -1]
    assert P.labels("in").tolist() == [-1] * 3
    assert (len(P), P[0], P[-1], P[1:3]) == (5, P.communities[0], P.communities[4], P.communities[1:3])
    assert repr(P) == "Partition(5 communities of 9 of 15 neurons, method='by hand')"
    assert P.layers == ("a", "b")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=6, max_size=6), st.permutations(range(5)))
def test_the_numbers_given_do_not_matter(labels: list[int], renumber: list[int]) -> None:
    other = [renumber[k] if k >= 0 else -1 for k in labels]
    P, R = made(labels), made(other)
    assert P == R
    assert hash(P) == hash(R)
    assert P.to_json() == R.to_json()
    mine = P.labels("a")
    for i in range(6):
        for j in range(6):
            assert (mine[i] == mine[j]) == (labels[i] == labels[j])


def test_responsibilities_follow_their_communities() -> None:
    table = np.array(
        [[0.1, 0.9, 0.0], [0.2, 0.7, 0.1], [0.0, 0.8, 0.2], [0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.5, 0.3, 0.2]]
    )
    P = made(table.argmax(axis=1).tolist(), responsibilities={"a": table})
    assert P.labels("a").tolist() == [0, 0, 0, 1, 1, 1]
    assert P.responsibilities is not None
    assert np.array_equal(P.responsibilities["a"], table[:, [1, 0, 2]])
    assert np.array_equal(P.responsibilities["a"].argmax(axis=1), P.labels("a"))


@pytest.mark.parametrize("labels", [{"a": [0] * 5}, {"a": [0.0] * 6}, {"a": [-2] * 6}, {"a": [[0] * 6]}, {"z": [0]}])
def test_wrong_labels_are_refused(labels: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Partition.from_labels(build(), labels, method="x")


def test_wrong_responsibilities_are_refused() -> None:
    for table in (np.ones((5, 2)), np.ones(6), np.ones((6, 1))):
        with pytest.raises(InputError, match="responsibilities"):
            made([0, 1, 0, 1, 0, 1], responsibilities={"a": table})


def test_restrict_and_cover() -> None:
    G = build()
    P = made([0, 0, 1, 1, -1, -1], [0, 0, 1, 1], stats={"a": {"x": 1}, "b": {"x": 2}})
    A = P.restrict("b")
    assert list(A) == list(P)[2:]
    assert dict(A.stats) == {"b": {"x": 2}}
    assert A.labels("a").tolist() == [-1] * 6
    cover = P.cover(G)
    assert cover[: len(P)] == list(P)
    assert set(cover[len(P) :]) == {
        frozenset(G.nodes_of("in")), frozenset(G.nodes_of("out")), frozenset({Neuron("a", 4), Neuron("a", 5)}),
    }  # fmt: skip
    assert nx.community.is_partition(G, cover)
    assert -1 <= nx.community.modularity(G, cover, weight="activation") <= 0


def test_sets_of_nodes_become_a_partition_and_are_cut_by_layer() -> None:
    G = build()
    P = Partition.from_communities(G, [{("a", 0), ("b", 1), ("b", 2)}, [Neuron("a", 3)]])
    assert list(P) == [{("a", 0)}, {("a", 3)}, {("b", 1), ("b", 2)}]
    K = nx.karate_club_graph()
    found = nx.community.louvain_communities(K, seed=0)
    assert sorted(map(sorted, as_partition(K, found))) == sorted(map(sorted, found))
    with pytest.raises(InputError, match="another graph"):
        Partition.from_communities(G, [{("a", 99)}])
    with pytest.raises(InputError, match="disjoint"):
        Partition.from_communities(G, [{("a", 0)}, {("a", 0)}])


def test_a_partition_of_another_graph_is_noticed() -> None:
    P = made([0] * 6)
    P.check(build(seed=9))
    other = LayeredDiGraph.from_arrays([Layer("a", 0, 6, "x"), Layer("b", 1, 2, "x")], {("a", "b"): np.ones((6, 2))})
    for call in (P.check, P.cover, lambda G: as_partition(G, P), lambda G: community_graph(G, P)):
        with pytest.raises(InputError, match="partition of another graph"):
            call(other)
    with pytest.raises(InputError, match="different graphs"):
        agreement(P, Partition.from_labels(other, {"a": [0] * 6}, method="x"))
    with pytest.raises(InputError, match="different graphs"):
        align(P, Partition.from_labels(other, {"a": [0] * 6}, method="x"))


def test_json_says_everything_and_equal_partitions_write_equal_files(tmp_path: Path) -> None:
    stats = {"a": {"criterion": np.array([1.0, 2.0]), "n_iter": np.int64(3), "converged": np.bool_(True)}}
    table = np.eye(2)[[0, 0, 1, 1, 0, 1]]
    params = {"density": np.float64(0.5), "n_communities": range(1, 4), "criterion": len}
    P = made([0, 0, 1, 1, 0, 1], stats=stats, params=params, seed=7, responsibilities={"a": table})
    P.to_json(tmp_path / "p.json")
    Q = Partition.from_json(tmp_path / "p.json")
    assert Q == P == Partition.from_json(P.to_json()) == Partition.from_json(str(tmp_path / "p.json"))
    assert (Q.method, Q.seed, Q.names) == (P.method, 7, P.names)
    assert Q.stats["a"] == {"criterion": [1.0, 2.0], "n_iter": 3, "converged": True}
    assert dict(Q.params) == {"density": 0.5, "n_communities": [1, 2, 3], "criterion": "len"}
    assert Q.responsibilities is not None
    assert np.array_equal(Q.responsibilities["a"], P.responsibilities["a"])  # type: ignore[index]
    assert Q.to_json() == P.to_json()
    assert json.loads(P.to_json())["layers"]["a"] == 6
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]
    assert pickle.loads(pickle.dumps(P)).to_json() == P.to_json()


def test_json_keeps_foreign_ids(tmp_path: Path) -> None:
    D = nx.Graph([("x", ("y", 1)), (("y", 1), 3)])
    P = Partition.from_labels(D, {"graph": [0, 1, 0]}, method="x")
    assert list(Partition.from_json(P.to_json())) == [{"x", 3}, {("y", 1)}]


def test_bad_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    for source in ("{", "{}", '{"format": "other"}', tmp_path / "x.json", tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError):
            Partition.from_json(source)
    with pytest.raises(InputError, match="is a folder"):
        made([0] * 6).to_json(tmp_path)


def test_the_table_has_one_row_per_neuron() -> None:
    pytest.importorskip("pandas")
    frame = made([0, 0, 1, 1, -1, 1], [0] * 4).to_pandas()
    assert list(frame.columns) == ["node", "layer", "index", "community", "label", "name"]
    assert len(frame) == sum(WIDTHS.values())
    assert frame.query("layer == 'a'")["community"].tolist() == [1, 1, 0, 0, -1, 0]
    assert frame.query("layer == 'b'")["name"].tolist() == ["b/c0"] * 4


# ---------------------------------------------------------------------- agreement


def entropy(counts: list[int]) -> float:
    n = sum(counts)
    return -sum(c / n * math.log(c / n) for c in counts if c)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_agreement_equals_scikit_learn_and_the_definition_of_vi(x: list[int], y: list[int]) -> None:
    found = agreement(made(x), made(y), layer="a")
    assert found.ari == pytest.approx(adjusted_rand_score(x, y))
    assert found.ami == pytest.approx(adjusted_mutual_info_score(x, y))
    joint = [list(zip(x, y, strict=True)).count(pair) for pair in set(zip(x, y, strict=True))]
    vi = 2 * entropy(joint) - entropy([x.count(k) for k in set(x)]) - entropy([y.count(k) for k in set(y)])
    assert found.vi == pytest.approx(vi, abs=1e-12)
    assert (found.n_p, found.n_r) == (len(set(x)), len(set(y)))


def test_agreement_overall_pools_the_layers() -> None:
    P, R = made([0, 0, 0, 1, 1, 1], [0, 0, 1, 1]), made([0, 0, 1, 1, 2, 2], [0, 1, 0, 1])
    found = agreement(P, R)
    a, b = (
        P.labels("a").tolist() + [10 + k for k in P.labels("b")],
        R.labels("a").tolist() + [10 + k for k in R.labels("b")],
    )
    assert found.ari == pytest.approx(adjusted_rand_score(a, b))
    assert (found.n_p, found.n_r) == (4, 5)
    assert found.layers["b"].ari == pytest.approx(adjusted_rand_score(P.labels("b"), R.labels("b")))
    same = agreement(P, P)
    assert (same.ari, same.ami, same.vi) == (1.0, pytest.approx(1.0), 0.0)
    with pytest.raises(InputError, match="no neuron in common"):
        agreement(P.restrict("a"), R.restrict("b"))


def test_silent_and_unassigned_neurons_do_not_count() -> None:
    G = build(silent=[4, 5])
    P = assemble(G, {"a": [0, 0, 1, 1]}, method="x")
    R = assemble(G, {"a": [0, 1, 0, 1]}, method="x")
    assert agreement(P, R).ari == pytest.approx(adjusted_rand_score([0, 0, 1, 1], [0, 1, 0, 1]))
    assert agreement(P, R).n_p == 2


def test_align_matches_the_most_neurons_one_to_one() -> None:
    P, R = made([0, 0, 0, 1, 1, 2], [0, 0, 1, 1]), made([1, 1, 0, 0, 0, 0], [0, 0, 0, 0])
    partner = align(P, R)
    overlap = {(r, p): len(R[r] & P[p]) for r in range(len(R)) for p in range(len(P))}
    assert all(overlap[pair] > 0 for pair in partner.items())
    assert len(set(partner.values())) == len(partner)
    assert sum(overlap[pair] for pair in partner.items()) == 2 + 2 + 2
    assert align(P, P) == {i: i for i in range(len(P))}


# ---------------------------------------------------------------------- shared plumbing of detectors


def test_silent_neurons_become_one_community_of_their_own() -> None:
    G = build(silent=[0, 2, 5])
    assert [(name, live.tolist(), silent.tolist()) for name, live, silent in live_layers(G)] == [
        ("a", [1, 3, 4], [0, 2, 5]), ("b", [0, 1, 2, 3], []),
    ]  # fmt: skip
    table = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    P = assemble(
        G, {"a": [0, 1, 1], "b": [0, 0, 0, 0]}, method="x", responsibilities={"a": table}, stats={"a": {"q": 1}}
    )
    assert P.names == ("a/silent", "a/c1", "a/c2", "b/c0")
    assert P[0] == {("a", 0), ("a", 2), ("a", 5)}
    assert dict(P.stats) == {"a": {"q": 1, "n_communities": 2, "silent": 0}, "b": {"n_communities": 1}}
    shares = P.responsibilities["a"]  # type: ignore[index]
    assert shares[[0, 2, 5]].tolist() == [[1.0, 0.0, 0.0]] * 3
    assert shares[[1, 3, 4], 1:].tolist() == table[:, ::-1].tolist()
    assert P.restrict("a").stats["a"]["silent"] == 0
    with pytest.raises(InputError, match="one label per live neuron"):
        assemble(G, {"a": [0] * 6}, method="x")


def test_a_layer_that_never_fires_is_one_silent_community() -> None:
    G = build(silent=list(range(6)))
    P = assemble(G, {"a": np.zeros(0, dtype=int)}, method="x")
    assert P.names == ("a/silent",)
    assert P.stats["a"] == {"n_communities": 0, "silent": 0}


def test_layers_are_resolved_in_order_of_depth() -> None:
    G = build()
    assert resolve_layers(G, None) == ("a", "b")
    assert resolve_layers(G, ["b", "in"]) == ("in", "b")
    assert resolve_layers(G, "b") == ("b",)
    assert resolve_layers(nx.path_graph(3), None) == ("graph",)
    for wrong, message in ((["z"], "no layer"), ([], "empty")):
        with pytest.raises(InputError, match=message):
            resolve_layers(G, wrong)
    flat = LayeredDiGraph.from_arrays([Layer("a", 0, 2, "x"), Layer("b", 1, 2, "x")], {("a", "b"): np.eye(2)})
    with pytest.raises(InputError, match="no hidden layer"):
        resolve_layers(flat, None)


@pytest.mark.parametrize("wrong", [0, -1, 11, 2.5, "3", True, None, [0, 1], [11, 12], [], [1.5]])
def test_wrong_numbers_of_communities_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="n_communities"):
        check_n_communities(wrong, 10, "a")


def test_right_numbers_of_communities_are_kept() -> None:
    assert check_n_communities(3, 10, "a") == (3,)
    assert check_n_communities(np.int64(10), 10, "a") == (10,)
    assert check_n_communities(range(1, 21), 4, "a") == (1, 2, 3, 4)
    assert check_n_communities((5, 2, 5), 10, "a") == (2, 5)


def test_seeds_of_every_kind_become_a_number() -> None:
    import random

    assert resolve_seed(5) == resolve_seed(np.int64(5)) == 5
    for make in (np.random.default_rng, np.random.RandomState, random.Random):
        assert resolve_seed(make(3)) == resolve_seed(make(3))
    before = np.random.mtrand._rand.get_state()[1].tolist(), random.getstate()
    assert resolve_seed(None) != resolve_seed(None)
    assert (np.random.mtrand._rand.get_state()[1].tolist(), random.getstate()) == before
    for wrong in (-1, "a", True, 1.5):
        with pytest.raises(InputError, match="seed"):
            resolve_seed(wrong)
    states = {seed_sequence(1, *keys).generate_state(1)[0] for keys in (("a", 0), ("a", 1), ("b", 0), ())}
    assert len(states) == 4


# ---------------------------------------------------------------------- the graph of communities


@pytest.mark.parametrize("rest", [False, True])
def test_community_graph_sums_every_edge_once(rest: bool) -> None:
    G = build()
    P = made([0, 0, 1, 1, 2, -1], [0, 1, 0, 1])
    C = community_graph(G, P, rest=rest)
    names = dict(enumerate(P.names))
    home: dict[Any, str] = {node: names[i] for i, community in enumerate(P) for node in community}
    expected: dict[tuple[str, str], dict[str, float]] = {}
    for u, v, data in G.edges(data=True):
        pair = home.get(u, u.layer if rest else None), home.get(v, v.layer if rest else None)
        if None in pair:
            continue
        sums = expected.setdefault(pair, {"activation": 0.0, "inhibition": 0.0, "weight": 0.0, "count": 0})  # type: ignore[arg-type]
        for name in ("activation", "inhibition", "weight"):
            sums[name] += data[name]
        sums["count"] += 1
    assert set(C.edges) == set(expected)
    for edge, sums in expected.items():
        found = C.edges[edge]
        assert {name: found[name] for name in sums} == pytest.approx(sums)
        assert found["mean"] == pytest.approx(sums["weight"] / sums["count"])
        leaving = sum(s["activation"] + s["inhibition"] for (u, _), s in expected.items() if u == edge[0])
        assert found["share"] == pytest.approx((sums["activation"] + sums["inhibition"]) / leaving)
    assert list(C)[: len(P)] == list(P.names) if not rest else set(P.names) < set(C)
    assert {data["size"] for _, data in C.nodes(data=True)} <= {1, 2, 3}
    if rest:
        assert sum(a for _, _, a in C.edges(data="activation")) == pytest.approx(G.size(weight="activation"))


def test_community_graph_is_plain_and_ready_for_networkx(tmp_path: Path) -> None:
    G = build()
    C = community_graph(G, made([0, 0, 1, 1, 2, 2], [0, 1, 0, 1]), rest=True)
    assert type(C) is nx.DiGraph
    nx.write_graphml(C, tmp_path / "c.graphml")
    assert set(nx.pagerank(C, weight="activation")) == set(C)
    assert nx.maximum_flow_value(C, "in", "out", capacity="activation") > 0
    assert set(nx.multipartite_layout(C)) == set(C)
    C.add_edge("new", "in")


def test_community_graph_takes_plain_graphs_and_sets_and_leaves_gates_out() -> None:
    K = nx.karate_club_graph()
    found = nx.community.louvain_communities(K, seed=0)
    C = community_graph(K, found)
    P = as_partition(K, found)
    for i, community in enumerate(P):
        leaving = sum(d["activation"] for _, v, d in C.out_edges(P.names[i], data=True) if v != P.names[i])
        assert leaving == nx.cut_size(K, community, weight="weight")
    L = [Layer("a", 0, 1, "x"), Layer("b", 1, 1, "x")]
    G = LayeredDiGraph.from_arrays(L, {("a", "b"): [[2.0]]}, kinds={("a", "b"): "gate"})
    assert community_graph(G, [{("a", 0)}, {("b", 0)}]).number_of_edges() == 0
