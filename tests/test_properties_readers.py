"""Readers on damaged files: a graph, a partition, weights, data, or an error of this package; never anything else."""

from __future__ import annotations

import gzip
import json
import struct
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from exploring import budgets, damage, explore, is_told
from hypothesis import strategies as st

import innersight_graph as isg
from innersight_graph.comparison import read_results
from innersight_graph.errors import InnerSightError
from innersight_graph.neuronize.closing import Closing
from innersight_graph.neuronize.load import read_weights


def graph() -> isg.LayeredDiGraph:
    layers = [isg.Layer("input", 0, 4, "input"), isg.Layer("fc", 1, 3, "linear"), isg.Layer("out", 2, 2, "linear")]
    rng = np.random.default_rng(0)
    pairs = {("input", "fc"): rng.normal(size=(4, 3)), ("fc", "out"): nx.to_scipy_sparse_array(nx.path_graph(3))[:, :2]}
    return isg.LayeredDiGraph.from_arrays(layers, pairs, node_attributes={"fc": {"silent": [True, False, False]}})


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"a": "b"}})
    return struct.pack("<Q", len(header)) + header.encode() + np.arange(6, dtype="<f4").tobytes()


def checkpoint(path: Path) -> None:
    torch.save({"state_dict": {"module.w": torch.arange(6.0), "b": torch.ones(2, dtype=torch.int64)}}, path)


def idx(path: Path, pack: Callable[[bytes], bytes]) -> None:
    for stem, shape in (("train", (6, 3, 3)), ("t10k", (4, 3, 3))):
        images = struct.pack(">HBBIII", 0, 8, 3, *shape) + bytes(range(9)) * shape[0]
        labels = struct.pack(">HBBI", 0, 8, 1, shape[0]) + bytes(i % 2 for i in range(shape[0]))
        (path.parent / f"{stem}-images-idx3-ubyte").write_bytes(images)
        (path.parent / f"{stem}-labels-idx1-ubyte").write_bytes(labels)
    target = path.parent / "train-images-idx3-ubyte"
    path.write_bytes(pack(target.read_bytes()))
    if target != path:
        target.unlink()


def pictures(path: Path) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (path.parent / name).mkdir()
        for number in range(4):
            Image.new("RGB", (9, 7), (number * 40, 9, 9)).save(path.parent / name / f"{number}.png")
    Image.effect_noise((9, 9), 40).save(path)


def report() -> isg.Report:
    G = graph()
    return isg.evaluate(G, isg.random_communities(G, 2, seed=0), isg.Structure(G), nulls=3, seed=0)


RESULTS = (
    "task,contender,number,seed,ari,ami,found,stability,seconds,megabytes,note,record\n"
    "layers/4,random,known,1000,0.01,0.02,4,,0.001,,,0123456789abcdef\n"
    "layers/4,by degree,known,1000,0.5,0.25,4,1.0,0.002,90.5,,0123456789abcdef\n"
)
CLOSING = (
    '{"module":"1","call":0,"path":[],"axis":1,"rows":[0,2],"exact":true,"operator":"aten::relu","occurrence":0,'
    '"weight":"0.weight","weight_axis":0,"weight_start":0,"bias":"0.bias","direct":true,"operator_axis":1}'
)


# Name of the file, how to write it, how to read it.
CASES: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "npz": ("g.npz", lambda p: graph().save(p), isg.LayeredDiGraph.load),
    "graphml": ("g.graphml", lambda p: isg.write_graph(graph(), p), isg.read_graph),
    "gexf": ("g.gexf", lambda p: isg.write_graph(graph(), p), isg.read_graph),
    "json": ("g.json", lambda p: isg.write_graph(graph(), p), isg.read_graph),
    "partition": ("p.json", lambda p: isg.random_communities(graph(), 2, seed=0).to_json(p), isg.Partition.from_json),
    "report": ("r.json", lambda p: report().to_json(p), lambda p: isg.Report.from_json(p, graph())),
    "safetensors": ("w.safetensors", lambda p: p.write_bytes(safetensors()), read_weights),
    "checkpoint": ("w.pt", checkpoint, read_weights),
    "idx": ("train-images-idx3-ubyte", lambda p: idx(p, bytes), lambda p: isg.load_mnist(p.parent)),
    "idx packed": ("train-images-idx3-ubyte.gz", lambda p: idx(p, gzip.compress), lambda p: isg.load_mnist(p.parent)),
    "results": ("r.csv", lambda p: p.write_text(RESULTS), read_results),
    "closing": (
        "c.json",
        lambda p: p.write_text(CLOSING),
        lambda p: Closing.parse(p.read_bytes().decode("utf-8", "replace")),
    ),
    "picture": ("cat/9.png", pictures, lambda p: isg.load_image_folder(p.parent.parent, size=8)),
}


@budgets
@pytest.mark.parametrize("case", CASES)
def test_a_damaged_file_is_read_or_refused_in_words(case: str, budget: int) -> None:
    name, write, read = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        if case == "picture":
            write(Path(folder, "9.png"))
            Path(folder, "9.png").rename(path)
        else:
            write(path)
        whole = path.read_bytes()
        read(path)

        def claim(how: Callable[[bytes], bytes]) -> None:
            path.write_bytes(how(whole))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what NumPy, torch and Pillow say about odd files
                try:
                    read(path)
                except InnerSightError as error:
                    is_told(error)

        explore(claim, budget, how=damage())


@budgets
def test_changed_json_records_are_read_or_refused_in_words(budget: int) -> None:
    """Damage the meaning, not the syntax: any value of the record becomes another."""
    partition = json.loads(isg.random_communities(graph(), 2, seed=0).to_json())
    node_link = nx.node_link_data(graph().to_networkx(), edges="edges")
    scores = json.loads(report().to_json())
    readers = {
        "partition": (partition, isg.Partition.from_json),
        "graph": (node_link, lambda text: _read_graph(text)),
        "report": (scores, lambda text: isg.Report.from_json(text, graph())),
    }
    values = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-3, 10**20), st.floats(), st.text(max_size=4)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
        max_leaves=5,
    )

    def claim(name: str, steps: list[int], value: Any) -> None:
        record, read = readers[name]
        changed = json.loads(json.dumps(record))
        place = changed
        for step in steps:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = keys[step % len(keys)]
            if not isinstance(place[key], dict | list) or not place[key]:
                break
            parent, place = place, place[key]
            if step % 5 == 0:
                place = parent
                break
        keys = list(place) if isinstance(place, dict) else range(len(place))
        place[keys[steps[-1] % len(keys)]] = value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read(json.dumps(changed))
            except InnerSightError as error:
                is_told(error)

    steps = st.lists(st.integers(0, 40), min_size=1, max_size=6)
    explore(claim, budget * 3, name=st.sampled_from(sorted(readers)), steps=steps, value=values)


def _read_graph(text: str) -> isg.LayeredDiGraph:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "g.json")
        path.write_text(text, encoding="utf-8")
        return isg.read_graph(path)
