"""The largest model that fits: peak resident memory of each step against the number of weights, and what that predicts.

    python tests/benchmarks/bench_memory.py            # measure at three sizes, fit, predict for 8 and 16 GB
    python tests/benchmarks/bench_memory.py graph 16000 # one step at one width

Each step runs in a process of its own on an MLP of three square layers, so that its peak is its own. ``graph`` makes
the model and its graph, ``save`` also writes and reads the file, ``communities`` finds eight in the first hidden layer.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WIDTHS = (1024, 2048, 3072)
GIB = 2**30


def peak() -> float:
    """Return the peak resident memory of this process in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def graph_of(width: int) -> Any:
    """Return the graph of an MLP of three square layers."""
    import torch
    from torch import nn

    import innersight_graph as isg

    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for _ in range(3):
        parts += [nn.Linear(width, width, bias=False), nn.ReLU()]
    return isg.neuron_graph(nn.Sequential(*parts), example=torch.zeros(1, width), max_memory=float("inf"))


def save(width: int) -> None:
    """Write the graph and read it."""
    from tempfile import TemporaryDirectory

    import innersight_graph as isg

    with TemporaryDirectory() as folder:
        graph_of(width).save(Path(folder, "g.npz"))
        isg.LayeredDiGraph.load(Path(folder, "g.npz"))


def communities(width: int) -> None:
    """Find eight communities in one hidden layer, each step of the default search once."""
    import innersight_graph as isg

    G = graph_of(width)
    isg.em_communities(G, 8, layers=G.hidden_layers[0], n_init=1, max_iter=3, seed=0)


STEPS: dict[str, Callable[[int], Any]] = {"graph": graph_of, "save": save, "communities": communities}


def measured(step: str, width: int) -> tuple[float, float]:
    """Return (bytes, CPU seconds) of a step at a width, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, step, str(width)], capture_output=True, text=True, check=True)
    memory, seconds = done.stdout.split()[-2:]
    return float(memory), float(seconds)


def main() -> None:
    """Run one step, or measure all and predict."""
    if len(sys.argv) == 3:
        STEPS[sys.argv[1]](int(sys.argv[2]))
        sys.stdout.write(f"{peak():.0f} {time.process_time():.1f}\n")
        return
    for step in STEPS:
        weights = np.array([3.0 * width**2 for width in WIDTHS])
        peaks = np.array([measured(step, width)[0] for width in WIDTHS])
        each, fixed = np.polyfit(weights, peaks, 1)
        fits = ", ".join(f"{(gib * GIB - fixed) / each / 1e6:,.0f} million in {gib} GiB" for gib in (8, 16))
        sys.stdout.write(f"{step}: {each:.1f} bytes per weight over {fixed / GIB:.2f} GiB; weights that fit: {fits}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
