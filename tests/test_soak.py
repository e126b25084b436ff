"""Many searches in one process: memory stays flat, nothing piles up."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import innersight_graph as isg


def resident() -> float:
    """Return the resident memory of this process in MB, or what Python allocated where the system does not say."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * 4096 / 1e6
    return tracemalloc.get_traced_memory()[0] / 1e6


def layered(seed: int) -> isg.LayeredDiGraph:
    rng = np.random.default_rng(seed)
    layers = [isg.Layer("input", 0, 20, "input"), isg.Layer("fc", 1, 24, "linear"), isg.Layer("out", 2, 8, "linear")]
    pairs = {("input", "fc"): rng.normal(size=(20, 24)), ("fc", "out"): rng.normal(size=(24, 8))}
    return isg.LayeredDiGraph.from_arrays(layers, pairs)


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("searches", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_searches_do_not_pile_up(searches: int, engine: str) -> None:
    def search(seed: int) -> None:
        isg.em_communities(layered(seed % 50), 3, init="random", n_init=5, seed=seed, engine=engine)

    for seed in range(10):
        search(seed)
    gc.collect()
    tracemalloc.start()
    before, memory, threads = tracemalloc.get_traced_memory()[0], resident(), threading.active_count()
    for seed in range(searches):
        search(seed)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200_000, f"{grown} bytes of Python objects are left after {searches} searches"
    assert resident() - memory < 40, f"{resident() - memory:.0f} MB more are resident"
    assert threading.active_count() <= threads


@pytest.mark.parametrize("rounds", [8, pytest.param(300, marks=pytest.mark.slow)])
def test_graphs_and_reports_of_a_model_do_not_pile_up(rounds: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    x, y = torch.randn(64, 16), torch.arange(64) % 4

    def work(seed: int) -> None:
        G = isg.neuron_graph(model, x)
        P = isg.louvain_communities(G, seed=seed)
        isg.evaluate(G, P, [isg.Structure(G), isg.Ablation(model, (x, y))], nulls=3, seed=seed).to_json()
        isg.make_page(G, P)

    for seed in range(3):
        work(seed)
    gc.collect()
    graphs = sum(type(o) is isg.LayeredDiGraph for o in gc.get_objects())
    memory = resident()
    for seed in range(rounds):
        work(seed)
    gc.collect()
    assert sum(type(o) is isg.LayeredDiGraph for o in gc.get_objects()) <= graphs + 1
    assert resident() - memory < 40
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_graph_is_freed_with_its_balanced_twin() -> None:
    import weakref

    G = layered(0)
    twin = weakref.ref(isg.balance(G))
    own = weakref.ref(G)
    isg.em_communities(G, 2, init="random", n_init=2, seed=0, engine="numpy")
    del G
    gc.collect()
    assert own() is None
    assert twin() is None


def test_a_large_layer_costs_what_its_arrays_cost() -> None:
    """The refusal above the memory is that of `to_networkx`: a plain graph of this size would take 1.5 GB."""
    weights = np.ones((2000, 2000), dtype=np.float32)
    layers = [isg.Layer("a", 0, 2000, "input"), isg.Layer("b", 1, 2000, "linear")]
    tracemalloc.start()
    G = isg.LayeredDiGraph.from_arrays(layers, {("a", "b"): weights})
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert G.number_of_edges() == 4_000_000
    assert used < 0.2 * weights.nbytes
    assert sys.getsizeof(G) < 1000
    with pytest.raises(isg.InputError, match=r"about 1\.5 GB"):
        G.to_networkx()
    assert isinstance(nx.number_of_nodes(G), int)


def test_a_search_that_cannot_fit_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    from innersight_graph import memory
    from innersight_graph.detection.em import BALANCE_BYTES, PROFILE_BYTES

    G = layered(0)
    monkeypatch.setattr(memory, "available_memory", lambda: (BALANCE_BYTES + PROFILE_BYTES) * 672 - 1)
    with pytest.raises(
        isg.InputError, match=r"among 672 connections needs about 0\.0 GiB .* 0\.0 GiB are free.*layers="
    ):
        isg.em_communities(G, 2, seed=0)
    # What is needed is counted by the layers that are partitioned.
    monkeypatch.setattr(memory, "available_memory", lambda: BALANCE_BYTES * 672 + PROFILE_BYTES * 192)
    isg.em_communities(G, 2, layers="out", init="random", n_init=1, seed=0, engine="numpy")
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    isg.em_communities(G, 2, init="random", n_init=1, seed=0, engine="numpy")


def test_the_system_is_asked_for_its_memory_and_the_limits_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from innersight_graph import memory

    info, limit, used = (tmp_path / name for name in ("meminfo", "max", "current"))
    monkeypatch.setattr(memory, "MEMINFO", info)
    monkeypatch.setattr(memory, "LIMITS", ((limit, used),))
    assert memory.available_memory() is None
    memory.check_memory(1e18, "A step", "Wait.")
    info.write_text("MemTotal: 9 kB\nMemAvailable:    4194304 kB\n")
    assert memory.available_memory() == 4 * 2**30
    limit.write_text(str(3 * 2**30))
    used.write_text(str(2**30))
    assert memory.available_memory() == 2 * 2**30
    with pytest.raises(
        isg.InputError, match=r"^A step needs about 2\.5 GiB of memory, and 2\.0 GiB are free\. Wait\.$"
    ):
        memory.check_memory(2.5 * 2**30, "A step", "Wait.")
    limit.write_text("max\n")
    assert memory.available_memory() == 4 * 2**30
    info.write_text("nothing\n")
    assert memory.available_memory() is None
