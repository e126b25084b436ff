"""`innersight demo`: the whole way from a trained network to a page, on the digits that scikit-learn carries with it.

Every number of ``summary.json`` can be recomputed from the files beside it; a test does.
"""

from __future__ import annotations

from innersight_graph.demo.network import make_network, train_network
from innersight_graph.demo.run import run_demo

__all__ = ["make_network", "run_demo", "train_network"]
