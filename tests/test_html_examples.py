"""The example pages and the notebook run as they stand, in their quick form."""

from __future__ import annotations

import importlib.util
import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import innersight_graph as isg

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MEGABYTES = 1_000_000


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("mlp_digits", 5),
        pytest.param("faces_cnn", 5, marks=pytest.mark.slow),
        pytest.param("resnet18", 8, marks=pytest.mark.slow),
        pytest.param("tiny_gpt", 5, marks=pytest.mark.slow),
    ],
)
def test_example_pages(name: str, limit: int, tmp_path: Path) -> None:
    page = example(name).main(tmp_path, quick=True)
    assert page.path == tmp_path / f"{name}.html"
    assert page.n_bytes <= limit * MEGABYTES
    assert page.path.stat().st_size == page.n_bytes


# What each of the other scripts must have printed, run for two epochs where they train.
PRINTED = {
    "bimt_training": ("without the cost: test accuracy", "with the cost: test accuracy", "block model agree: ARI"),
    "compare_classic": ("Trained on digits:", "Four planted communities", "No communities at all", "blockmodel"),
    "graph_analytics": ("the graph of communities:", "maximum activation flow", "wrote communities.graphml"),
}
PAGES = {"mlp_digits", "faces_cnn", "resnet18", "tiny_gpt"}


@pytest.mark.parametrize(
    "name", ["bimt_training", "graph_analytics", pytest.param("compare_classic", marks=pytest.mark.slow)]
)
def test_example_scripts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        # After two epochs ways of choosing the number of communities may disagree, and say so.
        warnings.simplefilter("ignore", isg.SelectionWarning)
        main = example(name).main
        main(**({"epochs": 2} if "epochs" in inspect.signature(main).parameters else {}))
    printed = capsys.readouterr().out
    for words in PRINTED[name]:
        assert words in printed


def test_no_example_is_left_out() -> None:
    # The README's pictures are taken by hand from a browser.
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*PRINTED, *PAGES, "screenshots"}


def test_the_notebook_runs_and_shows_the_page() -> None:
    """Cells run in order in one namespace, as a notebook runs them; the page's cell displays a frame."""
    pytest.importorskip("IPython")
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.history_manager.enabled = False
    shell.init_display_formatter()
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            result = shell.run_cell("".join(cell["source"]), store_history=False)
            result.raise_error()
            shown.append(result.result)
    pages = [value for value in shown if isinstance(value, isg.Page)]
    assert len(pages) == 1
    formatted, _ = shell.display_formatter.format(pages[0])
    assert formatted["text/html"].startswith("<iframe srcdoc=")
    assert not any(cell.get("outputs") for cell in notebook["cells"])
