"""compare(), the capability table and the benchmark's bookkeeping."""

from __future__ import annotations

import csv
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from scipy import stats

from innersight_graph import Comparison, InputError, agreement, compare, detect
from innersight_graph.comparison.board import leaderboard, leaderboard_page
from innersight_graph.comparison.capability import _scale, _try, capabilities, capability_table
from innersight_graph.comparison.runs import CONTENDERS, Contender, benchmark, read_results, summarize
from innersight_graph.comparison.tasks import TASKS, Task
from innersight_graph.partition import Partition
from innersight_graph.planted import planted_hubs

K = nx.karate_club_graph()
CLUBS = [{v for v in K if K.nodes[v]["club"] == c} for c in ("Mr. Hi", "Officer")]


def tiny(seed: int):  # type: ignore[no-untyped-def]
    return planted_hubs(0.2, 2, widths=(24, 20, 24), seed=seed)


def test_rows_columns_and_agreements() -> None:
    table = compare(K, {"clubs": CLUBS, "degree": "degree", "random": "random"}, [len], seed=0)
    assert isinstance(table, Comparison)
    assert [row["method"] for row in table.rows] == ["clubs", "degree", "random"]
    assert [row["len"] for row in table.rows] == [2.0, 4.0, 4.0]
    assert table.rows[0]["seconds"] is None
    assert table.rows[1]["seconds"] >= 0
    P = table.partitions
    assert table.agreements[0, 1] == pytest.approx(agreement(P["clubs"], P["degree"]).ari)
    assert table.rows[0]["agreement"] == pytest.approx(table.agreements[0, 1:].mean())
    assert P["degree"] == detect(K, "degree", seed=0)


def test_stability_reference_and_options() -> None:
    reference = compare(K, {"clubs": CLUBS}, [len]).partitions["clubs"]
    table = compare(
        K, ["random", "degree"], [len], reference=reference, repeats=2, options={"degree": {"n_communities": 2}}, seed=0
    )
    by = {row["method"]: row for row in table.rows}
    assert by["degree"]["stability"] == 1
    assert abs(by["random"]["stability"]) < 0.3
    assert by["degree"]["communities"] == 2
    assert by["degree"]["reference"] == pytest.approx(agreement(reference, table.partitions["degree"]).ari)


def test_evaluators_are_named_and_scored(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from innersight_graph.evaluation.structure import Structure

    G, truth = tiny(0)
    table = compare(G, {"truth": truth, "random": "random"}, seed=0)
    assert table.rows[0]["structure"] == pytest.approx(float(Structure(G).evaluate(G, truth)))
    path = tmp_path / "comparison.csv"
    text = table.to_csv(path)
    assert path.read_text(encoding="utf-8") == text
    read = list(csv.DictReader(text.splitlines()))
    assert [row["method"] for row in read] == ["truth", "random"]
    assert tuple(table.to_pandas().columns) == table.columns
    assert str(table).splitlines()[0].split()[0] == "method"
    assert "<td>truth</td>" in table._repr_html_()


def test_closings_against_random_groups_have_columns_and_a_page(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import torch

    import innersight_graph as isg

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3))
    data = torch.randn(60, 6), torch.arange(60) % 3
    G = isg.neuron_graph(model, data)
    ablation = isg.Ablation(model, data)
    table = compare(G, ["degree", "random"], [ablation, len], nulls=19, seed=0)
    row, report = table.rows[1], table.reports["random"]
    assert report.partition == table.partitions["random"]
    assert row["len"] == len(table.partitions["random"])
    alone = ablation.evaluate(G, table.partitions["random"], nulls=19, seed=0)
    assert row["ablation"] == pytest.approx(float(alone))
    assert row["ablation specificity"] == pytest.approx(alone.details["specificity_ratio"]["0"])
    assert 0 <= row["ablation supported"] <= 1
    without = compare(G, ["degree"], [ablation], seed=0)
    assert "ablation specificity" not in without.columns
    page = table.to_html(tmp_path / "comparison.html", title="Two controls")
    text = page.path.read_text(encoding="utf-8")
    assert "Two controls" in text
    assert all(f'"{name}"' in text for name in ("degree", "random", "seconds", "ablation specificity"))
    assert "closing a random group" in text


def test_functions_and_repeated_methods_have_names() -> None:
    def halves(G, layers=None, seed=None):  # type: ignore[no-untyped-def]
        return [range(17), range(17, 34)]

    table = compare(K, [halves, "degree", "degree"], [len], seed=0)
    assert [row["method"] for row in table.rows] == ["halves", "degree", "degree 2"]
    assert len(compare(K, "degree", [len], seed=0).rows) == 1


@pytest.mark.parametrize("nothing", [[], {}])
def test_nothing_to_compare_is_refused(nothing: object) -> None:
    with pytest.raises(InputError):
        compare(K, nothing)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        compare(K, [detect(nx.path_graph(3), "random", seed=0)], [len])


def test_two_rows_can_be_drawn_against_each_other() -> None:
    table = compare(K, {"clubs": CLUBS, "degree": "degree"}, [len], seed=0)
    assert table.alluvial("clubs", "degree").axes
    with pytest.raises(InputError, match="nobody"):
        table.alluvial("clubs", "nobody")


# ---------------------------------------------------------------------- capabilities


def test_capabilities_are_what_the_methods_do() -> None:
    flagship = _try("blockmodel")
    assert all(
        flagship[name] for name in ("signed", "weighted", "directed", "degrees", "estimates", "says none", "soft")
    )
    spectral = _try("spectral")
    assert spectral["weighted"]
    assert not spectral["signed"]
    assert not spectral["says none"]
    assert _try("coactivation")["needs"] == "features"
    assert _try("similarity")["needs"] == "similarities"


TABLE = Path(__file__).parent / "benchmarks" / "CAPABILITIES.md"


def test_the_printed_table_is_what_the_methods_do() -> None:
    printed = TABLE.read_text(encoding="utf-8")
    for method in ("degree", "random", "coactivation", "similarity", "geometric", "spectral"):
        row = _try(method) | {"scale": _scale(method)}
        assert capability_table({method: row}).splitlines()[-1] in printed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::innersight_graph.SelectionWarning")
def test_every_method_has_a_row() -> None:
    table = capabilities()
    assert capability_table(table) in TABLE.read_text(encoding="utf-8")
    assert {"blockmodel", "em", "leiden", "louvain", "spectral"} <= set(table)
    assert len({tuple(row) for row in table.values()}) == 1
    assert not any(table["random"][name] for name in ("signed", "weighted", "directed", "degrees"))


# ---------------------------------------------------------------------- the benchmark


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        "tiny/a": Task("tiny/a", tiny, 2, "two groups"),
        "none/a": Task("none/a", lambda s: tiny(s), None, "nothing"),
    }
    monkeypatch.setattr("innersight_graph.comparison.runs.TASKS", made)


MINE = {"degree": Contender("degree"), "random": Contender("random", {}, True, True)}


def test_an_interrupted_run_goes_on_where_it_stopped(small_tasks: None, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "results.csv"
    rows = benchmark(path, contenders=MINE, seeds=2)
    # degree and random told the number on the task that has one; random estimating on both.
    assert len(rows) == 2 * (2 + 2)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:4]) + "\n", encoding="utf-8")
    calls = []
    real = detect
    monkeypatch.setattr(
        "innersight_graph.comparison.runs.detect", lambda *a, **k: (calls.append(a[1]), real(*a, **k))[1]
    )
    again = benchmark(path, contenders=MINE, seeds=2)
    key = lambda row: (row["task"], row["contender"], row["number"], row["seed"], row["ari"])  # noqa: E731
    assert sorted(map(key, again)) == sorted(map(key, rows))
    assert len(calls) < 2 * len(rows)
    before = len(calls)
    benchmark(path, contenders=MINE, seeds=2)
    assert len(calls) == before


def test_scores_are_agreements_with_the_truth(small_tasks: None, tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = benchmark(tmp_path / "r.csv", tasks=["tiny"], contenders={"degree": Contender("degree")}, seeds=1)
    G, truth = tiny(1000)
    expected = agreement(truth, detect(G, "degree", n_communities=2, gauge="none"))
    assert rows[0]["ari"] == pytest.approx(expected.ari, abs=1e-6)
    assert rows[0]["found"] == 2


def test_summaries_average_and_bracket() -> None:
    rows = [
        {"task": "t", "contender": "c", "number": "known", "seed": s, "ari": a, "ami": a, "found": f, "stability": None,
         "seconds": 1.0, "megabytes": None, "note": ""}
        for s, (a, f) in enumerate([(0.2, 1), (0.4, 3), (0.6, 1), (0.8, 2)])
    ]  # fmt: skip
    (line,) = summarize(rows)
    assert line["ari"] == pytest.approx(0.5)
    assert 0.2 <= line["low"] < 0.5 < line["high"] <= 0.8
    assert line["split"] == 0.5
    assert line["graphs"] == 4


def test_leaderboard_shows_losses_too(small_tasks: None, tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = benchmark(tmp_path / "r.csv", contenders=MINE, seeds=2)
    text = leaderboard(rows)
    assert "| degree |" in text
    assert "| random |" in text
    page = leaderboard_page(rows)
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http://www.w3.org", "")


def test_unknown_names_and_foreign_files_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="task"):
        benchmark(tmp_path / "r.csv", tasks=["nowhere"])
    with pytest.raises(InputError, match="contender"):
        benchmark(tmp_path / "r.csv", contenders=["nobody"])
    with pytest.raises(InputError):
        benchmark(tmp_path / "missing" / "r.csv", tasks=["hubs"], contenders=["random"], seeds=1)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError):
        read_results(tmp_path / "other.csv")
    assert read_results(tmp_path / "absent.csv") == []


def test_tasks_and_contenders_can_run() -> None:
    assert {task.family for task in TASKS.values()} >= {
        "layers",
        "roles",
        "hubs",
        "blocks",
        "programs",
        "merged",
        "null",
    }
    from innersight_graph.detection import methods

    assert {c.method for c in CONTENDERS.values() if isinstance(c.method, str)} <= set(methods())
    G, truth = TASKS["hubs/1"].make(1)
    assert len(truth) == TASKS["hubs/1"].number == 4
    assert np.isfinite(G.matrix("input", "hidden1")).all()


RECORDED = Path(__file__).parent / "benchmarks" / "leaderboard.csv"


def recorded(task: str, contender: str, number: str) -> list[dict]:  # type: ignore[type-arg]
    wanted = {"task": task, "contender": contender, "number": number}
    return [row for row in read_results(RECORDED) if all(row[key] == value for key, value in wanted.items())]


@pytest.mark.parametrize(
    ("task", "contender"),
    [
        ("layers/2.5", "block model"),
        ("roles/0.1", "block model"),
        ("hubs/1", "block model"),
        ("null/hubs", "block model, sensitive"),
        ("layers/4", "EM, as in the paper"),
    ],
)
def test_a_fresh_graph_falls_into_the_recorded_interval(task: str, contender: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A graph of its own, seed 1020, is predicted from the spread of the recorded ones (seeds 1000 to 1019)."""
    number = "known" if contender.startswith("EM") else "estimated"
    before = np.array([row["ari"] for row in recorded(task, contender, number) if row["seed"] < 1020])
    assert before.size >= 5, "too few recorded graphs to say what is normal"
    (now,) = [
        row
        for row in benchmark(tmp_path / "again.csv", tasks=[task], contenders=[contender], seeds=range(1020, 1021))
        if row["number"] == number
    ]
    # A 99 % prediction interval of Student's t; graphs that are all perfect say nothing of spread, hence the floor.
    half = stats.t.ppf(0.995, before.size - 1) * max(before.std(ddof=1), 0.005) * np.sqrt(1 + 1 / before.size)
    assert before.mean() - half <= now["ari"] <= before.mean() + half
    if task.startswith("null"):
        assert now["found"] == 1


def test_a_recorded_run_is_reproduced(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The same graph and seed give the recorded figure but for rounding, on any machine."""
    before = next(row for row in recorded("hubs/1", "block model", "known") if row["seed"] == 1000)
    again = benchmark(tmp_path / "again.csv", tasks=["hubs/1"], contenders=["block model"], seeds=1)
    now = next(row for row in again if row["number"] == "known")
    assert now["ari"] == pytest.approx(before["ari"], abs=0.02)
    assert now["found"] == before["found"]


def test_a_method_joins_in_a_few_lines(small_tasks: None, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Adding a method to the benchmark: a function and one line, 7 in all (at most 20 were promised)."""

    def by_sign(G, n_communities=2, *, layers=None, seed=None):  # type: ignore[no-untyped-def]
        """Halve each layer by the sum of what its neurons send out."""
        sent = {name: sum(np.asarray(G.matrix(name, t)).sum(axis=1) for t in G.outgoing(name)) for name in layers}
        return Partition.from_labels(
            G, {name: (total > np.median(total)).astype(int) for name, total in sent.items()}, method="by sign"
        )

    mine = {"by sign": Contender(by_sign), "random": CONTENDERS["random"]}
    rows = benchmark(tmp_path / "r.csv", tasks=["tiny"], contenders=mine, seeds=2)
    assert {row["contender"] for row in rows} == {"by sign", "random"}
    assert all(row["found"] == 2 and np.isfinite(row["ari"]) for row in rows if row["contender"] == "by sign")
    assert "by sign" in leaderboard(rows)


def test_intervals_counts_and_defeats_are_printed(small_tasks: None, tmp_path) -> None:  # type: ignore[no-untyped-def]
    mine = {"block model": Contender("random", {}, True, True), "spectral (Filan)": Contender("spectral")}
    text = leaderboard(benchmark(tmp_path / "r.csv", contenders=mine, seeds=3))
    assert "<sub>3</sub>" in text
    assert "±" in text
    # The name says flagship, the method is random: the loss must be said.
    assert "The block model is beaten by more than 0.03 on: tiny/a (by" in text
