"""Closing many groups at once: every short cut behind the closed layer gives what one plain closing gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import innersight_graph as isg
from innersight_graph.errors import UnsupportedLayerError
from innersight_graph.probe.batches import Batches
from innersight_graph.probe.groups import GroupCloser
from innersight_graph.probe.session import undisturbed
from innersight_graph.probe.sites import find_sites


class Winding(nn.Module):
    """What may stand between a closed convolution and the next: each way of going on has a name."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.a, self.bn, self.b = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.wide, self.deep = nn.Conv2d(12, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.gate, self.drop, self.last = nn.Conv2d(6, 6, 1), nn.Dropout(), nn.Linear(6 * 16, 3)
        nn.init.normal_(self.bn.bias)
        self.bn.running_mean.normal_()  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn(self.a(x)))
        y = self._onwards(x)
        return self.last(F.adaptive_avg_pool2d(F.relu(y), 4).view(len(x), -1))

    def _onwards(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "residual":
            return x + self.b(x)
        if self.way == "residual in place":
            y = self.b(x)
            y += x
            return self.b(F.gelu(y))
        if self.way == "addition first":
            y = self.drop(x) * 0.5 + torch.ones(6, 1, 1)
            return self.b(F.max_pool2d(y, 2)) - self.deep(F.avg_pool2d(x, 2))
        if self.way == "concatenated":
            return self.wide(torch.cat([x, torch.tanh(x)], 1))
        if self.way == "gated":
            return self.b(x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True))))
        if self.way == "written into":
            y = x.clone()
            y[:, 2:4] = 1.0
            y[:, :1].mul_(3.0)
            return self.b(y)
        if self.way == "two readers":
            y = self.b(x)
            x = x.add_(1.0)
            return y + self.deep(x)
        y = x.permute(0, 2, 3, 1)
        return self.b(F.layer_norm(y, (6,)).permute(0, 3, 1, 2).contiguous())


WAYS = (
    "residual", "residual in place", "addition first", "concatenated", "gated", "written into", "two readers", "turned",
)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", WAYS)
def test_groups_of_channels_equal_plain_closings(way: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, x = Winding(way).eval().to(dtype), torch.randn(5, 2, 8, 8, dtype=dtype)
    G = isg.neuron_graph(model, example=x[:1])
    groups = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1], [1] * 6, [0] * 6]).bool()
    for layer in ("a", "b", "gate") if way == "gated" else ("a", "b") if way != "concatenated" else ("a", "wide"):
        for value in (0.0, torch.linspace(-1, 1, 6, dtype=dtype)):
            with undisturbed(model) as inner, torch.no_grad():
                closer = GroupCloser(inner, find_sites(inner, G, [layer]))
                batch = Batches(x, inner).first()
                closer.clean(batch)
                found = torch.cat([out for _, _, out in closer.run(batch, layer, groups, value)])
                assert "one by one" not in closer.methods[layer]
            for row, own in zip(groups, found, strict=True):
                neurons = [isg.Neuron(layer, int(i)) for i in row.nonzero()[:, 0]]
                put = value if isinstance(value, float) else value[row].numpy()
                with torch.no_grad(), isg.ablate(model, neurons, graph=G, value=put if len(neurons) else 0.0):
                    plain = model(x)
                assert torch.allclose(own, plain, atol=1e-5 if dtype == torch.float32 else 1e-12), (layer, value)


def test_joint_closings_over_layers_equal_plain_ones() -> None:
    torch.manual_seed(0)
    model, x = Winding("residual").eval(), torch.randn(5, 2, 8, 8)
    G = isg.neuron_graph(model, example=x[:1])
    tables = {"a": torch.eye(6).bool(), "b": torch.eye(6).flip(0).bool()}
    with undisturbed(model) as inner:
        closer = GroupCloser(inner, find_sites(inner, G, list(tables)))
        batch = Batches(x, inner).first()
        closer.clean(batch)
        found = torch.cat([out for _, _, out in closer.run_joint(batch, tables)])
    for i in range(6):
        with torch.no_grad(), isg.ablate(model, [isg.Neuron("a", i), isg.Neuron("b", 5 - i)], graph=G):
            assert torch.allclose(found[i], model(x), atol=1e-5)


def test_a_model_that_looks_at_its_whole_batch_is_not_cut() -> None:
    """Samples that see each other: the confirmation on two samples disagrees, so every closing runs by itself."""

    class Batchwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = F.relu(self.a(x))
            return self.b(h - h.mean(0))

    torch.manual_seed(0)
    model, x = Batchwise().eval(), torch.randn(9, 3)
    G = isg.neuron_graph(model, example=x)
    with undisturbed(model) as inner:
        closer = GroupCloser(inner, find_sites(inner, G, ["a"]))
        batch = Batches(x, inner).first()
        closer.clean(batch)
        found = torch.cat([out for _, _, out in closer.run(batch, "a", torch.eye(4).bool())])
    assert closer.methods == {"a": "hook, one by one"}
    for i in range(4):
        with torch.no_grad(), isg.ablate(model, [isg.Neuron("a", i)], graph=G):
            assert torch.allclose(found[i], model(x), atol=1e-6)


def test_a_closing_that_does_not_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed rows are read again behind the closing, before any result is believed."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), torch.randn(9, 3)
    nn.init.constant_(model[0].bias, 9.0)  # every neuron fires
    G = isg.neuron_graph(model, example=x)
    monkeypatch.setattr("innersight_graph.probe.closing.replace_neurons", lambda output, *_: output)
    P = isg.Partition.from_labels(G, {"0": range(4)}, method="by hand")
    with pytest.raises(UnsupportedLayerError, match=r"was closed at 0\.0, but"):
        isg.Ablation(model, (x, torch.zeros(9, dtype=torch.long))).evaluate(G, P)


def test_a_unit_called_twice_is_closed_in_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.tanh(self.a(x))
            return self.c(torch.tanh(self.b(torch.tanh(self.b(h)))))

    torch.manual_seed(0)
    model, x, y = Twice().eval(), torch.randn(9, 3), torch.randn(9, 2)
    G = isg.neuron_graph(model, example=x[:1])
    P = isg.Partition.from_labels(G, {"b": range(4)}, method="by hand")
    e = isg.Ablation(model, (x, y)).evaluate(G, P)
    with torch.no_grad():
        clean = ((model(x) - y) ** 2).mean()
        for i in range(4):
            open_rows = (torch.arange(4) != min(n.index for n in P[i])).float()
            h = torch.tanh(model.b(torch.tanh(model.a(x))) * open_rows)
            closed = model.c(torch.tanh(model.b(h) * open_rows))
            assert e.per_community[i] == pytest.approx(float(((closed - y) ** 2).mean() - clean), abs=1e-6)
