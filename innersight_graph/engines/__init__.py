"""The compute engines: one EM search, written once for clarity and once for speed.

`numpy` is the readable float64 reference, `cupy` the same code on CuPy, `torch` the batched float32 search on CPU and
CUDA. An engine receives every restart's start from the caller, so that all of them walk the same paths; winners are
then re-scored in float64 by `innersight_graph.mixture`, whichever engine found them.
"""

from __future__ import annotations

from innersight_graph.engines.base import Engine, Fits, Group, resolve_engine
from innersight_graph.engines.table import BinaryTable, Problem

__all__ = ["BinaryTable", "Engine", "Fits", "Group", "Problem", "resolve_engine"]
