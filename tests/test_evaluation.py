"""Every evaluator against a naive implementation, on an MLP, a residual CNN and a tiny transformer."""

from __future__ import annotations

import itertools
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from probing import (
    MODELS,
    closed_by_hand,
    fingerprint,
    groups_of,
    logits,
    make,
    outputs_by_hand,
    run_by_hand,
    same_fingerprint,
)
from scipy import stats
from torch import nn

import innersight_graph as isg
from innersight_graph.errors import InputError
from innersight_graph.evaluation.occlusion import focus
from innersight_graph.graph.layered import LayeredDiGraph, Neuron
from innersight_graph.partition import Partition

HIDDEN = "attention.in_proj"


def case(
    name: str, k: int = 3, skip: tuple[str, ...] = ()
) -> tuple[nn.Module, torch.Tensor, torch.Tensor, LayeredDiGraph, Partition]:
    model, x, y = make(name)
    G = isg.neuron_graph(model, example=x[:1])
    labels = {
        layer: groups_of(G.layer(layer).width, k) for layer in G.hidden_layers if not layer.startswith(skip or ("-",))
    }
    return model, x, y, G, Partition.from_labels(G, labels, method="by hand")


def members(P: Partition, i: int) -> list[int]:
    return sorted(node.index for node in P[i])


def correct(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    right = (outputs.argmax(-1) == targets).double()
    return right if right.ndim == 1 else right.mean(1)


# --- structure
# ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_structure_is_networkx_modularity_of_the_projection(name: str) -> None:
    _, _, _, G, P = case(name)
    e = isg.Structure(G).evaluate(G, P)
    for layer in P.layers:
        groups = list(P.restrict(layer))
        expected = sum(
            nx.community.modularity(isg.project_layer(G, layer, sign=sign), groups, weight="weight")
            for sign in ("activation", "inhibition")
        )
        assert e.details["per_layer"][layer] == pytest.approx(expected, abs=1e-12)
        own = [i for i in range(len(P)) if P.layer_of(i) == layer]
        assert e.per_community[own].sum() == pytest.approx(expected, abs=1e-12)


def test_structure_uses_the_density_of_the_partition_and_the_printed_constant_on_request() -> None:
    _, _, _, G, P = case("mlp")
    sparse = Partition.from_labels(
        G, {layer: P.labels(layer) for layer in P.layers}, method="x", params={"density": 0.4, "gauge": "none"}
    )
    e = isg.Structure(G).evaluate(G, sparse)
    layer = P.layers[0]
    expected = sum(
        nx.community.modularity(
            isg.project_layer(G, layer, sign=s, density=0.4, gauge="none"), list(sparse.restrict(layer))
        )
        for s in ("activation", "inhibition")
    )
    assert e.details["per_layer"][layer] == pytest.approx(expected, abs=1e-12)
    literal = isg.Structure(G, literal=True).evaluate(G, sparse)
    assert 0 < abs(float(literal) - float(e)) < 1e-6
    one = Partition.from_labels(G, {layer: np.zeros(8, dtype=int)}, method="x")
    assert float(isg.Structure(G).evaluate(G, one)) == pytest.approx(0, abs=1e-12)


# --- sensitivity
# ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "functional", "cnn"])
def test_sensitivity_equals_finite_differences(name: str) -> None:
    model, x, _, G, P = case(name)
    wide = model.double()
    x = x[:5].double()
    e = isg.Sensitivity(wide, x).evaluate(G, P)
    for layer in P.layers:
        flat = x.reshape(len(x), -1)
        columns = []
        for j in range(flat.shape[1]):
            step = torch.zeros_like(flat)
            step[:, j] = 1e-6
            up, down = (outputs_by_hand(name, wide, (flat + s * step).reshape(x.shape), layer).mean(2) for s in (1, -1))
            columns.append((up - down) / 2e-6)
        J = torch.stack(columns, -1).detach()
        gram = torch.einsum("kim,kjm->ij", J, J).numpy() / len(x)
        scale = np.sqrt(np.diag(gram))
        cosine = gram / np.where(scale[:, None] * scale[None] > 0, scale[:, None] * scale[None], np.inf)
        assert np.allclose(e.maps[f"similarity/{layer}"], cosine, atol=1e-4)
        for i in (i for i in range(len(P)) if P.layer_of(i) == layer):
            pairs = [abs(cosine[a, b]) for a, b in itertools.combinations(members(P, i), 2)]
            assert e.per_community[i] == pytest.approx(np.mean(pairs) if pairs else 0.0, abs=1e-4)
        literal = isg.Sensitivity(wide, x, literal=True).evaluate(G, P)
        n = len(members(P, i))
        raw = sum(abs(gram[a, b]) for a, b in itertools.combinations(members(P, i), 2)) / (n * (n - 1))
        assert literal.per_community[i] == pytest.approx(raw, rel=1e-4)


def test_sensitivity_of_token_models_is_taken_at_the_embeddings() -> None:
    model, ids, _, G, P = case("transformer", skip=(HIDDEN, "embed"))
    e = isg.Sensitivity(model, ids[:4]).evaluate(G, P)
    embedded = model.embed(ids[:4]).detach().requires_grad_(True)  # type: ignore[operator, union-attr]
    model.eval()

    class At(nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return embedded

    keep = model.embed
    model.embed = At()
    up = outputs_by_hand("transformer", model, ids[:4], "up").mean(2)
    J = torch.stack(
        [torch.autograd.grad(up[:, i].sum(), embedded, retain_graph=True)[0].flatten(1) for i in range(12)], 1
    )
    model.embed = keep
    gram = torch.einsum("kim,kjm->ij", J, J).numpy()
    cosine = gram / np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    assert np.allclose(e.maps["similarity/up"], cosine, atol=1e-4)


def test_the_sketch_approaches_the_exact_matrix_and_tells_its_error() -> None:
    model, x, _, G, _ = case("mlp")
    exact = isg.Sensitivity(model, x, method="exact").grams(G, ["0"])["0"]
    errors = []
    for directions in (4, 100):
        sketch = isg.Sensitivity(model, x, method="sketch", directions=directions).grams(G, ["0"])["0"]
        errors.append(np.linalg.norm(sketch.matrix - exact.matrix) / np.linalg.norm(exact.matrix))
        assert sketch.method == "sketch"
        assert sketch.agreement < 1
    assert errors[1] < 0.15
    positions = isg.Sensitivity(*make("cnn")[:1], make("cnn")[1][:4], spatial="sum", method="exact")
    C = isg.neuron_graph(positions.model, example=make("cnn")[1][:1])
    swept = isg.Sensitivity(positions.model, positions.data, spatial="sum", method="sketch", directions=400).grams(
        C, ["conv1"]
    )["conv1"]
    full = positions.grams(C, ["conv1"])["conv1"]
    assert np.linalg.norm(swept.matrix - full.matrix) < 0.15 * np.linalg.norm(full.matrix)


# --- consistency and score
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "functional", "cnn", "transformer"])
def test_consistency_equals_a_loop(name: str) -> None:
    model, x, _, G, P = case(name, skip=(HIDDEN,))
    e = isg.Consistency(model, [x[:7], x[7:]]).evaluate(G, P)
    literal = isg.Consistency(model, x, literal=True).evaluate(G, P)
    for i in range(len(P)):
        with torch.no_grad():
            F_out = outputs_by_hand(name, model, x, P.layer_of(i)).double().mean(2).numpy()
        scores, deviations = [], []
        for j in members(P, i):
            d = F_out[:, j] - F_out[:, j].mean()
            span = d.max() - d.min()
            s = sum((v / span) ** 2 for v in d) / (len(d) - 1) if span > 0 else 0.0
            scores.append(1 / (1 + s))
            deviations.append(d)
        gammas = []
        for k in range(len(x)):
            total = sum(abs(d[k]) for d in deviations)
            gammas.append(abs(sum(d[k] for d in deviations)) / total if total > 0 else 0.0)
        n = len(deviations)
        gamma = (np.mean(gammas) - n**-0.5) / (1 - n**-0.5) if n > 1 else 0.0
        assert e.details["gamma_raw"][i] == pytest.approx(np.mean(gammas), abs=1e-5)
        assert e.per_community[i] == pytest.approx(abs(gamma) * np.mean(scores), abs=1e-5)
        assert e.per_community[i] > 0
        assert abs(literal.per_community[i]) < 1e-10


@pytest.mark.parametrize("literal", [False, True])
def test_score_is_equation_13(literal: bool) -> None:
    model, x, _, G, P = case("mlp")
    score = isg.PartitionScore(model, x, G, alpha=0.7, beta=1.3, literal=literal)
    parts = [
        E.evaluate(G, P)
        for E in (isg.Sensitivity(model, x, literal=literal), isg.Consistency(model, x, literal=literal))
    ]
    structure = isg.Structure(G, literal=literal).evaluate(G, P)
    values = []
    for layer in P.layers:
        own = [i for i in range(len(P)) if P.layer_of(i) == layer]
        share = np.array([len(P[i]) for i in own]) / sum(len(P[i]) for i in own)
        S_in, S_out = (e.per_community[own] for e in parts)
        values.append(share @ (0.7 * S_in + (S_in if literal else S_out)) + 1.3 * structure.details["per_layer"][layer])
        assert score(P.restrict(layer)) == pytest.approx(values[-1], abs=1e-9)
    e = score.evaluate(G, P)
    assert float(e) == pytest.approx(np.mean(values), abs=1e-9)
    assert list(e.details["per_layer"].values()) == pytest.approx(values, abs=1e-9)


def test_score_as_a_criterion_remembers_its_terms() -> None:
    model, x, _, G, _ = case("mlp")
    score = isg.PartitionScore(model, x, G)
    P = isg.em_communities(G, [2, 3], criterion=score, n_init=2, seed=0)
    assert set(P.layers) == set(G.hidden_layers)
    for layer in G.hidden_layers:
        assert set(score.history[layer]) <= {1, 2, 3}
        grid = score.best_numbers(layer, [0.0, 1.0], [0.0, 1.0, 5.0])
        assert grid.shape == (2, 3)
        terms = score.history[layer]
        assert grid[1, 1] == max(sorted(terms), key=lambda r: sum(terms[r]))


# --- ablation
# -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("value", [0.0, "mean", 0.5])
def test_ablation_equals_closing_one_by_one(name: str, value: Any) -> None:
    model, x, y, G, P = case(name)
    data = [(x[:9], y[:9]), (x[9:], y[9:])]
    e = isg.Ablation(model, data, value=value).evaluate(G, P, max_memory=2**16)
    model.eval()
    with torch.no_grad():
        clean = correct(logits(model(x)), y)
    assert e.details["baseline"] == pytest.approx(float(clean.mean()))
    for i in range(len(P)):
        layer = P.layer_of(i)
        if layer.startswith(HIDDEN) and value != 0:
            assert np.isnan(e.per_community[i])
            continue
        fill = value
        if value == "mean":
            with torch.no_grad():
                fill = outputs_by_hand(name, model, x, layer).double().mean((0, 2))[members(P, i)]
        closed = correct(_closed(name, model, x, layer, members(P, i), fill), y)
        change = (clean - closed).numpy()
        assert e.per_community[i] == pytest.approx(change.mean(), abs=1e-9)
        if y.ndim == 1:
            for c in range(3):
                assert e.maps["class_drop"][i, c] == pytest.approx(change[y.numpy() == c].mean(), abs=1e-6)


def _closed(name: str, model: nn.Module, x: torch.Tensor, layer: str, neurons: list[int], fill: Any) -> torch.Tensor:
    if not isinstance(fill, torch.Tensor):
        return closed_by_hand(name, model, x, layer, neurons, fill)

    def change(outputs: torch.Tensor) -> torch.Tensor:
        new = outputs.clone()
        new[:, neurons] = fill.to(outputs.dtype).reshape(1, -1, *[1] * (outputs.ndim - 2))
        return new

    with torch.no_grad():
        return run_by_hand(name, model, x, layer, change)


def test_ablation_intervals_tests_and_extras_equal_scipy() -> None:
    model, x, y, G, P = case("mlp")
    e = isg.Ablation(model, (x, y)).evaluate(G, P)
    model.eval()
    with torch.no_grad():
        before = model(x).double()
    clean = correct(before, y).numpy()
    raw = []
    for i in range(len(P)):
        after = closed_by_hand("mlp", model, x, P.layer_of(i), members(P, i)).double()
        closed = correct(after, y).numpy()
        lost, gained = int(((clean == 1) & (closed == 0)).sum()), int(((clean == 0) & (closed == 1)).sum())
        raw.append(stats.binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0)
        loss = nn.functional.cross_entropy(after, y) - nn.functional.cross_entropy(before, y)
        assert e.maps["loss"][i] == pytest.approx(float(loss), abs=1e-5)
        assert e.maps["logit_shift"][i] == pytest.approx(float(((after - before) ** 2).mean().sqrt()), abs=1e-5)
        p, q = before.softmax(1), after.softmax(1)
        assert e.maps["kl"][i] == pytest.approx(float((p * (p / q).log()).sum(1).mean()), abs=1e-5)
        low, high = e.intervals["per_community"][i]
        assert low <= e.per_community[i] <= high
    order = np.argsort(raw)
    stepped = np.minimum(np.maximum.accumulate(np.array(raw)[order] * np.arange(len(raw), 0, -1)), 1)
    assert np.allclose(e.p_values["per_community"][order], stepped, atol=1e-12)
    assert e.p_values["class_drop"].shape == (len(P), 3)


def test_joint_closings_and_their_interactions() -> None:
    model, x, y, G, P = case("mlp")
    e = isg.Ablation(model, (x, y), joint=2).evaluate(G, P)
    pairs = e.details["joint"]
    assert len(pairs) == sum(len(list(itertools.combinations(range(len(P.restrict(layer))), 2))) for layer in P.layers)
    model.eval()
    clean = correct(model(x), y)
    for pair in pairs:
        both = sorted(n.index for i in pair["communities"] for n in P[i])
        closed = correct(closed_by_hand("mlp", model, x, pair["layer"], both), y)
        drop = float((clean - closed).mean())
        assert pair["drop"] == pytest.approx(drop, abs=1e-9)
        assert pair["interaction"] == pytest.approx(
            drop - sum(e.per_community[i] for i in pair["communities"]), abs=1e-9
        )
        assert pair["found"] == "all"


def test_many_communities_are_joined_greedily_and_by_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innersight_graph.evaluation.joint.MAX_SUBSETS", 20)
    model, x, y, G, _ = case("mlp")
    P = Partition.from_labels(G, {"0": range(8)}, method="by hand")
    pairs = isg.Ablation(model, (x, y), joint=3).evaluate(G, P, seed=1).details["joint"]
    assert {p["found"] for p in pairs} == {"greedy", "sampled"}
    assert all(2 <= len(p["communities"]) <= 3 for p in pairs)
    again = isg.Ablation(model, (x, y), joint=3).evaluate(G, P, seed=1).details["joint"]
    assert [p["communities"] for p in pairs] == [p["communities"] for p in again]


@pytest.mark.parametrize("outputs", [1, 2])
def test_regression_and_functions_as_metrics(outputs: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, outputs))
    x, y = torch.randn(30, 4), torch.randn(30, outputs)
    G = isg.neuron_graph(model, example=x[:1])
    P = Partition.from_labels(G, {"0": [0, 0, 1, 1, 2, 2]}, method="by hand")
    e = isg.Ablation(model, (x, y)).evaluate(G, P, nulls=9, seed=0)
    with torch.no_grad():
        clean = ((model(x) - y) ** 2).mean(1)
        for i in range(3):
            h = torch.relu(model[0](x))
            h[:, members(P, i)] = 0
            worse = ((model[2](h) - y) ** 2).mean(1) - clean
            assert e.per_community[i] == pytest.approx(float(worse.mean()), abs=1e-5)
            t = stats.ttest_1samp(worse.numpy(), 0)
            low, high = t.confidence_interval()
            assert e.intervals["per_community"][i] == pytest.approx([low, high], abs=1e-4)
    mine = isg.Ablation(model, (x, y), metric=lambda out, target: -((out - target) ** 2).mean(1)).evaluate(G, P)
    assert np.allclose(mine.per_community, e.per_community, atol=1e-5)
    assert e.p_values["null"].shape == (3,)


def test_two_classes_from_one_output() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
    x, y = torch.randn(30, 4), torch.randint(0, 2, (30,))
    G = isg.neuron_graph(model, example=x[:1])
    P = Partition.from_labels(G, {"0": [0, 0, 1, 1, 2, 2]}, method="by hand")
    e = isg.Ablation(model, (x, y)).evaluate(G, P)
    assert e.details["baseline"] == pytest.approx(float(((model(x)[:, 0] > 0) == y).float().mean()))
    assert e.maps["class_drop"].shape == (3, 2)


def test_groups_equal_single_runs_whatever_the_chunks() -> None:
    """The fast path is checked on random groups at several memory limits, also where samples must be cut."""
    model, x, y, G, P = case("cnn")
    results = [isg.Ablation(model, (x, y)).evaluate(G, P, nulls=2, seed=0, max_memory=m) for m in (2**14, 2**17, 2**28)]
    for other in results[1:]:
        assert np.array_equal(results[0].per_community, other.per_community)
        assert np.array_equal(results[0].p_values["null"], other.p_values["null"])


def test_silent_communities_are_listed_but_not_tested() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].bias[[1, 5]] = -100.0
    x, y = torch.randn(60, 4), torch.randint(0, 3, (60,))
    G = isg.neuron_graph(model, (x, y))
    P = isg.random_communities(G, 2, seed=0)
    silent = P.stats["0"]["silent"]
    assert P[silent] >= {Neuron("0", 1), Neuron("0", 5)}
    report = isg.evaluate(G, P, [isg.Ablation(model, (x, y)), isg.Consistency(model, x)], nulls=19, seed=0)
    e = report.evaluations["ablation"]
    assert e.per_community[silent] == 0.0
    assert np.isnan(e.p_values["null"][silent])
    assert np.isnan(e.p_values["per_community"][silent])
    assert float(e) == pytest.approx(np.delete(e.per_community, silent).mean())
    assert report.table()[silent]["silent"]


# --- nulls
# ----------------------------------------------------------------------------------------------------------------------


def test_null_of_the_drop_is_what_random_groups_of_that_size_cost() -> None:
    """The band of a single-neuron community is exactly the distribution of single neurons' drops."""
    model, x, y, G, _ = case("mlp")
    P = Partition.from_labels(G, {"0": [0, 1, 1, 1, 1, 1, 1, 1]}, method="by hand")
    e = isg.Ablation(model, (x, y)).evaluate(G, P, nulls=400, seed=0)
    model.eval()
    clean = correct(model(x), y).mean()
    single = [float(clean - correct(closed_by_hand("mlp", model, x, "0", [j]), y).mean()) for j in range(8)]
    small = 1
    assert len(P[small]) == 1
    assert e.details["null_drop"]["mean"][small] == pytest.approx(np.mean(single), abs=0.01)
    assert e.details["null_drop"]["low"][small] >= min(single) - 1e-9
    assert e.details["n_draws"] == 400


def test_layers_are_corrected_together_and_too_few_draws_are_said() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    x, y = torch.randn(60, 4), torch.randint(0, 3, (60,))
    G = isg.neuron_graph(model, example=x[:1])
    P = isg.random_communities(G, 2, seed=0)
    report = isg.evaluate(G, P, isg.Ablation(model, (x, y)), nulls=9, seed=0)
    p = report.evaluations["ablation"].p_values["partition"]
    # Three layers at one draw in ten: Holm's smallest is three tenths.
    assert list(p) == list(G.hidden_layers)
    assert min(p.values()) >= 0.3
    assert any("no p-value can fall below 0.3" in finding for finding in report.findings())


def test_a_community_of_consequence_is_found_and_chance_is_not() -> None:
    """One group carries a class alone; beyond it, p-values of random partitions are not small."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 3))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.zero_()
        model[2].weight.zero_()
        model[2].bias.zero_()
        for j in range(24):
            model[0].weight[j, j % 3] = 1.0
            model[2].weight[j % 3, j] = 1.0
    y = torch.arange(3).repeat(40)
    x = torch.nn.functional.one_hot(y, 3).float() + 0.05 * torch.rand(120, 3)
    G = isg.neuron_graph(model, example=x[:1])
    planted = Partition.from_labels(G, {"0": np.arange(24) % 3}, method="by hand")
    e = isg.Ablation(model, (x, y)).evaluate(G, planted, nulls=99, seed=0)
    assert (e.p_values["specificity"] <= 0.02).all()
    assert e.p_values["partition"]["0"] == 0.01
    assert sorted(e.details["most_hurt"]) == [0, 1, 2]
    assert e.details["specificity_ratio"]["0"] > 5
    p = [
        isg.Ablation(model, (x, y))
        .evaluate(G, isg.random_communities(G, 3, seed=s), nulls=39, seed=s)
        .p_values["null"]
        .min()
        for s in range(20)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.25


@pytest.mark.parametrize("make_evaluator", [
    lambda m, x, y, G: isg.Structure(G), lambda m, x, y, G: isg.Sensitivity(m, x),
    lambda m, x, y, G: isg.Consistency(m, x), lambda m, x, y, G: isg.PartitionScore(m, x, G),
    lambda m, x, y, G: isg.Ablation(m, (x, y)), lambda m, x, y, G: isg.Occlusion(m, x, window=3),
])  # fmt: skip
def test_seeded_nulls_repeat_and_the_model_is_untouched(make_evaluator: Any) -> None:
    model, x, y, G, P = case("cnn")
    model.train()
    before = fingerprint(model)
    first, second = (make_evaluator(model, x, y, G).evaluate(G, P, nulls=9, seed=3) for _ in range(2))
    assert first == second
    assert same_fingerprint(before, fingerprint(model))
    assert any("null" in key or key == "focus" for key in first.p_values)


# --- occlusion
# ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
@pytest.mark.parametrize("literal", [False, True])
def test_occlusion_equals_a_loop_over_windows_with_borders(name: str, literal: bool) -> None:
    model, x, _, G, P = case(name, skip=(HIDDEN,))
    x = x[:6]
    if name == "mlp":
        x = torch.randn(6, 6)
    grid, window = {"mlp": ((2, 3), 2), "cnn": ((9, 9), 5), "transformer": ((5,), 1)}[name]
    occlusion = isg.Occlusion(
        model, x, window=window, grid=grid, literal=literal, fill=0 if name != "transformer" else 3
    )
    e = occlusion.evaluate(G, P)
    assert e.maps["heat"].shape == (len(P), *grid)
    wide = model.double()
    exact = x.double() if x.is_floating_point() else x
    with torch.no_grad():
        for at in itertools.product(*(range(n) for n in grid)):
            covered = exact.clone().reshape(len(x), *grid)
            region = tuple(slice(max(0, c - window // 2), c + window - window // 2) for c in at)
            covered[(slice(None), *region)] = 0 if name != "transformer" else 3
            covered = covered.reshape(exact.shape)
            for layer in P.layers:
                old, new = (outputs_by_hand(name, wide, z, layer) for z in (exact, covered))
                mse = ((new - old) ** 2).mean(2).numpy()
                for i in (i for i in range(len(P)) if P.layer_of(i) == layer):
                    own = mse[:, members(P, i)].mean(1)
                    expected = np.sqrt(own).mean() if literal else np.sqrt(own.mean())
                    assert e.maps["heat"][(i, *at)] == pytest.approx(expected, abs=1e-5)


def test_occlusion_stride_fill_mask_and_channels() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2))
    x = torch.zeros(5, 3, 8, 8)
    x[:, :, 2:4, 2:4] = torch.rand(5, 3, 2, 2) + 1
    G = isg.neuron_graph(model, example=x[:1])
    P = Partition.from_labels(G, {"0": [0, 0, 1, 1]}, method="by hand")
    mask = np.zeros((8, 8))
    mask[1:5, 1:5] = 1
    e = isg.Occlusion(model, x, window=1, mask=mask).evaluate(G, P)
    assert np.allclose(e.details["inside"], 1.0)
    assert e.details["mask_share"] == 0.25
    assert (e.details["focus"] > 0.5).all()
    coarse = isg.Occlusion(model, x, window=3, stride=2).evaluate(G, P).maps["heat"]
    fine = isg.Occlusion(model, x, window=3).evaluate(G, P).maps["heat"]
    assert np.allclose(coarse[:, ::2, ::2], fine[:, ::2, ::2], atol=1e-6)
    assert coarse.shape == fine.shape
    grey = isg.Occlusion(model, x, window=3, fill=0.5).evaluate(G, P).maps["heat"]
    assert (grey[:, 7, 7] > 0).all()
    assert np.array_equal(focus(np.zeros((2, 3, 3))), [0.0, 0.0])


def test_progress_shows_a_bar_only_where_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model, x, y, G, P = case("mlp")
    isg.evaluate(G, P, isg.Ablation(model, (x, y)), nulls=3, seed=0, progress=True)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("innersight_graph.evaluation.progress.PATIENCE", 0.0)
    isg.evaluate(G, P, isg.Ablation(model, (x, y)), nulls=3, seed=0, progress=True)
    assert capfd.readouterr().err == ""  # not a terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    report = isg.evaluate(G, P, isg.Ablation(model, (x, y)), nulls=3, seed=0, progress=True)
    assert not report.environment["partial"]
    assert "random groups" in capfd.readouterr().err


# --- arguments
# ------------------------------------------------------------------------------------------------------------------


def test_wrong_arguments_are_named() -> None:
    model, x, y, G, P = case("mlp")
    _, _, _, H, _ = case("functional")
    before = fingerprint(model)
    for call, said in [
        (lambda: isg.Ablation(model, (x, y)).evaluate(H, P), "partition of another graph"),
        (lambda: isg.Ablation(model, x).evaluate(G, P), "has no targets"),
        (lambda: isg.Ablation(model, (x, y + 5)).evaluate(G, P), "classes must be numbered"),
        (lambda: isg.Ablation(model, (x, y), metric="f1").evaluate(G, P), "is unknown"),
        (lambda: isg.Ablation(model, (x, y), value="none"), "no way of closing"),
        (lambda: isg.Ablation(model, (x, y), joint=0), "joint=0"),
        (lambda: isg.Ablation(model, (x, y), metric=lambda o, t: 1.0).evaluate(G, P), "one number per sample"),
        (lambda: isg.Occlusion(model, x, window=0), "window=0"),
        (lambda: isg.Occlusion(model, x, grid=(5, 5)).evaluate(G, P), "do not lie on a grid"),
        (lambda: isg.Occlusion(model, x, mask=np.ones((9, 9))).evaluate(G, P), "mask has the shape"),
        (lambda: isg.evaluate(G, P, [isg.Structure(G), isg.Structure(G)]), "Two evaluators"),
        (lambda: isg.evaluate(G, P, [3]), "Evaluator 0"),
        (lambda: isg.evaluate(G, P, isg.Structure(G), nulls=-1), "nulls=-1"),
    ]:
        with pytest.raises(InputError, match=said) as error:
            call()
        assert "\n" not in str(error.value)
    assert same_fingerprint(before, fingerprint(model))
