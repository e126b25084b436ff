"""The planted generators: densities, difficulty, function and truth as promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innersight_graph import InputError, agreement
from innersight_graph.comparison.tasks import _graph_of
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition
from innersight_graph.planted import (
    compiled_programs,
    detectability,
    equivalent_graph,
    merged_networks,
    null_layers,
    planted_blocks,
    planted_hubs,
    planted_layers,
    planted_roles,
    planted_scale,
    run_programs,
    shuffled,
    translate,
    two_digits_network,
)
from innersight_graph.planted.networks import forward, train_mlp
from innersight_graph.planted.nulls import KINDS

WIDTHS = (120, 100, 80)


def matrices(G: LayeredDiGraph) -> list[np.ndarray]:
    return [np.asarray(G.matrix(*pair)) for pair in (("input", "hidden1"), ("hidden1", "output"))]


@pytest.mark.parametrize(
    "make",
    [
        lambda s: planted_layers(4, snr=2, widths=WIDTHS, density=0.2, seed=s),
        lambda s: planted_roles(0.1, widths=WIDTHS, seed=s),
        lambda s: planted_hubs(1.0, widths=WIDTHS, seed=s),
        lambda s: planted_blocks(0.5, widths=WIDTHS, seed=s),
        lambda s: planted_scale(4, widths=WIDTHS, seed=s),
        lambda s: null_layers("hubs", widths=WIDTHS, seed=s),
        lambda s: compiled_programs(copies=2, seed=s),
    ],
)
def test_the_seed_decides_everything_and_neurons_are_shuffled(make) -> None:  # type: ignore[no-untyped-def]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    (G, truth), (H, same), (_, other) = make(1), make(1), make(2)
    assert truth == same
    if isinstance(G, LayeredDiGraph):
        assert all((abs(G.matrix(*pair) - H.matrix(*pair))).max() == 0 for pair in G.connections)
    labels = truth.labels(truth.layers[0])
    if len(truth.restrict(truth.layers[0])) > 1:
        assert truth != other
        assert (np.diff(labels) != 0).sum() > len(labels) / 4  # not sorted by community
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(("snr", "C"), [(1.0, 2), (2.5, 4), (4.0, 3)])
def test_planted_difference_gives_the_snr_asked_for(snr: float, C: int) -> None:
    K, F, p = 240, (240, 240), 0.1
    d = C * np.sqrt(snr * p / (2 * np.sqrt(K * sum(F))))
    assert detectability(K, F, C, (d, -d), (p, p)) == pytest.approx(snr)


def test_signed_layers_have_the_probabilities_of_the_formula() -> None:
    C, p, K = 4, 0.2, 400
    G, truth = planted_layers(C, snr=6, widths=(K, K, K), density=p, seed=0)
    W = matrices(G)[1]
    z = truth.labels("hidden1")
    d = C * np.sqrt(6 * p / (2 * np.sqrt(K * 2 * K)))
    by_group = np.array([[(W[z == c] > 0).mean(axis=0), (W[z == c] < 0).mean(axis=0)] for c in range(C)])
    matched = by_group[:, 0].argmax(axis=0)
    plus = np.array([by_group[c, 0, matched == c].mean() for c in range(C)]).mean()
    minus = np.array([by_group[c, 1, matched == c].mean() for c in range(C)]).mean()
    assert plus == pytest.approx(p + d * (C - 1) / C, abs=0.02)
    assert minus == pytest.approx(p - d * (C - 1) / C, abs=0.02)
    assert (W > 0).mean() == pytest.approx(p, abs=0.01)
    assert np.abs(np.abs(W).sum(axis=1).reshape(-1).mean() / K - 2 * p) < 0.01
    with pytest.raises(InputError, match="density"):
        planted_layers(64, snr=8, widths=(4096, 11008, 4096))


def test_detectability_reduces_to_kesten_and_stigum() -> None:
    # One symmetric unsigned block: (c_in − c_out)² > q² c with c = n p.
    n, q, p_in, p_out = 500, 3, 0.06, 0.02
    p = (p_in + (q - 1) * p_out) / q
    ours = detectability(n, (n,), q, (p_in - p_out,), (p,))
    assert ours == pytest.approx((n * (p_in - p_out)) ** 2 / (q**2 * n * p))


def test_roles_cannot_be_seen_without_signs() -> None:
    G, truth = planted_roles(0.2, widths=(400, 200, 400), seed=0)
    W = matrices(G)[1]
    z = truth.labels("hidden1")
    share = np.array([(W[k] > 0).sum() / (W[k] != 0).sum() for k in range(200)])
    high = {c for c in range(4) if share[z == c].mean() > 0.5}
    assert len(high) == 2
    assert share[np.isin(z, list(high))].mean() == pytest.approx(0.85, abs=0.02)
    density = np.array([(W[z == c] != 0).mean() for c in range(4)])
    assert np.ptp(density) < 0.02
    flipped = matrices(planted_roles(0.2, widths=(400, 200, 400), flip=True, seed=0)[0])[1]
    assert np.abs([(row > 0).sum() / (row != 0).sum() for row in flipped]).std() < 0.8 * share.std()


def test_hubs_and_blocks_have_what_they_promise() -> None:
    G, _ = planted_hubs(1.0, widths=(300, 300, 300), seed=0)
    degree = (matrices(G)[1] != 0).sum(axis=1)
    assert degree.std() / degree.mean() > 0.5
    calm = (matrices(planted_hubs(0.0, widths=(300, 300, 300), seed=0)[0])[1] != 0).sum(axis=1)
    assert calm.std() / calm.mean() < 0.2
    B, truth = planted_blocks(0.5, sizes=(50, 30, 12, 8), widths=(80, 100, 80), seed=0)
    assert [len(c) for c in truth] == [50, 30, 12, 8]
    kept = matrices(planted_blocks(0.5, keep=0.2, widths=(80, 100, 80), seed=0)[0])[1]
    assert set(np.unique(kept)) == {-1, 0, 1}
    assert (kept != 0).mean() == pytest.approx(0.2, abs=0.001)
    inside = truth.labels("hidden1")[:, None] >= 0
    assert (matrices(B)[1] ** 2)[inside[:, 0]].mean() == pytest.approx(0.25 + 0.25, rel=0.15)
    with pytest.raises(InputError):
        planted_blocks(0.5, sizes=(50, 50), widths=(80, 100, 80))


@pytest.mark.parametrize("kind", KINDS)
def test_nulls_have_one_community(kind: str) -> None:
    G, truth = null_layers(kind, widths=(60, 50, 40), seed=0)
    assert [len(c) for c in truth] == [50]
    assert G.number_of_edges() > 0


def test_shuffles_keep_what_they_promise() -> None:
    G, _ = planted_hubs(1.0, widths=(40, 30, 40), seed=0)
    for keep in ("layer", "nonzero", "degrees"):
        H = shuffled(G, keep=keep, seed=1)
        for W, V in zip(matrices(G), matrices(H), strict=True):
            assert np.array_equal(np.sort(W.ravel()), np.sort(V.ravel()))
            assert not np.array_equal(W, V)
            if keep == "nonzero":
                assert np.array_equal(W != 0, V != 0)
            if keep == "degrees":
                for sign in (1, -1):
                    assert np.array_equal((sign == W).sum(axis=0), (sign == V).sum(axis=0))
                    assert np.array_equal((sign == W).sum(axis=1), (sign == V).sum(axis=1))
    with pytest.raises(InputError):
        shuffled(G, keep="rows")
    with pytest.raises(InputError):
        null_layers("none")


def test_compiled_network_computes_its_programs_in_any_basis() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (300, 21))
    x = torch.as_tensor(bits, dtype=torch.float64)
    for rotate in (False, True):
        model, truth = compiled_programs(rotate=rotate, copies=3, seed=4)
        assert np.allclose(model(x).detach(), run_programs(bits), atol=1e-9)
        assert len(truth) == (2 if rotate else 16)
    answers = run_programs(bits)
    assert np.array_equal(answers[:, 0], bits[:, :4].sum(axis=1) % 2)
    assert np.array_equal(answers[:, 1], bits[:, 4:9].sum(axis=1) >= 3)
    a, b = bits[:, 15:18] @ [4, 2, 1], bits[:, 18:21] @ [4, 2, 1]
    assert np.array_equal(answers[:, 3], np.sign(a - b))
    noisy, _ = compiled_programs(noise=0.3, copies=3, seed=4)
    assert not np.allclose(noisy(x).detach(), answers, atol=0.1)
    with pytest.raises(InputError):
        compiled_programs(stream=3)


def test_programs_share_no_connection() -> None:
    model, truth = compiled_programs(copies=3, seed=4)
    G = _graph_of(model)
    for s, t in zip(truth.layers[:-1], truth.layers[1:], strict=True):
        strength = np.abs(G.matrix(s, t))
        z, w = (np.unique(truth.labels(layer)) for layer in (s, t))
        table = np.array([[strength[np.ix_(truth.labels(s) == c, truth.labels(t) == d)].sum() for d in w] for c in z])
        assert ((table > 1e-9).sum(axis=1) == 1).all()


@pytest.mark.parametrize("inputs", ["own", "shared"])
def test_merged_networks_keep_their_function(inputs: str) -> None:
    model, truth = merged_networks(2, inputs=inputs, widths=(12, 8), epochs=6, seed=0)
    assert truth.params["accuracy"] == pytest.approx(truth.params["accuracy_before"])
    assert truth.params["accuracy"] > 0.6
    assert [len(c) for c in truth] == [12, 12, 8, 8]
    assert model[0].in_features == (128 if inputs == "own" else 64)
    crossed, same = merged_networks(2, inputs=inputs, widths=(12, 8), epochs=6, cross=1.0, seed=0)
    assert same == truth
    assert same.params["accuracy"] < truth.params["accuracy"]
    assert not torch.equal(model[2].weight, crossed[2].weight)


def test_two_digits_are_named_and_sides_found_by_ablation() -> None:
    _, truth = two_digits_network(width=24, epochs=8, seed=0)
    assert truth.params["accuracy"] > 0.7
    assert sum(map(len, truth)) == 24
    with pytest.raises(InputError):
        two_digits_network("colour")


def test_our_training_is_a_relu_network() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5))
    y = (x[:, 0] > 0).astype(np.int64)
    layers = train_mlp(x, y, (5, 8, 2), epochs=80, rng=rng)
    assert (forward(layers, x).argmax(1) == y).mean() > 0.9
    (W, b), (V, c) = layers
    assert np.allclose(forward(layers, x), np.maximum(x @ W.T + b, 0) @ V.T + c)


def test_equivalent_graph_has_the_same_paths() -> None:
    G, truth = planted_blocks(0.5, widths=(12, 10, 8), n_communities=2, seed=0)
    H, order = equivalent_graph(G, seed=1)
    W, V = matrices(G), matrices(H)
    assert np.allclose(W[0] @ W[1], V[0] @ V[1], rtol=1e-4)
    assert not np.allclose(np.sort(np.abs(W[0]).ravel()), np.sort(np.abs(V[0]).ravel()))
    moved = translate(truth, H, order)
    assert isinstance(moved, Partition)
    assert (
        np.array_equal(moved.labels("hidden1") == 0, truth.labels("hidden1")[order["hidden1"]] == 0) or len(moved) == 2
    )
    same, straight = equivalent_graph(G, permute=False, rescale=1.0)
    assert agreement(truth, translate(truth, same, straight)).ari == 1
