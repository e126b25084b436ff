"""The study of real networks and its table on a small scale, so that the command still runs when it is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import real_networks
from real import scoring, table
from real.methods import METHODS, Bench, methods_for
from real.networks import NETWORKS, make

import innersight_graph as isg


def test_a_stopped_run_goes_on_and_its_table_has_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    network = make("digits, untrained", 0)
    real_networks.study(network, ["EM", "random"], path)
    rows = table.read(path)
    assert table.finished(rows) == {("digits, untrained", 0, "EM"), ("digits, untrained", 0, "random")}
    assert {row["layer"] for row in rows} == {"fc1", "fc2", "fc3"}
    assert all(0 < row["p"] <= 1 and 0 <= row["share"] <= 1 for row in rows)
    text = path.read_text(encoding="utf-8")
    path.write_text(text[:-30], encoding="utf-8")  # killed while writing
    assert len(table.read(path)) == len(rows) - 1
    report = table.report(rows)
    assert "| digits, untrained | 1 |" in report
    assert "| untrained |" in report


def test_drops_are_those_of_closing_by_hand() -> None:
    network = make("digits, untrained", 1)
    G = Bench(network).graph
    members = np.zeros((1, 128), dtype=bool)
    members[0, [3, 50, 70]] = True
    with scoring.Closings(network, G) as closings:
        zero = closings.drops("fc1", members)
    import torch

    def scores() -> np.ndarray:
        logits = network.model(network.inputs)
        right = (logits.argmax(1) == network.targets).double()
        sure = logits.double().log_softmax(1)[torch.arange(len(logits)), network.targets]
        return np.array([[float(v[network.groups == c].mean()) for c in range(10)] for v in (right, sure)])

    with torch.no_grad():
        clean = scores()
        with isg.ablate(network.model, [("fc1", i) for i in (3, 50, 70)], graph=G):
            closed = scores()
    assert np.allclose(zero[:, 0], clean - closed, atol=1e-5)


def test_intervals_and_quotients() -> None:
    assert table.interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    rows = [
        {"network": "n", "method": m, "layer": "fc1", "seed": float(s), "ratio_lp": v * (1 + 0.1 * s)}
        for m, v in (("a", 8.0), ("b", 2.0))
        for s in range(3)
    ]
    assert table._quotient(rows, "n", "fc1", "a", "b").startswith("**4.0")
    assert table._quotient(rows, "n", "fc1", "a", "c") == "–"


def test_every_method_is_run_somewhere() -> None:
    assert {name for network in NETWORKS for name in methods_for(network)} == set(METHODS)


def test_halves_are_one_task_of_two_squeezed_digits() -> None:
    import sign_pattern

    rng = np.random.default_rng(0)
    images, targets = sign_pattern.digits("test", rng)
    inputs, sums = sign_pattern.different_halves("test", np.random.default_rng(0))
    left, right = rng.integers(len(targets), size=(2, sign_pattern.DRAWN))
    assert inputs.shape == images.shape == (sign_pattern.DRAWN, 784)
    assert (sums == (targets[left] + targets[right]) % 10).all()
    assert np.allclose(inputs[0].reshape(28, 28)[:, 14:].sum() * 2, images[right[0]].sum(), atol=1e-3)
    # As MNIST's: 20x20 pixels of 28x28, near the middle, of every test digit a few.
    rows, columns = (images.reshape(-1, 28, 28).sum(axis).gt(0) for axis in (2, 1))
    for used in (rows, columns):
        assert not used[:, :2].any()
        assert not used[:, 26:].any()
        assert int(used.sum(1).max()) <= 20
    assert len({image.tobytes() for image in images[:500].numpy()}) > 400
    _, same = sign_pattern.equal_halves("test", rng)
    assert set(same.tolist()) == set(range(10))
