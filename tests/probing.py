"""Small models for the tests of probing and evaluation, and naive ways to do what the package does fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class FunctionalMLP(nn.Module):
    """Activations as functions, one of which is not zero at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.sigmoid(self.fc1(x))
        return self.fc3(F.relu(self.fc2(h)))


class ResidualCNN(nn.Module):
    """Batch-norm, in-place activations and an in-place residual addition."""

    def __init__(self, in_place: bool = True) -> None:
        super().__init__()
        self.in_place = in_place
        self.conv1, self.bn1 = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.down = nn.Conv2d(6, 6, 1)
        self.relu, self.pool, self.fc = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Linear(24, 3)
        for bn in (self.bn1, self.bn2):
            nn.init.normal_(bn.bias)
            bn.running_mean.normal_()  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(h))
        shortcut = self.down(h)
        if self.in_place:
            out += shortcut
        else:
            out = out + shortcut
        return self.fc(self.pool(self.relu(out)).flatten(1))


class TinyTransformer(nn.Module):
    """Token ids in, words out; attention as a module that hides its projections."""

    def __init__(self, words: int = 11, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.norm1, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 12), nn.Linear(12, width)
        self.head = nn.Linear(width, words)

    def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.embed(ids)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return {"logits": self.head(x)}


def make(name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A model, inputs and targets by name."""
    torch.manual_seed(0)
    if name == "mlp":
        model: nn.Module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3))
        return model, torch.randn(40, 6), torch.randint(0, 3, (40,))
    if name == "functional":
        return FunctionalMLP(), torch.randn(40, 6), torch.randint(0, 3, (40,))
    if name in ("cnn", "cnn out of place"):
        return ResidualCNN(name == "cnn"), torch.randn(24, 1, 9, 9), torch.randint(0, 3, (24,))
    return TinyTransformer(), torch.randint(0, 11, (16, 5)), torch.randint(0, 11, (16, 5))


MODELS = ("mlp", "functional", "cnn", "cnn out of place", "transformer")


def logits(result: Any) -> torch.Tensor:
    return result["logits"] if isinstance(result, dict) else result


# How a naive user would close or read each layer: a function of the model that runs it with `change` applied to the
# neurons' outputs, written
# out by hand for every model and layer.
def run_by_hand(
    name: str, model: Any, x: torch.Tensor, layer: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Run the model's equations with ``change`` applied to one layer's outputs, neurons on axis 1."""
    model.eval()

    def at(here: str, value: torch.Tensor) -> torch.Tensor:
        return change(value) if here == layer else value

    def last(here: str, value: torch.Tensor) -> torch.Tensor:
        return change(value.movedim(-1, 1)).movedim(1, -1) if here == layer else value

    if name == "mlp":
        h = at("0", F.relu(model[0](x)))
        return model[4](at("2", torch.tanh(model[2](h))))
    if name == "functional":
        h = at("fc1", torch.sigmoid(model.fc1(x)))
        return model.fc3(at("fc2", F.relu(model.fc2(h))))
    if name.startswith("cnn"):
        h = at("conv1", F.relu(model.bn1(model.conv1(x))))
        out = at("conv2", model.bn2(model.conv2(h))) + at("down", model.down(h))
        return model.fc(model.pool(F.relu(out)).flatten(1))
    h = last("embed", model.embed(x))
    y = model.norm1(h)
    a = model.attention
    q, k, v = F.linear(y, a.in_proj_weight, a.in_proj_bias).chunk(3, -1)
    q, k, v = (last(f"attention.in_proj.{role}", t) for role, t in zip("qkv", (q, k, v), strict=True))
    heads = [t.reshape(*t.shape[:2], 2, 4).transpose(1, 2) for t in (q, k, v)]
    mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    h = h + last("attention.out_proj", F.linear(mixed, a.out_proj.weight, a.out_proj.bias))
    h = h + last("down", model.down(last("up", F.gelu(model.up(model.norm2(h))))))
    return model.head(h)


def closed_by_hand(
    name: str, model: Any, x: torch.Tensor, layer: str, neurons: Iterable[int], value: Any = 0.0
) -> torch.Tensor:
    """Outputs with some neurons of one layer closed, by hand."""
    wanted = list(neurons)

    def change(outputs: torch.Tensor) -> torch.Tensor:
        new = outputs.clone()
        fill = (
            outputs.transpose(0, 1).flatten(1).mean(1)[wanted]
            if value == "mean"
            else torch.full((len(wanted),), float(value), dtype=outputs.dtype)
        )
        new[:, wanted] = fill.reshape(1, -1, *[1] * (outputs.ndim - 2)).to(outputs.dtype)
        return new

    with torch.no_grad():
        return run_by_hand(name, model, x, layer, change)


def outputs_by_hand(name: str, model: Any, x: torch.Tensor, layer: str) -> torch.Tensor:
    """Outputs of one layer's neurons ``(batch, n, positions)``, by hand."""
    seen: list[torch.Tensor] = []

    def note(outputs: torch.Tensor) -> torch.Tensor:
        seen.append(outputs)
        return outputs

    run_by_hand(name, model, x, layer, note)
    return seen[0].reshape(seen[0].shape[0], seen[0].shape[1], -1)


def fingerprint(model: nn.Module) -> Any:
    """Everything a guest could disturb."""
    return (
        {k: (v.clone(), id(v)) for k, v in model.named_parameters()},
        {k: (v.clone(), id(v)) for k, v in model.named_buffers()},
        [m.training for m in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [
            (list(m._forward_hooks.items()), list(m._forward_pre_hooks.items()), dict(m._forward_hooks_with_kwargs))
            for m in model.modules()
        ],
        torch.backends.mha.get_fastpath_enabled(),
        torch.get_rng_state(),
    )


def same_fingerprint(a: Any, b: Any) -> bool:
    def tensors(x: Any, y: Any) -> bool:
        return x.keys() == y.keys() and all(torch.equal(x[k][0], y[k][0]) and x[k][1] == y[k][1] for k in x)

    grads = all(
        (g is None) == (h is None) and (g is None or torch.equal(g, h)) for g, h in zip(a[4], b[4], strict=True)
    )
    return (
        tensors(a[0], b[0])
        and tensors(a[1], b[1])
        and a[2] == b[2]
        and a[3] == b[3]
        and grads
        and a[5] == b[5]
        and a[6] == b[6]
        and torch.equal(a[7], b[7])
    )


def groups_of(width: int, k: int, seed: int = 0) -> np.ndarray:
    """Random labels with every group present."""
    rng = np.random.default_rng(seed)
    return rng.permutation(np.arange(width) % k)
