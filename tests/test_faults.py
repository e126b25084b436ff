"""Faults provoked for real: killed processes, full disks, protected folders, missing packages, dead workers, Ctrl-C."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import innersight_graph as isg
from innersight_graph.errors import InputError, MissingExtraError, WriteError
from innersight_graph.files import whole_file, write_text

ROOT = Path(__file__).resolve().parent.parent
POSIX = pytest.mark.skipif(os.name == "nt", reason="forks, limits and permissions of this kind exist on POSIX only")


def run(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def partition(n: int = 12, seed: int = 0) -> tuple[Any, isg.Partition]:
    G = isg.as_layered(nx.gnm_random_graph(n, 3 * n, seed=seed))
    return G, isg.random_communities(G, 3, seed=seed)


# ---------------------------------------------------------------------- killed while writing


@POSIX
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "crashing.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["writers"]) == 9
    for name, outcome in found["writers"].items():
        assert outcome["distinct"], name
        assert outcome["half"] == outcome["strange"] == [], name
        # Each was killed both before and after the new file took its name.
        assert outcome["killed"] >= 5, name
        assert outcome["old"] >= 4, name
        assert outcome["new"] >= 2, name
    # An artefact of the paper is several files: a killed run never leaves a mixture that another run takes over.
    artefact = found["artefact"]
    assert artefact["half"] == []
    assert min(artefact["old"], artefact["new"], artefact["none"]) >= 1
    assert artefact["killed"] >= 12


def test_a_killed_search_leaves_checkpoints_that_are_whole(tmp_path: Path) -> None:
    code = """
    import sys, networkx as nx, innersight_graph as isg
    G = nx.gnm_random_graph(60, 400, seed=1)
    print("ready", flush=True)
    isg.em_communities(G, range(1, 9), n_init=20, init="random", seed=3, engine="numpy", checkpoint=sys.argv[1])
    """
    folder = tmp_path / "checkpoint"
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    child.stdout.readline()
    while child.poll() is None and len(list(folder.glob("[!.]*.npz"))) < 3:
        time.sleep(0.01)
    child.kill()
    child.wait()
    child.stdout.close()
    finished = list(folder.glob("[!.]*.npz"))
    assert len(finished) >= 3
    for file in finished:
        with np.load(file, allow_pickle=False) as arrays:
            assert arrays["objective"].size
    G = nx.gnm_random_graph(60, 400, seed=1)
    options: dict[str, Any] = {"n_init": 20, "init": "random", "seed": 3, "engine": "numpy"}
    resumed = isg.em_communities(G, range(1, 9), checkpoint=folder, **options)
    assert resumed.to_json() == isg.em_communities(G, range(1, 9), **options).to_json()


def test_half_a_line_of_a_killed_benchmark_is_made_again(tmp_path: Path) -> None:
    from innersight_graph.comparison import benchmark
    from innersight_graph.comparison.runs import read_results

    path = tmp_path / "results.csv"
    options: dict[str, Any] = {"tasks": ["layers/4"], "contenders": ["random", "by degree"], "seeds": 2}
    rows = benchmark(path, **options)
    content = path.read_bytes()
    assert len(rows) >= 4
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        whole = max(0, content[:cut].count(b"\n") - 1)
        assert read_results(path) == rows[:whole], cut
    for cut in (3, len(content) - 5):
        path.write_bytes(content[:cut])
        again = benchmark(path, **options)
        timings = ("seconds", "megabytes")
        assert [{k: v for k, v in row.items() if k not in timings} for row in again] == [
            {k: v for k, v in row.items() if k not in timings} for row in rows
        ]
    path.write_text("my notes")
    with pytest.raises(InputError, match="no file of benchmark results"):
        benchmark(path, **options)
    assert path.read_text() == "my notes"


INTERRUPT = """
import os, signal, sys
from innersight_graph import cli
from innersight_graph.errors import WriteError
disk = OSError(28, "No space left on device", "x")
error = {"ctrl-c": KeyboardInterrupt(), "disk": disk, "ours": WriteError("Told.")}[sys.argv[1]]
import innersight_graph.graph.interchange as interchange
def fail(*_):
    raise error
interchange.read_graph = fail
sys.argv = ["innersight", "info", "g.npz"]
cli.main()
"""


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [("ctrl-c", 130, "interrupted"), ("disk", 1, "No space left on device: x"), ("ours", 1, "innersight: Told.")],
)
def test_the_command_ends_with_the_promised_code_and_one_paragraph(what: str, code: int, words: str) -> None:
    done = run(INTERRUPT, what)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@POSIX
def test_ctrl_c_on_a_real_command_leaves_what_was_there(tmp_path: Path) -> None:
    import signal

    target, ready = tmp_path / "graph.npz", tmp_path / "ready"
    target.write_bytes(b"old")
    (tmp_path / "net.py").write_text(
        f"import time, pathlib\ndef make():\n    pathlib.Path({str(ready)!r}).touch()\n    time.sleep(60)\n"
    )
    command = ["graph", f"{tmp_path / 'net.py'}:make", "--input", "4", "--out", str(target)]
    process = subprocess.Popen(
        [sys.executable, "-m", "innersight_graph", *command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not ready.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; files that were complete before are unchanged" in said.replace("\n", " ")
    assert "Traceback" not in said
    assert target.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["graph.npz", "net.py", "ready"]


# ---------------------------------------------------------------------- places that cannot be written

WRITE_BIG = """
import os, sys, numpy as np, innersight_graph as isg
from pathlib import Path
target, limit = Path(sys.argv[1]), int(sys.argv[2])
layers = [isg.Layer("input", 0, 200, "input"), isg.Layer("fc", 1, 200, "linear")]
G = isg.LayeredDiGraph.from_arrays(layers, {("input", "fc"): np.ones((200, 200), np.float32)})
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    G.save(target)
except isg.InnerSightError as error:
    print(type(error).__name__, isinstance(error, OSError), error.__cause__.errno, error)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A file system of 64 KiB where this process may mount one, else a folder with the same limit on files."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True).returncode
        == 0
        if sys.platform == "linux"
        else False
    )
    yield folder, 0 if mounted else 65536
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


@POSIX
def test_a_full_disk_is_told_and_leaves_the_old_file(small_disk: tuple[Path, int]) -> None:
    folder, limit = small_disk
    target = folder / "graph.npz"
    target.write_bytes(b"the old one")
    done = run(WRITE_BIG, target, limit)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("WriteError True")
    assert "unchanged" in done.stdout
    assert "Free some room" in done.stdout
    assert target.read_bytes() == b"the old one"
    assert list(folder.iterdir()) == [target]


@POSIX
def test_a_full_disk_keeps_the_rows_of_a_benchmark(small_disk: tuple[Path, int]) -> None:
    from innersight_graph.comparison import benchmark, read_results

    folder, limit = small_disk
    if limit:
        return  # no file system of its own could be mounted; a limit on files would outlast this test
    path = folder / "results.csv"
    options: dict[str, Any] = {"tasks": ["layers/4"], "contenders": ["random", "by degree"]}
    before = benchmark(path, seeds=range(1), **options)
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    with pytest.raises(WriteError, match="Those before it are kept"):
        benchmark(path, seeds=range(60), **options)
    kept = read_results(path)
    assert kept[: len(before)] == before
    assert len(kept) < 120
    (folder / "filler").unlink()
    assert benchmark(path, seeds=range(len(kept) // 2 + 2), **options)[: len(kept)] == kept


@POSIX
def test_a_full_disk_keeps_the_checkpoints_of_a_search(small_disk: tuple[Path, int]) -> None:
    folder, limit = small_disk
    if limit:
        return  # as above
    G = nx.gnm_random_graph(60, 400, seed=1)
    options: dict[str, Any] = {"n_init": 4, "init": "random", "seed": 3, "engine": "numpy"}
    with (folder / "filler").open("wb", buffering=0) as filler:
        for _ in range(8):
            filler.write(bytes(4096))
    with pytest.raises(WriteError, match="Free some room"):
        isg.em_communities(G, range(1, 9), checkpoint=folder / "kept", **options)
    kept = {file: file.read_bytes() for file in (folder / "kept").iterdir()}
    assert kept
    assert not any(file.name.startswith(".") for file in kept)
    for file in kept:
        with np.load(file, allow_pickle=False) as arrays:
            assert arrays["objective"].size
    assert subprocess.run(["mount", "-o", "remount,size=10m", str(folder)]).returncode == 0
    resumed = isg.em_communities(G, range(1, 9), checkpoint=folder / "kept", **options)
    assert resumed.to_json() == isg.em_communities(G, range(1, 9), **options).to_json()
    assert all(file.read_bytes() == content for file, content in kept.items())


READ_ONLY = """
import os, sys, networkx as nx, innersight_graph as isg
from pathlib import Path
folder = Path(sys.argv[1])
G = isg.as_layered(nx.path_graph(6))
P = isg.random_communities(G, 2, seed=0)
comparison = isg.compare(G, {"one": P})
isg.to_html(G, P, folder / "warm.html")
(folder / "warm.html").unlink()
(folder / "protected.json").write_text("old")
(folder / "protected.json").chmod(0o444)
folder.chmod(0o555)
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
writers = {"a.npz": G.save, "a.json": P.to_json, "a.csv": comparison.to_csv, "protected.json": P.to_json,
           "a.html": lambda path: isg.to_html(G, P, path), "a.graphml": lambda path: isg.write_graph(G, path)}
for name, write in writers.items():
    try:
        write(folder / name)
    except isg.InnerSightError as error:
        print(type(error).__name__, "write-protected" in str(error))
"""


@POSIX
def test_a_protected_folder_or_file_is_told_before_any_work(tmp_path: Path) -> None:
    # The user who is not root must be able to come this far.
    places = [
        place for place in [tmp_path, *tmp_path.parents] if place.owner() == tmp_path.owner() and place != Path("/")
    ]
    modes = {place: place.stat().st_mode for place in places}
    folder = tmp_path / "protected"
    folder.mkdir()
    try:
        for place in places:
            place.chmod(modes[place] | 0o755)
        done = run(READ_ONLY, folder)
    finally:
        for place, mode in modes.items():
            place.chmod(mode)
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["WriteError True"] * 6
    assert [file.name for file in folder.iterdir()] == ["protected.json"]
    assert (folder / "protected.json").read_text() == "old"


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody can write to: a file system mounted read-only for root, a mode for everybody else."""
    folder = tmp_path / "read only"
    folder.mkdir()
    mounted = sys.platform == "linux" and os.getuid() == 0
    if mounted:
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(folder)]
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    folder.chmod(0o555) if not mounted else None
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)
    else:
        folder.chmod(0o755)


@POSIX
def test_a_read_only_folder_is_told_before_any_work_also_to_root(read_only: Path) -> None:
    from innersight_graph.demo import run_demo
    from innersight_graph.files import make_folder
    from innersight_graph.paper import run_paper

    if os.access(read_only, os.W_OK):
        # Root without the right to mount can write anywhere; the permission is tested as another user above.
        return
    _, P = partition()
    begun = time.process_time()
    for write in (run_demo, make_folder, lambda place: run_paper("digits", place), P.to_json):
        for place in (read_only / "a", read_only / "a" / "b"):
            with pytest.raises(InputError, match=r"write-protected|does not exist") as told:
                write(place)
            assert isinstance(told.value, WriteError) or write == P.to_json
    assert time.process_time() - begun < 5
    assert list(read_only.iterdir()) == []


@pytest.mark.parametrize("where", ["file", "file/x", "file/x/y"])
def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path, where: str) -> None:
    from innersight_graph.files import check_folder, make_folder

    (tmp_path / "file").write_text("mine")
    for function in (check_folder, make_folder):
        with pytest.raises(InputError, match="is a file; a folder was expected"):
            function(tmp_path / where)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_names_that_no_folder_can_have_are_refused(tmp_path: Path, name: str) -> None:
    from innersight_graph.files import make_folder

    with pytest.raises(InputError, match="results"):
        make_folder(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    from innersight_graph.files import check_folder, make_folder

    place = tmp_path / "ü" / "b"
    assert check_folder(place) == place
    assert not place.exists()
    assert make_folder(str(place)) == make_folder(place) == place
    assert place.is_dir()


@pytest.mark.parametrize("name", ["", ".", "no/such/folder/x.json", "a\0b.json", "x" * 300 + ".json"])
def test_names_that_are_none_are_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, P = partition()
    with pytest.raises(InputError, match="partition"):
        P.to_json(name)
    assert list(tmp_path.iterdir()) == []


@POSIX
def test_a_device_is_not_replaced_by_a_file() -> None:
    _, P = partition()
    with pytest.raises(InputError, match="device"):
        P.to_json("/dev/null")
    assert not Path("/dev/null").is_file()


@POSIX
def test_a_link_stays_a_link_and_a_mode_stays_as_it_was(tmp_path: Path) -> None:
    _, P = partition()
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    P.to_json(link)
    assert link.is_symlink()
    assert real.read_text() == P.to_json()
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_an_error_or_ctrl_c_while_writing_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "größe ネット.json"
    write_text(target, "old\n")
    with pytest.raises(error), whole_file(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert target.read_bytes() == b"old\n"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_another_program_holds_open_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What Windows answers when the target is open elsewhere.
    def held(*_: object) -> None:
        raise PermissionError(13, "The process cannot access the file because it is being used by another process")

    target = tmp_path / "a.json"
    write_text(target, "old")
    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(WriteError, match=r"used by another process.*close programs"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


# ---------------------------------------------------------------------- packages that are not there

MODEL = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
NEEDS: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "leiden": ("leidenalg", "leiden", lambda: isg.leiden_communities(nx.path_graph(6), seed=0)),
    "igraph": ("igraph", "leiden", lambda: isg.to_igraph(nx.path_graph(3))),
    "backend": (
        "igraph",
        "leiden",
        lambda: isg.louvain_communities(nx.path_graph(6), sign="absolute", backend="igraph", seed=0),
    ),
    "cugraph": (
        "nx_cugraph",
        "cugraph13",
        lambda: isg.louvain_communities(nx.path_graph(6), sign="absolute", backend="cugraph"),
    ),
    "edges": ("pandas", "pandas", lambda: isg.to_pandas_edgelist(nx.path_graph(3))),
    "partition": ("pandas", "pandas", lambda: partition()[1].to_pandas()),
    "agreement": ("pandas", "pandas", lambda: isg.Agreement(1.0, 1.0, 0.0, 2, 2).to_pandas()),
    "comparison": ("pandas", "pandas", lambda: isg.compare(*[partition()[0]], {"a": partition()[1]}).to_pandas()),
    "report": (
        "pandas",
        "pandas",
        lambda: isg.evaluate(*partition(), isg.Structure(partition()[0]), nulls=0).to_pandas(),
    ),
    "cdlib": ("cdlib", "bench", lambda: isg.to_cdlib(*partition())),
    "cupy": ("cupy", "cuda12", lambda: isg.em_communities(nx.path_graph(6), 2, engine="cupy", seed=0)),
}


@pytest.mark.parametrize("case", NEEDS)
def test_a_missing_extra_is_named(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, extra, use = NEEDS[case]
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        use()
    assert caught.value.extra == extra
    assert f"innersight-graph[{extra}]" in str(caught.value)
    assert isinstance(caught.value, ImportError)
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert extra in tomllib.load(file)["project"]["optional-dependencies"]


# ---------------------------------------------------------------------- Ctrl-C and errors inside the model


class Fails(nn.Module):
    """Works for some calls, then raises."""

    def __init__(self, calls: int, error: type[BaseException]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.norm, self.fc2 = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.error, self.left = error, calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        hidden = torch.relu(self.norm(self.fc1(x)))
        if self.left < 0:
            raise self.error("pressed")
        out: torch.Tensor = self.fc2(hidden)
        return out


def condition(model: nn.Module) -> dict[str, Any]:
    """Everything that must come back as it was."""
    hooks = [
        (name, len(getattr(module, kind)))
        for name, module in model.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    ]
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "modes": [(name, module.training) for name, module in model.named_modules()],
        "grads": [(name, p.requires_grad, p.grad) for name, p in model.named_parameters()],
        "hooks": hooks,
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "grad mode": torch.is_grad_enabled(),
        "rng": torch.get_rng_state(),
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert all(torch.equal(before["state"][k], after["state"][k]) for k in before["state"])
    assert torch.equal(before["rng"], after["rng"])
    for key in ("modes", "grads", "hooks", "attributes", "grad mode"):
        assert before[key] == after[key], key


X = torch.linspace(-1, 1, 80).reshape(20, 4)
Y = torch.arange(20) % 3
LIVE: dict[str, Callable[[nn.Module, Any, Any], Any]] = {
    "graph": lambda model, G, P: isg.neuron_graph(model, X),
    "eq1": lambda model, G, P: isg.neuron_graph(model, X, edges="act_corr"),
    "activations": lambda model, G, P: isg.activations(model, X, G),
    "similarities": lambda model, G, P: isg.similarities(model, X, G, kind="covariance"),
    "sensitivity": lambda model, G, P: isg.Sensitivity(model, X).evaluate(G, P),
    "consistency": lambda model, G, P: isg.Consistency(model, X).evaluate(G, P),
    "ablation": lambda model, G, P: isg.Ablation(model, (X, Y)).evaluate(G, P, nulls=3, seed=0),
    "mean ablation": lambda model, G, P: isg.Ablation(model, (X, Y), value="mean").evaluate(G, P),
}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("calls", [0, 2])
@pytest.mark.parametrize("work", LIVE)
def test_an_interrupted_measurement_gives_the_model_back(work: str, calls: int, error: type[BaseException]) -> None:
    model = Fails(10_000, error).train()
    G = isg.neuron_graph(model, X)
    P = isg.random_communities(G, 2, seed=0)
    model.left = calls
    before = condition(model)
    try:
        LIVE[work](model, G, P)
    except (KeyboardInterrupt, RuntimeError, isg.InnerSightError) as raised:
        assert "pressed" in str(raised) or "pressed" in str(raised.__cause__)  # noqa: PT017
    assert_same(before, condition(model))


def test_ctrl_c_during_evaluate_returns_what_is_finished() -> None:
    model = Fails(10_000, KeyboardInterrupt)
    G = isg.neuron_graph(model, X)
    P = isg.random_communities(G, 2, seed=0)
    model.left = 0
    before = condition(model)
    report = isg.evaluate(G, P, [isg.Structure(G), isg.Ablation(model, (X, Y))], nulls=0)
    assert list(report.evaluations) == ["structure"]
    assert report.environment["partial"]
    assert report.environment["unfinished"] == ("ablation",)
    assert_same(before, condition(model))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_inside_the_with_block_takes_the_hooks_off(error: type[BaseException]) -> None:
    model = Fails(10_000, error)
    G = isg.neuron_graph(model, X)
    before = condition(model)
    for context in (isg.capture(model, ["fc1"]), isg.ablate(model, [isg.Neuron("fc1", 0)], graph=G, example=X[:2])):
        with pytest.raises(error), context:  # noqa: PT012
            model(X)
            raise error
    assert_same(before, condition(model))


# ---------------------------------------------------------------------- workers that die


def test_the_work_of_a_killed_worker_is_done_again() -> None:
    code = """
    import os, signal, sys, networkx as nx, numpy as np, innersight_graph as isg
    def start(X, n_components, generator):
        if os.getpid() != parent:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return generator.integers(n_components, size=len(X))
    parent = os.getpid()
    if __name__ == "__main__":
        G = nx.gnm_random_graph(40, 200, seed=0)
        found = [isg.em_communities(G, range(1, 4), init=start, n_init=4, seed=0, n_jobs=n) for n in (2, 1)]
        print(found[0].to_json() == found[1].to_json())
    """
    done = run(code)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "A worker process died" in done.stderr
    assert done.stdout.split() == ["True"]
