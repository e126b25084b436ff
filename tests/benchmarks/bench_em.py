"""Benchmarks of the EM engine: `python tests/benchmarks/bench_em.py [PART ...]`, parts as named in `PARTS`.

Everything is measured in CPU seconds of one thread (`time.process_time`) in one run, and printed as lines for
RESULTS.md. Problems are planted: n neurons, M signed connections each, c communities whose log-odds differ by a normal
with deviation `strength` from the layer's; for the schedule, three layers as wide as the hidden layers of
784-128-64-32-10.
"""

# Thread counts are set before any numeric library is imported.
# ruff: noqa: E402

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, os.environ.get("BENCH_THREADS", "1"))

import importlib.util
import itertools
import platform
import sys
import time
import warnings
from collections.abc import Callable
from datetime import date

import numpy as np
import torch

from innersight_graph.engines import BinaryTable, Engine, Fits, Group, Problem, resolve_engine
from innersight_graph.engines.base import merged
from innersight_graph.engines.torch import TorchEngine
from innersight_graph.mixture.criteria import adjusted_rand
from innersight_graph.mixture.polish import winner
from innersight_graph.mixture.search import Material, Search, Settings
from innersight_graph.mixture.starts import Starter

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

LAYERS = ((128, 2 * 784 + 2 * 64, 14), (64, 2 * 128 + 2 * 32, 8), (32, 2 * 64 + 2 * 10, 5))
PAPER_SECONDS = 4 * 3600


def planted(n: int, M: int, c: int, strength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(c, size=n)
    logits = rng.normal(-1.7, 0.5, size=M)[None] + strength * rng.normal(size=(c, M))
    return rng.random((n, M)) < 1.0 / (1.0 + np.exp(-logits[truth])), truth


def sides(M: int) -> tuple[tuple[slice, ...], ...]:
    return ((slice(0, M // 2), slice(M // 2, M)),)


def cpu(function: Callable[[], object], repeats: int = 3) -> float:
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def say(*cells: object) -> None:
    print(
        "| " + " | ".join(f"{cell:,.4g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def searched(X: np.ndarray, candidates: list[int], *, choosing: bool = True, **options: object) -> Search:
    search = Search(Material(X, None, sides(X.shape[1]), "layer"), Settings(**options), candidates, choosing=choosing)
    groups = [unit.group for unit in search.pending()]
    for fits in TorchEngine().fit(search.problem, groups, max_iter=200, tol=search.settings.tol):
        search.add(fits)
    return search


def schedule() -> None:
    """Algorithm 1: r = 1..20, 100 restarts, at most 200 iterations, three layers."""
    tables = [planted(*layer, 1.0, seed)[0] for seed, layer in enumerate(LAYERS)]

    def whole(init: str, tol: float = 1e-7, n_init: int | None = 100) -> float:
        def run() -> None:
            for X in tables:
                search = searched(X, list(range(1, 21)), init=init, n_init=n_init, tol=tol)
                if tol >= 0:
                    for parts in search.parts.values():
                        winner(search.problem, merged(parts))

        return cpu(run)

    say("schedule", "CPU s", "x paper's 4 h (GPU, with Q)")
    for init in ("dirichlet", "random", "k-means++"):
        seconds = whole(init)
        say(f"{init}, stop 1e-7", seconds, PAPER_SECONDS / seconds)
    seconds = cpu(
        lambda: [
            TorchEngine().fit(s.problem, [u.group for u in s.pending()], max_iter=200, tol=-1.0)
            for s in (searched_lazily(X) for X in tables)
        ],
        1,
    )
    say("dirichlet, all 200 iterations forced", seconds, PAPER_SECONDS / seconds)

    def structured(conclude: bool) -> float:
        def run() -> None:
            for X in tables:
                search = searched(X, list(range(1, 21)))
                search.evaluate(TorchEngine())
                if conclude:
                    search.conclude(TorchEngine())

        return cpu(run)

    seconds = structured(False)
    say("structured (12 starts), ICL", seconds, PAPER_SECONDS / seconds)
    seconds = structured(True)
    say("structured, ICL, shuffle gate, held-out check", seconds, PAPER_SECONDS / seconds)


def score() -> None:
    """Algorithm 1 with the paper's Q, through `em_communities`: untrained 784-128-64-32-10, 1,000 samples."""
    import innersight_graph as isg

    torch.manual_seed(0)
    widths = (784, 128, 64, 32, 10)
    parts = [part for a, b in itertools.pairwise(widths) for part in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    model = torch.nn.Sequential(*parts[:-1])
    data = (torch.rand(1000, 784), torch.randint(10, (1000,)))
    G = isg.neuron_graph(model, data[0][:8])
    wall, start = time.perf_counter(), time.process_time()
    Q = isg.PartitionScore(model, data, G)
    isg.em_communities(G, range(1, 21), criterion=Q, init="dirichlet", n_init=100, seed=0)
    seconds = time.process_time() - start
    say("schedule with Q", f"{time.perf_counter() - wall:.1f} s wall", f"{seconds:.1f} CPU s", PAPER_SECONDS / seconds)


def searched_lazily(X: np.ndarray) -> Search:
    return Search(
        Material(X, None, sides(X.shape[1]), "layer"), Settings(init="dirichlet", n_init=100), list(range(1, 21))
    )


def literal_iteration(sides: list[np.ndarray], q: np.ndarray) -> np.ndarray:
    """The paper's equations as they stand: loops over neurons and communities, a factor for each of A, I, A', I'."""
    n, r = q.shape
    pi, new = q.mean(axis=0), np.empty_like(q)
    tau = [[np.clip((q[:, k] @ X) / q[:, k].sum(), 1e-6, 1 - 1e-6) for k in range(r)] for X in sides]
    for i in range(n):
        for k in range(r):
            new[i, k] = np.log(pi[k]) + sum(
                (X[i] * np.log(t[k]) + (1 - X[i]) * np.log(1 - t[k])).sum() for X, t in zip(sides, tau, strict=True)
            )
        row = np.exp(new[i] - new[i].max())
        new[i] = row / row.sum()
    return new


def peers() -> None:
    """Per iteration with stopping off, and per restart at each tool's own stopping; n = 128, M = 1,696, r = 14."""
    from pomegranate.distributions import Bernoulli
    from pomegranate.gmm import GeneralMixtureModel
    from stepmix import StepMix

    r = 14
    X, _ = planted(*LAYERS[0], 1.0, 0)
    dense = X.astype(float)
    problem = Problem(BinaryTable.from_array(X))

    def draw(restarts: tuple[int, ...]) -> np.ndarray:
        q = np.random.default_rng(0).exponential(size=(len(restarts), r, len(X))).astype(np.float32)
        return q / q.sum(axis=1, keepdims=True)

    group = Group(r, tuple(range(100)), draw)
    engine = TorchEngine()
    ours_forced = cpu(lambda: engine.fit(problem, [group], max_iter=50, tol=-1.0)) / (100 * 50)
    ours_stopped = cpu(lambda: engine.fit(problem, [group], max_iter=200, tol=1e-7)) / 100

    def stepmix(max_iter: int, n_init: int, tol: float) -> Callable[[], object]:
        model = StepMix(
            r,
            measurement="binary",
            n_init=n_init,
            max_iter=max_iter,
            abs_tol=tol,
            rel_tol=0.0,
            random_state=0,
            progress_bar=0,
        )
        return lambda: model.fit(dense)

    tensor = torch.from_numpy(dense).float()

    def pomegranate(max_iter: int, tol: float, inertia: float = 0.0) -> Callable[[], object]:
        def run() -> None:
            generator = torch.Generator().manual_seed(0)
            starts = [torch.rand(tensor.shape[1], generator=generator) * 0.8 + 0.1 for _ in range(r)]
            GeneralMixtureModel([Bernoulli(p, inertia=inertia) for p in starts], max_iter=max_iter, tol=tol).fit(tensor)

        return run

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Differences between two run lengths take start-up out of the per-iteration figure.
        steps = (5, 45)
        stepmix_each = (cpu(stepmix(steps[1], 1, 0.0)) - cpu(stepmix(steps[0], 1, 0.0))) / (steps[1] - steps[0])
        pomegranate_each = (cpu(pomegranate(6, -1e30), 1) - cpu(pomegranate(2, -1e30), 1)) / 4
        stepmix_restart = cpu(stepmix(1000, 10, 1e-10), 1) / 10
        pomegranate_restart = cpu(pomegranate(1000, 0.1), 1)
        pomegranate_helped = cpu(pomegranate(1000, 0.1, 0.2), 1)
    q = draw((0,))[0].T.astype(float)
    four = [dense[:, :784], dense[:, 784:1568], dense[:, 1568:1632], dense[:, 1632:]]
    literal_each = cpu(lambda: literal_iteration(four, q))
    say("one iteration of one restart", "CPU ms", "ours is x faster")
    for name, seconds in (
        ("ours, stopping off", ours_forced),
        ("StepMix", stepmix_each),
        ("pomegranate", pomegranate_each),
        ("literal NumPy loop", literal_each),
    ):
        say(name, 1000 * seconds, seconds / ours_forced)
    say("one restart, each tool's own stopping", "CPU ms", "ours is x faster")
    for name, seconds in (
        ("ours, Dirichlet, 1e-7", ours_stopped),
        ("StepMix, its defaults", stepmix_restart),
        ("pomegranate, its defaults (its likelihood is NaN: all 1,000 iterations)", pomegranate_restart),
        ("pomegranate, inertia 0.2 so that it stays finite", pomegranate_helped),
    ):
        say(name, 1000 * seconds, seconds / ours_stopped)


def stopping() -> None:
    """Labels at the 1e-7 stop against 200 forced iterations, 2,000 restarts."""
    same = total = 0
    gap = 0.0
    for seed, (n, M, c) in enumerate(LAYERS):
        for strength in (1.0, 0.5):
            X, _ = planted(n, M, c, strength, seed)
            for r in (2, 5, 10, 20):
                for init, count in (("dirichlet", 42), ("k-means++", 42)):
                    search = searched(X, [r], choosing=False, init=init, n_init=count)
                    stopped = merged(search.parts[r])
                    forced = merged(searched(X, [r], choosing=False, init=init, n_init=count, tol=-1.0).parts[r])
                    same += sum(adjusted_rand(a, b) == 1.0 for a, b in zip(stopped.labels, forced.labels, strict=True))
                    total += count
                    gap = max(gap, abs(float(stopped.objective.max() - forced.objective.max())))
    say(
        "restarts with equal labels",
        f"{same} of {total}",
        f"{100 * same / total:.2f} %",
        f"best differs by {gap:.3g} nats",
    )


def quality() -> None:
    """128 x 1,696, 14 planted communities, default settings, ten seeds; best likelihood against random starts."""
    say("seed", "ARI", "r found", "CPU s")
    wins = trials = 0
    for seed in range(1000, 1010):
        X, truth = planted(*LAYERS[0], 1.0, seed)
        start = time.process_time()
        search = searched(X, list(range(1, 21)), seed=seed)
        search.evaluate(TorchEngine())
        outcome = search.conclude(TorchEngine())
        say(
            seed, adjusted_rand(outcome.labels, truth), int(outcome.stats["n_communities"]), time.process_time() - start
        )
    for seed in range(2000, 2004):
        for n, M, c in LAYERS:
            for strength in (1.0, 0.5):
                X, _ = planted(n, M, c, strength, seed)
                best = []
                for init, count in (("structured", None), ("random", 100)):
                    search = searched(X, [2, 5, 8, 14, 20], choosing=False, init=init, n_init=count, seed=seed)
                    search.evaluate(TorchEngine())
                    best.append(search.best_objective)
                for r in best[0]:
                    wins += best[0][r] >= best[1][r] - 1e-9 * abs(best[1][r])
                    trials += 1
    say("structured >= best of 100 random starts", f"{wins} of {trials}", f"{100 * wins / trials:.1f} %")


def peak_gib() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def large_table(c: int = 50) -> tuple[np.ndarray, np.ndarray]:
    n, M = 14_336, 37_000
    rng = np.random.default_rng(0)
    truth = rng.integers(c, size=n)
    p = (1 / (1 + np.exp(-(rng.normal(-1.7, 0.5, size=M)[None] + 0.3 * rng.normal(size=(c, M)))))).astype(np.float32)
    X = np.empty((n, M), dtype=bool)
    for i in range(0, n, 512):
        X[i : i + 512] = rng.random((len(truth[i : i + 512]), M), dtype=np.float32) < p[truth[i : i + 512]]
    return X, truth


def large() -> None:
    """n = 14,336, M = 37,000, 50 planted communities: one structured fit."""
    c = 50
    X, truth = large_table(c)
    wall, start = time.perf_counter(), time.process_time()
    search = Search(Material(X, None, sides(X.shape[1]), "layer"), Settings(), [c], choosing=False)
    for unit in search.pending():
        search.add(unit.run())
    search.evaluate(TorchEngine())
    ari = adjusted_rand(search.solutions[c].labels, truth)
    say(
        "14,336 x 37,000, r = 50",
        f"ARI {ari:.4f}",
        f"{time.perf_counter() - wall:.0f} s wall",
        f"{time.process_time() - start:.0f} CPU s",
        f"peak {peak_gib():.1f} GiB",
    )


def block() -> None:
    """A 4096-11008-4096 MLP block with 64 planted modules, from arrays to partition, r found coarse-to-fine."""
    import innersight_graph as isg

    rng = np.random.default_rng(0)
    widths, c = (4096, 11008, 4096), 64
    truth = [rng.integers(c, size=width) for width in widths]
    names = ("input", "fc1", "output")
    layers = [isg.Layer(name, i, width, "linear") for i, (name, width) in enumerate(zip(names, widths, strict=True))]
    weights = {}
    for i, (a, b) in enumerate(itertools.pairwise(layers)):
        z, w = truth[i], truth[i + 1]
        W = rng.standard_normal((a.width, b.width), dtype=np.float32)
        W += 0.5 * rng.choice([-1.0, 1.0], size=(c, c)).astype(np.float32)[np.ix_(z, w)]
        weights[a.name, b.name] = W
    wall, start = time.perf_counter(), time.process_time()
    G = isg.LayeredDiGraph.from_arrays(layers, weights)
    del weights
    P = isg.em_communities(G, range(1, 129), seed=0)
    ari = adjusted_rand(P.labels("fc1"), truth[1])
    say(
        "4096-11008-4096",
        f"ARI {ari:.4f}",
        f"r = {P.stats['fc1']['n_communities']}",
        f"{time.perf_counter() - wall:.0f} s wall",
        f"{time.process_time() - start:.0f} CPU s",
        f"peak {peak_gib():.1f} GiB",
    )


def nothing() -> None:
    """Blocks of 1024-2752-1024 in which there are no communities: untrained, shuffled within each neuron, unequal."""
    import innersight_graph as isg

    rng = np.random.default_rng(3)
    widths, c = (1024, 2752, 1024), 16
    names = ("input", "fc1", "output")
    layers = [isg.Layer(name, i, width, "linear") for i, (name, width) in enumerate(zip(names, widths, strict=True))]
    for kind in ("untrained", "shuffled", "unequal"):
        before, after = (rng.standard_normal(shape, dtype=np.float32) for shape in itertools.pairwise(widths))
        if kind == "shuffled":
            z = rng.integers(c, size=widths[1])
            before += 0.5 * rng.choice([-1.0, 1.0], size=(widths[0], c)).astype(np.float32)[:, z]
            after += 0.5 * rng.choice([-1.0, 1.0], size=(c, widths[2])).astype(np.float32)[z]
            before, after = rng.permuted(before, axis=0), rng.permuted(after, axis=1)
        if kind == "unequal":
            before *= np.exp(rng.normal(size=widths[1])).astype(np.float32)
            after *= np.exp(rng.normal(size=widths[1])).astype(np.float32)[:, None]
        G = isg.LayeredDiGraph.from_arrays(layers, {("input", "fc1"): before, ("fc1", "output"): after})
        start = time.process_time()
        gauge = "none" if kind == "unequal" else "balanced"
        stats = isg.em_communities(G, range(1, 65), coarse=True, gauge=gauge, seed=0).stats["fc1"]
        tried = max(stats["criterion"], key=stats["criterion"].get)
        shuffles = f"{stats.get('n_shuffles', 0)} shuffles"
        say(
            kind,
            f"r = {stats['n_communities']}",
            f"ICL alone: {tried}",
            shuffles,
            f"{time.process_time() - start:.0f} CPU s",
        )


def on_device(engine: Engine, problem: Problem, groups: list[Group]) -> tuple[float, list[Fits]]:
    """Wall seconds of a search whose starts are drawn already; the first run, which compiles and allocates, is free."""
    drawn = {group.n_components: group.draw(group.restarts) for group in groups}
    ready = [Group(g.n_components, g.restarts, lambda rs, q=drawn[g.n_components]: q[list(rs)]) for g in groups]
    engine.fit(problem, ready, max_iter=200, tol=1e-7)
    torch.cuda.synchronize()
    start = time.perf_counter()
    fits = engine.fit(problem, ready, max_iter=200, tol=1e-7)
    torch.cuda.synchronize()
    return time.perf_counter() - start, fits


def gpu() -> None:
    """torch-CUDA and CuPy against the CPU: the whole schedule, and 100 restarts of the large layer."""
    if not torch.cuda.is_available():
        say("no CUDA device", "nothing measured")
        return
    say("device", torch.cuda.get_device_name())
    engines = ["torch:cuda"]
    if importlib.util.find_spec("cupy"):
        engines.append("cupy")
    searches = [searched_lazily(planted(*layer, 1.0, seed)[0]) for seed, layer in enumerate(LAYERS)]
    for name in engines:
        engine, seconds, same, total = resolve_engine(name), 0.0, 0, 0
        for search in searches:
            groups = [unit.group for unit in search.pending()]
            spent, fits = on_device(engine, search.problem, groups)
            seconds += spent
            expected = TorchEngine().fit(search.problem, groups, max_iter=200, tol=1e-7)
            same += sum(list(a.leaders) == list(b.leaders) for a, b in zip(fits, expected, strict=True))
            total += len(groups)
        say(f"{name}: schedule, Dirichlet, starts drawn", seconds, f"same winners as the CPU in {same} of {total}")
    X, truth = large_table()
    problem = Problem(BinaryTable.from_array(X))
    restarts = Starter(problem, 0, "layer", 50).group("k-means++", 50, range(100))
    seconds, fits = on_device(resolve_engine("torch:cuda"), problem, [restarts])
    labels = fits[0].labels[int(fits[0].objective.argmax())]
    say("torch:cuda: 14,336 x 37,000, r = 50, 100 restarts", seconds, f"ARI {adjusted_rand(labels, truth):.4f}")


PARTS = {f.__name__: f for f in (schedule, score, peers, stopping, quality, large, block, nothing, gpu)}

if __name__ == "__main__":
    print(
        f"{date.today()} · {platform.processor() or platform.machine()} · {os.environ['OMP_NUM_THREADS']} thread(s) · "
        f"torch {torch.__version__} · numpy {np.__version__}"
    )
    for part in sys.argv[1:] or ("schedule", "score", "peers", "stopping", "quality", "gpu"):
        print(f"\n{PARTS[part].__doc__}\n", flush=True)
        PARTS[part]()
