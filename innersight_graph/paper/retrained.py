"""Liu et al.'s brain-inspired modular training: the same network trained with a price on long connections.

It gives another network, so its rows stand beside the others and are not like for like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from innersight_graph.detection.geometric import geometric_communities
from innersight_graph.paper.networks import NETWORKS, train
from innersight_graph.paper.study import Network, Study, load_weights
from innersight_graph.partition import Partition

__all__ = ["LABEL", "METHOD", "Geometry", "retrained"]

METHOD, LABEL = "liu retrained", "Liu et al., retrained"
# Price of a unit of connection cost in the loss, and of length within a layer against the gap between layers.
PRICE, LENGTH, GAP = 0.5, 2.0, 0.5
# Neurons are moved before these shares of the training, while the network still settles.
MOVES = 6


@dataclass
class Geometry:
    """Neurons on lines, one line per layer of a plain sequence of layers, and the price of its connections.

    Moving neurons to other places of their line leaves the network's function as it is.
    """

    maps: list[nn.Linear | nn.Conv2d]
    places: list[torch.Tensor]

    @classmethod
    def of(cls, model: nn.Sequential) -> Geometry:
        """Place the neurons of every layer evenly from 0 to 1."""
        maps = [m for m in model if isinstance(m, nn.Linear | nn.Conv2d)]
        widths = [_strength(maps[0]).shape[1], *(len(m.weight) for m in maps)]
        return cls(maps, [torch.linspace(0, 1, n) for n in widths])

    def cost(self) -> torch.Tensor:
        """Return the mean over connections of |w| times length and gap, summed over layers, times the price."""
        total = torch.zeros(())
        for layer, weights in enumerate(self._weights()):
            distance = (self.places[layer + 1][:, None] - self.places[layer][None, :]).abs()
            total = total + (weights * (LENGTH * distance + GAP)).mean()
        return PRICE * total

    def move(self) -> None:
        """Give each hidden layer in turn its best order, its neighbours fixed: an assignment problem."""
        from scipy.optimize import linear_sum_assignment

        weights = [w.detach().numpy() for w in self._weights()]
        places = [p.numpy() for p in self.places]
        for layer in range(1, len(places) - 1):
            slots = np.sort(places[layer])
            back = weights[layer - 1] @ np.abs(places[layer - 1][:, None] - slots[None, :]) / weights[layer - 1].size
            ahead = weights[layer].T @ np.abs(places[layer + 1][:, None] - slots[None, :]) / weights[layer].size
            places[layer] = slots[linear_sum_assignment(back + ahead)[1]]
            self.places[layer] = torch.from_numpy(places[layer])

    def _weights(self) -> list[torch.Tensor]:
        """Absolute weights (following, previous); several between two neurons are averaged."""
        tables = []
        for layer, module in enumerate(self.maps):
            table = _strength(module)
            width = len(self.places[layer])
            tables.append(table.reshape(len(table), width, -1).mean(dim=2))
        return tables


def retrained(study: Study, kind: str, number: int) -> tuple[Network, dict[int, Partition]]:
    """Train the network with the price, and cut its lines into communities for each detection seed."""
    seed = study.settings.seed + number
    model, untrained = (NETWORKS[kind](study.data, seed=seed) for _ in range(2))
    path = study.store.work / f"{kind}-{number}-retrained.pt"
    if not load_weights(model, path):
        study.say(f"training the {kind} network with Liu et al.'s price on connections")
        geometry = Geometry.of(model)

        def after_epoch(epoch: int) -> None:
            if epoch < MOVES:
                geometry.move()

        train(
            model,
            study.data.train,
            kind=kind,
            name=study.data.name,
            seed=seed,
            quick=study.settings.quick,
            penalty=geometry.cost,
            after_epoch=after_epoch,
        )
        study.save_weights(model, path)
    network = Network(kind, number, model, untrained, study.data, study.settings)
    numbers = study.numbers(kind, number)
    live = {name: int((~network.graph.node_attributes[name]["silent"]).sum()) for name in network.layers}
    fitting = {name: max(1, min(numbers[name], live[name])) for name in network.layers}
    # Placing is deterministic: the seeds' runs are equal, as in the tables they are meant for.
    found = geometric_communities(
        network.graph, fitting, layers=[name for name in network.layers if live[name]], seed=seed
    )
    return network, dict.fromkeys(study.settings.detection_seeds, found)


def _strength(module: nn.Linear | nn.Conv2d) -> torch.Tensor:
    weight = module.weight.abs()
    return weight.mean(dim=(2, 3)) if weight.ndim == 4 else weight
