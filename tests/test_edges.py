"""Edge weights against naive loops, Jacobians of linear nets and SciPy's relative entropy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.special import rel_entr
from torch import nn

from innersight_graph.errors import InputError, TraceError
from innersight_graph.graph.gauge import balance
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.neuronize import neuron_graph
from innersight_graph.neuronize.eq1 import eq1_weights, pool_to_grid


def dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


class Net(nn.Module):
    """A chain of convolutions and linear layers in functional style."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.fc1, self.fc2 = nn.Linear(6 * 3 * 3, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu_(self.bn(self.conv1(x)))
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.3


# --- trained weights -------------------------------------------------------------------------------------------------


def test_linear_edges_are_the_trained_weights_bit_for_bit() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 3))
    G = neuron_graph(model, example=torch.zeros(1, 3, 2, 2))
    assert [layer.name for layer in G.layers] == ["input", "1", "3"]
    assert G.layer("input").width == 12
    for how in ("auto", "weight", "sum", "l1", "l2"):
        G = neuron_graph(model, example=torch.zeros(1, 3, 2, 2), edges=how)
        np.testing.assert_array_equal(G.connections["input", "1"], model[1].weight.detach().numpy().T)
        np.testing.assert_array_equal(G.connections["1", "3"], model[3].weight.detach().numpy().T)


def naive(weights: np.ndarray, how: str) -> float:
    total = float(np.sum(weights, dtype=np.float64))
    size = {"sum": abs(total), "l1": np.abs(weights).sum(), "l2": np.sqrt(np.square(weights).sum())}[how]
    return float(np.sign(total) * size)


@pytest.mark.parametrize("how", ["sum", "l1", "l2"])
def test_kernels_and_flattened_channels_are_reduced_with_the_sign_of_the_sum(net: Net, how: str) -> None:
    G = neuron_graph(net, example=torch.zeros(1, 3, 8, 8), edges=how)
    assert [(layer.name, layer.width, layer.shape) for layer in G.layers] == [
        ("input", 3, (8, 8)), ("conv1", 4, (6, 6)), ("conv2", 6, (6, 6)), ("fc1", 5, ()), ("fc2", 2, ()),
    ]  # fmt: skip
    kernels = net.conv2.weight.detach().double().numpy()
    for p, q in itertools.product(range(4), range(6)):
        assert G.connections["conv1", "conv2"][p, q] == pytest.approx(naive(kernels[q, p], how), rel=1e-5)
    rows = net.fc1.weight.detach().double().numpy().reshape(5, 6, 9)
    for p, q in itertools.product(range(6), range(5)):
        assert G.connections["conv2", "fc1"][p, q] == pytest.approx(naive(rows[q, p], how), rel=1e-5)
    if how == "l2":
        auto = neuron_graph(net, example=torch.zeros(1, 3, 8, 8))
        assert all(np.array_equal(auto.connections[pair], G.connections[pair]) for pair in G.connections)


def test_a_single_weight_is_refused_where_there_are_several(net: Net) -> None:
    with pytest.raises(InputError, match="share 9 weights"):
        neuron_graph(net, example=torch.zeros(1, 3, 8, 8), edges="weight")


def test_batch_norm_folding_equals_folding_by_hand() -> None:
    torch.manual_seed(0)
    model = Net(norm=True).eval()
    assert isinstance(model.bn, nn.BatchNorm2d)
    with torch.no_grad():
        model.bn.weight.copy_(torch.tensor([1.5, -2.0, 0.5, 1.0]))
        model.bn.running_var.copy_(torch.tensor([0.25, 4.0, 1.0, 2.0]))
    x = torch.zeros(1, 3, 8, 8)
    plain, folded = neuron_graph(model, example=x), neuron_graph(model, example=x, fold_batchnorm=True)
    factor = (model.bn.weight / (model.bn.running_var + model.bn.eps).sqrt()).detach().numpy()
    np.testing.assert_allclose(
        folded.connections["input", "conv1"], plain.connections["input", "conv1"] * factor, rtol=1e-5
    )
    np.testing.assert_array_equal(folded.connections["conv1", "conv2"], plain.connections["conv1", "conv2"])


class Linearised(nn.Module):
    """No non-linearity: chunk, reverse, concatenate, shuffle, depthwise, grouped, transposed, residual, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 2), nn.Conv2d(8, 8, 1)
        self.depthwise, self.grouped = nn.Conv2d(8, 8, 2, groups=8), nn.Conv2d(8, 12, 2, groups=4, dilation=2)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2, groups=3)
        self.fc, self.out = nn.Linear(6 * 8 * 8, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.a(x)
        left, right = first.chunk(2, dim=1)
        x = torch.cat([right, left.flip(1)], dim=1)
        x = self.b(x) + x
        x = x.reshape(x.shape[0], 4, 2, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        x = self.grouped(self.depthwise(x))
        x = self.fc(self.up(x).flatten(1))
        return self.out(x) + x


def jacobian_sums(model: nn.Module, x: torch.Tensor) -> dict[tuple[str, str], np.ndarray]:
    """d(sum over positions of each neuron) / d(sum over positions of each neuron), cut at every layer's output."""
    leaves: dict[str, torch.Tensor] = {"input": x.double().requires_grad_()}
    found: dict[tuple[str, str], np.ndarray] = {}

    def cut(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            sums = output.flatten(2).sum(dim=2)[0] if output.ndim > 2 else output[0]
            sources = list(leaves.items())
            rows = [
                torch.autograd.grad(value, [s for _, s in sources], retain_graph=True, allow_unused=True)
                for value in sums
            ]
            for column, (source, leaf) in enumerate(sources):
                grads = [torch.zeros_like(leaf) if row[column] is None else row[column] for row in rows]
                matrix = torch.stack([g.flatten(2).sum(dim=2)[0] if g.ndim > 2 else g[0] for g in grads], dim=1)
                found[source, name] = matrix.numpy()
            leaves[name] = output.detach().requires_grad_()
            return leaves[name] * 1.0

        return hook

    handles = [m.register_forward_hook(cut(n)) for n, m in model.named_modules() if not list(m.children())]
    model.double().eval()(leaves["input"])
    for handle in handles:
        handle.remove()
    model.float()
    return found


def test_effective_weights_equal_jacobians_of_a_linear_net() -> None:
    torch.manual_seed(0)
    model = Linearised()
    x = torch.rand(1, 3, 8, 8)
    truth = jacobian_sums(model, x)
    with pytest.warns(UserWarning, match="No non-linearity"):
        G = neuron_graph(model, example=x, edges="sum")
    # Without padding every tap of a kernel meets every output position once; a transposed one every input position.
    uses = {"a": 49, "b": 49, "depthwise": 36, "grouped": 16, "up": 16, "fc": 1, "out": 1}
    for pair, matrix in truth.items():
        expected = matrix / uses[pair[1]]
        if pair in G.connections:
            got = dense(G.connections[pair])
            np.testing.assert_allclose(got, expected, atol=2e-5)
            np.testing.assert_array_equal(got != 0, np.abs(expected) > 1e-12)
        else:
            assert not np.abs(expected).max(initial=0.0) > 1e-12, pair
    assert G.connections["b", "depthwise"].nnz == 8
    assert G.layer("depthwise").depth == 3


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_transposed_grouped_dilated_convolutions_of_every_dimension(dims: int) -> None:
    torch.manual_seed(dims)
    conv = getattr(nn, f"Conv{dims}d")(4, 6, 2, groups=2, dilation=2)
    up = getattr(nn, f"ConvTranspose{dims}d")(6, 9, 2, stride=2, groups=3)
    model = nn.Sequential(conv, nn.ReLU(), up)
    G = neuron_graph(model, example=torch.rand(1, 4, *[5] * dims), edges="sum")
    for (source, target), module, n_in in ((("input", "0"), conv, 4), (("0", "2"), up, 6)):
        weight, groups = module.weight.detach().double().numpy(), module.groups
        n_out = module.out_channels
        expected = np.zeros((n_in, n_out))
        for p, q in itertools.product(range(n_in), range(n_out)):
            if p // (n_in // groups) == q // (n_out // groups):
                if isinstance(module, nn.modules.conv._ConvTransposeNd):
                    expected[p, q] = weight[p, q % (n_out // groups)].sum()
                else:
                    expected[p, q] = weight[q, p % (n_in // groups)].sum()
        got = G.connections[source, target]
        np.testing.assert_allclose(dense(got), expected, atol=1e-6)
        assert sparse.issparse(got)


def test_absent_pairs_are_absent_edges() -> None:
    model = nn.Sequential(nn.Conv1d(4, 4, 1), nn.ReLU(), nn.Conv1d(4, 4, 3, groups=4))
    G = neuron_graph(model, example=torch.rand(1, 4, 6))
    assert [(u.index, v.index) for u, v in G.edges if u.layer == "0"] == [(i, i) for i in range(4)]


def test_bilinear_and_embedding_edges() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.mix = nn.Embedding(9, 4), nn.Bilinear(4, 3, 5)

        def forward(self, tokens: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.mix(self.table(tokens), y)

    model = Two()
    G = neuron_graph(model, example=(torch.tensor([2]), torch.rand(1, 3)), edges="sum")
    assert {layer.name: layer.width for layer in G.layers} == {"input.0": 9, "input.1": 3, "table": 4, "mix": 5}
    np.testing.assert_array_equal(G.connections["input.0", "table"], model.table.weight.detach().numpy())
    weight = model.mix.weight.detach().numpy()
    np.testing.assert_allclose(G.connections["table", "mix"], weight.sum(axis=2).T, atol=1e-6)
    np.testing.assert_allclose(G.connections["input.1", "mix"], weight.sum(axis=1).T, atol=1e-6)


# --- Eq. 1 -----------------------------------------------------------------------------------------------------------


def naive_eq1(p: np.ndarray, q: np.ndarray, reading: str) -> float:
    """One pair of kernels on one sample, in float64, by SciPy."""
    sign = np.sign(np.dot(p, q))
    if sign == 0:
        return 0.0
    parts = [(np.maximum(s * p, 0), np.maximum(s * (q if reading == "literal" else sign * q), 0)) for s in (1, -1)]
    total = 0.0
    for a, b in parts:
        if not a.any() and not b.any():
            continue
        if reading == "literal":
            a, b = (a + 1e-8) / (a + 1e-8).sum(), (b + 1e-8) / (b + 1e-8).sum()
        else:
            a, b = (
                (1 - 1e-4) * (x / x.sum() if x.any() else np.full(x.shape, 1 / x.size)) + 1e-4 / x.size for x in (a, b)
            )
        total += rel_entr(a, b).sum()
    return float(total / sign if reading == "literal" else sign * np.exp(-total))


@pytest.mark.parametrize("reading", ["similarity", "literal"])
def test_eq1_equals_a_loop_over_pairs(reading: str) -> None:
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(3, 5, 16)), rng.normal(size=(3, 6, 16))
    p[:, 0] = 0.0
    q[:, 1] = 0.0
    p[:, 1], q[:, 0] = np.abs(p[:, 1]), np.abs(q[:, 0])
    q[:, 2] = -np.abs(q[:, 2])
    p[0, 2], q[0, 3] = [1.0, -1.0] * 8, [1.0, 1.0] * 8
    p[:, 3] *= 1e6
    q[:, 4] *= 1e-6 if reading == "similarity" else 1.0
    expected = [[sum(naive_eq1(p[s, i], q[s, j], reading) for s in range(3)) for j in range(6)] for i in range(5)]
    exact = eq1_weights(torch.from_numpy(p), torch.from_numpy(q), reading=reading)
    np.testing.assert_allclose(exact.numpy(), expected, atol=1e-10)
    single = eq1_weights(torch.from_numpy(p).float(), torch.from_numpy(q).float(), reading=reading)
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-6, atol=1e-6 * 3)


def test_eq1_similarity_has_the_properties_it_promises() -> None:
    rng = torch.Generator().manual_seed(0)
    p = torch.randn(1, 4, 25, generator=rng, dtype=torch.float64)
    q = torch.randn(1, 4, 25, generator=rng, dtype=torch.float64)
    own = eq1_weights(p, p)
    torch.testing.assert_close(own.diagonal(), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(eq1_weights(p, -p).diagonal(), -own.diagonal())
    torch.testing.assert_close(eq1_weights(1e-5 * p, 1e7 * q), eq1_weights(p, q))
    torch.testing.assert_close(eq1_weights(p, -q), -eq1_weights(p, q))
    assert bool((eq1_weights(p, q).abs() <= 1).all())


def test_eq1_edges_of_a_model_equal_the_loop_over_its_maps(net: Net, images: torch.Tensor) -> None:
    with torch.no_grad():
        first = net.conv1(images)
        second = net.conv2(torch.relu(first)).flatten(2).double().numpy()
    first = first.flatten(2).double().numpy()
    for reading in ("similarity", "literal"):
        G = neuron_graph(net, images, edges="eq1", reading=reading)
        loops = [
            [np.mean([naive_eq1(a[i], b[j], reading) for a, b in zip(first, second, strict=True)]) for j in range(6)]
            for i in range(4)
        ]
        np.testing.assert_allclose(G.connections["conv1", "conv2"], loops, rtol=1e-5, atol=1e-6)
    auto = neuron_graph(net, images)
    for pair in set(G.connections) - {("conv1", "conv2")}:
        np.testing.assert_array_equal(G.connections[pair], auto.connections[pair])
    after = neuron_graph(net, images, edges="eq1", at="post_act").connections["conv1", "conv2"]
    assert (after >= 0).all()


def test_eq1_pools_larger_maps_to_the_smaller_grid() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU())
    x = torch.randn(5, 1, 6, 6)
    G = neuron_graph(model, [x[:2], x[2:]], edges="eq1")
    with torch.no_grad():
        p, q = model[0](x), model[:3](x)
    pooled = nn.functional.adaptive_avg_pool2d(p, 3)
    np.testing.assert_allclose(pool_to_grid(p.flatten(2), (6, 6), (3, 3)), pooled.flatten(2))
    expected = eq1_weights(pooled.flatten(2).double(), q.flatten(2).double()) / 5
    np.testing.assert_allclose(G.connections["0", "2"], expected, atol=1e-6)


def test_eq1_touches_only_pairs_that_the_trace_connects() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4, padding=1))
    G = neuron_graph(model, torch.randn(6, 2, 5, 5), edges="eq1")
    assert dense(G.connections["0", "2"])[~np.eye(4, dtype=bool)].tolist() == [0.0] * 12


# --- measured edges --------------------------------------------------------------------------------------------------


def closed(net: Net, images: torch.Tensor) -> dict[str, np.ndarray]:
    """Mean activations after norm and activation, by hand."""
    with torch.no_grad():
        a = torch.relu(net.conv1(images))
        b = torch.relu(net.conv2(a))
        c = torch.relu(net.fc1(nn.functional.max_pool2d(b, 2).flatten(1)))
        d = net.fc2(c)
    maps = {"input": images, "conv1": a, "conv2": b, "fc1": c, "fc2": d}
    return {
        name: x.double().flatten(2).mean(dim=2).numpy() if x.ndim > 2 else x.double().numpy()
        for name, x in maps.items()
    }


def test_correlation_and_contribution_equal_numpy(net: Net, images: torch.Tensor) -> None:
    means = closed(net, images)
    correlation = neuron_graph(net, images.split(7), edges="act_corr")
    contribution = neuron_graph(net, images.split(7), edges="contribution")
    total = neuron_graph(net, images, edges="sum")
    for s, t in total.connections:
        with np.errstate(invalid="ignore"):
            both = np.corrcoef(means[s].T, means[t].T)[: means[s].shape[1], means[s].shape[1] :]
        varying = np.isfinite(both)
        np.testing.assert_allclose(dense(correlation.connections[s, t])[varying], both[varying], atol=1e-5)
        expected = dense(total.connections[s, t]) * means[s].mean(axis=0)[:, None]
        np.testing.assert_allclose(dense(contribution.connections[s, t]), expected, atol=1e-5)


def test_a_callable_makes_edges_only_where_the_trace_has_them() -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 1), nn.ReLU(), nn.Conv1d(4, 4, 1, groups=4))
    seen = []

    def constant(source: Any, target: Any, weights: Any) -> np.ndarray:
        seen.append((source.name, target.name))
        return np.full(weights.shape, -2.0)

    G = neuron_graph(model, example=torch.rand(1, 2, 3), edges=constant)
    assert seen == [("input", "0"), ("0", "2")]
    np.testing.assert_array_equal(dense(G.connections["0", "2"]), -2 * np.eye(4))
    with pytest.raises(InputError, match="of shape"):
        neuron_graph(model, example=torch.rand(1, 2, 3), edges=lambda s, t, w: np.zeros(3))


def test_positions_made_without_the_batch_belong_to_every_sample() -> None:
    """`places(torch.arange(T))`, added to a batch of tokens, has no axis of samples: common in small GPTs."""
    torch.manual_seed(0)

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(10, 8), nn.Embedding(6, 8)
            self.up, self.head = nn.Linear(8, 12), nn.Linear(12, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
            return self.head(torch.relu(self.up(h))).mean(1)

    model, tokens = Reader(), torch.randint(0, 10, (32, 6))
    with torch.no_grad():
        model.places.weight[:, 3] = 0
        model.up.bias[5] = -100
    G = neuron_graph(model, (tokens, tokens[:, 0]))
    assert np.flatnonzero(G.node_attributes["places"]["silent"]).tolist() == [3]
    assert 5 in np.flatnonzero(G.node_attributes["up"]["silent"])
    assert np.array_equal(G.matrix("up", "head"), model.head.weight.detach().numpy().T)


def test_neurons_that_never_fire_are_marked(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.conv2.bias[2] = -100.0
        model.fc1.bias[4] = -100.0
    G = neuron_graph(model, images)
    assert G.node_attributes["conv2"]["silent"].tolist() == [i == 2 for i in range(6)]
    assert bool(G.node_attributes["fc1"]["silent"][4])
    assert "silent" not in neuron_graph(model, example=images[:1]).node_attributes.get("conv2", {})


# --- residual streams, budgets, choices ------------------------------------------------------------------------------


class Stream(nn.Module):
    """Four linear blocks on one residual stream, and a head."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return self.head(x)


def test_residual_policies_and_shared_arrays() -> None:
    model, x = Stream(), torch.rand(1, 6)
    names = ["input", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "head"]
    everything = neuron_graph(model, example=x)
    assert set(everything.connections) == set(itertools.combinations(names, 2))
    into_head = [everything.connections[name, "head"] for name in names[:-1]]
    assert len({m.__array_interface__["data"][0] for m in into_head}) == 1
    for policy in ("nearest", "off"):
        G = neuron_graph(model, example=x, residual=policy)
        assert set(G.connections) == set(itertools.pairwise(names))
        np.testing.assert_array_equal(G.connections["blocks.3", "head"], into_head[0])


def test_edges_beyond_the_memory_budget_are_refused_with_the_alternatives() -> None:
    with pytest.raises(TraceError, match=r"residual='nearest'.*residual='off'"):
        neuron_graph(Stream(64), example=torch.rand(1, 64), max_memory=1000)


def test_layers_can_be_chosen(net: Net) -> None:
    G = neuron_graph(net, example=torch.zeros(1, 3, 8, 8), layers=["conv1", "conv2"])
    assert set(G.connections) == {("input", "conv1"), ("conv1", "conv2")}
    with pytest.raises(InputError, match="conv2"):
        neuron_graph(net, example=torch.zeros(1, 3, 8, 8), layers=["conv"])


@pytest.mark.parametrize(
    "options",
    [{"edges": "l3"}, {"reading": "x"}, {"at": "x"}, {"residual": "x"}, {"edges": 3}, {"eps": 2.0}, {"size": 0}],
)
def test_unknown_options_are_named(net: Net, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        neuron_graph(net, torch.zeros(2, 3, 8, 8), **options)


def test_measured_edges_need_data(net: Net) -> None:
    with pytest.raises(InputError, match="measured on data"):
        neuron_graph(net, example=torch.zeros(1, 3, 8, 8), edges="eq1")


# --- gauge -----------------------------------------------------------------------------------------------------------


def rescaled(model: Net, power_of_two: bool, seed: int) -> Net:
    """The same function with every hidden neuron's inputs scaled by a and outputs by 1/a."""
    copy = Net()
    copy.load_state_dict(model.state_dict())
    rng = np.random.default_rng(seed)
    layers = [copy.conv1, copy.conv2, copy.fc1, copy.fc2]
    with torch.no_grad():
        for layer, following in itertools.pairwise(layers):
            logs = rng.uniform(-1, 1, size=layer.weight.shape[0]) * np.log2(10)
            a = torch.tensor(2.0 ** (np.round(logs) if power_of_two else logs), dtype=torch.float32)
            layer.weight.mul_(a.reshape(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.mul_(a)
            repeats = following.weight.shape[1] // len(a)
            back = a.repeat_interleave(repeats).reshape(1, -1, *[1] * (following.weight.ndim - 2))
            following.weight.div_(back)
    return copy


@pytest.mark.parametrize("power_of_two", [True, False])
def test_balanced_graph_does_not_see_a_rescaling_of_neurons(net: Net, images: torch.Tensor, power_of_two: bool) -> None:
    other = rescaled(net, power_of_two, seed=3)
    with torch.no_grad():
        torch.testing.assert_close(other(images), net(images), rtol=1e-4, atol=1e-5)
    graphs: list[LayeredDiGraph] = [balance(neuron_graph(m, example=images[:1])) for m in (net, other)]
    for pair, weights in graphs[0].connections.items():
        if power_of_two:
            np.testing.assert_array_equal(graphs[1].connections[pair], weights)
        else:
            np.testing.assert_allclose(graphs[1].connections[pair], weights, rtol=1e-4, atol=1e-6)
