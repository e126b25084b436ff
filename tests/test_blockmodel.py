"""`blockmodel_communities` on graphs whose answer is known, and on graphs that have none."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from innersight_graph import InputError, agreement, blockmodel_communities, neuron_graph
from innersight_graph.detection._blockmodel.profile import balanced_rows, equalised, rotation
from innersight_graph.detection._blockmodel.reading import kurtosis
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.partition import Partition
from innersight_graph.planted import (
    compiled_programs,
    equivalent_graph,
    null_layers,
    planted_blocks,
    planted_hubs,
    planted_layers,
    planted_roles,
    planted_scale,
    translate,
)

SMALL = (100, 100, 100)


def two_sided(before: np.ndarray, after: np.ndarray, **about: object) -> LayeredDiGraph:
    names, widths = ("input", "hidden", "output"), (before.shape[1], before.shape[0], after.shape[1])
    layers = [Layer(n, d, w, "linear") for d, (n, w) in enumerate(zip(names, widths, strict=True))]
    return LayeredDiGraph.from_arrays(layers, {("input", "hidden"): before.T, ("hidden", "output"): after}, **about)


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda: planted_layers(4, snr=2.5, seed=5), 0.9),
        (lambda: planted_roles(0.1, seed=5), 0.97),
        (lambda: planted_roles(0.1, flip=True, seed=5), 0.9),
        (lambda: planted_hubs(1.0, seed=5), 0.9),
        (lambda: planted_blocks(1.2, seed=5), 0.85),
        (lambda: planted_blocks(0.6, keep=0.2, widths=SMALL, seed=5), 0.9),
        (lambda: planted_blocks(0.6, sizes=(50, 30, 12, 8), widths=SMALL, seed=5), 0.9),
    ],
    ids=["layers", "roles", "flip", "hubs", "blocks", "signs of blocks", "unequal"],
)
def test_finds_planted_communities_and_their_number(make, least) -> None:  # type: ignore[no-untyped-def]
    G, truth = make()
    P = blockmodel_communities(G, seed=0, rotations=0)
    assert agreement(truth, P).ari >= least
    assert P.stats["hidden1"]["mode"] == "bound"
    assert P.stats["hidden1"]["gain"] > 0
    assert P.stats["hidden1"]["stability"] > 0.7


@pytest.mark.parametrize("kind", ["signs", "hubs", "balance", "gaussian", "heavy", "init"])
def test_finds_nothing_where_there_is_nothing(kind: str) -> None:
    for seed in range(2):
        G, truth = null_layers(kind, widths=SMALL, seed=seed)
        P = blockmodel_communities(G, seed=0)
        assert truth == P
        assert P.stats["hidden1"]["mode"] == "none"
        assert max(P.stats["hidden1"]["criterion"].values()) == 0


def test_sensitive_mode_sees_what_the_bound_must_refuse() -> None:
    G, truth = planted_layers(4, snr=1.6, seed=7)
    quiet = blockmodel_communities(G, seed=0)
    weak = blockmodel_communities(G, sensitive=True, replicates=39, seed=0)
    assert len(quiet) == 1
    stats = weak.stats["hidden1"]
    assert stats["mode"] == "weak evidence"
    assert stats["p_value"] <= 0.05
    assert len(weak) >= 1 + stats["n_significant"]
    assert agreement(truth, weak).ari > 0.2


def test_a_rotated_basis_has_no_communities_of_neurons() -> None:
    from innersight_graph.comparison.tasks import _graph_of

    turned, truth = compiled_programs(rotate=True, seed=20)
    P = blockmodel_communities(_graph_of(turned), layers=["stream1", "stream2"], seed=0)
    assert [P.stats[layer]["mode"] for layer in truth.layers] == ["continuum", "continuum"]
    assert agreement(truth, P).ari == 1
    without = blockmodel_communities(_graph_of(turned), layers=["stream1"], rotations=0, seed=0)
    assert len(without) > 1


def test_axis_aligned_weights_survive_the_rotations() -> None:
    G, truth = planted_blocks(0.7, widths=SMALL, seed=3)
    P = blockmodel_communities(G, seed=0)
    assert P.stats["hidden1"]["rotation_p_values"][0] <= 0.00005
    assert agreement(truth, P).ari > 0.9


def test_few_large_weights_among_many_small_ones_are_read_as_signs() -> None:
    # Scores of ranks gave the many small weights a say: ARI .5 with the number given.
    model, truth = compiled_programs(noise=0.1, seed=3)
    first = next(model.parameters())
    with pytest.warns(UserWarning, match="No non-linearity"):
        G = neuron_graph(model, example=torch.zeros(1, first.shape[1], dtype=first.dtype))
    P = blockmodel_communities(G, 4, layers="read1", seed=0)
    assert P.stats["read1"]["weights"] == "signed"
    assert agreement(truth, P, layer="read1").ari > 0.95
    drowned = blockmodel_communities(G, 4, layers="stream2", weights="scores", seed=0)
    signed = blockmodel_communities(G, 4, layers="stream2", seed=0)
    assert agreement(truth, signed, layer="stream2").ari > agreement(truth, drowned, layer="stream2").ari + 0.2


def test_rotations_make_weights_normal_so_heavy_tails_are_no_continuum() -> None:
    # What spares the signed reading the comparison with rotations.
    rng = np.random.default_rng(0)
    heavy = rng.standard_t(1.5, (64, 90)) * (rng.random((64, 90)) < 0.3) + 0.05 * rng.standard_normal((64, 90))
    flat = rng.uniform(-1, 1, (64, 90))
    for W, own in ((heavy, 4.0), (flat, 0.0)):
        assert kurtosis(equalised(W)) > own
        turned = [kurtosis(equalised(rotation(64, rng) @ balanced_rows([W])[0])) for _ in range(20)]
        assert 2.7 < np.mean(turned) < 3.3


# ---------------------------------------------------------------------- symmetries


@pytest.mark.parametrize(
    "make", [lambda: planted_hubs(0.5, widths=SMALL, seed=2)[0], lambda: planted_blocks(0.8, widths=SMALL, seed=2)[0]]
)
def test_order_and_sign_do_not_matter(make) -> None:  # type: ignore[no-untyped-def]
    G = make()
    P = blockmodel_communities(G, 4, seed=0)
    H, order = equivalent_graph(G, rescale=1.0, seed=1)
    assert agreement(translate(P, H, order), blockmodel_communities(H, 4, seed=0)).ari > 0.97
    negated = LayeredDiGraph.from_arrays(G.layers, {pair: -G.matrix(*pair) for pair in G.connections})
    assert agreement(P, blockmodel_communities(negated, 4, seed=0)).ari > 0.97


@pytest.mark.parametrize("weights", ["scores", "levels", "signed"])
def test_rescaling_relu_neurons_moves_nothing(weights: str) -> None:
    G, _ = planted_blocks(0.8, widths=SMALL, seed=2)
    H, order = equivalent_graph(G, permute=False, rescale=16.0, seed=1)
    P = blockmodel_communities(G, 4, weights=weights, seed=0)
    assert translate(P, H, order) == blockmodel_communities(H, 4, weights=weights, seed=0)


def test_same_seed_same_answer_and_global_randomness_untouched() -> None:
    G, _ = planted_layers(3, snr=3, widths=SMALL, density=0.15, seed=0)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (blockmodel_communities(G, seed=3) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


# ---------------------------------------------------------------------- the joint chain


def test_joint_fit_links_layers_where_it_can_and_withdraws_where_it_cannot() -> None:
    strong, truth = planted_layers(3, snr=4, widths=(90,) * 5, density=0.2, seed=1)
    P = blockmodel_communities(strong, joint=True, seed=0)
    assert P.stats["hidden1"]["joint"] == "joint"
    assert agreement(truth, P).ari >= agreement(truth, blockmodel_communities(strong, seed=0)).ari - 0.02
    assert agreement(truth, P).ari > 0.95
    weak, _ = planted_layers(4, snr=1.0, widths=(90,) * 5, density=0.2, seed=1)
    separate = blockmodel_communities(weak, 4, seed=0)
    joined = blockmodel_communities(weak, 4, joint=True, seed=0)
    if joined.stats["hidden1"]["joint"] != "joint":
        assert joined == separate


# ---------------------------------------------------------------------- odd inputs


def test_karate_splits_into_its_clubs() -> None:
    G = nx.karate_club_graph()
    P = blockmodel_communities(G, 2, weights="signed", seed=0)
    clubs = Partition.from_communities(G, [[v for v in G if G.nodes[v]["club"] == c] for c in ("Mr. Hi", "Officer")])
    assert agreement(clubs, P).ari > 0.6


def test_silent_and_unconnected_neurons_are_set_aside() -> None:
    G, truth = planted_hubs(0.3, widths=SMALL, seed=2)
    before, after = G.matrix("input", "hidden1").T.copy(), G.matrix("hidden1", "output").copy()
    before[5], after[5] = 0, 0
    silent = np.zeros(100, dtype=bool)
    silent[[1, 2, 3]] = True
    H = two_sided(before, after, node_attributes={"hidden": {"silent": silent}})
    P = blockmodel_communities(H, 4, seed=0)
    labels = P.labels("hidden")
    assert labels[5] == -1
    assert P.stats["hidden"]["unassigned"] == 1
    assert P.stats["hidden"]["n_communities"] == 4
    assert {n.index for n in P[P.stats["hidden"]["silent"]]} == {1, 2, 3}
    assert P.responsibilities is not None
    shares = P.responsibilities["hidden"]
    assert np.allclose(np.delete(shares, 5, axis=0).sum(axis=1), 1)
    kept = [i for i in range(100) if i not in (1, 2, 3, 5)]
    from sklearn.metrics import adjusted_rand_score

    assert adjusted_rand_score(truth.labels("hidden1")[kept], labels[kept]) > 0.9


@pytest.mark.parametrize(
    "W",
    [np.zeros((6, 5)), np.ones((6, 5)), np.eye(6, 5), np.ones((1, 5)), np.full((6, 1), -2.0)],
    ids=["empty", "constant", "diagonal", "one neuron", "one feature"],
)
def test_degenerate_layers_have_one_answer(W: np.ndarray) -> None:
    P = blockmodel_communities(two_sided(W, W), seed=0)
    assert sum(map(len, P)) >= 1
    assert P.stats["hidden"]["n_communities"] == len(P)


def test_sparse_and_dense_connections_agree() -> None:
    G, _ = planted_scale(4, widths=(120, 100, 80), matched=0.5, unmatched=0.1, seed=0)
    D = LayeredDiGraph.from_arrays(G.layers, {pair: G.matrix(*pair).toarray() for pair in G.connections})
    assert blockmodel_communities(G, seed=0) == blockmodel_communities(D, seed=0)


def test_soft_labels_agree_with_hard_ones_and_candidates_are_kept() -> None:
    G, truth = planted_layers(3, snr=4, widths=SMALL, density=0.2, seed=4)
    P = blockmodel_communities(G, [2, 3], seed=0)
    assert P.responsibilities is not None
    assert np.array_equal(P.responsibilities["hidden1"].argmax(axis=1), P.labels("hidden1"))
    assert len(P) == 3
    assert set(P.stats["hidden1"]["criterion"]) == {1, 2, 3}
    assert len(blockmodel_communities(G, {"hidden1": 2}, seed=0)) == 2
    assert agreement(truth, blockmodel_communities(G, criterion="icl", seed=0)).ari > 0.9


def test_a_number_asked_for_is_given_even_where_nothing_supports_it() -> None:
    G, _ = null_layers("init", widths=(50, 40, 30), seed=0)
    P = blockmodel_communities(G, 6, seed=0)
    assert len(P) == 6
    assert P.stats["hidden1"]["mode"] == "given"
    assert P.stats["hidden1"]["gain"] < 0


@pytest.mark.parametrize(
    "options",
    [{"weights": "rank"}, {"criterion": "q"}, {"degree": "none"}, {"keep": 0}, {"n_communities": 101}, {"n_init": 0}],
)
def test_bad_options_are_named(options: dict[str, object]) -> None:
    G, _ = planted_layers(2, snr=1, widths=SMALL, seed=4)
    with pytest.raises(InputError):
        blockmodel_communities(G, seed=0, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_layer_of_a_language_model() -> None:
    import time

    G, truth = planted_scale(seed=0)
    begin = time.process_time()
    P = blockmodel_communities(G, 64, seed=0)
    assert agreement(truth, P).ari >= 0.98
    assert time.process_time() - begin < 240
