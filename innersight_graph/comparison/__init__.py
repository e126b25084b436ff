"""Methods side by side: on one graph (`compare`), by what they can do (`capabilities`), on truth (`benchmark`)."""

from __future__ import annotations

from innersight_graph.comparison.board import leaderboard, leaderboard_page, write_leaderboard
from innersight_graph.comparison.capability import capabilities, capability_table
from innersight_graph.comparison.runs import CONTENDERS, Contender, benchmark, read_results
from innersight_graph.comparison.table import Comparison, compare

__all__ = [
    "CONTENDERS",
    "Comparison",
    "Contender",
    "benchmark",
    "capabilities",
    "capability_table",
    "compare",
    "leaderboard",
    "leaderboard_page",
    "read_results",
    "write_leaderboard",
]
