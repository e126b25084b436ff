"""How far partitions of a tanh network move when neurons are turned, which changes no output.

    python tests/benchmarks/bench_signs.py
    python tests/benchmarks/bench_signs.py nothing

The first prints a row for each method: the mean adjusted Rand index (smallest to largest over networks) between the
partitions of a network trained on the digits and of its copy with half of the hidden neurons turned at random. The
second, about 15 minutes, shows that settling signs finds nothing in tanh networks at initialisation: hidden layers that
the block model cuts, by default and only in its sensitive mode, beside the same weights with signs as they are.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import innersight_graph as isg

WIDTHS, NETWORKS, STEPS, UNTRAINED = (64, 64, 48, 10), 5, 200, 24
METHODS = {"em": {"n_communities": 4}, "blockmodel": {"n_communities": 4}, "louvain": {}, "leiden": {}}


def trained(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [m for a, b in itertools.pairwise(WIDTHS) for m in (nn.Linear(a, b), nn.Tanh())][:-1]
    model, digits = nn.Sequential(*layers), isg.load_digits(flat=True).train
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(STEPS):
        optimiser.zero_grad()
        functional.cross_entropy(model(digits.inputs), digits.targets).backward()
        optimiser.step()
    return model.eval()


def turn(model: nn.Sequential) -> None:
    """Turn half of the hidden neurons: their weights and biases, and the weights that read them."""
    linears = [m for m in model if isinstance(m, nn.Linear)]
    with torch.no_grad():
        for into, out in itertools.pairwise(linears):
            sign = torch.where(torch.rand(into.out_features) < 0.5, -1.0, 1.0)
            into.weight.mul_(sign[:, None])
            into.bias.mul_(sign)
            out.weight.mul_(sign)


def unmarked(G: isg.LayeredDiGraph) -> isg.LayeredDiGraph:
    """Return the graph as if the sign of every neuron were meant."""
    return isg.LayeredDiGraph.from_arrays([replace(layer, odd=False) for layer in G.layers], dict(G.connections))


INITIAL = {
    "uniform": lambda p: nn.init.kaiming_uniform_(p, a=5**0.5),
    "normal": nn.init.normal_,
    "heavy-tailed": lambda p: p.data.copy_(torch.distributions.StudentT(3.0).sample(p.shape)),
}


def untrained(kind: str, seed: int) -> isg.LayeredDiGraph:
    torch.manual_seed(seed)
    widths = (24, 64, 48, 40, 10) if seed % 2 else (64, 128, 96, 10)
    layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.Tanh())][:-1]
    for layer in layers[::2]:
        INITIAL[kind](layer.weight)
    return isg.neuron_graph(nn.Sequential(*layers), example=torch.zeros(1, widths[0]))


def nothing() -> None:
    print("| weights | signs | layers | cut | cut in the sensitive mode only |\n| --- | --- | --- | --- | --- |")
    for kind in INITIAL:
        for name, view in (("settled", lambda G: G), ("as they are", unmarked)):
            modes: Counter[str] = Counter()
            for seed in range(UNTRAINED):
                P = isg.blockmodel_communities(view(untrained(kind, seed)), sensitive=True, seed=seed)
                modes.update(P.stats[layer]["mode"] for layer in P.stats)
            print(f"| {kind} | {name} | {modes.total()} | {modes['bound']} | {modes['weak evidence']} |", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:] == ["nothing"]:
        nothing()
        return
    pairs = []
    for seed in range(NETWORKS):
        model, example = trained(seed), torch.zeros(1, WIDTHS[0])
        first = isg.neuron_graph(model, example=example)
        turn(model)
        pairs.append((first, isg.neuron_graph(model, example=example)))
    print("| method | signs settled | signs as trained |\n| --- | --- | --- |")
    for method, options in METHODS.items():
        cells = []
        for view in (lambda G: G, unmarked):
            found = [[isg.detect(view(G), method, seed=0, **options) for G in pair] for pair in pairs]
            ari = np.array([isg.agreement(*two).ari for two in found])
            cells.append(f"{ari.mean():.2f} ({ari.min():.2f} to {ari.max():.2f})")
        print(f"| {method} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
