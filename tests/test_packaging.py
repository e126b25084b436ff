"""The wheel: pure Python, complete, installed and used in an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
with (ROOT / "pyproject.toml").open("rb") as file:
    PROJECT = tomllib.load(file)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the build backend itself: nothing is fetched."""
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("dist")
    return Path(next(iter(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"]))))


def test_the_wheel_is_pure_python_and_complete(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        entries = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    inside = {name for name in names if name.startswith("innersight_graph/")}
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "innersight_graph").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == tracked
    assert not any(name.endswith((".so", ".pyd", ".dll", ".dylib", ".pyc")) for name in names)
    assert not any(name.startswith(("tests/", "examples/")) for name in names)
    assert "innersight = innersight_graph.cli:main" in entries
    assert "networkx.backends" in entries
    assert "License-Expression: BSD-3-Clause" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "innersight_graph/py.typed" in names


USE = """
import sys, pathlib, tempfile, networkx as nx, innersight_graph as isg
assert "torch" not in sys.modules
G = isg.as_layered(nx.karate_club_graph())
P = isg.em_communities(G, 2, seed=0, density=1.0)
page = isg.to_html(G, P, pathlib.Path(tempfile.mkdtemp(), "größe.html"))
assert page.n_bytes > 500_000
print(isg.__file__)
"""


def test_it_installs_and_works_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """The dependencies are lent from this environment by a path file, the package itself is not."""
    home = tmp_path / "venv ü"
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    import networkx

    lent = Path(networkx.__file__).parent.parent
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    # Path files of a path file's folder are not read, so an editable install there is not seen.
    (site / "lent.pth").write_text(f"{lent}\n", encoding="utf-8")
    options: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True}
    # A path in the environment could show this very folder.
    options["env"] = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([python, "-c", USE], **options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(done.stdout.strip()).is_relative_to(site)
    command = subprocess.run([python, "-m", "innersight_graph", "--help"], **options)
    assert command.returncode == 0
    assert "detect" in command.stdout


def test_every_import_is_a_declared_dependency() -> None:
    import ast

    known = {"PIL": "pillow", "sklearn": "scikit-learn", "igraph": "igraph"}
    extras = PROJECT["project"]["optional-dependencies"].values()
    declared = [*PROJECT["project"]["dependencies"], *(line for lines in extras for line in lines)]
    names = {re.split(r"[<>=;\[ ]", line)[0].lower() for line in declared}
    # pillow comes with matplotlib, threadpoolctl with scikit-learn; the wheels of CuPy and cuGraph carry versions.
    names |= {
        "pillow",
        "threadpoolctl",
        "cupy",
        "cugraph",
        "nx_cugraph",
        "transformers",
        "safetensors",
        "click",
        "jinja2",
    }
    for path in (ROOT / "innersight_graph").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found = [node.module]
            for module in found:
                top = module.split(".")[0]
                if top in sys.stdlib_module_names or top == "innersight_graph":
                    continue
                assert known.get(top, top).lower() in names, f"{path.name} imports {top}"


def test_no_module_needs_unix() -> None:
    """Modules that exist on Unix only are imported inside functions, guarded."""
    import ast

    unix = {"fcntl", "resource", "pwd", "grp", "termios", "posix", "syslog"}
    for path in (ROOT / "innersight_graph").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = {id(n) for t in ast.walk(tree) if isinstance(t, ast.Try) for n in ast.walk(t)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not ({alias.name for alias in node.names} & unix) or id(node) in guarded, path.name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr not in {"fork", "setsid", "getuid", "geteuid", "mkfifo"}, path.name


def test_text_files_name_their_encoding() -> None:
    """Windows would read and write another one."""
    import ast

    for path in (ROOT / "innersight_graph").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            given = {keyword.arg for keyword in node.keywords}
            binary = any(isinstance(a, ast.Constant) and isinstance(a.value, str) and "b" in a.value for a in node.args)
            packed = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in {
                "gzip",
                "Image",
                "os",
                "zipfile",
                "archive",
            }
            if name in {"read_text", "open"} and not binary and not packed and "files" not in path.name:
                own = name == "read_text" and isinstance(node.func, ast.Name)
                assert own or "encoding" in given, f"{path.name}: {ast.unparse(node)}"


def test_crlf_and_byte_order_marks_do_not_matter(tmp_path: Path) -> None:
    import networkx as nx

    import innersight_graph as isg

    G = isg.as_layered(nx.karate_club_graph())
    P = isg.random_communities(G, 3, seed=0)
    folder = tmp_path / "größe ネット"
    folder.mkdir()
    for suffix in (".json", ".graphml", ".gexf"):
        path = folder / ("g" + suffix)
        isg.write_graph(G, path)
        assert b"\r" not in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        assert isg.read_graph(path).number_of_edges() == G.number_of_edges()
    path = folder / "p.json"
    P.to_json(path)
    assert b"\r" not in path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert isg.Partition.from_json(path).to_json() == P.to_json()
