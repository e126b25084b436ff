"""What every detector promises, whatever its idea, on every kind of graph; and the published values of each."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest

from innersight_graph import InputError, agreement, clusterability, detect, normalized_cut, specialization_test
from innersight_graph.detection import methods
from innersight_graph.detection.geometric import _cut, connection_cost, geometric_communities
from innersight_graph.detection.random import random_communities
from innersight_graph.detection.similarity import _bisect, affinity, modularity, similarity_communities
from innersight_graph.detection.specialization import rank_p_value, squared_spearman
from innersight_graph.detection.spectral import _Network, spectral_communities
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.partition import Partition
from innersight_graph.planted import equivalent_graph, planted_blocks, planted_layers, translate

RNG = np.random.default_rng(0)
MINE = (
    "blockmodel",
    "coactivation",
    "consensus",
    "degree",
    "geometric",
    "random",
    "similarity",
    "specialization",
    "spectral",
)
WIDTHS = (24, 20, 16, 10)


def layered(silent: bool = False) -> LayeredDiGraph:
    rng = np.random.default_rng(1)
    names = ("input", "a", "b", "output")
    layers = [Layer(n, d, w, "linear") for d, (n, w) in enumerate(zip(names, WIDTHS, strict=True))]
    connections = {(s.name, t.name): rng.standard_normal((s.width, t.width)) for s, t in itertools.pairwise(layers)}
    marked = {"a": {"silent": np.arange(20) < 4}} if silent else None
    return LayeredDiGraph.from_arrays(layers, connections, node_attributes=marked)


def options(method: str, G: object) -> dict[str, object]:
    """Measurements for the methods that need some, and short runs."""
    graph = as_layered(G)
    rng = np.random.default_rng(2)
    features = {layer.name: rng.standard_normal((layer.width, 30)) for layer in graph.layers}
    similarities = {name: values @ values.T for name, values in features.items()}
    given: dict[str, dict[str, object]] = {
        "coactivation": {"features": features},
        "specialization": {"features": features},
        "similarity": {"similarities": similarities, "steps": 300},
        "consensus": {"of": "degree", "n_runs": 2},
    }
    return given.get(method, {})


def test_these_methods_are_found() -> None:
    assert set(MINE) <= set(methods())


@pytest.mark.parametrize("method", MINE)
def test_partitions_hidden_layers_reproducibly_and_leaves_the_graph_alone(method: str) -> None:
    G = layered()
    before = {pair: G.matrix(*pair).copy() for pair in G.connections}
    P, R = (detect(G, method, seed=5, **options(method, G)) for _ in range(2))
    assert P == R
    assert P.method == method
    assert set(P.layers) <= {"a", "b"}
    assert all(np.array_equal(before[pair], G.matrix(*pair)) for pair in before)
    assert all(P.stats[layer]["n_communities"] == len(P.restrict(layer)) for layer in P.layers)
    nx.community.modularity(G.to_networkx().to_undirected(), P.cover(G), weight="activation")


@pytest.mark.parametrize("method", methods())
def test_what_is_random_says_how_stable_it_is(method: str) -> None:
    """Either the seed changes nothing, or every layer's record tells how much its searches agree."""
    G = layered()
    given = {**options(method, G), **({"n_communities": 3} if method in ("em", "blockmodel") else {})}
    layers = "b" if method == "blockmodel" else None  # seconds on noise
    runs = [detect(G, method, seed=seed, layers=layers, **given) for seed in range(2)]
    stable = [P.stats[layer].get("stability") for P in runs for layer in P.layers]
    if any(P.labels(layer).tolist() != runs[0].labels(layer).tolist() for P in runs for layer in P.layers):
        assert all(value is not None and -1 <= value <= 1 for value in stable)
    if method in ("geometric", "degree"):
        assert all(P.labels(layer).tolist() == runs[0].labels(layer).tolist() for P in runs for layer in P.layers)
    elif method in (*MINE, "em", "leiden", "louvain"):
        assert None not in stable, "a stochastic method reports its stability"


@pytest.mark.parametrize("method", ["coactivation", "specialization", "spectral", "similarity"])
def test_stability_is_full_where_there_is_one_answer_and_less_where_there_is_none(method: str) -> None:
    rng = np.random.default_rng(0)
    truth = np.eye(4)[np.arange(40) % 4]
    features = (
        truth @ rng.standard_normal((4, 60)) + 0.05 * rng.standard_normal((40, 60)),
        rng.standard_normal((40, 60)),
    )
    likeness = truth @ truth.T, np.abs(np.corrcoef(features[1]))
    found = []
    for outputs, S in zip(features, likeness, strict=True):
        given: dict[str, object] = {"features": {"graph": outputs}}
        if method in ("similarity", "spectral"):
            given = {"similarities": {"graph": S}, "steps": 500} if method == "similarity" else {}
        G = nx.from_numpy_array(S - np.diag(np.diag(S)))
        found.append(detect(G, method, n_communities=4, seed=0, **given).stats["graph"]["stability"])
    assert found[0] == 1
    assert found[1] < 1


@pytest.mark.parametrize("method", MINE)
def test_silent_neurons_are_one_community_of_their_own(method: str) -> None:
    G = layered(silent=True)
    P = detect(G, method, layers="a", seed=0, **options(method, G))
    silent = P[P.stats["a"]["silent"]]
    assert {node.index for node in silent} == {0, 1, 2, 3}
    assert P.stats["a"]["n_communities"] == len(P) - 1
    assert P.names[P.stats["a"]["silent"]] == "a/silent"


@pytest.mark.parametrize("method", MINE)
@pytest.mark.parametrize(
    "G",
    [nx.karate_club_graph(), nx.gnp_random_graph(20, 0.3, seed=1, directed=True), nx.path_graph(2), nx.empty_graph(5)],
    ids=["karate", "directed", "two nodes", "no edges"],
)
def test_takes_any_networkx_graph(method: str, G: nx.Graph) -> None:
    P = detect(G, method, seed=0, **options(method, G))
    members = [node for community in P for node in community]
    assert len(members) == len(set(members)) <= len(G)
    assert set(members) <= set(G)


@pytest.mark.parametrize("method", [m for m in MINE if m not in ("blockmodel", "consensus", "similarity", "spectral")])
def test_gives_the_number_asked_for_and_refuses_what_cannot_be(method: str) -> None:
    G = layered()
    given = options(method, G)
    assert len(detect(G, method, n_communities=3, layers="b", seed=0, **given)) == 3
    assert [
        detect(G, method, n_communities={"a": 2, "b": 4}, seed=0, **given).stats[n]["n_communities"] for n in "ab"
    ] == [2, 4]
    for wrong in (0, -1, 17, 2.5, "three"):
        with pytest.raises(InputError):
            detect(G, method, n_communities=wrong, layers="b", seed=0, **given)


@pytest.mark.parametrize("method", ["coactivation", "similarity"])
def test_a_missing_measurement_is_named(method: str) -> None:
    needed = {"coactivation": "features", "similarity": "similarities"}[method]
    with pytest.raises(InputError, match=needed):
        detect(layered(), method, seed=0)
    with pytest.raises(InputError, match="shape"):
        detect(layered(), method, seed=0, layers="a", **{needed: {"a": np.zeros((3, 3))}})
    with pytest.raises(InputError, match="NaN"):
        detect(layered(), method, seed=0, layers="a", **{needed: {"a": np.full((20, 20), np.nan)}})


# ---------------------------------------------------------------------- what a network computes, not how it is written


@pytest.mark.parametrize("method", ["degree", "geometric"])
def test_rescaling_and_order_leave_deterministic_methods_alone(method: str) -> None:
    G, _ = planted_blocks(0.8, widths=(40, 36, 32), seed=3)
    P = detect(G, method, seed=0)
    H, order = equivalent_graph(G, rescale=8.0, seed=4)
    assert translate(P, H, order) == detect(H, method, seed=0)


@pytest.mark.parametrize("method", ["spectral", "specialization", "blockmodel"])
def test_rescaling_and_order_move_stochastic_methods_no_more_than_a_seed_does(method: str) -> None:
    G, _ = planted_blocks(0.6, widths=(40, 36, 32), seed=3)
    extra = {"n_communities": 4}
    P, other = (detect(G, method, seed=seed, **extra) for seed in (0, 1))
    H, order = equivalent_graph(G, rescale=8.0, permute=True, seed=4)
    if method == "specialization":
        H, order = equivalent_graph(G, rescale=1.0, seed=4)  # published on the trained weights: no gauge to fix
    moved = agreement(translate(P, H, order), detect(H, method, seed=0, **extra)).ari
    assert moved >= agreement(P, other).ari - 0.05


# ---------------------------------------------------------------------- Filan et al.


def test_published_toy_network_has_its_published_cut() -> None:
    W1, W2 = np.array([[12, -1.3], [0, 7.4]]), np.array([[-8.9, 0.15], [0.23, -5.7]])
    layers = [Layer(n, d, 2, "linear") for d, n in enumerate(("input", "h", "output"))]
    G = LayeredDiGraph.from_arrays(layers, {("input", "h"): W1, ("h", "output"): W2})
    assert normalized_cut(_Network(G, "none").adjacency(), [0, 1, 0, 1, 0, 1]) == pytest.approx(0.0988967041, abs=1e-7)


def test_karate_clubs_have_their_known_cut_and_modularity() -> None:
    K = nx.karate_club_graph()
    clubs = [{v for v in K if K.nodes[v]["club"] == c} for c in ("Mr. Hi", "Officer")]
    labels = [int(v in clubs[1]) for v in K]
    assert normalized_cut(nx.to_numpy_array(K, weight=None), labels) == pytest.approx(0.2824691358, abs=1e-10)
    assert nx.community.modularity(K, clubs, weight=None) == pytest.approx(0.3582347140, abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_two_way_cut_is_the_one_of_networkx(seed: int) -> None:
    G = nx.gnp_random_graph(15, 0.4, seed=seed)
    for u, v in G.edges:
        G.edges[u, v]["weight"] = float(RNG.uniform(0.1, 2))
    side = set(range(7))
    ours = normalized_cut(nx.to_numpy_array(G), [int(v in side) for v in G])
    assert ours == pytest.approx(nx.normalized_cut_size(G, side, weight="weight"))


def test_shuffles_are_counted_and_a_modular_network_stands_out() -> None:
    G, _ = planted_blocks(0.2, widths=(20, 20, 20), seed=1)
    found = clusterability(G, 4, nulls=19, n_init=3, seed=0)
    assert found.p_value == pytest.approx(1 / 20)
    assert found.z < -3
    P = spectral_communities(G, 4, nulls=5, null="nonzero", n_init=2, seed=0)
    stats = P.stats["hidden1"]
    assert stats["z"] == pytest.approx((stats["ncut"] - stats["null_mean"]) / stats["null_sd"])
    assert stats["n_nulls"] == 5
    with pytest.raises(InputError):
        spectral_communities(G, 4, nulls=2, null="rows", seed=0)


def test_shuffles_keep_what_they_promise() -> None:
    W = np.abs(RNG.standard_normal((12, 9))) * (RNG.random((12, 9)) < 0.6)
    layers = [Layer("input", 0, 12, "linear"), Layer("output", 1, 9, "linear")]
    network = _Network(LayeredDiGraph.from_arrays(layers, {("input", "output"): W}), "none")
    original = network.adjacency()[:12, 12:]
    for null in ("layer", "nonzero"):
        copy = network.adjacency(np.random.default_rng(1), null)
        assert np.array_equal(copy, copy.T)
        drawn = copy[:12, 12:]
        assert np.allclose(np.sort(drawn, axis=None), np.sort(original, axis=None))
        assert not np.allclose(drawn, original)
        assert np.array_equal(drawn > 0, original > 0) == (null == "nonzero")


def test_batch_norm_is_folded_before_sizes_are_taken() -> None:
    """Affinities are sum |kernel| · |gamma| / √(var + eps), also where gamma is negative; not signed, not unfolded."""
    import torch

    from innersight_graph import neuron_graph

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 2)
    ).eval()
    norm = model[1]
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, -3.0, 0.5, -0.1]))
        norm.running_var.copy_(torch.tensor([4.0, 0.25, 1.0, 9.0]))
    G = neuron_graph(model, example=torch.zeros(1, 2, 6, 6), edges="l1", fold_batchnorm=True)
    A = _Network(G, "none").adjacency()
    scale = (norm.weight.abs() / (norm.running_var + norm.eps).sqrt()).detach()
    first = (model[0].weight.abs().sum((2, 3)) * scale[:, None]).detach().numpy().T
    second = model[3].weight.abs().sum((2, 3)).detach().numpy().T
    assert (A >= 0).all()
    assert np.allclose(A[:2, 2:6], first, rtol=1e-5)
    assert np.allclose(A[2:6, 6:], second, rtol=1e-5)
    assert spectral_communities(G, 3, gauge="none", n_init=2, seed=0).stats["0"]["ncut"] >= 0


def test_block_diagonal_network_has_no_cut() -> None:
    block = np.kron(np.eye(2), np.ones((4, 4)))
    layers = [Layer(n, d, 8, "linear") for d, n in enumerate(("input", "h", "output"))]
    P = spectral_communities(
        LayeredDiGraph.from_arrays(layers, {("input", "h"): block, ("h", "output"): -block}), 2, seed=0
    )
    assert P.stats["h"]["ncut"] == pytest.approx(0, abs=1e-9)
    assert sorted(map(len, P)) == [4, 4]


# ---------------------------------------------------------------------- Hod et al.


def test_rank_p_counts_ties_against_the_claim() -> None:
    assert rank_p_value(2.0, [1, 2, 3]) == 3 / 4
    assert rank_p_value(2.0, [1, 2, 3], larger=False) == 3 / 4
    assert rank_p_value(9.0, np.zeros(19)) == 1 / 20


def test_importance_and_coherence_of_a_planted_group() -> None:
    rng = np.random.default_rng(0)
    null = rng.uniform(0.0, 0.1, (2, 19, 4))
    found = specialization_test([[0.9, 0.0, 0.0, 0.0], [0.05, 0.05, 0.05, 0.05]], null)
    assert found.importance_p[0] == found.coherence_p[0] == pytest.approx(1 / 20)
    assert found.importance_p[1] > 0.05
    assert found.importance_effect[0] > 0.5
    assert found.coherence_effect[1] < 0.5
    with pytest.raises(InputError):
        specialization_test([[0.1]], null)


def test_importance_and_coherence_are_tested_against_groups_of_equal_size() -> None:
    """From the closings of a live model: the group an output needs is important and coherent, a group of spares not."""
    import torch

    from innersight_graph import ablate, neuron_graph
    from innersight_graph.statistics import matched_label_draws

    # Neurons 0-3 carry class 0, neurons 4-11 repeat each other for classes 1 and 2: closing three costs nothing.
    into, out = torch.zeros(12, 3), torch.zeros(3, 12)
    into[:4, 0], into[4:8, 1], into[8:, 2] = 1.0, 1.0, 1.0
    out[0, :4], out[1, 4:8], out[2, 8:] = 1.0, 1.0, 1.0
    model = torch.nn.Sequential(torch.nn.Linear(3, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3))
    with torch.no_grad():
        model[0].weight.copy_(into)
        model[2].weight.copy_(out)
        model[0].bias.zero_()
        model[2].bias.copy_(torch.tensor([0.0, 0.1, 0.1]))
    inputs, targets = torch.eye(3).repeat(10, 1), torch.arange(3).repeat(10)
    G = neuron_graph(model, (inputs, targets))
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 1, 1, 2, 2])

    def drops(members: np.ndarray) -> np.ndarray:
        with torch.no_grad(), ablate(model, [("0", int(i)) for i in members], graph=G):
            right = (model(inputs).argmax(1) == targets).float()
        return np.array([1 - float(right[targets == c].mean()) for c in range(3)])

    own = np.array([drops(np.flatnonzero(labels == c)) for c in range(3)])
    null = np.array(
        [[drops(np.flatnonzero(row == c)) for row in matched_label_draws(labels, 19, seed=0)] for c in range(3)]
    )
    assert all((np.bincount(row) == np.bincount(labels)).all() for row in matched_label_draws(labels, 19, seed=0))
    assert own[0].tolist() == [1, 0, 0]
    found = specialization_test(own, null)
    expected = [(1 + (null[c].mean(1) >= own[c].mean()).sum()) / 20 for c in range(3)]
    assert found.importance_p.tolist() == expected
    assert found.importance_p[0] <= 0.1
    assert found.importance_p[1] == found.importance_p[2] == 1


def test_squared_spearman_matches_scipy() -> None:
    from scipy.stats import spearmanr

    outputs = RNG.standard_normal((5, 40))
    outputs[2] = np.exp(outputs[1])
    ours = squared_spearman(outputs)
    theirs = spearmanr(outputs.T).statistic ** 2
    np.fill_diagonal(theirs, 0)
    assert np.allclose(ours, theirs)
    assert ours[1, 2] == pytest.approx(1)


# ---------------------------------------------------------------------- Lange et al.


def test_modularity_is_the_one_of_networkx_and_never_falls_below_the_bisection() -> None:
    S = affinity(np.cov(RNG.standard_normal((25, 60))))
    G = nx.from_numpy_array(S)
    start = _bisect(S, None)
    sets = [set(np.flatnonzero(start == c).tolist()) for c in np.unique(start)]
    assert modularity(S, start) == pytest.approx(nx.community.modularity(G, sets))
    found = similarity_communities(G, similarities={"graph": S + np.eye(25)}, normalize=False, steps=800, seed=0)
    assert found.stats["graph"]["modularity"] >= modularity(S, start) - 1e-9
    assert found.stats["graph"]["modularity"] == pytest.approx(nx.community.modularity(G, list(found)))


def test_bipartite_similarity_is_not_split_along_its_negative_eigenvector() -> None:
    S = nx.to_numpy_array(nx.complete_bipartite_graph(3, 3))
    assert np.unique(_bisect(S, None)).size == 1


def test_linear_network_has_the_analytic_sensitivity_and_its_duplicates_are_together() -> None:
    W = RNG.standard_normal((6, 10))
    W[3] = W[0]
    S = {"graph": W @ W.T}  # J of a linear layer is its weight matrix
    assert affinity(S["graph"])[0, 3] == pytest.approx(1)
    P = similarity_communities(nx.path_graph(6), similarities=S, seed=0)
    assert any({0, 3} <= community for community in P)


# ---------------------------------------------------------------------- geometric


def test_placing_never_raises_the_cost_and_single_swaps_cannot_lower_it() -> None:
    G, _ = planted_layers(3, snr=3, widths=(18, 15, 18), density=0.3, seed=0)
    P = geometric_communities(G, 3, gauge="none", seed=0)
    stats = P.stats["hidden1"]
    assert stats["cost"] <= stats["cost_before"]
    from innersight_graph.detection.geometric import _line, _place

    weights = {pair: np.abs(G.matrix(*pair)).astype(float) for pair in G.connections}
    placed = _place(weights, {layer.name: _line(np.arange(layer.width)) for layer in G.layers}, 30)
    best = connection_cost(weights, placed)
    for i in range(15):
        for j in range(i):
            swapped = {name: x.copy() for name, x in placed.items()}
            swapped["hidden1"][[i, j]] = swapped["hidden1"][[j, i]]
            assert connection_cost(weights, swapped) >= best - 1e-12


def test_cuts_are_the_best_contiguous_groups() -> None:
    from itertools import combinations

    x, w = np.sort(RNG.random(9)), RNG.random(9) + 0.1

    def spread(labels: np.ndarray) -> float:
        total = 0.0
        for c in np.unique(labels):
            inside = labels == c
            centre = np.average(x[inside], weights=w[inside])
            total += float((w[inside] * (x[inside] - centre) ** 2).sum())
        return total

    best = min(spread(np.searchsorted(cuts, np.arange(9), side="right")) for cuts in combinations(range(1, 9), 2))
    assert spread(_cut(x, w, 3)) == pytest.approx(best)


def test_random_keeps_the_sizes_of_another_partition() -> None:
    G = layered()
    like = Partition.from_labels(G, {"a": [0] * 12 + [1] * 5 + [-1] * 3}, method="x")
    P = random_communities(G, like=like, layers="a", seed=0)
    assert [len(c) for c in P] == [12, 5]
    assert (P.labels("a") == -1).tolist() == (like.labels("a") == -1).tolist()
