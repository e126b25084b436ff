"""Consensus of several partitions."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from innersight_graph import InputError, agreement, consensus_communities
from innersight_graph.partition import Partition
from innersight_graph.planted import planted_hubs

G = nx.path_graph(30)
TRUTH = np.arange(30) % 3


def noisy(seed: int, share: float = 0.2) -> Partition:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(30) < share, rng.integers(3, size=30), TRUTH)
    return Partition.from_labels(G, {"graph": rng.permutation(3)[labels]}, method="noisy", seed=seed)


def test_consensus_is_better_than_its_members() -> None:
    runs = [noisy(seed) for seed in range(9)]
    truth = Partition.from_labels(G, {"graph": TRUTH}, method="truth")
    found = consensus_communities(runs)
    assert agreement(truth, found).ari >= max(agreement(truth, run).ari for run in runs)
    stats = found.stats["graph"]
    assert stats["agreement"] == pytest.approx(np.mean([agreement(found, run).ari for run in runs]))
    pairs = [agreement(a, b).ari for i, a in enumerate(runs) for b in runs[:i]]
    assert stats["stability"] == pytest.approx(np.mean(pairs))


def test_equal_partitions_are_returned_with_full_confidence() -> None:
    run = noisy(0, 0.0)
    found = consensus_communities([run, run, run])
    assert found == run
    assert found.stats["graph"]["confidence"] == [1.0] * 30
    assert found.stats["graph"]["stability"] == 1.0


def test_confidence_is_the_share_of_runs_that_keep_neurons_together() -> None:
    labels = [[0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1]]
    graph = nx.path_graph(4)
    found = consensus_communities([Partition.from_labels(graph, {"graph": row}, method="x") for row in labels])
    assert found.labels("graph").tolist() == [0, 0, 1, 1]
    assert found.stats["graph"]["confidence"] == pytest.approx([2 / 3, 2 / 3, 1, 1])


def test_the_order_of_the_partitions_does_not_matter() -> None:
    runs = [noisy(seed, 0.4) for seed in range(6)]
    assert consensus_communities(runs) == consensus_communities(runs[::-1])


def test_a_graph_is_partitioned_first() -> None:
    H, truth = planted_hubs(0.2, 3, widths=(40, 36, 40), seed=0)
    found = consensus_communities(H, of="leiden", n_runs=3, sign="absolute", gauge="none", density=1.0, seed=0)
    assert found.params["n_partitions"] == 3
    assert agreement(truth, found).ari > 0.8


def test_neurons_most_partitions_leave_out_stay_out() -> None:
    graph = nx.path_graph(3)
    rows = [[0, 0, -1], [0, 0, -1], [0, 0, 1]]
    found = consensus_communities([Partition.from_labels(graph, {"graph": row}, method="x") for row in rows])
    assert found.labels("graph").tolist() == [0, 0, -1]


@pytest.mark.parametrize(
    "given",
    [[], [noisy(0), Partition.from_labels(nx.path_graph(3), {"graph": [0, 0, 1]}, method="x")], [noisy(0), "em"]],
)
def test_what_cannot_be_combined_is_refused(given: list[object]) -> None:
    with pytest.raises(InputError):
        consensus_communities(given)
    with pytest.raises(InputError):
        consensus_communities([noisy(0)], layers="nowhere")
