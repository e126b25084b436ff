"""The sign pattern of clusterability: z of the normalised cut against shuffles, on digits networks trained in four
ways.

    python tests/benchmarks/sign_pattern.py --seeds 3

Expected after Filan et al. (arXiv:2103.03386): clusterable initialisation, far below two tasks in two halves, below
plain training, below L1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import innersight_graph as isg
from innersight_graph.planted.networks import _pairs, sequential, train_mlp

HIDDEN = (96, 96, 96)
CLUSTERS = 12


def clusterable(i: int, W: np.ndarray) -> np.ndarray:
    """Weights within a block enlarged and others shrunk, so that the network starts with as many parts as clusters."""
    z, w = np.arange(W.shape[0]) % CLUSTERS, np.arange(W.shape[1]) % CLUSTERS
    return W * np.where(z[:, None] == w, 1 + 0.4 * (CLUSTERS - 1), 0.6)


def single(rng: np.random.Generator, **options: Any) -> list[Any]:
    data = isg.load_digits(seed=0).train
    x, y = data.inputs.numpy().astype(float), data.targets.numpy()
    return train_mlp(x, y, (64, *HIDDEN, 10), epochs=120, rng=rng, **options)


def halves(rng: np.random.Generator) -> list[Any]:
    x, pair = _pairs(isg.load_digits(seed=0).train, rng, 4)
    return train_mlp(x, pair, (128, *HIDDEN, 20), epochs=30, rng=rng, heads=2)


CONDITIONS: dict[str, Callable[[np.random.Generator], list[Any]]] = {
    "clusterable initialisation": lambda rng: single(rng, start=clusterable),
    "halves, different tasks": halves,
    "plain": single,
    "L1": lambda rng: single(rng, l1=3e-4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--nulls", type=int, default=50)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name, train in CONDITIONS.items():
        found = []
        for seed in range(chosen.seeds):
            model = sequential(train(np.random.default_rng(seed)), torch.float32)
            G = isg.neuron_graph(model, example=torch.zeros(1, model[0].in_features))
            found.append(isg.clusterability(G, CLUSTERS, nulls=chosen.nulls, n_init=5, seed=seed))
        cuts, nulls, z = (np.mean([getattr(f, key) for f in found]) for key in ("ncut", "null_mean", "z"))
        print(
            f"{name:28s} n-cut {cuts:6.3f}  shuffled {nulls:6.3f}  z {z:7.2f}  "
            f"p {np.mean([f.p_value for f in found]):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
