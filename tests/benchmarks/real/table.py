"""The file of scores and the table made of it: means over seeds with 95 % intervals, and what they say."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from real.methods import METHODS, methods_for
from real.networks import NETWORKS, NUMBERS

Rows = list[dict[str, Any]]
# accuracy: of the network on what is scored.
# ratio, ratio_lp: mean over communities of the variance over classes of the drop of accuracy (log-probability) on
# closing at zero, over that of random partitions of the same sizes; p: rank of the latter.
# share: communities whose range over classes (log-probability) exceeds that of 95 % of random ones; share_mean:
# closed at the mean instead; named: both, hurting the same class most.
# range, range_null: mean range over classes of the accuracy drop, of communities and of random ones.
# r2: variance of single neurons' effects explained, adjusted for chance. ami: with the class its closing hurts most.
# again: ARI between two seeds. moved: ARI with the run on the rescaled network.
FIELDS = (
    "network", "seed", "accuracy", "method", "layer", "communities", "ratio", "ratio_lp", "p", "share", "share_mean",
    "named", "range", "range_null", "r2", "ami", "again", "moved", "gain", "gain_null", "seconds",
)  # fmt: skip
_TEXT = ("network", "method", "layer")


def read(path: Path) -> Rows:
    """Rows of the file, numbers as numbers, what is missing None; lines cut off by a killed run are left out."""
    if not path.exists():
        return []
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line.get("seconds"):
                row = {key: value if key in _TEXT else float(value) if value else None for key, value in line.items()}
                rows[tuple(row[key] for key in ("network", "seed", "method", "layer"))] = row
    return list(rows.values())


def append(path: Path, rows: Rows) -> None:
    """Write a method's rows at once."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    if not path.exists() or path.stat().st_size == 0:
        writer.writeheader()
    writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())


def finished(rows: Rows) -> set[tuple[str, int, str]]:
    return {(row["network"], int(row["seed"]), row["method"]) for row in rows}


# ---------------------------------------------------------------------- means


def values(rows: Rows, network: str, method: str, layer: str, field: str) -> dict[int, float]:
    """Finite values by seed."""
    chosen = [row for row in rows if (row["network"], row["method"], row["layer"]) == (network, method, layer)]
    return {int(row["seed"]): row[field] for row in chosen if row[field] is not None and np.isfinite(row[field])}


def interval(numbers: Iterable[float]) -> tuple[float, float, float]:
    """Mean and t-interval of 95 %; an interval of nan for one number."""
    x = np.fromiter(numbers, float)
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else np.nan
    return float(x.mean()), float(x.mean() - half), float(x.mean() + half)


def mean(numbers: dict[int, float], digits: int = 2) -> str:
    return f"{np.mean(list(numbers.values())):.{digits}f}" if numbers else "–"


def geometric(numbers: dict[int, float]) -> str:
    """Geometric mean and, from three networks, its interval: ratios have heavy tails. Below 0.01 counts as 0.01."""
    if not numbers:
        return "–"
    middle, low, high = np.exp(interval(np.log(np.maximum(list(numbers.values()), 0.01))))
    return f"{_short(middle)} ({_short(low)} to {_short(high)})" if len(numbers) > 2 else _short(middle)


def _short(x: float) -> str:
    return f"{x:.0f}" if x >= 9.5 else f"{x:.1f}" if x >= 0.95 else f"{x:.2f}"


# ---------------------------------------------------------------------- the report

READING = """**Reading.** Communities are found from weights (or as the row says), then closed on held-out samples.
`ratio`: how much more a community's closing differs between classes (kinds of question, for the transformer) than the
closing of random groups of the same sizes, in the right answer's log-probability; 1 is chance. Geometric mean over
networks trained from different seeds, in brackets the 95 % t-interval of the logarithm (from three networks).
`beyond`: share of communities beyond 95 % of random groups of their size (chance .05). `R²`: share of the variance of
single neurons' effects that the partition explains, adjusted for chance (0). `AMI`: with the class that a neuron's
closing hurts most. Silent neurons are in none of these. Figures per layer, first to last.
"""


def report(rows: Rows) -> str:
    parts = [
        "# Real trained networks\n",
        "Generated by `python tests/benchmarks/real_networks.py` from `real_networks.csv`; do not edit.\n",
        READING,
        _networks(rows),
    ]
    for network in ("digits, plain", "faces, convolutions", "tasks, transformer"):
        parts.append(_methods(rows, network))
    parts += [_numbers(rows), _training(rows), _closing(rows), _stability(rows), _claims(rows)]
    return "\n".join(part for part in parts if part)


def _layers(rows: Rows, network: str) -> list[str]:
    present = {row["layer"] for row in rows if row["network"] == network}
    return [layer for layer in NUMBERS if layer in present]


def _across(cell: Callable[[dict[int, float]], str], rows: Rows, network: str, method: str, field: str) -> str:
    layers = _layers(rows, network)
    return " / ".join(cell(values(rows, network, method, layer, field)) for layer in layers)


def _table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *body)]
    return "\n".join(lines) + "\n"


def _networks(rows: Rows) -> str:
    body = []
    for name in NETWORKS:
        accuracy = {int(row["seed"]): row["accuracy"] for row in rows if row["network"] == name}
        if accuracy:
            body.append([name, str(len(accuracy)), f"{np.mean(list(accuracy.values())):.3f}"])
    return "## Networks\n\n" + _table(["network", "trained", "accuracy on what is scored"], body)


def _methods(rows: Rows, network: str) -> str:
    layers = _layers(rows, network)
    if not layers:
        return ""
    names = [name for name in methods_for(network) if values(rows, network, name, layers[0], "p")]
    body = [
        [
            name,
            str(len(values(rows, network, name, layers[0], "p"))),
            *(geometric(values(rows, network, name, layer, "ratio_lp")) for layer in layers),
            _across(mean, rows, network, name, "share"),
            _across(mean, rows, network, name, "r2"),
            _across(mean, rows, network, name, "ami"),
        ]
        for name in names
    ]
    given = ", ".join(f"{layer} {NUMBERS[layer]}" for layer in layers)
    return (
        f"## Methods: {network}\n\nCommunities given: {given} (Filan's, "
        "Leiden's and Louvain's numbers, and those of rows that say so, are the method's own).\n\n"
        + _table(["method", "networks", *(f"ratio {layer}" for layer in layers), "beyond", "R²", "AMI"], body)
    )


def _numbers(rows: Rows) -> str:
    names = [name for name in METHODS if "number" in name]
    body = []
    for network in ("digits, plain", "digits, random features", "digits, untrained"):
        for name in names:
            if values(rows, network, name, "fc1", "p"):
                body.append([
                    network, name, _across(lambda v: mean(v, 1), rows, network, name, "communities"),
                    _across(mean, rows, network, name, "share"), _across(mean, rows, network, name, "r2"),
                ])  # fmt: skip
    head = ["network", "chosen by", "communities", "beyond", "R²"]
    return "## How many communities\n\nRight answer without training: 1 in each layer.\n\n" + _table(head, body)


def _training(rows: Rows) -> str:
    body = []
    for network in NETWORKS:
        if network.startswith("digits") and _layers(rows, network):
            body.append([
                network.removeprefix("digits, "),
                str(len(values(rows, network, "EM", "fc1", "p"))),
                _across(lambda v: mean(v, 1), rows, network, "EM, number by ICL", "gain"),
                _across(geometric, rows, network, "EM", "ratio_lp"), _across(mean, rows, network, "EM", "share"),
                _across(mean, rows, network, "EM", "r2"), _across(mean, rows, network, "EM", "range"),
                _across(mean, rows, network, "EM", "range_null"),
            ])  # fmt: skip
    head = ["training", "networks", "ICL gain, nats per neuron", "ratio", "beyond", "R²", "class range", "random"]
    text = "Class range: of the accuracy lost when a community, or a random group of its size, is closed at zero.\n\n"
    return "## Kind of training (EM, numbers given)\n\n" + text + _table(head, body)


def _closing(rows: Rows) -> str:
    method = "EM, number by ICL"
    body = [
        [network, *(_across(mean, rows, network, method, field) for field in ("share", "share_mean", "named"))]
        for network in NETWORKS
        if _layers(rows, network)
    ]
    head = ["network", "beyond, closed at zero", "closed at the mean", "both, and the same class hurt most"]
    return "## Zero against mean (EM, number by ICL)\n\n" + _table(head, body)


def _stability(rows: Rows) -> str:
    network = "digits, plain"
    body = [
        [name, _across(mean, rows, network, name, "again"), _across(mean, rows, network, name, "moved")]
        for name in methods_for(network)
        if values(rows, network, name, "fc1", "again")
    ]
    head = ["method", "ARI between two seeds", "ARI after rescaling neurons"]
    text = "Rescaling: factors of 1/2, 1 or 2 in and their inverse out, which changes nothing the network computes.\n\n"
    return f"## Stability and gauge: {network}\n\n{text}" + _table(head, body)


def _claims(rows: Rows) -> str:
    """Paired comparisons of two methods on the same networks: geometric mean of the quotient of their ratios."""
    pairs = [
        ("signs are needed", "EM", "EM without signs"),
        ("structured starts beat the paper's", "EM", "EM, the paper's random starts"),
        ("weights alone do as well as activations", "EM", "co-activation (k-means)"),
        ("EM above Filan", "EM", "Filan (12 clusters)"),
        ("EM above squared correlation", "EM", "Hod (correlation)"),
        ("EM above the block model", "EM", "block model"),
        ("EM above signed Leiden", "EM", "Leiden, signed"),
        ("density .5 above .25", "EM", "EM, density .25"),
        ("density .5 above 1", "EM", "EM, density 1"),
        ("kernels above Eq. 1, corrected", "EM", "EM on Eq. 1, similarity"),
        ("kernels above Eq. 1, literal", "EM", "EM on Eq. 1, literal"),
        ("norm of kernels above their sum", "EM", "EM on summed kernels"),
    ]
    body = []
    for network in ("digits, plain", "faces, convolutions", "tasks, transformer"):
        for claim, one, other in pairs:
            cells = [_quotient(rows, network, layer, one, other) for layer in _layers(rows, network)]
            if any(cell != "–" for cell in cells):
                body.append([network, claim, " / ".join(cells)])
    text = (
        "Quotient of the two methods' ratios on the same network, geometric mean over networks with its 95 % interval; "
        "**bold** where the interval leaves out 1. No correction for the number of comparisons.\n\n"
    )
    return "## Comparisons\n\n" + text + _table(["network", "claim", "quotient per layer"], body)


def _quotient(rows: Rows, network: str, layer: str, one: str, other: str) -> str:
    a, b = (values(rows, network, name, layer, "ratio_lp") for name in (one, other))
    common = sorted(set(a) & set(b))
    if not common:
        return "–"
    quotients = {seed: max(a[seed], 0.01) / max(b[seed], 0.01) for seed in common}
    text = geometric(quotients)
    if len(common) > 2:
        _, low, high = interval(np.log(list(quotients.values())))
        text = f"**{text}**" if low > 0 or high < 0 else text
    return text
