"""Bad input across the public names: one paragraph that says what came, what was expected, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import innersight_graph as isg
from innersight_graph.errors import GraphSchemaError, InnerSightError, InputError, TraceError, UnsupportedLayerError

X = torch.linspace(-1, 1, 80).reshape(20, 4)
Y = torch.arange(20) % 3


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def broken(value: float) -> nn.Sequential:
    model = network()
    with torch.no_grad():
        model[2].weight[1, 2] = value
    return model


MODEL = network()
G = isg.neuron_graph(MODEL, X)
P = isg.random_communities(G, 2, seed=0)
OTHER = isg.neuron_graph(nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 3)), X)
ALIEN = isg.random_communities(OTHER, 2, seed=0)
UNWEIGHTED = nx.DiGraph([("a", "b"), ("b", "c")])
nx.set_node_attributes(UNWEIGHTED, {"a": 0, "b": 1, "c": 2}, "layer")
HALF = nx.DiGraph([("a", "b")])
HALF.nodes["a"]["layer"] = 0
NAN = nx.DiGraph()
NAN.add_edge("a", "b", weight=float("nan"))

NONE = nx.DiGraph()
NONE.add_node("a", layer=None)
MAPPED = nx.DiGraph()
MAPPED.add_node("a", layer={"name": "fc"})

Call = Callable[[], Any]
Errors = type[InnerSightError] | tuple[type[InnerSightError], ...]

MODELS: dict[str, tuple[Call, Errors, str]] = {
    "no learnable layer": (lambda: isg.neuron_graph(nn.Sequential(nn.ReLU()), X), InnerSightError, "layer"),
    "no module": (lambda: isg.neuron_graph(len, X), InnerSightError, "Module|model"),
    "a state dict": (lambda: isg.neuron_graph(MODEL.state_dict(), X), InnerSightError, "Module|model"),
    "neither data nor example": (lambda: isg.neuron_graph(MODEL), TraceError, "example"),
    "empty list": (lambda: isg.neuron_graph(MODEL, []), InnerSightError, "empty|no "),
    "empty tensor": (lambda: isg.neuron_graph(MODEL, X[:0]), InnerSightError, "empty|no |0 "),
    "exhausted iterator": (lambda: isg.neuron_graph(MODEL, iter(())), InnerSightError, "empty|no "),
    "wrong shape": (lambda: isg.neuron_graph(MODEL, X[:, :3]), InnerSightError, r"shape|\(20, 3\)|3"),
    "wrong type": (lambda: isg.neuron_graph(MODEL, "digits"), InnerSightError, "data|str"),
    "NaN weights": (lambda: isg.neuron_graph(broken(float("nan")), X), InnerSightError, "NaN|finite"),
    "infinite weights": (lambda: isg.neuron_graph(broken(float("inf")), X), InnerSightError, "inf|finite"),
    "unknown layer": (lambda: isg.neuron_graph(MODEL, X, layers=["nobody"]), InnerSightError, "nobody"),
    "unknown edges": (lambda: isg.neuron_graph(MODEL, X, edges="magic"), InnerSightError, "magic"),
    "unknown reading": (lambda: isg.neuron_graph(MODEL, X, reading="backwards"), InnerSightError, "backwards"),
    "unknown at": (lambda: isg.neuron_graph(MODEL, X, at="nowhere"), InnerSightError, "nowhere"),
    "unknown residual": (lambda: isg.neuron_graph(MODEL, X, residual="some"), InnerSightError, "some"),
    "activations of another graph": (lambda: isg.activations(MODEL, X, OTHER), InnerSightError, "."),
    "activations without data": (lambda: isg.activations(MODEL, [], G), InnerSightError, "empty|no "),
    "capture of nobody": (lambda: isg.capture(MODEL, ["nobody"]).__enter__(), InputError, "nobody"),
    "closing nobody": (lambda: isg.ablate(MODEL, [("nobody", 0)], graph=G).__enter__(), InputError, "nobody"),
    "closing beyond": (lambda: isg.ablate(MODEL, [("0", 99)], graph=G).__enter__(), InputError, "99"),
}
ON_META = network().to("meta")
DEVICES: dict[str, tuple[Call, Errors, str]] = {
    "data elsewhere": (lambda: isg.neuron_graph(ON_META, X), InnerSightError, "device|meta"),
    "model elsewhere": (lambda: isg.Sensitivity(ON_META, X).evaluate(G, P), InnerSightError, "device|meta"),
}
COUNTS: dict[str, tuple[Call, Errors, str]] = {
    f"{method} with {count!r} communities": (
        lambda method=method, count=count: isg.detect(G, method, n_communities=count, seed=0),
        InputError,
        "n_communities",
    )
    for method in ("em", "blockmodel", "spectral", "geometric", "random", "degree")
    for count in (0, -1, 7, 2.5, "2", True, [], [0], float("nan"))
    # The block model and the spectral cut of the whole network take what fits; 7 exceeds one layer only.
    if not (method in ("blockmodel", "spectral") and count == 7)
}
OPTIONS: dict[str, tuple[Call, Errors, str]] = {
    "density 0": (lambda: isg.em_communities(G, 2, density=0.0), InputError, "density"),
    "density above 1": (lambda: isg.em_communities(G, 2, density=1.5), InputError, "density"),
    "density NaN": (lambda: isg.em_communities(G, 2, density=float("nan")), InputError, "density"),
    "density as text": (lambda: isg.em_communities(G, 2, density="half"), InputError, "density"),
    "gauge": (lambda: isg.em_communities(G, 2, gauge="free"), InputError, "gauge"),
    "thresholds without xi2": (lambda: isg.em_communities(G, 2, thresholds={"xi1": 1.0}), InputError, "xi2"),
    "thresholds out of order": (
        lambda: isg.em_communities(G, 2, thresholds={"xi1": 0.1, "xi2": -0.1, "xi3": 0.5}), InputError, "xi3",
    ),
    "likelihood": (lambda: isg.em_communities(G, 2, likelihood="gauss"), InputError, "gauss"),
    "criterion": (lambda: isg.em_communities(G, criterion="luck"), InputError, "luck"),
    "init": (lambda: isg.em_communities(G, 2, init="luck"), InputError, "luck"),
    "n_init 0": (lambda: isg.em_communities(G, 2, n_init=0), InputError, "n_init"),
    "max_iter 0": (lambda: isg.em_communities(G, 2, max_iter=0), InputError, "max_iter"),
    "max_iter None": (lambda: isg.em_communities(G, 2, max_iter=None), InputError, "max_iter"),
    "thresholds of text": (lambda: isg.em_communities(G, 2, thresholds={"xi1": "a", "xi2": 0}), InputError, "xi1"),
    "thresholds as number": (lambda: isg.em_communities(G, 2, thresholds=3), InputError, "thresholds"),
    "layers as number": (lambda: isg.em_communities(G, 2, layers=3), InputError, "layers=3"),
    "resolution as text": (lambda: isg.louvain_communities(G, resolution="2"), InputError, "resolution"),
    "starts of Louvain": (lambda: isg.louvain_communities(G, n_init=None), InputError, "n_init"),
    "starts of k-means": (lambda: isg.spectral_communities(G, 2, n_init=0), InputError, "n_init"),
    "engine": (lambda: isg.em_communities(G, 2, engine="abacus"), InputError, "abacus"),
    "seed negative": (lambda: isg.em_communities(G, 2, seed=-1), InputError, "seed"),
    "seed as text": (lambda: isg.em_communities(G, 2, seed="zero"), InputError, "seed"),
    "layers empty": (lambda: isg.em_communities(G, 2, layers=[]), InputError, "layers"),
    "layer unknown": (lambda: isg.em_communities(G, 2, layers=["nobody"]), InputError, "nobody"),
    "method unknown": (lambda: isg.detect(G, "astrology"), InputError, "astrology"),
    "method hidden": (lambda: isg.detect(G, "_layers"), InputError, "_layers"),
    "method as path": (lambda: isg.detect(G, "../em"), InputError, "em"),
    "scope": (lambda: isg.louvain_communities(G, scope="world"), InputError, "world"),
    "sign": (lambda: isg.louvain_communities(G, sign="up"), InputError, "up"),
    "resolution": (lambda: isg.louvain_communities(G, resolution=-1.0), InputError, "resolution"),
    "backend": (lambda: isg.louvain_communities(G, sign="absolute", backend="none"), InputError, "none"),
    "features of too few neurons": (
        lambda: isg.coactivation_communities(G, 2, features={"0": np.zeros((3, 9))}), InputError, "features|shape",
    ),
    "similarities not square": (
        lambda: isg.similarity_communities(G, similarities={"0": np.zeros((6, 5))}), InputError, "similarit|shape",
    ),
    "no partitions to agree": (lambda: isg.consensus_communities([]), InputError, "partition"),
    "projection sign": (lambda: isg.project_layer(G, "0", sign="both"), InputError, "both"),
    "projection layer": (lambda: isg.project_layer(G, "nobody"), InputError, "nobody"),
}  # fmt: skip
GRAPHS: dict[str, tuple[Call, Errors, str]] = {
    "layers without weights": (lambda: isg.em_communities(UNWEIGHTED, 1), GraphSchemaError, "weight"),
    "half of the layers": (lambda: isg.as_layered(HALF), GraphSchemaError, "'b'"),
    "layer None": (lambda: isg.as_layered(NONE), GraphSchemaError, "by text or number"),
    "weight beyond floats": (
        lambda: isg.as_layered(nx.Graph([(0, 1, {"weight": 10**400})])),
        GraphSchemaError,
        "finite",
    ),
    "layer as mapping": (lambda: isg.as_layered(MAPPED), GraphSchemaError, "by text or number"),
    "NaN weight": (lambda: isg.as_layered(NAN), GraphSchemaError, "nan"),
    "no graph": (lambda: isg.em_communities([1, 2, 3], 2), GraphSchemaError, "list"),
    "None": (lambda: isg.leiden_communities(None), GraphSchemaError, "NoneType"),
    "no nodes": (lambda: isg.louvain_communities(nx.Graph()), GraphSchemaError, "no nodes"),
    "matrix transposed": (
        lambda: isg.LayeredDiGraph.from_arrays(
            [isg.Layer("a", 0, 2, "input"), isg.Layer("b", 1, 3, "linear")], {("a", "b"): np.ones((3, 2))}
        ),
        GraphSchemaError,
        "transposed",
    ),
    "width 0": (lambda: isg.LayeredDiGraph.from_arrays([isg.Layer("a", 0, 0, "x")], {}), GraphSchemaError, "width 0"),
    "width as text": (
        lambda: isg.LayeredDiGraph.from_arrays([isg.Layer("a", 0, "2", "x")], {}),
        GraphSchemaError,
        "'2'",
    ),
    "no layer": (lambda: isg.LayeredDiGraph.from_arrays(["fc"], {}), GraphSchemaError, "fc"),
    "connection unknown": (
        lambda: isg.LayeredDiGraph.from_arrays([isg.Layer("a", 0, 2, "x")], {("a", "b"): np.ones((2, 2))}),
        GraphSchemaError,
        "'b'",
    ),
    "ids of another layer": (
        lambda: isg.LayeredDiGraph.from_arrays(
            [isg.Layer("a", 0, 1, "x"), isg.Layer("b", 1, 1, "x")], {}, nodes={"a": [("b", 0)]}
        ),
        GraphSchemaError,
        "twice",
    ),
    "matrix unknown": (lambda: G.matrix("0", "nobody"), InputError, "nobody"),
    "too many edges": (lambda: G.to_networkx(max_edges=3), InputError, "max_edges"),
}
SCORES: dict[str, tuple[Call, Errors, str]] = {
    "partition of another graph": (
        lambda: isg.evaluate(G, ALIEN, isg.Structure(G), nulls=0), InputError, "another graph",
    ),
    "structure of another graph": (lambda: isg.Structure(G).evaluate(G, ALIEN), InputError, "another graph"),
    "cover of another graph": (lambda: ALIEN.cover(G), InputError, "another graph"),
    "page of another graph": (lambda: isg.make_page(G, ALIEN), InputError, "another graph"),
    "agreement of two graphs": (lambda: isg.agreement(P, ALIEN), InputError, "different graphs"),
    "alignment of two graphs": (lambda: isg.align(P, ALIEN), InputError, "different graphs"),
    "comparison of two graphs": (lambda: isg.compare(G, {"a": ALIEN}), InputError, "another graph"),
    "community graph of another": (lambda: isg.community_graph(G, ALIEN), InputError, "another graph"),
    "nodes of another graph": (lambda: isg.as_partition(G, [{"x"}]), InputError, "another graph"),
    "communities that overlap": (lambda: isg.as_partition(G, [{("0", 0)}, {("0", 0)}]), InputError, "disjoint"),
    "labels of another width": (
        lambda: isg.Partition.from_labels(G, {"0": [0, 1]}, method="x"), InputError, "shape",
    ),
    "labels in fractions": (
        lambda: isg.Partition.from_labels(G, {"0": [0.5] * 6}, method="x"), InputError, "whole number",
    ),
    "labels below -1": (lambda: isg.Partition.from_labels(G, {"0": [-2] * 6}, method="x"), InputError, "-1"),
    "nulls negative": (lambda: isg.evaluate(G, P, isg.Structure(G), nulls=-1), InputError, "nulls"),
    "no evaluator": (lambda: isg.evaluate(G, P, [3], nulls=0), InputError, "evaluat|int"),
    "one name twice": (lambda: isg.evaluate(G, P, [isg.Structure(G)] * 2, nulls=0), InputError, "structure"),
    "ablation without targets": (lambda: isg.Ablation(MODEL, X).evaluate(G, P), InputError, "target"),
    "ablation without data": (lambda: isg.Ablation(MODEL, []).evaluate(G, P), InnerSightError, "empty|no "),
    "ablation value": (lambda: isg.Ablation(MODEL, (X, Y), value="half").evaluate(G, P), InputError, "half"),
    "targets of another length": (
        lambda: isg.Ablation(MODEL, (X, Y[:7])).evaluate(G, P), InnerSightError, "7|length|targets",
    ),
    "targets beyond the classes": (
        lambda: isg.Ablation(MODEL, (X, Y + 40)).evaluate(G, P), InnerSightError, "class|target|4",
    ),
    "occlusion without images": (
        lambda: isg.Occlusion(MODEL, [], window=3).evaluate(G, P), InnerSightError, "empty|no |image",
    ),
    "window 0": (lambda: isg.Occlusion(MODEL, X, window=0).evaluate(G, P), InputError, "window"),
    "nothing to compare": (lambda: isg.compare(G, []), InputError, "compare"),
    "rank sum of nothing": (lambda: isg.rank_sum([], [1.0]), InputError, "."),
    "rank sum of NaN": (lambda: isg.rank_sum([float("nan")], [1.0]), InputError, "finite|NaN"),
    "p-value above 1": (lambda: isg.holm([0.5, 1.5]), InputError, "1.5|p-value"),
    "binary table of twos": (lambda: isg.BernoulliMixture(1).fit([[0, 2]]), InputError, "0"),
    "table without rows": (lambda: isg.BernoulliMixture(1).fit(np.zeros((0, 3))), InputError, "."),
    "more components than rows": (lambda: isg.BernoulliMixture(3).fit([[0, 1]]), InputError, "n_components"),
}  # fmt: skip
EVERY = {**MODELS, **DEVICES, **COUNTS, **OPTIONS, **GRAPHS, **SCORES}


@pytest.mark.parametrize("name", EVERY)
def test_one_paragraph_says_what_is_wrong(name: str) -> None:
    call, error, word = EVERY[name]
    before = {key: value.clone() for key, value in MODEL.state_dict().items()}
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert re.search(word, message), message
    assert "\n\n" not in message.strip()
    # What came and what to do: no message is shorter than two clauses, and each is a sentence.
    assert len(message) > 40, message
    assert message.rstrip()[-1] in ".?)…", message
    assert all(torch.equal(before[key], value) for key, value in MODEL.state_dict().items())


def test_the_errors_are_also_what_other_libraries_expect() -> None:
    assert issubclass(GraphSchemaError, nx.NetworkXError)
    assert issubclass(InputError, ValueError)
    assert issubclass(UnsupportedLayerError, TypeError)
    assert issubclass(isg.MissingExtraError, ImportError)
    assert issubclass(isg.WriteError, OSError)


@pytest.mark.parametrize("where", ["file as folder", "folder as file", "no folder"])
def test_a_target_that_cannot_be_written_leaves_nothing(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    target = {
        "file as folder": tmp_path / "file" / "x",
        "folder as file": tmp_path / "folder",
        "no folder": tmp_path / "a" / "x",
    }
    report = isg.evaluate(G, P, isg.Structure(G), nulls=0)
    writers: dict[str, Callable[[Path], Any]] = {
        ".npz": G.save,
        ".graphml": lambda path: isg.write_graph(G, path),
        ".json": P.to_json,
        ".csv": isg.compare(G, {"a": P}).to_csv,
        ".html": report.to_html,
        ".report.json": report.to_json,
        ".gexf": lambda path: isg.export_gexf(G, P, path),
    }
    before = sorted(tmp_path.rglob("*"))
    for suffix, write in writers.items():
        path = target[where]
        if where == "folder as file":
            path = path.rename(path.with_name("folder" + suffix))
        else:
            path = path.with_name(path.name + suffix)
        with pytest.raises(InputError, match=r"cannot be written.*Give the path"):
            write(path)
        if where == "folder as file":
            path.rename(tmp_path / "folder")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "a file"
