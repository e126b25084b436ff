"""ResNet-18 with random weights: 4,813 neurons in 22 layers on one page, and as GEXF for Gephi.

No weights are downloaded: the communities of an untrained network are a control, not a finding, and the page says
what it
cannot say. Pass your own state_dict with --weights to look at a trained one.

Run: python examples/resnet18.py [--out FOLDER] [--weights FILE] [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torchvision.models import resnet18

import innersight_graph as isg


def main(out: Path, *, weights: Path | None = None, quick: bool = False) -> isg.Page:
    torch.manual_seed(0)
    model = resnet18(num_classes=10).eval()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    images, targets = torch.randn(8, 3, 64, 64), torch.arange(8)
    graph = isg.neuron_graph(model, (images, targets))
    layers = graph.hidden_layers[:6] if quick else graph.hidden_layers
    partition = isg.louvain_communities(graph, layers=layers, seed=0)
    page = isg.to_html(
        graph, partition, out / "resnet18.html", title="ResNet-18",
        findings=[("no", "What these communities do: the weights are random.")] if weights is None else [],
    )  # fmt: skip
    isg.export_gexf(graph, partition, out / "resnet18.gexf", max_edges=50_000)
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--weights", type=Path, help="a state_dict of torchvision's resnet18 with 10 classes")
    parser.add_argument("--quick", action="store_true", help="communities of the first layers only")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(main(options.out, weights=options.weights, quick=options.quick))
