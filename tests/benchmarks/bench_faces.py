"""Do key communities look at the ears? ``python tests/benchmarks/bench_faces.py [--seeds N]``.

A small convolutional network learns generated two-class faces, whose evidence (the ears) has a known place in every
image. Key communities
are those whose closing costs accuracy on validation images (exact McNemar, Holm); the others are called noise. The
share of each one's
heat inside the ears of test images is compared between the two groups, over all layers and networks: AUC with its
interval.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import torch
from torch import nn

import innersight_graph as isg
from innersight_graph.data import ImageData


def trained(data: ImageData, seed: int, epochs: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 16, 24), nn.ReLU(), nn.Linear(24, 2),
    )  # fmt: skip
    x, y = data.train
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2400)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    key, noise = [], []
    for seed in range(arguments.seeds):
        data = isg.make_faces(arguments.images, size=32, seed=seed)
        model = trained(data, seed, arguments.epochs)
        G = isg.neuron_graph(model, data.train)
        convolutions = [layer.name for layer in G.layers if layer.kind == "conv"]
        P = isg.leiden_communities(G, layers=convolutions, seed=seed)
        closed = isg.Ablation(model, data.validation).evaluate(G, P)
        shown = slice(0, 60)
        ears = data.masks["test"][:, data.parts.index("ears")].numpy()
        heat = isg.Occlusion(
            model, data.test.inputs[shown], window=5, stride=2, mask=ears[shown].astype(float)
        ).evaluate(G, P)
        important = (closed.p_values["per_community"] <= 0.05) & (closed.per_community > 0)
        tested = ~np.isnan(closed.p_values["per_community"])
        inside = heat.details["inside"]
        key.extend(inside[tested & important])
        noise.extend(inside[tested & ~important])
        print(
            f"seed {seed}: test accuracy {isg.Ablation(model, data.test).evaluate(G, P).details['baseline']:.3f}, "
            f"{len(P)} communities, "
            f"{int((tested & important).sum())} key; ears take {heat.details['mask_share']:.3f} of the image, "
            f"key communities' heat inside "
            f"{np.mean(inside[tested & important]) if (tested & important).any() else float('nan'):.3f}, "
            f"others' {np.mean(inside[tested & ~important]) if (tested & ~important).any() else float('nan'):.3f}",
            flush=True,
        )  # fmt: skip
    area = isg.auc(key, noise)
    verdict = "supported" if area.low > 0.5 else "not supported"
    print(
        f"{len(key)} key and {len(noise)} other communities: "
        f"AUC {area.value:.2f} (95 % {area.low:.2f} to {area.high:.2f}): {verdict}"
    )


if __name__ == "__main__":
    main()
