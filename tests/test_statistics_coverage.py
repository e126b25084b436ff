"""Every interval that is used covers as announced, and every p-value against random groups is valid: by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import innersight_graph as isg
from innersight_graph.partition import Partition
from innersight_graph.statistics import auc, bootstrap_interval, holm, jackknife_interval, max_statistic, mcnemar

RUNS = 1000


def covered(limits: np.ndarray, truth: float) -> float:
    return float(np.mean((limits[:, 0] <= truth) & (truth <= limits[:, 1])))


@pytest.mark.parametrize("draw", [
    lambda rng, n: rng.gamma(4.0, 0.25, n),
    pytest.param(lambda rng, n: rng.normal(1.0, 2.0, n), marks=pytest.mark.slow),
    pytest.param(lambda rng, n: rng.uniform(0.0, 2.0, n), marks=pytest.mark.slow),
])  # fmt: skip
def test_bootstrap_intervals_of_a_mean_cover(draw: object) -> None:
    rng = np.random.default_rng(7)
    limits = np.array([
        bootstrap_interval(lambda v: float(np.mean(v)), draw(rng, 80), n_resamples=300, seed=run)  # type: ignore[operator]
        for run in range(RUNS)
    ])  # fmt: skip
    assert 0.93 <= covered(limits, 1.0) <= 0.97


@pytest.mark.parametrize("statistic", ["mean", "root of a mean square", "ratio"])
def test_intervals_without_a_tenth_of_the_samples_cover(statistic: str) -> None:
    """The kinds of statistics they serve: means (structure, purity), roots (heat), ratios (similarity, consistency)."""
    rng = np.random.default_rng(3)
    n = 200
    of = {
        "mean": lambda v: v[..., 0].mean(-1),
        "root of a mean square": lambda v: np.sqrt((v[..., 0] ** 2).mean(-1)),
        "ratio": lambda v: v[..., 0].mean(-1) / v[..., 1].mean(-1),
    }[statistic]
    samples = rng.gamma(3.0, 1.0, (RUNS, n, 2))
    truth = {"mean": 3.0, "root of a mean square": np.sqrt(12.0), "ratio": 1.0}[statistic]
    without = np.array([of(samples[:, np.arange(n) % 10 != block]) for block in range(10)])
    assert 0.93 <= covered(jackknife_interval(of(samples), without), truth) <= 0.97


def test_the_jackknife_of_single_values_is_students_interval() -> None:
    x = np.random.default_rng(0).normal(size=12)
    found = jackknife_interval(x.mean(), [np.delete(x, i).mean() for i in range(12)])
    expected = stats.ttest_1samp(x, 0).confidence_interval()
    assert found == pytest.approx([expected.low, expected.high], abs=1e-12)
    assert np.isnan(jackknife_interval(1.0, [1.0])).all()


def test_paired_t_intervals_of_a_loss_cover() -> None:
    """As `Ablation` takes them for regression: means of per-sample changes."""
    from innersight_graph.evaluation.closings import _paired_t

    change = np.random.default_rng(11).gamma(2.0, 0.5, (RUNS, 150)) - 0.7
    limits, p = _paired_t(change)
    assert 0.93 <= covered(limits, 0.3) <= 0.97
    centred = change - 0.3
    assert 0.03 <= np.mean(_paired_t(centred)[1] <= 0.05) <= 0.07
    assert p.shape == (RUNS,)


def test_intervals_of_an_area_cover_near_its_ends_too() -> None:
    rng = np.random.default_rng(5)
    truth = stats.norm.cdf(2 / np.sqrt(2))
    areas = [auc(rng.normal(2, 1, 60), rng.normal(0, 1, 90)) for _ in range(RUNS)]
    assert 0.93 <= np.mean([a.low <= truth <= a.high for a in areas]) <= 0.97


@pytest.mark.parametrize("shape", ["normal", "ties", "skewed", "dependent"])
def test_p_values_of_the_maximum_are_uniform_or_larger_under_the_null(shape: str) -> None:
    """Observed partition and draws are exchangeable: P(p <= a) is at most a, for each item and the smallest."""
    rng = np.random.default_rng(2)
    runs, draws, m = 2000, 39, 5

    def table() -> np.ndarray:
        if shape == "ties":
            return rng.binomial(3, 0.3, (draws + 1, m)).astype(float)
        if shape == "skewed":
            return rng.gamma(0.3, 1.0, (draws + 1, m)) * [1, 1, 5, 5, 5]
        if shape == "dependent":
            return rng.normal(size=(draws + 1, 1)) + 0.3 * rng.normal(size=(draws + 1, m))
        return rng.normal(size=(draws + 1, m)) * [1, 1, 5, 5, 5]

    found = []
    for _ in range(runs):
        values = table()
        found.append(max_statistic(values[0], values[1:], groups=[0, 0, 1, 1, 1]))
    smallest = np.array([f.pvalue_any for f in found])
    single = np.array([f.pvalue_pointwise[0] for f in found])
    for level in (0.025, 0.05, 0.1, 0.25, 0.5):
        slack = 3 * np.sqrt(level * (1 - level) / runs)
        assert np.mean(smallest <= level) <= level + slack
        # Pooled draws of one group are exchangeable with the observed value only up to its own share of the pool.
        assert np.mean(single <= level) <= level + slack
    if shape == "normal":
        assert np.mean(smallest <= 0.25) >= 0.2


def test_p_values_of_random_partitions_are_not_small() -> None:
    """The whole way, from a live model to the p-value: partitions drawn at random are no discovery."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3))
    x = torch.randn(60, 5)
    y = model(x).argmax(1)
    G = isg.neuron_graph(model, example=x[:1])
    evaluators = [isg.Structure(G), isg.Consistency(model, x), isg.Sensitivity(model, x)]
    rng = np.random.default_rng(4)
    p: dict[str, list[float]] = {}
    for run in range(100):
        P = Partition.from_labels(G, {"0": rng.permutation(np.arange(12) % 3)}, method="random")
        for evaluator in evaluators:
            e = evaluator.evaluate(G, P, nulls=19, seed=run)
            p.setdefault(e.name, []).append(float(e.p_values["null"].min()))
        if run < 40:
            e = isg.Ablation(model, (x, y)).evaluate(G, P, nulls=19, seed=run)
            p.setdefault("ablation", []).append(float(e.p_values["null"].min()))
            p.setdefault("specificity", []).append(float(e.p_values["specificity"].min()))
    for name, values in p.items():
        hits = int((np.array(values) <= 0.05).sum())
        assert isg.wilson_interval(hits, len(values))[0] <= 0.05, name


def test_exact_mcnemar_and_holm_keep_the_family() -> None:
    """Ten communities without any effect on 300 paired samples: one of them is called at most 5 % of the time."""
    rng = np.random.default_rng(9)
    changed = rng.binomial(300, 0.05, (RUNS, 10))
    lost = rng.binomial(changed, 0.5)
    p = mcnemar(lost, changed - lost).pvalue
    calls = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert calls <= 0.05
    assert np.mean(p <= 0.05) <= 0.05
