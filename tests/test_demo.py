"""The demo: every number of its summary, recomputed from the files it wrote, with none of the package's own scoring."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import adjusted_rand_score

from innersight_graph import LayeredDiGraph, load_digits
from innersight_graph.demo import run_demo
from innersight_graph.provenance import digest

HIDDEN = ("fc1", "fc2", "fc3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    run_demo(out, seed=0)
    return out


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


class Network:
    """The trained network from its weights alone, in float32 as trained, with neurons to switch off."""

    def __init__(self, folder: Path) -> None:
        state = torch.load(folder / "model.pt", weights_only=True)
        self.layers = [(name, state[f"{name}.weight"], state[f"{name}.bias"]) for name in (*HIDDEN, "out")]

    def hidden(self, x: torch.Tensor, layer: str) -> torch.Tensor:
        h = x.flatten(1)
        for name, weight, bias in self.layers:
            h = torch.relu(h @ weight.T + bias)
            if name == layer:
                return h
        raise KeyError(layer)

    def correct(self, split: Any, layer: str | None = None, closed: list[int] | None = None) -> np.ndarray:
        h = split.inputs.flatten(1)
        for name, weight, bias in self.layers:
            h = h @ weight.T + bias
            if name != "out":
                h = torch.relu(h)
            if name == layer:
                h[:, closed] = 0.0
        return (h.argmax(1) == split.targets).numpy()


@pytest.fixture(scope="module")
def network(folder: Path) -> Network:
    return Network(folder)


def communities_of(folder: Path, name: str = "partition.json") -> list[dict[str, Any]]:
    return json.loads((folder / name).read_text(encoding="utf-8"))["communities"]


def labels_of(folder: Path, name: str, layer: str, width: int) -> np.ndarray:
    labels = np.full(width, -1)
    for k, community in enumerate(communities_of(folder, name)):
        if community["layer"] == layer:
            labels[community["neurons"]] = k
    return labels


def silent_of(folder: Path, layer: str) -> int:
    names = [community["name"] for community in communities_of(folder)]
    return names.index(f"{layer}/silent") if f"{layer}/silent" in names else -2


def found_in(folder: Path, name: str, layer: str) -> int:
    return sum(c["layer"] == layer and not c["name"].endswith("/silent") for c in communities_of(folder, name))


def file_of(method: str) -> str:
    return "partition.json" if method == "em" else f"partition-{method.replace(' ', '-')}.json"


def by_class(change: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.array([change[targets == digit].mean() for digit in range(10)])


def test_all_files_are_there(folder: Path) -> None:
    names = {"report.html", "graph.npz", "graph.graphml", "partition.json", "comparison.csv", "summary.json"}
    assert names <= {path.name for path in folder.iterdir()}


def test_accuracy_and_sizes(folder: Path, summary: dict[str, Any], network: Network) -> None:
    data = load_digits(flat=False, seed=0)
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        assert summary["data"][name] == len(split.targets)
        assert summary["model"]["accuracy"][name] == pytest.approx(network.correct(split).mean())
    assert summary["model"]["accuracy"]["test"] >= 0.95
    assert summary["fingerprint"]["graph"] == LayeredDiGraph.load(folder / "graph.npz").fingerprint
    assert summary["fingerprint"]["data"] == digest([*data.train, *data.validation, *data.test])
    assert summary["model"]["widths"] == [64, 128, 64, 32, 10]
    assert summary["model"]["parameters"] == sum(w.numel() + b.numel() for _, w, b in network.layers)


def test_graph(folder: Path, summary: dict[str, Any], network: Network) -> None:
    G = LayeredDiGraph.load(folder / "graph.npz")
    edges = sum(int((weight != 0).sum()) for _, weight, _ in network.layers)
    assert summary["graph"]["neurons"] == 64 + 128 + 64 + 32 + 10 == len(G)
    assert summary["graph"]["edges"] == edges == G.number_of_edges()
    for (name, weight, _), source in zip(network.layers, ("input", *HIDDEN), strict=True):
        assert np.array_equal(G.matrix(source, name), weight.T.numpy())
    written = nx.read_graphml(folder / "graph.graphml")
    assert (len(written), written.number_of_edges()) == (298, edges)
    train = load_digits(flat=False, seed=0).train.inputs
    for layer in HIDDEN:
        fires = (network.hidden(train, layer) > 0).double().mean(0)
        assert summary["graph"]["silent"][layer] == int((fires < 0.005).sum())


def test_communities_and_agreement(folder: Path, summary: dict[str, Any], network: Network) -> None:
    for method, counts in summary["communities"].items():
        assert counts == {layer: found_in(folder, file_of(method), layer) for layer in HIDDEN}
    widths = {name: len(weight) for name, weight, _ in network.layers}
    for pair, values in summary["agreement"].items():
        other = pair.removeprefix("em, ")
        for layer, ari in values.items():
            ours = labels_of(folder, "partition.json", layer, widths[layer])
            theirs = labels_of(folder, file_of(other), layer, widths[layer])
            live = ours != silent_of(folder, layer)
            assert ari == pytest.approx(adjusted_rand_score(ours[live], theirs[live]))
    table = (folder / "comparison.csv").read_text(encoding="utf-8").splitlines()
    rows = {row["method"]: row for row in csv.DictReader(table)}
    assert set(rows) == {"em", "louvain", "leiden"}
    for method, row in rows.items():
        assert int(row["communities"]) == sum(summary["communities"][method].values())


def holm(p: list[float]) -> list[float]:
    order, corrected, worst = np.argsort(p), [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, p[i] * (len(p) - rank)))
        corrected[i] = worst
    return corrected


def test_closings(folder: Path, summary: dict[str, Any], network: Network) -> None:
    test = load_digits(flat=False, seed=0).test
    targets, clean = test.targets.numpy(), network.correct(test)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))["evaluations"]["ablation"]
    details = dict(report["details"]["mapping"])
    named = details["named_class"]["array"]
    raw, live = [], []
    for i, community in enumerate(communities_of(folder)):
        closed = network.correct(test, community["layer"], community["neurons"])
        change = clean.astype(float) - closed
        entry = summary["ablation"][community["name"]]
        drops = by_class(change, targets)
        assert entry["neurons"] == len(community["neurons"])
        assert entry["drop"] == pytest.approx(change.mean(), abs=1e-12)
        assert entry["worst_class_drop"] == pytest.approx(drops.max(), abs=1e-12)
        assert drops[int(entry["worst_class"])] == pytest.approx(drops.max(), abs=1e-12)
        assert entry["named_class"] == (None if named[i] < 0 else str(named[i]))
        if community["name"].endswith("/silent"):
            assert entry["p_value"] is None
            continue
        lost, gained = int((change > 0).sum()), int((change < 0).sum())
        raw.append(binomtest(lost, lost + gained).pvalue if lost + gained else 1.0)
        live.append(entry["p_value"])
    assert live == pytest.approx(holm(raw))


def test_specificity_against_random_groups_drawn_here(folder: Path, summary: dict[str, Any], network: Network) -> None:
    """Own random groups of equal size among the live neurons; their mean varies, so within a third."""
    test, rng = load_digits(flat=False, seed=0).test, np.random.default_rng(1)
    targets, clean = test.targets.numpy(), network.correct(test)

    def variance(layer: str, neurons: list[int]) -> float:
        return float(by_class(clean.astype(float) - network.correct(test, layer, neurons), targets).var())

    for layer in HIDDEN:
        groups = [
            c["neurons"] for c in communities_of(folder) if c["layer"] == layer and not c["name"].endswith("/silent")
        ]
        live = np.concatenate(groups)
        draws = []
        for _ in range(25):
            parts = np.split(rng.permutation(live), np.cumsum([len(group) for group in groups])[:-1])
            draws.append([variance(layer, part.tolist()) for part in parts])
        ratio = np.mean([variance(layer, group) for group in groups]) / np.mean(draws)
        assert summary["specificity_ratio"]["em"][layer] == pytest.approx(ratio, rel=0.34)


def test_noise(folder: Path, summary: dict[str, Any], network: Network) -> None:
    data = load_digits(flat=False, seed=0)
    gains = {}
    for community in communities_of(folder):
        if not community["name"].endswith("/silent"):
            closed = network.correct(data.validation, community["layer"], community["neurons"])
            gains[community["name"]] = closed.mean() - network.correct(data.validation).mean()
    noise = summary["noise"]
    if not noise["community"]:
        assert max(gains.values()) <= 0
        return
    assert noise["validation_gain"] == pytest.approx(max(gains.values()))
    assert gains[noise["community"]] == pytest.approx(max(gains.values()))
    chosen = next(c for c in communities_of(folder) if c["name"] == noise["community"])
    before, after = network.correct(data.test), network.correct(data.test, chosen["layer"], chosen["neurons"])
    assert noise["test_gain"] == pytest.approx(after.mean() - before.mean())
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    assert noise["p_value"] == pytest.approx(binomtest(lost, lost + gained).pvalue if lost + gained else 1.0)


def test_findings_follow_from_the_numbers(summary: dict[str, Any]) -> None:
    verdicts = {finding["claim"]: finding["supported"] for finding in summary["findings"]}
    untrained = summary["communities"]["em untrained"]
    assert verdicts[next(c for c in verdicts if c.startswith("Training makes"))] == (set(untrained.values()) == {1})
    ratios = summary["specificity_ratio"]
    signs = all(ratios["em"][layer] > ratios["as many without signs"][layer] for layer in HIDDEN)
    assert verdicts["Activation and inhibition must be kept apart."] == signs


def test_a_file_in_the_way_is_refused_before_any_work(tmp_path: Path) -> None:
    from innersight_graph import InputError

    target = tmp_path / "taken"
    target.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="is a file; a folder was expected"):
        run_demo(target)
    assert target.read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
