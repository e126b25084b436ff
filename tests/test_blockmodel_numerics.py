"""The latent block model's parts against integrals, loops and enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from innersight_graph.detection._blockmodel.degrees import row_degrees, row_locations
from innersight_graph.detection._blockmodel.expectation import (
    Dense,
    Product,
    Shared,
    saturating_margins,
    signed_expectation,
)
from innersight_graph.detection._blockmodel.gaussian import GaussianBlock
from innersight_graph.detection._blockmodel.poisson import STRENGTHS, PoissonBlock
from innersight_graph.detection._blockmodel.profile import (
    equalised,
    graded_profile,
    level_codes,
    normal_scores,
    scored_profile,
    sign_codes,
    signed_profile,
)
from innersight_graph.detection._blockmodel.sensitive import NullTest, _last_level, null_test
from innersight_graph.detection._blockmodel.start import directions, leading_values
from innersight_graph.detection._blockmodel.variational import (
    _best_merge,
    _merged,
    assess,
    harden,
    improve,
    label_cost,
    merge_features,
    soften,
)
from innersight_graph.planted import null_layers

RNG = np.random.default_rng(0)


def signs(n: int = 12, m: int = 15, density: float = 0.4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 0.0, 1.0], (n, m), p=[density / 2, 1 - density, density / 2])


def sign_block(W: np.ndarray, rows: str = "total") -> PoissonBlock:
    return signed_profile([sign_codes(W)], degree=rows).blocks[0]  # type: ignore[return-value]


# ---------------------------------------------------------------------- the null


@pytest.mark.parametrize("sigma", [0.3, 1.5])
def test_margins_are_met_and_never_exceed_one(sigma: float) -> None:
    rng = np.random.default_rng(1)
    p = np.minimum(0.95, 0.2 * np.exp(sigma * rng.standard_normal((60, 1)) + sigma * rng.standard_normal((1, 80))))
    A = rng.random(p.shape) < p
    x, y = saturating_margins(A.sum(axis=1).astype(float), A.sum(axis=0).astype(float), rounds=400, tol=1e-6)
    fitted = -np.expm1(-np.outer(x, y))
    assert fitted.max() <= 1
    assert np.allclose(fitted.sum(axis=1), A.sum(axis=1), rtol=1e-3, atol=1e-3)
    assert np.allclose(fitted.sum(axis=0), A.sum(axis=0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rows", ["total", "sign"])
@pytest.mark.parametrize("density", [0.2, 0.5])
def test_signed_null_keeps_the_degrees_it_promises(rows: str, density: float) -> None:
    A = signs(40, 200, density, seed=3)
    channels = np.stack([A > 0, A < 0]).astype(float)
    null, _ = signed_expectation(channels.sum(axis=2), channels.sum(axis=1), rows=rows, rounds=300)
    E = null.dense()
    assert np.allclose(E.sum(axis=(0, 2)), np.abs(A).sum(axis=1), rtol=0.02, atol=0.05)
    # A row's own share of signs leaves the columns' shares only in expectation.
    assert np.allclose(
        E.sum(axis=1), channels.sum(axis=1), rtol=0.02 if rows == "total" else 0.25, atol=0.05 if rows == "total" else 3
    )


@pytest.mark.parametrize("rows", ["total", "sign"])
def test_a_sparse_null_is_the_product_of_its_degrees(rows: str) -> None:
    row_signs, column_signs = np.full((2, 50), 2.0), np.full((2, 100), 1.0)
    row_signs[:, :25] += np.array([[1.0], [-1.0]])
    row_signs[:, 25:] += np.array([[-1.0], [1.0]])
    null, margins = signed_expectation(row_signs, column_signs, rows=rows)
    E = null.dense()
    assert margins is None
    assert np.allclose(E.sum(axis=1), column_signs)
    assert np.allclose(E.sum(axis=(0, 2)), row_signs.sum(axis=0))
    assert np.allclose(E.sum(axis=2), row_signs) == (rows == "sign")


def test_every_expectation_agrees_with_its_dense_form() -> None:
    rng = np.random.default_rng(2)
    cases = [
        Product(rng.random((2, 7)), rng.random((2, 9))),
        Shared(rng.random((7, 9)), rng.random((2, 9))),
        Dense(rng.random((2, 7, 9))),
    ]
    B, Q = rng.random((2, 9, 3)), rng.random((7, 3))
    for case in cases:
        E = case.dense()
        assert np.allclose(case.rows(B), np.einsum("skf,sfc->kc", E, B))
        assert np.allclose(case.reach(Q), np.einsum("skf,kc->sfc", E, Q))


def test_row_degrees_tell_a_role_from_a_nuisance() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(20, 60, 200)
    positive = lambda share: rng.binomial(n, share).astype(float)  # noqa: E731
    plain, roles = positive(np.full(200, 0.5)), positive(np.where(rng.random(200) < 0.5, 0.15, 0.85))
    continuous = positive(rng.beta(3, 3, 200))
    sides = {"plain": (plain, n - plain), "roles": (roles, n - roles), "continuous": (continuous, n - continuous)}
    kept = {name: row_degrees([side])[0] for name, side in sides.items()}
    assert kept == {"plain": "total", "roles": "total", "continuous": "sign"}
    noise = rng.normal(0, 0.1, 300)
    for means, expected in (
        (noise, "total"),
        (noise + np.where(rng.random(300) < 0.5, 1, -1), "total"),
        (noise + rng.normal(0, 1, 300), "sign"),
    ):
        assert row_locations([(means, 0.1)]) == (expected,)
    assert row_degrees([(n[:3] * 1.0, n[:3] * 0.0)]) == ("sign",)
    # Each side decides for itself, but one that shows some variation follows the other.
    assert row_degrees([sides["roles"], sides["continuous"]]) == ("total", "sign")
    assert row_degrees([sides["plain"], sides["continuous"]]) == ("total", "sign")
    hardly = rng.binomial(n, rng.beta(90, 90, 200)).astype(float)
    assert row_degrees([(hardly, n - hardly)]) == ("total",)
    assert row_degrees([(hardly, n - hardly), sides["continuous"]]) == ("sign", "sign")


# ---------------------------------------------------------------------- evidence


@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_poisson_evidence_is_the_integral_of_the_likelihood(strength: float) -> None:
    A = (np.random.default_rng(4).random((6, 6)) < 0.4) * 1.0
    block = sign_block(A)
    z, w = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 0, 1, 0, 1])
    stats_ = block.statistics(np.eye(2)[z], np.eye(2)[w])
    evidence = block.cell_evidence(stats_)[list(STRENGTHS).index(strength)]
    E = block.expectation.dense()[0]
    for c, h in itertools.product(range(2), range(2)):
        inside = np.ix_(z == c, w == h)
        a, e = A[inside].ravel(), E[inside].ravel()

        def joint(theta: float, a: np.ndarray = a, e: np.ndarray = e) -> float:
            return float(
                np.prod(stats.poisson.pmf(a, e * theta)) * stats.gamma.pdf(theta, strength, scale=1 / strength)
            )

        exact = np.log(integrate.quad(joint, 0, 60, limit=400)[0])
        # Constants that are the same for every labelling are left out of the evidence; the empty channel adds its own
        # null.
        constant = float((a * np.log(np.maximum(e, 1e-300))).sum())
        empty = strength * np.log(strength) - strength * np.log(strength)
        assert evidence[c, h] + constant + empty == pytest.approx(exact, abs=1e-6)


def test_gaussian_evidence_is_the_integral_of_the_likelihood() -> None:
    block = GaussianBlock(np.random.default_rng(5).standard_normal((3, 2)))
    table = block.statistics(np.ones((3, 1)), np.ones((2, 1)))
    x, scale = block.scores.ravel(), float((block.scores**2).mean())
    for i, κ in enumerate(STRENGTHS[:1]):
        prior = stats.invgamma(1 + κ / 2, scale=κ / 2 * scale)

        def joint(mean: float, variance: float, κ: float = κ, prior: object = prior) -> float:
            likelihood = np.prod(stats.norm.pdf(x, mean, np.sqrt(variance)))
            return float(likelihood * stats.norm.pdf(mean, 0, np.sqrt(variance / κ)) * prior.pdf(variance))  # type: ignore[attr-defined]

        exact = np.log(integrate.dblquad(joint, 1e-3, 60, -8, 8, epsabs=1e-7)[0])
        assert float(block.cell_evidence(table)[i, 0, 0]) == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize(("n", "k"), [(6, 2), (5, 3)])
def test_label_costs_are_a_distribution_over_labellings(n: int, k: int) -> None:
    total = sum(
        np.exp(label_cost(np.bincount(z, minlength=k).astype(float))) for z in itertools.product(range(k), repeat=n)
    )
    assert total == pytest.approx(1.0)


def test_statistics_add_over_groups_and_a_merge_gains_what_it_says() -> None:
    block = sign_block(signs(12, 15))
    rng = np.random.default_rng(6)
    Q, R = rng.dirichlet(np.ones(3), 12), rng.dirichlet(np.ones(4), 15)
    table = block.statistics(Q, R)
    assert np.allclose(_merged(table, 0, 2, axis=2), block.statistics(Q, _merged(R, 0, 2, axis=1)))
    pair, gain = _best_merge(block, table, R)
    after = assess([block], Q, [_merged(R, *pair, axis=1)]).bound
    assert after - assess([block], Q, [R]).bound == pytest.approx(gain, abs=1e-9)
    others = [assess([block], Q, [_merged(R, i, j, axis=1)]).bound for i, j in itertools.combinations(range(4), 2)]
    assert after == pytest.approx(max(others))


def test_merging_never_lowers_the_bound() -> None:
    block = sign_block(signs(20, 25, seed=8))
    rng = np.random.default_rng(1)
    state = assess([block], rng.dirichlet(np.ones(2), 20), [rng.dirichlet(np.ones(5), 25)])
    merged = merge_features([block], state)
    assert merged.bound >= state.bound
    assert merged.features[0].shape[1] < 5


def test_messages_match_a_naive_loop() -> None:
    W = signs(8, 9)
    block = sign_block(W)
    rng = np.random.default_rng(7)
    Q, R = rng.dirichlet(np.ones(2), 8), rng.dirichlet(np.ones(3), 9)
    θ = block.parameters(block.statistics(Q, R), 3.0)
    E, channels = block.expectation.dense(), [W > 0, W < 0]
    naive = np.zeros((8, 2))
    for k, c, f, s in itertools.product(range(8), range(2), range(9), range(2)):
        rate = sum(R[f, h] * θ[s, c, h] for h in range(3))
        naive[k, c] += channels[s][k, f] * np.log(rate) - E[s, k, f] * rate
    assert np.allclose(block.row_messages(θ, R), naive)
    mirrored = PoissonBlock(block.codes.T.copy(), 2, Dense(E.transpose(0, 2, 1)))
    assert np.allclose(block.column_messages(θ, Q), mirrored.row_messages(θ.transpose(0, 2, 1), Q))


def test_reading_codes_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sign_block(signs(30, 20))
    monkeypatch.setattr("innersight_graph.detection._blockmodel.poisson._CHUNK_ENTRIES", 50)
    pieces = PoissonBlock(whole.codes, 2, whole.expectation)
    assert pieces._channels is None
    rng = np.random.default_rng(0)
    Q, R = rng.dirichlet(np.ones(2), 30), rng.dirichlet(np.ones(3), 20)
    table = whole.statistics(Q, R)
    θ = whole.parameters(table, 1.0)
    assert np.allclose(pieces.statistics(Q, R), table)
    assert np.allclose(pieces.row_messages(θ, R), whole.row_messages(θ, R))
    assert np.allclose(pieces.column_messages(θ, Q), whole.column_messages(θ, Q))


def test_the_bound_at_hard_labels_is_the_exact_criterion() -> None:
    block = sign_block(signs(12, 15))
    z, w = RNG.integers(2, size=12), RNG.integers(3, size=15)
    hard = assess([block], np.eye(2)[z], [np.eye(3)[w]])
    assert assess([block], harden(hard.rows), [harden(hard.features[0])]).bound == hard.bound
    evidence = block.cell_evidence(hard.tables[0]).sum(axis=(1, 2)).max() - np.log(STRENGTHS.size)
    costs = label_cost(np.bincount(z, minlength=2).astype(float)) + label_cost(
        np.bincount(w, minlength=3).astype(float)
    )
    assert hard.bound == pytest.approx(evidence + costs)


def test_improving_keeps_the_best_bound_it_saw() -> None:
    block = sign_block(signs(30, 40, seed=2))
    start = assess([block], soften(RNG.integers(3, size=30), 3), [soften(RNG.integers(3, size=40), 3)])
    better = improve([block], start, max_iter=30)
    assert better.bound >= start.bound
    assert np.allclose(better.rows.sum(axis=1), 1)


# ---------------------------------------------------------------------- reading weights


def test_weights_are_read_up_to_row_and_column_factors() -> None:
    rng = np.random.default_rng(3)
    W = rng.standard_normal((30, 40))
    scaled = W * np.exp(rng.standard_normal((30, 1))) * np.exp(rng.standard_normal((1, 40)))
    assert np.allclose(equalised(W), equalised(scaled), rtol=1e-6)
    assert np.array_equal(level_codes(W, 4), level_codes(scaled, 4))
    a, b = scored_profile([W]).blocks[0], scored_profile([scaled]).blocks[0]
    assert np.allclose(a.scores, b.scores, atol=1e-6)  # type: ignore[attr-defined]


def test_levels_halve_and_carry_the_sign() -> None:
    W = np.random.default_rng(3).standard_normal((40, 50))
    codes = level_codes(W, 3)
    sizes = [int(np.isin(codes, (2 * level - 1, 2 * level)).sum()) for level in (1, 2, 3)]
    assert sizes == pytest.approx([500, 250, 250], abs=3)
    assert ((codes % 2 == 1) == (W > 0))[codes > 0].all()
    graded = graded_profile([W], n_levels=3).blocks[0]
    E = graded.expectation.dense()  # type: ignore[attr-defined]
    for level in range(3):
        inside = np.isin(codes, (2 * level + 1, 2 * level + 2))
        assert np.allclose(E[2 * level : 2 * level + 2].sum(axis=(0, 2)), inside.sum(axis=1))


def test_normal_scores_are_half_normal() -> None:
    scores = normal_scores(np.random.default_rng(0).random((100, 100)) + 0.1)
    assert stats.kstest(scores.ravel(), stats.halfnorm.cdf).pvalue > 0.99
    assert normal_scores(np.zeros((3, 3))).sum() == 0


def test_all_directions_have_the_eigenvalues_of_their_residuals() -> None:
    profile = signed_profile([sign_codes(signs(20, 25)), sign_codes(signs(20, 30, seed=1))])
    S, T = ([getattr(pair, kind) for pair in profile.pairs] for kind in ("difference", "total"))
    explicit = {
        "difference": S, "total": T, "plus": [(s + t) / np.sqrt(2) for s, t in zip(S, T, strict=True)],
        "minus": [(s - t) / np.sqrt(2) for s, t in zip(S, T, strict=True)],
        "side": [m / np.sqrt(2) for m in (*S, *T)],
        "difference-total": [S[0], T[1]], "total-difference": [T[0], S[1]],
    }  # fmt: skip
    found = {d.name: d for d in directions(profile.pairs, 5, rng=RNG)}
    leading = leading_values(profile.pairs, RNG, steps=20)
    assert found.keys() == explicit.keys()
    for name, matrices in explicit.items():
        gram = sum(m @ m.T for m in matrices)
        values = np.linalg.eigvalsh(gram)[::-1][:5] / (np.trace(gram) / 20)
        assert np.allclose(found[name].values, values)
        assert leading[name] == pytest.approx(values[0], rel=1e-4)


def test_the_power_iteration_agrees_with_the_exact_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    z, w = np.arange(60) % 3, np.arange(80) % 3
    W = np.where(z[:, None] == w, 1.0, 0.0) * (np.random.default_rng(0).random((60, 80)) < 0.7)
    profile = signed_profile([sign_codes(W)])
    exact = directions(profile.pairs, 2, rng=np.random.default_rng(0))
    monkeypatch.setattr("innersight_graph.detection._blockmodel.start._GRAM_LIMIT", 10)
    thin = directions(profile.pairs, 2, rng=np.random.default_rng(0))
    assert [d.name for d in exact] == [d.name for d in thin] == ["total"]
    assert np.allclose(exact[0].values, thin[0].values, rtol=1e-3)


# ---------------------------------------------------------------------- the sensitive test


def outcome_of(codes: np.ndarray, seed: int, replicates: int, alpha: float = 0.05) -> NullTest:
    profile = signed_profile([codes])
    spectrum = directions(profile.pairs, 5, rng=np.random.default_rng(seed))
    return null_test(profile, spectrum, replicates=replicates, alpha=alpha, largest=5, rng=np.random.default_rng(seed))


def test_the_null_test_ranks_structure_first_and_nothing_anywhere() -> None:
    z, w = np.arange(60) % 2, np.arange(80) % 2
    p = np.where(z[:, None] == w, 0.35, 0.15)
    structured = (np.random.default_rng(0).random(p.shape) < p) * 1.0
    found = outcome_of(sign_codes(structured), 0, 19)
    assert found.p_value == pytest.approx(0.05)
    assert found.significant
    assert found.n_significant >= 1
    # Nothing can be nearer to the null than 39 copies of which none is beyond: the test ends there.
    early = outcome_of(sign_codes(structured), 0, 199)
    assert (early.p_value, early.replicates, early.significant) == (pytest.approx(1 / 40), 39, True)
    assert outcome_of(sign_codes(structured), 0, 199, alpha=0.01).replicates == 199
    flat = [outcome_of(sign_codes(signs(40, 50, seed=s)), s, 39) for s in range(12)]
    assert sum(test.significant for test in flat) <= 3
    assert all(test.replicates < 39 for test in flat if test.p_value > 0.3)


def test_the_early_look_is_paid_for() -> None:
    # Exactly: a graph of rank u among the null's is significant when none of 39 copies is beyond it, or at the end.
    u = np.linspace(0, 1, 200_001)
    level = _last_level(0.05)
    assert 0.04 < level < 0.05
    alarms = np.where(u <= level, 1.0, (1 - u) ** 39)
    assert integrate.trapezoid(alarms, u) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("kind", ["init", "heavy"])
def test_copies_of_dense_weights_have_the_spectrum_of_the_null_they_came_from(kind: str) -> None:
    # A bounded distribution is the hard one: scaling collects its largest weights in few columns.
    ranks = []
    for seed in range(5):
        G, _ = null_layers(kind, widths=(80, 70, 80), seed=seed)
        profile = scored_profile([np.asarray(G.matrix("hidden1", "output"), dtype=float)])
        rng = np.random.default_rng(seed)
        own = leading_values(profile.pairs, rng)["total"]
        ranks += [own > leading_values(profile.draw(rng), rng)["total"] for _ in range(15)]
    assert 0.15 < np.mean(ranks) < 0.85
