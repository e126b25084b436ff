"""Graph analytics on a trained network with plain NetworkX: centralities, motifs, and the flow between communities.

    python examples/graph_analytics.py

Trains a small classifier on scikit-learn's digits, turns it into a layered signed graph, groups its neurons with Leiden
on signed modularity (EM where leidenalg is missing), and asks NetworkX about both graphs. A few seconds on one core.
"""

from __future__ import annotations

from collections import Counter

import networkx as nx
import torch
from sklearn.datasets import load_digits
from torch import nn

import innersight_graph as isg


def trained_model() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A 64-48-24-10 classifier and the images it was not trained on."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    targets = torch.tensor(digits.target)
    train, test = slice(0, 1300), slice(1300, None)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[train]), targets[train]).backward()
        optimizer.step()
    return model, images[test], targets[test]


def top(scores: dict[object, float], count: int = 3) -> str:
    best = sorted(scores.items(), key=lambda item: -item[1])[:count]
    return ", ".join(f"{node} {score:.4f}" for node, score in best)


def motifs(G: nx.DiGraph, strongest: int = 400) -> Counter[str]:
    """Signs of the two-step paths among the strongest connections: does a path excite or suppress, and how?"""
    edges = sorted(G.edges(data="weight"), key=lambda edge: -abs(edge[2]))[:strongest]
    strong = nx.DiGraph()
    strong.add_weighted_edges_from(edges)
    counts: Counter[str] = Counter()
    for _, middle, first in strong.edges(data="weight"):
        for _, _, second in strong.out_edges(middle, data="weight"):
            counts["+-"[first < 0] + "+-"[second < 0]] += 1
    return counts


def main() -> None:
    model, images, targets = trained_model()
    accuracy = (model(images).argmax(dim=1) == targets).float().mean().item()
    print(f"accuracy on held-out images: {accuracy:.3f}")

    G = isg.neuron_graph(model, [(images, targets)])
    print(f"{G}: layers {', '.join(layer.name for layer in G.layers)}")

    # 1. G is a NetworkX graph: every function takes it. backend="innersight" reads its arrays instead of its edges.
    print("\ncentralities")
    print("  activation sent:     ", top(dict(G.out_degree(weight="activation"))))
    print("  inhibition received: ", top(dict(G.in_degree(weight="inhibition"))))
    print("  PageRank:            ", top(nx.pagerank(G, weight="activation", backend="innersight")))
    generations = [len(level) for level in nx.topological_generations(G)]
    print(f"  {len(generations)} topological generations of {generations} neurons")

    print("\nmotifs: signs along two-step paths of the 400 strongest connections")
    print("  " + ", ".join(f"{sign}: {count}" for sign, count in sorted(motifs(G).items())))

    # 2. Communities, and the graph of communities.
    try:
        P = isg.leiden_communities(G, seed=0)
    except isg.MissingExtraError:
        P = isg.em_communities(G, seed=0)
    print(f"\n{P}")
    cover = P.cover(G)
    print(f"  modularity on the layered graph: {nx.community.modularity(G, cover, weight='activation'):.3f}")
    print("  (at most 0 by construction: no connection lies inside a layer; Leiden maximises it on the projections)")

    C = isg.community_graph(G, P, rest=True)
    print(f"\nthe graph of communities: {len(C)} nodes, {C.number_of_edges()} edges")
    start, end = G.layers[0].name, G.layers[-1].name
    strongest = sorted(C.edges(data=True), key=lambda edge: -abs(edge[2]["weight"]))[:5]
    for u, v, data in strongest:
        sums = f"+{data['activation']:.1f} -{data['inhibition']:.1f}"
        print(f"  {u} -> {v}: {sums}, {data['share']:.0%} of what {u} sends")
    for part in ("activation", "inhibition"):
        value, flow = nx.maximum_flow(C, start, end, capacity=part)
        through = {node: sum(flow[node].values()) for node in C if node not in (start, end)}
        print(f"  maximum {part} flow {start} -> {end}: {value:.1f}, mostly through {top(through, 2)}")
    print("  betweenness:", top(nx.betweenness_centrality(C)))

    # 3. Leave for another tool.
    nx.write_graphml(C, "communities.graphml")
    print("\nwrote communities.graphml")


if __name__ == "__main__":
    main()
