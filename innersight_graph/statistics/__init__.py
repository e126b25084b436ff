"""Tests, corrections, intervals and nulls behind every verdict of the package.

Four questions are answered here, each by one family of functions: did a paired change of predictions happen by chance
(`mcnemar`, `paired_difference_interval`, `minimum_detectable_effect`), do two groups of runs differ (`rank_sum`,
`auc`), how many of several tests survive (`holm`, `benjamini_hochberg`), and is a community more than any group of its
size (`matched_label_draws`, `max_statistic`). Nothing here knows a model or a graph.
"""

from __future__ import annotations

from innersight_graph.statistics.comparisons import AUC, McNemar, RankSum, auc, mcnemar, rank_sum, seed_variance
from innersight_graph.statistics.corrections import (
    MaxStatistic,
    benjamini_hochberg,
    holm,
    matched_label_draws,
    max_statistic,
)
from innersight_graph.statistics.intervals import (
    bootstrap_interval,
    jackknife_interval,
    minimum_detectable_effect,
    paired_difference_interval,
    wilson_interval,
)

__all__ = [
    "AUC",
    "MaxStatistic",
    "McNemar",
    "RankSum",
    "auc",
    "benjamini_hochberg",
    "bootstrap_interval",
    "holm",
    "jackknife_interval",
    "matched_label_draws",
    "max_statistic",
    "mcnemar",
    "minimum_detectable_effect",
    "paired_difference_interval",
    "rank_sum",
    "seed_variance",
    "wilson_interval",
]
