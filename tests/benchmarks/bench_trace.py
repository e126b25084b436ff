"""Cost of tracing and of Eq. 1, measured in CPU seconds of one process with one thread.

Run: python tests/benchmarks/bench_trace.py [trace|graph|eq1|memory ...]
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cosine
from scipy.special import rel_entr
from torch import nn

from innersight_graph.neuronize import neuron_graph, summarize, trace_model
from innersight_graph.neuronize.eq1 import eq1_weights, pool_to_grid

SIDE = 224
SIDES = {"inception_v3": 299}


def cpu(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def bench_trace() -> None:
    """The trace alone on every torchvision classifier, one picture of SIDE x SIDE (its forward pass is part of it)."""
    import torchvision
    from torchvision.models import get_model, list_models

    seconds = {}
    for name in list_models(module=torchvision.models):
        model = get_model(name, weights=None).eval()
        side = SIDES.get(name, SIDE)
        x = torch.rand(1, 3, side, side)
        with torch.no_grad():
            forward, _ = cpu(lambda model=model, x=x: model(x))
        seconds[name], trace = cpu(lambda model=model, x=x: trace_model(model, example=x))
        print(
            f"{name:24s} forward {forward:6.2f} s  trace {seconds[name]:6.2f} s  {len(trace.units)} layers", flush=True
        )
        del model, trace
        gc.collect()
    slowest = max(seconds, key=lambda name: seconds[name])
    print(
        f"{len(seconds)} models, median {statistics.median(seconds.values()):.2f} s, slowest {slowest} "
        f"{seconds[slowest]:.2f} s"
    )


def bench_graph() -> None:
    """ResNet-50's whole graph with signed L2 edges, and the memory it takes."""
    from torchvision.models import resnet50

    model, x = resnet50(weights=None).eval(), torch.rand(1, 3, SIDE, SIDE)
    seconds, G = cpu(lambda: neuron_graph(model, example=x, edges="l2"))
    print(f"ResNet-50, edges='l2': {seconds:.2f} s, {G.number_of_edges():,} edges, {summarize(G).n_bytes / 1e6:.0f} MB")


def bench_memory() -> None:
    """Peak of resident memory over model and forward pass, against the size of the edge arrays (Linux only)."""
    from torchvision.models import resnet50

    model, x = resnet50(weights=None).eval(), torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        model(x)
    before = _peak()
    G = neuron_graph(model, example=x, edges="l2")
    print(
        f"ResNet-50: peak +{(_peak() - before) / 1e6:.0f} MB over model and forward; arrays "
        f"{summarize(G).n_bytes / 1e6:.0f} MB"
    )
    wide = nn.Sequential(nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 4096))
    before = _peak()
    G = neuron_graph(wide, example=torch.rand(1, 4096))
    print(f"MLP 4096x4096x3: peak +{(_peak() - before) / 1e6:.0f} MB; arrays {summarize(G).n_bytes / 1e6:.0f} MB")


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def plain_pair(p: np.ndarray, q: np.ndarray) -> float:
    """Eq. 1 (similarity) for one pair of maps on one sample, as one writes it down: pool, cosine, split, compare."""
    while p.shape[0] > q.shape[0]:
        p = p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean(axis=(1, 3))
    return lean_pair(p.ravel(), q.ravel(), 1.0 - cosine(p.ravel(), q.ravel()))


def lean_pair(p: np.ndarray, q: np.ndarray, similarity: float | None = None) -> float:
    """The same with the maps pooled beforehand and the sign from a scalar product."""
    sign = np.sign(np.dot(p, q) if similarity is None else similarity)
    total = 0.0
    for s in (1, -1):
        a, b = np.maximum(s * p, 0), np.maximum(s * sign * q, 0)
        a, b = ((1 - 1e-4) * x / x.sum() + 1e-4 / x.size for x in (a, b))
        total += rel_entr(a, b).sum()
    return float(sign * np.exp(-total))


def bench_eq1() -> None:
    """Eq. 1 against the loop over pairs, extrapolated from a few hundred pairs, in the same process."""
    rng = torch.Generator().manual_seed(0)
    for n_p, n_q, side_p, side_q, samples in ((64, 128, 56, 28, 50), (64, 128, 56, 56, 20), (512, 2048, 7, 7, 20)):
        p = torch.randn(samples, n_p, side_p * side_p, generator=rng)
        q = torch.randn(samples, n_q, side_q * side_q, generator=rng)

        def ours(p: torch.Tensor = p, q: torch.Tensor = q, sp: int = side_p, sq: int = side_q) -> torch.Tensor:
            return eq1_weights(pool_to_grid(p, (sp, sp), (sq, sq)), q)

        ours()
        mine, _ = cpu(ours)
        pairs = 300
        large = p[0].double().numpy().reshape(n_p, side_p, side_p)
        small = q[0].double().numpy().reshape(n_q, side_q, side_q)
        pooled = pool_to_grid(p[:1], (side_p, side_p), (side_q, side_q))[0].double().numpy()
        at = [(i % n_p, i % n_q) for i in range(pairs)]
        plain, values = cpu(lambda a=large, b=small, at=at: [plain_pair(a[i], b[j]) for i, j in at])
        flat = small.reshape(n_q, -1)
        lean, _ = cpu(lambda a=pooled, b=flat, at=at: [lean_pair(a[i], b[j]) for i, j in at])
        one = eq1_weights(pool_to_grid(p[:1], (side_p, side_p), (side_q, side_q)), q[:1])
        error = max(abs(float(one[i % n_p, i % n_q]) - v) for i, v in enumerate(values))
        times = [x / pairs * n_p * n_q * samples for x in (plain, lean)]
        print(
            f"{n_p}x{n_q}, {side_p}x{side_p} -> {side_q}x{side_q}: {mine / samples * 1000:.1f} s per 1000 samples; "
            f"plain loop "
            f"{plain / pairs * 1e6:.0f} us per pair, {times[0] / mine:,.0f}x; lean loop {lean / pairs * 1e6:.0f} us "
            f"per pair, "
            f"{times[1] / mine:,.0f}x; largest difference {error:.1e}"
        )
    bench_eq1_memory()


def bench_eq1_memory() -> None:
    """Peak resident memory of streaming 1,000 samples through a convolution pair."""
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 128, 3, stride=2, padding=1))
    data = torch.rand(1000, 3, 56, 56)
    neuron_graph(model, data[:32], edges="eq1")
    before = _peak()
    seconds, _ = cpu(lambda: neuron_graph(model, data, edges="eq1"))
    print(
        f"1,000 samples of 56x56 through 64 and 128 kernels: {seconds:.1f} s, peak +{(_peak() - before) / 1e6:.0f} "
        f"MB over 32 samples"
    )


BENCHES = {"trace": bench_trace, "graph": bench_graph, "memory": bench_memory, "eq1": bench_eq1}

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or BENCHES:
        BENCHES[name]()
