"""The page without a browser: geometry, what is shown of what there is, safety of the file, sizes, exports."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from page_samples import DIGITS, layered, partitioned
from scipy import sparse

import innersight_graph as isg
from innersight_graph._html.boxes import group
from innersight_graph._html.flows import box_flows, select_edges
from innersight_graph._html.layout import order_stacks
from innersight_graph._html.packing import clip, column, dumps, rounded
from innersight_graph._html.scene import build_scene, choose_detail
from innersight_graph.errors import InputError
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.partition import Partition


def scripts_of(text: str) -> list[str]:
    return re.findall(r"<script>(.*?)</script>", text, flags=re.S)


def payload_of(text: str) -> Any:
    match = re.search(r'<script type="application/json" id="innersight-data">(.*?)</script>', text, flags=re.S)
    assert match is not None
    return json.loads(match.group(1))


class Outline(HTMLParser):
    """Tags and attributes of a page; script and style contents are left aside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


# ---------------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    "sizes", [DIGITS, {"a": 1, "b": 1, "c": 1}, {f"l{i}": 9 for i in range(60)}, {"a": 700, "b": 3000, "c": 1000}]
)
def test_boxes_never_overlap_and_hold_their_neurons(sizes: dict[str, int]) -> None:
    G, P = partitioned(sizes, blocks=6)
    scene = build_scene(G, P)
    frames = scene.layout.frames
    for a, b in combinations(frames, 2):
        apart_x = abs(a.x - b.x) >= (a.width + b.width) / 2
        apart_y = abs(a.y - b.y) >= (a.height + b.height) / 2
        assert apart_x or apart_y
    starts = np.cumsum([0, *sizes.values()])
    for box, frame in zip(scene.boxes, frames, strict=True):
        at = starts[box.layer] + box.members
        assert (np.abs(scene.layout.x[at] - frame.x) <= frame.width / 2).all()
        assert (np.abs(scene.layout.y[at] - frame.y) <= frame.height / 2).all()
    places = set(zip(scene.layout.x.round(3).tolist(), scene.layout.y.round(3).tolist(), strict=True))
    assert len(places) == sum(sizes.values())


def test_layers_are_columns_in_order() -> None:
    scene = build_scene(*partitioned(DIGITS))
    assert list(scene.layout.layer_x) == sorted(set(scene.layout.layer_x))
    assert {frame.x for box, frame in zip(scene.boxes, scene.layout.frames, strict=True) if box.layer == 2} == {
        scene.layout.layer_x[2]
    }


def test_every_neuron_is_in_exactly_one_box() -> None:
    G, labels = layered(DIGITS)
    labels["fc1"][:5] = -1
    P = Partition.from_labels(G, {"fc1": labels["fc1"]}, method="partial")
    boxes = group(G, P)
    for number, layer in enumerate(G.layers):
        members = np.sort(np.concatenate([box.members for box in boxes if box.layer == number]))
        np.testing.assert_array_equal(members, np.arange(layer.width))
    assert [box.role for box in boxes if box.layer == 1].count("unassigned") == 1


def test_barycentre_order_untangles_a_hidden_permutation() -> None:
    """Two layers of boxes joined one to one in shuffled order: after sorting no two connections cross."""
    rng = np.random.default_rng(4)
    k = 9
    traffic = np.zeros((2 * k, 2 * k))
    partner = rng.permutation(k)
    traffic[np.arange(k), k + partner] = 1.0
    G, P = partitioned({"in": 4, "a": k, "b": k, "out": 4}, blocks=k)
    boxes = [box for box in group(G, P) if box.role == "community"]
    stacks = [list(range(k)), list(range(k, 2 * k))]
    order_stacks(stacks, boxes, traffic)
    np.testing.assert_array_equal(partner[stacks[0]], np.array(stacks[1]) - k)


def test_layout_is_deterministic() -> None:
    first, second = (build_scene(*partitioned(DIGITS)) for _ in range(2))
    assert first.layout.frames == second.layout.frames
    assert json.dumps(first.record("x")) == json.dumps(second.record("x"))


# ---------------------------------------------------------------------- what is shown of what there is


def naive_selection(G: LayeredDiGraph, k: int) -> set[tuple[str, int, str, int]]:
    kept = set()
    for (s, t), matrix in G.connections.items():
        dense = matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)
        for j in range(dense.shape[1]):
            order = sorted(range(dense.shape[0]), key=lambda i: (-abs(dense[i, j]), i))
            kept |= {(s, i, t, j) for i in order[:k] if dense[i, j] != 0}
    return kept


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("k", [1, 3, 50])
def test_selection_is_the_strongest_inputs_of_each_neuron(k: int, as_sparse: bool) -> None:
    rng = np.random.default_rng(k)
    sizes = {"a": 20, "b": 15, "c": 8}
    layers = [Layer(name, depth, size, "linear") for depth, (name, size) in enumerate(sizes.items())]
    arrays = {
        pair: (
            rng.normal(size=(sizes[pair[0]], sizes[pair[1]])) * (rng.random((sizes[pair[0]], sizes[pair[1]])) < 0.6)
        ).astype(np.float32)
        for pair in [("a", "b"), ("b", "c"), ("a", "c")]
    }
    G = LayeredDiGraph.from_arrays(
        layers, {pair: sparse.csr_array(m) if as_sparse else m for pair, m in arrays.items()}
    )
    edges = select_edges(G, per_neuron=k, max_edges=10_000)
    names = [(layer.name, i) for layer in layers for i in range(layer.width)]
    found = {(*names[s], *names[t]) for s, t in zip(edges.source.tolist(), edges.target.tolist(), strict=True)}
    assert found == naive_selection(G, k)
    mass = sum(np.abs(m).sum(dtype=np.float64) for m in arrays.values())
    assert edges.share == pytest.approx(np.abs(edges.weight).sum(dtype=np.float64) / mass, rel=1e-6)
    assert edges.n_total == sum(np.count_nonzero(m) for m in arrays.values())


def test_a_neuron_with_many_source_layers_keeps_its_strongest_inputs() -> None:
    rng = np.random.default_rng(0)
    names = "abcdef"
    layers = [Layer(name, depth, 4, "linear") for depth, name in enumerate(names)]
    G = LayeredDiGraph.from_arrays(layers, {(name, "f"): rng.normal(size=(4, 4)) for name in names[:-1]})
    edges = select_edges(G, per_neuron=2)
    assert np.bincount(edges.target, minlength=24)[20:].tolist() == [4] * 4
    everything = select_edges(G, per_neuron=4)
    for target in range(20, 24):
        mine = np.sort(everything.strength[everything.target == target])[::-1]
        np.testing.assert_allclose(np.sort(edges.strength[edges.target == target])[::-1], mine[:4])


def test_the_budget_is_kept() -> None:
    G, _ = partitioned(DIGITS)
    assert len(select_edges(G, max_edges=300)) <= 300
    assert len(select_edges(G, max_edges=1)) == 1


@pytest.mark.parametrize("as_sparse", [False, True])
def test_flows_sum_activation_and_inhibition_apart(as_sparse: bool) -> None:
    G, P = partitioned({"a": 9, "b": 12, "c": 5}, blocks=3)
    if as_sparse:
        G = LayeredDiGraph.from_arrays(G.layers, {pair: sparse.csr_array(m) for pair, m in G.connections.items()})
    boxes = group(G, P)
    flows = box_flows(G, boxes)
    names = [layer.name for layer in G.layers]
    for s, t, up, down in zip(flows.source, flows.target, flows.activation, flows.inhibition, strict=True):
        matrix = G.connections[names[boxes[s].layer], names[boxes[t].layer]]
        block = np.asarray(matrix.toarray() if as_sparse else matrix, dtype=float)[boxes[s].members][
            :, boxes[t].members
        ]
        assert up == pytest.approx(np.maximum(block, 0).sum(), rel=1e-5)
        assert down == pytest.approx(np.maximum(-block, 0).sum(), rel=1e-5)
    total = sum(np.abs(np.asarray(m.toarray() if as_sparse else m, dtype=float)).sum() for m in G.connections.values())
    assert flows.activation.sum() + flows.inhibition.sum() == pytest.approx(total, rel=1e-5)


def test_undirected_edges_count_once() -> None:
    K = nx.karate_club_graph()
    scene = build_scene(isg.as_layered(K), Partition.from_communities(K, [set(range(17)), set(range(17, 34))]))
    assert scene.edges.n_total == K.number_of_edges()


def test_level_of_detail_follows_size() -> None:
    assert choose_detail(298).view == "neurons"
    assert choose_detail(2_000).view == "communities"
    assert choose_detail(25_000).expand
    assert not choose_detail(25_001).neurons
    assert "25,001" in choose_detail(25_001).note


# ---------------------------------------------------------------------- the file


@pytest.fixture(scope="module")
def page() -> isg.Page:
    return isg.make_page(*partitioned(DIGITS), title="digits")


def test_nothing_is_fetched(page: isg.Page) -> None:
    assert page.html.startswith("<!DOCTYPE html>")
    for tag, attributes in Outline(page.html).tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    assert "@import" not in page.html.split("<script")[0]
    assert "url(" not in page.html.split("<script")[0]


def test_the_policy_names_every_script_and_nothing_else(page: isg.Page) -> None:
    policy = next(a["content"] for t, a in Outline(page.html).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    directive = next(part for part in policy.split(";") if part.strip().startswith("script-src"))
    assert "unsafe" not in directive
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
        for code in scripts_of(page.html)
    }
    assert set(directive.split()[1:]) == hashes
    assert not [a for _, a in Outline(page.html).tags if any(name.startswith("on") for name in a)]


def test_vis_network_keeps_its_licence(page: isg.Page) -> None:
    assert "Apache 2.0 License" in scripts_of(page.html)[0][:2000]


def test_size_of_the_digits_page(page: isg.Page) -> None:
    assert page.policy["neurons"] == 298
    assert page.n_bytes <= 1_000_000


def test_twenty_five_thousand_neurons_stay_below_four_megabytes() -> None:
    """75,000 connections or nearly so; sparse layers, so that the test itself stays small."""
    rng = np.random.default_rng(0)
    widths = {"input": 1000, "a": 8000, "b": 8000, "c": 8000}
    layers = [Layer(name, depth, width, "linear") for depth, (name, width) in enumerate(widths.items())]
    names = list(widths)
    connections = {
        (s, t): sparse.random_array(
            (widths[s], widths[t]), density=40_000 / (widths[s] * widths[t]), rng=rng, dtype=np.float32
        )
        - 0
        for s, t in pairwise(names)
    }
    G = LayeredDiGraph.from_arrays(layers, connections)
    P = Partition.from_labels(G, {name: np.arange(8000) % 30 for name in "abc"}, method="planted")
    page = isg.make_page(G, P)
    assert page.policy["edges"] > 60_000
    assert page.n_bytes <= 4_000_000
    assert page.policy["view"] == "communities"


def test_the_table_is_in_the_page_without_scripts(page: isg.Page) -> None:
    body = page.html.split("<script")[0]
    assert all(f"<td>{name}</td>" in body for name in ("fc1/c0", "fc2/c7", "fc3/c3"))
    assert "without JavaScript" in body


HOSTILE = [
    "<script>window.hacked=1</script>",
    "</script><img src=x onerror=window.hacked=1>",
    '"><svg onload=window.hacked=1>',
    "javascript:window.hacked=1//href",
    "{{ 7*7 }}{% for x in y %}",
    "\u202eright to left\u2066",
    "line\u2028break]]>--><!--",
    "\x00\x07control",
    "\ud800lone surrogate",
    "x" * 10_000,
]


def hostile_page(text: str, path: Path | None = None) -> isg.Page:
    layers = [Layer(text, 0, 4, "input"), Layer(text + "2", 1, 6, text), Layer(text + "3", 2, 2, "linear")]
    rng = np.random.default_rng(0)
    arrays = {(text, text + "2"): rng.normal(size=(4, 6)), (text + "2", text + "3"): rng.normal(size=(6, 2))}
    nodes = {text: [f"{text}{i}" for i in range(4)], text + "2": [(text, i) for i in range(6)], text + "3": [0, 1]}
    G = LayeredDiGraph.from_arrays(layers, arrays, nodes=nodes)
    P = Partition.from_labels(G, {text + "2": [0, 0, 1, 1, 2, 2]}, method=text)
    options: dict[str, Any] = {
        "title": text, "class_names": [text, text], "label": text, "alternatives": {text + "other": P},
        "findings": [("yes", text), ("no", text)],
    }  # fmt: skip
    return isg.make_page(G, P, **options) if path is None else isg.to_html(G, P, path, **options)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(text: str, tmp_path: Path) -> None:
    clean = Outline(hostile_page("name").html).tags
    path = tmp_path / "page.html"
    hostile_page(text, path)
    written = path.read_bytes().decode("utf-8")
    tags = Outline(written).tags
    assert [(tag, sorted(attributes)) for tag, attributes in tags] == [
        (tag, sorted(attributes)) for tag, attributes in clean
    ]
    record = payload_of(written)
    assert record["scenes"][0]["layers"][0]["name"] == clip(text)
    assert path.stat().st_size < 1_000_000


def test_hostile_names_in_the_plain_pyvis_network_are_escaped_where_pyvis_parses_html() -> None:
    text = "<img src=x onerror=1> href"
    G = LayeredDiGraph.from_arrays(
        [Layer(text, 0, 2, "linear"), Layer("b", 1, 2, "linear")], {(text, "b"): np.ones((2, 2))}
    )
    net = isg.to_pyvis(G, [set(G.nodes_of("b"))])
    assert not [node for node in net.nodes if "<" in node["title"]]


# ---------------------------------------------------------------------- awkward inputs


def test_a_page_of_the_graph_alone_says_that_nothing_was_measured(page: isg.Page) -> None:
    record = payload_of(page.html)
    assert record["scenes"][0]["facts"] is None
    assert record["compare"] is None
    assert "not measured" in record["scenes"][0]["findings"][0]["text"]


def test_any_networkx_graph_and_any_partition() -> None:
    G = nx.Graph()
    G.add_edge(("a", 1), np.int64(3), weight=-2.0)
    G.add_edge(np.int64(3), frozenset({1}), weight=0.5)
    page = isg.make_page(G, [{("a", 1), np.int64(3)}])
    names = payload_of(page.html)["scenes"][0]["layers"][0]["names"]
    assert names == ["('a', 1)", "3", "frozenset({1})"]


def test_empty_communities_and_one_neuron_layers() -> None:
    G, _ = layered({"a": 1, "b": 1, "c": 3})
    nodes = {layer.name: tuple(G.nodes_of(layer.name)) for layer in G.layers}
    P = Partition(tuple(map(frozenset, [nodes["b"], []])), "odd", {}, None, {}, None, nodes, ("b", "b"))
    record = payload_of(isg.make_page(G, P).html)["scenes"][0]
    assert record["empty"] == ["b/c1"]
    assert [box["id"] for box in record["boxes"] if box["layer"] == 1] == ["L1c0"]


@pytest.mark.parametrize("sizes", [{f"l{i}": 3 for i in range(100)}, {"in": 8, "h": 12, "out": 1000}])
def test_many_layers_and_many_classes(sizes: dict[str, int]) -> None:
    page = isg.make_page(*partitioned(sizes, blocks=3))
    assert len(payload_of(page.html)["scenes"][0]["layers"]) == len(sizes)


def test_gates_are_left_out() -> None:
    layers = [Layer("q", 0, 3, "attention"), Layer("o", 1, 3, "attention")]
    G = LayeredDiGraph.from_arrays(layers, {("q", "o"): np.ones((3, 3))}, kinds={("q", "o"): "gate"})
    assert len(select_edges(G)) == 0
    assert isg.make_page(G, [set(G.nodes_of("o"))]).policy["edges"] == 0


def test_inputs_are_unchanged() -> None:
    G, P = partitioned(DIGITS)
    weights = {pair: np.array(matrix) for pair, matrix in G.connections.items()}
    text, attributes = P.to_json(), dict(G.graph)
    isg.make_page(G, P)
    isg.to_pyvis(G, P)
    assert P.to_json() == text
    assert dict(G.graph) == attributes
    assert all(np.array_equal(weights[pair], matrix) for pair, matrix in G.connections.items())


def test_equal_inputs_give_equal_pages() -> None:
    assert isg.make_page(*partitioned(DIGITS)).html == isg.make_page(*partitioned(DIGITS)).html


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    G, P = partitioned({"a": 4, "b": 6, "c": 2}, blocks=2)
    other, _ = partitioned({"a": 4, "b": 7, "c": 2}, blocks=2)
    with pytest.raises(InputError, match="another graph"):
        isg.to_html(other, P, tmp_path / "x.html")
    with pytest.raises(InputError, match="folder"):
        isg.to_html(G, P, tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        isg.to_html(G, P, tmp_path / "no" / "x.html")
    with pytest.raises(InputError, match="theme"):
        isg.to_html(G, P, tmp_path / "x.html", theme="pink")
    with pytest.raises(InputError, match="parts"):
        isg.to_html(G, P, tmp_path / "x.html", alternatives={"a": (1, 2, 3, 4)})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    G, P = partitioned({"a": 4, "b": 6, "c": 2}, blocks=2)
    path = tmp_path / "page.html"
    path.write_text("old", encoding="utf-8")

    def broken(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(InputError, match="No space left"):
        isg.to_html(G, P, path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_non_ascii_path_and_crlf_do_not_matter(tmp_path: Path) -> None:
    G, P = partitioned({"a": 4, "b": 6, "c": 2}, blocks=2)
    page = isg.to_html(G, P, tmp_path / "größe ネット.html")
    assert page.path is not None
    data = page.path.read_bytes()
    assert b"\r\n" not in data
    assert len(data) == page.n_bytes


# ---------------------------------------------------------------------- pyvis and notebooks


def test_to_pyvis_is_a_plain_network_with_plain_values() -> None:
    from pyvis.network import Network

    G, P = partitioned(DIGITS)
    net = isg.to_pyvis(G, P)
    assert type(net) is Network
    assert len(net.nodes) == 298
    assert len(net.edges) == len(select_edges(G))
    json.dumps([net.nodes, net.edges], allow_nan=False)
    assert {edge["dashes"] for edge in net.edges if edge["weight"] > 0} == {False}
    assert {edge["dashes"] for edge in net.edges if edge["weight"] < 0} == {True}
    assert net.get_node("L1n0")["group"] == "L1c0"
    assert "vis.Network" in net.generate_html()


def test_what_the_page_needs_of_pyvis_is_there() -> None:
    """Three things only: Network, its bundled script, generate_html with a template of ours."""
    from importlib.resources import files

    assert (files("pyvis") / "lib" / "vis-9.1.2" / "vis-network.min.js").is_file()


def test_notebooks_show_the_page_in_a_frame(page: isg.Page) -> None:
    shown = page._repr_html_()
    frames = [attributes for tag, attributes in Outline(shown).tags if tag == "iframe"]
    assert len(frames) == 1
    assert frames[0]["srcdoc"] == page.html
    assert "298 neurons" in repr(page)


# ---------------------------------------------------------------------- packing


def test_packing_keeps_values() -> None:
    values = np.array([0, 255, 256, 70_000])
    packed = column(values)
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed["b"]), "<u4"), values)
    assert column([1, 2])["t"] == "u1"
    assert column([300])["t"] == "u2"
    shares = np.frombuffer(base64.b64decode(column([0.0, 0.5, 1.0, np.nan], "share")["b"]), "u1")
    np.testing.assert_array_equal(shares, [0, 128, 255, 0])


def test_numbers_and_text_are_safe_json() -> None:
    record = {"a": rounded([np.nan, np.inf, np.float32(1 / 3), np.int64(3), None]), "b": "</script>\u2028&"}
    text = dumps(record)
    assert json.loads(text) == {"a": [None, None, 0.3333, 3, None], "b": "</script>\u2028&"}
    assert not set("<>&\u2028") & set(text)
    assert clip("x" * 300, 10) == "x" * 9 + "…"


# ---------------------------------------------------------------------- GEXF and GraphML


def test_gexf_and_graphml_carry_places_colours_and_signs(tmp_path: Path) -> None:
    G, P = partitioned({"a": 5, "b": 9, "c": 3}, blocks=3)
    for written, read in (
        (isg.export_gexf(G, P, tmp_path / "g.gexf"), nx.read_gexf),
        (isg.export_graphml(G, P, tmp_path / "g.graphml"), nx.read_graphml),
    ):
        D = read(written)
        assert D.number_of_nodes() == 17
        assert D.number_of_edges() == G.number_of_edges()
        assert D.nodes["L1n0"]["community"] == "b/c0"
        for s, t, data in D.edges(data=True):
            i, j = int(s.split("n")[1]), int(t.split("n")[1])
            pair = ("a", "b") if s.startswith("L0") else ("b", "c")
            assert data["signed_weight"] == pytest.approx(float(G.connections[pair][i, j]), rel=1e-5)
            assert (data["sign"] == "activation") == (data["signed_weight"] > 0)
            assert data["weight"] == pytest.approx(abs(data["signed_weight"]))
    assert "viz:position" in (tmp_path / "g.gexf").read_text(encoding="utf-8")


def test_a_cut_export_says_so(tmp_path: Path) -> None:
    G, P = partitioned(DIGITS)
    D = nx.read_graphml(isg.export_graphml(G, P, tmp_path / "g.graphml", max_edges=400))
    assert D.number_of_edges() <= 400
    assert "of 18,752 connections" in D.graph["description"]


@pytest.mark.parametrize("text", HOSTILE[:8], ids=range(8))
def test_hostile_names_make_valid_xml(text: str, tmp_path: Path) -> None:
    G = LayeredDiGraph.from_arrays(
        [Layer(text, 0, 2, "linear"), Layer("b", 1, 2, "linear")], {(text, "b"): np.ones((2, 2))}
    )
    D = nx.read_graphml(isg.export_graphml(G, [set(G.nodes_of(text))], tmp_path / "g.graphml"))
    assert D.number_of_nodes() == 4
    assert nx.read_gexf(isg.export_gexf(G, [set(G.nodes_of(text))], tmp_path / "g.gexf")).number_of_edges() == 4


def test_a_density_sweep_is_shown_with_its_recommendation() -> None:
    G, truth = isg.planted_layers(2, snr=6.0, widths=(40, 40, 40), density=0.3, seed=0)
    sweep = isg.density_sweep(G, [0.5, 1.0], n_communities=2, seed=0)
    page = isg.make_page(G, truth, sweep=sweep).html
    assert "Agreement between densities" in page
    assert f"recommended: {sweep.recommended:g}" in page
