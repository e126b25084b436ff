"""`evaluate` and `Report`: round trip, words, interruption, selection, memory, and an untouched model."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from probing import fingerprint, groups_of, make, same_fingerprint
from torch import nn

import innersight_graph as isg
from innersight_graph.errors import InputError
from innersight_graph.evaluation.result import Evaluation, decode, encode
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition


def case(name: str = "mlp") -> tuple[nn.Module, torch.Tensor, torch.Tensor, LayeredDiGraph, Partition]:
    model, x, y = make(name)
    G = isg.neuron_graph(model, example=x[:1])
    labels = {layer: groups_of(G.layer(layer).width, 3) for layer in G.hidden_layers}
    return model, x, y, G, Partition.from_labels(G, labels, method="by hand")


def all_evaluators(model: nn.Module, x: torch.Tensor, y: torch.Tensor, G: LayeredDiGraph) -> list[Any]:
    return [
        isg.Structure(G), isg.Sensitivity(model, x), isg.Consistency(model, x), isg.PartitionScore(model, x, G),
        isg.Ablation(model, (x, y), joint=2, class_names=["a", "b", "c"]), isg.Occlusion(model, x, window=3),
        isg.ActivationLevel(model, (x, y)), isg.Embedding(model, (x, y), tsne=False, permutations=19),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_round_trip_keeps_every_evaluator_equal(name: str, tmp_path: Path) -> None:
    model, x, y, G, P = case(name)
    report = isg.evaluate(G, P, all_evaluators(model, x, y, G), nulls=9, seed=0)
    file = tmp_path / "report.json"
    text = report.to_json(file)
    again = isg.Report.from_json(file, G)
    assert again.to_json() == text == isg.Report.from_json(text, G).to_json()
    assert list(again.evaluations) == list(report.evaluations)
    assert all(again.evaluations[key] == report.evaluations[key] for key in report.evaluations)
    assert again.environment == report.environment
    assert again.partition == P
    json.loads(text)
    assert isg.evaluate(G, P, all_evaluators(model, x, y, G), nulls=9, seed=0).to_json() == text


def test_values_of_every_kind_survive() -> None:
    value = {
        "f32": np.float32([1.1, np.nan, np.inf]), "bool": np.array([[True, False]]), "int": np.arange(3),
        "empty": np.zeros((0, 2)),
        "tuple": (1, "a", (2.5,)), "keys": {1: "x", "y": None}, "nan": float("nan"), "list": [float("-inf"), True],
    }  # fmt: skip
    back = decode(json.loads(json.dumps(encode(value), allow_nan=False)))
    assert Evaluation("x", 1.0, np.zeros(1), details=value) == Evaluation("x", 1.0, np.zeros(1), details=back)
    assert back["f32"].dtype == np.float32
    assert list(back["keys"]) == [1, "y"]
    with pytest.raises(InputError, match="cannot be kept"):
        encode({"model": object()})


def test_table_and_findings_say_what_the_arrays_say() -> None:
    model, x, y, G, P = case()
    report = isg.evaluate(G, P, all_evaluators(model, x, y, G), nulls=19, seed=0)
    table = report.table()
    e = report.evaluations["ablation"]
    assert [row["community"] for row in table] == list(P.names)
    for i, row in enumerate(table):
        assert row["size"] == len(P[i])
        assert row["ablation"] == e.per_community[i]
        assert row["ablation low"] <= row["ablation"] <= row["ablation high"]
        assert row["ablation p"] == e.p_values["per_community"][i]
        assert row["structure null p"] == report.evaluations["structure"].p_values["null"][i]
    assert len(report.to_pandas()) == len(P)
    hits = int((e.p_values["per_community"] <= 0.05).sum())
    said = " ".join(report.findings())
    assert f"{hits} of {len(P)} communities change the score" in said
    assert f"{100 * e.details['minimum_detectable']['single']:.1f} points" in said
    assert e.details["class_names"] == ("a", "b", "c")
    assert e.details["class_counts"].sum() == len(x)
    assert {"versions", "python", "seed", "nulls", "partial"} <= set(report.environment)
    assert "Report(6 communities" in repr(report)


def test_functions_single_evaluators_and_names() -> None:
    model, x, y, G, P = case()

    def count(G: Any, partition: Any) -> float:
        return float(len(partition))

    report = isg.evaluate(G, P, [count, isg.Ablation(model, (x, y), name="held out")], nulls=0)
    assert float(report.evaluations["count"]) == 6.0
    assert "held out" in report.evaluations
    assert list(isg.evaluate(G, P, isg.Structure(G), nulls=0).evaluations) == ["structure"]
    assert "null" not in report.evaluations["held out"].p_values
    threads = isg.evaluate(G, P, [isg.Structure(G), count], nulls=5, seed=0, n_jobs=2)
    assert threads.evaluations["structure"] == isg.Structure(G).evaluate(G, P, nulls=29, seed=0)


def test_interruption_gives_a_marked_partial_report() -> None:
    model, x, y, G, P = case()
    before = fingerprint(model)

    class Interrupted:
        name = "interrupted"

        def evaluate(self, G: Any, partition: Any, **options: Any) -> Any:
            with isg.ablate(model, [isg.Neuron("0", 0)], graph=G):
                raise KeyboardInterrupt

    report = isg.evaluate(G, P, [isg.Structure(G), Interrupted(), isg.Ablation(model, (x, y))], nulls=3, seed=0)
    assert list(report.evaluations) == ["structure"]
    assert report.environment["partial"]
    assert report.environment["unfinished"] == ("interrupted", "ablation")
    assert "partial" in repr(report)
    assert "Interrupted" in report.findings()[0]
    assert isg.Report.from_json(report.to_json(), G).environment["partial"]
    assert same_fingerprint(before, fingerprint(model))


def test_interruption_inside_an_evaluator_restores_the_model() -> None:
    model, x, y, G, P = case("cnn")
    model.train()
    calls = [0]

    def interrupt(module: nn.Module, args: Any) -> None:
        calls[0] += 1
        if calls[0] == 6:
            raise KeyboardInterrupt

    model.fc.register_forward_pre_hook(interrupt)  # type: ignore[union-attr, operator]
    before = fingerprint(model)
    report = isg.evaluate(G, P, [isg.Ablation(model, (x, y))], nulls=9, seed=0)
    assert report.environment["partial"]
    assert same_fingerprint(before, fingerprint(model))


def test_scores_on_the_data_of_the_selection_are_refused_or_stamped() -> None:
    model, x, y, G, _ = case()
    data = (x, y)
    P = isg.em_communities(G, [2, 3], criterion=isg.PartitionScore(model, data, G), n_init=2, seed=0)
    with pytest.raises(InputError, match="chosen with the data"):
        isg.evaluate(G, P, [isg.Ablation(model, data)], nulls=0)
    forced = isg.evaluate(G, P, [isg.Ablation(model, data)], nulls=0, allow_test_selection=True)
    assert forced.environment["selected_on_test"]
    assert "flatter" in forced.findings()[0]
    assert not isg.evaluate(G, P, [isg.Ablation(model, (x + 0, y))], nulls=0).environment["selected_on_test"]


def test_files_that_cannot_be_written_or_read_are_named(tmp_path: Path) -> None:
    _, _, _, G, P = case()
    report = isg.evaluate(G, P, isg.Structure(G), nulls=0)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        report.to_json(blocked / "report.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for text in ("{}", '{"format": "innersight-report/1"}', "{broken"):
        with pytest.raises(InputError, match="no report of this package"):
            isg.Report.from_json(text, G)
    with pytest.raises(InputError):
        isg.Report.from_json(tmp_path / "missing.json", G)
    _, _, _, H, _ = case("cnn")
    with pytest.raises(InputError, match="another graph"):
        isg.Report.from_json(report.to_json(), H)


def test_a_thousand_evaluations_leave_no_trace() -> None:
    model, x, y, G, P = case("functional")
    x, y = x[:6], y[:6]
    before = fingerprint(model)
    cheap = [isg.Ablation(model, (x, y)), isg.Consistency(model, x)]
    resource = pytest.importorskip("resource")
    peaks, tensors = [], []
    for repeat in range(334):
        for evaluator in cheap:
            evaluator.evaluate(G, P)
        with isg.ablate(model, [isg.Neuron("fc1", 1)], graph=G), isg.capture(model, ["fc2"]):
            model(x)
        if repeat % 50 == 33:
            gc.collect()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            tensors.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))
    assert len(set(tensors[1:])) == 1
    assert peaks[-1] <= peaks[0] * 1.02
    assert same_fingerprint(before, fingerprint(model))
