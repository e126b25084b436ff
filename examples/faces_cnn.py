"""A small CNN that tells two kinds of generated faces apart: which kernels look at the ears?

Run: python examples/faces_cnn.py [--out FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from torch import nn

import innersight_graph as isg


class Net(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.fc = nn.Linear(48, 32)
        self.out = nn.Linear(32, classes)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = self.pool(torch.relu(conv(x)))
        return self.out(torch.relu(self.fc(x.mean((2, 3)))))


def train(model: nn.Module, split: isg.Split, *, epochs: int) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(split.inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(split.inputs[batch]), split.targets[batch]).backward()
            optimizer.step()
    return model.eval()


def main(out: Path, *, quick: bool = False) -> isg.Page:
    torch.manual_seed(0)
    data = isg.make_faces(400 if quick else 1500, seed=0)
    channels = data.train.inputs.shape[1]
    model = Net(len(data.classes))
    model.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
    train(model, data.train, epochs=2 if quick else 10)
    graph = isg.neuron_graph(model, data.train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        partition = isg.em_communities(graph, range(1, 5 if quick else 13), seed=0)
    images = data.test.inputs[: 20 if quick else 60]
    evaluators = [
        isg.Structure(graph),
        isg.Ablation(model, data.test, class_names=data.classes, split="test"),
        isg.Occlusion(model, images, window=5, stride=2),
    ]
    report = isg.evaluate(graph, partition, evaluators, nulls=19 if quick else 199, seed=0)
    return isg.to_html(
        graph, partition, out / "faces_cnn.html", report, title="A CNN on generated faces", label="EM",
        alternatives={"Louvain": isg.louvain_communities(graph, seed=0)}, images=(data.test.inputs, data.test.targets),
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--quick", action="store_true", help="less data and a smaller search, for trying it out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(main(options.out, quick=options.quick))
