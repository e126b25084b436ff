"""Closing and occlusion side by side with Captum, in one run: ``python tests/benchmarks/bench_evaluators.py
[--quick]``.

Both do the same work on one thread: close every community of a layer, or slide a window over every position for
every community.
Captum gets its best of two batch settings. Seconds are CPU seconds of the process, best of a few repeats; ratios are
Captum over ours.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

import innersight_graph as isg
from innersight_graph.probe.batches import Batches
from innersight_graph.probe.groups import GroupCloser
from innersight_graph.probe.occluding import occlusion_maps
from innersight_graph.probe.session import undisturbed
from innersight_graph.probe.sites import find_sites


def mlp() -> nn.Module:
    sizes = (784, 128, 64, 32, 10)
    pairs = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
    return nn.Sequential(*[layer for pair in pairs for layer in pair][:-1])


class ConvNet(nn.Module):
    """The paper's network: three convolutions and three linear layers."""

    def __init__(self, size: int = 64) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 32), (32, 64), (64, 128)))
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(128 * (size // 8) ** 2, 64), nn.Linear(64, 32), nn.Linear(32, 2)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu1(self.conv1(x)))
        x = self.pool(self.relu2(self.conv2(x)))
        x = self.pool(self.relu3(self.conv3(x)))
        return self.fc3(self.act2(self.fc2(self.act1(self.fc1(x.flatten(1))))))


def resnet18() -> nn.Module:
    from torchvision.models import resnet18 as build

    return build(weights=None)


def seconds(work: Callable[[], Any], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def geometric_mean(values: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(values)))))


# --- closing
# --------------------------------------------------------------------------------------------------------------------


def closing_row(
    model: nn.Module, G: Any, x: torch.Tensor, layer: str, k: int, repeats: int, n_layers: int
) -> dict[str, Any]:
    """Every community of one layer closed in turn, ours against Captum's LayerFeatureAblation.

    A session on the model serves all layers: its opening (settling where to close, one clean pass) is timed and
    shared out.
    """
    from captum.attr import LayerFeatureAblation

    width = G.layer(layer).width
    labels = torch.arange(width) % k
    groups = labels[None, :] == torch.arange(k)[:, None]
    kept: list[torch.Tensor] = []
    model.eval()
    with undisturbed(model) as inner:
        batch = Batches(x, inner, batch_size=len(x)).first()

        def opened() -> GroupCloser:
            closer = GroupCloser(inner, find_sites(inner, G, [layer]))
            closer.clean(batch)
            return closer

        opening = seconds(opened, repeats) / n_layers
        closer = opened()

        def ours() -> None:
            closer.methods.clear()  # every run confirms its first closing, as a first run does
            results = list(closer.run(batch, layer, groups))
            whole = torch.empty(k, len(x), *results[0][2].shape[2:])
            for where, rows, out in results:
                whole[where, rows] = out
            kept[:] = [whole]

        first = seconds(ours, repeats) + opening

    # Captum closes every call of a module, and torchvision's blocks share one ReLU: there it gets the norm before it.
    name = json.loads(G.layer(layer).closing)["module"]
    module = model.get_submodule(layer.replace("conv", "bn") if "relu" in name and "layer" in name else name)
    with torch.no_grad(), isg.capture(model, [G.layer(layer)]):
        shape: list[torch.Size] = []
        handle = module.register_forward_hook(lambda m, a, out: shape.append(out.shape))
        model(x[:1])
        handle.remove()
    mask = labels.reshape(1, width, *[1] * (len(shape[0]) - 2)).expand(1, *shape[0][1:])
    model.eval()

    def captum(at_once: int) -> torch.Tensor:
        with torch.no_grad():
            ablation = LayerFeatureAblation(model, module)
            return ablation.attribute(x, target=0, layer_mask=mask, perturbations_per_eval=at_once)

    theirs = {n: seconds(lambda n=n: captum(n), max(1, repeats - 1)) for n in (1, k)}
    spread = 0.0
    for group in range(k):
        neurons = [isg.Neuron(layer, int(i)) for i in groups[group].nonzero()[:, 0]]
        with torch.no_grad(), isg.ablate(model, neurons, graph=G):
            spread = max(spread, float((model(x) - kept[0][group]).abs().max()))
    best = min(theirs.values())
    return {"layer": layer, "k": k, "ours_s": first, "captum_s": best, "ratio": best / first, "difference": spread}


# --- occlusion
# ------------------------------------------------------------------------------------------------------------------


def occlusion_row(
    model: nn.Module, G: Any, x: torch.Tensor, layer: str, k: int, window: int, repeats: int
) -> dict[str, Any]:
    """Maps of every community of one layer: one pass of ours, one Captum run with k outputs per sample."""
    from captum.attr import Occlusion

    width = G.layer(layer).width
    labels = np.arange(width) % k
    table = labels[None, :] == np.arange(k)[:, None]
    model.eval()
    kept: list[Any] = []

    def ours() -> None:
        kept[:] = [occlusion_maps(model, x, G, [layer], window=window, stride=1, fill=0.0)]

    module = model.get_submodule(json.loads(G.layer(layer).closing)["module"])
    seen: list[torch.Tensor] = []

    class EnoughError(Exception):
        pass

    def stop(m: nn.Module, a: Any, out: torch.Tensor) -> None:
        seen.append(out)
        raise EnoughError

    with torch.no_grad():
        handle = module.register_forward_hook(lambda m, a, out: seen.append(out))
        model(x)
        handle.remove()
    clean = seen.pop().flatten(2) if seen[-1].ndim > 2 else seen.pop().unsqueeze(-1)

    def change_of(inputs: torch.Tensor, group: int) -> torch.Tensor:
        """Mean squared change of one community: what Captum can attribute is one number per sample."""
        handle = module.register_forward_hook(stop)
        try:
            model(inputs)
        except EnoughError:
            pass
        finally:
            handle.remove()
        out = seen.pop()
        out = out.flatten(2) if out.ndim > 2 else out.unsqueeze(-1)
        old = clean.repeat(len(out) // len(clean), 1, 1)
        member = torch.from_numpy(table[group])
        return ((out[:, member] - old[:, member]) ** 2).mean((1, 2))

    def captum(at_once: int) -> None:
        # One community is timed and multiplied: Captum needs a run for each.
        with torch.no_grad():
            Occlusion(lambda z: change_of(z, 0)).attribute(
                x, sliding_window_shapes=(x.shape[1], window, window) if x.ndim == 4 else (1,),
                perturbations_per_eval=at_once,
                strides=(x.shape[1], 1, 1) if x.ndim == 4 else 1,
            )  # fmt: skip

    first = seconds(ours, repeats)
    theirs = {n: seconds(lambda n=n: captum(n), 1) for n in (1, 16)}
    best = min(theirs.values())
    return {
        "layer": layer, "k": k, "ours_s": first, "captum_s_one_community": best, "ratio_one_community": best / first,
        "ratio_all_communities": k * best / first, "method": kept[0].method[layer],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer layers and smaller inputs")
    parser.add_argument("--only", choices=["closing", "occlusion"], help="one half of the benchmark")
    parser.add_argument("--json", help="write the rows to this file")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    repeats = 2 if arguments.quick else 3
    results: dict[str, Any] = {"closing": {}, "occlusion": {}}

    cases: list[tuple[str, nn.Module, torch.Tensor, list[tuple[str, int]]]] = [
        ("mlp", mlp(), torch.randn(1000, 784), [("0", 15), ("2", 15), ("4", 15)]),
        (
            "convnet", ConvNet(), torch.randn(64 if not arguments.quick else 16, 3, 64, 64),
            [("conv1", 4), ("conv2", 4), ("conv3", 4), ("conv3", 16), ("fc1", 4)],
        ),
    ]  # fmt: skip
    size = 64 if not arguments.quick else 32
    layers = [
        "conv1", "layer1.0.conv1", "layer1.1.conv2", "layer2.0.conv1", "layer2.0.downsample.0", "layer3.0.conv1",
        "layer3.1.conv2", "layer4.0.conv1", "layer4.1.conv1",
    ]  # fmt: skip
    cases.append(
        (
            "resnet18",
            resnet18(),
            torch.randn(32 if not arguments.quick else 8, 3, size, size),
            [(name, 8) for name in layers],
        )
    )
    for name, model, x, rows in cases if arguments.only != "occlusion" else ():
        model.eval()
        G = isg.neuron_graph(model, example=x[:1])
        table = [closing_row(model, G, x, layer, k, repeats, len(rows)) for layer, k in rows]
        results["closing"][name] = {"rows": table, "geometric_mean": geometric_mean(r["ratio"] for r in table)}
        for row in table:
            print(
                f"closing {name:9s} {row['layer']:22s} k={row['k']:2d} ours {row['ours_s']:.3f} s, "
                f"Captum {row['captum_s']:.3f} s, ratio {row['ratio']:.1f}, difference {row['difference']:.1g}",
                flush=True,
            )
        print(f"closing {name}: geometric mean {results['closing'][name]['geometric_mean']:.1f}", flush=True)

    side = 64 if not arguments.quick else 32
    model = ConvNet(side).eval()
    x = torch.rand(1, 3, side, side)
    G = isg.neuron_graph(model, example=x)
    results["occlusion"] = [
        occlusion_row(model, G, x, layer, 4, 5, 1)
        for layer in ("conv1", "conv2", "conv3")
        if arguments.only != "closing"
    ]
    for row in results["occlusion"]:
        print(
            f"occlusion {row['layer']:6s} {row['method']}: ours {row['ours_s']:.2f} s for all, "
            f"Captum {row['captum_s_one_community']:.2f} s for one of {row['k']}: "
            f"ratio {row['ratio_one_community']:.1f} for one, {row['ratio_all_communities']:.1f} for all",
            flush=True,
        )
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
