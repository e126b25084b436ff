"""Mutation testing: how many small faults in graph, mixture and statistics the tests notice.

    python tests/benchmarks/mutation.py statistics 60 --seed 0

One operator, constant, condition or return value of a room is changed at a time, and the room's tests run on the
changed source in a forked process. The score is the share of changes that made a test fail (or run out of time).
Changes that alter nothing a test could see are not sorted out, so 100 % cannot be reached.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    "graph": [
        "test_graph_layered", "test_graph_profiles", "test_graph_gauge", "test_graph_interchange", "test_properties",
    ],
    "partition": ["test_partition", "test_properties"],
    "statistics": ["test_statistics", "test_statistics_edges"],
    "mixture": ["test_mixture", "test_em"],
}  # fmt: skip
SECONDS = 90
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


def mutants(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (where, source) for every fault of a file."""
    text = path.read_text(encoding="utf-8")
    for number in range(len(list(places(ast.parse(text))))):
        tree = ast.parse(text)
        parent, field, position = list(places(tree))[number]
        old = getattr(parent, field) if position is None else getattr(parent, field)[position]
        new = changed(old)
        if position is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[position] = new
        head, line = ast.unparse(old).splitlines()[0], getattr(old, "lineno", 0)
        yield f"{path.relative_to(ROOT)}:{line}: {head[:60]}", ast.unparse(ast.fix_missing_locations(tree))


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


def survives(path: Path, source: str, tests: list[str]) -> bool:
    """Run the tests on changed source in a forked process; tell whether none of them failed."""
    child = os.fork()
    if child == 0:
        import pytest

        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sys.meta_path.insert(0, Changed(name, source, path))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        signal.alarm(SECONDS)
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])))
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    """Sample faults of a room, run its tests on each, say the score and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("room", choices=sorted(TESTS))
    parser.add_argument("sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further one after this time")
    given = parser.parse_args()
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    for heavy in ("networkx", "numpy", "scipy.sparse", "scipy.stats", "scipy.optimize", "sklearn.metrics"):
        importlib.import_module(heavy)
    tests = [f"tests/{name}.py" for name in TESTS[given.room] if (ROOT / "tests" / f"{name}.py").exists()]
    files = sorted((ROOT / "innersight_graph" / given.room).rglob("*.py"))
    everything = [(path, *mutant) for path in files for mutant in mutants(path)]
    chosen = random.Random(given.seed).sample(everything, min(given.sample, len(everything)))
    untouched = next(iter((ROOT / "innersight_graph" / given.room).rglob("__init__.py")))
    if not survives(untouched, untouched.read_text(encoding="utf-8"), tests):
        raise SystemExit(f"The tests {tests} fail without any change.")
    alive = []
    begin, tried = time.monotonic(), 0
    for path, where, source in chosen:
        if time.monotonic() - begin > given.seconds:
            break
        tried += 1
        if survives(path, source, tests):
            alive.append(where)
            sys.stdout.write(f"survived  {where}\n")
            sys.stdout.flush()
    noticed = tried - len(alive)
    sys.stdout.write(
        f"{given.room}: {noticed} of {tried} noticed ({noticed / max(tried, 1):.0%}), drawn from {len(everything)}\n"
    )


if __name__ == "__main__":
    main()
