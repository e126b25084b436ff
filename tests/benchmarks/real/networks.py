"""Networks to look into: digits MLPs trained in six ways, a CNN on generated faces, a transformer that calculates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import innersight_graph as isg

WIDTHS = (64, 128, 64, 32, 10)
CHANNELS = (16, 32, 48)
# Communities of each layer where methods are compared at equal numbers.
NUMBERS = {"fc1": 10, "fc2": 8, "fc3": 6, "conv1": 4, "conv2": 5, "conv3": 6, "dense": 6, "up1": 6, "up2": 6}


@dataclass(frozen=True)
class Network:
    """A trained model, what its graph is made from, and held-out data that nothing was selected on.

    ``groups`` is what a community may specialise in: the class of each held-out sample, or its task.
    """

    name: str
    seed: int
    model: nn.Module
    train: Any
    inputs: torch.Tensor
    targets: torch.Tensor
    groups: torch.Tensor
    accuracy: float
    layers: tuple[str, ...]

    @property
    def numbers(self) -> dict[str, int]:
        """How many communities each layer gets where the number is given."""
        return {layer: NUMBERS[layer] for layer in self.layers}


def make(name: str, seed: int) -> Network:
    """Train one of `NETWORKS`; equal seeds give equal networks."""
    torch.manual_seed(seed)
    model, train, (inputs, targets, groups), layers = NETWORKS[name](seed)
    model.eval()
    with torch.no_grad():
        accuracy = float((model(inputs).argmax(1) == targets).float().mean())
    return Network(name, seed, model, train, inputs, targets, groups, accuracy, layers)


# ---------------------------------------------------------------------- digits


def digits_mlp(
    seed: int, *, l1: float = 0.0, l2: float = 0.0, dropout: float = 0.0, epochs: int = 40, trained: str = ""
) -> Any:
    """64-128-64-32-10 with ReLU by Adam; `trained` names the only module to train (random features elsewhere)."""
    data = isg.load_digits(seed=seed)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, 4):
        modules[f"fc{i}"], modules[f"relu{i}"] = nn.Linear(WIDTHS[i - 1], WIDTHS[i]), nn.ReLU()
        if dropout:
            modules[f"drop{i}"] = nn.Dropout(dropout)
    modules["out"] = nn.Linear(WIDTHS[3], WIDTHS[4])
    model = nn.Sequential(modules)
    weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
    penalty = (lambda: l1 * sum(w.abs().sum() for w in weights)) if l1 else None
    parts = getattr(model, trained) if trained else model
    fit(model, data.train, parts.parameters(), epochs=epochs, decay=l2, penalty=penalty)
    return model, data.train, (*data.test, data.test.targets), ("fc1", "fc2", "fc3")


# ---------------------------------------------------------------------- faces


def faces_cnn(seed: int) -> Any:
    """Three convolutions and two linear layers tell two kinds of generated faces apart."""
    data = isg.make_faces(1800, size=16, seed=seed)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    before = data.train.inputs.shape[1]
    for i, channels in enumerate(CHANNELS, start=1):
        modules[f"conv{i}"] = nn.Conv2d(before, channels, 3, padding=1)
        modules[f"relu{i}"], modules[f"pool{i}"] = nn.ReLU(), nn.MaxPool2d(2)
        before = channels
    modules["flat"] = nn.Flatten()
    side = data.train.inputs.shape[-1] // 2 ** len(CHANNELS)
    modules["dense"], modules["relu"] = nn.Linear(before * side * side, 32), nn.ReLU()
    modules["out"] = nn.Linear(32, len(data.classes))
    model = nn.Sequential(modules)
    fit(model, data.train, model.parameters(), epochs=10)
    graph_data = (data.train.inputs[:300], data.train.targets[:300])
    held = data.test.inputs[:100], data.test.targets[:100]
    return model, graph_data, (*held, held[1]), ("conv1", "conv2", "conv3", "dense")


# ---------------------------------------------------------------------- five tasks for a transformer

TASKS = ("larger", "smaller", "difference", "sum mod 10", "product mod 10")
DIGITS, WIDTH, HEADS, UNITS = 10, 32, 4, 64


class Block(nn.Module):
    """Attention and an MLP of ReLU units, each added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        y = self.norm1(x)
        q, k, v = (part(y).view(n, t, HEADS, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.o(y.transpose(1, 2).reshape(n, t, WIDTH))


class TaskTransformer(nn.Module):
    """Two blocks; reads a task and two digits, and answers with a digit."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(DIGITS + len(TASKS), WIDTH)
        self.places = nn.Embedding(3, WIDTH)
        self.block1, self.block2 = Block(), Block()
        self.up1, self.up2 = nn.Linear(WIDTH, UNITS), nn.Linear(WIDTH, UNITS)
        self.down1, self.down2 = nn.Linear(UNITS, WIDTH), nn.Linear(UNITS, WIDTH)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, DIGITS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(3).expand_as(tokens))
        x = self.block1.attend(x)
        x = x + self.down1(torch.relu(self.up1(self.block1.norm2(x))))
        x = self.block2.attend(x)
        x = x + self.down2(torch.relu(self.up2(self.block2.norm2(x))))
        return self.head(self.norm(x)[:, 0])


def all_questions() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every question there is: tokens (500, 3), the answer, the task. What is learnt is the whole table."""
    a, b = torch.cartesian_prod(torch.arange(DIGITS), torch.arange(DIGITS)).T
    answers = [torch.maximum(a, b), torch.minimum(a, b), (a - b).abs(), (a + b) % DIGITS, (a * b) % DIGITS]
    tokens = [torch.stack([torch.full_like(a, DIGITS + task), a, b], dim=1) for task in range(len(TASKS))]
    return torch.cat(tokens), torch.cat(answers), torch.arange(len(TASKS)).repeat_interleave(DIGITS**2)


def task_transformer(seed: int, *, epochs: int = 400) -> Any:
    """Trained on every question, as no question is kept back: what a community does is measured, not what is new."""
    questions = all_questions()
    model = TaskTransformer()
    fit(model, isg.Split(*questions[:2]), model.parameters(), epochs=epochs)
    return model, questions[:2], questions, ("up1", "up2")


# ---------------------------------------------------------------------- training


def fit(model: nn.Module, split: Any, parameters: Any, *, epochs: int, decay: float = 0.0, penalty: Any = None) -> None:
    """Adam at 2e-3 in batches of 64."""
    optimiser = torch.optim.Adam(parameters, 2e-3, weight_decay=decay)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(split.inputs)).split(64):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(split.inputs[batch]), split.targets[batch])
            (loss if penalty is None else loss + penalty()).backward()
            optimiser.step()


NETWORKS: Mapping[str, Callable[[int], Any]] = {
    "digits, plain": digits_mlp,
    "digits, L2": lambda seed: digits_mlp(seed, l2=1e-3),
    "digits, L1": lambda seed: digits_mlp(seed, l1=1e-4),
    "digits, dropout": lambda seed: digits_mlp(seed, dropout=0.5),
    "digits, random features": lambda seed: digits_mlp(seed, trained="out"),
    "digits, untrained": lambda seed: digits_mlp(seed, epochs=0),
    "faces, convolutions": faces_cnn,
    "tasks, transformer": task_transformer,
}
