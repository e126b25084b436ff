"""Train a modular network: brain-inspired modular training (Liu, Gan and Tegmark, arXiv:2305.08746) as a regulariser.

    python examples/bimt_training.py

Neurons get places on a line; a connection costs |weight| times its length. The cost is added to the loss, and every so
often two neurons of a layer trade places when that makes the connections shorter. Trading places moves a neuron
together with all its weights, so the function stays what it was; the example checks that. Then the same network is
trained without the cost, and the communities of both are compared.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

import innersight_graph as isg

WIDTHS = (64, 48, 24, 10)


def make_model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    modules: list[torch.nn.Module] = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(WIDTHS)):
        modules += [torch.nn.ReLU()] * (i > 0) + [torch.nn.Linear(n_in, n_out)]
    return torch.nn.Sequential(*modules)


def linears(model: torch.nn.Sequential) -> list[torch.nn.Linear]:
    return [module for module in model if isinstance(module, torch.nn.Linear)]


def place(n: int) -> torch.Tensor:
    return (torch.arange(n) + 0.5) / n


def connection_cost(model: torch.nn.Sequential, length: float = 2.0, gap: float = 0.5) -> torch.Tensor:
    """Mean over each layer of |w| (length · distance + gap), summed, and of the biases times the gap."""
    total = torch.zeros(())
    for layer in linears(model):
        distance = (place(layer.out_features)[:, None] - place(layer.in_features)).abs()
        total = total + (layer.weight.abs() * (length * distance + gap)).mean() + (layer.bias.abs() * gap).mean()
    return total


@torch.no_grad()
def swap_neurons(model: torch.nn.Sequential, layer: int, i: int, j: int) -> None:
    """Let two neurons of a hidden layer trade places, with everything that goes in and out: same function."""
    before, after = linears(model)[layer], linears(model)[layer + 1]
    pair, traded = [i, j], [j, i]
    before.weight[pair] = before.weight[traded]
    before.bias[pair] = before.bias[traded]
    after.weight[:, pair] = after.weight[:, traded]


@torch.no_grad()
def swap_step(model: torch.nn.Sequential, candidates: int = 30) -> int:
    """Give the strongest neurons of every hidden layer their best trade, if one lowers the cost; count the trades."""
    swaps = 0
    for number in range(len(linears(model)) - 1):
        before, after = linears(model)[number], linears(model)[number + 1]
        n = before.out_features
        for i in (
            (before.weight.abs().sum(1) + after.weight.abs().sum(0)).argsort(descending=True)[:candidates].tolist()
        ):
            # cost[k, p]: neuron k at place p, with its neighbours where they are.
            inward = (place(before.in_features)[:, None] - place(n)).abs()
            outward = (place(after.out_features)[:, None] - place(n)).abs()
            cost = (
                before.weight.abs() @ inward / before.weight.numel()
                + after.weight.abs().T @ outward / after.weight.numel()
            )
            change = cost[i] + cost[:, i] - cost[i, i] - cost.diagonal()
            j = int(change.argmin())
            if float(change[j]) < -1e-9:
                swap_neurons(model, number, i, j)
                swaps += 1
    return swaps


def train(data: isg.ImageData, strength: float, *, epochs: int = 40, swap_every: int = 5) -> torch.nn.Sequential:
    """Train with the cost at a tenth of its strength at first and at full strength from half way on."""
    model = make_model()
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.0)
    for epoch in range(epochs):
        weight = strength * (0.1 if epoch < epochs // 2 else 1.0)
        for batch in torch.randperm(len(data.train.inputs)).split(64):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(data.train.inputs[batch]), data.train.targets[batch])
            (loss + weight * connection_cost(model)).backward()
            optimiser.step()
        if strength and epoch % swap_every == swap_every - 1:
            inputs = data.train.inputs[:100]
            with torch.no_grad():
                clean = model(inputs)
            swap_step(model)
            with torch.no_grad():
                assert torch.allclose(clean, model(inputs), atol=1e-4), "a trade of places changed the function"
            # Moments of the optimiser belong to places, not to neurons; after trades they start anew.
            optimiser = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.0)
    return model


def main(epochs: int = 40) -> None:
    torch.set_num_threads(1)
    data = isg.load_digits()
    for name, strength in (("without the cost", 0.0), ("with the cost", 3.0)):
        model = train(data, strength, epochs=epochs)
        with torch.no_grad():
            accuracy = float((model(data.test.inputs).argmax(1) == data.test.targets).float().mean())
        G = isg.neuron_graph(model, data.train)
        found = isg.clusterability(G, 6, nulls=19, n_init=5, seed=0)
        P = isg.geometric_communities(G, 4, seed=0)
        B = isg.blockmodel_communities(G, 4, seed=0)
        print(f"{name}: test accuracy {accuracy:.3f}, connection cost {float(connection_cost(model).detach()):.3f}")
        print(f"  n-cut {found.ncut:.2f}, shuffled {found.null_mean:.2f} (p {found.p_value:.2f})")
        print(
            f"  geometric and block model agree: ARI {isg.agreement(P, B).ari:.2f}; "
            f"sizes {np.array([len(c) for c in P]).tolist()}"
        )


if __name__ == "__main__":
    main()
