"""The house rules a reader relies on: imports point one way, importing is light, hooks live in one place."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "innersight_graph"

# A room imports rooms that stand before it, never one that stands after it.
ROOMS = [
    "errors", "files", "memory", "provenance", "graph", "partition", "statistics", "engines", "mixture", "detection",
    "nxbackend", "session", "neuronize", "probe", "data", "planted", "evaluation", "figures", "report", "comparison",
    "paper", "demo", "cli",
]  # fmt: skip
SAME_ROOM = {"_html": "report", "_nxinfo": "nxbackend", "__main__": "cli", "_terminal": "cli", "_idx": "data"}
GRAPH_WING = ROOMS[: ROOMS.index("nxbackend") + 1]
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """Room of a dotted module name below the package, '' for the package itself."""
    if module == "innersight_graph.probe.session":
        return "session"  # the hooks themselves know only torch and also serve the tracer, which stands before probe
    head = module.split(".")[1] if "." in module else ""
    return SAME_ROOM.get(head, head)


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> set[str]:
    """Every module the file imports, at any depth, relative imports resolved; type-only imports too."""
    package = dotted(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            if module == "innersight_graph":
                found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(dotted(path))
    if not room:
        return  # the package's own __init__ imports lazily, by name
    assert room in ROOMS, f"{path} is in no room of the house"
    for module in imported_modules(path):
        if module.split(".")[0] != "innersight_graph" or not room_of(module):
            continue
        other = room_of(module)
        if other in ROOMS:
            assert ROOMS.index(other) <= ROOMS.index(room), f"{dotted(path)} imports {module}, which stands after it"


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(dotted(p)) in GRAPH_WING], ids=dotted)
def test_graph_wing_does_not_import_torch(path: Path) -> None:
    if path == PACKAGE / "engines" / "torch.py":
        return  # the one engine that is torch, imported when chosen
    assert not {m for m in imported_modules(path) if m.split(".")[0] in {"torch", "torchvision"}}


def test_importing_the_package_is_light() -> None:
    heavy = "{'torch', 'networkx', 'sklearn', 'scipy', 'numpy'}"
    code = f"import sys, innersight_graph as isg; dir(isg); print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_graph_wing_runs_without_torch() -> None:
    code = (
        "import sys, networkx as nx, innersight_graph as isg;"
        "P = isg.em_communities(nx.karate_club_graph(), 2, seed=0, engine='numpy');"
        "assert len(P) == 2; print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_every_public_name_resolves() -> None:
    import innersight_graph as isg

    assert [name for name in isg.__all__ if not hasattr(isg, name)] == []


def test_hooks_live_in_probe_only() -> None:
    hook = re.compile(r"register_(full_|module_)?(forward|backward)(_pre)?_hook")
    holders = {dotted(p) for p in MODULES if hook.search(p.read_text(encoding="utf-8"))}
    assert all(name.startswith("innersight_graph.probe") for name in holders)


def test_library_does_not_print() -> None:
    def prints(path: Path) -> bool:
        calls = (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call))
        return any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls)

    assert [dotted(p) for p in MODULES if prints(p)] == []


def test_ci_runs_the_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    command = re.search(r"^(python3 -m venv \S+ .*pytest.*)$", readme, flags=re.MULTILINE)
    assert command is not None
    assert command.group(1) in ci
