"""Signs that are conventions: which layers have them, that turning undoes flips, and that no method sees a flip."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import nn
from torch.nn import functional

import innersight_graph as isg
from innersight_graph.graph.gauge import balance, orient
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.neuronize import neuron_graph, trace_model
from innersight_graph.planted import translate

WIDTHS = [6, 8, 7, 5]
PAIRS = [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)]


def build(W: dict[tuple[str, str], Any], odd: tuple[int, ...] = (1, 2)) -> LayeredDiGraph:
    return LayeredDiGraph.from_arrays([Layer(f"l{i}", i, w, "linear", odd=i in odd) for i, w in enumerate(WIDTHS)], W)


def drawn(rng: np.random.Generator, share: float) -> dict[tuple[str, str], np.ndarray]:
    full = {(f"l{s}", f"l{t}"): rng.normal(size=(WIDTHS[s], WIDTHS[t])) for s, t in PAIRS}
    return {pair: (W * (rng.random(W.shape) < share)).astype(np.float32) for pair, W in full.items()}


def flipped(W: dict[tuple[str, str], np.ndarray], signs: dict[str, np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    one = {f"l{i}": np.ones(w, dtype=np.float32) for i, w in enumerate(WIDTHS)} | signs
    return {(s, t): w * one[s][:, None] * one[t] for (s, t), w in W.items()}


def signs(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {f"l{i}": rng.choice(np.float32([-1, 1]), WIDTHS[i]) for i in (1, 2)}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.4]), st.sampled_from([np.asarray, sparse.csr_array]))
def test_flips_are_undone_to_the_last_bit(seed: int, share: float, form: Callable[..., Any]) -> None:
    rng = np.random.default_rng(seed)
    W = drawn(rng, share)
    other = flipped(W, signs(rng))
    kept = {pair: w.copy() for pair, w in W.items()}
    for treat in (orient, balance):
        A, B = (treat(build({p: form(w) for p, w in x.items()})) for x in (W, other))
        for pair in W:
            a, b = (np.asarray(x.toarray() if sparse.issparse(x) else x) for x in (A.matrix(*pair), B.matrix(*pair)))
            assert np.array_equal(a, b)
    assert all(np.array_equal(W[pair], kept[pair]) for pair in W)


def test_only_signs_change_and_only_of_odd_layers() -> None:
    W = drawn(np.random.default_rng(1), 1.0)
    G = build(W, odd=(1,))
    H = orient(G)
    turned = np.sign(H.matrix("l0", "l1") / W["l0", "l1"])
    assert (turned == turned[0]).all()
    assert (turned < 0).any()
    assert np.array_equal(np.sign(H.matrix("l1", "l2") / W["l1", "l2"])[:, 0], turned[0])
    assert np.array_equal(H.matrix("l0", "l2"), W["l0", "l2"])
    assert H.layers == G.layers
    assert np.array_equal(orient(H).matrix("l0", "l1"), H.matrix("l0", "l1"))
    plain = build(W, odd=())
    assert orient(plain) is plain


def test_neurons_alike_up_to_sign_agree_as_in_the_best_of_all_orientations() -> None:
    """Two families of five, each one direction with noise: enumeration finds the longest sum, and so must we."""
    rng = np.random.default_rng(2)
    directions = np.kron(np.eye(2), np.ones((5, 1))) @ np.kron(np.eye(2), rng.normal(size=(1, 20)))
    X = (directions + 0.3 * rng.normal(size=(10, 40))) * rng.choice([-1, 1], (10, 1))
    layers = [Layer("in", 0, 40, "input"), Layer("h", 1, 10, "linear", odd=True), Layer("out", 2, 1, "linear")]
    G = LayeredDiGraph.from_arrays(layers, {("in", "h"): X.T, ("h", "out"): np.full((10, 1), 1e-6)})
    found = np.sign(orient(G).matrix("in", "h")[0] / X[:, 0])
    for family in (slice(0, 5), slice(5, 10)):
        unit = X[family] / np.linalg.norm(X[family], axis=1, keepdims=True)
        every = np.array(list(itertools.product([-1, 1], repeat=5)))
        best = every[np.linalg.norm(every @ unit, axis=1).argmax()]
        assert abs(found[family] @ best) == 5


def test_the_order_of_neurons_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    W = drawn(rng, 1.0)
    order = rng.permutation(WIDTHS[1])
    moved = W | {("l0", "l1"): W["l0", "l1"][:, order]}
    moved |= {("l1", t): W["l1", t][order] for t in ("l2", "l3")}
    A, B = orient(build(W)), orient(build(moved))
    assert np.array_equal(A.matrix("l0", "l1")[:, order], B.matrix("l0", "l1"))
    assert np.array_equal(A.matrix("l2", "l3"), B.matrix("l2", "l3"))


# --- which layers are odd --------------------------------------------------------------------------------------------


class Between(nn.Module):
    """Two linear layers with something between them, and a third to the output."""

    def __init__(self, function: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.vector = nn.Parameter(torch.linspace(0.5, 1.5, 5))
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.second(self.function(self, self.first(x)))))


ODD: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "nothing": lambda m, x: x,
    "tanh": lambda m, x: x.tanh(),
    "in place": lambda m, x: torch.tanh_(x),
    "tanhshrink": lambda m, x: functional.tanhshrink(x),
    "hardtanh": lambda m, x: functional.hardtanh(x),
    "softshrink": lambda m, x: functional.softshrink(x),
    "trained bias": lambda m, x: torch.tanh(x + m.vector),
    "trained gain": lambda m, x: m.vector * x,
    "scaled sine": lambda m, x: (2 * x / 3).sin(),
    "own residual": lambda m, x: x + torch.tanh(x),
    "dropout": lambda m, x: functional.dropout(x.tanh(), 0.5, m.training),
}
EVEN: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "relu": lambda m, x: x.relu(),
    "gelu": lambda m, x: functional.gelu(x),
    "square": lambda m, x: x * x,
    "power": lambda m, x: x**2,
    "lopsided": lambda m, x: functional.hardtanh(9 * x, -1, 2),
    "shifted": lambda m, x: x + 1,
    "from one": lambda m, x: 1 - x,
    "under one": lambda m, x: 1 / (2 + x * x),
    "swish": lambda m, x: x * x.sigmoid(),
    "layer norm": lambda m, x: functional.layer_norm(x, (5,)),
    "softmax": lambda m, x: x.softmax(1),
    "constant": lambda m, x: x + torch.ones(5),
}


@pytest.mark.parametrize("name", [*ODD, *EVEN])
def test_a_layer_is_odd_where_its_neurons_reach_others_through_odd_functions(name: str) -> None:
    torch.manual_seed(0)
    model = Between((ODD | EVEN)[name]).eval()
    x = torch.randn(7, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        G = neuron_graph(model, example=x[:1])
    assert {layer.name for layer in G.layers if layer.odd} == ({"first"} if name in ODD else set())
    before = model(x)
    turn = torch.tensor([1.0, -1, -1, 1, -1])
    with torch.no_grad():
        model.first.weight.mul_(turn[:, None])
        model.first.bias.mul_(turn)
        model.second.weight.mul_(turn)
        if name == "trained bias":
            model.vector.mul_(turn)
    assert torch.allclose(model(x), before, atol=1e-5) == (name in ODD)


@pytest.mark.parametrize("edges", ["auto", "sum", "l1", "eq1", "act_corr", "contribution", "literal"])
def test_edges_that_do_not_turn_with_their_neuron_are_left_alone(edges: str) -> None:
    """A convolutional tanh network and its turned twin have equal oriented graphs, or say that signs are meant."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Conv2d(6, 5, 3), nn.Tanh(), nn.Conv2d(5, 4, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 3),
    ).eval()  # fmt: skip
    x = torch.randn(8, 1, 8, 8)
    options: dict[str, Any] = {"edges": "eq1", "reading": "literal"} if edges == "literal" else {"edges": edges}
    before, first = model(x), neuron_graph(model, x, **options)
    with torch.no_grad():
        for into, out, n in ((0, 3, 6), (3, 5, 5)):
            sign = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
            model[into].weight.mul_(sign[:, None, None, None])
            model[into].bias.mul_(sign)
            model[out].weight.mul_(sign[:, None, None])
            if into == 0:
                for tensor in (model[1].running_mean, model[1].bias):
                    tensor.mul_(sign)
    assert torch.allclose(model(x), before, atol=1e-5)
    turning = edges not in ("contribution", "literal")
    assert [layer.odd for layer in first.layers] == [False, turning, turning, False, False]
    if turning:
        A, B = orient(first), orient(neuron_graph(model, x, **options))
        for pair in A.connections:
            assert np.allclose(A.matrix(*pair), B.matrix(*pair), rtol=1e-5, atol=1e-6)


class Tied(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.table, self.first, self.second, self.last = (
            nn.Embedding(9, 5), nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 9),
        )  # fmt: skip
        if how == "tied":
            self.last.weight = nn.Parameter(self.table.weight)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(self.table(x)).tanh()
        h = self.second(h).relu()
        if self.how == "read twice":
            h = self.second(h).relu()
        return self.last(h)


@pytest.mark.parametrize(
    ("how", "odd"), [("apart", {"table", "first"}), ("tied", {"first"}), ("read twice", {"table"})]
)
def test_weights_in_two_roles_do_not_turn(how: str, odd: set[str]) -> None:
    assert trace_model(Tied(how).eval(), example=torch.zeros(1, 4, dtype=torch.long)).odd == odd


class TwoReaders(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.second, self.last, self.how = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3), how

    def forward(self, x: torch.Tensor) -> Any:
        h = self.first(x).tanh()
        out = self.last(self.second(h).relu())
        if self.how == "shown":
            return out, h
        return out + (h.mean(1, keepdim=True) if self.how == "pooled" else 0 * out)


@pytest.mark.parametrize("how", ["alone", "shown", "pooled"])
def test_neurons_that_the_output_shows_keep_their_sign(how: str) -> None:
    assert ("first" in trace_model(TwoReaders(how).eval(), example=torch.zeros(1, 4)).odd) == (how == "alone")


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_cells_with_gates_and_memory_keep_their_signs(cell: type[nn.Module]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.last = cell(4, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.cell(x)[0])

    assert not trace_model(Recurrent().eval(), example=torch.zeros(1, 3, 4)).odd


def test_layers_of_known_models() -> None:
    import torchvision

    found = {
        name: trace_model(torchvision.models.get_model(name, weights=None).eval(), example=torch.zeros(1, 3, 64, 64))
        for name in ("resnet18", "mobilenet_v2")
    }
    assert found["resnet18"].odd == frozenset()
    # Its linear bottlenecks without a residual around them.
    assert found["mobilenet_v2"].odd == {"features.1.conv.1", "features.17.conv.2"}


def test_the_mark_is_kept_in_files(tmp_path: Any) -> None:
    G = build(drawn(np.random.default_rng(4), 1.0))
    G.save(tmp_path / "graph.npz")
    assert [layer.odd for layer in LayeredDiGraph.load(tmp_path / "graph.npz").layers] == [False, True, True, False]
    with pytest.raises(isg.GraphSchemaError, match="odd"):
        LayeredDiGraph.from_arrays([Layer("a", 0, 2, "linear", odd=1)], {})  # type: ignore[arg-type]


# --- no method sees a flip -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twins() -> tuple[LayeredDiGraph, LayeredDiGraph]:
    """A tanh network trained on the digits, and the same function with a third of its neurons turned."""
    from innersight_graph.data import load_digits

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 10))
    digits = load_digits(flat=True).train
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        functional.cross_entropy(model(digits.inputs), digits.targets).backward()
        optimiser.step()
    before = model(digits.inputs)
    first = neuron_graph(model.eval(), example=digits.inputs[:1])
    with torch.no_grad():
        for into, out in ((0, 2), (2, 4)):
            turn = torch.where(torch.rand(model[into].out_features) < 1 / 3, -1.0, 1.0)
            model[into].weight.mul_(turn[:, None])
            model[into].bias.mul_(turn)
            model[out].weight.mul_(turn)
    assert torch.allclose(model(digits.inputs), before, atol=1e-5)
    return first, neuron_graph(model, example=digits.inputs[:1])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("em", {"n_communities": 3}), ("em", {"n_communities": 3, "likelihood": "multinomial"}), ("em", {}),
        ("blockmodel", {"n_communities": 3}), ("blockmodel", {"n_communities": 3, "weights": "signed"}),
        ("blockmodel", {"sensitive": True, "replicates": 39}), ("louvain", {}), ("leiden", {}),
        ("leiden", {"scope": "graph"}), ("spectral", {"n_communities": 3}), ("specialization", {"n_communities": 3}),
        ("geometric", {"n_communities": 3}), ("degree", {"n_communities": 3}),
    ],
)  # fmt: skip
def test_turned_neurons_leave_the_partition_of_every_weight_based_method_unchanged(
    twins: tuple[LayeredDiGraph, LayeredDiGraph], method: str, options: dict[str, Any]
) -> None:
    first, second = (isg.detect(G, method, seed=0, **options) for G in twins)
    assert first.communities == second.communities


@pytest.mark.parametrize("method", ["degree", "geometric"])
def test_order_scale_and_sign_together_leave_the_partition_alone(method: str) -> None:
    """Compiled programs: linear streams between ReLU layers."""
    model, _ = isg.compiled_programs(noise=0.1, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        G = neuron_graph(model, example=torch.zeros(1, 21, dtype=torch.float64))
    assert [layer.name for layer in G.layers if layer.odd] == ["stream1", "stream2"]
    H, order = isg.equivalent_graph(G, seed=4)
    assert (
        np.sign(H.matrix("input", "stream1").sum(axis=0)) != np.sign(G.matrix("input", "stream1").sum(axis=0))
    ).any()
    P, Q = (isg.detect(x, method, n_communities=4, seed=0) for x in (G, H))
    assert translate(P, H, order) == Q
