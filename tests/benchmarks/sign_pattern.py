"""The sign pattern of clusterability: z of the normalised cut against shuffles, for seven ways of training on digits.

    python tests/benchmarks/sign_pattern.py

writes `sign_pattern.csv` (resumable: a line for each network) and prints the table. Expected after Filan et al.
(arXiv:2103.03386, released table: MNIST, four hidden layers of 256, 12 clusters, 50 shuffles, 5 networks each, nothing
pruned): clusterable initialisation -43.7, far below two different halves -7.2, below plain training -4.5, below L1
+18.0; besides, dropout -3.0, two equal halves -2.6, L2 +4.0.

As there: four hidden layers of 256, Glorot initialisation, Adam at 1e-3, batches of 128, penalties of 5e-5, dropout of
a half, ten blocks in the clusterable initialisation, 12 clusters, 50 shuffles, z by the population standard deviation,
trained weights without biases. "Halves" are one task, not two: two digits squeezed to half their width side by side,
one answer. Different halves: their sum modulo 10. Equal halves: two images of one digit, which it is. Not as there: the
embedded digits, enlarged to 20x20 and laid into 28x28 pixels off the middle by up to two, which is MNIST's format with
1,079 originals; 3,000 steps; and in the published code L2 networks have an L1 penalty on their first layer.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

import innersight_graph as isg

WIDTHS = (784, 256, 256, 256, 256, 10)
CLUSTERS, BLOCKS, STEPS, DRAWN = 12, 10, 3000, 20_000
FIELDS = ("condition", "seed", "accuracy", "ncut", "null_mean", "null_sd", "z", "p_value")
Task = tuple[torch.Tensor, torch.Tensor]


# ---------------------------------------------------------------------- tasks


def digits(split: str, rng: np.random.Generator) -> Task:
    """20x20 digits in 28x28 pixels, each off the middle by up to two pixels either way."""
    images, targets = getattr(isg.load_digits(seed=0), split)
    drawn = rng.integers(len(targets), size=DRAWN)
    small = nn.functional.interpolate(images.reshape(-1, 1, 8, 8).float(), size=(20, 20), mode="bilinear")[drawn, 0]
    first = torch.as_tensor(rng.integers(2, 7, size=(2, DRAWN, 1, 1))) + torch.arange(20)
    large = torch.zeros(DRAWN, 28, 28)
    large[torch.arange(DRAWN)[:, None, None], first[0].transpose(1, 2), first[1]] = small
    return large.flatten(1), targets[drawn]


def different_halves(split: str, rng: np.random.Generator) -> Task:
    """Which digit is the sum of both, modulo 10?"""
    images, targets = digits(split, rng)
    left, right = rng.integers(len(targets), size=(2, DRAWN))
    return side_by_side(images, left, right), (targets[left] + targets[right]) % 10


def equal_halves(split: str, rng: np.random.Generator) -> Task:
    """Which digit is seen twice?"""
    images, targets = digits(split, rng)
    left = rng.integers(len(targets), size=DRAWN)
    others = [np.flatnonzero(targets.numpy() == digit) for digit in range(10)]
    right = np.array([rng.choice(others[digit]) for digit in targets[left].tolist()])
    return side_by_side(images, left, right), targets[left]


def side_by_side(images: torch.Tensor, left: Any, right: Any) -> torch.Tensor:
    narrow = images.reshape(-1, 28, 14, 2).mean(3)
    return torch.cat([narrow[left], narrow[right]], dim=2).flatten(1)


# ---------------------------------------------------------------------- training


def blocks_enlarged(weight: torch.Tensor) -> torch.Tensor:
    """Weights within a block times 4.6, others times 0.6: the network starts with as many parts as blocks."""
    z, w = torch.arange(weight.shape[0]) % BLOCKS, torch.arange(weight.shape[1]) % BLOCKS
    return weight * torch.where(z[:, None] == w, 1 + 0.4 * (BLOCKS - 1), 0.6)


def train(
    task: Callable[..., Task],
    seed: int,
    *,
    blocks: bool = False,
    dropout: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
) -> tuple[nn.Sequential, float]:
    """Return the network and its accuracy on test images."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    inputs, targets = task("train", rng)
    linears = [nn.Linear(a, b) for a, b in itertools.pairwise(WIDTHS)]
    for linear in linears:
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        if blocks:
            linear.weight.data = blocks_enlarged(linear.weight.data)
    between: list[nn.Module] = [nn.ReLU(), nn.Dropout(dropout)]
    model = nn.Sequential(*(m for linear in linears for m in (linear, *between)))[: -len(between)]
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(STEPS):
        batch = torch.randint(len(targets), (128,))
        loss = nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
        for linear in linears if l1 or l2 else []:
            loss = loss + l1 * linear.weight.abs().sum() + l2 * linear.weight.square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    inputs, targets = task("test", rng)
    with torch.no_grad():
        return model, float((model.eval()(inputs).argmax(1) == targets).float().mean())


CONDITIONS: Mapping[str, Callable[[int], tuple[nn.Sequential, float]]] = {
    "clusterable initialisation": lambda seed: train(digits, seed, blocks=True),
    "halves, different digits": lambda seed: train(different_halves, seed),
    "plain": lambda seed: train(digits, seed),
    "dropout": lambda seed: train(digits, seed, dropout=0.5),
    "halves, equal digits": lambda seed: train(equal_halves, seed),
    "L2": lambda seed: train(digits, seed, l2=5e-5),
    "L1": lambda seed: train(digits, seed, l1=5e-5),
}


# ---------------------------------------------------------------------- the table


def measure(condition: str, seed: int) -> dict[str, Any]:
    model, accuracy = CONDITIONS[condition](seed)
    G = isg.neuron_graph(model, example=torch.zeros(1, WIDTHS[0]))
    found = isg.clusterability(G, CLUSTERS, nulls=50, n_init=5, seed=seed)._asdict()
    return {"condition": condition, "seed": seed, "accuracy": accuracy, **{k: found[k] for k in FIELDS[3:]}}


def rows_of(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: v if k == "condition" else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def table(rows: list[dict[str, Any]]) -> str:
    """Means over networks, z with its 95 % t-interval, and the chance that a network lies below the plain one."""
    lines = ["| condition | networks | accuracy | n-cut | shuffled | z | below plain |", "|" + " --- |" * 7]
    plain = [row["z"] for row in rows if row["condition"] == "plain"]
    for name in CONDITIONS:
        own = [row for row in rows if row["condition"] == name]
        if len(own) < 2:
            continue
        z = np.array([row["z"] for row in own])
        half = stats.t.ppf(0.975, len(z) - 1) * z.std(ddof=1) / np.sqrt(len(z))
        below = np.mean(z[:, None] < np.array(plain)) if plain and name != "plain" else np.nan
        cut, null, accuracy = (np.mean([row[key] for row in own]) for key in ("ncut", "null_mean", "accuracy"))
        last = "–" if np.isnan(below) else f"{below:.2f}"
        lines.append(
            f"| {name} | {len(z)} | {accuracy:.3f} | {cut:.3f} | {null:.3f} | "
            f"{z.mean():.1f} ({z.mean() - half:.1f} to {z.mean() + half:.1f}) | {last} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, default=Path(__file__).parent / "sign_pattern.csv")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--conditions", nargs="*", choices=list(CONDITIONS), default=list(CONDITIONS))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if not chosen.csv.exists():
        chosen.csv.write_text(",".join(FIELDS) + "\n", encoding="utf-8")
    done = {(row["condition"], int(row["seed"])) for row in rows_of(chosen.csv)}
    for seed in range(chosen.seeds):
        for condition in chosen.conditions:
            if (condition, seed) not in done:
                row = measure(condition, seed)
                with chosen.csv.open("a", encoding="utf-8", newline="") as file:
                    csv.DictWriter(file, FIELDS, lineterminator="\n").writerow(
                        {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()}
                    )
    print(table(rows_of(chosen.csv)))


if __name__ == "__main__":
    main()
