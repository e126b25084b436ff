"""Edges of the statistics, where small faults would go unnoticed: ties, constants, one value, groups of items."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

import innersight_graph as isg
from innersight_graph.statistics.intervals import jackknife_interval


@pytest.mark.parametrize(
    ("a", "b"), [([1, 2, 2, 3], [2, 3, 3, 4, 5]), ([1.0, 1.0], [1.0, 2.0]), ([5, 6, 7, 7], [1, 2, 2])]
)
def test_the_corrected_rank_sum_of_ties_is_scipys(a: list[float], b: list[float]) -> None:
    found = isg.rank_sum(a, b)
    expected = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=True)
    assert found.statistic == expected.statistic
    assert found.pvalue == pytest.approx(expected.pvalue)
    assert np.sign(found.z_corrected) == np.sign(expected.statistic - len(a) * len(b) / 2)


def test_equal_groups_give_no_evidence() -> None:
    found = isg.rank_sum([3, 3, 3], [3, 3])
    assert found.z_corrected == 0.0
    assert found.pvalue == 1.0


@pytest.mark.parametrize(("lost", "gained", "n"), [(12, 2, 360), (0, 5, 20), (7, 7, 50)])
def test_the_paired_interval_is_agresti_and_mins(lost: int, gained: int, n: int) -> None:
    down, up = Fraction(lost + 1, n + 2), Fraction(gained + 1, n + 2)
    variance = (down + up - (down - up) ** 2) / (n + 2)
    z = stats.norm.ppf(0.975)
    expected = [float(down - up) + side * z * float(variance) ** 0.5 for side in (-1, 1)]
    assert isg.paired_difference_interval(lost, gained, n).tolist() == pytest.approx(expected, abs=1e-12)


def test_the_paired_interval_ends_at_one() -> None:
    assert isg.paired_difference_interval(2, 0, 2)[1] == 1.0
    assert isg.paired_difference_interval(0, 2, 2)[0] == -1.0


def test_the_bootstrap_interval_is_close_to_scipys_and_shrinks_to_a_point() -> None:
    sample = np.random.default_rng(0).exponential(size=40)
    found = isg.bootstrap_interval(np.mean, sample, n_resamples=4000, seed=1)
    expected = stats.bootstrap((sample,), np.mean, n_resamples=4000, method="BCa", rng=np.random.default_rng(2))
    assert found.tolist() == pytest.approx(list(expected.confidence_interval), abs=0.04)
    # The correction for skewness moves both ends upwards from the plain normal interval.
    plain = sample.mean() + np.array([-1.96, 1.96]) * sample.std(ddof=1) / np.sqrt(40)
    assert found[0] > plain[0]
    assert found[1] > plain[1]
    assert isg.bootstrap_interval(np.mean, np.ones(5), n_resamples=50, seed=0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("counts", [{0: 9, 1: 3}, {0: 8, 1: 3, 5: 1}])
def test_draws_equal_to_the_observed_value_count_half_as_scipys(counts: dict[int, int]) -> None:
    sample = np.repeat(list(counts), list(counts.values())).astype(float)
    found = isg.bootstrap_interval(np.mean, sample, n_resamples=4000, seed=0)
    expected = stats.bootstrap((sample,), np.mean, n_resamples=4000, method="BCa", rng=np.random.default_rng(0))
    assert found.tolist() == pytest.approx(list(expected.confidence_interval), abs=0.1)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_the_jackknife_of_a_mean_is_students_interval(confidence: float) -> None:
    sample = np.random.default_rng(3).exponential(size=(9, 2))
    without = [np.delete(sample, i, axis=0).mean(axis=0) for i in range(9)]
    found = jackknife_interval(sample.mean(axis=0), without, confidence=confidence)
    for column, interval in zip(sample.T, found, strict=True):
        expected = stats.t.interval(confidence, 8, column.mean(), stats.sem(column))
        assert interval.tolist() == pytest.approx(expected, abs=1e-12)
    two = jackknife_interval(1.0, [0.0, 2.0])
    assert two.tolist() == pytest.approx([1 - stats.t.ppf(0.975, 1), 1 + stats.t.ppf(0.975, 1)])
    assert np.isnan(jackknife_interval([1.0, 2.0], [[0.0, 1.0]])).all()


def naive_max(observed: list[float], draws: np.ndarray, groups: list[int]) -> tuple[list[float], list[float]]:
    """Return (family-wise, pointwise) p-values by loops."""
    z = {}
    for group in set(groups):
        items = [i for i, g in enumerate(groups) if g == group]
        pool = [observed[i] for i in items] + [row[i] for row in draws for i in items]
        mean, sd = np.mean(pool), np.std(pool) or 1.0
        for i in items:
            z[i] = ((observed[i] - mean) / sd, [(row[i] - mean) / sd for row in draws])
    tops = [max(z[i][1][b] for i in z) for b in range(len(draws))]
    family = [(1 + sum(t >= z[i][0] - 1e-12 for t in tops)) / (1 + len(tops)) for i in sorted(z)]
    pointwise = []
    for i, group in enumerate(groups):
        own = [row[j] for row in draws for j, g in enumerate(groups) if g == group]
        pointwise.append((1 + sum(v >= observed[i] for v in own)) / (1 + len(own)))
    return family, pointwise


@pytest.mark.parametrize("groups", [[0, 0, 0], [0, 1, 1], [0, 1, 2]])
def test_the_max_statistic_is_a_loop_with_ties_counted(groups: list[int]) -> None:
    draws = np.random.default_rng(3).integers(0, 5, size=(40, 3)).astype(float) * [1.0, 10.0, 1.0]
    observed = [4.0, 40.0, 2.0]
    found = isg.max_statistic(observed, draws, groups=groups)
    family, pointwise = naive_max(observed, draws, groups)
    assert found.pvalue.tolist() == pytest.approx(family)
    assert found.pvalue_pointwise.tolist() == pytest.approx(pointwise)


def test_the_max_statistic_of_a_constant_is_no_evidence() -> None:
    found = isg.max_statistic([2.0, 5.0], np.tile([2.0, 1.0], (9, 1)))
    assert found.pvalue[0] == 1.0
    assert found.pvalue[1] == pytest.approx(0.1)
    assert np.isfinite(found.z).all()


def test_auc_of_one_value_has_the_variance_of_the_other_side() -> None:
    found = isg.auc([3.0], [1.0, 2.0, 4.0, 5.0])
    assert found.value == 0.5
    placements = np.array([1.0, 1.0, 0.0, 0.0])
    assert found.standard_error == pytest.approx(np.sqrt(placements.var(ddof=1) / 4))
    assert 0 < found.low < 0.5 < found.high < 1


def test_two_runs_are_enough_and_one_is_not() -> None:
    assert isg.seed_variance({(0,): 1.0, (1,): 3.0}, ("network",)) == {"network": 1.0, "residual": 0.0, "variance": 1.0}
    assert isg.seed_variance({(0,): 2.0, (1,): 2.0}, ("network",))["network"] == 0.0
    with pytest.raises(isg.InputError, match="at least two"):
        isg.seed_variance({(0,): 1.0}, ("network",))
