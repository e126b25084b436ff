"""One model for the whole chain: the feature groups of a layer are the communities of its neighbour.

Every connection (source, target) is one block whose rows are the source's neurons and whose features are the target's.
A layer's message is the sum over the blocks it stands in, as rows or as features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from innersight_graph.detection._blockmodel.expectation import Floats
from innersight_graph.detection._blockmodel.variational import Block, best_strength, entropy, label_cost

Pair = tuple[str, str]


@dataclass(frozen=True)
class Chain:
    """A joint fit: soft labels of every layer, a table for every connection, and the bound in nats."""

    layers: Mapping[str, Floats]
    tables: Mapping[Pair, Floats]
    strengths: Mapping[Pair, float]
    bound: float
    n_iter: int = 0


def assess_chain(blocks: Mapping[Pair, Block], layers: Mapping[str, Floats]) -> Chain:
    """Tables and bound of given soft labels of every layer."""
    tables = {pair: block.statistics(layers[pair[0]], layers[pair[1]]) for pair, block in blocks.items()}
    scored = {pair: best_strength(blocks[pair], table) for pair, table in tables.items()}
    bound = sum(evidence for evidence, _ in scored.values())
    bound += sum(label_cost(Q.sum(axis=0)) + entropy(Q) for Q in layers.values())
    return Chain(layers, tables, {pair: strength for pair, (_, strength) in scored.items()}, float(bound))


def improve_chain(blocks: Mapping[Pair, Block], start: Chain, *, max_iter: int = 40, tol: float = 1e-3) -> Chain:
    """Sweep the layers in order until no responsibility moves by `tol`; return the chain with the best bound."""
    best = current = start
    for iteration in range(1, max_iter + 1):
        layers = dict(current.layers)
        θ = {pair: blocks[pair].parameters(current.tables[pair], current.strengths[pair]) for pair in blocks}
        moved = 0.0
        for name, before in current.layers.items():
            L = np.log(np.maximum(before.mean(axis=0), 1e-12)) + np.zeros_like(before)
            for (source, target), block in blocks.items():
                if source == name:
                    L += block.row_messages(θ[source, target], layers[target])
                elif target == name:
                    L += block.column_messages(θ[source, target], layers[source])
            L = np.exp(L - L.max(axis=1, keepdims=True))
            layers[name] = L / L.sum(axis=1, keepdims=True)
            moved = max(moved, float(np.abs(layers[name] - before).max()))
        current = assess_chain(blocks, layers)
        current = Chain(current.layers, current.tables, current.strengths, current.bound, iteration)
        if current.bound > best.bound:
            best = current
        if moved < tol:
            break
    return best


def survives(chain: Chain, start: Chain) -> bool:
    """Whether every group that held neurons at the start still holds some, and the bound rose.

    Near the limit of detectability the joint model collapses where separate fits still see something; then the
    separate fits are kept.
    """
    alive = all(
        np.unique(Q.argmax(axis=1)).size == np.unique(start.layers[name].argmax(axis=1)).size
        for name, Q in chain.layers.items()
    )
    return alive and chain.bound >= start.bound
