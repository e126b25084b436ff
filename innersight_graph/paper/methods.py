"""Every method the tables compare, as functions of the same measured arrays and a seed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._layers import assemble, live_layers
from innersight_graph.detection.blockmodel import blockmodel_communities
from innersight_graph.detection.coactivation import coactivation_communities
from innersight_graph.detection.degree import degree_communities
from innersight_graph.detection.em import em_communities
from innersight_graph.detection.geometric import geometric_communities
from innersight_graph.detection.leiden import leiden_communities
from innersight_graph.detection.louvain import louvain_communities
from innersight_graph.detection.random import random_communities
from innersight_graph.detection.similarity import similarity_communities
from innersight_graph.detection.specialization import specialization_communities
from innersight_graph.detection.spectral import spectral_communities
from innersight_graph.errors import InnerSightError
from innersight_graph.evaluation.score import PartitionScore
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition

__all__ = ["FROM_WEIGHTS", "METHODS", "OURS", "PRINTED", "Material", "Method", "find", "unsigned"]

OURS, PRINTED = "em", "em printed"
# Of the methods that figures use alone, those that see nothing but the trained weights.
FROM_WEIGHTS = (OURS, "watanabe")
# Clusters of the whole network in the published tables of Filan et al.
FILAN_CLUSTERS = 12


@dataclass(frozen=True)
class Material:
    """What the methods see of one network.

    Attributes
    ----------
    graph, printed_graph, absolute_graph : LayeredDiGraph
        Trained weights (kernels by signed L2 norm), Eq. 1 as printed, kernels by L1 norm.
    layers : tuple of str
        To be partitioned.
    numbers : mapping from layer to int
        Communities of each layer for methods that must be told: what EM chose.
    features, similarities : mapping from layer to ndarray
        Outputs before the activation function on training images; similarity of input sensitivity.
    score : PartitionScore
        Printed Q of the network.
    candidates : range
        Numbers of communities EM chooses among.
    starts : int
        Random starts of the printed search.
    """

    graph: LayeredDiGraph
    printed_graph: LayeredDiGraph
    absolute_graph: LayeredDiGraph
    layers: tuple[str, ...]
    numbers: Mapping[str, int]
    features: Mapping[str, npt.NDArray[Any]]
    similarities: Mapping[str, npt.NDArray[Any]]
    score: PartitionScore
    candidates: range
    starts: int


@dataclass(frozen=True)
class Method:
    """A row of the tables."""

    label: str
    role: str
    find: Callable[[Material, int], Partition]


def _em(m: Material, seed: int) -> Partition:
    return em_communities(m.graph, m.candidates, layers=m.layers, seed=seed, n_jobs=1)


def _em_printed(m: Material, seed: int) -> Partition:
    """Run Algorithm 1 with printed Eq. 1, Q and starts; density, as xi1 to xi4 were never disclosed."""
    return em_communities(
        m.printed_graph,
        m.candidates,
        init="random",
        n_init=m.starts,
        gauge="none",
        criterion=m.score,
        layers=m.layers,
        seed=seed,
        n_jobs=1,
    )


def _newman_leicht(m: Material, seed: int) -> Partition:
    return _with_numbers(m.graph, m, seed, likelihood="multinomial")


def _watanabe(m: Material, seed: int) -> Partition:
    return _with_numbers(unsigned(m.graph), m, seed)


def _with_numbers(G: LayeredDiGraph, m: Material, seed: int, **options: Any) -> Partition:
    """EM with each layer's own number."""
    labels = {}
    for name, live, _ in live_layers(G, m.layers):
        found = em_communities(G, m.numbers[name], layers=name, seed=seed, n_jobs=1, **options)
        labels[name] = found.labels(name)[live]
    return assemble(G, labels, method="em", params={"n_communities": dict(m.numbers), **options}, seed=seed)


def unsigned(G: LayeredDiGraph) -> LayeredDiGraph:
    """Return the same graph with |weight| on every edge: what a method sees that ignores inhibition."""
    weights = {pair: abs(np.asarray(matrix)) for pair, matrix in G.connections.items()}
    return LayeredDiGraph.from_arrays(G.layers, weights, kinds=G.kinds, node_attributes=G.node_attributes)


METHODS: Mapping[str, Method] = {
    OURS: Method("InnerSightNet", "ours", _em),
    PRINTED: Method("InnerSightNet, as printed", "ours", _em_printed),
    "filan": Method(
        "Filan et al.",
        "paper",
        lambda m, seed: spectral_communities(
            m.absolute_graph, FILAN_CLUSTERS, gauge="none", layers=m.layers, seed=seed
        ),
    ),
    "hod": Method(
        "Hod et al.",
        "paper",
        lambda m, seed: specialization_communities(m.graph, m.numbers, features=m.features, layers=m.layers, seed=seed),
    ),
    "liu": Method(
        "Liu et al., post hoc",
        "paper",
        lambda m, seed: geometric_communities(m.graph, m.numbers, layers=m.layers, seed=seed),
    ),
    "lange": Method(
        "Lange et al.",
        "other",
        lambda m, seed: similarity_communities(m.graph, similarities=m.similarities, layers=m.layers, seed=seed),
    ),
    "newman-leicht": Method("Newman & Leicht", "other", _newman_leicht),
    "watanabe": Method("Watanabe et al. (unsigned)", "other", _watanabe),
    "louvain": Method("Louvain", "other", lambda m, seed: louvain_communities(m.graph, layers=m.layers, seed=seed)),
    "leiden": Method("Leiden", "other", lambda m, seed: leiden_communities(m.graph, layers=m.layers, seed=seed)),
    "blockmodel": Method(
        "Block model", "other", lambda m, seed: blockmodel_communities(m.graph, m.numbers, layers=m.layers, seed=seed)
    ),
    "coactivation": Method(
        "Co-activation",
        "control",
        lambda m, seed: coactivation_communities(m.graph, m.numbers, features=m.features, layers=m.layers, seed=seed),
    ),
    "degree": Method(
        "By degree", "control", lambda m, seed: degree_communities(m.graph, m.numbers, layers=m.layers, seed=seed)
    ),
    "random": Method(
        "Random groups", "control", lambda m, seed: random_communities(m.graph, m.numbers, layers=m.layers, seed=seed)
    ),
}


def find(method: str, material: Material, seed: int) -> Partition | str:
    """Return a method's partition, or why it has none: one method's refusal must not end the study."""
    with warnings.catch_warnings():
        # Where ways of choosing r contradict each other the curves are kept; a warning per seed would say it a
        # hundred times.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return METHODS[method].find(material, seed)
        except InnerSightError as error:
            return f"{type(error).__name__}: {error}"
