"""An MLP on handwritten digits: what do its neurons do together? Makes one page to click through.

Run: python examples/mlp_digits.py [--out FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
import warnings
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

import innersight_graph as isg


def train(model: nn.Module, data: isg.ImageData, *, epochs: int = 40) -> nn.Module:
    """Train in seconds on a laptop."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    inputs, targets = data.train.inputs, data.train.targets
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
    return model.eval()


def network() -> nn.Module:
    torch.manual_seed(0)
    sizes = (64, 128, 64, 32, 10)
    layers: list[nn.Module] = []
    for width, next_width in pairwise(sizes):
        layers += [nn.Linear(width, next_width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def main(out: Path, *, quick: bool = False) -> isg.Page:
    data = isg.load_digits()
    names = [f"digit {k}" for k in range(10)]
    nulls = 19 if quick else 199

    def communities_of(model: nn.Module) -> isg.Report:
        graph = isg.neuron_graph(model, data.train)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the page shows both criteria where they disagree
            partition = isg.em_communities(graph, range(1, 9) if quick else range(1, 21), seed=0)
        return score(graph, partition, model)

    def score(graph: isg.LayeredDiGraph, partition: isg.Partition, model: nn.Module) -> isg.Report:
        evaluators = [
            isg.Structure(graph),
            isg.Ablation(model, data.test, class_names=names, split="test", joint=2),
            isg.Occlusion(model, data.test.inputs[:100], window=3),
        ]
        return isg.evaluate(graph, partition, evaluators, nulls=nulls, seed=0)

    model = train(network(), data, epochs=8 if quick else 40)
    report = communities_of(model)
    classic = score(report.graph, isg.louvain_communities(report.graph, seed=0), model)
    page = isg.to_html(
        report.graph, report.partition, out / "mlp_digits.html", report, title="Digits MLP 64-128-64-32-10", label="EM",
        alternatives={"Louvain": classic, "untrained": communities_of(network().eval())},
        images=(data.test.inputs, data.test.targets),
        figures={"Accuracy lost per community and digit": drops_figure(report, names)},
    )  # fmt: skip
    isg.export_gexf(report.graph, report.partition, out / "mlp_digits.gexf")
    return page


def drops_figure(report: isg.Report, names: list[str]) -> object:
    ablation = report.evaluations["ablation"]
    return isg.ablation_heatmap(
        ablation.maps["class_drop"], names=report.partition.names, class_names=names,
        supported=ablation.p_values["class_drop"] < 0.05,
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--quick", action="store_true", help="a smaller search, for trying it out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(main(options.out, quick=options.quick))
