"""The record in every result: what it was computed on and with, the same for equal content and for nothing else."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
from importlib import metadata
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse

import innersight_graph as isg
from innersight_graph.detection import methods
from innersight_graph.provenance import digest, environment, options_of

RNG = np.random.default_rng(0)
A = RNG.normal(size=(40, 30))
# What other data look like: each must have a digest of its own.
DIFFERENT: list[Any] = [
    None, 0, 0.0, False, "0", "", [], {}, [0], (0, 0), {"a": 0}, {"b": 0}, A, A.astype(np.float32), A.T, A[:, ::-1],
    A.reshape(30, 40), A.ravel(), A[:0], A[:0].T, np.array("x"), torch.zeros(3), torch.zeros(3, dtype=torch.bfloat16),
    torch.zeros(3, dtype=torch.int64), sparse.csr_array(np.eye(3)), sparse.csr_array(np.eye(4)), [A, A], [[A], A],
]  # fmt: skip


def test_different_data_have_different_digests_and_equal_data_equal_ones() -> None:
    found = [digest(value) for value in DIFFERENT]
    assert None not in found
    assert len(set(found)) == len(DIFFERENT)
    assert digest(A.T) == digest(np.ascontiguousarray(A.T))
    assert digest(torch.from_numpy(A.copy())) == digest(torch.from_numpy(A).T.contiguous().T)
    assert digest(sparse.coo_array(np.eye(3))) == digest(sparse.csr_array(np.eye(3)))
    changed = A.copy()
    changed[39, 29] = np.nextafter(changed[39, 29], 9)
    assert digest(changed) != digest(A)


@pytest.mark.parametrize("value", [object(), iter([1]), [A, object()], torch.utils.data.DataLoader([1]), len])
def test_what_has_no_fixed_content_has_no_digest(value: Any) -> None:
    assert digest(value) is None


def test_the_environment_names_the_installed_versions() -> None:
    found = environment()
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["innersight-graph"] in (isg.__version__, "not installed")
    assert all(version == "not installed" or metadata.version(name) for name, version in found["versions"].items())


def layered(weight: float = 1.0, *, swap: bool = False, **more: Any) -> isg.LayeredDiGraph:
    layers = [isg.Layer("in", 0, 2, "input"), isg.Layer("fc", 1, 2, "linear"), isg.Layer("out", 2, 1, "linear")]
    pairs = {("in", "fc"): np.array([[weight, 2], [3, 4]]), ("fc", "out"): np.array([[5], [6]])}
    return isg.LayeredDiGraph.from_arrays(layers, dict(reversed(pairs.items())) if swap else pairs, **more)


def test_a_fingerprint_follows_the_content_of_a_graph(tmp_path: Path) -> None:
    G = layered()
    G.save(tmp_path / "g.npz")
    same = [layered(), layered(swap=True), isg.LayeredDiGraph.load(tmp_path / "g.npz"), pickle.loads(pickle.dumps(G))]
    assert {graph.fingerprint for graph in same} == {G.fingerprint}
    other = [
        layered(1.5),
        layered(kinds={("fc", "out"): "gate"}),
        layered(node_attributes={"fc": {"silent": [True, False]}}),
        layered(nodes={"fc": ["a", "b"]}),
        isg.as_layered(nx.path_graph(5)),
        # Ids that no file can hold: their repr is an address, so their type must stand for them.
        layered(nodes={"fc": [frozenset({1}), frozenset({2})]}),
    ]
    assert len({graph.fingerprint for graph in [G, *other]}) == len(other) + 1


def test_a_partition_keeps_its_record_through_files_and_parts() -> None:
    G = layered(nodes={"fc": ["a", "b"]})
    P = isg.random_communities(G, {"fc": 2, "out": 1}, layers=["fc", "out"], seed=0)
    assert P.record["graph"] == G.fingerprint
    assert P.record["versions"] == environment()["versions"]
    for copy in (isg.Partition.from_json(P.to_json()), pickle.loads(pickle.dumps(P)), P.restrict("fc")):
        assert dict(copy.record) == dict(P.record)
    bare = json.loads(P.to_json())
    del bare["record"]
    assert isg.Partition.from_json(json.dumps(bare)).record == {}
    with pytest.raises(isg.InputError, match="record is not a mapping"):
        isg.Partition.from_json(json.dumps({**bare, "record": 3}))


# What does not change a result, or is kept as a digest.
NOT_OPTIONS = {
    "G",
    "partitions",
    "seed",
    "layers",
    "n_jobs",
    "progress",
    "checkpoint",
    "features",
    "similarities",
    "engine",
}


@pytest.mark.parametrize("method", [name for name in methods() if name != "consensus"])
def test_every_detector_records_every_option_and_what_it_saw(method: str) -> None:
    G = isg.as_layered(nx.karate_club_graph())
    function = getattr(importlib.import_module(f"innersight_graph.detection.{method}"), f"{method}_communities")
    options = inspect.signature(function).parameters
    outputs = np.random.default_rng(1).normal(size=(34, 60))
    seen = {"features": {"graph": outputs}, "similarities": {"graph": abs(np.corrcoef(outputs))}}
    given = {name: value for name, value in seen.items() if name in options}
    P = isg.detect(G, method, seed=4, **({"n_communities": 3} if "n_communities" in options else {}), **given)
    assert set(options) - NOT_OPTIONS <= set(P.params)
    assert P.record["graph"] == G.fingerprint
    assert P.record["data"] == {name: digest(value) for name, value in given.items()}
    assert P.seed == 4


def test_a_report_records_its_evaluators_their_data_and_the_model() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    x, y = torch.randn(20, 4), torch.arange(20) % 3
    G = isg.neuron_graph(model, x)
    P = isg.random_communities(G, 2, seed=0)

    def count(G: Any, P: Any) -> float:
        return float(len(P))

    def made(inputs: torch.Tensor) -> Any:
        wanted = [isg.Structure(G), isg.Ablation(model, (inputs, y), value=0.5, split="test"), count]
        return isg.evaluate(G, P, wanted, nulls=3, seed=5)

    report = made(x)
    told = report.environment["evaluators"]
    assert list(told) == ["structure", "ablation", "count"]
    assert told["ablation"]["kind"] == "Ablation"
    assert told["ablation"]["options"]["value"] == 0.5
    assert told["ablation"]["options"]["split"] == "test"
    assert told["ablation"]["data"] == digest((x, y))
    assert told["ablation"]["model"] == digest(dict(model.state_dict()))
    assert told["count"] == {"kind": count.__qualname__, "options": {}, "data": None, "model": None}
    assert report.environment["graph"] == G.fingerprint
    assert isg.Report.from_json(report.to_json(), G).environment["evaluators"] == told
    assert made(x + 0).environment == report.environment
    assert made(x + 1e-3).environment["evaluators"]["ablation"]["data"] != told["ablation"]["data"]


def test_options_are_what_is_plain_and_public() -> None:
    class Thing:
        def __init__(self) -> None:
            self.a, self.b, self._c, self.d = (1, "x"), object(), 2, None

    assert options_of(Thing()) == {"a": (1, "x"), "d": None}
    assert options_of(3) == {}
