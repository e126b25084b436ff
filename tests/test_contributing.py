"""The recipes of CONTRIBUTING.md, each carried out in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"```python\n# (innersight_graph/\S+\.py)\n(.*?)```", TEXT, flags=re.DOTALL))

TRIAL = """
import tempfile, pathlib, numpy as np, networkx as nx, innersight_graph as isg
assert str(pathlib.Path(isg.__file__).resolve()).startswith(str(pathlib.Path.cwd().resolve())), isg.__file__
K = nx.karate_club_graph()

from innersight_graph.detection import methods
assert "halves" in methods()
P = isg.detect(K, "halves", seed=0)
assert [sorted(c) for c in P] == [list(range(17)), list(range(17, 34))]
assert isg.Partition.from_json(P.to_json()).to_json() == P.to_json()

from innersight_graph.evaluation.balance import Balance
report = isg.evaluate(K, P, [Balance(), isg.Structure(K)], nulls=0)
assert float(report.evaluations["balance"]) == 1.0
assert isg.Report.from_json(report.to_json(), K).evaluations["balance"] == report.evaluations["balance"]

from innersight_graph.engines.careful import CarefulEngine
engines = (CarefulEngine(), "numpy")
found = [isg.em_communities(K, 2, seed=0, n_init=6, density=1.0, engine=engine) for engine in engines]
assert found[0].communities == found[1].communities

from innersight_graph.arrays_reader import load_arrays
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "d.npz")
    np.savez(path, x=np.zeros((10, 1, 4, 4)), y=np.arange(10) % 2)
    data = load_arrays(path)
    assert repr(data) == "ImageData('arrays', 2 classes, 1x4x4, 6/2/2 train/validation/test)"
    path.write_bytes(b"nothing")
    try:
        load_arrays(path)
    except isg.InputError as error:
        assert "numpy.savez" in str(error)
    else:
        raise AssertionError("a damaged file was read")
print("done")
"""


def test_the_page_is_one_page_with_four_recipes() -> None:
    assert len(RECIPES) == 4
    assert len(TEXT.splitlines()) < 160


def test_every_recipe_works_as_written(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "innersight_graph", tmp_path / "innersight_graph", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, code in RECIPES.items():
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(code, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", TRIAL], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "done", done.stderr[-3000:]


@pytest.mark.slow
def test_recipes_satisfy_the_types(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "innersight_graph", tmp_path / "innersight_graph", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, code in RECIPES.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "mypy", *RECIPES], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
