"""The demo's network: 64-128-64-32-10 with ReLU, trained in a second."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn

from innersight_graph.data import Split

__all__ = ["WIDTHS", "make_network", "train_network"]

WIDTHS = (64, 128, 64, 32, 10)


def make_network(widths: tuple[int, ...] = WIDTHS, *, seed: int = 0) -> nn.Sequential:
    """Return an untrained ReLU network with layers ``fc1``, ``fc2``, …, ``out``.

    Parameters
    ----------
    widths : tuple of int
        Inputs, hidden layers, outputs.
    seed : int
        Of the initial weights; the global random state is not touched.

    Returns
    -------
    torch.nn.Sequential

    Examples
    --------
    >>> [name for name, _ in make_network((4, 3, 2)).named_children()]
    ['flatten', 'fc1', 'relu1', 'out']
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for i, (n_in, n_out) in enumerate(pairwise(widths[:-1]), start=1):
            parts[f"fc{i}"] = nn.Linear(n_in, n_out)
            parts[f"relu{i}"] = nn.ReLU()
        parts["out"] = nn.Linear(widths[-2], widths[-1])
    return nn.Sequential(parts).eval()


def train_network(model: nn.Module, split: Split, *, epochs: int = 40, batch: int = 32, seed: int = 0) -> nn.Module:
    """Train a classifier in place with Adam (learning rate 2e-3) and cross-entropy.

    Parameters
    ----------
    model : torch.nn.Module
    split : Split
        Training images and classes.
    epochs, batch : int
    seed : int
        Of the order of the images.

    Returns
    -------
    torch.nn.Module
        The same model, in eval mode.
    """
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(split.targets), generator=order).split(batch):
            optimiser.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(split.inputs[rows]), split.targets[rows]).backward()
            optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return model.eval()
