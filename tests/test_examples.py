"""The examples that print run as they stand, shortened where training takes long, and say what the README says."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ELSEWHERE = {"mlp_digits", "faces_cnn", "resnet18", "tiny_gpt"}  # pages: tests/test_html_examples.py


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_example_is_run_by_a_test() -> None:
    tested = set(re.findall(r"^def test_example_(\w+)\(", Path(__file__).read_text(encoding="utf-8"), re.MULTILINE))
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested | ELSEWHERE


def test_example_graph_analytics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example("graph_analytics").main()
    said = capsys.readouterr().out
    assert float(said.split("held-out images: ")[1].split()[0]) > 0.85
    motifs = [int(n) for n in re.findall(r"[+-]{2}: (\d+)", said)]
    assert len(motifs) == 4
    assert sum(motifs) > 0
    assert "maximum activation flow input -> 4" in said
    assert (tmp_path / "communities.graphml").stat().st_size > 1000


@pytest.mark.slow
def test_example_compare_classic(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("leidenalg")
    example("compare_classic").main(epochs=15)
    tables = [table_of(text) for text in capsys.readouterr().out.split("\n\n")]
    trained, planted, nothing = tables
    assert trained["em"]["specificity"] > 3 * trained["random"]["specificity"]
    assert planted["blockmodel"]["reference"] > 0.9
    assert planted["random"]["reference"] < 0.1
    assert nothing["blockmodel"]["communities"] == 1
    assert nothing["louvain"]["communities"] > 1


@pytest.mark.slow
def test_example_bimt_training(capsys: pytest.CaptureFixture[str]) -> None:
    example("bimt_training").main(epochs=20)
    said = capsys.readouterr().out
    cost = [float(value) for value in re.findall(r"connection cost (\d+\.\d+)", said)]
    accuracy = [float(value) for value in re.findall(r"test accuracy (\d\.\d+)", said)]
    assert cost[1] < 0.5 * cost[0]
    assert min(accuracy) > 0.85


@pytest.mark.slow
@pytest.mark.browser
def test_example_screenshots(tmp_path: Path) -> None:
    from browser_page import CHROMIUM

    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    pytest.importorskip("playwright")
    page = example("mlp_digits").main(tmp_path, quick=True)
    written = example("screenshots").main(page.path, tmp_path / "images")
    assert {path.stem for path in written} == {"report", "community", "communities-dark", "findings"}
    assert all(path.stat().st_size > 5000 for path in written)


def table_of(text: str) -> dict[str, dict[str, float]]:
    """Read a printed comparison: right-aligned columns under their names, the first column the method."""
    head, *lines = text.strip().splitlines()[1:]
    names = head.split()
    ends = [head.index(name, sum(map(len, names[:i]))) + len(name) for i, name in enumerate(names)]
    rows: dict[str, dict[str, float]] = {}
    for line in lines:
        cells = [line[a:b].strip() for a, b in zip([0, *ends[1:-1]], ends[1:], strict=True)]
        method = line.split()[0]
        rows[method] = {}
        for name, cell in zip(names[1:], cells, strict=True):
            value = cell.split()[-1] if cell else ""
            if re.fullmatch(r"-?\d+(\.\d+)?", value):
                rows[method][name] = float(value)
    return rows
