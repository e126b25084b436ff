"""The paper in one call: every artefact, honest verdicts, resumption, the page."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from innersight_graph.data import ImageData, Split, load_digits
from innersight_graph.detection.random import random_communities
from innersight_graph.errors import InputError
from innersight_graph.evaluation.members import Members
from innersight_graph.evaluation.noise import noise_communities
from innersight_graph.evaluation.pruning import prune_to_key
from innersight_graph.paper import ARTEFACTS, PaperResult, run_paper
from innersight_graph.paper import noise as noise_module
from innersight_graph.paper.narrow import Narrow, pruning_curve
from innersight_graph.paper.networks import NETWORKS, convolutional_network, fewer, linear_network, load_data
from innersight_graph.paper.page import make_page
from innersight_graph.paper.record import (
    NOT_SUPPORTED,
    SUPPORTED,
    UNDECIDED,
    Artefact,
    all_some_none,
    plain,
    verdict,
    within_reach,
)
from innersight_graph.paper.retrained import Geometry
from innersight_graph.paper.settings import Settings
from innersight_graph.paper.store import Store
from innersight_graph.paper.study import Network, Study
from innersight_graph.partition import Partition
from innersight_graph.probe import ablate
from innersight_graph.provenance import environment

HOSTILE = '<script>alert("0")</script>'


def small_digits() -> ImageData:
    data = load_digits(flat=False)
    parts = [
        Split(s.inputs[:n], s.targets[:n])
        for s, n in zip((data.train, data.validation, data.test), (500, 70, 70), strict=True)
    ]
    return replace(data, train=parts[0], validation=parts[1], test=parts[2], classes=(HOSTILE, *data.classes[1:]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> PaperResult:
    return run_paper(small_digits(), tmp_path_factory.mktemp("paper"), quick=True, n_jobs=1)


def record(folder: Path, name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return read


# ---------------------------------------------------------------------- one whole run


def test_every_artefact_has_its_files_and_backed_verdicts(finished: PaperResult) -> None:
    assert (
        set(finished.records)
        == set(ARTEFACTS)
        == {"fig1a", "fig1b", "fig2a", "fig2b", "fig3a", "fig3b", "fig3c", "table1", "table2", "table3", "table4", "a7"}
    )
    for name in ARTEFACTS:
        made = record(finished.folder, name)
        assert made["verdicts"], name
        for v in made["verdicts"]:
            assert v["outcome"] in {SUPPORTED, NOT_SUPPORTED, UNDECIDED}
            assert math.isfinite(v["number"])
            assert all(v[key] for key in ("claim", "unit", "rule", "says"))
        assert made["figures"], name
        for file in made["files"]:
            assert (finished.folder / file).stat().st_size > 0
        with (finished.folder / f"{name}.csv").open(encoding="utf-8", newline="") as text:
            assert len(list(csv.DictReader(text))) == len(made["rows"]) > 0
    summary = json.loads((finished.folder / "verdicts.json").read_text(encoding="utf-8"))
    assert len(summary["verdicts"]) == len(finished.verdicts)
    assert summary["environment"] == record(finished.folder, "fig1a")["environment"] == environment()


def test_a_second_run_takes_everything_over(finished: PaperResult) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.folder.glob("*.json") if path.stem in ARTEFACTS}
    again = run_paper(small_digits(), finished.folder, quick=True, n_jobs=1)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.records == finished.records


def test_a_lost_or_damaged_artefact_alone_is_made_again(finished: PaperResult) -> None:
    original = (finished.folder / "table4.json").read_text(encoding="utf-8")
    kept = (finished.folder / "fig1a.json").stat().st_mtime_ns
    (finished.folder / "table4.json").write_text(original[: len(original) // 2], encoding="utf-8")
    run_paper(small_digits(), finished.folder, quick=True, n_jobs=1)
    new, old = record(finished.folder, "table4"), json.loads(original)
    assert {k: v for k, v in new.items() if k != "seconds"} == {k: v for k, v in old.items() if k != "seconds"}
    assert (finished.folder / "fig1a.json").stat().st_mtime_ns == kept


def test_table2_equals_closing_by_hand(finished: PaperResult) -> None:
    data = small_digits()
    made = record(finished.folder, "table2")
    work = next((finished.folder / "work").iterdir())
    model = linear_network(data, seed=0)
    model.load_state_dict(torch.load(work / "linear-0.pt", weights_only=True))
    for method, runs in made["numbers"]["runs"]["linear"].items():
        for key, run in runs.items():
            if not run["community"]:
                assert run["test_gain"] == 0
                continue
            seed = int(key.rpartition(" ")[2])
            P = Partition.from_json(work / f"linear-0-{method.replace(' ', '-')}-{seed}-fc3.json")
            community = P[P.names.index(run["community"])]
            right = [
                (model(s.inputs).argmax(1) == s.targets).double().mean().item() for s in (data.validation, data.test)
            ]
            with ablate(model, community, example=data.test.inputs[:1]) as closed:
                after = [
                    (closed(s.inputs).argmax(1) == s.targets).double().mean().item()
                    for s in (data.validation, data.test)
                ]
            assert run["validation_gain"] == pytest.approx(after[0] - right[0], abs=1e-12)
            assert run["test_gain"] == pytest.approx(after[1] - right[1], abs=1e-12)


def test_table4_uses_table2_and_knows_the_printed_slip(finished: PaperResult) -> None:
    rows = record(finished.folder, "table4")["rows"]
    printed = [row for row in rows if row["source"] == "printed"]
    assert [row["u"] for row in printed] == [1, 0, 8, 3, 12, 8]
    assert [row["baseline"] for row in printed if not row["agrees"]] == ["Liu et al., MNIST"]
    runs = record(finished.folder, "table2")["numbers"]["runs"]
    for row in (row for row in rows if row["source"] == "linear" and row["baseline"] == "Filan et al."):
        a, b = ([run["test_gain"] for run in runs["linear"][m].values()] for m in ("filan", "em"))
        u = sum((x > y) + 0.5 * (x == y) for x in a for y in b)
        n = len(a)
        assert row["statistic"] == pytest.approx((u - n * n / 2) / math.sqrt(n * n * (2 * n + 1) / 12))
        assert row["p"] == pytest.approx(2 * stats.norm.sf(abs(row["statistic"])))


def test_two_runs_each_cannot_decide_between_methods(finished: PaperResult) -> None:
    outcomes = [v["outcome"] for v in record(finished.folder, "table4")["verdicts"][:2]]
    assert outcomes == [UNDECIDED, UNDECIDED]


def test_the_page_holds_it_all_and_asks_for_nothing(finished: PaperResult) -> None:
    text = finished.page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert "<script" not in text.lower()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "://" not in re.sub(r"data:[^\"]+", "", text)
    for made in finished.records.values():
        assert f'id="{made["name"]}"' in text
    assert text.count("data:image/") == sum(len(made["figures"]) for made in finished.records.values())


def test_table1_rows_agree_with_single_closings(finished: PaperResult) -> None:
    rows = record(finished.folder, "table1")["rows"]
    single = {row["closed"]: row["test_accuracy"] for row in rows if " + " not in row["closed"]}
    clean = record(finished.folder, "table1")["numbers"]["accuracy"]["test"]
    for row in rows:
        if " + " in row["closed"]:
            a, b = row["closed"].split(" + ")
            drop = clean - row["test_accuracy"] - (clean - single[a]) - (clean - single[b])
            assert row["interaction_test"] == pytest.approx(drop, abs=1e-9)


# ---------------------------------------------------------------------- verdicts


def test_a_verdict_without_a_case_is_open_and_says_so() -> None:
    v = verdict("c", holds=True, fails=False, number=float("nan"), unit="ratio", rule="r", says="s")
    assert (v.outcome, v.number) == (UNDECIDED, 0.0)
    assert "none" in v.unit


@pytest.mark.parametrize(
    ("hits", "draws", "expected"),
    [
        ([True, True], 99, (True, False)),
        ([True, False], 99, (False, False)),
        ([False, False], 99, (False, True)),
        ([False, False, False], 19, (False, False)),
        ([], 99, (False, True)),
    ],
)
def test_claims_about_every_layer(hits: list[bool], draws: int, expected: tuple[bool, bool]) -> None:
    assert all_some_none(hits, draws=draws) == expected


def test_reach_is_holms_first_step() -> None:
    assert within_reach(1 / 20, 1)
    assert not within_reach(1 / 20, 2)
    exact = stats.mannwhitneyu(range(10), range(10, 20), method="exact").pvalue
    assert noise_module.least_rank_sum_p(10) == pytest.approx(exact)


def _rows(gain: float, significant: int) -> list[dict[str, Any]]:
    return [
        {
            "network": "linear",
            "method": "InnerSightNet",
            "runs": 3,
            "significant": significant,
            "test_gain": gain,
            "test_gain_low": -0.1,
            "test_gain_high": 0.1,
            "random_gain": 0.0,
            "up": 0,
            "equal": 0,
            "down": 0,
            "as_printed_gain": None,
        }
    ]


@pytest.mark.parametrize(
    ("gain", "significant", "outcome"),
    [(0.05, 2, SUPPORTED), (0.05, 1, UNDECIDED), (0.0, 0, NOT_SUPPORTED), (-0.01, 0, NOT_SUPPORTED)],
)
def test_noise_verdict_follows_its_number(gain: float, significant: int, outcome: str) -> None:
    class FakeNetwork:
        test_accuracy = 0.9

    class FakeStudy:
        data = small_digits()

        def network(self, kind: str) -> FakeNetwork:
            return FakeNetwork()

    study: Any = FakeStudy()
    assert noise_module._improves("linear", _rows(gain, significant), study).outcome == outcome


# ---------------------------------------------------------------------- parts


@pytest.fixture(scope="module")
def convolutional() -> Network:
    data = small_digits()
    model, untrained = (convolutional_network(data, seed=0) for _ in range(2))
    return Network("convolutional", 0, model, untrained, data, Settings(quick=True))


def test_a_narrow_network_equals_the_closed_one(convolutional: Network) -> None:
    rng = np.random.default_rng(0)
    network, split = convolutional, convolutional.data.test
    narrow = Narrow(network.model, split)
    widths = {name: network.graph.layer(name).width for name in narrow.layers}
    assert narrow.layers == network.layers
    # Growing sets, a jump back to none, whole layers, and single ones: every way a stage is or is not run again.
    shares = [(0, 0, 0), (0, 0, 0.2), (0, 0.5, 0.2), (0.3, 0.5, 0.9), (0, 0, 0), (0, 1, 0), (1, 0.2, 1), (0, 0.9, 0)]
    for share in shares:
        closed = {n: rng.permutation(w) < round(f * w) for (n, w), f in zip(widths.items(), share, strict=True)}
        nodes = [(name, int(i)) for name, mask in closed.items() for i in np.flatnonzero(mask)]
        with ablate(network.model, nodes, graph=network.graph) as live:
            expected = (live(split.inputs).argmax(1) == split.targets).numpy()
        np.testing.assert_array_equal(narrow.correct(closed), expected, err_msg=str(share))
    # Named alone, and after another call, a layer closed whole leaves one answer for every image.
    narrow.correct({})
    silent = narrow.correct({"conv1": np.ones(widths["conv1"], dtype=bool)})
    assert len(set(split.targets[torch.from_numpy(silent)].tolist())) <= 1


def test_a_narrow_network_follows_a_change_through_stages_that_stay_as_they_are() -> None:
    """Answers differ from image to image here, so that a result taken over wrongly is seen."""
    rng, widths = np.random.default_rng(0), {"0": 6, "3": 8, "6": 10}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 10, 3, padding=1)]
        stages = [part for conv in convolutions for part in (conv, nn.ReLU(), nn.MaxPool2d(2))]
        model = nn.Sequential(*stages, nn.Flatten(), nn.Linear(40, 12), nn.ReLU(), nn.Linear(12, 5)).eval()
        x = torch.randn(200, 1, 16, 16)
    with torch.no_grad():
        model[-1].weight.mul_(20)
        model[-1].bias.copy_(-model[:-1](x).mean(0) @ model[-1].weight.T)
        targets = model(x).argmax(1)
    assert len(targets.unique()) == 5
    narrow = Narrow(model, Split(x, targets))
    for _ in range(60):
        closed = {name: rng.random(width) < rng.choice([0, 0, 0.2, 0.5, 1]) for name, width in widths.items()}
        z = x
        with torch.no_grad():
            for name, module in model.named_children():
                z = module(z)
                if name in closed:
                    # A closed channel is 0 before its ReLU as behind it.
                    z = z * torch.from_numpy(~closed[name])[:, None, None]
        np.testing.assert_array_equal(narrow.correct(closed), (z.argmax(1) == targets).numpy())


def test_a_pruning_curve_is_that_of_prune_to_key(convolutional: Network) -> None:
    network, data = convolutional, convolutional.data
    P = random_communities(network.graph, {"conv1": 3, "conv2": 4, "conv3": 5}, layers=network.layers, seed=1)
    curve = pruning_curve(
        Narrow(network.model, data.validation),
        Narrow(network.model, data.test),
        Members.of(network.graph, P),
        tolerance=0.02,
    )
    options: dict[str, Any] = {"graph": network.graph, "tolerance": 0.02, "greedy": False, "nulls": 0}
    whole = prune_to_key(network.model, P, select=data.validation, test=data.test, physical=False, **options)
    np.testing.assert_array_equal(curve.kept, whole.kept)
    np.testing.assert_allclose(curve.validation, whole.validation, atol=1e-12)
    np.testing.assert_allclose(curve.test, whole.test, atol=1e-12)
    assert curve.key_step == whole.key_step


def test_the_tail_of_a_network_gives_the_noise_search_of_the_whole(convolutional: Network) -> None:
    network, data = convolutional, convolutional.data
    P = random_communities(network.graph, 6, layers="conv3", seed=1)
    options: dict[str, Any] = {"graph": network.graph, "layers": ["conv3"], "nulls": 4, "seed": 0}
    tail, validation, test = network.tail
    found = noise_communities(tail, P, select=validation, test=test, **options)
    whole = noise_communities(network.model, P, select=data.validation, test=data.test, **options)
    assert (found.name, found.test_gain, found.baseline) == (whole.name, whole.test_gain, whole.baseline)
    np.testing.assert_allclose(found.gains, whole.gains, atol=1e-12, equal_nan=True)
    np.testing.assert_allclose(found.random_test, whole.random_test, atol=1e-12)


def test_networks_have_the_papers_sizes() -> None:
    data = small_digits()
    linear = [tuple(p.shape) for p in linear_network(data, seed=0).parameters() if p.ndim > 1]
    assert [shape[0] for shape in linear] == [128, 64, 32, 10]
    kernels = [p.shape[0] for p in convolutional_network(data, seed=0).parameters() if p.ndim == 4]
    assert kernels == [32, 64, 128]
    big = replace(data, train=Split(torch.zeros(2, 3, 64, 64), data.train.targets[:2]))
    assert convolutional_network(big, seed=0)(big.train.inputs).shape == (2, 10)


def test_initial_weights_leave_the_global_random_state_alone() -> None:
    state = torch.get_rng_state()
    first, second = (NETWORKS["linear"](small_digits(), seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_moving_neurons_shortens_and_changes_no_weight() -> None:
    model = linear_network(small_digits(), seed=0)
    geometry = Geometry.of(model)
    weights = [p.clone() for p in model.parameters()]
    costs = [geometry.cost().item()]
    for _ in range(3):
        geometry.move()
        costs.append(geometry.cost().item())
    assert np.diff(costs).max() <= 1e-9
    assert costs[-1] < costs[0]
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    for places in geometry.places:
        assert torch.equal(places.sort().values, torch.linspace(0, 1, len(places)))


def test_fewer_keeps_training_images_and_masks_in_step() -> None:
    faces = load_data("faces", seed=0, quick=True)
    cut = fewer(faces, 10)
    assert len(cut.train.targets) == len(faces.train.targets)
    assert len(cut.test.targets) == len(cut.masks["test"]) == 10
    assert fewer(faces, None) is faces


@pytest.mark.parametrize("data", ["no such folder", "mnist:/no such folder"])
def test_unknown_data_is_refused_before_any_work(data: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run_paper(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        run_paper("digits", tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("options", [{"seed": -1}, {"seeds": 1}, {"train_seeds": 0}])
def test_senseless_sizes_are_refused(options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run_paper("digits", tmp_path, **options)  # type: ignore[arg-type]


def test_fingerprint_tells_data_settings_and_versions_apart() -> None:
    data, settings = small_digits(), Settings()
    other = replace(data, test=Split(data.test.inputs + 1e-6, data.test.targets))
    prints = [
        settings.fingerprint(data, "1"),
        settings.fingerprint(data, "2"),
        Settings(seed=1).fingerprint(data, "1"),
        Settings(literal=False).fingerprint(data, "1"),
        settings.fingerprint(other, "1"),
    ]
    assert len(set(prints)) == len(prints)
    assert settings.fingerprint(small_digits(), "1") == prints[0]


def _artefact(name: str = "fig1a", rows: Any = ({"community": "=1+1", "drop": float("nan")},)) -> Artefact:
    from innersight_graph.figures import criterion_curves

    v = verdict(HOSTILE, holds=False, fails=True, number=1.0, unit="u", rule="r", says=HOSTILE)
    figure = criterion_curves({"fc1": {1: 0.0, 2: 1.0}})
    return Artefact(name, f"Fig. 1a: {HOSTILE}", rows, {"nan": float("nan")}, [v], {HOSTILE: figure})


def test_store_takes_over_only_what_is_whole_and_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path, "aa")
    saved = store.save(_artefact(), {"wall": 1.0})
    assert store.finished("fig1a") == saved
    assert Store(tmp_path, "bb").finished("fig1a") is None
    (tmp_path / saved["figures"][0]["file"]).unlink()
    assert store.finished("fig1a") is None


def test_names_of_the_users_are_text_everywhere(tmp_path: Path) -> None:
    saved = Store(tmp_path, "aa").save(_artefact(), {})
    page = make_page([saved], tmp_path, title=HOSTILE, lead=HOSTILE)
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "'=1+1" in (tmp_path / "fig1a.csv").read_text(encoding="utf-8")
    assert saved["rows"] == [{"community": "=1+1", "drop": None}]


def test_plain_holds_no_array_and_no_nan() -> None:
    given = {"a": np.array([1.0, np.nan]), (1, 2): np.float32(0.5), "b": (np.int64(3), float("inf"))}
    assert plain(given) == {"a": [1.0, None], "(1, 2)": 0.5, "b": [3, None]}
    assert json.loads(json.dumps(plain(given), allow_nan=False)) == plain(given)


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from test_paper import run_paper, small_digits
if __name__ == "__main__":
    run_paper(small_digits(), sys.argv[2], quick=True, n_jobs=2)
"""


def without_times(value: Any) -> Any:
    """Return a record without what a clock measured."""
    if isinstance(value, dict):
        timed = {"seconds", "cpu_seconds", "exponent", "r_squared", "measured", "full", "methods"}
        return {k: without_times(v) for k, v in value.items() if k not in timed}
    return [without_times(item) for item in value] if isinstance(value, list) else value


OWNER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_paper import Settings, Store, Study, small_digits
def work(folder):
    Path(folder, f"pid-{os.getpid()}").touch()
    time.sleep(120)
if __name__ == "__main__":
    folder = Path(sys.argv[2])
    study = Study(small_digits(), Settings(quick=True), Store(folder / "out", "aa"), n_jobs=2, say=lambda what: None)
    list(study.spread({k: (work, folder) for k in "ab"}, "work"))
"""


@pytest.mark.skipif(os.name == "nt", reason="a parent's end is seen on POSIX only")
def test_workers_end_with_a_killed_run(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER, encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(script), str(Path(__file__).parent), str(tmp_path)])
    while len(list(tmp_path.glob("pid-*"))) < 2 and process.poll() is None:
        time.sleep(0.05)
    workers = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(workers) == 2
    assert not any(map(alive, workers))


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def stopped_run(command: list[str], folder: Path, artefacts: int, how: int) -> int:
    """Start a run, send it a signal once it has made some artefacts, and return how it ended."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while len(list(folder.glob("[ft]*.json"))) < artefacts and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(how)
    return process.wait(timeout=60)


def made_whole(folder: Path) -> bool:
    return all(json.loads(path.read_text(encoding="utf-8"))["name"] == path.stem for path in folder.glob("*.json"))


def assert_undisturbed(folder: Path, finished: PaperResult) -> None:
    for name in set(ARTEFACTS) - {"a7"}:
        assert without_times(record(folder, name)) == without_times(record(finished.folder, name)), name
        for file in record(folder, name)["files"]:
            assert (folder / file).read_bytes() == (finished.folder / file).read_bytes(), file
    assert (folder / "paper.html").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of this kind exist on POSIX only")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_stopped_run_continues_to_the_result_of_an_undisturbed_one(
    finished: PaperResult, tmp_path: Path, how: str
) -> None:
    command = [sys.executable, "-c", RUN, str(Path(__file__).parent), str(tmp_path)]
    for artefacts in (1, 5, 9):
        assert stopped_run(command, tmp_path, artefacts, getattr(signal, how)) != 0
        assert made_whole(tmp_path)
        assert not (tmp_path / "paper.html").exists()
        assert how == "SIGKILL" or not list(tmp_path.rglob(".innersight-*"))
    assert subprocess.run(command).returncode == 0
    assert_undisturbed(tmp_path, finished)


@pytest.mark.slow
def test_a_run_on_a_full_disk_says_so_and_continues_when_there_is_room(finished: PaperResult, tmp_path: Path) -> None:
    def mount(*options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(tmp_path)]
        return sys.platform == "linux" and subprocess.run(command, capture_output=True).returncode == 0

    if not mount("size=1m"):
        return  # no file system of its own could be mounted
    try:
        command = [sys.executable, "-c", RUN, str(Path(__file__).parent), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode != 0
        assert "WriteError" in done.stderr
        assert "Free some room" in done.stderr
        assert 0 < len(list(tmp_path.glob("[ft]*.json"))) < len(ARTEFACTS)
        assert made_whole(tmp_path)
        assert not (tmp_path / "paper.html").exists()
        assert not list(tmp_path.rglob(".innersight-*"))
        assert mount("remount", "size=100m")
        assert subprocess.run(command).returncode == 0
        assert_undisturbed(tmp_path, finished)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.slow
def test_training_seeds_add_the_retrained_row_and_split_the_variance(tmp_path: Path) -> None:
    settings = Settings(quick=True, train_seeds=2)
    data = small_digits()
    study = Study(data, settings, Store(tmp_path, settings.fingerprint(data, "1")), n_jobs=1, say=lambda what: None)
    made = noise_module.table2(study)
    rows = [row for row in made.rows if row["method"] == "Liu et al., retrained"]
    assert {row["network"] for row in rows} == {"linear", "convolutional"}
    assert all(row["runs"] == 4 for row in made.rows)
    shares = made.numbers["variance"]["linear"]["random"]
    assert (
        sum(shares[key] for key in ("network", "detector", "residual")) == pytest.approx(1.0) or shares["variance"] == 0
    )
