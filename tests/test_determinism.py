"""Equal seeds give equal files: over processes, hash seeds, threads, workers; global state is not touched."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import innersight_graph as isg

DETECT = """
import hashlib, json, sys
import numpy as np, networkx as nx, innersight_graph as isg
if sys.argv[1] == "torch":
    import torch
    torch.set_num_threads(int(sys.argv[2]))
layers = [isg.Layer("input", 0, 16, "input"), isg.Layer("fc", 1, 20, "linear"), isg.Layer("out", 2, 8, "linear")]
rng = np.random.default_rng(5)
pairs = {("input", "fc"): rng.normal(size=(16, 20)), ("fc", "out"): rng.normal(size=(20, 8))}
G = isg.LayeredDiGraph.from_arrays(layers, pairs)
# Ids of text hash differently in every process.
K = nx.relabel_nodes(nx.karate_club_graph(), lambda i: f"member {i}")
jobs = None if sys.argv[3] == "None" else int(sys.argv[3])
found = {
    "em": isg.em_communities(G, range(1, 5), n_init=6, seed=7, engine=sys.argv[1], n_jobs=jobs),
    "em text": isg.em_communities(K, 2, init="random", n_init=6, seed=7, engine=sys.argv[1], n_jobs=jobs),
    "louvain": isg.louvain_communities(K, seed=7),
    "leiden": isg.leiden_communities(G, seed=7),
    "blockmodel": isg.blockmodel_communities(G, seed=7),
    "spectral": isg.spectral_communities(K, 4, seed=7),
    "random": isg.random_communities(K, 3, seed=7),
}
texts = {name: P.to_json() for name, P in found.items()}
print(json.dumps({name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}))
"""
# engine, threads, workers, hash seed
SETTINGS = [
    ("numpy", 1, None, 0), ("numpy", 2, None, 1), ("numpy", 2, 2, 2), ("torch", 1, None, 3), ("torch", 2, None, 4),
]  # fmt: skip


def digests(engine: str, threads: int, jobs: int | None, hash_seed: int) -> dict[str, str]:
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = [sys.executable, "-c", textwrap.dedent(DETECT), engine, str(threads), str(jobs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_five_processes_write_the_same_bytes() -> None:
    runs = {setting: digests(*setting) for setting in SETTINGS}
    # Engines agree on the labels, not on the last bits of a likelihood: files are compared within an engine.
    for engine in ("numpy", "torch"):
        same = [found for setting, found in runs.items() if setting[0] == engine]
        assert all(found == same[0] for found in same)
    first = runs[SETTINGS[0]]
    for setting, found in runs.items():
        assert {k: v for k, v in found.items() if "em" not in k} == {k: v for k, v in first.items() if "em" not in k}, (
            setting
        )


@pytest.mark.parametrize(
    "method", ["em", "louvain", "leiden", "blockmodel", "spectral", "random", "geometric", "degree"]
)
def test_detectors_leave_global_random_state_alone(method: str) -> None:
    # scikit-learn 1.9 imports rich, which draws one number of Python's generator while it is imported.
    import rich.console  # noqa: F401
    import torch

    G = nx.gnm_random_graph(12, 36, seed=1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    first = isg.detect(G, method, seed=3)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before  # noqa: NPY002
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert isg.detect(G, method, seed=3).to_json() == first.to_json()


@pytest.mark.parametrize("method", ["em", "louvain", "leiden", "blockmodel"])
def test_no_seed_is_recorded_as_the_seed_that_was_drawn(method: str) -> None:
    G = nx.gnm_random_graph(12, 36, seed=1)
    P = isg.detect(G, method)
    assert isinstance(P.seed, int)
    assert isg.detect(G, method, seed=P.seed).to_json() == P.to_json()


def test_every_result_carries_its_record(tmp_path: Path) -> None:
    G = isg.as_layered(nx.karate_club_graph())
    P = isg.em_communities(G, 2, density=0.5, seed=11, engine="numpy", n_init=3)
    record = json.loads(P.to_json())
    assert record["seed"] == 11
    assert record["method"] == "em"
    assert record["params"]["density"] == 0.5
    assert {"likelihood", "criterion", "init", "max_iter"} <= set(record["params"])
    report = isg.evaluate(G, P, isg.Structure(G), nulls=9, seed=5)
    assert {"torch", "numpy", "networkx", "innersight-graph"} <= set(report.environment["versions"])
    assert report.environment["seed"] == 5
    assert report.environment["nulls"] == 9


@pytest.mark.parametrize("kind", ["graph", "partition", "page", "table", "report"])
def test_writing_twice_gives_equal_files(tmp_path: Path, kind: str) -> None:
    def write(path: Path) -> None:
        G = isg.as_layered(nx.karate_club_graph())
        P = isg.louvain_communities(G, seed=2)
        report = isg.evaluate(G, P, isg.Structure(G), nulls=9, seed=5)
        writers: dict[str, Any] = {
            "graph": G.save,
            "partition": P.to_json,
            "page": report.to_html,
            "table": lambda path: path.write_text(json.dumps(report.table())),
            "report": report.to_json,
        }
        writers[kind](path)

    paths = [tmp_path / name for name in ("a.npz", "b.npz")]
    for path in paths:
        write(path)
    assert hashlib.sha256(paths[0].read_bytes()).digest() == hashlib.sha256(paths[1].read_bytes()).digest()
