"""Sizes and times of the page in software-rendered Chromium: python tests/benchmarks/bench_page.py [--write FILE]

Writing is CPU seconds; first picture is milliseconds from the start of loading until the page is drawn and ready (the
median of five loads); selection and pan are milliseconds until two animation frames later, of which 33 are the frames
themselves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from browser_page import CHROMIUM, TWO_FRAMES, Watched, chromium, offline
from page_samples import DIGITS, partitioned, reported

import innersight_graph as isg

GRAPHS = {
    "298 neurons": (DIGITS, 8),
    "2,000 neurons": ({"input": 64, "a": 600, "b": 600, "c": 600, "d": 126, "out": 10}, 12),
    "25,000 neurons": ({"input": 784, "a": 6000, "b": 6000, "c": 6000, "d": 6000, "out": 216}, 20),
}
# What the page promises: bytes, seconds, milliseconds.
LIMITS = {
    "298 neurons": {"bytes": 1_000_000, "first picture": 600, "select": 50},
    "2,000 neurons": {"first picture": 1500, "pan": 50},
    "25,000 neurons": {"bytes": 4_000_000, "write": 5, "first picture": 2500},
}
PAN = """async () => {
    const start = performance.now(), at = network.getViewPosition();
    network.moveTo({ position: { x: at.x + 9, y: at.y + 5 }, animation: false });
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    return performance.now() - start; }"""
SELECT = """async i => {
    const start = performance.now();
    InnerSight.select(i);
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    return performance.now() - start; }"""
LOADS, MOVES = 5, 9


def measure(context: Any, folder: Path, sizes: dict[str, int], blocks: int) -> dict[str, float]:
    G, P = partitioned(sizes, blocks=blocks)
    report = reported(G, P)
    path = folder / "page.html"
    started = time.process_time()
    page = isg.to_html(G, P, path, report)
    row: dict[str, float] = {
        "edges": page.policy["edges"],
        "bytes": page.n_bytes,
        "write": time.process_time() - started,
    }
    ready = []
    for _ in range(LOADS):
        watched = Watched(context)
        opened = watched.open(path)
        ready.append(opened.evaluate("InnerSight.readyAt"))
        if len(ready) < LOADS:
            opened.close()
    row["first picture"] = statistics.median(ready)
    for view in ("neurons", "communities"):
        opened.click(f"#view-{view}")
        opened.evaluate(TWO_FRAMES)
        row[f"pan {view}"] = statistics.median(opened.evaluate(PAN) for _ in range(MOVES))
        row[f"select {view}"] = statistics.median(opened.evaluate(SELECT, 1 + i) for i in range(MOVES))
        opened.keyboard.press("Escape")
    row["pan"], row["select"] = row["pan neurons"], row[f"select {page.policy['view']}"]
    assert watched.problems == [], watched.problems
    assert watched.requests == [], watched.requests
    opened.close()
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="keep the figures as JSON")
    options = parser.parse_args()
    if CHROMIUM is None:
        print("no Chromium on this machine: install it or set CHROMIUM to its path")
        return 1
    rows: dict[str, dict[str, float]] = {}
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        context = offline(browser)
        for name, (sizes, blocks) in GRAPHS.items():
            rows[name] = {key: round(value, 2) for key, value in measure(context, Path(folder), sizes, blocks).items()}
            kept = all(rows[name][key] <= limit for key, limit in LIMITS[name].items())
            print(f"{name}: {rows[name]}", "within limits" if kept else f"BEYOND LIMITS {LIMITS[name]}")
    if options.write:
        record = {"browser": "Chromium headless, software rendering", "limits": LIMITS, "measured": rows}
        options.write.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0 if all(rows[name][key] <= limit for name in rows for key, limit in LIMITS[name].items()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
