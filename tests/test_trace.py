"""The tracer on the hazards of real models: what it finds, what it says it did not understand, what it refuses."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from innersight_graph.errors import InputError, TraceError, UnsupportedLayerError
from innersight_graph.neuronize import neuron_graph, trace_model
from innersight_graph.neuronize.planes import Memory, group, merge, union
from innersight_graph.neuronize.record import Trace
from innersight_graph.neuronize.sets import NeuronSets
from innersight_graph.neuronize.walk import layer_edges


def sources(trace: Trace, name: str, feed: int = 0) -> list[list[str]]:
    """For each input channel of a layer the neurons that reach it, as "layer:index", gates with a star."""
    names = {}
    for neurons in trace.inputs:
        names.update({neurons.first + i: f"{neurons.name}:{i}" for i in range(neurons.count)})
    for unit in trace.units:
        names.update({unit.first + i: f"{unit.name}:{i}" for i in range(unit.width)})
    unit = next(u for u in trace.units if u.name == name)
    return [
        [names[n] for n in trace.sets.values(i)] + [names[n] + "*" for n in trace.sets.gates(i)]
        for i in unit.feeds[feed].sources.tolist()
    ]


def units(trace: Trace) -> dict[str, int]:
    return {unit.name: unit.width for unit in trace.units}


# --- labels beside memory --------------------------------------------------------------------------------------------


def test_labels_follow_views_and_writes_through_views() -> None:
    sets = NeuronSets()
    memory, first = Memory(sets), sets.new_neurons(4)
    x = torch.zeros(2, 4, 3)
    memory.write(x, torch.arange(first, first + 4).reshape(1, 4, 1))
    view = x.permute(2, 0, 1)[1:, :, ::2].clone()
    assert memory.labels(x.transpose(0, 2)[0, :, 1])[:].tolist() == list(range(first, first + 4))
    part = x[:, 1:3]
    memory.write(part[:, 0], torch.tensor([first + 3], dtype=torch.int32))
    assert memory.labels(x)[0, :, 0].tolist() == [first, first + 3, first + 2, first + 3]
    assert memory.labels(view) is None, "a copy has memory of its own"
    other = torch.zeros(2, 4, 3)
    memory.share(other, x)
    memory.write(other[:, 0], None)
    assert memory.labels(x)[0, 0, 0] == first, "shared labels are copied before they are written"
    pair = torch.view_as_real(torch.zeros(3, dtype=torch.complex64))
    memory.write(pair, torch.tensor([first, first + 1], dtype=torch.int32))
    assert memory.labels(torch.view_as_complex(pair)).tolist() == [sets.union([first, first + 1])] * 3


def test_functions_of_labels_equal_elementwise_loops() -> None:
    rng = np.random.default_rng(0)
    sets = NeuronSets()
    sets.new_neurons(5)
    pool = [sets.union(rng.choice(np.arange(6), size=2).tolist()) for _ in range(8)]
    a = torch.tensor(rng.choice(pool, size=(3, 1, 4, 2)), dtype=torch.int32)
    b = torch.tensor(rng.choice(pool, size=(3, 5, 1, 2)), dtype=torch.int32)
    merged = union(sets, a, b)
    for i in np.ndindex(3, 5, 4, 2):
        expected = set(sets.neurons(int(a[i[0], 0, i[2], i[3]]))) | set(sets.neurons(int(b[i[0], i[1], 0, i[3]])))
        assert set(sets.neurons(int(merged[i]))) == expected
    grouped = group(sets, merged, [0, 2])
    for j, k in np.ndindex(5, 2):
        expected = set().union(*(sets.neurons(int(x)) for x in merged[:, j, :, k].flatten()))
        assert set(sets.neurons(int(grouped[0, j, 0, k]))) == expected
    statistic = group(sets, a, [2])
    assert torch.equal(merge(sets, a, statistic), a), "a statistic of the neurons applied to them adds no producer"


# --- who feeds whom --------------------------------------------------------------------------------------------------


class Shuffle(nn.Module):
    """Chunk, reversed concatenation, depthwise, dict with a tuple inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.depthwise = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6, padding=1)
        self.fc = nn.Linear(6 * 4, 2)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        left, right = self.conv(x).chunk(2, dim=1)
        maps = self.depthwise(torch.cat([right.flip(1), left], dim=1))
        return {"scores": (self.fc(torch.relu(maps).flatten(1)), maps)}


def test_channels_are_followed_through_chunk_flip_concat_and_flatten() -> None:
    trace = trace_model(Shuffle(), example=torch.rand(1, 3, 2, 2))
    assert sources(trace, "depthwise") == [[f"conv:{i}"] for i in (5, 4, 3, 0, 1, 2)]
    assert sources(trace, "fc") == [[f"depthwise:{i // 4}"] for i in range(24)]
    assert trace.coverage.outputs == ("depthwise", "fc")


def test_residual_squeeze_excite_and_written_out_norms_keep_channels_apart() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.gate, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.a(x))
            x = x + self.b(x)
            x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
            x = (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)
            return self.c(x * torch.sigmoid(self.gate(x.mean(1, keepdim=True))))

    trace = trace_model(Block(), example=torch.rand(1, 3, 4))
    assert sources(trace, "c") == [[f"a:{i}", f"b:{i}", f"gate:{i}"] for i in range(4)]


def test_grouped_query_attention_has_values_and_gates_by_head() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.o = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor, fused: bool) -> torch.Tensor:
            q = self.q(x).unflatten(-1, (4, 2)).transpose(1, 2)
            k, v = (m(x).unflatten(-1, (2, 2)).transpose(1, 2) for m in (self.k, self.v))
            if fused:
                out = nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            else:
                k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
                out = torch.softmax(q @ k.transpose(-1, -2) / 2**0.5, dim=-1) @ v
            return self.o(out.transpose(1, 2).flatten(2))

    model = Attention()
    expected = []
    for head in range(4):
        group_of_head = head // 2
        gates = [f"q:{2 * head + i}*" for i in range(2)] + [f"k:{2 * group_of_head + i}*" for i in range(2)]
        expected += [[f"v:{2 * group_of_head + i}", *gates] for i in range(2)]
    for fused in (True, False):
        trace = trace_model(model, example=((torch.rand(1, 5, 8), fused), {}))
        assert sources(trace, "o") == expected
    G = neuron_graph(model, example=((torch.rand(1, 5, 8), True), {}), edges="sum")
    assert G.node_attributes["q"]["head"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert G.node_attributes["v"]["head"].tolist() == [0, 0, 1, 1]
    assert {name: G.node_attributes[name]["role"][0] for name in "qkvo"} == {name: name for name in "qkvo"}
    assert {pair: kind for pair, kind in G.kinds.items() if pair[1] == "o"} == {
        ("q", "o"): "gate", ("k", "o"): "gate", ("v", "o"): "value",
    }  # fmt: skip
    weight = model.o.weight.detach().numpy()
    value = weight.reshape(8, 2, 2, 2).sum(axis=2).reshape(8, 4).T
    np.testing.assert_allclose(G.connections["v", "o"], value, atol=1e-6)
    strength = np.sqrt(np.square(weight.reshape(8, 4, 2)).sum(axis=2)).T.repeat(2, axis=0)
    np.testing.assert_allclose(G.connections["q", "o"], strength, rtol=1e-5)
    edge = G.edges[("q", 0), ("o", 0)]
    assert edge["kind"] == "gate"
    assert edge["activation"] == edge["inhibition"] == 0.0


def test_multihead_attention_never_calls_its_output_projection_and_is_found_all_the_same() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 2, enable_nested_tensor=False)
    G = neuron_graph(model, example=torch.rand(1, 5, 8))
    for part in "qkv":
        assert G.layer(f"layers.0.self_attn.in_proj.{part}").width == 8
    assert ("layers.0.self_attn.in_proj.v", "layers.0.self_attn.out_proj") in G.connections
    assert G.kinds["layers.1.self_attn.in_proj.k", "layers.1.self_attn.out_proj"] == "gate"
    expected = model.layers[0].self_attn.in_proj_weight.detach().numpy()[16:].T
    np.testing.assert_array_equal(G.connections["input", "layers.0.self_attn.in_proj.v"], expected)


def test_weights_are_known_by_storage() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.mid, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.mid(self.table(tokens))))

    trace = trace_model(Tied(), example=torch.tensor([[1, 2]]))
    assert units(trace) == {"table": 4, "mid": 4, "head": 9}
    assert trace.units[2].aliases == ("table.weight",)

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(6, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x @ self.w.T) @ self.w

    trace = trace_model(Functional(), example=torch.rand(1, 4))
    assert units(trace) == {"w": 6, "w@2": 4}
    assert [u.weight_axis for u in trace.units] == [0, 1]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning", "ignore:.*weight_norm.*:DeprecationWarning")
def test_computed_weights_keep_the_name_of_their_module() -> None:
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 5)),
        nn.ReLU(),
        parametrizations.spectral_norm(nn.Linear(5, 3)),
        nn.ReLU(),
        nn.utils.weight_norm(nn.Linear(3, 2)),
    )
    model.eval()
    G = neuron_graph(model, example=torch.rand(1, 4))
    assert [layer.name for layer in G.layers] == ["input", "0", "2", "4"]
    with torch.no_grad():
        np.testing.assert_allclose(G.connections["0", "2"], model[2].weight.numpy().T, rtol=1e-6)
        np.testing.assert_allclose(G.connections["2", "4"], model[4].weight.numpy().T, rtol=1e-6)

    class Adapter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.down, self.up = (nn.Parameter(torch.randn(s)) for s in ((3, 4), (2, 4), (3, 2)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight + self.up @ self.down)

    assert units(trace_model(nn.Sequential(Adapter()), example=torch.rand(1, 4))) == {"0": 3}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_units_with_their_edges(kind: type[nn.RNNBase]) -> None:
    model = nn.Sequential()
    model.rnn = kind(3, 4, num_layers=2, batch_first=True)
    model.forward = lambda x: model.rnn(x)[0]
    trace = trace_model(model, example=torch.rand(1, 5, 3))
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    assert units(trace) == {f"rnn.{p}_l{i}": 4 * gates for i in range(2) for p in ("ih", "hh")}
    assert ("rnn.hh_l0", "rnn.hh_l0") in trace.coverage.recurrent
    edges = layer_edges(model, example=torch.rand(1, 5, 3))
    assert {("rnn.weight_ih_l0", "rnn.weight_ih_l1"), ("rnn.weight_hh_l0", "rnn.weight_ih_l1")} <= edges
    neuron_graph(model, example=torch.rand(1, 5, 3))


def test_a_module_used_several_times_is_one_layer_with_its_calls() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head, self.act = nn.Linear(4, 4), nn.Linear(4, 2), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                x = self.act(self.cell(x))
            return self.head(x)

    trace = trace_model(Loop(), example=torch.rand(1, 4))
    assert trace.coverage.calls == {"cell": 3, "head": 1}
    assert trace.coverage.recurrent == (("cell", "cell"),)
    assert trace.points["cell"]["post_act"].call == -1
    assert sources(trace, "cell")[0] == ["input:0", "cell:0"]


def test_experts_picked_by_the_data_are_units_marked_as_superset() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router, self.bank = nn.Linear(4, 3), nn.Parameter(torch.randn(3, 5, 4))
            self.head = nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            score, choice = torch.softmax(self.router(x), dim=-1).max(dim=-1)
            out = torch.bmm(self.bank[choice], x.unsqueeze(-1)).squeeze(-1)
            return self.head(torch.relu(out) * score.unsqueeze(-1))

    trace = trace_model(Mixture(), example=torch.rand(2, 4))
    assert units(trace) == {"router": 3, "bank": 15, "head": 2}
    assert trace.coverage.supersets == ("bank",)
    assert [f"bank:{e * 5}" for e in range(3)] == [s for s in sources(trace, "head")[0] if s.startswith("bank")]
    with pytest.warns(UserWarning, match="chosen by the data"):
        G = neuron_graph(Mixture(), example=torch.rand(2, 4))
    assert G.connections["input", "bank"].shape == (4, 15)


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_input_neurons_are_pixels_channels_features_or_tokens() -> None:
    flat = neuron_graph(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), example=torch.rand(1, 3, 2, 2))
    assert (flat.layer("input").width, flat.layer("input").shape) == (12, ())
    conv = neuron_graph(nn.Sequential(nn.Conv2d(3, 2, 1)), example=torch.rand(1, 3, 5, 4))
    assert (conv.layer("input").width, conv.layer("input").shape) == (3, (5, 4))
    tokens = neuron_graph(nn.Linear(6, 2), example=torch.rand(1, 7, 6))
    assert (tokens.layer("input").width, tokens.layer("input").shape) == (6, (7,))
    words = neuron_graph(nn.Embedding(11, 2), example=torch.tensor([[3, 4]]))
    assert words.layer("input").width == 11


def test_inputs_come_as_tensors_pairs_loaders_tuples_and_keywords() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x, y = torch.rand(20, 4), torch.zeros(20, dtype=torch.int64)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    pairs = torch.utils.data.TensorDataset(x, y)
    every = (x, (x, y), loader, [(x, y)], [x], pairs, iter(loader))
    silent = [neuron_graph(model, data).node_attributes["0"]["silent"] for data in every]
    assert all(np.array_equal(silent[0], other) for other in silent)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor, *, mask: torch.Tensor | None = None, scale: float = 1.0) -> Any:
            return (self.fc(x * scale if mask is None else x * mask),)

    for example in ({"x": x[:1], "mask": torch.ones(1, 4)}, ((x[:1],), {"mask": torch.ones(1, 4)})):
        trace = trace_model(Two(), example=example)
        assert len(sources(trace, "fc")[0]) == 2
    assert len(sources(trace_model(Two(), [((x[:3],), y[:3])]), "fc")[0]) == 1


def test_a_fixed_batch_size_is_traced_with_the_whole_batch() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.reshape(4, 3))

    assert sources(trace_model(Fixed(), torch.rand(4, 3)), "fc")[0] == [f"input:{3 * i}" for i in range(4)]
    assert neuron_graph(Fixed(), torch.rand(4, 3)).layer("input").width == 3


# --- the model comes back as it was -----------------------------------------------------------------------------------


class Touchy(nn.Module):
    """In-place activations, running statistics, a buffer that counts calls, mixed modes, frozen parts, own hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.act, self.drop, self.fc = nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.fail = False
        self.bn.eval()
        self.conv.weight.requires_grad_(False)
        self.seen: list[int] = []
        self.act.register_forward_hook(lambda *_: self.seen.append(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = self.act(self.bn(self.conv(x))).mean((2, 3))
        if self.fail:
            raise KeyboardInterrupt
        return self.fc(self.drop(x))


def state(model: nn.Module) -> Any:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    flags = [(p.requires_grad, p.grad is None) for p in model.parameters()]
    values = {k: v.clone() for k, v in model.state_dict().items()}
    return hooks, flags, [m.training for m in model.modules()], values


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_comes_back_bit_identical(fails: bool) -> None:
    model = Touchy().train()
    model.bn.eval()
    buffers = dict(model.named_buffers())
    before, fast = state(model), torch.backends.mha.get_fastpath_enabled()
    model.fail = fails
    data = torch.rand(6, 3, 6, 6)
    kept = data.clone()
    if fails:
        with pytest.raises(KeyboardInterrupt):
            neuron_graph(model, data)
    else:
        neuron_graph(model, data, edges="act_corr")
    after = state(model)
    assert before[:3] == after[:3]
    assert all(torch.equal(a, b) for a, b in zip(before[3].values(), after[3].values(), strict=True))
    assert all(dict(model.named_buffers())[name] is buffer for name, buffer in buffers.items())
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.equal(data, kept)
    assert model.seen, "the user's own hook stays and runs"


def test_traced_buffers_can_be_differentiated_afterwards() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)
            self.table: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.table is None:
                self.table = torch.arange(3.0)
            return self.fc(x * self.table)

    model = Cached()
    neuron_graph(model, example=torch.rand(1, 3))
    model(torch.rand(1, 3, requires_grad=True)).sum().backward()


# --- closing points --------------------------------------------------------------------------------------------------


def test_closing_points_stand_after_own_norm_and_activation() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1, self.conv2, self.bn2 = (
                nn.Conv2d(3, 4, 1),
                nn.BatchNorm2d(4),
                nn.Conv2d(4, 4, 1),
                nn.BatchNorm2d(4),
            )
            self.relu, self.sig, self.fc = nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(x))
            y += x
            x = torch.sigmoid(self.sig(self.relu(y)))
            x = self.fc(x.permute(0, 2, 3, 1))
            return (x * torch.sigmoid(x)).flatten(1)

    points = {name: p["post_act"] for name, p in trace_model(Residual(), example=torch.rand(1, 3, 4, 4)).points.items()}
    assert (points["conv1"].module, points["conv1"].call, points["conv1"].direct) == ("relu", 0, True)
    assert (points["conv2"].module, points["conv2"].exact, points["conv2"].axis) == ("bn2", True, 1)
    assert (points["sig"].module, points["sig"].exact) == ("sig", False)
    assert points["sig"].operator == "aten::sigmoid"
    assert (points["fc"].module, points["fc"].axis, points["fc"].exact) == ("fc", 3, True)
    assert (points["fc"].weight, points["fc"].bias, points["fc"].weight_axis) == ("fc.weight", "fc.bias", 0)


def test_packed_projections_say_where_their_neurons_stand() -> None:
    from innersight_graph.neuronize.closing import Closing

    model = nn.MultiheadAttention(4, 2, batch_first=True)
    x = torch.rand(1, 3, 4)
    G = neuron_graph(model, example=(x, x, x))
    point = Closing.parse(str(G.layer("in_proj.k").closing))
    assert point.weight == "in_proj_weight"
    assert point.rows == (4, 5, 6, 7)


# --- what is said and what is refused ---------------------------------------------------------------------------------


def test_coverage_names_what_was_not_used_or_not_understood() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.idle, self.pos = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.zeros(1, 4))
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.fft.rfft(self.fc(x + self.pos)).abs()
            return self.head(x) if float(x.sum()) > -1 else x

    model = Odd()
    coverage = trace_model(model, example=torch.rand(1, 4)).coverage
    assert coverage.unreached == ("idle.weight",)
    assert coverage.unused == ("pos",)
    assert sum(coverage.unknown_ops.values()) == 1
    assert coverage.data_dependent == ("",)
    assert coverage.seconds > 0
    assert coverage.label_bytes > 0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        neuron_graph(model, example=torch.rand(1, 4))
    text = " ".join(str(w.message) for w in told)
    assert "without a rule" in text
    assert "Control flow depends on the data" in text


def test_adjacent_linear_maps_are_reported() -> None:
    with pytest.warns(UserWarning, match=r"No non-linearity between \[\('0', '2'\)\]"):
        neuron_graph(nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 2)), example=torch.rand(1, 3))


def test_shapes_that_depend_on_the_data_are_refused_with_the_module() -> None:
    class Pick(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[x.sum(dim=1) > -9]

    with pytest.raises(TraceError, match="'1', aten::index"):
        neuron_graph(nn.Sequential(nn.Linear(3, 3), Pick(), nn.Linear(3, 2)), example=torch.rand(2, 3))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_modules_that_cannot_be_traced_are_refused_by_name() -> None:
    inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    x = torch.rand(1, 3)
    scripted = nn.Sequential(nn.Linear(3, 3), torch.jit.trace(inner, x))
    with pytest.raises(UnsupportedLayerError, match=r"'1'.*scripted"):
        neuron_graph(scripted, example=x)

    class FullyShardedDataParallel(nn.Sequential):
        pass

    with pytest.raises(UnsupportedLayerError, match=r"'1'.*sharded"):
        neuron_graph(nn.Sequential(nn.Linear(3, 3), FullyShardedDataParallel(nn.Linear(3, 3))), example=x)

    class DTensor(nn.Parameter):
        pass

    sharded = nn.Sequential(nn.Linear(3, 3))
    sharded[0].weight = DTensor(torch.rand(3, 3))
    with pytest.raises(UnsupportedLayerError, match=r"'0'.*sharded"):
        neuron_graph(sharded, example=x)
    quantised = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    quantised[1].weight = nn.Parameter(torch.zeros(2, 3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(UnsupportedLayerError, match=r"'1'.*quantised"):
        neuron_graph(quantised, example=x)
    with pytest.raises(UnsupportedLayerError, match=r"'1'.*not initialised"):
        neuron_graph(nn.Sequential(nn.Linear(3, 3), nn.LazyLinear(2)), example=x)


def test_wrappers_are_looked_through() -> None:
    inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    for wrapped in (torch.compile(inner), nn.DataParallel(inner)):
        assert [layer.name for layer in neuron_graph(wrapped, example=torch.rand(1, 3)).layers] == ["input", "0", "2"]


@pytest.mark.parametrize(
    ("model", "options", "error", "words"),
    [
        (nn.ReLU(), {"example": torch.rand(1, 3)}, UnsupportedLayerError, "no learnable layer"),
        (nn.BatchNorm1d(3), {"example": torch.rand(1, 3)}, UnsupportedLayerError, "no learnable layer"),
        (lambda x: x, {"example": torch.rand(1, 3)}, UnsupportedLayerError, "is a function"),
        (nn.Linear(3, 2), {}, TraceError, "Neither data nor example"),
        (nn.Linear(3, 2), {"data": []}, InputError, "empty"),
        (nn.Linear(3, 2), {"data": torch.zeros(0, 3)}, InputError, "empty"),
        (nn.Linear(3, 2), {"data": 3}, InputError, "is a int"),
        (nn.Linear(3, 2), {"example": torch.rand(1, 4)}, InputError, r"\(1, 4\)"),
        (nn.Linear(3, 2), {"data": torch.rand(5, 4)}, InputError, r"\(5, 4\)"),
        (nn.Linear(3, 2), {"example": torch.rand(1, 3, device="meta")}, InputError, "meta"),
        (nn.Linear(3, 2), {"example": torch.zeros(1, 3, dtype=torch.int64)}, InputError, "int64"),
    ],
)
def test_bad_input_is_one_paragraph(model: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        neuron_graph(model, **options)
    assert "\n\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight[1, 2] = bad
    with pytest.raises(InputError, match=r"'0.weight' holds 1 NaN or infinite"):
        neuron_graph(model, example=torch.rand(1, 3))


def test_meta_tensors_are_traced_but_have_no_edges() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    real = trace_model(model, example=torch.rand(1, 3, 8, 8))
    meta = trace_model(model.to("meta"), example=torch.rand(1, 3, 8, 8, device="meta"))
    assert sources(meta, "3") == sources(real, "3")
    with pytest.raises(TraceError, match="meta device"):
        neuron_graph(model, example=torch.rand(1, 3, 8, 8, device="meta"))

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x) if float(x.sum()) > 0 else x

    with pytest.raises((TraceError, InputError), match="meta"):
        trace_model(Reads().to("meta"), example=torch.rand(1, 3, device="meta"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_give_float32_graphs(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).to(dtype)
    G = neuron_graph(model, torch.rand(6, 4, dtype=dtype), edges="act_corr")
    assert all(matrix.dtype == np.float32 for matrix in G.connections.values())


def test_gradient_checkpointing_and_views_of_the_batch_do_not_disturb() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> Any:
            return self.b(checkpoint(lambda y: torch.relu(self.a(y)), x, use_reentrant=False))

    trace = trace_model(Checked(), example=torch.rand(1, 3))
    assert trace.coverage.calls == {"a": 1, "b": 1}


# --- the second opinion ----------------------------------------------------------------------------------------------


def test_autograd_sees_every_edge_of_the_tracer() -> None:
    for model, example in ((Shuffle(), torch.rand(1, 3, 2, 2)), (Touchy(), torch.rand(1, 3, 6, 6))):
        before = state(model)
        labels, walk = (layer_edges(model, example=example, method=m) for m in ("labels", "autograd"))
        assert labels == walk
        assert state(model)[:3] == before[:3]
    with pytest.raises(InputError, match="method"):
        layer_edges(Shuffle(), example=torch.rand(1, 3, 2, 2), method="fx")


def test_autograd_stands_in_where_the_tracer_refuses() -> None:
    class Pick(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x)
            return self.b(x[x[:, 0] > -9])

    example = torch.rand(2, 3)
    assert layer_edges(Pick(), example=example) == {("input", "a.weight"), ("a.weight", "b.weight")}
    with pytest.raises(TraceError, match="depends on the data"):
        layer_edges(Pick(), example=example, method="labels")


def test_closing_by_weights_really_silences_the_neurons() -> None:
    """Zeroing the weight and bias that `Closing` names silences exactly that neuron, in every kind of layer."""
    torch.manual_seed(0)

    class Kinds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.up = nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 6, 1)
            self.deep = nn.ConvTranspose2d(6, 6, 1, groups=6)
            self.attention, self.table = nn.MultiheadAttention(6, 2, batch_first=True), nn.Embedding(5, 6)
            self.raw = nn.Parameter(torch.randn(6, 3))

        def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.deep(torch.relu(self.up(torch.relu(self.conv(x)))))).flatten(2).transpose(1, 2)
            x = x + self.table(tokens)
            return self.attention(x, x, x)[0] @ self.raw

    model = Kinds()
    example = (torch.rand(1, 2, 2, 2), torch.tensor([[0, 1, 2, 3]]))
    trace = trace_model(model, example=example)
    parameters = dict(model.named_parameters())
    assert set(units(trace)) == {"conv", "up", "deep", "attention.in_proj", "attention.out_proj", "table", "raw"}
    for unit in trace.units:
        point = trace.points[unit.name]["post_act"]
        neuron = unit.width - 1
        weight = parameters[point.weight]
        kept = {name: p.detach().clone() for name, p in parameters.items()}
        with torch.no_grad():
            weight.select(point.weight_axis, point.weight_start + neuron).zero_()
            if point.bias:
                parameters[point.bias][point.weight_start + neuron] = 0.0
        seen: list[torch.Tensor] = []
        from innersight_graph.neuronize.observe import observe

        reading = {unit.name: trace.points[unit.name]["unit"]}
        observe(model, [(example, 0)], reading, lambda maps, _n, seen=seen: seen.extend(maps.values()))
        alive = seen[0][0].abs().amax(dim=1) > 0
        assert not bool(alive[neuron]), unit.name
        assert bool(alive[:neuron].any()), unit.name
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].copy_(value)
