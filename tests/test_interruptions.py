"""Ctrl-C and memory that runs out at any moment of every long task: what was there is whole, what was lent is back.

A profile hook raises the error at the n-th call of a function of the package, so that the same moments are tried at
every run, between them the first and the last.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import innersight_graph as isg

PACKAGE = str(Path(isg.__file__).parent)
MOMENTS = (0.0, 0.15, 0.4, 0.65, 0.9, 1.0)

torch.manual_seed(0)
MODEL = nn.Sequential(
    nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)
).train()
X, Y = torch.linspace(-1, 1, 80).reshape(20, 4), torch.arange(20) % 3
G = isg.neuron_graph(MODEL, X)
P = isg.random_communities(G, 2, seed=0)
K = isg.as_layered(nx.karate_club_graph())
EVALUATORS: Callable[[], list[Any]] = lambda: [isg.Structure(G), isg.Sensitivity(MODEL, X), isg.Ablation(MODEL, (X, Y))]  # noqa: E731


def search(folder: Path) -> str:
    options: dict[str, Any] = {"init": "random", "n_init": 4, "seed": 3, "engine": "numpy", "layers": ["0", "3"]}
    return isg.em_communities(G, [1, 2, 3], checkpoint=folder / "checkpoint", **options).to_json()


def scores(_: Path) -> Any:
    report = isg.evaluate(G, P, EVALUATORS(), nulls=5, seed=0)
    return report.to_json() if not report.environment["partial"] else None


def page(folder: Path) -> Any:
    isg.to_html(K, [range(17), range(17, 34)], folder / "page.html")
    return (folder / "page.html").read_bytes()


# Each returns what it found, or None where it says itself that the result is partial.
TASKS: dict[str, Callable[[Path], Any]] = {
    "neuron_graph": lambda folder: isg.neuron_graph(MODEL, X, edges="act_corr").fingerprint,
    "em_communities": search,
    "blockmodel_communities": lambda folder: isg.blockmodel_communities(K, seed=0).to_json(),
    "density_sweep": lambda folder: repr(
        isg.density_sweep(K, (0.25, 1.0), seed=0, n_communities=2, n_init=2, engine="numpy").partitions
    ),
    "evaluate": scores,
    "compare": lambda folder: isg.compare(G, ["degree", "random"], EVALUATORS(), nulls=3, seed=0).to_csv(
        folder / "comparison.csv"
    ),
    "noise_communities": lambda folder: repr(
        isg.noise_communities(MODEL, P, select=(X, Y), test=(X + 0.1, Y), nulls=5, seed=0, graph=G)
    ),
    "to_html": page,
    "write_graph": lambda folder: isg.write_graph(K, folder / "graph.graphml"),
}


def is_ours(frame: FrameType, event: str) -> bool:
    return event == "call" and frame.f_code.co_filename.startswith(PACKAGE)


def calls_of(task: Callable[[], Any]) -> int:
    """Return how many functions of the package a task calls."""
    counted = [0]

    def count(frame: FrameType, event: str, argument: object) -> None:
        counted[0] += is_ours(frame, event)

    sys.setprofile(count)
    try:
        task()
    finally:
        sys.setprofile(None)
    return counted[0]


def interrupted(task: Callable[[], Any], number: int, error: type[BaseException]) -> Any:
    """Run a task and raise an error inside its `number`-th call."""
    left = [number]

    def strike(frame: FrameType, event: str, argument: object) -> None:
        if is_ours(frame, event):
            left[0] -= 1
            if left[0] == 0:
                # Python takes the hook away as it raises.
                raise error

    sys.setprofile(strike)
    try:
        return task()
    finally:
        sys.setprofile(None)


def condition() -> list[Any]:
    """Everything of the model and the process that must come back as it was."""
    hooks = [
        len(getattr(module, kind))
        for module in MODEL.modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    ]
    state = [value.numpy().tobytes() for value in MODEL.state_dict().values()]
    modes = [module.training for module in MODEL.modules()]
    grads = [(p.requires_grad, p.grad is None) for p in MODEL.parameters()]
    attributes = [sorted(vars(module)) for module in MODEL.modules()]
    process = [torch.is_grad_enabled(), torch.get_num_threads(), torch.get_rng_state().tolist(), np.geterr()]
    return [hooks, state, modes, grads, attributes, process]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("name", TASKS)
def test_a_task_stopped_at_any_moment_leaves_everything_whole(
    name: str, error: type[BaseException], tmp_path: Path
) -> None:
    task = TASKS[name]

    def place(part: str) -> Path:
        folder = tmp_path / part
        folder.mkdir()
        return folder

    task(place("warm"))  # imports and caches
    counting = place("counting")
    total = calls_of(lambda: task(counting))
    assert total > 5
    undisturbed = place("undisturbed")
    expected = task(undisturbed)
    before = condition()
    stopped = 0
    for share in MOMENTS:
        folder = place(f"at {share}")
        number = 1 + round(share * (total - 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", isg.PartialResultWarning)
            try:
                found = interrupted(lambda folder=folder: task(folder), number, error)
            except (error, isg.InnerSightError):
                stopped += 1
                found = None
        assert condition() == before, share
        for file in folder.rglob("*"):
            assert not file.name.startswith(".innersight-"), (share, file)
            twin = undisturbed / file.relative_to(folder)
            if file.is_file() and file.suffix != ".csv" and twin.exists():
                assert file.read_bytes() == twin.read_bytes(), (share, file)
        # What it did return is whole or says that it is not, and the same call afterwards gives what it always gave.
        if isinstance(found, str | bytes) and '"partial"' not in str(found) and name != "compare":
            assert found == expected
        again = task(folder)
        if name != "compare":  # its column of seconds differs
            assert again == expected, share
    assert stopped >= 3


def test_the_work_of_a_dead_worker_of_the_paper_is_done_again() -> None:
    """`run_paper` hands networks and figures to worker processes."""
    import os
    import signal
    from types import SimpleNamespace

    from innersight_graph.paper.study import Study

    parent = os.getpid()

    def dies(value: int) -> int:
        if os.getpid() != parent and value == 2:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return value**2

    study: Any = SimpleNamespace(n_jobs=2, say=lambda what: None)
    with pytest.warns(RuntimeWarning, match="A worker process died"):
        found = dict(Study.spread(study, {n: (dies, n) for n in range(5)}, "squares"))
    assert found == {n: n**2 for n in range(5)}


def test_a_part_of_a_search_is_never_kept_as_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, `em_communities` and `evaluate` return what they have at Ctrl-C; inside something larger they end it."""
    import innersight_graph.detection.em as em
    from innersight_graph.comparison import benchmark, read_results

    real = em.run_units

    def pressed(units: Any, **options: Any) -> Any:
        for count, item in enumerate(real(units, **options)):
            if count == 1:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(em, "run_units", pressed)
    with pytest.warns(isg.PartialResultWarning):
        isg.em_communities(K, [1, 2, 3], seed=0, engine="numpy")
    options: dict[str, Any] = {"tasks": ["layers/4"], "contenders": ["EM, structured"], "seeds": 1}
    for task in (
        lambda: isg.density_sweep(K, (0.25, 1.0), seed=0),
        lambda: isg.consensus_communities(K, of="em", n_runs=3, seed=0),
        lambda: isg.compare(K, ["em", "degree"], seed=0),
        lambda: benchmark(tmp_path / "results.csv", **options),
    ):
        with pytest.raises(KeyboardInterrupt):
            task()
    finished = read_results(tmp_path / "results.csv")
    monkeypatch.undo()
    timings = ("seconds", "stability")
    whole = [{k: v for k, v in row.items() if k not in timings} for row in benchmark(tmp_path / "again.csv", **options)]
    assert [{k: v for k, v in row.items() if k not in timings} for row in finished] == whole[: len(finished)]
    assert len(finished) < len(whole)


# ---------------------------------------------------------------------- a device whose memory runs out


class Tight(nn.Module):
    """Says what CUDA says, for its first calls, or until it is moved to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 3)
        self.failures: float = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.failures > 0:
            self.failures -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        out: torch.Tensor = self.fc2(torch.relu(self.fc1(x)))
        return out

    def to(self, *arguments: Any, **options: Any) -> Any:
        self.failures = 0
        return super().to(*arguments, **options)


TIGHT = Tight().eval()
LIVE: dict[str, Callable[[Any], Any]] = {
    "sensitivity": lambda H: isg.Sensitivity(TIGHT, X),
    "consistency": lambda H: isg.Consistency(TIGHT, X),
    "ablation": lambda H: isg.Ablation(TIGHT, (X, Y)),
    "occlusion": lambda H: isg.Occlusion(TIGHT, X, window=2),
    "activation_level": lambda H: isg.ActivationLevel(TIGHT, (X, Y)),
    "score": lambda H: isg.PartitionScore(TIGHT, (X, Y), H),
}


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("failures", [1, float("inf")])
def test_a_score_needs_less_memory_when_there_is_too_little(name: str, failures: float) -> None:
    TIGHT.failures = 0
    H = isg.neuron_graph(TIGHT, X)
    Q = isg.random_communities(H, 2, seed=0)
    expected = isg.evaluate(H, Q, LIVE[name](H), nulls=3, seed=0)
    TIGHT.failures = failures
    with pytest.warns(RuntimeWarning, match="ran out of memory") as said:
        found = isg.evaluate(H, Q, LIVE[name](H), nulls=3, seed=0)
    told = [str(warning.message) for warning in said if "ran out of memory" in str(warning.message)]
    assert "in smaller batches" in told[0]
    assert ("on the CPU" in told[-1]) == (failures > 1)
    assert TIGHT.failures == (failures if failures > 1 else 0)
    (one,), (other,) = expected.evaluations.values(), found.evaluations.values()
    assert other.value == pytest.approx(one.value, rel=1e-6)
    np.testing.assert_allclose(other.per_community, one.per_community, rtol=1e-6)


def test_too_little_memory_elsewhere_is_told_with_what_helps() -> None:
    TIGHT.failures = 0
    H = isg.neuron_graph(TIGHT, X)
    TIGHT.failures = float("inf")
    with pytest.raises(isg.InputError, match=r"out of memory.*smaller batches"):
        isg.activations(TIGHT, X, H)
    with pytest.raises(isg.InnerSightError, match="out of memory"):
        isg.neuron_graph(TIGHT, X)
    TIGHT.failures = 0
