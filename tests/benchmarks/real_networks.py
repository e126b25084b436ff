"""Which methods find communities that mean something in trained networks? One resumable command:

    python tests/benchmarks/real_networks.py real.csv --seeds 4

Every line of the file is one network, method and layer: how much more class-specific closing a community is than
closing a random group of its size (1 = no more), by setting outputs to zero and to their mean, and the communities
found. Nothing is selected on the images used for scoring.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import innersight_graph as isg
from innersight_graph.planted.networks import sequential, train_mlp

FIELDS = ("network", "seed", "accuracy", "method", "layer", "communities", "ratio", "p_partition", "stability")
KNOWN = {"fc1": 10, "fc2": 8, "fc3": 6}
WIDTHS = (64, 128, 64, 32, 10)


def digits_mlp(seed: int, *, l1: float = 0.0, epochs: int = 40) -> tuple[Any, Any, Any]:
    data = isg.load_digits(seed=seed)
    rng = np.random.default_rng(seed)
    x, y = data.train.inputs.numpy().astype(float), data.train.targets.numpy()
    layers = train_mlp(x, y, WIDTHS, epochs=epochs, rng=rng, lr=2e-3, l1=l1)
    return sequential(layers, torch.float32), data.train, data.test


def faces_cnn(seed: int) -> tuple[Any, Any, Any]:
    data = isg.make_faces(seed=seed)
    torch.manual_seed(seed)
    size = data.train.inputs.shape[-1] // 8
    model = torch.nn.Sequential(
        torch.nn.Conv2d(data.train.inputs.shape[1], 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 48, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(48 * size * size, 32), torch.nn.ReLU(), torch.nn.Linear(32, len(data.classes)),
    )  # fmt: skip
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(6):
        for batch in torch.randperm(len(data.train.inputs)).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(data.train.inputs[batch]), data.train.targets[batch]).backward()
            optimiser.step()
    return model.eval(), data.train, data.test


NETWORKS: dict[str, Callable[[int], tuple[Any, Any, Any]]] = {
    "digits, plain": digits_mlp,
    "digits, L1": lambda seed: digits_mlp(seed, l1=1e-4),
    "digits, untrained": lambda seed: digits_mlp(seed, epochs=0),
    "faces, convolutions": faces_cnn,
}


def methods(G: Any, model: Any, train: Any, seed: int) -> dict[str, Callable[[], Any]]:
    number = {layer: KNOWN.get(layer, 6) for layer in G.hidden_layers}
    features = isg.activations(model, train.inputs[:500], G)
    # One call for each layer, since em_communities takes one number for all.
    em = lambda **options: [isg.em_communities(G, number[n], layers=n, seed=seed, **options) for n in G.hidden_layers]  # noqa: E731
    return {
        "EM, structured": em,
        "EM, as in the paper": lambda: em(init="random", n_init=10),
        "EM, density 1": lambda: em(density=1.0),
        "EM, number by ICL": lambda: [isg.em_communities(G, range(1, 17), seed=seed)],
        "block model": lambda: [isg.blockmodel_communities(G, number, seed=seed)],
        "block model, estimated": lambda: [isg.blockmodel_communities(G, seed=seed)],
        "Leiden, signed": lambda: [isg.leiden_communities(G, seed=seed)],
        "Leiden, absolute": lambda: [isg.leiden_communities(G, sign="absolute", seed=seed)],
        "spectral (Filan)": lambda: [isg.spectral_communities(G, 12, seed=seed)],
        "correlation (Hod)": lambda: [isg.specialization_communities(G, number, features=features, seed=seed)],
        "co-activation": lambda: [isg.coactivation_communities(G, number, features=features, seed=seed)],
        "by degree": lambda: [isg.degree_communities(G, number)],
        "random": lambda: [isg.random_communities(G, number, seed=seed)],
    }


def score(G: Any, P: Any, model: Any, test: Any, seed: int) -> dict[str, tuple[int, float, float]]:
    found = isg.Ablation(model, (test.inputs, test.targets)).evaluate(G, P, nulls=60, seed=seed)
    ratio, p = found.details["specificity_ratio"], found.p_values["partition"]
    return {
        layer: (P.stats[layer]["n_communities"], float(ratio[layer]), float(p[layer]))
        for layer in P.layers
        if layer in ratio
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--methods", nargs="*")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    done = set()
    if chosen.out.exists():
        with chosen.out.open(encoding="utf-8", newline="") as file:
            done = {(row["network"], int(row["seed"]), row["method"]) for row in csv.DictReader(file)}
    with chosen.out.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if not done:
            writer.writeheader()
        for seed in range(chosen.seeds):
            for network in chosen.networks:
                model, train, test = NETWORKS[network](seed)
                with torch.no_grad():
                    accuracy = float((model(test.inputs).argmax(1) == test.targets).float().mean())
                G = isg.neuron_graph(model, (train.inputs[:500], train.targets[:500]))
                for name, run in methods(G, model, train, seed).items():
                    if (network, seed, name) in done or (chosen.methods and name not in chosen.methods):
                        continue
                    for P in run():
                        for layer, (count, ratio, p) in score(G, P, model, test, seed).items():
                            writer.writerow(
                                {
                                    "network": network, "seed": seed, "accuracy": round(accuracy, 4),
                                    "method": name, "layer": layer,
                                    "communities": count, "ratio": round(ratio, 3), "p_partition": round(p, 4),
                                    "stability": P.stats[layer].get("stability"),
                                }
                            )  # fmt: skip
                    file.flush()


if __name__ == "__main__":
    main()
