"""Capture and ablation against the models' equations written out by hand; the model is a host that must not notice."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from probing import (
    MODELS,
    TinyTransformer,
    closed_by_hand,
    fingerprint,
    logits,
    make,
    outputs_by_hand,
    same_fingerprint,
)
from torch import nn
from torch.nn import functional as F  # noqa: N812

import innersight_graph as isg
from innersight_graph.errors import InputError, UnsupportedLayerError
from innersight_graph.graph.layered import Layer, LayeredDiGraph, Neuron
from innersight_graph.probe.batches import Batches, select_output
from innersight_graph.probe.session import undisturbed, unwrap

HIDDEN = "attention.in_proj"  # projections inside nn.MultiheadAttention: no tensor of their own at the Python level


def graph_of(name: str) -> tuple[nn.Module, torch.Tensor, LayeredDiGraph]:
    model, x, _ = make(name)
    return model, x, isg.neuron_graph(model, example=x[:1])


@pytest.mark.parametrize("name", MODELS)
def test_closing_equals_the_equations_and_leaves_no_trace(name: str) -> None:
    model, x, G = graph_of(name)
    model.train()
    before = fingerprint(model)
    for layer in G.hidden_layers:
        neurons = [Neuron(layer, i) for i in (0, 2, 3)]
        for value in (0.0, "mean", 1.5):
            if value != 0.0 and layer.startswith(HIDDEN):
                with (
                    pytest.raises(UnsupportedLayerError, match="only be"),
                    isg.ablate(model, neurons, graph=G, value=value),
                ):
                    model(x)
                continue
            for known in ({"graph": G}, {"example": x[:1]}, {}):
                with torch.no_grad(), isg.ablate(model, neurons, value=value, **known):
                    closed = logits(model(x))
                assert same_fingerprint(before, fingerprint(model))
                by_hand = closed_by_hand(name, model, x, layer, (0, 2, 3), value)
                model.train()
                assert torch.allclose(closed, by_hand, atol=2e-6), (layer, value)


@pytest.mark.parametrize("name", MODELS)
def test_captured_outputs_equal_the_equations(name: str) -> None:
    model, x, G = graph_of(name)
    layers = [G.layer(layer) for layer in G.hidden_layers if not layer.startswith(HIDDEN)]
    with torch.no_grad(), isg.capture(model, layers) as store:
        model(x)
    for layer in layers:
        assert torch.allclose(store[layer.name], outputs_by_hand(name, model, x, layer.name), atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_closing_nothing_changes_nothing_and_closing_all_cuts_the_input(name: str) -> None:
    model, x, G = graph_of(name)
    model.eval()
    clean = logits(model(x))
    with isg.ablate(model, [], graph=G):
        assert torch.equal(logits(model(x)), clean)
    cut = {"mlp": "0", "functional": "fc2", "transformer": "embed"}.get(name)
    everything = [n for n in G if n.layer in ((cut,) if cut else ("conv2", "down"))]
    with torch.no_grad(), isg.ablate(model, everything, graph=G):
        closed = logits(model(x))
    assert torch.allclose(closed, closed[:1].expand_as(closed), atol=1e-6)


def test_one_value_per_neuron_and_resampling() -> None:
    model, x, G = graph_of("mlp")
    model.eval()
    neurons = [Neuron("0", 5), Neuron("2", 1), Neuron("0", 0)]
    with torch.no_grad():
        h = F.relu(model[0](x))  # type: ignore[index]
        h[:, 5], h[:, 0] = 0.25, -1.0
        g = torch.tanh(model[2](h))  # type: ignore[index]
        g[:, 1] = 3.0
        expected = model[4](g)  # type: ignore[index]
        with isg.ablate(model, neurons, graph=G, value=[0.25, 3.0, -1.0]):
            assert torch.allclose(model(x), expected, atol=1e-6)
        h = F.relu(model[0](x))  # type: ignore[index]
        with isg.ablate(model, neurons, graph=G, value="resample"), isg.capture(model, ["1"]) as store:
            model(x)
    own = store["1"][:, :, 0]
    assert torch.equal(own[:, 1], h[:, 1])
    order = [int((h == row).all(1).nonzero()[0, 0]) for row in torch.cat([own[:, :0], h], 1)]
    assert len(order) == len(x)
    pairs = own[:, [0, 5]]
    assert all(bool((h[:, [0, 5]] == row).all(1).any()) for row in pairs)
    assert sorted(pairs[:, 0].tolist()) == sorted(h[:, 0].tolist())


# --- hazards of live models
# ---------------------------------------------------------------------------------------------------


def test_hazard_01_in_place_activation_does_not_overwrite_what_was_captured() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    x = torch.randn(50, 3)
    with torch.no_grad(), isg.capture(model, ["0"]) as store:
        model(x)
    assert torch.equal(store["0"][:, :, 0], F.linear(x, model[0].weight, model[0].bias))
    assert store["0"].min() < 0


class StopError(Exception):
    pass


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt])
@pytest.mark.parametrize("tool", ["capture", "ablate", "ablate first call"])
def test_hazard_02_nothing_leaks_after_an_exception_or_interrupt(error: type[BaseException], tool: str) -> None:
    model, x, G = graph_of("cnn")
    model.train()
    raising = [False]

    def user_hook(module: nn.Module, args: Any, output: Any) -> None:
        if raising[0]:
            raise error

    model.fc.register_forward_hook(user_hook)  # type: ignore[union-attr, operator]
    before = fingerprint(model)
    raising[0] = True
    lent = {
        "capture": lambda: isg.capture(model, ["conv1", "bn2"]),
        "ablate": lambda: isg.ablate(model, [Neuron("conv1", 0)], graph=G, value="mean"),
        "ablate first call": lambda: isg.ablate(model, [Neuron("conv1", 0)]),
    }[tool]()
    with pytest.raises((error, isg.InnerSightError)), lent:
        model(x)
    raising[0] = False
    assert same_fingerprint(before, fingerprint(model))


def test_hazard_02_interrupt_while_hooks_are_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, _ = graph_of("mlp")
    before = fingerprint(model)
    register = nn.Module.register_forward_hook
    count = [0]

    def interrupted(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        handle = register(self, *args, **kwargs)
        count[0] += 1
        if count[0] == 2:
            raise KeyboardInterrupt
        return handle

    monkeypatch.setattr(nn.Module, "register_forward_hook", interrupted)
    with pytest.raises(KeyboardInterrupt), isg.capture(model, ["0", "2", "4"]):
        model(x)
    assert same_fingerprint(before, fingerprint(model))


def test_hazard_03_hooks_of_the_user_stay_and_run() -> None:
    model, x, G = graph_of("mlp")
    calls: list[int] = []
    model[0].register_forward_hook(lambda *_: calls.append(1))  # type: ignore[index, operator, union-attr]
    with isg.ablate(model, [Neuron("0", 0)], graph=G):
        model(x)
    model(x)
    assert len(calls) == 2


def test_hazard_04_shared_module_is_told_apart_by_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.act = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.act(self.b(self.act(self.a(x)))))

    model, x = Shared().eval(), torch.randn(9, 3)
    G = isg.neuron_graph(model, example=x[:1])
    with torch.no_grad():
        h = F.relu(model.a(x))
        second = F.relu(model.b(h))
        second[:, 1] = 0
        with isg.ablate(model, [Neuron("b", 1)], graph=G):
            assert torch.allclose(model(x), model.c(second), atol=1e-6)
        with isg.capture(model, ["act"]) as store:
            model(x)
    assert [tuple(call.shape) for call in store.calls["act"]] == [(9, 4, 1)] * 2
    assert torch.equal(store.calls["act"][0][:, :, 0], h)
    twice = nn.Sequential(shared := nn.Linear(3, 3), nn.ReLU(), shared)
    with isg.capture(twice, ["0", "2"]) as store:
        twice(x)
    assert len(store.calls["2"]) == 2


Pair = namedtuple("Pair", ["hidden", "extra"])


@dataclass
class Answer:
    logits: torch.Tensor
    extra: int = 3


class Wrapping(nn.Module):
    """A unit that returns a container."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.inner, self.last = form, Inner(form), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        held = self.inner(x)
        h = (
            held[0]
            if self.form in ("tuple", "list", "namedtuple")
            else held["h"]
            if self.form == "dict"
            else held.logits
        )
        y = self.last(h)
        return {"tuple": (y, 1), "list": [y, 1], "namedtuple": Pair(y, 1), "dict": {"out": y}, "dataclass": Answer(y)}[
            self.form
        ]


class Inner(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.fc = form, nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> Any:
        h = self.fc(x)
        return {"tuple": (h, 1), "list": [h, 1], "namedtuple": Pair(h, 1), "dict": {"h": h}, "dataclass": Answer(h)}[
            self.form
        ]


@pytest.mark.parametrize("form", ["tuple", "list", "namedtuple", "dict", "dataclass"])
def test_hazard_05_containers_keep_their_form(form: str) -> None:
    model, x = Wrapping(form).eval(), torch.randn(6, 3)
    hand_made = LayeredDiGraph.from_arrays(
        [Layer("input", 0, 3, "input"), Layer("inner", 1, 4, "linear"), Layer("last", 2, 2, "linear")],
        {("input", "inner"): np.ones((3, 4)), ("inner", "last"): np.ones((4, 2))},
    )
    with isg.capture(model, ["inner"]) as store:
        clean = model(x)
    assert torch.equal(store["inner"][:, :, 0], model.inner.fc(x))
    with isg.ablate(model, [Neuron("inner", i) for i in range(4)], graph=hand_made):
        closed = model(x)
    assert type(closed) is type(clean)
    assert torch.equal(select_output(closed), model.last.bias.expand(6, 2))
    assert torch.equal(select_output(clean, output=lambda r: select_output(r)), select_output(clean))


def test_hazard_05_a_unit_without_a_tensor_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> str:
            return "text"

    model = nn.Sequential(Odd())
    with pytest.raises(UnsupportedLayerError, match="'0' returns a str"), isg.capture(model, ["0"]):
        model(torch.zeros(1, 2))


def test_hazard_06_output_projection_of_attention_is_closed_though_never_called() -> None:
    model, x, _ = graph_of("transformer")
    plain = LayeredDiGraph.from_arrays(
        [Layer("input", 0, 8, "input"), Layer("attention.out_proj", 1, 8, "linear"), Layer("up", 2, 12, "linear")],
        {("input", "attention.out_proj"): np.ones((8, 8)), ("attention.out_proj", "up"): np.ones((8, 12))},
    )
    before = fingerprint(model)
    with torch.no_grad(), isg.ablate(model, [Neuron("attention.out_proj", 1)], graph=plain):
        closed = logits(model(x))
    assert same_fingerprint(before, fingerprint(model))
    assert torch.allclose(closed, closed_by_hand("transformer", model, x, "attention.out_proj", [1]), atol=1e-6)
    with isg.capture(model, ["attention.out_proj"]) as store:
        model(x)
    with pytest.raises(InputError, match="not called"):
        store["attention.out_proj"]


def test_hazard_07_the_encoder_fast_path_does_not_bypass_closing() -> None:
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
    ).eval()
    x = torch.randn(3, 4, 8)
    G = isg.neuron_graph(model, example=x[:1])
    clean_setting = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        clean = model(x)
        with isg.ablate(model, [n for n in G if n.layer == "layers.1.linear1"], graph=G):
            closed = model(x)
        layer = model.layers[1]
        h = model.layers[0](x)
        h = layer.norm1(h + layer.self_attn(h, h, h)[0])
        expected = layer.norm2(h + layer.linear2.bias)
    assert not torch.allclose(clean, closed)
    assert torch.allclose(closed, expected, atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled() == clean_setting


def test_hazard_08_compiled_models_are_probed_as_plain_ones() -> None:
    model, x, G = graph_of("mlp")
    compiled = torch.compile(model, backend="eager")
    model.eval()
    compiled(x)
    neurons = [Neuron("0", i) for i in range(8)]
    assert unwrap(compiled) is model
    with isg.ablate(compiled, neurons, graph=G) as inner:
        closed = compiled(x)
        assert torch.equal(closed, inner(x))
    assert torch.equal(closed, closed[:1].expand_as(closed))
    with isg.capture(compiled, ["0"]) as store:
        compiled(x)
    assert torch.equal(store["0"][:, :, 0], model[0](x))  # type: ignore[index]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_hazard_09_scripted_models_are_refused() -> None:
    model, x, G = graph_of("mlp")
    scripted = torch.jit.trace(model, x)
    with pytest.raises(UnsupportedLayerError, match="TorchScript"), isg.ablate(scripted, [Neuron("0", 0)], graph=G):
        scripted(x)


def test_hazard_10_data_parallel_is_unwrapped() -> None:
    model, x, G = graph_of("mlp")
    wrapped = nn.DataParallel(model)
    with isg.capture(wrapped, ["0"]) as store, isg.ablate(wrapped, [Neuron("0", 1)], graph=G):
        wrapped(x)
    assert store["0"].shape == (40, 8, 1)
    model.eval()
    with torch.no_grad(), isg.ablate(wrapped, [Neuron("0", 1)], graph=G) as inner:
        assert torch.allclose(inner(x), closed_by_hand("mlp", model, x, "0", [1]), atol=1e-6)


def test_hazard_11_nothing_is_kept_after_the_block() -> None:
    model, x, _ = graph_of("mlp")
    with torch.no_grad(), isg.capture(model, ["0"]) as store:
        model(x)
    reference = weakref.ref(store["0"])
    assert store["0"].device == x.device
    assert not store["0"].requires_grad
    del store
    gc.collect()
    assert reference() is None


def test_hazard_12_mixed_modes_and_batch_norm_statistics_survive() -> None:
    model, x, y = make("cnn")
    model.train()
    model.bn2.eval()  # type: ignore[union-attr]
    G = isg.neuron_graph(model, example=x[:1])
    before = fingerprint(model)
    isg.activations(model, (x, y), G)
    with isg.ablate(model, [Neuron("conv1", 0)], graph=G):
        model(x)
    assert same_fingerprint(before, fingerprint(model))


def test_hazard_12_a_buffer_written_in_evaluation_is_put_back() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            torch.rand(1)
            return self.fc(x)

    model = Counting()
    before = fingerprint(model)
    with isg.capture(model, ["fc"]):
        model(torch.zeros(1, 2))
    assert same_fingerprint(before, fingerprint(model))


def test_hazard_13_captured_tensors_can_still_be_differentiated() -> None:
    model, x, _ = graph_of("mlp")
    with isg.capture(model, ["0"]) as store:
        model(x)
    weight = torch.ones(8, requires_grad=True)
    (store["0"][:, :, 0] * weight).sum().backward()
    assert weight.grad is not None


def test_hazard_14_frozen_parameters_and_gradients_stay_as_they_are() -> None:
    model, x, y = make("mlp")
    model[0].weight.requires_grad_(False)  # type: ignore[index, union-attr]
    F.cross_entropy(model(x), y).backward()
    G = isg.neuron_graph(model, example=x[:1])
    before = fingerprint(model)
    P = isg.Partition.from_labels(G, {"0": [0, 1] * 4}, method="by hand")
    isg.evaluate(G, P, [isg.Sensitivity(model, x), isg.Ablation(model, (x, y))], nulls=3, seed=0)
    assert same_fingerprint(before, fingerprint(model))


def test_hazard_15_weights_used_as_a_function_are_closed() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(F.linear(x, self.a.weight, self.a.bias).relu())

    model, x = Functional(), torch.randn(5, 3)
    G = isg.neuron_graph(model, example=x[:1])
    with torch.no_grad():
        h = F.linear(x, model.a.weight, model.a.bias).relu()
        h[:, 2] = 0
        for known in ({"graph": G}, {}):
            with isg.ablate(model, [Neuron("a", 2)], **known):
                assert torch.allclose(model(x), model.b(h), atol=1e-6)


def test_hazard_16_tied_and_normalised_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4)
            self.c = nn.Linear(4, 4)
            self.c.weight = self.b.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(F.relu(self.b(F.relu(self.a(x)))))

    model, x = Tied().eval(), torch.randn(5, 4)
    G = isg.neuron_graph(model, example=x[:1])
    before = fingerprint(model)
    with torch.no_grad():
        h = F.relu(model.a(x))
        h[:, 0] = 0
        with isg.ablate(model, [Neuron("a", 0)], graph=G):
            assert torch.allclose(model(x), model.c(F.relu(model.b(h))), atol=1e-6)
        g = F.relu(model.b(F.relu(model.a(x))))
        g[:, 3] = 0
        with isg.ablate(model, [Neuron("b", 3)], graph=G):
            assert torch.allclose(model(x), model.c(g), atol=1e-6)
    assert same_fingerprint(before, fingerprint(model))


def test_hazard_17_models_copy_and_pickle_afterwards() -> None:
    model, x, G = graph_of("mlp")
    with isg.ablate(model, [Neuron("0", 0)], graph=G):
        model(x)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_hazard_18_other_precisions(dtype: torch.dtype) -> None:
    model, x, y = make("mlp")
    model, x = model.to(dtype), x.to(dtype)
    G = isg.neuron_graph(model, example=x[:1])
    with isg.ablate(model, [Neuron("0", 1)], graph=G, value="mean") as inner:
        assert inner(x).dtype == dtype
    P = isg.Partition.from_labels(G, {"0": [0, 1] * 4}, method="by hand")
    report = isg.evaluate(
        G, P, [isg.Sensitivity(model, x), isg.Consistency(model, x), isg.Ablation(model, (x, y))], nulls=3, seed=0
    )
    assert all(np.isfinite(e.value) for e in report.evaluations.values())


def test_hazard_19_checkpointing_is_seen_once_per_call() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(checkpoint(self.fc, x, use_reentrant=False))

    model, x = Checkpointed(), torch.randn(5, 3)
    with isg.capture(model, ["fc"]) as store:
        model(x)
    assert len(store.calls["fc"]) == 1


def test_hazard_20_forward_derivatives_missing_falls_back_to_differences() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.fc, self.last = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 6), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.tanh(self.fc(self.lstm(x)[0][:, -1])))

    torch.manual_seed(0)
    model, x = Recurrent(), torch.randn(20, 4, 3)
    G = LayeredDiGraph.from_arrays(
        [Layer("input", 0, 3, "input"), Layer("fc", 1, 6, "linear"), Layer("last", 2, 2, "linear")],
        {("input", "fc"): np.ones((3, 6)), ("fc", "last"): np.ones((6, 2))},
    )
    exact = isg.Sensitivity(model, x, method="exact").grams(G, ["fc"])["fc"]
    sketch = isg.Sensitivity(model, x, method="sketch", directions=200).grams(G, ["fc"])["fc"]
    assert (exact.method, sketch.method) == ("exact", "sketch by differences")
    assert np.linalg.norm(exact.matrix - sketch.matrix) < 0.15 * np.linalg.norm(exact.matrix)


def test_hazard_21_in_place_residuals_are_batched_or_closed_one_by_one() -> None:
    class Stubborn(nn.Module):
        """Writes a closed branch into an open one by a method whose result is dropped."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.a(x) * 1.0
            out.add_(self.b(x))
            return self.last(out)

    torch.manual_seed(0)
    x, y = torch.randn(30, 3), torch.randint(0, 2, (30,))
    stubborn = Stubborn()
    G = isg.neuron_graph(stubborn, example=x[:1])
    P = isg.Partition.from_labels(G, {"b": [0, 0, 1, 2]}, method="by hand")
    e = isg.Ablation(stubborn, (x, y)).evaluate(G, P)
    assert e.details["method"]["b"] == "hook, one by one"
    model, images, labels = make("cnn")
    H = isg.neuron_graph(model, example=images[:1])
    Q = isg.Partition.from_labels(H, {"down": [0, 0, 1, 1, 2, 2]}, method="by hand")
    assert isg.Ablation(model, (images, labels)).evaluate(H, Q).details["method"]["down"] == "hook, out of place"


def test_hazard_22_channels_last_and_time_major_units() -> None:
    class TimeMajor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc, self.last = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = F.relu(self.fc(self.norm(x.transpose(0, 1))))
            return self.last(h.mean(0))

    torch.manual_seed(0)
    model, x = TimeMajor().eval(), torch.randn(6, 5, 6)
    G = isg.neuron_graph(model, example=x[:1])
    with torch.no_grad(), isg.capture(model, [G.layer("fc")]) as store:
        model(x)
        h = F.relu(model.fc(model.norm(x)))
    assert torch.allclose(store["fc"], h.transpose(1, 2), atol=1e-6)
    with torch.no_grad(), isg.ablate(model, [Neuron("fc", 2)], graph=G):
        h[:, :, 2] = 0
        assert torch.allclose(model(x), model.last(h.mean(1)), atol=1e-6)


def test_hazard_22_channels_innermost_in_memory() -> None:
    # There a flatten copies, and the copy was once taken for the point where the last convolution is closed.
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    ).eval()
    x, y = torch.randn(30, 1, 4, 4), torch.arange(30) % 3
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model.to(memory_format=layout)  # type: ignore[call-overload]
        G = isg.neuron_graph(model, x)
        P = isg.Partition.from_labels(G, {"0": [0, 0, 0, 1, 1, 1], "2": [0, 1] * 4}, method="by hand")
        evaluators = [
            isg.Ablation(model, (x, y), joint=2), isg.Sensitivity(model, x), isg.Consistency(model, x),
            isg.Occlusion(model, x, window=2), isg.ActivationLevel(model, (x, y)),
        ]  # fmt: skip
        results.append([G.layer("2").closing, *(e.evaluate(G, P, nulls=2, seed=0).per_community for e in evaluators)])
    assert results[0][0] == results[1][0]
    for plain, innermost in zip(results[0][1:], results[1][1:], strict=True):
        np.testing.assert_allclose(plain, innermost, rtol=1e-4, atol=1e-6)


def test_what_a_hook_computes_is_not_counted_as_the_models() -> None:
    # Closing at a module uses torch.where; so does this model, as the activation of another layer.
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.act, self.two, self.last = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.two(self.act(self.one(x)))
            return self.last(torch.where(h > 0, h, 0.1 * h.exp() - 0.1))

    torch.manual_seed(0)
    model, x = Gated().eval(), torch.randn(7, 4)
    G = isg.neuron_graph(model, x)
    with torch.no_grad(), isg.ablate(model, [Neuron("one", 1), Neuron("two", 3)], graph=G):
        closed = model(x)
    with torch.no_grad():
        first = model.act(model.one(x))
        first[:, 1] = 0
        h = model.two(first)
        h = torch.where(h > 0, h, 0.1 * h.exp() - 0.1)
        h[:, 3] = 0
        assert torch.allclose(closed, model.last(h), atol=1e-6)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc, self.last = nn.Embedding(5, 3), nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, ids: torch.Tensor, x: torch.Tensor, *, scale: torch.Tensor | None = None) -> torch.Tensor:
        h = torch.cat([self.embed(ids), x], 1)
        return self.last(F.relu(self.fc(h if scale is None else h * scale)))


def test_hazard_23_several_inputs_and_keywords() -> None:
    torch.manual_seed(0)
    model = TwoInputs()
    ids, x, y = torch.randint(0, 5, (20,)), torch.randn(20, 3), torch.randint(0, 2, (20,))
    G = isg.neuron_graph(model, example=(ids[:1], x[:1]))
    P = isg.Partition.from_labels(G, {"fc": [0, 0, 1, 1]}, method="by hand")
    positional = [((ids[:12], x[:12]), y[:12]), ((ids[12:], x[12:]), y[12:])]
    keywords = [{"ids": ids, "x": x, "scale": None, "labels": y}]
    results = [isg.Ablation(model, data).evaluate(G, P).per_community for data in (positional, keywords)]
    assert np.array_equal(results[0], results[1])
    with torch.no_grad(), isg.ablate(model, [Neuron("fc", 0)]):
        closed = model(ids, x=x)
        h = F.relu(model.fc(torch.cat([model.embed(ids), x], 1)))
        h[:, 0] = 0
        assert torch.allclose(closed, model.last(h), atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_hazard_24_closing_does_not_depend_on_the_batch_size(name: str) -> None:
    model, x, G = graph_of(name)
    neurons = [n for n in G if n.layer == G.hidden_layers[0]][:3]
    with torch.no_grad(), isg.ablate(model, neurons, graph=G):
        together = logits(model(x))
        alone = torch.cat([logits(model(row)) for row in x.split(1)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_hazard_25_an_early_end_is_not_taken_for_an_error_of_the_model() -> None:
    class Swallowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.last = nn.Linear(9, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                h = self.fc(x)
            except Exception:
                h = x[:, :4]
            return self.last(F.relu(h))

    torch.manual_seed(0)
    model, x = Swallowing(), torch.rand(4, 9)
    G = isg.neuron_graph(model, example=x[:1])
    P = isg.Partition.from_labels(G, {"fc": [0, 0, 1, 1]}, method="by hand")
    heat = isg.Occlusion(model, x, window=1).evaluate(G, P).maps["heat"]
    with torch.no_grad():
        clean = F.relu(model.fc(x))
        change = torch.stack([(F.relu(model.fc(x * (torch.arange(9) != j))) - clean) ** 2 for j in range(9)], -1)
    expected = change.mean(0).reshape(2, 2, 9).mean(1).sqrt().reshape(2, 3, 3).numpy()
    assert np.allclose(heat, expected, atol=1e-6)


def test_hazard_26_parameters_without_values_are_refused() -> None:
    model = nn.Linear(2, 3, device="meta")
    with pytest.raises(InputError, match="meta"):
        Batches(torch.zeros(1, 2), model)


def test_hazard_26_quantised_and_sharded_models_are_refused_by_name() -> None:
    packed = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    packed[1].weight = nn.Parameter(torch.zeros(2, 3, dtype=torch.int8), requires_grad=False)
    sharded = nn.Sequential(nn.Linear(2, 3), type("FullyShardedDataParallel", (nn.Linear,), {})(3, 2))
    for model, said in ((packed, "'1.weight' is quantised"), (sharded, "'1'.*is sharded")):
        with pytest.raises(UnsupportedLayerError, match=said):
            isg.neuron_graph(model, example=torch.zeros(1, 2))
        with pytest.raises(UnsupportedLayerError, match=said), isg.ablate(model, [Neuron("0", 0)]):
            model(torch.zeros(1, 2))


def test_hazard_27_probing_a_deep_chain_is_quick() -> None:
    import time

    model = nn.Sequential(*[layer for _ in range(150) for layer in (nn.Linear(4, 4), nn.ReLU())])
    x = torch.randn(3, 4)
    G = isg.neuron_graph(model, example=x[:1])
    started = time.process_time()
    with isg.ablate(model, [Neuron("150", 0)], graph=G, value="mean"):
        model(x)
    assert time.process_time() - started < 2.0


def test_hazard_28_everything_before_the_closed_layer_runs_once() -> None:
    model, x, y = make("mlp")
    G = isg.neuron_graph(model, example=x[:1])
    rows: dict[str, list[int]] = {"0": [], "4": []}
    for name in rows:
        model[int(name)].register_forward_pre_hook(lambda m, a, name=name: rows[name].append(a[0].shape[0]))  # type: ignore[index, operator, union-attr, misc]
    P = isg.Partition.from_labels(G, {"2": range(7)}, method="by hand")
    isg.Ablation(model, (x, y)).evaluate(G, P)
    # Clean passes aside, three ways of closing call the first layer three times, whatever the number of communities.
    assert len(rows["0"]) == len(rows["4"]) <= 8


# --- data and arguments
# --------------------------------------------------------------------------------------------------------


def test_data_come_in_many_forms() -> None:
    model, x, y = make("mlp")
    G = isg.neuron_graph(model, example=x[:1])
    dataset = torch.utils.data.TensorDataset(x, y)
    forms = [
        x, (x, y), x.numpy(), (x.numpy(), y.numpy()), dataset, torch.utils.data.DataLoader(dataset, batch_size=7),
        [(x[:9], y[:9]), (x[9:], y[9:])], iter([(x[:9], y[:9]), [x[9:], y[9:]]]), [x[:9], x[9:], x[:0]],
    ]  # fmt: skip
    tables = [isg.activations(model, form, G)["0"] for form in forms]
    assert all(np.allclose(table, tables[0], atol=1e-6) for table in tables)
    assert tables[0].shape == (8, 40)
    assert np.allclose(tables[0], F.relu(model[0](x)).detach().numpy().T, atol=1e-6)  # type: ignore[index]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.zeros(0, 6), "no samples"),
        ([], "no samples"),
        (torch.full((3, 6), float("nan")), "NaN or infinite"),
        (torch.zeros(3, 5), "could not run on a batch"),
        (torch.zeros(3, 6, device="meta"), "on meta"),
        ((torch.zeros(3, 6), torch.zeros(2)), "3 inputs but 2 targets"),
        (torch.zeros(3, 6, dtype=torch.long), "could not run"),
        (5, "they must be batches"),
        ([("a", "b")], "no tensor"),
    ],
)
def test_bad_data_are_named(data: Any, said: str) -> None:
    model, _, G = graph_of("mlp")
    before = fingerprint(model)
    with pytest.raises(InputError, match=said) as error:
        isg.activations(model, data, G)
    assert "\n" not in str(error.value)
    assert same_fingerprint(before, fingerprint(model))


def test_bad_neurons_layers_and_values_are_named() -> None:
    model, x, G = graph_of("mlp")
    _, _, H = graph_of("functional")
    for call, said in [
        (lambda: isg.ablate(model, [("0", 99)], graph=G), "not in the graph"),
        (lambda: isg.ablate(model, [("fc1", 0)], graph=H), "no module 'fc1'"),
        (lambda: isg.ablate(model, [("0", 0)], graph=G, value="zero"), "no way of closing"),
        (lambda: isg.ablate(model, [("0", 0)], graph=G, value=[1.0, 2.0]), "one per neuron"),
        (lambda: isg.capture(model, ["fc1"]), "no module 'fc1'"),
    ]:
        with pytest.raises(InputError, match=said), call():  # type: ignore[no-untyped-call]
            model(x)


def test_undisturbed_restores_modes_flags_and_random_state() -> None:
    model = TinyTransformer()
    model.embed.weight.requires_grad_(False)
    model.up.eval()
    before = fingerprint(model)
    with undisturbed(model) as inner:
        inner.requires_grad_(True)
        assert not any(m.training for m in inner.modules())
        torch.rand(3)
    assert same_fingerprint(before, fingerprint(model))
