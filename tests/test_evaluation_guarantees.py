"""What every evaluator owes: an interval, a bound on memory, data in any supply, and an honest answer to Ctrl-C."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from probing import fingerprint, groups_of, make, outputs_by_hand, same_fingerprint
from scipy import stats
from sklearn.neighbors import NearestNeighbors
from torch import nn

import innersight_graph as isg
from innersight_graph.errors import InputError
from innersight_graph.evaluation.progress import Interrupted
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition
from innersight_graph.probe.batches import Batches, Held
from innersight_graph.statistics import jackknife_interval

HIDDEN = "attention.in_proj"


def case(name: str, skip: str = "-") -> tuple[nn.Module, torch.Tensor, torch.Tensor, LayeredDiGraph, Partition]:
    model, x, y = make(name)
    G = isg.neuron_graph(model, example=x[:1])
    labels = {layer: groups_of(G.layer(layer).width, 3) for layer in G.hidden_layers if not layer.startswith(skip)}
    return model, x, y, G, Partition.from_labels(G, labels, method="by hand")


def data_evaluators(model: nn.Module, data: Any, G: LayeredDiGraph) -> dict[str, Any]:
    return {
        "sensitivity": isg.Sensitivity(model, data), "consistency": isg.Consistency(model, data),
        "score": isg.PartitionScore(model, data, G), "ablation": isg.Ablation(model, data, joint=2),
        "occlusion": isg.Occlusion(model, data, window=3), "activation": isg.ActivationLevel(model, data),
        "embedding": isg.Embedding(model, data, tsne=False, permutations=9),
    }  # fmt: skip


# --- worker processes


def test_evaluators_can_be_sent_to_other_processes_with_what_they_measured() -> None:
    model, x, y, G, P = case("cnn")
    for key, evaluator in {"structure": isg.Structure(G), **data_evaluators(model, (x, y), G)}.items():
        before = evaluator.evaluate(G, P, nulls=2, seed=0)
        # joblib, like this package's own workers, hands arguments over by pickling.
        copied, H, Q = pickle.loads(pickle.dumps((evaluator, G, P)))
        if key in ("sensitivity", "consistency", "occlusion"):
            # Nothing is measured again: there is no model any more.
            copied.model = None
        after = copied.evaluate(H, Q, nulls=2, seed=0)
        assert np.array_equal(before.per_community, after.per_community, equal_nan=True), key
        assert before.value == after.value, key


# --- intervals


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_every_evaluation_carries_intervals_and_null_based_p_values(name: str) -> None:
    model, x, y, G, P = case(name)
    evaluators = {"structure": isg.Structure(G), **data_evaluators(model, (x, y), G)}
    for key, evaluator in evaluators.items():
        e = evaluator.evaluate(G, P, nulls=3, seed=0)
        low, high = e.intervals["per_community"].T
        assert low.shape == e.per_community.shape, key
        told = np.isfinite(e.per_community)
        assert (low[told] <= e.per_community[told] + 1e-9).all(), key
        assert (e.per_community[told] <= high[told] + 1e-9).all(), key
        assert {"null", "focus"} & set(e.p_values), key
        assert not {"null", "focus"} & set(evaluator.evaluate(G, P).p_values), key


def blockwise(full: float, without: list[float]) -> list[float]:
    """Half a tenth-by-tenth jackknife, written out."""
    mean = sum(without) / len(without)
    error = (sum((v - mean) ** 2 for v in without) * (len(without) - 1) / len(without)) ** 0.5
    return [full + side * stats.t.ppf(0.975, len(without) - 1) * error for side in (-1, 1)]


def test_intervals_are_those_of_the_scores_without_a_tenth_of_the_samples() -> None:
    model, x, y, G, P = case("cnn")
    for make_one in (
        lambda d: isg.Sensitivity(model, d), lambda d: isg.Consistency(model, d),
        lambda d: isg.PartitionScore(model, d, G),
        lambda d: isg.Occlusion(model, d, window=3), lambda d: isg.Embedding(model, d, tsne=False, permutations=3),
    ):  # fmt: skip
        e = make_one([(x[:7], y[:7]), (x[7:], y[7:])]).evaluate(G, P)
        parts = []
        for block in range(10):
            kept = torch.arange(len(x)) % 10 != block
            parts.append(make_one((x[kept], y[kept])).evaluate(G, P).per_community)
        for i, value in enumerate(e.per_community):
            expected = blockwise(value, [part[i] for part in parts])
            assert e.intervals["per_community"][i] == pytest.approx(expected, abs=2e-5), e.name


def test_the_interval_of_structure_is_that_without_a_tenth_of_the_neighbours() -> None:
    _, _, _, G, P = case("mlp")
    e = isg.Structure(G).evaluate(G, P)
    layer = P.layers[0]
    signs = isg.binarize(G, layer)
    groups = list(P.restrict(layer))
    tables = [
        np.hstack([signs.activation_in, signs.activation_out]).astype(float),
        np.hstack([signs.inhibition_in, signs.inhibition_out]).astype(float),
    ]
    without = []
    for block in range(10):
        total = 0.0
        for table in tables:
            kept = table[:, np.arange(table.shape[1]) % 10 != block]
            U = kept @ kept.T
            np.fill_diagonal(U, 0)
            H = nx.relabel_nodes(nx.from_numpy_array(U), dict(enumerate(G.nodes_of(layer))))
            total += nx.community.modularity(H, groups) if U.any() else 0.0
        without.append(total)
    own = [i for i in range(len(P)) if P.layer_of(i) == layer]
    full = e.details["per_layer"][layer]
    # Terms of the communities add up to the layer's; so do they with a block left out.
    centre = e.intervals["per_community"][own].mean(axis=1)
    assert centre.sum() == pytest.approx(full, abs=1e-12)
    one = Partition.from_labels(G, {layer: np.zeros(8, dtype=int)}, method="x")
    assert isg.Structure(G).evaluate(G, one).intervals["per_community"][0] == pytest.approx([0, 0], abs=1e-12)
    spread = jackknife_interval(full, without)
    assert spread[1] - spread[0] > 0


def test_cheap_scores_are_compared_with_999_random_partitions() -> None:
    model, x, y, G, P = case("mlp")
    report = isg.evaluate(G, P, [isg.Structure(G), isg.Sensitivity(model, x), isg.Ablation(model, (x, y))], seed=0)
    draws = {name: e.details["n_draws"] for name, e in report.evaluations.items()}
    assert draws == {"structure": 999, "sensitivity": 999, "ablation": 199}
    assert min(report.evaluations["structure"].p_values["null"]) >= 1 / 1000


# --- naive implementations that stand nowhere else


def test_structure_of_a_transformer_is_networkx_modularity() -> None:
    _, _, _, G, P = case("transformer")
    e = isg.Structure(G).evaluate(G, P)
    for layer in P.layers:
        expected = sum(
            nx.community.modularity(isg.project_layer(G, layer, sign=sign), list(P.restrict(layer)), weight="weight")
            if isg.project_layer(G, layer, sign=sign).number_of_edges()
            else 0.0
            for sign in ("activation", "inhibition")
        )
        assert e.details["per_layer"][layer] == pytest.approx(expected, abs=1e-12)


class Pooled(nn.Module):
    """A transformer that tells one of three classes from tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = make("transformer")[0], nn.Linear(11, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.last(self.body(ids)["logits"].mean(1))


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_levels_embeddings_and_score_equal_loops(name: str) -> None:
    torch.manual_seed(0)
    model, x, _ = make(name)
    prefix = ""
    if name == "transformer":
        model, prefix = Pooled(), "body."
    y = torch.arange(len(x)) % 3
    G = isg.neuron_graph(model, example=x[:1])
    names = [layer for layer in G.hidden_layers if HIDDEN not in layer and not layer.endswith("head")]
    P = Partition.from_labels(G, {n: groups_of(G.layer(n).width, 3) for n in names}, method="by hand")
    levels = isg.ActivationLevel(model, [(x[:7], y[:7]), (x[7:], y[7:])]).evaluate(G, P)
    embedding = isg.Embedding(model, (x, y), tsne=False, permutations=3).evaluate(G, P)
    score = isg.PartitionScore(model, x, G).evaluate(G, P)
    parts = [E.evaluate(G, P) for E in (isg.Sensitivity(model, x), isg.Consistency(model, x), isg.Structure(G))]
    inner = model.body if name == "transformer" else model
    model.eval()
    for i in range(len(P)):
        layer = P.layer_of(i)
        with torch.no_grad():
            own = outputs_by_hand(name, inner, x, layer.removeprefix(prefix)).mean(2).double().numpy()
        own = own[:, sorted(n.index for n in P[i])]
        assert np.allclose(levels.maps["level"][i], own.mean(1), atol=1e-5)
        near = NearestNeighbors(n_neighbors=6).fit(own).kneighbors(own, return_distance=False)[:, 1:]
        assert embedding.per_community[i] == pytest.approx((y.numpy()[near] == y.numpy()[:, None]).mean(), abs=0.03)
        share = len(P[i]) / sum(len(c) for c in P.restrict(layer))
        expected = share * (parts[0].per_community[i] + parts[1].per_community[i]) + parts[2].per_community[i]
        assert score.per_community[i] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", ["classification", "language", "regression"])
def test_loss_shift_and_divergence_equal_loops(metric: str) -> None:
    torch.manual_seed(0)
    name = "transformer" if metric == "language" else "mlp"
    model, x, y, G, P = case(name, HIDDEN)
    y = torch.randn(len(x), 3) if metric == "regression" else y
    e = isg.Ablation(model, [(x[:7], y[:7]), (x[7:], y[7:])]).evaluate(G, P)
    model.eval()

    def run() -> torch.Tensor:
        out = model(x)
        return (out["logits"] if isinstance(out, dict) else out).double()

    def loss(out: torch.Tensor) -> torch.Tensor:
        if metric == "regression":
            return ((out - y) ** 2).mean()
        return nn.functional.cross_entropy(out.flatten(0, -2), y.flatten())

    with torch.no_grad():
        clean = run()
        for i in range(len(P)):
            with isg.ablate(model, P[i], graph=G):
                closed = run()
            assert e.maps["loss"][i] == pytest.approx(float(loss(closed) - loss(clean)), abs=1e-5)
            assert e.maps["logit_shift"][i] == pytest.approx(float(((closed - clean) ** 2).mean().sqrt()), abs=1e-5)
            if metric != "regression":
                before, after = clean.log_softmax(-1), closed.log_softmax(-1)
                divergence = nn.functional.kl_div(after, before, reduction="none", log_target=True).sum(-1).mean()
                assert e.maps["kl"][i] == pytest.approx(float(divergence), abs=1e-5)


def test_class_specificity_and_its_index_are_what_they_say() -> None:
    model, x, y, G, P = case("mlp")
    e = isg.Ablation(model, (x, y)).evaluate(G, P)
    for i, drops in enumerate(e.maps["class_drop"]):
        top = max(drops)
        rest = [d for c, d in enumerate(drops) if c != int(np.argmax(drops))]
        others = sum(rest) / len(rest)
        size = abs(top) + abs(others)
        assert e.details["class_index"][i] == pytest.approx((top - others) / size if size else 0.0, abs=1e-12)
        assert e.details["specificity"][i] == pytest.approx(float(np.var(drops)), abs=1e-12)
        assert -1 <= e.details["class_index"][i] <= 1


def test_one_sample_has_no_consistency() -> None:
    model, x, _, G, P = case("mlp")
    with pytest.raises(InputError, match="One sample came for layer '0'"):
        isg.Consistency(model, x[:1]).evaluate(G, P)
    two = isg.Consistency(model, x[:2]).evaluate(G, P)
    assert np.isfinite(two.per_community).all()
    assert np.isnan(two.intervals["per_community"]).all()


# --- data in any supply


class Supply:
    """A loader that makes its batches anew at each reading and remembers how many it had in its hands."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, shuffle: bool = False) -> None:
        self.x, self.y, self.shuffle, self.readings = x, y, shuffle, 0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.readings += 1
        order = torch.arange(len(self.x)).roll(self.readings if self.shuffle else 0)
        for rows in order.split(7):
            yield self.x[rows].clone(), self.y[rows].clone()


def test_data_beyond_the_budget_are_read_again_and_give_the_same() -> None:
    model, x, y, G, P = case("mlp")
    bytes_of_all = x.numel() * 4 + y.numel() * 8
    supply = Supply(x, y)
    held, small = (Held(Batches(supply, model), budget) for budget in (bytes_of_all, bytes_of_all - 1))
    for _ in range(3):
        assert sum(batch.size for batch in held) == len(x)
    assert supply.readings == 1
    for _ in range(3):
        assert sum(batch.size for batch in small) == len(x)
    assert supply.readings == 4
    for key, evaluator in data_evaluators(model, supply, G).items():
        before = supply.readings
        streamed = evaluator.evaluate(G, P, nulls=3, seed=0, max_memory=2**20 if key != "ablation" else 4000)
        plain = data_evaluators(model, [(x[i : i + 7], y[i : i + 7]) for i in range(0, 40, 7)], G)[key]
        expected = plain.evaluate(G, P, nulls=3, seed=0)
        assert np.allclose(streamed.per_community, expected.per_community, atol=1e-6), key
        assert supply.readings > before


def test_a_loader_that_shuffles_is_kept_if_it_fits_and_refused_if_not() -> None:
    model, x, y, G, P = case("mlp")
    e = isg.Ablation(model, Supply(x, y, shuffle=True)).evaluate(G, P)
    assert np.allclose(e.per_community, isg.Ablation(model, (x, y)).evaluate(G, P).per_community, atol=1e-9)
    with pytest.raises(InputError, match="another order at every reading"):
        isg.Ablation(model, Supply(x, y, shuffle=True)).evaluate(G, P, max_memory=2000)


@pytest.mark.parametrize("evaluator", ["consistency", "activation", "embedding", "score"])
def test_a_table_beyond_the_budget_is_refused_by_name(evaluator: str) -> None:
    model, x, y, G, P = case("mlp")
    with pytest.raises(InputError, match="max_memory"):
        data_evaluators(model, (x, y), G)[evaluator].evaluate(G, P, max_memory=1000)


MEMORY = """
import sys
import numpy as np, torch
import innersight_graph as isg
import scipy.stats, sklearn.metrics  # what is imported on the way is not the evaluator's
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.ReLU(),
    torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, 3),
)
class Supply:  # 14 MiB in all, made as it is read
    def __iter__(self):
        for i in range(96):
            yield torch.rand(16, 3, 28, 28, generator=torch.Generator().manual_seed(i)), torch.arange(16) % 3
few = [batch for batch, _ in zip(Supply(), range(2))]
G = isg.neuron_graph(model, example=torch.rand(1, 3, 28, 28))
P = isg.Partition.from_labels(G, {"0": np.arange(32) % 4, "2": np.arange(32) % 4}, method="by hand")
evaluators = {
    "structure": isg.Structure(G), "ablation": isg.Ablation(model, few),
    "occlusion": isg.Occlusion(model, [x[:2] for x, _ in few], window=5, stride=4),
    "sensitivity": isg.Sensitivity(model, few), "score": isg.PartitionScore(model, few, G),
    "consistency": isg.Consistency(model, Supply()), "activation": isg.ActivationLevel(model, Supply()),
    "embedding": isg.Embedding(model, Supply(), tsne=False, permutations=99, max_samples=200),
}
with torch.no_grad():
    model(few[0][0])
def peak(reset=False):
    if reset:
        open("/proc/self/clear_refs", "w").write("5")
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
for name, evaluator in evaluators.items():
    start = peak(reset=True)
    evaluator.evaluate(G, P, nulls=1, seed=0, max_memory=int(sys.argv[1]))
    print(name, peak() - start)
"""
EVALUATORS = ["structure", "ablation", "occlusion", "sensitivity", "score", "consistency", "activation", "embedding"]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak is read as Linux counts it")
def test_extra_memory_stays_under_the_budget() -> None:
    """The data that are streamed are 14 MiB, more than the budget leaves for keeping them."""
    budget = 48 * 2**20
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576"}
    command = [sys.executable, "-c", MEMORY, str(budget)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    rows = dict(line.split() for line in out.stdout.splitlines())
    assert list(rows) == EVALUATORS
    assert {name: extra for name, extra in rows.items() if int(extra) * 1024 > budget} == {}


# --- interruption


def interrupting(model: nn.Module, at: int) -> None:
    """Press Ctrl-C at the n-th call of the model's last layer."""
    calls = [0]

    def press(module: nn.Module, args: Any) -> None:
        calls[0] += 1
        if calls[0] == at:
            signal.raise_signal(signal.SIGINT)

    model[4].register_forward_pre_hook(press)  # type: ignore[index, operator, union-attr]


def test_ctrl_c_during_the_random_groups_keeps_the_drops() -> None:
    model, x, y, G, P = case("mlp")
    plain = isg.Ablation(model, (x, y)).evaluate(G, P)
    interrupting(model, 60)
    before = fingerprint(model)
    evaluators = [isg.Structure(G), isg.Ablation(model, (x, y)), isg.Consistency(model, x)]
    report = isg.evaluate(G, P, evaluators, nulls=5000, seed=0)
    assert report.environment["partial"]
    assert report.environment["unfinished"] == ("ablation", "consistency")
    part = report.evaluations["ablation"]
    assert part.details["partial"]
    assert np.array_equal(part.per_community, plain.per_community)
    assert np.array_equal(part.p_values["per_community"], plain.p_values["per_community"])
    assert "null" not in part.p_values
    assert any("Interrupted: random groups" in said for said in report.findings())
    assert isg.Report.from_json(report.to_json(), G).evaluations["ablation"] == part
    assert same_fingerprint(before, fingerprint(model))
    again, _, _, _, _ = case("mlp")
    interrupting(again, 60)
    with pytest.raises(Interrupted) as stopped:
        isg.Ablation(again, (x, y)).evaluate(G, P, nulls=5000, seed=0)
    assert np.array_equal(stopped.value.partial.per_community, plain.per_community)


@pytest.mark.parametrize("name", ["sensitivity", "consistency", "occlusion", "activation", "embedding"])
def test_ctrl_c_anywhere_leaves_the_model_as_it_was(name: str) -> None:
    model, x, y, G, P = case("mlp")
    model.train()
    interrupting(model, 2)
    before = fingerprint(model)
    report = isg.evaluate(G, P, [isg.Structure(G), data_evaluators(model, (x, y), G)[name]], nulls=3, seed=0)
    assert list(report.evaluations) == (["structure"] if report.environment["partial"] else ["structure", name])
    assert same_fingerprint(before, fingerprint(model))
