"""Compare communities by EM, by the block model and by classic community detection, on a trained network and on planted
truth.

    python examples/compare_classic.py

Trains a small network on the digits that come with scikit-learn (no download), detects communities with seven methods,
and prints how much they agree and how they score. Then the same methods on a graph whose communities are known, and on
one that has none: a method that finds communities everywhere says nothing when it finds some in your network.
"""

from __future__ import annotations

import torch

import innersight_graph as isg

METHODS = ["em", "blockmodel", "leiden", "louvain", "spectral", "degree", "random"]


def train(data: isg.ImageData, epochs: int = 30) -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train.inputs)).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(data.train.inputs[batch]), data.train.targets[batch]).backward()
            optimiser.step()
    return model


def main(epochs: int = 30) -> None:
    torch.set_num_threads(1)
    data = isg.load_digits()
    model = train(data, epochs)
    G = isg.neuron_graph(model, data.train)
    ablation = isg.Ablation(model, data.validation)

    def specificity(P: isg.Partition) -> float:
        """How much more class-specific closing a community is than closing random neurons, first layer."""
        ratios = ablation.evaluate(G, P, nulls=30, seed=0).details["specificity_ratio"]
        return float(ratios[G.hidden_layers[0]])

    print("Trained on digits:")
    print(isg.compare(G, METHODS, [isg.Structure(G), specificity], seed=0))

    planted, truth = isg.planted_layers(4, snr=3, seed=0)
    bare = {"density": 1.0, "gauge": "none"}
    options = dict.fromkeys(("em", "leiden", "louvain"), bare) | {
        "spectral": {"n_communities": 4, "gauge": "none"}, "em": {**bare, "n_communities": range(1, 9)},
    }  # fmt: skip
    print("\nFour planted communities (column reference: agreement with the truth):")
    print(isg.compare(planted, METHODS, [len], reference=truth, options=options, seed=0))

    nothing, one = isg.null_layers("hubs", seed=0)
    print("\nNo communities at all, only hubs (column communities: 1 is right):")
    print(isg.compare(nothing, METHODS, [len], reference=one, options=options, seed=0))


if __name__ == "__main__":
    main()
