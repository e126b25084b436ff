"""Statistics against SciPy, enumeration, published values and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from innersight_graph.errors import InputError
from innersight_graph.statistics import (
    auc,
    benjamini_hochberg,
    bootstrap_interval,
    holm,
    matched_label_draws,
    max_statistic,
    mcnemar,
    minimum_detectable_effect,
    paired_difference_interval,
    rank_sum,
    seed_variance,
    wilson_interval,
)

# Table 4: U of ten runs against ten, then the printed statistic and p-value of each entry.
TABLE_4 = [
    ("Hod MNIST", 0, -3.779644, 0.000157),
    ("Filan MNIST", 1, -3.704051, 0.000212),
    ("Filan AFHQ", 3, -3.552866, 0.000381),
    ("Liu MNIST", 8, -3.174901, 0.001490),
    ("Liu AFHQ", 8, -3.1749015, 0.001498),
    ("Hod AFHQ", 12, -2.872529, 0.004071),
]
# Statistic and p-value of one entry must belong together; this printed p is not the one of its own statistic.
SLIPS = {"Liu MNIST"}


def two_groups_of_ten(u: int) -> tuple[list[float], list[float]]:
    """Two samples of ten with exactly ``u`` pairs in which the first is larger."""
    low, high = list(np.arange(10.0)), list(np.arange(100.0, 110.0))
    full, rest = divmod(u, 10)
    for i in range(full):
        low[9 - i] = 1000.0 + i
    if rest:
        low[0] = high[rest - 1] + 0.5
    return low, high


@pytest.mark.parametrize(("entry", "u", "z", "p"), TABLE_4)
def test_table_4_follows_the_formula(entry: str, u: int, z: float, p: float) -> None:
    a, b = two_groups_of_ten(u)
    result = rank_sum(a, b, match="paper")
    assert result.u == u
    assert result.statistic == pytest.approx((u - 50) / np.sqrt(175), abs=1e-12)
    # The printed digits are cut off, not rounded.
    assert abs(result.statistic - z) <= 1e-6
    assert (abs(result.pvalue - p) <= 1e-6) == (entry not in SLIPS)


@pytest.mark.parametrize("ties", [False, True])
def test_rank_sum_readings_equal_scipy(ties: bool) -> None:
    rng = np.random.default_rng(3)
    for n, m in [(4, 6), (10, 10), (7, 3)]:
        a, b = rng.normal(size=n), rng.normal(size=m) + 0.5
        if ties:
            a, b = a.round(0), b.round(0)
        ours = rank_sum(a, b)
        corrected = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=True)
        assert ours.u == corrected.statistic
        assert ours.pvalue_corrected == pytest.approx(corrected.pvalue, abs=1e-12)
        if ties:
            assert ours.pvalue == ours.pvalue_corrected
            assert np.isnan(ours.pvalue_exact)
        else:
            assert ours.pvalue == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue, abs=1e-12)
            assert ours.pvalue_asymptotic == pytest.approx(stats.ranksums(a, b).pvalue, abs=1e-12)


def test_exact_rank_sum_by_enumeration() -> None:
    a, b = [1.0, 4.0, 2.5], [3.0, 6.0, 7.0, 5.0]
    pooled = np.array(a + b)
    u = [
        sum(x > y for x in pooled[list(c)] for y in np.delete(pooled, list(c)))
        for c in itertools.combinations(range(7), 3)
    ]
    observed = rank_sum(a, b)
    both_tails = np.mean([abs(v - 6) >= abs(observed.u - 6) for v in u])
    assert observed.pvalue == pytest.approx(both_tails)


def test_mcnemar_equals_the_binomial_test() -> None:
    lost, gained = np.meshgrid(np.arange(12), np.arange(12))
    ours = mcnemar(lost, gained)
    for b, c, p in zip(lost.ravel(), gained.ravel(), ours.pvalue.ravel(), strict=True):
        assert p == pytest.approx(stats.binomtest(int(b), int(b + c), 0.5).pvalue if b + c else 1.0, abs=1e-12)


def test_corrections_equal_scipy_and_keep_unmade_tests() -> None:
    p = np.random.default_rng(0).random((3, 5)) ** 2
    p[1, 2] = np.nan
    made = ~np.isnan(p)
    expected = stats.false_discovery_control(p[made])
    assert np.allclose(benjamini_hochberg(p)[made], expected, atol=1e-15)
    assert np.isnan(holm(p)[1, 2])
    flat = p[made]
    naive = np.array([max(min(1.0, (flat >= q).sum() * q) for q in flat[flat <= x]) for x in flat])
    assert np.allclose(holm(p)[made], naive, atol=1e-15)


def test_wilson_equals_scipy() -> None:
    for k, n in [(0, 10), (3, 10), (10, 10), (348, 360)]:
        expected = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert wilson_interval(k, n) == pytest.approx([expected.low, expected.high], abs=1e-12)
    assert wilson_interval([0], [0]).tolist() == [[0.0, 1.0]]


def test_intervals_cover_as_announced() -> None:
    """95 % intervals cover in 93-97 % of 1,000 simulations: proportions, paired drops, AUC."""
    rng = np.random.default_rng(1)
    for p, n in [(0.9, 360), (0.5, 100), (0.97, 2000)]:
        limits = wilson_interval(rng.binomial(n, p, 1000), n)
        assert 0.93 <= np.mean((limits[:, 0] <= p) & (p <= limits[:, 1])) <= 0.97
    for lost, gained, n in [(0.10, 0.02, 360), (0.3, 0.05, 360), (0.05, 0.05, 1000)]:
        cells = rng.multinomial(n, [lost, gained, 1 - lost - gained], 1000)
        limits = paired_difference_interval(cells[:, 0], cells[:, 1], n)
        assert 0.93 <= np.mean((limits[:, 0] <= lost - gained) & (lost - gained <= limits[:, 1])) <= 0.97
    truth = stats.norm.cdf(1 / np.sqrt(2))
    areas = [auc(rng.normal(1, 1, 60), rng.normal(0, 1, 80)) for _ in range(1000)]
    assert 0.93 <= np.mean([a.low <= truth <= a.high for a in areas]) <= 0.97


def test_auc_equals_the_probability_of_superiority() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 6, 20), rng.integers(0, 5, 30)
    naive = np.mean([(a > b) + 0.5 * (a == b) for a in x for b in y])
    result = auc(x, y)
    assert result.value == pytest.approx(naive)
    assert result.low < naive < result.high
    perfect = auc([5, 6, 7], [1, 2])
    assert perfect.value == 1.0
    assert perfect.low < 1.0


def test_bootstrap_agrees_with_scipy() -> None:
    x = np.random.default_rng(2).exponential(size=40)
    ours = bootstrap_interval(lambda v: float(np.mean(v)), x, n_resamples=4000, seed=0)
    scipys = stats.bootstrap((x,), np.mean, n_resamples=4000, rng=np.random.default_rng(0)).confidence_interval
    assert ours == pytest.approx([scipys.low, scipys.high], abs=0.03)
    assert np.array_equal(ours, bootstrap_interval(lambda v: float(np.mean(v)), x, n_resamples=4000, seed=0))


def test_minimum_detectable_effect_is_the_fewest_flips() -> None:
    assert round(minimum_detectable_effect(360) * 360) == 6
    for alpha, tests in [(0.05, 1), (0.05, 40), (0.01, 7), (0.031, 1), (0.03125, 1), (0.9, 1)]:
        flips = round(minimum_detectable_effect(1000, alpha=alpha, tests=tests) * 1000)
        assert mcnemar(flips, 0).pvalue <= alpha / tests
        assert flips == 1 or mcnemar(flips - 1, 0).pvalue > alpha / tests


def test_label_draws_keep_sizes_and_the_unlabelled() -> None:
    labels = np.array([0, 0, 1, 2, 2, 2, -1, 1, -1])
    draws = matched_label_draws(labels, 50, seed=4, key=(2,))
    assert (draws[:, labels < 0] == -1).all()
    assert all((np.bincount(d[d >= 0]) == [2, 2, 3]).all() for d in draws)
    assert np.array_equal(draws, matched_label_draws(labels, 50, seed=4, key=(2,)))
    assert not np.array_equal(draws, matched_label_draws(labels, 50, seed=4, key=(3,)))
    strata = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1])
    within = matched_label_draws(labels, 20, seed=0, strata=strata)
    assert all(sorted(d[:3]) == [0, 0, 1] for d in within)


def test_max_statistic_controls_the_family_and_pools_equal_groups() -> None:
    """Under the null the smallest family-wise p is uniform: about 5 % of families hold one below 0.05."""
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 1.0, 5.0])
    hits = sum(
        max_statistic(rng.normal(size=3) * scale, rng.normal(size=(99, 3)) * scale, groups=[0, 0, 1]).pvalue_any <= 0.05
        for _ in range(1000)
    )
    assert 0.03 <= hits / 1000 <= 0.07
    result = max_statistic([0.1, 8.0], np.zeros((9, 2)), resolution=1.0)
    assert result.pvalue.tolist() == [0.1, 0.1]


def test_seed_variance_splits_a_balanced_design() -> None:
    runs = {(a, b, c): 2.0 * a + 0.1 * c for a in range(3) for b in range(4) for c in range(2)}
    shares = seed_variance(runs)
    assert shares["network"] > 0.99
    assert shares["detector"] == pytest.approx(0, abs=1e-12)
    assert sum(v for k, v in shares.items() if k != "variance") == pytest.approx(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: rank_sum([], [1.0]),
        lambda: rank_sum([np.nan], [1.0]),
        lambda: rank_sum([1.0], [2.0], match="table"),  # type: ignore[arg-type]
        lambda: mcnemar(-1, 2),
        lambda: holm([1.5]),
        lambda: wilson_interval(1, 2, confidence=95),
        lambda: bootstrap_interval(np.mean, [1.0]),
        lambda: minimum_detectable_effect(0),
        lambda: max_statistic([1.0], [[1.0, 2.0]]),
        lambda: seed_variance({(0,): 1.0}),
    ],
)
def test_bad_input_is_named(call: object) -> None:
    with pytest.raises(InputError):
        call()  # type: ignore[operator]
