"""Files made to harm: each attack is made for real, and what it would have done is looked for."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import innersight_graph as isg
from innersight_graph.errors import GraphSchemaError, InnerSightError, InputError
from innersight_graph.neuronize.load import read_weights

K = isg.as_layered(nx.karate_club_graph())
P = isg.random_communities(K, 2, seed=0)


# ---------------------------------------------------------------------- archives that lie about themselves


def lying_archive(path: Path, member: str, megabytes: int, said: int) -> None:
    """Write an archive whose directory says that a packed member unpacks to `said` bytes; it unpacks to far more."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = piece * megabytes + packer.flush()
    about = (8, 0, 0x21, 0, len(packed), said, len(member), 0)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, *about) + member.encode()
    central = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, *about, 0, 0, 0, 0, 0) + member.encode()
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    path.write_bytes(local + packed + central + end)


class Bytes:
    """Unpickled, a bytearray of any size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (self.size,)


def shared_bytes(path: Path) -> None:
    """Write 2,000 tensors that all lie in the same megabyte."""
    entry = {"dtype": "F32", "shape": [1 << 18], "data_offsets": [0, 1 << 20]}
    header = json.dumps({f"w{i}": entry for i in range(2000)}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(1 << 20))


BOMBS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "lies.npz": (lambda path: lying_archive(path, "manifest", 1500, 8192), "is compressed"),
    "fills.pt": (lambda path: torch.save({"w": torch.ones(2), "x": Bytes(2 << 30)}, path), "bytearray"),
    "old.pt": (
        lambda path: torch.save({"x": Bytes(2 << 30)}, path, _use_new_zipfile_serialization=False),
        "bytearray",
    ),
    "shared.safetensors": (shared_bytes, "share bytes"),
}
READ_ALL = """
import resource, sys, innersight_graph as isg
from innersight_graph.neuronize.load import read_weights
for name in sys.argv[1:]:
    try:
        (isg.LayeredDiGraph.load if name.endswith(".npz") else read_weights)(name)
    except isg.InputError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(os.name == "nt", reason="the peak of memory is read as POSIX gives it")
def test_a_small_file_cannot_fill_the_memory(tmp_path: Path) -> None:
    for name, (write, _) in BOMBS.items():
        write(tmp_path / name)
        assert (tmp_path / name).stat().st_size < 2 << 20
    command = [sys.executable, "-c", READ_ALL, *(str(tmp_path / name) for name in BOMBS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    *said, peak = done.stdout.splitlines()
    assert len(said) == len(BOMBS)
    for line, (name, (_, message)) in zip(said, BOMBS.items(), strict=True):
        assert name in line
        assert message in line
    # Torch alone takes 0.3 to 1.1 GiB; each of these files would take 1.5 to 2 more.
    assert int(peak) / (1024 if sys.platform == "darwin" else 1) < 3 << 19


def test_two_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "g.npz"
    K.save(path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("manifest.npy", b"another")
    with pytest.raises(InputError, match="two of its parts have one name"):
        isg.LayeredDiGraph.load(path)


# ---------------------------------------------------------------------- names and keys that occur twice


def node_link(change: Callable[[dict[str, Any]], Any]) -> str:
    record = nx.node_link_data(nx.path_graph(3), edges="edges")
    change(record)
    return json.dumps(record)


TWICE: dict[str, tuple[str, str, str]] = {
    "a key of a graph": ("g.json", node_link(lambda r: None)[:-1] + ', "directed": true}', "'directed' occurs twice"),
    "a node of a graph": ("g.json", node_link(lambda r: r["nodes"].append({"id": 1})), "one id"),
    "a node of GraphML": (
        "g.graphml",
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="directed">'
        '<node id="a"/><node id="a"/></graph></graphml>',
        "id 'a'",
    ),
    "a node of GEXF": (
        "g.gexf",
        '<gexf xmlns="http://www.gexf.net/1.2draft" version="1.2"><graph><nodes>'
        '<node id="a"/><node id="a"/></nodes></graph></gexf>',
        "id 'a'",
    ),
    "a key of a partition": ("p.json", P.to_json()[:-1] + ', "seed": 3}', "'seed' occurs twice"),
}


@pytest.mark.parametrize("case", TWICE)
def test_what_occurs_twice_is_refused(tmp_path: Path, case: str) -> None:
    name, text, message = TWICE[case]
    (tmp_path / name).write_text(text)
    read: Callable[[Path], Any] = isg.Partition.from_json if name.startswith("p") else isg.read_graph
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_one_weight_under_two_names_is_refused(tmp_path: Path) -> None:
    twice = {"module.weight": torch.ones(2, 2), "weight": torch.zeros(2, 2)}
    torch.save(twice, tmp_path / "w.pt")
    with pytest.raises(InputError, match="one name twice"):
        read_weights(tmp_path / "w.pt")
    header = (
        b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}'
    )
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
    with pytest.raises(InputError, match="'w' occurs twice"):
        read_weights(tmp_path / "w.safetensors")


# ---------------------------------------------------------------------- depth and numbers


@pytest.mark.parametrize("suffix", [".graphml", ".gexf"])
def test_deep_nesting_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / ("deep" + suffix)
    path.write_text("<a>" * 100_000 + "</a>" * 100_000)
    with pytest.raises(InputError, match="nested more than 100 deep"):
        isg.read_graph(path)


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, '"heavy"', "null", "[]"])
def test_weights_that_are_no_finite_number_are_refused(tmp_path: Path, weight: str) -> None:
    path = tmp_path / "g.json"
    path.write_text(node_link(lambda r: r["edges"][0].update(weight=7)).replace(": 7", f": {weight}"))
    with pytest.raises(GraphSchemaError, match="finite number was expected") as told:
        isg.read_graph(path)
    assert len(str(told.value)) < 300


def test_images_that_are_no_finite_numbers_are_refused(tmp_path: Path) -> None:
    for stem in ("train", "t10k"):
        values = np.full((2, 2, 2), np.nan, dtype=">f4")
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(struct.pack(">HBBIII", 0, 13, 3, 2, 2, 2) + bytes(values))
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 2) + b"\0\1")
    with pytest.raises(InputError, match="NaN or infinite"):
        isg.load_mnist(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(2).to_sparse(), "sparse"),
        (lambda: torch.empty(2, 2, device="meta"), "without numbers of its own"),
        (lambda: torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8), "quantised"),
        (lambda: torch.ones(2, 2, dtype=torch.complex64), "another shape or kind"),
        (lambda: torch.ones(1, 1).expand(10**6, 10**6), "another shape or kind"),
    ],
    ids=["sparse", "meta", "quantised", "complex", "an endless shape"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_weights_are_refused(
    tmp_path: Path, make: Callable[[], torch.Tensor], message: str
) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(2, 2, bias=False)\n")
    torch.save({"weight": make()}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=message):
        isg.load_model(f"{tmp_path / 'net.py'}:make", tmp_path / "w.pt")


# ---------------------------------------------------------------------- pictures that are programs


def test_a_picture_is_not_handed_to_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.name == "nt":
        return  # the stand-in for the other program is a script for a POSIX shell
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch '{tmp_path / 'executed'}'\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "0.png").write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"
        )
    with pytest.raises(InputError, match="could not be read as a picture"):
        isg.load_image_folder(tmp_path / "images", size=8)
    assert not (tmp_path / "executed").exists()


# ---------------------------------------------------------------------- graphs that reach into a live model

MODEL = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
X, Y = torch.linspace(-1, 1, 80).reshape(20, 4), torch.arange(20) % 3
G = isg.neuron_graph(MODEL, X)
CLOSINGS: dict[str, dict[str, Any]] = {
    "no module of this model": {"module": "nobody"},
    "a number for a name": {"module": 3},
    "an attribute": {"path": ["__class__"]},
    "an attribute of an attribute": {"path": ["grad_fn", "__class__"]},
    "a part that is not there": {"path": [3, 4, 5, 6]},
    "a call that never comes": {"call": -5},
    "rows below zero": {"rows": [0, -1, 2, 3, 4, 5]},
    "rows beyond": {"rows": [0, 99, 2, 3, 4, 5]},
    "rows of text": {"rows": ["a"]},
    "a parameter that is not there": {"module": "", "exact": False, "operator": "", "weight": "__class__"},
    "a truth value": {"exact": 1},
    "an unknown field": {"colour": "red"},
    "a missing field": {"rows": ...},
}
USES: tuple[Callable[[Any], Any], ...] = (
    lambda H: isg.activations(MODEL, X, H),
    lambda H: isg.evaluate(H, isg.random_communities(H, 2, seed=0), isg.Ablation(MODEL, (X, Y)), nulls=0),
)


@pytest.mark.parametrize("case", CLOSINGS)
def test_closing_points_of_another_model_are_refused_in_words(case: str) -> None:
    record = {**json.loads(G.layers[1].closing or ""), **CLOSINGS[case]}
    text = json.dumps({name: value for name, value in record.items() if value is not ...})
    layers = [replace(layer, closing=text) if layer.name == "0" else layer for layer in G.layers]
    H = isg.LayeredDiGraph.from_arrays(layers, dict(G.connections))
    before = {name: value.clone() for name, value in MODEL.state_dict().items()}
    refused = []
    for use in USES:
        try:
            use(H)
        except InnerSightError as told:
            refused.append(str(told))
    assert refused
    assert min(map(len, refused)) > 40
    assert all(torch.equal(before[name], value) for name, value in MODEL.state_dict().items())
    assert not any(module._forward_hooks for module in MODEL.modules())


# ---------------------------------------------------------------------- reports


REPORT = json.loads(isg.evaluate(K, P, isg.Structure(K), nulls=3, seed=0).to_json())
SCORES: dict[str, Any] = {
    "an endless type": {"array": ["a"], "shape": [1], "dtype": "U2000000000"},
    "objects": {"array": [1, 2], "shape": [2], "dtype": "object"},
    "too few": {"array": [1.0], "shape": [1], "dtype": "float64"},
    "a table": {"array": [1.0, 2.0], "shape": [2, 1], "dtype": "float64"},
    "text": {"array": ["a", "b"], "shape": [2], "dtype": "str32"},
    "another shape": {"array": [1.0, 2.0], "shape": [10**9], "dtype": "float64"},
    "no array": "scores",
}


@pytest.mark.parametrize("field", ["per_community", "intervals", "p_values", "value", "maps"])
@pytest.mark.parametrize("case", SCORES)
def test_scores_that_are_none_are_refused(case: str, field: str) -> None:
    record = json.loads(json.dumps(REPORT))
    nested = field in ("intervals", "p_values")
    record["evaluations"]["structure"][field] = (
        {"mapping": [["per_community", SCORES[case]]]} if nested else SCORES[case]
    )
    with pytest.raises(InputError):
        isg.Report.from_json(json.dumps(record), K)


class Tags(HTMLParser):
    """Collects the tags of a page with the names of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))


@pytest.mark.parametrize(
    "text", ["</script><img src=x onerror=alert(1)>", "<!--<script>", "'\"><svg onload=1>", "{{7*7}}"]
)
def test_a_hostile_report_puts_no_tag_on_the_page(text: str) -> None:
    def page(word: str) -> str:
        record = json.loads(json.dumps(REPORT))
        structure = record["evaluations"].pop("structure")
        structure["name"] = word
        details = dict(map(tuple, structure["details"]["mapping"])) | {"findings": {"tuple": [word, word]}, word: word}
        structure["details"] = {"mapping": [list(item) for item in details.items()]}
        record["evaluations"][word] = structure
        environment = dict(map(tuple, record["environment"]["mapping"])) | {"warnings": {"tuple": [word]}, word: word}
        record["environment"] = {"mapping": [list(item) for item in environment.items()]}
        record["partition"]["method"] = word
        record["partition"]["params"] = {word: word}
        report = isg.Report.from_json(json.dumps(record), K)
        return isg.make_page(K, report.partition, report).html

    assert Tags(page(text)).tags == Tags(page("word")).tags
    assert "49" not in re.findall(r"<title>(.*?)</title>", page(text))[0]


# ---------------------------------------------------------------------- what a terminal is told


HOSTILE = "\x1b]0;owned\x07[/red][bold]\x9b31m\u202e"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("[bold]")
    names = ["input", HOSTILE, "out"]
    layers = [isg.Layer(name, depth, 3, "[/kind]") for depth, name in enumerate(names)]
    weights = np.random.default_rng(0).normal(size=(3, 3))
    H = isg.LayeredDiGraph.from_arrays(layers, dict.fromkeys(pairwise(names), weights))
    H.save(folder / "g.npz")
    Q = isg.random_communities(H, 2, seed=0)
    record = json.loads(Q.to_json()) | {"method": HOSTILE}
    record["stats"] = {HOSTILE: {"n_communities": HOSTILE}}
    (folder / "p.json").write_text(json.dumps(record), encoding="utf-8")
    isg.evaluate(H, Q, isg.Structure(H), nulls=0).to_json(folder / "r.json")
    (folder / "deep.json").write_text("[" * 200_000)
    (folder / "marked.json").write_bytes(b"\xef\xbb\xbf" + Q.to_json().encode())
    return folder


@pytest.mark.parametrize("file", ["g.npz", "p.json", "r.json", "marked.json", "deep.json"])
def test_names_in_files_are_no_commands_to_the_terminal(hostile: Path, file: str) -> None:
    command = [sys.executable, "-m", "innersight_graph", "info", str(hostile / file)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    said = done.stdout + done.stderr
    assert done.returncode == (1 if file == "deep.json" else 0), said
    assert "Traceback" not in said
    assert all(c.isprintable() or c == "\n" for c in said)
    if file != "deep.json":
        assert r"\x1b]0;owned\x07[/red][bold]\x9b31m\u202e" in said


def test_the_command_says_that_it_runs_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from innersight_graph.cli import graph as command

    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Linear(3, 2))\n")
    command("net.py:make", shape="3", out=Path("[x] g.npz"))
    said = capsys.readouterr()
    assert "Running net.py for the model 'make': a Python file may do anything that you may." in said.err
    assert "Wrote [x] g.npz." in said.out


# ---------------------------------------------------------------------- folders of earlier runs


def test_a_checkpoint_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    options: dict[str, Any] = {"init": "random", "n_init": 4, "seed": 3, "engine": "numpy"}
    expected = isg.em_communities(K, 2, **options).to_json()
    isg.em_communities(K, 2, checkpoint=tmp_path, **options)
    files = sorted(tmp_path.iterdir())
    assert files
    for change in (
        lambda a: a.update(labels=a["labels"][:, :3]),
        lambda a: a.update(labels=a["labels"] + 9),
        lambda a: a.update(objective=a["objective"] * np.nan),
        lambda a: a.update({name: value[:, :2] for name, value in a.items() if name.startswith("leader-")}),
        lambda a: a.update({name: value * np.nan for name, value in a.items() if name.startswith("leader-")}),
        lambda a: a.update(leaders=np.array([99]), **{"leader-99": np.zeros((2, 34))}),
        lambda a: a.update(leaders=np.array([{}], dtype=object)),
    ):
        for file in files:
            with np.load(file, allow_pickle=False) as found:
                arrays = dict(found)
            change(arrays)
            np.savez(file, **arrays)
        assert isg.em_communities(K, 2, checkpoint=tmp_path, **options).to_json() == expected
    for file in files:
        lying_archive(file, "objective", 1, 8192)
    assert isg.em_communities(K, 2, checkpoint=tmp_path, **options).to_json() == expected


def test_a_paper_record_cannot_put_other_files_on_the_page(tmp_path: Path) -> None:
    from innersight_graph.figures import criterion_curves
    from innersight_graph.paper.record import Artefact, verdict
    from innersight_graph.paper.store import Store

    (tmp_path / "secret.png").write_bytes(b"secret")
    store = Store(tmp_path / "out", "f")
    says = verdict("c", holds=True, fails=False, number=1.0, unit="u", rule="r", says="s")
    figure = criterion_curves({"fc": {1: 0.0, 2: 1.0}})
    record = store.save(Artefact("fig1a", "t", [{"a": 1}], {}, [says], {"one": figure}), {})
    assert store.finished("fig1a") == record
    file = tmp_path / "out" / "fig1a.json"
    for change in (
        {"files": ["../secret.png"], "figures": [{"file": "../secret.png", "caption": "", "width": 1}]},
        {"figures": [{"file": "../secret.png", "caption": "", "width": 1}]},
        {"files": [str(tmp_path / "secret.png")]},
        {"files": ["fig1a.csv\n"]},
        {"verdicts": [{"claim": "c"}]},
        {"verdicts": 3},
        {"figures": None},
        {"fingerprint": "g"},
    ):
        file.write_text(json.dumps(record | change))
        assert store.finished("fig1a") is None, change
    file.write_text("[" * 100_000)
    assert store.finished("fig1a") is None
