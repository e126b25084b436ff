"""Whole models: the zoo, models by name, summaries, and that detectors do not see a rescaling of neurons."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from innersight_graph.data import load_digits
from innersight_graph.detection import detect
from innersight_graph.errors import InputError
from innersight_graph.neuronize import load_model, neuron_graph, summarize, trace_model
from innersight_graph.partition import agreement

# Models whose builders need larger pictures than 64x64.
LARGE = {
    "inception_v3": 299,
    "maxvit_t": 224,
    "vit_b_16": 224,
    "vit_b_32": 224,
    "vit_h_14": 224,
    "vit_l_16": 224,
    "vit_l_32": 224,
}


def _zoo() -> list[str]:
    torchvision = pytest.importorskip("torchvision")
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def _graph_of(name: str) -> Any:
    from torchvision.models import get_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_model(name, weights=None)
        x = torch.rand(1, 3, *[LARGE.get(name, 64)] * 2)
        coverage = trace_model(model, example=x).coverage
        return model, coverage, neuron_graph(model, example=x, max_memory=16 * 2**30)


@pytest.mark.slow
@pytest.mark.parametrize("name", _zoo())
def test_every_torchvision_classifier_becomes_a_graph(name: str) -> None:
    model, coverage, G = _graph_of(name)
    assert not coverage.unknown_ops
    assert not coverage.data_dependent
    weights = {n.rsplit(".", 1)[0] for n, p in model.named_parameters() if p.ndim >= 2 and "aux" not in n.lower()}
    named = {layer.name for layer in G.layers} | {n.rsplit(".", 1)[0] for n in coverage.unused}
    assert {w for w in weights if not any(n == w or n.startswith(w + ".") for n in named)} == set()
    assert G.layers[-1].width == 1000
    assert len(coverage.outputs) == 1


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "squeezenet1_0", "efficientnet_b0", "googlenet", "mnasnet0_5",
    "swin_t",
     "densenet121", "regnet_x_400mf"],
)  # fmt: skip
def test_ten_torchvision_classifiers_become_graphs(name: str) -> None:
    model, coverage, G = _graph_of(name)
    assert not coverage.unknown_ops
    assert G.layers[-1].width == 1000
    depth = {layer.name: layer.depth for layer in G.layers}
    assert all(depth[s] < depth[t] for s, t in G.connections)
    assert depth["input"] == 0
    sizes = {
        name: p.shape[0] for name, p in ((n[:-7], p) for n, p in model.named_parameters() if n.endswith(".weight"))
    }
    assert all(sizes[layer.name] == layer.width for layer in G.layers if layer.name in sizes)


# --- models by name --------------------------------------------------------------------------------------------------

FACTORY = """
import torch
def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
def number():
    return 3
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(FACTORY, encoding="utf-8")
    return path


def test_a_model_is_made_by_name_and_gets_its_weights(factory: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    plain = load_model(f"{factory}:make")
    assert not plain.training
    state = {name: torch.randn_like(value) for name, value in plain.state_dict().items()}
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"state_dict": {"module." + k: v for k, v in state.items()}, "epoch": 3}, tmp_path / "wrapped.pt")
    safetensors.save_file(state, tmp_path / "w.safetensors")
    for name in ("plain.pt", "wrapped.pt", "w.safetensors"):
        model = load_model(f"{factory}:make", tmp_path / name)
        assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    assert load_model("torchvision:squeezenet1_1").classifier[1].out_channels == 1000


def test_models_and_weights_that_cannot_be_loaded_are_named(factory: Path, tmp_path: Path) -> None:
    for spec, words in (
        ("resnet18", "file.py:factory"),
        ("torchvision:resnet19", "resnet18"),
        (f"{tmp_path / 'no.py'}:make", "does not exist"),
        (f"{factory}:number", "gave a int"),
        (f"{factory}:nothing", "NoneType"),
    ):
        with pytest.raises(InputError, match=words):
            load_model(spec)
    torch.save(nn.Linear(2, 2), tmp_path / "pickled.pt")
    torch.save({"0.weight": torch.zeros(3, 4)}, tmp_path / "part.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00{}")
    (tmp_path / "text.pt").write_text("hello", encoding="utf-8")
    for name in ("pickled.pt", "part.pt", "cut.safetensors", "text.pt", "none.pt"):
        with pytest.raises(InputError, match=name.split(".")[0]):
            load_model(f"{factory}:make", tmp_path / name)


def test_summary_counts_what_the_graph_holds() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)
    )
    G = neuron_graph(model, torch.rand(8, 3, 7, 7))
    summary = summarize(G)
    assert (summary.n_neurons, summary.n_edges) == (G.number_of_nodes(), G.number_of_edges())
    for row in summary.layers:
        into = [d for _, v, d in G.edges(data=True) if v.layer == row.name]
        assert row.activations == sum(d["weight"] > 0 for d in into)
        assert row.inhibitions == sum(d["weight"] < 0 for d in into)
        assert row.silent == int(np.count_nonzero(G.node_attributes.get(row.name, {}).get("silent", 0)))


# --- gauge -----------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """An MLP or a chain CNN for 8x8 digits."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "mlp":
            self.chain = nn.ModuleList([nn.Linear(64, 32), nn.Linear(32, 24), nn.Linear(24, 10)])
        else:
            self.chain = nn.ModuleList(
                [nn.Conv2d(1, 12, 3), nn.Conv2d(12, 16, 3), nn.Linear(256, 24), nn.Linear(24, 10)]
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.chain[:-1]:
            if isinstance(layer, nn.Linear):
                x = x.flatten(1)
            x = torch.relu(layer(x))
        return self.chain[-1](x)


@pytest.fixture(scope="module", params=["mlp", "cnn"])
def trained(request: pytest.FixtureRequest) -> Small:
    torch.manual_seed(0)
    data = load_digits(flat=request.param == "mlp").train
    model = Small(request.param)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(15):
        for batch in torch.randperm(len(data.targets)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(data.inputs[batch]), data.targets[batch]).backward()
            optimiser.step()
    return model.eval()


def rescaled(model: Small, *, power_of_two: bool) -> Small:
    copy = Small("mlp" if len(model.chain) == 3 else "cnn")
    copy.load_state_dict(model.state_dict())
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for layer, following in itertools.pairwise(copy.chain):
            logs = rng.uniform(-np.log2(10), np.log2(10), size=len(layer.bias))
            factor = torch.tensor(2.0 ** (np.round(logs) if power_of_two else logs), dtype=torch.float32)
            layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.mul_(factor)
            spread = factor.repeat_interleave(following.weight.shape[1] // len(factor))
            following.weight.div_(spread.reshape(1, -1, *[1] * (following.weight.ndim - 2)))
    return copy.eval()


@pytest.mark.parametrize("method", ["spectral", "em", "degree"])
def test_detectors_do_not_see_a_rescaling_of_neurons(trained: Small, method: str) -> None:
    x = torch.zeros(1, 64) if len(trained.chain) == 3 else torch.zeros(1, 1, 8, 8)
    options: dict[str, Any] = {"n_communities": 4, "seed": 0}
    first = detect(neuron_graph(trained, example=x), method, **options)
    same = detect(neuron_graph(rescaled(trained, power_of_two=True), example=x), method, **options)
    assert first.communities == same.communities
    other = detect(neuron_graph(rescaled(trained, power_of_two=False), example=x), method, **options)
    assert agreement(first, other).ari >= 0.99
