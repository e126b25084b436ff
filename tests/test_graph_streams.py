"""Residual streams: one trained weight is one piece of evidence, however many layers write into the sum it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import innersight_graph as isg
from innersight_graph.graph.gauge import balance
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.profiles import binarize
from innersight_graph.graph.streams import distinct_sources, streams

WIDTH, INSIDE, N_BLOCKS = 16, 32, 3


class Residual(nn.Module):
    """An embedding, blocks of two linear maps that add to it, and a readout; a ReLU before every map."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embed = nn.Linear(5, WIDTH)
            self.enter = nn.ModuleList(nn.Linear(WIDTH, INSIDE) for _ in range(N_BLOCKS))
            self.leave = nn.ModuleList(nn.Linear(INSIDE, WIDTH) for _ in range(N_BLOCKS))
            self.out = nn.Linear(WIDTH, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for enter, leave in zip(self.enter, self.leave, strict=True):
            x = x + leave(torch.relu(enter(torch.relu(x))))
        return self.out(torch.relu(x))


def graph(model: nn.Module) -> LayeredDiGraph:
    return isg.neuron_graph(model, example=torch.zeros(1, 5))


def writers(n: int) -> list[str]:
    return ["embed", *(f"leave.{i}" for i in range(n))]


def test_the_layers_that_write_into_one_stream_are_found() -> None:
    G = graph(Residual())
    assert G.incoming("enter.2") == tuple(writers(2))
    assert distinct_sources(G, "enter.2") == ("embed",)
    assert {name for name, first in streams(G).items() if first == "embed"} == set(writers(N_BLOCKS))
    assert streams(G)["enter.1"] == "enter.1"


def test_a_profile_counts_each_trained_weight_once() -> None:
    model = Residual()
    G = graph(model)
    profile = binarize(G, "enter.2", density=1.0, gauge="none")
    weight = model.enter[2].weight.detach().numpy()
    assert (profile.activation_in == (weight > 0)).all()
    assert (profile.inhibition_in == (weight < 0)).all()
    thresholds = {"xi1": 0.1, "xi2": -0.1}
    assert (binarize(G, "enter.2", thresholds=thresholds).activation_in == (weight > 0.1)).all()


def test_writers_of_a_stream_share_their_scale_and_their_readers_array() -> None:
    G = graph(Residual())
    H = balance(G)
    for target in ("enter.2", "out"):
        first, *others = (H.matrix(source, target) for source in H.incoming(target))
        assert all(np.shares_memory(first, other) for other in others)
    arriving = sum((H.matrix(s, t).astype(float) ** 2).sum(axis=0) for s, t in H.connections if t in writers(N_BLOCKS))
    leaving = sum((H.matrix("embed", t).astype(float) ** 2).sum(axis=1) for t in H.outgoing("embed"))
    assert np.allclose(arriving, leaving, rtol=1e-5)


def test_rescaling_a_coordinate_of_the_stream_changes_neither_function_nor_balance() -> None:
    model, other = Residual(), Residual()
    factor = torch.exp2(torch.randint(-3, 4, (WIDTH,), generator=torch.Generator().manual_seed(1)).float())
    with torch.no_grad():
        for layer in (other.embed, *other.leave):
            layer.weight.mul_(factor[:, None])
            layer.bias.mul_(factor)
        for layer in (*other.enter, other.out):
            layer.weight.div_(factor)
    x = torch.randn(9, 5, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(model(x), other(x), atol=1e-5)
    a, b = balance(graph(model)), balance(graph(other))
    assert all(np.array_equal(a.connections[pair], b.connections[pair]) for pair in a.connections)


def test_a_stream_that_holds_the_input_keeps_the_scale_of_the_data() -> None:
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave, self.out = nn.Linear(5, 8), nn.Linear(8, 5), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(x + self.leave(torch.relu(self.enter(x))))

    G = graph(Added())
    assert streams(G)["leave"] == "input"
    assert np.array_equal(balance(G).matrix("input", "out"), G.matrix("input", "out"))


def test_equal_constant_weights_are_not_taken_for_a_stream() -> None:
    layers = [isg.Layer(name, depth, 2, "linear") for depth, name in enumerate("abc")]
    ones = np.ones((2, 2))
    G = LayeredDiGraph.from_arrays(layers, {("a", "b"): -ones, ("a", "c"): ones, ("b", "c"): ones})
    assert distinct_sources(G, "c") == ("a", "b")


def test_a_file_holds_a_streams_weights_once(tmp_path: Path) -> None:
    G = graph(Residual())
    G.save(tmp_path / "graph.npz")
    with np.load(tmp_path / "graph.npz") as file:
        stored = sum(file[name].size for name in file if name.startswith("connection"))
    trained = 5 * WIDTH + N_BLOCKS * 2 * WIDTH * INSIDE + 4 * WIDTH
    assert stored == trained
    H = LayeredDiGraph.load(tmp_path / "graph.npz")
    assert list(H.connections) == list(G.connections)
    assert all(np.array_equal(H.connections[pair], G.connections[pair]) for pair in G.connections)


@pytest.mark.parametrize("method", ["em", "blockmodel"])
def test_an_untrained_residual_network_has_no_communities(method: str) -> None:
    """Counted once for every writer, the stream's columns repeat, and repeated columns look like communities."""
    G = graph(Residual(seed=3))
    layers = ["enter.2", "leave.0"]
    P = isg.detect(G, method, layers=layers, seed=0)
    assert [P.stats[name]["n_communities"] for name in layers] == [1, 1]
