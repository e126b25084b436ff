"""The command `innersight`: steps chain over files, errors are one paragraph, exit codes mean what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from innersight_graph import InnerSightError, LayeredDiGraph, Partition
from innersight_graph.cli import app

FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 10))
"""


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli")
    (out / "net.py").write_text(FACTORY, encoding="utf-8")
    run("graph", f"{out / 'net.py'}:make", "--data", "digits", "--out", str(out / "graph.npz"))
    run("detect", str(out / "graph.npz"), "-n", "3", "--seed", "1", "--out", str(out / "partition.json"))
    return out


def test_graph_and_detect_write_what_the_library_reads(folder: Path) -> None:
    G = LayeredDiGraph.load(folder / "graph.npz")
    assert [layer.width for layer in G.layers] == [64, 16, 8, 10]
    P = Partition.from_json(folder / "partition.json")
    assert P.seed == 1
    assert sum(map(len, P.cover(G))) == len(G)


def test_evaluate_and_report(folder: Path) -> None:
    graph, partition = str(folder / "graph.npz"), str(folder / "partition.json")
    options = ["--model", f"{folder / 'net.py'}:make", "--data", "digits", "--nulls", "9"]
    said = run("evaluate", graph, partition, *options, "--out", str(folder / "report.json"))
    assert "ablation" in said
    assert set(json.loads((folder / "report.json").read_text(encoding="utf-8"))) >= {"partition", "evaluations"}
    run("report", graph, str(folder / "report.json"), "--out", str(folder / "report.html"))
    run("report", graph, partition, "--out", str(folder / "bare.html"))
    assert (
        "<canvas" in (folder / "report.html").read_text(encoding="utf-8")
        or (folder / "bare.html").stat().st_size > 10_000
    )
    assert "ablation" in run("info", str(folder / "report.json"))


def test_compare_runs_methods_or_reads_partitions(folder: Path) -> None:
    target = folder / "comparison.csv"
    run("compare", str(folder / "graph.npz"), str(folder / "partition.json"), "--out", str(target))
    assert target.read_text(encoding="utf-8").splitlines()[1].startswith("partition,")
    run("compare", str(folder / "graph.npz"), "--methods", "louvain,random", "--out", str(target))
    run("compare", str(folder / "graph.npz"), "--methods", "degree,random", "--out", str(target.with_suffix(".html")))
    assert "Communities by random and degree" in target.with_suffix(".html").read_text(encoding="utf-8")
    assert [line.split(",")[0] for line in target.read_text(encoding="utf-8").splitlines()] == [
        "method",
        "louvain",
        "random",
    ]


def test_info_describes_files_and_installation(folder: Path) -> None:
    assert "98 neurons" in run("info", str(folder / "graph.npz"))
    assert "communities by em" in run("info", str(folder / "partition.json"))
    assert "networkx" in run("info")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["detect", "missing.npz"], "missing.npz"),
        (["graph", "torchvision:no_such_model", "--input", "3x64x64"], "no_such_model"),
        (["graph", "torchvision:resnet18", "--input", "3xtall"], "3x64x64"),
        (["evaluate", "{graph}", "{partition}", "--model", "{net}:make", "--data", "cats"], "--data"),
        (["detect", "{graph}", "--method", "no-such-method"], "no-such-method"),
        (["detect", "{graph}", "-n", "0"], "n_communities"),
        (["detect", "{graph}", "--out", "no/such/folder/p.json"], "no/such/folder"),
        (["info", "{net}"], "net.py"),
    ],
)
def test_user_errors_name_what_came(folder: Path, words: list[str], message: str) -> None:
    places = {"graph": folder / "graph.npz", "partition": folder / "partition.json", "net": folder / "net.py"}
    with pytest.raises(InnerSightError, match=message):
        CliRunner().invoke(app, [word.format(**places) for word in words], catch_exceptions=False)


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "innersight_graph", *words], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_exit_codes(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine", encoding="utf-8")
    failed = command("demo", "--out", "taken", cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "Traceback" not in failed.stderr
    assert taken.read_text(encoding="utf-8") == "mine"
    assert command("detect", "--no-such-option", cwd=tmp_path).returncode == 2
    assert command("--help", cwd=tmp_path).returncode == 0
