"""Every writer of the package, killed at every step: run as a process by test_faults, prints what it saw as JSON.

Each trial runs in a forked child. It dies by SIGKILL at its n-th file event (open, rename, remove), or by the kernel's
hand at the n-th byte of a file (a file-size limit whose signal is not ignored).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx

import innersight_graph as isg
from innersight_graph.figures import criterion_curves
from innersight_graph.paper.record import Artefact, verdict
from innersight_graph.paper.store import Store

EVENTS = {"open", "os.rename", "os.remove"}
SIZES = (0, 1, 100, 1_000, 5_000)


def versions(seed: int) -> dict[str, Callable[[Path], Any]]:
    """Return the writers by file name; every seed writes something else."""
    K = nx.gnm_random_graph(24, 60 + seed, seed=seed, directed=True)
    G = isg.as_layered(K)
    P = isg.random_communities(G, 3 + seed, seed=seed)
    comparison = isg.compare(G, {"one": P, "two": [set(range(12)), set(range(12, 24))]}, seed=seed)
    report = isg.evaluate(G, P, isg.Structure(G), nulls=3, seed=seed)
    return {
        "graph.npz": G.save,
        "graph.graphml": lambda path: isg.write_graph(G, path),
        "graph.json": lambda path: isg.write_graph(G, path),
        "graph.gexf": lambda path: isg.export_gexf(G, P, path),
        "decorated.graphml": lambda path: isg.export_graphml(G, P, path),
        "partition.json": P.to_json,
        "report.json": report.to_json,
        "comparison.csv": comparison.to_csv,
        "page.html": lambda path: isg.to_html(G, P, path),
    }


def die_at_event(number: int, folder: str) -> None:
    seen = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and str(arguments[0]).startswith(folder):
            seen[0] += 1
            if seen[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def die_at_byte(number: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))


def trial(prepare: Callable[[], None], write: Callable[[Path], Any], target: Path) -> bool:
    """Write in a forked child that is prepared to die; tell whether it lived."""
    child = os.fork()
    if child == 0:
        prepare()
        write(target)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def check(name: str, old: Callable[[Path], Any], new: Callable[[Path], Any], folder: Path) -> dict[str, Any]:
    target, other = folder / name, folder / ("new-" + name)
    old(target)
    new(other)
    before, after = target.read_bytes(), other.read_bytes()
    other.unlink()
    outcome: dict[str, Any] = {"killed": 0, "old": 0, "new": 0, "half": [], "strange": [], "distinct": before != after}
    plans = [lambda n=n: die_at_byte(n) for n in SIZES if n < len(after)]
    plans += [lambda n=n: die_at_event(n, str(folder)) for n in range(1, 40)]
    for number, plan in enumerate(plans):
        target.write_bytes(before)
        lived = trial(plan, new, target)
        found = target.read_bytes()
        outcome["killed"] += not lived
        outcome["old"] += found == before
        outcome["new"] += found == after
        if found not in (before, after):
            outcome["half"].append(number)
        for stray in set(folder.iterdir()) - {target}:
            if not stray.name.startswith(".innersight-"):
                outcome["strange"].append(stray.name)
            stray.unlink()
        if lived:
            break
    target.unlink()
    return outcome


def artefact(seed: int) -> Artefact:
    """Return an artefact of the paper's kind: several files and the record that declares them finished."""
    says = verdict("c", holds=True, fails=False, number=float(seed), unit="u", rule="r", says="s")
    figures = {f"{n} of {seed}": criterion_curves({"fc": {1: 0.0, 2: float(seed)}}) for n in ("one", "two")}
    return Artefact("fig1a", f"run {seed}", [{"seed": seed}], {}, [says], figures)


def check_artefact(folder: Path) -> dict[str, Any]:
    """Kill a run that replaces another run's artefact; count what either run would then take over."""
    stores = [Store(folder, "old"), Store(folder, "new")]
    made = [artefact(0), artefact(1)]
    contents = []
    for store, one in zip(stores, made, strict=True):
        record = store.save(one, {})
        contents.append({file: (folder / file).read_bytes() for file in record["files"]})
    outcome: dict[str, Any] = {"killed": 0, "old": 0, "new": 0, "none": 0, "half": [], "strange": []}
    for number in range(1, 80):
        stores[0].save(made[0], {})
        lived = trial(lambda n=number: die_at_event(n, str(folder)), lambda _: stores[1].save(made[1], {}), folder)
        finished = [store.finished("fig1a") for store in stores]
        outcome["killed"] += not lived
        outcome["none"] += finished == [None, None]
        for name, record, content in zip(("old", "new"), finished, contents, strict=True):
            if record is not None:
                outcome[name] += 1
                if {file: (folder / file).read_bytes() for file in record["files"]} != content:
                    outcome["half"].append(number)
        if lived:
            break
    return outcome


if __name__ == "__main__":
    place = Path(sys.argv[1])
    first, second = versions(0), versions(1)
    outcomes = {name: check(name, first[name], second[name], place) for name in first}
    (place / "paper").mkdir()
    json.dump({"writers": outcomes, "artefact": check_artefact(place / "paper")}, sys.stdout)
