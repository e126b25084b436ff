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


# ---------------------------------------------------------------------- tables and graph files


def test_every_row_of_a_comparison_says_where_it_comes_from(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    K = isg.as_layered(nx.karate_club_graph())
    given = isg.random_communities(K, 3, seed=9)
    table = isg.compare(K, {"given": given, "degree": "degree"}, isg.Structure(K), seed=4, nulls=3)
    text = table.to_csv(tmp_path / "c.csv")
    read = pd.read_csv(tmp_path / "c.csv")
    assert list(read.columns) == [*table.columns, "record"]
    assert read["method"].tolist() == ["given", "degree"]
    records = read["record"].map(json.loads)
    assert dict(zip(read["method"], records, strict=True)) == json.loads(json.dumps(table.records))
    first, second = records
    assert first["partition"]["method"] == "random"
    assert (first["partition"]["seed"], second["partition"]["seed"]) == (9, 4)
    assert first["partition"]["options"] == {"n_communities": 3, "like": None}
    assert first["partition"]["graph"] == second["evaluation"]["graph"] == K.fingerprint
    assert first["partition"]["versions"] == environment()["versions"]
    assert second["evaluation"]["evaluators"]["structure"]["kind"] == "Structure"
    assert (second["evaluation"]["seed"], second["evaluation"]["nulls"]) == (4, 3)
    assert table.to_pandas().attrs["records"] == table.records
    # Given partitions are not timed: equal comparisons are equal files.
    alone = {"given": given, "=cmd|x": given}
    texts = [isg.compare(K, alone, isg.Structure(K), seed=4, nulls=3).to_csv() for _ in range(2)]
    assert texts[0] == texts[1]
    assert "\n'=cmd|x," in texts[0]
    assert str(Path.home()) not in text
    assert str(tmp_path) not in text


def test_a_graph_file_carries_its_record_and_older_files_are_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    x = torch.randn(20, 4)
    G = isg.neuron_graph(model, x, residual="nearest", layers=["0"])
    assert G.record["options"]["residual"] == "nearest"
    assert G.record["options"]["layers"] == ["0"]
    assert (G.record["model"], G.record["data"]) == ("Sequential", digest(x))
    assert G.record["versions"] == environment()["versions"]
    assert isg.neuron_graph(model, x, residual="nearest", layers=["0"]).graph == G.graph
    files = [tmp_path / name for name in ("a.npz", "b.npz", "old.npz")]
    G.save(files[0])
    H = isg.LayeredDiGraph.load(files[0])
    H.save(files[1])
    assert files[0].read_bytes() == files[1].read_bytes()
    with np.load(files[0], allow_pickle=False) as content:
        arrays = dict(content)
    told = json.loads(str(arrays.pop("record")))
    assert told == {"graph": G.fingerprint, "made": G.record, **environment()}
    np.savez(files[2], **arrays)
    assert isg.LayeredDiGraph.load(files[2]).record == H.record == G.record
    for suffix in (".graphml", ".json"):
        isg.write_graph(G, tmp_path / ("g" + suffix))
        assert isg.read_graph(tmp_path / ("g" + suffix)).record == G.record
    assert isg.balance(G).record == G.record
    assert layered().record == {}
    assert layered(graph={"record": "mine"}).record == layered(graph={"record": 3}).record == {}


def test_results_of_a_benchmark_name_what_they_were_run_with(tmp_path: Path) -> None:
    from innersight_graph.comparison import benchmark, read_results
    from innersight_graph.comparison.runs import Contender

    path, beside = tmp_path / "results.csv", tmp_path / "results.record.json"
    contenders = {"random": Contender("random"), "two": Contender("degree", {"n_communities": 2})}
    options: dict[str, Any] = {"tasks": ["layers/4"], "contenders": contenders, "seeds": range(7, 8)}
    rows = benchmark(path, **options)
    records = json.loads(beside.read_text())
    assert {records[row["record"]]["method"] for row in rows} == {"random", "degree"}
    assert records[rows[-1]["record"]] == {"method": "degree", "options": {"n_communities": 2}, **environment()}
    before = path.read_bytes(), beside.read_bytes()
    assert benchmark(path, **options) == rows
    assert (path.read_bytes(), beside.read_bytes()) == before
    # Another version adds an entry; rows keep the one they were made with.
    old = {"0" * 16: {"method": "random", "options": {}, "versions": {}}}
    beside.write_text(json.dumps(records | old))
    more = benchmark(path, **{**options, "seeds": range(7, 9)})
    assert json.loads(beside.read_text()) == records | old
    assert {row["record"] for row in more} == set(records)
    # A file of before there was a record goes on as it is.
    lines = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines[:3]) + "\n")
    again = benchmark(path, **{**options, "seeds": range(7, 9)})
    assert len(again) == len(more)
    assert path.read_text().splitlines()[0] == lines[0]
    assert all("record" not in row for row in again)
    assert len(read_results(path)) == len(more)
    beside.write_text("[]")
    with pytest.raises(isg.InputError, match="no record of benchmark results"):
        benchmark(path, **options)
    assert read_results(Path(__file__).parent / "benchmarks" / "leaderboard.csv")
