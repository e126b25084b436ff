"""The leaderboard: who wins where, in Markdown for the repository and as a page to open."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from innersight_graph.comparison.runs import CONTENDERS, benchmark, summarize
from innersight_graph.comparison.tasks import TASKS
from innersight_graph.files import write_text

__all__ = ["leaderboard", "leaderboard_page", "write_leaderboard"]

_CLOSE = 0.03
_HEADINGS = {
    "known": "Number of communities known",
    "estimated": "Number of communities estimated",
}
_CELL = (
    "Mean adjusted Rand index with the truth (1 perfect, 0 chance) ± half of its bootstrap 95 % interval over graphs; "
    "below, the number of graphs. Bold: within 0.03 of the row's best."
)
_EXPLAINED = {
    "known": _CELL,
    "estimated": f"{_CELL} In brackets the mean number of communities found; the truth has four (merged: three).",
}
_FLAGSHIP = "block model"


def leaderboard(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the results of a benchmark as Markdown: tasks down, contenders across, losses shown.

    Parameters
    ----------
    rows : sequence of mapping
        From `benchmark` or `read_results`.

    Returns
    -------
    str
    """
    summary = summarize(rows)
    parts = []
    for number, heading in _HEADINGS.items():
        tasks, contenders, cells = _grid(summary, number, null=False)
        if tasks:
            parts += [
                f"## {heading}",
                _EXPLAINED[number],
                _markdown(["task", *contenders], _lines(tasks, contenders, cells, number)),
                _losses(tasks, contenders, cells),
            ]
    tasks, contenders, cells = _grid(summary, "estimated", null=True)
    if tasks:
        body = [[t, *(_split(cells.get((t, c))) for c in contenders)] for t in tasks]
        noise = [t for t in tasks if t != "null/rotated"]
        body.append(
            ["**all but rotated**", *(_rate([cells[t, c] for t in noise if (t, c) in cells]) for c in contenders)]
        )
        parts += [
            "## Graphs without communities",
            "Graphs cut into more than one community, of how many, in brackets the mean number found; in the last row "
            "the rate with its exact (Clopper–Pearson) 95 % interval. 0 is right.",
            _markdown(["task", *contenders], body),
        ]
    costs = _costs(summary)
    if costs:
        parts += [
            "## Cost and stability",
            "CPU seconds for one graph, and the adjusted Rand index between two seeds on the same graph, averaged over "
            "tasks with communities.",
            _markdown(["contender", "seconds", "seed to seed"], costs),
        ]
    described = [[name, TASKS[name].about, _graphs(summary, name)] for name in TASKS if _graphs(summary, name)]
    if described:
        parts += ["## Tasks", _markdown(["task", "what is planted", "graphs"], described)]
    return "\n\n".join(parts) + "\n"


def leaderboard_page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as one offline HTML page: for each task, the contenders ranked, with intervals.

    Parameters
    ----------
    rows : sequence of mapping
        From `benchmark` or `read_results`.

    Returns
    -------
    str
    """
    summary = summarize(rows)
    sections = []
    for task in dict.fromkeys(line["task"] for line in summary):
        about = TASKS[task].about if task in TASKS else ""
        null = task.startswith("null/")
        for number in _HEADINGS:
            lines = [line for line in summary if line["task"] == task and line["number"] == number]
            if not lines:
                continue
            lines.sort(key=lambda line: (line["split"], line["found"]) if null else (-line["ari"], line["seconds"]))
            asked = "" if null else f", number of communities {'given' if number == 'known' else 'to be found'}"
            title = f"{escape(task)} <small>{escape(about)}{asked}</small>"
            sections.append(f"<section><h2>{title}</h2>{_bars(lines, null)}</section>")
    return _PAGE.format(body="\n".join(sections))


def write_leaderboard(
    folder: str | os.PathLike[str], *, quick: bool = False, seeds: int = 20, progress: bool = False
) -> list[Path]:
    """Run the planted benchmark and write its results, as a table and as a page.

    Parameters
    ----------
    folder : path
        Gets ``results.csv`` (from which an interrupted run goes on), ``LEADERBOARD.md`` and ``leaderboard.html``.
    quick, seeds, progress
        As in `benchmark`.

    Returns
    -------
    list of Path
        The three files.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    files = [target / name for name in ("results.csv", "LEADERBOARD.md", "leaderboard.html")]
    rows = benchmark(files[0], quick=quick, seeds=seeds, progress=progress)
    write_text(files[1], "# Planted benchmark\n\n" + leaderboard(rows), "leaderboard")
    write_text(files[2], leaderboard_page(rows), "leaderboard")
    return files


def _grid(
    summary: Sequence[Mapping[str, Any]], number: str, null: bool
) -> tuple[list[str], list[str], dict[tuple[str, str], Mapping[str, Any]]]:
    lines = [line for line in summary if line["number"] == number and line["task"].startswith("null/") == null]
    found = {line["task"] for line in lines}
    tasks = [name for name in TASKS if name in found] + sorted(found - set(TASKS))
    here = {line["contender"] for line in lines}
    contenders = [name for name in CONTENDERS if name in here] + sorted(here - set(CONTENDERS))
    return tasks, contenders, {(line["task"], line["contender"]): line for line in lines}


def _lines(
    tasks: list[str], contenders: list[str], cells: Mapping[tuple[str, str], Mapping[str, Any]], number: str
) -> list[list[str]]:
    best = {task: max((cells[task, c]["ari"] for c in contenders if (task, c) in cells), default=0.0) for task in tasks}
    return [[task, *(_score(cells.get((task, c)), best[task], number) for c in contenders)] for task in tasks]


def _score(line: Mapping[str, Any] | None, best: float, number: str) -> str:
    if line is None:
        return ""
    text = f"{line['ari']:.2f}"
    if line["ari"] >= best - _CLOSE and best > _CLOSE:
        text = f"**{text}**"
    if line["graphs"] > 1:
        text += f" ±{(line['high'] - line['low']) / 2:.2f}"
    if number == "estimated":
        text += f" ({line['found']:.1f})"
    return f"{text}<sub>{line['graphs']}</sub>"


def _losses(tasks: list[str], contenders: list[str], cells: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Say where the flagship is beaten by more than 0.03, and by whom."""
    said = []
    for task in tasks:
        own = cells.get((task, _FLAGSHIP))
        if own is None:
            continue
        winner = max((c for c in contenders if (task, c) in cells), key=lambda c: cells[task, c]["ari"])
        ahead = cells[task, winner]["ari"] - own["ari"]
        if ahead > _CLOSE:
            said.append(f"{task} (by {ahead:.2f}: {winner})")
    return f"The {_FLAGSHIP} is beaten by more than {_CLOSE} on: {'; '.join(said) if said else 'none of these'}."


def _split(line: Mapping[str, Any] | None) -> str:
    return "" if line is None else f"{_count(line)} of {line['graphs']} ({line['found']:.1f})"


def _count(line: Mapping[str, Any]) -> int:
    return int(np.rint(line["split"] * line["graphs"]))


def _rate(lines: Sequence[Mapping[str, Any]]) -> str:
    if not lines:
        return ""
    from scipy.stats import binomtest

    graphs, cut = sum(line["graphs"] for line in lines), sum(map(_count, lines))
    interval = binomtest(cut, graphs).proportion_ci(0.95)
    return f"{cut} of {graphs}: {cut / graphs:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _graphs(summary: Sequence[Mapping[str, Any]], task: str) -> str:
    """Say how many graphs the contenders of a task saw: one number, or from how few to how many."""
    counts = sorted({line["graphs"] for line in summary if line["task"] == task})
    return "" if not counts else str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _costs(summary: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    out = []
    for contender in dict.fromkeys([*CONTENDERS, *(line["contender"] for line in summary)]):
        lines = [
            line
            for line in summary
            if line["contender"] == contender and not line["task"].startswith(("null/", "scale/"))
        ]
        if lines:
            stable = [line["stability"] for line in lines if line["stability"] is not None]
            seconds = sum(line["seconds"] for line in lines) / len(lines)
            out.append([contender, f"{seconds:.2f}", f"{sum(stable) / len(stable):.2f}" if stable else ""])
    return out


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _bars(lines: Sequence[Mapping[str, Any]], null: bool) -> str:
    """One SVG bar for each contender, with its bootstrap interval as a line."""
    height, zero, full = 22, 200, 250
    out = [f'<svg viewBox="0 0 700 {height * len(lines) + 4}" role="img">']
    for i, line in enumerate(lines):
        y, value = i * height, line["split"] if null else max(line["ari"], 0.0)
        end = zero + full * value
        out.append(f'<text x="{zero - 10}" y="{y + 15}" class="name">{escape(line["contender"])}</text>')
        out.append(f'<rect x="{zero}" y="{y + 4}" width="{full * value:.1f}" height="14"/>')
        if not null:
            low, high = (zero + full * max(line[side], 0.0) for side in ("low", "high"))
            out.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 11}" y2="{y + 11}"/>')
            end = max(end, high)
        label = f"{value:.2f}, {line['found']:.1f} found, {line['seconds']:.2g} s, {_of_graphs(line['graphs'])}"
        out.append(f'<text x="{end + 8:.0f}" y="{y + 15}">{label}</text>')
    return "".join(out) + "</svg>"


def _of_graphs(n: int) -> str:
    return "1 graph" if n == 1 else f"{n} graphs"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Planted benchmark</title>
<style>
:root {{ color-scheme: light dark; --bar: #4477aa; --ink: #222; --line: #cc6677; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #ddd; --bar: #77aadd; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 760px; margin: 2rem auto; padding: 0 1rem; color: var(--ink);
}} h2 {{ font-size: 1.05rem; margin: 1.6rem 0 .3rem; }} small {{ font-weight: normal; opacity: .7; margin-left: .5em; }}
svg {{ width: 100%; height: auto; }} text {{ font-size: 12px; fill: var(--ink); }} .name {{ text-anchor: end; }}
rect {{ fill: var(--bar); }} line {{ stroke: var(--line); stroke-width: 2; }}
</style></head><body>
<h1>Planted benchmark</h1>
<p>Every method was given the same graphs of neurons, made so that the right communities are known. A bar is how well
its communities agree with them: 1 is every neuron right, 0 is guessing (mean adjusted Rand index; the line is its 95 %
interval over graphs). Beside it: how many communities it found in a layer (four are right, three in "merged"),
processor time for one graph, and on how many graphs this rests. Under "null" there is nothing to find, and a bar is the
share of graphs that were cut into communities all the same: short is right.</p>
{body}
</body></html>
"""
