"""Figures: what is drawn equals what was given, files are reproducible, wrong shapes are refused."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import networkx as nx
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle

from innersight_graph import figures
from innersight_graph.errors import InputError
from innersight_graph.partition import Partition, agreement


@pytest.fixture
def partitions() -> dict[str, Partition]:
    G = nx.path_graph(12)
    return {
        "halves": Partition.from_labels(G, {"graph": [0] * 6 + [1] * 6}, method="halves"),
        "thirds": Partition.from_labels(G, {"graph": [0] * 4 + [1] * 4 + [2] * 4}, method="thirds"),
    }


def every_figure(partitions: dict[str, Partition]) -> dict[str, Figure]:
    rng = np.random.default_rng(0)
    levels, targets = rng.random((3, 40)), np.arange(40) % 4
    return {
        "ablation": figures.ablation_heatmap(rng.normal(0, 0.2, (5, 4)), names=list("abcde"), class_names=range(4)),
        "maps": figures.sensitivity_maps(rng.random((7, 8, 8)), names=range(7), background=rng.random((8, 8))),
        "agreement": figures.agreement_matrix(partitions),
        "alluvial": figures.alluvial(partitions["halves"], partitions["thirds"]),
        "criterion": figures.criterion_curves({"fc1": {1: 0.0, 2: 3.0}, "fc2": {1: 2.0, 2: 1.0}}, chosen={"fc1": 2}),
        "pruning": figures.pruning_curves(
            {"em": ([9, 5, 1], [1, 0.8, 0.2])}, control=([9, 1], [0.9, 0.1], [1, 0.4]), baseline=1.0
        ),
        "embedding": figures.embedding_scatter(rng.random((40, 2)), targets, class_names=["a", "b", "c", "d"]),
        "violins": figures.activation_violins(levels, targets, names=["c0", "c1", "c2"], classes=(0, 3), errors=[5]),
    }


def test_every_figure_becomes_vector_and_small_png_reproducibly(partitions: dict[str, Partition]) -> None:
    before = dict(mpl.rcParams)
    made, again = every_figure(partitions), every_figure(partitions)
    assert dict(mpl.rcParams) == before
    for name, figure in made.items():
        text = figures.to_svg(figure)
        assert text.startswith("<?xml"), name
        assert text == figures.to_svg(again[name]), name
        png = figures.to_png(figure)
        assert png.startswith(b"\x89PNG"), name
        assert len(png) < 120_000, name
        assert png == figures.to_png(again[name]), name


def test_the_palette_makes_files_smaller(partitions: dict[str, Partition]) -> None:
    figure = figures.alluvial(partitions["halves"], partitions["thirds"])
    assert len(figures.to_png(figure)) < 0.6 * len(figures.to_png(figure, colours=None))


def test_pyplot_is_not_touched(partitions: dict[str, Partition]) -> None:
    import matplotlib.pyplot as plt

    every_figure(partitions)
    assert plt.get_fignums() == []


def test_heat_map_shows_changes_in_points() -> None:
    drops = np.array([[0.5, -0.02], [np.nan, 0.0]])
    supported = np.array([[True, False], [False, False]])
    axes = figures.ablation_heatmap(drops, names=["c0", "c1"], class_names=["cat", "dog"], supported=supported).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array().filled(np.nan), -100 * drops)
    assert [text.get_text() for text in axes.texts] == ["−50", "2"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog"]
    assert len([patch for patch in axes.patches if isinstance(patch, Rectangle)]) == 1


@pytest.mark.parametrize("shared", [True, False])
def test_maps_share_a_scale_or_not(shared: bool) -> None:
    maps = np.stack([np.eye(3), 10 * np.eye(3)])
    grid = figures.sensitivity_maps(maps, names=["a", "b"], shared=shared).axes
    tops = [axes.images[0].get_clim()[1] for axes in grid]
    assert tops == ([10.0, 10.0] if shared else [1.0, 10.0])


def test_agreement_matrix_is_the_adjusted_rand_index(partitions: dict[str, Partition]) -> None:
    image = figures.agreement_matrix(partitions).axes[0].images[0].get_array()
    expected = agreement(partitions["halves"], partitions["thirds"]).ari
    np.testing.assert_allclose(image, [[1, expected], [expected, 1]])


def test_ribbons_are_as_thick_as_the_neurons_they_carry(partitions: dict[str, Partition]) -> None:
    axes = figures.alluvial(partitions["halves"], partitions["thirds"]).axes[0]
    thickness = sorted(
        round(patch.get_path().vertices[4][1] - patch.get_path().vertices[3][1])
        for patch in axes.patches
        if isinstance(patch, PathPatch)
    )
    assert thickness == [2, 2, 4, 4]


def test_names_are_text_and_never_formulas() -> None:
    figure = figures.ablation_heatmap([[0.5]], names=["$x^2$ <script>"], class_names=["$\\frac"])
    svg = figures.to_svg(figure)
    assert "$x^2$ &lt;script&gt;" in svg
    assert figures.to_png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "call",
    [
        lambda: figures.ablation_heatmap([[1.0]], names=["a", "b"], class_names=["x"]),
        lambda: figures.sensitivity_maps(np.eye(3), names=["a"]),
        lambda: figures.sensitivity_maps(np.eye(3)[None], names=["a", "b"]),
        lambda: figures.agreement_matrix({}),
        lambda: figures.criterion_curves({}),
        lambda: figures.embedding_scatter(np.eye(3), [1, 2, 3]),
        lambda: figures.activation_violins(np.eye(3), [1, 2, 3], names=["a"], classes=(1, 2)),
        lambda: figures.activation_violins(np.eye(3), [1, 2, 3], names=["a", "b", "c"], classes=(1, 2)),
    ],
)
def test_wrong_shapes_are_refused(call: Any) -> None:
    with pytest.raises(InputError):
        call()


def test_partitions_without_a_common_layer_are_refused() -> None:
    D = nx.DiGraph()
    D.add_nodes_from([(0, {"subset": 0}), (1, {"subset": 1})])
    D.add_edge(0, 1, weight=1.0)
    P, R = Partition.from_communities(D, [{0}]), Partition.from_communities(D, [{1}])
    with pytest.raises(InputError, match="share no layer"):
        figures.alluvial(P, R)


def test_png_can_be_read_back(partitions: dict[str, Partition]) -> None:
    image = pytest.importorskip("PIL.Image")
    picture = image.open(io.BytesIO(figures.to_png(figures.agreement_matrix(partitions))))
    assert picture.mode == "P"
    assert picture.width > 200
