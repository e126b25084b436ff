"""Occlusion by recomputed windows and by crops: at every position, borders and corners, what whole images give."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import innersight_graph as isg
from innersight_graph.partition import Partition


class Downsampling(nn.Module):
    """Strided, padded, pooled and normalised maps."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b, self.c = nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(6 * 16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.bn(self.a(x)))
        h = self.pool(F.gelu(self.b(h)))
        return self.fc(F.adaptive_avg_pool2d(torch.sigmoid(self.c(h)), 4).flatten(1))


class Branching(nn.Module):
    """Branches of other reach that are added, in place too, and put side by side; gaps, uneven strides and kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, (3, 5), padding=(1, 2)), nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.c, self.d = nn.Conv2d(8, 6, 3, stride=(2, 1), bias=False), nn.Conv2d(6, 6, 1)
        self.e, self.bn, self.fc = nn.Conv2d(6, 5, 3, padding=1), nn.BatchNorm2d(5), nn.Linear(5, 2)
        self.scale = nn.Parameter(torch.randn(4, 1, 1))
        self.drop, self.act = nn.Dropout(), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.a(x))
        y = self.b(x)
        y += x * self.scale
        h = torch.cat([F.avg_pool2d(y, 3, 1, 1), F.max_pool2d(x, 3, 1, 1)], 1)
        h = self.drop(F.leaky_relu(self.c(h), 0.2))
        h = F.silu(self.d(h)) - h
        return self.fc(torch.tanh(self.bn(self.e(h))).mean((2, 3)))


class ChannelsLast(nn.Module):
    """Norms over channels with the axes turned: windows are lost there, crops are not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.LayerNorm(4), nn.Conv2d(4, 5, 3, padding=1)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(F.relu(self.a(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.fc(F.relu(self.b(h)).mean((2, 3)))


class Gated(nn.Module):
    """A gate that sees the whole image: behind it nothing is local, and in front everything."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 4), nn.Conv2d(4, 5, 3, padding=1)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.a(x))
        h = h * torch.sigmoid(self.gate(h.mean((2, 3))))[:, :, None, None]
        h[:, 0] = 0.5
        return self.fc(F.relu(self.b(h)).mean((2, 3)))


def check(model: nn.Module, x: torch.Tensor, window: int, places: Any, methods: dict[str, str]) -> None:
    G = isg.neuron_graph(model, example=x[:1])
    labels = {name: np.arange(G.layer(name).width) // 2 for name in methods}
    P = Partition.from_labels(G, labels, method="by hand")
    e = isg.Occlusion(model, x, window=window, fill=0.25).evaluate(G, P)
    assert e.details["method"] == methods
    literal = isg.Occlusion(model, x, window=window, fill=0.25, literal=True).evaluate(G, P)
    model.eval()

    def outputs(z: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad(), isg.capture(model, [G.layer(name) for name in methods]) as store:
            model(z)
        return {name: store[name] for name in methods}

    clean = outputs(x)
    for y, column in places:
        covered = x.clone()
        rows = slice(max(0, y - window // 2), y - window // 2 + window)
        covered[:, :, rows, max(0, column - window // 2) : column - window // 2 + window] = 0.25
        for name, after in outputs(covered).items():
            change = ((after - clean[name]) ** 2).mean(2)
            for i in (i for i in range(len(P)) if P.layer_of(i) == name):
                own = change[:, sorted(n.index for n in P[i])].mean(1)
                assert e.maps["heat"][i, y, column] == pytest.approx(float(own.mean().sqrt()), abs=1e-5)
                assert literal.maps["heat"][i, y, column] == pytest.approx(float(own.sqrt().mean()), abs=1e-5)


BORDERS = (0, 1, 2, 7, 17, 18, -2, -1)
WINDOWS = "recomputed windows"


@pytest.mark.parametrize(("size", "window"), [((36, 36), 3), ((21, 30), 5), ((12, 12), 11)])
def test_windows_follow_a_chain_to_its_end(size: tuple[int, int], window: int) -> None:
    torch.manual_seed(0)
    model, x = Downsampling().eval(), torch.rand(3, 2, *size)
    places = itertools.product(*(sorted({i % n for i in BORDERS}) for n in size))
    check(model, x, window, places, dict.fromkeys("abc", WINDOWS))


def test_windows_follow_branches() -> None:
    torch.manual_seed(0)
    model, x = Branching().eval(), torch.rand(2, 1, 17, 14)
    nn.init.normal_(model.bn.bias)
    model.bn.running_mean.normal_()  # type: ignore[union-attr]
    places = itertools.product(range(0, 17, 2), range(0, 14, 3))
    check(model, x, 2, places, dict.fromkeys("abcde", WINDOWS))


def test_crops_and_whole_images_take_over_where_windows_are_lost() -> None:
    torch.manual_seed(0)
    model, x = ChannelsLast().eval(), torch.rand(2, 1, 24, 24)
    places = list(itertools.product((0, 1, 11, 23), repeat=2))
    check(model, x, 3, places, {"a": "batched windows", "b": "crops"})
    gated = Gated().eval()
    check(gated, x, 3, places, {"a": WINDOWS, "b": "batched windows"})


def test_windows_of_two_batches_equal_those_of_one() -> None:
    torch.manual_seed(0)
    model, x = Downsampling().eval(), torch.rand(5, 2, 12, 12)
    G = isg.neuron_graph(model, example=x[:1])
    P = Partition.from_labels(G, {"c": [0, 0, 0, 1, 1, 1]}, method="by hand")
    whole = isg.Occlusion(model, x, window=3).evaluate(G, P)
    parts = isg.Occlusion(model, [x[:2], x[2:]], window=3).evaluate(G, P, max_memory=2**18)
    assert np.allclose(whole.maps["heat"], parts.maps["heat"], atol=1e-6)
