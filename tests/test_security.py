"""Files from strangers: nothing is executed, none exhausts memory, every refusal is an error of ours."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
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

PACKAGE = Path(isg.__file__).parent


class Payload:
    """Unpickled, it would make the file it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def graph() -> isg.LayeredDiGraph:
    layers = [isg.Layer("input", 0, 4, "input"), isg.Layer("fc", 1, 3, "linear"), isg.Layer("out", 2, 2, "linear")]
    weights = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    return isg.LayeredDiGraph.from_arrays(layers, {("input", "fc"): weights[:4], ("fc", "out"): weights[4:7, :2]})


def rewritten(path: Path, change: Callable[[dict[str, Any]], None], **arrays: Any) -> Path:
    """Save a graph, then write its file again with another manifest and other arrays."""
    graph().save(path)
    with np.load(path) as file:
        content = dict(file)
    manifest = json.loads(str(content["manifest"]))
    change(manifest)
    content |= {"manifest": np.array(json.dumps(manifest))} | arrays
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path


# ---------------------------------------------------------------------- pickles


def test_a_pickle_in_a_graph_file_is_not_opened(tmp_path: Path) -> None:
    trap, path = tmp_path / "executed", tmp_path / "g.npz"
    for arrays in ({"manifest": Payload(trap)}, {"connection0": Payload(trap)}):
        rewritten(path, lambda m: None, **{name: np.array([p, p], dtype=object) for name, p in arrays.items()})
        with pytest.raises(InputError, match="damaged"):
            isg.LayeredDiGraph.load(path)
    path.write_bytes(pickle.dumps(Payload(trap)))
    with pytest.raises(InputError, match="damaged"):
        isg.LayeredDiGraph.load(path)
    assert not trap.exists()


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"state_dict": p}, lambda p: {"0.weight": p}])
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.safetensors"])
def test_a_pickle_in_a_weights_file_is_not_opened(tmp_path: Path, wrap: Any, name: str) -> None:
    trap, path = tmp_path / "executed", tmp_path / name
    for write in (torch.save, lambda value, file: Path(file).write_bytes(pickle.dumps(value, protocol=2))):
        write(wrap(Payload(trap)), path)
        with pytest.raises(InputError, match="safetensors"):
            read_weights(path)
    torch.save(nn.Linear(2, 2), path)  # a whole model is a pickle too
    with pytest.raises(InputError, match="safetensors"):
        read_weights(path)
    assert not trap.exists()


def test_no_module_of_the_package_unpickles_or_evaluates() -> None:
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for word in (
            "pickle.load",
            "eval(",
            "exec(",
            "allow_pickle=True",
            "weights_only=False",
            "yaml.load",
            "os.system",
        ):
            found = [
                line for line in text.splitlines() if word in line and f".{word}" not in line and f"_{word}" not in line
            ]
            assert not found, f"{file.name}: {found}"


# ---------------------------------------------------------------------- bombs


def bomb(path: Path, member: str, size: int) -> None:
    """Write an archive of a few kilobytes that says and unpacks to size bytes of zeros."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(member, "w", force_zip64=True) as file,
    ):
        file.write(header.getvalue())
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))


def test_archives_that_unpack_to_more_than_they_are_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.npz"
    bomb(path, "manifest.npy", 64 << 20)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="unpacks to"):
        isg.LayeredDiGraph.load(path)
    weights = tmp_path / "w.pt"
    bomb(weights, "archive/data.pkl", 64 << 20)
    with pytest.raises(InputError, match="unpacks to"):
        read_weights(weights)


def test_claims_of_endless_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.npz"
    graph().save(path)
    for shape in ((10**15,), (2**62, 8), (-1,), (10**30,)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.npy", header.getvalue())
        with pytest.raises(InputError, match="damaged"):
            isg.LayeredDiGraph.load(path)


def test_a_short_text_cannot_ask_for_endless_neurons(tmp_path: Path) -> None:
    text = isg.random_communities(graph(), 2, seed=0).to_json()
    record = json.loads(text)
    record["layers"]["fc"] = 10**12
    with pytest.raises(InputError, match="10,000,000"):
        isg.Partition.from_json(json.dumps(record))
    path = rewritten(tmp_path / "g.npz", lambda m: m["layers"].append({**m["layers"][0], "name": "x", "width": 10**15}))
    with pytest.raises(InputError, match="10,000,000 neurons"):
        isg.LayeredDiGraph.load(path)


def test_packed_idx_files_are_read_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from innersight_graph import _idx

    monkeypatch.setattr(_idx, "_BYTES", 1 << 20)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    for shape, message in (((2, 2**20), "more than is read"), ((3, 2, 2), "12 bytes of values and holds more")):
        file.write_bytes(gzip.compress(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + bytes(64 << 20)))
        tracemalloc.start()
        with pytest.raises(InputError, match=message):
            isg.load_mnist(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()
    monkeypatch.undo()
    file.write_bytes(gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 2**10, 2**10, 2**10)))
    with pytest.raises(InputError, match="more than is in it"):
        isg.load_mnist(tmp_path)


def test_labels_that_ask_for_endless_classes_are_refused(tmp_path: Path) -> None:
    images = struct.pack(">HBBIII", 0, 8, 3, 2, 2, 2) + bytes(8)
    labels = struct.pack(">HBBIii", 0, 12, 1, 2, 0, 2**31 - 1)
    for stem in ("train", "t10k"):
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(images)
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(InputError, match="less than 65536"):
        isg.load_mnist(tmp_path)


# ---------------------------------------------------------------------- XML and JSON

LAUGHS = '<?xml version="1.0"?><!DOCTYPE g [<!ENTITY a "ha">{}]><graphml>&{};</graphml>'
EXPANSION = LAUGHS.format(
    "".join(f'<!ENTITY {b} "{("&" + a + ";") * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)), "i"
)
EXTERNAL = '<?xml version="1.0"?><!DOCTYPE g [<!ENTITY x SYSTEM "file:///etc/passwd">]><graphml>&x;</graphml>'


@pytest.mark.parametrize("text", [EXPANSION, EXTERNAL], ids=["expansion", "external"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("suffix", [".graphml", ".gexf"])
def test_xml_with_a_document_type_is_refused(tmp_path: Path, text: str, encoding: str, suffix: str) -> None:
    path = tmp_path / ("g" + suffix)
    path.write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match="document type"):
        isg.read_graph(path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "nan", "[]", "null", '"x"', "", "\x00", "{}"]
)
def test_malformed_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    for read in (isg.read_graph, isg.Partition.from_json, lambda p: isg.Report.from_json(p, graph())):
        with pytest.raises(InnerSightError):
            read(path)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no layers": lambda m: m.pop("layers"),
    "layer without width": lambda m: m["layers"][0].pop("width"),
    "width as text": lambda m: m["layers"][0].update(width="4"),
    "width as fraction": lambda m: m["layers"][0].update(width=4.0),
    "width true": lambda m: m["layers"][0].update(width=True),
    "negative width": lambda m: m["layers"][0].update(width=-4),
    "depth as text": lambda m: m["layers"][0].update(depth="0"),
    "name as list": lambda m: m["layers"][0].update(name=["input"]),
    "shape of text": lambda m: m["layers"][0].update(shape=["a"]),
    "closing as list": lambda m: m["layers"][0].update(closing=[1]),
    "unknown field": lambda m: m["layers"][0].update(colour="red"),
    "no connections": lambda m: m.pop("connections"),
    "connections as text": lambda m: m.update(connections="all"),
    "connection of strangers": lambda m: m["connections"][0].update(source="nobody"),
    "connection without array": lambda m: m["connections"].append(m["connections"][0]),
    "kind": lambda m: m["connections"][0].update(kind="magic"),
    "kind as list": lambda m: m["connections"][0].update(kind=[]),
    "sparse said of dense": lambda m: m["connections"][0].update(sparse=True),
    "attributes as number": lambda m: m.update(attributes=3),
    "attribute without array": lambda m: m["attributes"].append(["fc", "silent"]),
    "nodes of strangers": lambda m: m["nodes"].update(nobody=[1]),
    "too few nodes": lambda m: m["nodes"].update(fc=[1]),
    "one node twice": lambda m: m["nodes"].update(fc=[1, 1, 1]),
    "nodes that cannot be keys": lambda m: m["nodes"].update(fc=[{}, {}, {}]),
    "graph as list": lambda m: m.update(graph=[]),
    "another format": lambda m: m.update(format="innersight-graph/99"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_manifest_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    path = rewritten(tmp_path / "g.npz", lambda m: CHANGES[name](m) and None)
    with pytest.raises(InnerSightError) as caught:
        isg.LayeredDiGraph.load(path)
    assert isinstance(caught.value, (InputError, GraphSchemaError))


@pytest.mark.parametrize(
    ("indices", "indptr"),
    [([0, 9, 1], [0, 1, 2, 3, 3]), ([-1, 0, 1], [0, 1, 2, 3, 3]), ([0, 1, 2], [0, 9, 2, 3, 3]), ([0, 1, 2], [0, 1, 3])],
    ids=["beyond", "negative", "rows past the end", "too few rows"],
)
def test_sparse_indices_out_of_range_are_refused(tmp_path: Path, indices: list[int], indptr: list[int]) -> None:
    arrays = {
        "connection0": None,
        "connection0data": np.ones(3, np.float32),
        "connection0indices": np.array(indices, np.int32),
        "connection0indptr": np.array(indptr, np.int32),
    }
    path = rewritten(tmp_path / "g.npz", lambda m: m["connections"][0].update(sparse=True), **arrays)
    with pytest.raises(InputError, match="damaged"):
        isg.LayeredDiGraph.load(path)


PARTITION_CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "neuron beyond": lambda r: r["communities"][0]["neurons"].append(99),
    "neuron negative": lambda r: r["communities"][0].update(neurons=[-1]),
    "neuron true": lambda r: r["communities"][0].update(neurons=[True]),
    "neuron as text": lambda r: r["communities"][0].update(neurons=["0"]),
    "neuron twice": lambda r: r["communities"][0]["neurons"].append(r["communities"][0]["neurons"][0]),
    "neuron in two": lambda r: r["communities"].append(r["communities"][0]),
    "empty": lambda r: r["communities"][0].update(neurons=[]),
    "unknown layer": lambda r: r["communities"][0].update(layer="nobody"),
    "order": lambda r: r["communities"].reverse(),
    "seed": lambda r: r.update(seed="0"),
    "method": lambda r: r.update(method=None),
    "params": lambda r: r.update(params=[]),
    "stats": lambda r: r.update(stats={"fc": 3}),
    "silent": lambda r: r.update(stats={"fc": {"silent": 77}}),
    "silent elsewhere": lambda r: r.update(stats={"fc": {"silent": 3}}),
    "responsibilities": lambda r: r.update(responsibilities={"fc": [[1.0]]}),
    "responsibilities not finite": lambda r: r.update(responsibilities={"fc": [[1.0, float("nan")]] * 3}),
    "responsibilities ragged": lambda r: r.update(responsibilities={"fc": [[1.0], [1.0, 2.0], []]}),
    "no neurons": lambda r: r["layers"].update(fc=0),
    "ids twice": lambda r: r["layers"].update(fc=["a", "a", "b"]),
}


@pytest.mark.parametrize("name", PARTITION_CHANGES)
def test_a_partition_that_lies_is_refused(name: str) -> None:
    P = isg.random_communities(graph(), 2, layers=["fc", "out"], seed=0)
    record = json.loads(P.to_json())
    assert isg.Partition.from_json(json.dumps(record)).to_json() == P.to_json()
    PARTITION_CHANGES[name](record)
    with pytest.raises(InputError, match="damaged"):
        isg.Partition.from_json(json.dumps(record))


@pytest.mark.parametrize("part", ["environment", "evaluations", "partition", "format"])
def test_a_report_that_lies_is_refused(part: str) -> None:
    G = graph()
    report = isg.evaluate(G, isg.random_communities(G, 2, seed=0), isg.Structure(G), nulls=0)
    record = json.loads(report.to_json())
    for value in (None, 3, "x", []):
        with pytest.raises(InputError):
            isg.Report.from_json(json.dumps({**record, part: value}), G)


# ---------------------------------------------------------------------- weights


def safetensors(header: Any, body: bytes = bytes(16), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
LIES = {
    "empty file": b"",
    "no header": b"\x01",
    "length beyond the file": safetensors({}, length=2**63),
    "not JSON": safetensors(b"\xff\xfe"),
    "a list": safetensors([]),
    "an entry that is none": safetensors({"w": 3}),
    "nested": safetensors(b'{"a":' * 50_000),
    "unknown type": safetensors({"w": {**ENTRY, "dtype": "F33"}}),
    "beyond the file": safetensors({"w": {**ENTRY, "shape": [4, 2], "data_offsets": [0, 32]}}),
    "before the file": safetensors({"w": {**ENTRY, "data_offsets": [-16, 0]}}),
    "backwards": safetensors({"w": {**ENTRY, "data_offsets": [16, 0]}}),
    "another shape": safetensors({"w": {**ENTRY, "shape": [3, 2]}}),
    "a shape to be guessed": safetensors({"w": {**ENTRY, "shape": [-1, 2]}}),
    "a shape over memory that is not its own": safetensors({"w": {**ENTRY, "shape": [99], "data_offsets": [0, 0]}}),
    "an endless shape": safetensors({"w": {**ENTRY, "shape": [10**18, 10**18]}}),
    "offsets in fractions": safetensors({"w": {**ENTRY, "data_offsets": [0.0, 16.0]}}),
}


@pytest.mark.parametrize("name", LIES)
def test_safetensors_that_lie_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors({"w": ENTRY}))
    assert read_weights(path)["w"].shape == (2, 2)
    path.write_bytes(LIES[name])
    with pytest.raises(InputError, match="not a safetensors file"):
        read_weights(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"\x80\x02.", b"\x80", b"x" * 100, pickle.dumps({"a": 1}, 2), pickle.dumps([], 2)]
)
def test_weights_that_are_none_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"w\.pt"):
        read_weights(path)


# ---------------------------------------------------------------------- names that reach further


@pytest.mark.parametrize(
    "spec",
    [
        "", ":", "::", "os:system", "os.system:x", "torchvision:", "torchvision:../../etc/passwd",
        "torchvision:__import__",
        "/etc/passwd:root", "..:x", "model.py", "model.py:", "model.py:missing", "model.py:os", "model.py:NUMBER",
        "model.py:__builtins__", "model.py:make()", "model.py:make;trap()", "no.py:make", "a\0b.py:make",
        "x" * 5000 + ".py:m",
    ],
)  # fmt: skip
def test_hostile_names_of_models_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(
        "import os\nfrom pathlib import Path\nNUMBER = 3\n"
        "def trap():\n    Path('executed').touch()\ndef make():\n    trap()\n"
    )
    with pytest.raises(InputError):
        isg.load_model(spec)
    assert not (tmp_path / "executed").exists()


def test_layer_names_that_look_like_paths_stay_names(tmp_path: Path) -> None:
    names = [
        "../../escape",
        "/etc/passwd",
        "C:\\Windows\\x",
        "a\0b",
        "nul",
        "con.json",
        "x" * 400,
        "é/ネット",
        "<script>",
        "'; --",
    ]
    layers = [isg.Layer("input", 0, 4, "input")]
    layers += [isg.Layer(name, depth, 4, "linear") for depth, name in enumerate(names, start=1)]
    layers += [isg.Layer("out", len(names) + 1, 2, "linear")]
    rng = np.random.default_rng(0)
    pairs = {(a.name, b.name): rng.normal(size=(a.width, b.width)) for a, b in pairwise(layers)}
    G = isg.LayeredDiGraph.from_arrays(layers, pairs)
    P = isg.random_communities(G, 2, seed=0)
    inside = tmp_path / "inside"
    inside.mkdir()
    G.save(inside / "g.npz")
    P.to_json(inside / "p.json")
    isg.to_html(G, P, inside / "p.html")
    isg.export_gexf(G, P, inside / "p.gexf")
    isg.compare(G, {"../../x": P}).to_csv(inside / "c.csv")
    isg.em_communities(G, 2, n_init=2, init="random", seed=0, checkpoint=inside / "checkpoint")
    assert isg.LayeredDiGraph.load(inside / "g.npz").layers == G.layers
    assert isg.Partition.from_json(inside / "p.json").names == P.names
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inside"]
    assert sorted(p.name for p in inside.iterdir()) == ["c.csv", "checkpoint", "g.npz", "p.gexf", "p.html", "p.json"]
    assert all(len(p.name) < 80 and p.suffix == ".npz" for p in (inside / "checkpoint").iterdir())


def test_hostile_node_names_survive_every_format_or_are_refused(tmp_path: Path) -> None:
    D = nx.DiGraph()
    names = ["</graphml>", "&amp;", '"', "<!ENTITY x>", "]]>", "\u202e", "💥", " ", ""]
    nx.add_path(D, names)
    G = isg.as_layered(D)
    for suffix in (".npz", ".graphml", ".gexf", ".json"):
        path = tmp_path / ("g" + suffix)
        isg.write_graph(G, path)
        assert list(isg.read_graph(path)) == names
    D.add_edge("bell \x07", "x")
    for suffix in (".graphml", ".gexf"):
        path = tmp_path / ("bell" + suffix)
        with pytest.raises(InputError, match="bell"):
            isg.write_graph(D, path)
        assert not path.exists()


def test_the_package_opens_no_connection_and_runs_no_file_that_is_not_named(tmp_path: Path) -> None:
    for name in ("torchvision.py", "model.py", "networkx.py"):
        (tmp_path / name).write_text("from pathlib import Path\nPath('executed').touch()\n")
    code = """
import sys
def hook(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "urllib", "http.client", "ftplib", "smtplib")):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(hook)
import networkx as nx, torch, tempfile, pathlib, innersight_graph as isg
for name in isg.__all__:
    getattr(isg, name)
model = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
split = isg.load_digits().validation
G = isg.neuron_graph(model, split.inputs)
P = isg.random_communities(G, 2, seed=0)
report = isg.evaluate(G, P, [isg.Structure(G), isg.Ablation(model, split)], nulls=0)
folder = tempfile.TemporaryDirectory()
report.to_html(pathlib.Path(folder.name) / "x.html")
isg.to_pyvis(G, P)
isg.load_model("torchvision:squeezenet1_0")
# Its builder downloads a trained backbone unless told not to.
isg.load_model("torchvision:lraspp_mobilenet_v3_large")
"""
    # -P: the working folder is not searched for modules, as for an installed command.
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "executed").exists()
