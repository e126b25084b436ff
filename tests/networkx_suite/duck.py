"""A pytest plugin for NetworkX's own tests: every DiGraph an algorithm receives becomes ours.

    NETWORKX_TEST_BACKEND=innersight_duck pytest -p duck --pyargs networkx.algorithms.dag

NetworkX's algorithms run unchanged, on our lazy read-only adjacency. Functions that declare that they change their
input get a plain copy, as a frozen graph could not serve them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from networkx.classes.tests.dispatch_interface import LoopbackBackendInterface

from innersight_graph.graph.mirror import mirror

NAME = "innersight_duck"
# Tests of functions that change their input without telling the dispatcher, so that no read-only graph can pass.
XFAILS: dict[str, str] = json.loads((Path(__file__).parent / "duck_xfails.json").read_text(encoding="utf-8"))
conversions = 0


class DuckInterface(LoopbackBackendInterface):
    """NetworkX's own algorithms on our graph class."""

    @staticmethod
    def convert_from_nx(graph: Any, *, name: str | None = None, **options: Any) -> Any:
        global conversions
        if type(graph) is not nx.DiGraph or _changes_input(name):
            return LoopbackBackendInterface.convert_from_nx(graph, name=name, **options)
        conversions += 1
        return mirror(graph)

    @staticmethod
    def on_start_tests(items: list[pytest.Item]) -> None:
        root = Path(nx.__file__).parent
        for item in items:
            name = f"{item.path.relative_to(root).as_posix()}::{item.nodeid.split('::', 1)[1]}"
            if name in XFAILS:
                item.add_marker(pytest.mark.xfail(reason=XFAILS[name], strict=True))


def _changes_input(name: str | None) -> bool:
    function = nx.utils.backends._registered_algorithms.get(name)
    return function is not None and bool(function.mutates_input)


class _EntryPoint:
    name = NAME

    def load(self) -> DuckInterface:
        return DuckInterface()


def pytest_configure() -> None:
    """Register here and not at import: doctest collection imports this file too."""
    nx.utils.backends.backends[NAME] = _EntryPoint()
    nx.utils.backends.backend_info[NAME] = {}
    nx.config.backends = nx.utils.Config(**{NAME: nx.utils.Config()}, **nx.config.backends)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"conversions to LayeredDiGraph: {conversions}")


def pytest_sessionfinish() -> None:
    if path := os.environ.get("INNERSIGHT_COUNT"):
        Path(path).write_text(str(conversions), encoding="utf-8")
