"""Class-API mode: NetworkX's own tests of its DiGraph class, with our class in its place."""

from __future__ import annotations

import networkx as nx
from networkx.classes.tests.test_digraph import BaseDiGraphTester

from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.mirror import mirror


def complete() -> LayeredDiGraph:
    return mirror(nx.complete_graph(3, create_using=nx.DiGraph))


class TestClassApi(BaseDiGraphTester):
    """What NetworkX asks of any directed graph."""

    def setup_method(self) -> None:
        self.Graph = LayeredDiGraph
        self.k3nodes = [0, 1, 2]
        self.K3 = complete()
        self.P3 = mirror(nx.path_graph(3, create_using=nx.DiGraph))
