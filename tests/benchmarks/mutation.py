"""Mutation testing: how many small faults in graph, mixture and statistics the tests notice.

    python tests/benchmarks/mutation.py statistics 60 --seed 0

One operator, constant, condition or return value of a room is changed at a time, and the tests that run the changed
statement run on the changed source in a forked process, the quickest first. Which these are is measured beforehand, by
one run of the room's tests under `coverage`. The score is the share of changes that made a test fail (or run out of
time). Changes that alter nothing a test could see are not sorted out, so 100 % cannot be reached.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    "graph": [
        "test_graph_layered", "test_graph_profiles", "test_graph_gauge", "test_graph_interchange", "test_properties",
        "test_provenance",
    ],
    "partition": ["test_partition", "test_properties"],
    "statistics": ["test_statistics", "test_statistics_edges"],
    "mixture": ["test_mixture", "test_em", "test_properties"],
}  # fmt: skip
SECONDS = 90
# What was imported before the fork cannot be rewritten by pytest, and need not be.
QUIET = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def changed(node: ast.AST) -> ast.AST | None:
    """Return the node with one small fault, or None where this kind of node gets none."""
    new: Any = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in SWAPS:
        new.ops[0] = SWAPS[type(new.ops[0])]()
        return new
    if isinstance(new, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(new.op) in SWAPS:
        new.op = SWAPS[type(new.op)]()
        return new
    if isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not | ast.USub):
        return new.operand
    if isinstance(new, ast.IfExp | ast.If):
        new.test = ast.UnaryOp(ast.Not(), new.test)
        return new
    if isinstance(new, ast.Constant) and isinstance(new.value, int | float) and new.value is not None:
        new.value = not new.value if isinstance(new.value, bool) else new.value + 1
        return new
    if isinstance(new, ast.Return) and new.value is not None and not isinstance(new.value, ast.Constant):
        new.value = ast.Constant(None)
        return new
    return None


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Yield (parent, field, position) of every node that can be changed; not messages, annotations and types."""
    for field, value in ast.iter_fields(tree):
        typing = field in ("annotation", "returns", "decorator_list", "type_params")
        if typing or isinstance(tree, ast.Raise | ast.JoinedStr):
            continue
        if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
            continue
        for position, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST):
                if changed(child) is not None:
                    yield tree, field, position if isinstance(value, list) else None
                yield from places(child)


@dataclass(frozen=True)
class Mutant:
    """One fault: its file, which of the file's places, the lines of its statement, whether that runs at import."""

    path: Path
    number: int
    lines: range
    at_import: bool

    def make(self) -> tuple[str, str]:
        """Return where it is, and the changed source."""
        tree = ast.parse(self.path.read_text(encoding="utf-8"))
        parent, field, position = list(places(tree))[self.number]
        old = getattr(parent, field) if position is None else getattr(parent, field)[position]
        new = changed(old)
        if position is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[position] = new
        head, line = ast.unparse(old).splitlines()[0], getattr(old, "lineno", self.lines.start)
        where = f"{self.path.relative_to(ROOT)}:{line}: {head[:60]}"
        return where, ast.unparse(ast.fix_missing_locations(tree))


def mutants(path: Path) -> list[Mutant]:
    """Return every fault of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    bodies = {inner for node in functions for part in node.body for inner in ast.walk(part)}
    statements = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            # The head of a compound statement alone: its body has statements of its own.
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            for inner in _of_statement(node):
                statements[inner] = range(node.lineno, max(node.lineno, last) + 1)
    nodes = [_child(*place) for place in places(tree)]
    return [Mutant(path, i, statements[node], node not in bodies) for i, node in enumerate(nodes)]


def _child(parent: ast.AST, field: str, position: int | None) -> ast.AST:
    child: ast.AST = getattr(parent, field) if position is None else getattr(parent, field)[position]
    return child


def _of_statement(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a statement and its expressions, not the statements inside it."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt):
            yield from _of_statement(child)


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from changed source."""

    def __init__(self, name: str, source: str, path: Path) -> None:
        self.name, self.source, self.path = name, source, path

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Answer for that module only."""
        if name != self.name:
            return None
        package = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        spec = importlib.util.spec_from_loader(name, self, origin=str(self.path), is_package=package is not None)
        assert spec is not None
        if package:
            spec.submodule_search_locations = package
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed source."""
        exec(compile(self.source, str(self.path), "exec"), vars(module))


class _Watcher:
    """A pytest plugin that notes which lines of a room every test runs, and how long the test takes."""

    def __init__(self, room: Path) -> None:
        import coverage

        self.cover = coverage.Coverage(data_file=None, include=[f"{room}/*"])
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Begin a test: fixtures made for it count as its own."""
        self.cover.switch_context(nodeid)
        self.seconds[nodeid] = time.perf_counter()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """End a test."""
        self.seconds[nodeid] = time.perf_counter() - self.seconds[nodeid]
        self.cover.switch_context("")

    def lines(self) -> dict[str, dict[int, list[str]]]:
        """Return, for every file and line, the tests that run it."""
        data = self.cover.get_data()
        return {file: data.contexts_by_lineno(file) for file in data.measured_files()}


@dataclass(frozen=True)
class Tests:
    """The tests of a room: seconds of each, and those that run a line of a file."""

    seconds: Mapping[str, float]
    lines: Mapping[str, Mapping[str, list[str]]]

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests that run a mutant's statement, the quickest first; all where it runs at import."""
        lines = self.lines.get(str(mutant.path), {})
        found = {test for line in mutant.lines for test in lines.get(str(line), [])}
        return sorted(self.seconds if mutant.at_import else found, key=lambda test: self.seconds.get(test, 0.0))


def watch(room: Path, files: list[str]) -> Tests:
    """Run a room's tests once, watched, in a forked process."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "tests.json")

        def run() -> int:
            import pytest

            watcher = _Watcher(room)
            with watcher.cover.collect():
                code = int(pytest.main([*QUIET, *files], plugins=[watcher]))
            target.write_text(json.dumps({"seconds": watcher.seconds, "lines": watcher.lines()}), encoding="utf-8")
            return code

        if not forked(run, None):
            raise SystemExit(f"The tests {files} fail without any change.")
        return Tests(**json.loads(target.read_text(encoding="utf-8")))


def forked(run: Callable[[], int], seconds: int | None) -> bool:
    """Tell whether a function returns 0 in a forked, silent process within the time."""
    child = os.fork()
    if child == 0:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        signal.alarm(seconds or 0)
        os._exit(run())
    return os.waitpid(child, 0)[1] == 0


def survives(mutant: Mutant, source: str, tests: list[str]) -> bool:
    """Run tests on changed source in a forked process; tell whether none of them failed."""

    def run() -> int:
        import pytest

        parts = mutant.path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sys.meta_path.insert(0, Changed(name, source, mutant.path))
        return int(pytest.main(["-x", *QUIET, *tests]))

    return forked(run, SECONDS)


def main() -> None:
    """Sample faults of a room, run its tests on each, say the score and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("room", choices=sorted(TESTS))
    parser.add_argument("sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    for heavy in (
        "networkx",
        "numpy",
        "scipy.sparse",
        "scipy.stats",
        "scipy.optimize",
        "sklearn.metrics",
        "hypothesis",
    ):
        importlib.import_module(heavy)
    room = ROOT / "innersight_graph" / given.room
    tests = watch(room, [f"tests/{name}.py" for name in TESTS[given.room] if (ROOT / f"tests/{name}.py").exists()])
    everything = [mutant for path in sorted(room.rglob("*.py")) for mutant in mutants(path)]
    chosen = random.Random(given.seed).sample(everything, min(given.sample, len(everything)))
    alive = 0
    for mutant in chosen:
        where, source = mutant.make()
        covering = tests.of(mutant)
        if not covering or survives(mutant, source, covering):
            alive += 1
            say(f"survived  {where}")
    noticed = len(chosen) - alive
    share = noticed / max(len(chosen), 1)
    say(f"{given.room}: {noticed} of {len(chosen)} noticed ({share:.0%}), drawn from {len(everything)}")


def say(line: str) -> None:
    """Write a line at once: a run takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
