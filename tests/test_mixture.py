"""Starts, criteria, winners and the estimators."""

from __future__ import annotations

import itertools
import math
import warnings

import networkx as nx
import numpy as np
import pytest
from scipy.integrate import IntegrationWarning, quad
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from innersight_graph.engines import BinaryTable, Group, Problem
from innersight_graph.engines.numpy import ArrayEngine
from innersight_graph.errors import InputError
from innersight_graph.mixture.criteria import STRENGTHS, adjusted_rand, evidence, exact_icl, stability
from innersight_graph.mixture.estimators import BernoulliMixture, MultinomialMixture
from innersight_graph.mixture.gate import judge, shuffled_within_rows
from innersight_graph.mixture.held_out import _score, held_out
from innersight_graph.mixture.polish import Solution, _sweep, improved, leave_one_out, settle, winner
from innersight_graph.mixture.starts import DETERMINISTIC, INITS, Starter, structured_kind


def planted(n, M, c, seed, strength=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(c, size=n)
    logits = rng.normal(-1.0, 0.5, size=M)[None] + strength * rng.normal(size=(c, M))
    return rng.random((n, M)) < 1.0 / (1.0 + np.exp(-logits[truth])), truth


def problem_of(X, **options):
    likelihood = options.get("likelihood", "bernoulli")
    return Problem(BinaryTable.from_array(X, **options), likelihood)


# ------------------------------------------------------------------ starts


@pytest.mark.parametrize("init", list(INITS))
@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
def test_starts_are_responsibilities_and_keyed_by_restart(init, likelihood):
    X, _ = planted(30, 40, 3, 0)
    starter = Starter(problem_of(X, likelihood=likelihood), 7, "fc1", 5)
    together = starter.group(init, 4, range(8)).draw(tuple(range(8)))
    assert together.shape == (8, 4, 30)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    assert (together >= 0).all()
    np.testing.assert_allclose(together.sum(axis=1), 1.0, atol=1e-5)
    # A restart is the same in whatever company it is drawn.
    again = Starter(starter.problem, 7, "fc1", 5)
    apart = np.concatenate([again.group(init, 4, (k,)).draw((k,)) for k in (5, 2)])
    np.testing.assert_allclose(apart, together[[5, 2]], atol=1e-6)
    if init not in DETERMINISTIC:
        assert not np.array_equal(together[4], together[5])
        other = Starter(starter.problem, 8, "fc1", 5).group(init, 4, (4,)).draw((4,))
        assert not np.array_equal(other[0], together[4])


def test_starts_differ_between_layers_and_leave_global_randomness_alone():
    X, _ = planted(20, 20, 2, 1)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b = (Starter(problem_of(X), 0, layer).group("dirichlet", 3, (0,)).draw((0,)) for layer in ("fc1", "fc2"))
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_structured_is_a_mix_that_starts_with_ward():
    kinds = [structured_kind(k) for k in range(12)]
    assert kinds[:2] == [("ward", 0), ("spectral", 0)]
    assert {kind for kind, _ in kinds} == {"ward", "spectral", "k-means++", "near-uniform"}
    assert len(set(kinds)) == 12


def test_the_random_start_is_the_papers_e_step_from_uniform_probabilities():
    X, _ = planted(15, 20, 2, 2)
    problem = Problem(BinaryTable.from_array(X, merge=False))
    starter = Starter(problem, 3)
    tau = starter.uniforms("random", 4, (0, 1), 4 * 20).reshape(2, 4, 20).astype(np.float64)
    joint = np.log(tau) @ X.T + np.log1p(-tau) @ (~X).T
    expected = np.exp(joint - joint.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(starter.group("random", 4, (0, 1)).draw((0, 1)), expected, atol=1e-4)


@pytest.mark.parametrize("init", ["ward", "spectral", "k-means++"])
def test_deterministic_cuts_find_clear_groups(init):
    X, truth = planted(60, 400, 4, 3)
    labels = Starter(problem_of(X), 0).group(init, 4, (0,)).draw((0,))[0].argmax(axis=0)
    assert adjusted_rand_score(truth, labels) > (0.5 if init == "k-means++" else 0.95)


def test_ward_equals_scikit_learn():
    from sklearn.cluster import AgglomerativeClustering

    X, _ = planted(40, 60, 3, 4)
    starter = Starter(problem_of(X), 0)
    for r in (2, 5, 9):
        labels = starter.group("ward", r, (0,)).draw((0,))[0].argmax(axis=0)
        assert adjusted_rand_score(labels, AgglomerativeClustering(r).fit_predict(X.astype(float))) == 1.0


def test_a_sketch_replaces_distances_in_large_tables(monkeypatch):
    import innersight_graph.mixture.geometry as geometry
    import innersight_graph.mixture.starts as starts

    monkeypatch.setattr(geometry, "_EXACT_ROWS", 50)
    monkeypatch.setattr(geometry, "_EXACT_DIRECTIONS", 50)
    monkeypatch.setattr(starts, "_SAMPLE", 60)
    X, truth = planted(200, 300, 4, 5)
    starter = Starter(problem_of(X), 0, "", 6)
    assert not starter.geometry.exact
    vectors, values = starter.geometry.directions
    exact = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(values[:3], exact[:3], rtol=1e-3)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(vectors.shape[1]), atol=1e-4)
    for init in ("ward", "spectral", "k-means++"):
        labels = starter.group(init, 4, (0,)).draw((0,))[0].argmax(axis=0)
        assert adjusted_rand_score(truth, labels) > 0.5


def test_a_custom_start_may_give_labels_or_responsibilities():
    X, truth = planted(20, 30, 2, 6)
    by_labels = BernoulliMixture(2, init=lambda X, r, generator: truth, n_init=1, random_state=0).fit(X)
    by_shares = BernoulliMixture(2, init=lambda X, r, generator: np.eye(2)[truth], n_init=1, random_state=0).fit(X)
    assert by_labels.lower_bound_ == by_shares.lower_bound_
    with pytest.raises(InputError, match="init returned"):
        BernoulliMixture(2, init=lambda X, r, generator: truth + 5).fit(X)


# ------------------------------------------------------------------ criteria


def enumerated_evidence(X, labels, strength):
    """Integrate by one factor per entry: the predictive probability of each in turn."""
    total = 0.0
    means = X.mean(axis=0)
    for k in np.unique(labels):
        for j in range(X.shape[1]):
            if means[j] in (0.0, 1.0):
                continue
            a, b = strength * means[j], strength * (1 - means[j])
            for x in X[labels == k, j]:
                total += math.log((a if x else b) / (a + b))
                a, b = a + x, b + (1 - x)
    sizes = np.bincount(np.unique(labels, return_inverse=True)[1])
    k = len(sizes)
    chain = sum(math.lgamma(size + 1) for size in sizes) + math.lgamma(k) - math.lgamma(len(labels) + k)
    return total + chain


@pytest.mark.parametrize("strength", [2.0, 32.0])
@pytest.mark.parametrize("lookup", [512, 0])
def test_icl_equals_the_product_of_predictive_probabilities(strength, lookup, monkeypatch):
    import innersight_graph.mixture.criteria as criteria

    monkeypatch.setattr(criteria, "_LOOKUP_ROWS", lookup)
    X, labels = planted(12, 8, 3, 7)
    X = np.hstack([X, X[:, :2], ~X[:, 2:4]]).astype(int)
    for grouping in (labels, np.zeros(12, int), np.arange(12)):
        expected = enumerated_evidence(X, grouping, strength)
        assert exact_icl(problem_of(X), grouping, strength=strength) == pytest.approx(expected)


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
def test_icl_averages_over_strengths_and_ignores_names(likelihood):
    X, labels = planted(14, 20, 3, 8)
    problem = problem_of(X, likelihood=likelihood, groups=np.arange(20) // 10)
    each = [exact_icl(problem, labels, strength=s) for s in STRENGTHS]
    assert exact_icl(problem, labels) == pytest.approx(np.logaddexp.reduce(each) - math.log(len(STRENGTHS)))
    assert exact_icl(problem, labels * 7 + 3) == pytest.approx(exact_icl(problem, labels))
    assert evidence(problem, labels).likeliest == STRENGTHS[int(np.argmax(each[:-1]))]


def test_masked_icl_with_everything_observed_is_the_plain_one(monkeypatch):
    X, labels = planted(14, 20, 3, 9)
    table = BinaryTable.from_array(X, merge=False)
    full = BinaryTable(table.bits, 20, table.multiplicity, table.groups, np.packbits(np.ones_like(X), axis=1))
    assert exact_icl(Problem(full), labels) == pytest.approx(exact_icl(Problem(table), labels))


def test_multinomial_evidence_is_the_polya_urn():
    X, labels = planted(10, 6, 2, 10)
    X[0] = True
    problem = problem_of(X, likelihood="multinomial")
    links = X.sum(axis=0)
    prior = links * (6 / links.sum())
    expected = 0.0
    for k in np.unique(labels):
        urn = prior.copy()
        for row in X[labels == k]:
            for j in np.flatnonzero(row):
                expected += math.log(urn[j] / urn.sum())
                urn[j] += 1
    sizes = np.bincount(labels)
    grouping = sum(math.lgamma(size + 1) for size in sizes) + math.lgamma(2) - math.lgamma(12)
    assert exact_icl(problem, labels, strength=32.0) == pytest.approx(expected + grouping)


def beta_integral(a, b):
    """Integral of p^a (1 - p)^b by quadrature, whose weights take care of exponents below zero."""
    with warnings.catch_warnings():
        # Sharp peaks reach 1e-12 and no further, which the quadrature deplores.
        warnings.simplefilter("ignore", IntegrationWarning)
        return quad(lambda p: 1.0, 0.0, 1.0, weight="alg", wvar=(float(a), float(b)), epsabs=0.0)[0]


@pytest.mark.parametrize("masked", [False, True])
def test_icl_equals_numerical_integration(masked):
    """Every parameter integrated out by quadrature: probabilities one column at a time, sizes, and the strength."""
    rng = np.random.default_rng(20)
    X, labels = planted(9, 5, 2, 30)
    labels[:2] = 0, 1
    X[0], X[1] = True, False
    mask = rng.random(X.shape) < 0.8 if masked else np.ones(X.shape, bool)
    mask[:2] = True
    X &= mask
    means = X.sum(axis=0) / mask.sum(axis=0)
    each = []
    for strength in STRENGTHS:
        total = 0.0
        for k, j in itertools.product((0, 1), range(5)):
            rows = (labels == k) & mask[:, j]
            hits, misses = int(X[rows, j].sum()), int((~X[rows, j]).sum())
            if np.isinf(strength):
                total += hits * math.log(means[j]) + misses * math.log(1.0 - means[j])
                continue
            a, b = strength * means[j] + hits - 1.0, strength * (1.0 - means[j]) + misses - 1.0
            total += math.log(beta_integral(a, b) / beta_integral(a - hits, b - misses))
        each.append(total)
    grouping = math.log(beta_integral(*np.bincount(labels)))
    expected = grouping + np.logaddexp.reduce(each) - math.log(len(STRENGTHS))
    problem = Problem(BinaryTable.from_array(X, mask if masked else None))
    assert exact_icl(problem, labels) == pytest.approx(expected, rel=1e-7)


def test_multinomial_icl_equals_numerical_integration():
    """Two columns a block: a community's share of the first is all there is to integrate."""
    X, labels = planted(8, 4, 2, 31)
    X[0], X[1] = True, [True, False, True, False]
    labels[:2] = 0, 1
    groups = np.array([0, 0, 1, 1])
    problem = Problem(BinaryTable.from_array(X, likelihood="multinomial", groups=groups, merge=False), "multinomial")
    links = X.sum(axis=0)
    for strength in STRENGTHS[:-1]:
        total = 0.0
        for k, first in itertools.product((0, 1), (0, 2)):
            hits = X[labels == k][:, first : first + 2].sum(axis=0)
            pseudo = links[first : first + 2] / links[first : first + 2].sum() * 2 * strength / 32.0
            posterior, prior = pseudo + hits - 1.0, pseudo - 1.0
            total += math.log(beta_integral(*posterior) / beta_integral(*prior))
        grouping = math.log(beta_integral(*np.bincount(labels)))
        assert exact_icl(problem, labels, strength=strength) == pytest.approx(total + grouping, rel=1e-7)


def test_adjusted_rand_equals_scikit_learn():
    rng = np.random.default_rng(11)
    for _ in range(20):
        a, b = rng.integers(4, size=15), rng.integers(3, size=15)
        assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b))
    assert adjusted_rand(np.zeros(1, int), np.zeros(1, int)) == 1.0
    assert stability([a]) is None
    assert stability([a, a, a]) == 1.0


def test_held_out_rows_prefer_the_planted_number():
    X, _ = planted(80, 300, 4, 12)
    curve = held_out(Starter(problem_of(X), 0), range(1, 9), ArrayEngine(), max_iter=200, tol=1e-7)
    assert max(curve, key=curve.get) == 4
    noise = np.random.default_rng(0).random((80, 300)) < 0.4
    curve = held_out(Starter(problem_of(noise), 0), range(1, 5), ArrayEngine(), max_iter=200, tol=1e-7)
    # Communities of noise are shrunk to the layer's means, and predict as one community does.
    assert max(curve.values()) - curve[1] < 0.1


def test_shuffles_keep_degrees_and_signs_together():
    rng = np.random.default_rng(13)
    sign = rng.integers(-1, 2, size=(9, 14))
    X = np.hstack([sign > 0, sign < 0])
    mask = np.tile(rng.random((9, 14)) < 0.8, 2)
    Y, seen = shuffled_within_rows(X, mask, [(slice(0, 14), slice(14, 28))], rng)
    np.testing.assert_array_equal(Y[:, :14].sum(axis=1), X[:, :14].sum(axis=1))
    np.testing.assert_array_equal(seen.sum(axis=1), mask.sum(axis=1))
    assert not (Y[:, :14] & Y[:, 14:]).any()
    assert (Y != X).any()
    for i in range(9):
        before = sorted(zip(X[i, :14], X[i, 14:], mask[i, :14], strict=True))
        assert sorted(zip(Y[i, :14], Y[i, 14:], seen[i, :14], strict=True)) == before


def test_the_gate_asks_more_shuffles_only_where_it_is_close():
    asked = []

    def null(k, thorough):
        asked.append(thorough)
        return 5.0

    assert judge(100.0, null).accepted
    assert asked == [False] * 3
    assert judge(6.0, null).accepted
    assert asked.count(True) == 19
    assert not judge(5.0, null).accepted


# ------------------------------------------------------------------ winners


def test_winners_are_fixed_points_and_ties_go_to_the_lowest_restart():
    X, _ = planted(40, 120, 3, 14)
    problem = problem_of(X)
    starter = Starter(problem, 0)
    fits = ArrayEngine().fit(problem, [starter.group("dirichlet", 3, range(40))], max_iter=200, tol=1e-7)[0]
    best = winner(problem, fits)
    again, value = settle(problem, best.responsibilities)
    assert value == pytest.approx(best.objective, rel=1e-12)
    np.testing.assert_allclose(again, best.responsibilities, atol=1e-9)
    same = [k for k in range(40) if adjusted_rand(fits.labels[k], best.labels) == 1.0]
    assert best.restart == min(same)


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
def test_leave_one_out_moves_are_kept_only_if_they_pay(likelihood):
    X, _ = planted(40, 200, 4, 15)
    problem = problem_of(X, likelihood=likelihood)
    for seed in range(5):
        q = np.random.default_rng(seed).dirichlet(np.ones(4), size=40).T
        state, value = settle(problem, q)
        solution = Solution(4, state, value, 0, 1, True)
        assert improved(problem, solution, by_icl=False)[0].objective >= value
        by_icl, icl = improved(problem, solution, by_icl=True)
        assert icl == pytest.approx(exact_icl(problem, by_icl.labels))
        assert icl >= exact_icl(problem, solution.labels) - 1e-9


def test_leave_one_out_finds_what_random_starts_miss():
    X, truth = planted(60, 400, 4, 16)
    problem = problem_of(X)
    state, value = settle(problem, np.random.default_rng(0).dirichlet(np.ones(4), size=60).T)
    moved = leave_one_out(problem, Solution(4, state, value, 0, 1, True))
    assert moved is not None
    assert adjusted_rand(moved.labels, truth) > adjusted_rand(state.argmax(axis=0), truth)


@pytest.mark.parametrize("masked", [False, True])
def test_leave_one_out_equals_taking_the_row_out(masked):
    """Each row's community by counts in which it really is not, one entry at a time."""
    rng = np.random.default_rng(40)
    X, _ = planted(14, 9, 3, 32, strength=0.7)
    mask = rng.random(X.shape) < 0.8 if masked else np.ones(X.shape, bool)
    X &= mask
    labels, strength = np.arange(14) % 3, 8.0
    means = np.clip(X.sum(axis=0) / mask.sum(axis=0), 1e-6, 1 - 1e-6)
    expected = []
    for i in range(14):
        others = np.arange(14) != i
        scores = []
        for k in range(3):
            rows = others & (labels == k)
            score = math.log(rows.sum() + 1.0)
            for j in np.flatnonzero(mask[i]):
                hits, volume = X[rows & mask[:, j], j].sum(), (rows & mask[:, j]).sum()
                share = (hits + strength * means[j]) / (volume + strength)
                score += math.log(share if X[i, j] else 1.0 - share)
            scores.append(score)
        expected.append(int(np.argmax(scores)))
    problem = Problem(BinaryTable.from_array(X, mask if masked else None))
    np.testing.assert_array_equal(_sweep(problem, labels, 3, strength), expected)
    assert expected != labels.tolist()


def test_held_out_rows_are_scored_by_what_the_others_say():
    """One fold by hand: weights, shrunk shares, and the mixture of both over every unseen row."""
    X, _ = planted(24, 7, 2, 33)
    problem = Problem(BinaryTable.from_array(X, merge=False))
    fitted, unseen = (Problem(problem.table.take(rows)) for rows in (np.arange(16), np.arange(16, 24)))
    q = np.random.default_rng(0).dirichlet(np.ones(2), size=16).T
    strength = evidence(fitted, q.argmax(axis=0)).likeliest
    means = np.clip(X[:16].mean(axis=0), 1e-6, 1 - 1e-6)
    mass = q.sum(axis=1)
    share = (q @ X[:16] + strength * means) / (mass[:, None] + strength)
    weight = (mass + 1.0) / (mass + 1.0).sum()
    expected = sum(
        math.log(sum(weight[k] * np.prod(np.where(row, share[k], 1.0 - share[k])) for k in range(2))) for row in X[16:]
    )
    assert _score(fitted, unseen, q) == pytest.approx(expected)


# ------------------------------------------------------------------ estimators


def test_the_estimator_speaks_scikit_learn():
    X, truth = planted(60, 80, 3, 17)
    model = BernoulliMixture(3, n_init=4, random_state=0)
    assert not any(name.endswith("_") and not name.startswith("_") for name in vars(model))
    copy = clone(model).set_params(n_components=2)
    assert copy.get_params() == {**model.get_params(), "n_components": 2}
    assert model.fit(X) is model
    assert adjusted_rand_score(truth, model.predict(X)) > 0.9
    assert model.score(X) == pytest.approx(model.lower_bound_)
    assert model.score_samples(X).sum() == pytest.approx(60 * model.lower_bound_)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)
    assert model.weights_.sum() == pytest.approx(1.0)
    mass = model.predict_proba(X)
    np.testing.assert_allclose(model.probabilities_, (mass.T @ X) / mass.sum(axis=0)[:, None], atol=1e-6)
    assert (np.diff(model.lower_bounds_) >= -1e-9).all()
    assert len(model.lower_bounds_) <= 200
    assert model.bic(X) == pytest.approx(-2 * 60 * model.score(X) + (3 * 80 + 2) * math.log(60))
    assert model.aic(X) == pytest.approx(-2 * 60 * model.score(X) + 2 * (3 * 80 + 2))
    assert model.icl(X) == pytest.approx(exact_icl(problem_of(X), model.predict(X)))
    assert model.icl(X) > clone(model).set_params(n_components=1).fit(X).icl(X)
    assert repr(model).startswith("BernoulliMixture(")


def test_one_component_is_the_column_means():
    X, _ = planted(30, 12, 2, 18)
    model = BernoulliMixture(1).fit(X)
    np.testing.assert_allclose(model.probabilities_[0], X.mean(axis=0))
    assert model.weights_.tolist() == [1.0]


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_more_restarts_are_never_worse(engine):
    X, _ = planted(40, 60, 4, 19, strength=0.5)
    few, many = (
        BernoulliMixture(4, init="dirichlet", n_init=n, random_state=0, engine=engine).fit(X).lower_bound_
        for n in (3, 30)
    )
    assert many >= few


@pytest.mark.parametrize("init", list(INITS))
@pytest.mark.parametrize("model", [BernoulliMixture, MultinomialMixture])
def test_engines_agree_on_winner_and_likelihood(init, model):
    X, _ = planted(36, 70, 3, 20)
    mask = np.random.default_rng(0).random(X.shape) < 0.9
    fits = [
        model(4, init=init, n_init=6, random_state=1, engine=engine).fit(X, mask=mask) for engine in ("numpy", "torch")
    ]
    assert fits[0].lower_bound_ == pytest.approx(fits[1].lower_bound_, rel=1e-9)
    np.testing.assert_array_equal(fits[0].predict(X, mask=mask), fits[1].predict(X, mask=mask))


def test_missing_entries_do_not_count():
    X, truth = planted(40, 400, 3, 21)
    mask = np.random.default_rng(1).random(X.shape) < 0.7
    garbled = np.where(mask, X, ~X)
    a = BernoulliMixture(3, random_state=0).fit(X, mask=mask)
    b = BernoulliMixture(3, random_state=0).fit(garbled, mask=mask)
    np.testing.assert_array_equal(a.probabilities_, b.probabilities_)
    assert a.lower_bound_ == b.lower_bound_
    assert adjusted_rand_score(truth, a.predict(X, mask=mask)) > 0.9


def test_the_karate_club_by_both_likelihoods():
    K = nx.karate_club_graph()
    A = nx.to_numpy_array(K, weight=None)
    bernoulli = BernoulliMixture(2, random_state=0).fit(A)
    assert 34 * bernoulli.lower_bound_ == pytest.approx(-333.171, abs=5e-4)
    multinomial = MultinomialMixture(2, random_state=0).fit(A)
    assert 34 * multinomial.lower_bound_ == pytest.approx(-467.4234, abs=5e-5)
    officer = np.array([K.nodes[i]["club"] == "Officer" for i in K])
    right = (multinomial.predict(A) == officer).sum()
    assert max(right, 34 - right) == 33
    np.testing.assert_allclose(multinomial.probabilities_.sum(axis=1), 1.0)


def test_the_bernoulli_optimum_by_enumeration():
    X, _ = planted(8, 12, 2, 22)

    def objective(labels):
        state = np.eye(2)[list(labels)].T
        return settle(problem_of(X), state)[1]

    best = max(objective((0, *labels)) for labels in itertools.product((0, 1), repeat=7) if any(labels))
    assert 8 * BernoulliMixture(2, random_state=0).fit(X).lower_bound_ == pytest.approx(best, rel=1e-6)


def test_a_prior_pulls_towards_the_column_means():
    X, _ = planted(30, 40, 3, 23)
    options = {"init": "ward", "tol": 1e-4, "max_iter": 2000}
    spread = [
        np.ptp(BernoulliMixture(3, prior=prior, **options).fit(X).probabilities_, axis=0).mean()
        for prior in (0, 5, 500)
    ]
    assert spread[0] > spread[1] > spread[2]


def test_sums_to_one_within_groups():
    X, _ = planted(30, 40, 3, 24)
    groups = np.arange(40) // 20
    model = MultinomialMixture(3, tol=1e-4, random_state=0).fit(X, groups=groups)
    np.testing.assert_allclose(model.probabilities_[:, :20].sum(axis=1), 1.0)
    np.testing.assert_allclose(model.probabilities_[:, 20:].sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_components": 0}, "n_components=0"),
        ({"n_components": 2.5}, "whole number"),
        ({"n_components": 99}, "at most one component"),
        ({"n_init": 0}, "n_init=0"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"init": "magic"}, "'magic' is unknown"),
        ({"tol": float("nan")}, "tol=nan"),
        ({"prior": -1.0}, "prior=-1"),
        ({"random_state": "x"}, "random_state='x'"),
        ({"engine": "abacus"}, "'abacus' is unknown"),
    ],
)
def test_bad_parameters_are_named_at_fit(options, said):
    X, _ = planted(10, 10, 2, 25)
    model = BernoulliMixture(**{"n_components": 2, **options})
    with pytest.raises(InputError, match=said):
        model.fit(X)


def test_bad_data_is_named():
    X, _ = planted(10, 10, 2, 26)
    model = BernoulliMixture(2, random_state=0)
    with pytest.raises(ValueError, match="not fitted"):
        model.predict(X)
    with pytest.raises(InputError, match="without features"):
        model.fit(np.zeros((4, 0)))
    bad = X.astype(float)
    bad[2, 3] = np.nan
    with pytest.raises(InputError, match=r"X\[2, 3\] is nan"):
        model.fit(bad)
    with pytest.raises(InputError, match="10 that fit saw"):
        model.fit(X).predict(X[:, :5])


def test_not_converging_is_a_warning():
    from sklearn.exceptions import ConvergenceWarning

    X, _ = planted(40, 30, 3, 27, strength=0.3)
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        model = BernoulliMixture(4, init="dirichlet", n_init=2, max_iter=2, random_state=0).fit(X)
    assert not model.converged_


def test_a_rounded_sum_is_no_probability_above_one():
    # Found by random examples: seven ones of seven came out as 1 + 2e-16.
    X = np.array([[0, 1], *[[1, 1]] * 7])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = BernoulliMixture(2, n_init=3, random_state=0, engine="numpy").fit(X)
    assert model.probabilities_.max() == 1.0


def test_the_users_arrays_are_left_alone():
    X, _ = planted(20, 20, 2, 28)
    X = X.astype(float)
    mask = np.ones_like(X)
    mask[0, 0] = 0
    before = X.copy(), mask.copy()
    BernoulliMixture(2, random_state=0).fit(X, mask=mask)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_groups_are_drawn_lazily():
    drawn = []

    def draw(restarts):
        drawn.append(restarts)
        return np.full((len(restarts), 2, 6), 0.5, np.float32)

    ArrayEngine().fit(problem_of(np.eye(6)), [Group(2, (0, 1), draw)], max_iter=3, tol=1e-7)
    assert drawn == [(0, 1)]
