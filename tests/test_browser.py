"""The page in a real Chromium, without a network: what a reader clicks, types and exports must do what it says."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_page import CHROMIUM, TWO_FRAMES, Watched, chromium, offline, until
from page_samples import DIGITS, partitioned, reported
from scipy import sparse

from innersight_graph import figures
from innersight_graph._html import make_page, to_html, to_pyvis
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.partition import Partition

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install it or set CHROMIUM to its path"),
]
image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def context(browser: Any) -> Any:
    return offline(browser)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    G, P = partitioned(DIGITS)
    labels = {name: np.random.default_rng(1).permutation(P.labels(name)) for name in P.layers}
    other = Partition.from_labels(G, labels, method="shuffled")
    path = tmp_path_factory.mktemp("page") / "page.html"
    to_html(G, P, path, title="digits", alternatives={"shuffled": other})
    return path


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a report: drops, tests, maps, activations, images, joint closings, findings."""
    G, P = partitioned(DIGITS)
    path = tmp_path_factory.mktemp("scored") / "page.html"
    images = np.random.default_rng(0).random((60, 8, 8))
    figure = figures.criterion_curves({"fc1": {1: 0.0, 2: 1.0}})
    to_html(
        G, P, path, reported(G, P), title="scored", images=(images, np.arange(60) % 10), figures={"A curve": figure},
        alternatives={"other": reported(G, P, seed=1)}, sweep={0.25: P, 0.5: P}, findings=[("open", "Anything else.")],
    )  # fmt: skip
    return path


@pytest.fixture
def watched(context: Any) -> Iterator[Watched]:
    """Every test ends with: nothing in the console, no request."""
    opened = Watched(context)
    yield opened
    opened.page.close()
    assert opened.problems == []
    assert opened.requests == []


@pytest.fixture
def page(watched: Watched, file: Path) -> Any:
    return watched.open(file)


def share_of_commonest_colour(shot: bytes) -> float:
    picture = image.open(io.BytesIO(shot)).convert("RGB")
    colours = picture.getcolors(maxcolors=picture.width * picture.height)
    return max(count for count, _ in colours) / (picture.width * picture.height)


def click_at(page: Any, node: str, **options: Any) -> None:
    x, y = page.evaluate(
        """id => {
            const spot = network.canvasToDOM(network.getPositions([id])[id]);
            const box = document.querySelector('#mynetwork canvas').getBoundingClientRect();
            return [box.x + spot.x, box.y + spot.y]; }""",
        node,
    )
    page.mouse.click(x, y, **options)
    page.wait_for_timeout(60)


def shown(page: Any) -> list[dict[str, Any]]:
    """The connections that are drawn now."""
    drawn: list[dict[str, Any]] = page.evaluate(
        "() => { const s = InnerSight.graph.shown(); return s.resting.concat(s.chosen); }"
    )
    return drawn


def fragment(page: Any) -> str:
    return str(page.evaluate("location.hash"))


def test_the_picture_is_not_blank(page: Any) -> None:
    assert share_of_commonest_colour(page.locator("#mynetwork canvas").screenshot()) < 0.97
    page.click("#view-communities")
    page.evaluate(TWO_FRAMES)
    assert share_of_commonest_colour(page.locator("#mynetwork canvas").screenshot()) < 0.97


def test_a_click_shows_the_community_and_escape_goes_back(page: Any) -> None:
    before = page.inner_text("#panel")
    click_at(page, "L2n0")
    assert "fc2/c0" in page.inner_text("#panel")
    assert fragment(page) == "#L2c0"
    page.keyboard.press("Escape")
    assert page.inner_text("#panel") == before


def test_a_second_click_goes_on_to_the_neuron(page: Any) -> None:
    click_at(page, "L2n0")
    click_at(page, "L2n0")
    assert fragment(page) == "#L2n0"
    text = page.inner_text("#panel")
    assert "fc2:0" in text
    assert "Excited by" in text
    page.keyboard.press("Escape")
    assert fragment(page) == "#L2c0"


def test_shift_click_selects_several(page: Any) -> None:
    click_at(page, "L2n0")
    page.keyboard.down("Shift")
    click_at(page, "L2n1")
    page.keyboard.up("Shift")
    assert "2 communities" in page.inner_text("#panel")
    assert fragment(page) == "#L2c0+L2c1"


def test_all_of_a_row_opens_what_its_name_opens(page: Any) -> None:
    row = page.locator("#communities tbody tr").first
    row.locator("td.num").first.click()
    by_size, panel = fragment(page), page.inner_text("#panel")
    page.click(".back")
    row.locator(".link").click()
    assert by_size.startswith("#L")
    assert (fragment(page), page.inner_text("#panel")) == (by_size, panel)


def test_the_back_button_undoes_a_selection(page: Any) -> None:
    page.click("#communities tbody tr:nth-child(1) .link")
    first = fragment(page)
    page.click(".back")
    page.click("#communities tbody tr:nth-child(2) .link")
    second = fragment(page)
    assert {first[:2], second[:2]} == {"#L"}
    assert first != second
    page.go_back()
    page.go_back()
    page.wait_for_timeout(60)
    assert fragment(page) == first
    assert page.evaluate("InnerSight.state.selected.length") == 1


@pytest.mark.parametrize(
    ("hash_", "words"), [("#L1c3", "fc1/c3"), ("#L3n5", "fc3:5"), ("#L1c0+L1c1", "2 communities"), ("#L4n7", "7")]
)
def test_a_deep_link_opens_what_it_names(watched: Watched, file: Path, hash_: str, words: str) -> None:
    assert words in watched.open(file, hash_).inner_text("#facts h2")


@pytest.mark.parametrize(
    "hash_", ["#nonsense", "#L99c1", "#L1n9999", "#%E0%A4%A", "#scene=7&tab=none&view=x", "#L1c1+L77c9"]
)
def test_a_mangled_link_opens_the_page(watched: Watched, file: Path, hash_: str) -> None:
    assert watched.open(file, hash_).inner_text("h1") == "digits"


def test_sign_toggles_and_threshold_choose_connections(page: Any) -> None:
    everything = shown(page)
    assert {edge["sign"] for edge in everything} == {1, -1}
    page.uncheck("#show-inhibition")
    assert {edge["sign"] for edge in shown(page)} == {1}
    page.check("#show-inhibition")
    page.uncheck("#show-activation")
    assert {edge["sign"] for edge in shown(page)} == {-1}
    page.check("#show-activation")
    page.fill("#threshold", "60")
    kept = shown(page)
    assert 0 < len(kept) < len(everything)
    assert min(edge["strength"] for edge in kept) >= 0.6


def test_a_hidden_layer_takes_its_connections_with_it(page: Any) -> None:
    page.click("summary:has-text('Layers')")
    page.uncheck("[data-layer='2']")
    start = 64 + 128
    assert not [edge for edge in shown(page) if start <= edge["s"] < start + 64 or start <= edge["t"] < start + 64]


def test_the_caption_says_what_is_shown(page: Any) -> None:
    total = 64 * 128 + 128 * 64 + 64 * 32 + 32 * 10
    assert f"of {total:,} connections" in page.inner_text("#caption")
    assert "% of total |weight|" in page.inner_text("#caption")


def test_hovering_previews_and_tells(page: Any) -> None:
    x, y = page.evaluate(
        """() => { const p = network.canvasToDOM(network.getPositions(['L2n0']).L2n0);
                   const r = document.querySelector('#mynetwork').getBoundingClientRect(); return [r.x + p.x, r.y +
                   p.y]; }"""
    )
    before = page.locator("#mynetwork canvas").screenshot()
    page.mouse.move(x, y)
    page.wait_for_timeout(80)
    assert "fc2/c0" in page.inner_text("#tip")
    assert page.locator("#mynetwork canvas").screenshot() != before
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()


def test_search_finds_communities_neurons_and_classes(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("fc3/c2")
    page.keyboard.press("Enter")
    assert fragment(page) == "#L3c2"
    page.fill("#find", "fc1:17")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert fragment(page) == "#L1n17"
    page.fill("#find", "no such thing")
    assert "nothing of that name" in page.inner_text("#found")


def test_arrow_keys_walk(page: Any) -> None:
    page.keyboard.press("ArrowRight")
    start = fragment(page)
    assert start.startswith("#L1c")
    page.keyboard.press("ArrowDown")
    below = fragment(page)
    assert below.startswith("#L1c")
    assert below != start
    page.keyboard.press("ArrowRight")
    assert fragment(page).startswith("#L2c")
    page.keyboard.press("ArrowLeft")
    assert fragment(page).startswith("#L1c")


def test_views_switch_and_keep_heights(page: Any) -> None:
    neurons = page.evaluate("network.body.nodeIndices.length")
    page.keyboard.press("v")
    communities = page.evaluate("network.body.nodeIndices.length")
    assert neurons == sum(DIGITS.values())
    assert communities == 1 + 8 * 3 + 10
    assert page.get_attribute("#view-communities", "aria-pressed") == "true"
    heights = page.evaluate("InnerSight.scene().boxes.map(box => [box.y, network.getPositions([box.id])[box.id].y])")
    assert all(abs(box - circle) <= 1 for box, circle in heights)


def test_dark_mode_by_button_and_by_system(watched: Watched, file: Path) -> None:
    page = watched.open(file)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.click("#theme")
    page.emulate_media(color_scheme="dark")
    until(page, "document.documentElement.dataset.theme === 'dark'")


def test_png_and_svg_hold_the_picture(page: Any, tmp_path: Path) -> None:
    with page.expect_download() as waiting:
        page.click("#png")
    waiting.value.save_as(tmp_path / "picture.png")
    picture = (tmp_path / "picture.png").read_bytes()
    assert image.open(io.BytesIO(picture)).width > 1000
    assert share_of_commonest_colour(picture) < 0.97
    with page.expect_download() as waiting:
        page.click("#svg")
    waiting.value.save_as(tmp_path / "picture.svg")
    from xml.etree import ElementTree

    root = ElementTree.parse(tmp_path / "picture.svg").getroot()
    words = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"fc1", "fc2", "inhibition (weight < 0)"} <= words
    assert any(path.get("stroke-dasharray") for path in root.iter("{http://www.w3.org/2000/svg}path"))


def test_scenes_switch(page: Any) -> None:
    page.click("#scenes button:has-text('shuffled')")
    assert (
        "found by shuffled" in page.inner_text("#overview") or page.evaluate("InnerSight.scene().method") == "shuffled"
    )
    assert "scene=1" in fragment(page)


def test_tabs_by_click_and_by_key(page: Any) -> None:
    page.click("#tab-compare")
    assert "Agreement" in page.inner_text("#compare")
    assert page.locator("#compare svg.alluvial path.ribbon").count() > 8
    assert page.locator("#graph").is_hidden()
    page.focus("#tab-compare")
    page.keyboard.press("End")
    assert page.get_attribute("#tab-findings", "aria-selected") == "true"
    page.go_back()
    page.wait_for_timeout(50)
    assert page.get_attribute("#tab-compare", "aria-selected") == "true"


def test_neurons_are_followed_through_several_groupings(watched: Watched, tmp_path: Path) -> None:
    G, P = partitioned(DIGITS)
    labels = {name: np.random.default_rng(1).permutation(P.labels(name)) for name in P.layers}
    others = {name: Partition.from_labels(G, labels, method=name) for name in ("second", "third")}
    to_html(G, P, tmp_path / "three.html", label="first", alternatives=others)
    page = watched.open(tmp_path / "three.html")
    page.click("#tab-compare")
    assert "agree to" in page.inner_text("#compare .lead")
    columns = "#compare svg.alluvial .axis"
    assert page.locator(columns).all_text_contents() == ["first", "second", "third"]
    # The second and third are equal: no ribbon between them splits a community.
    page.click("#compare .chip:has-text('first')")
    assert page.locator(columns).all_text_contents() == ["second", "third"]
    blocks = page.locator("#compare svg.alluvial .block")
    assert page.locator("#compare svg.alluvial path.ribbon").count() * 2 == blocks.count()
    page.click("#compare .chip:has-text('first')")
    assert page.locator(columns).all_text_contents() == ["second", "third", "first"]
    blocks.first.hover()
    assert "neurons · third keeps them together · first splits them" in page.inner_text("#compare .told")
    assert page.locator("#compare path.ribbon.dim").count() > 0
    page.mouse.move(5, 5)
    assert page.locator("#compare path.ribbon.dim").count() == 0
    blocks.first.click()
    assert page.evaluate("InnerSight.scene().method") == "second"
    assert page.locator("#graph").is_visible()


def test_zoom_fit_and_help(page: Any) -> None:
    scale = page.evaluate("network.getScale()")
    page.click("#closer")
    assert page.evaluate("network.getScale()") > scale
    page.keyboard.press("0")
    until(page, f"Math.abs(network.getScale() - {scale}) < 0.02")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()


def test_assistive_technology_has_names_and_a_table(page: Any) -> None:
    assert page.get_attribute("#mynetwork canvas", "role") == "img"
    assert page.get_attribute("#panel", "aria-live") == "polite"
    assert page.locator("#communities thead th[scope=col]").count() >= 2
    assert page.locator("#communities tbody button.link").count() == 24
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select')].filter(e => e.offsetParent !== null &&
            !(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label'))).map(e => e.outerHTML)"""
    )
    assert unnamed == []


# ---------------------------------------------------------------------- what was measured


@pytest.fixture
def report(watched: Watched, scored: Path) -> Any:
    return watched.open(scored)


def drops_of_the_table(page: Any) -> list[float]:
    cells = page.locator("#communities tbody tr td:nth-child(4)").all_inner_texts()
    return [float(text.replace("−", "-").replace("●", "").replace("–", "nan")) for text in cells]


def test_the_table_lists_the_worst_drop_first(report: Any) -> None:
    drops = drops_of_the_table(report)
    assert np.isnan(drops[-1])
    assert drops[:-1] == sorted(drops[:-1])
    assert drops[0] == -90.0
    first = report.locator("#communities tbody tr").first.inner_text()
    assert "fc1/c0" in first
    assert "digit 0" in first
    assert "●" in first
    assert report.locator("#communities .mark:has-text('●')").count() == 1


def test_the_panel_says_what_a_community_does_and_how_sure_that_is(report: Any) -> None:
    click_at(report, "L1n0")
    text = report.inner_text("#facts")
    assert "Closing it costs digit 0 90 points" in text
    assert "a random group of its size costs its worst class 10" in text
    assert "it may be named after this class" in text
    assert "359 images (test); untouched accuracy 97 %" in text
    assert report.locator("#facts rect.band").count() == 11
    assert report.locator("#facts path.whisker").count() == 11
    assert report.locator("#facts .map").count() >= 3
    assert report.locator("#facts polygon.violin").count() == 10
    assert "structure" in text.lower()
    assert report.locator("#facts .neighbours .link").count() > 4


def test_uncertain_communities_are_not_named(report: Any) -> None:
    click_at(report, "L1n1")
    assert "do not name it" in report.inner_text("#facts .says")
    assert (
        report.evaluate("InnerSight.facts.worst(InnerSight.scene(), InnerSight.scene().boxes[2], 'zero').certain")
        is False
    )


def test_the_way_of_closing_changes_the_numbers(report: Any) -> None:
    before = drops_of_the_table(report)
    report.click("#closing-switch [data-closing='mean']")
    after = drops_of_the_table(report)
    assert after[0] == pytest.approx(0.2 * before[0], abs=0.06)
    assert report.get_attribute("#closing-switch [data-closing='mean']", "aria-pressed") == "true"


def test_a_class_lists_what_it_depends_on(report: Any) -> None:
    click_at(report, "L4n0")
    assert "digit 0" in report.inner_text("#facts h2")
    assert report.locator("#facts .inline .link").first.inner_text() == "fc1/c0"


def test_joint_closing_is_shown_where_it_was_computed(watched: Watched, scored: Path) -> None:
    page = watched.open(scored, "#L1c0+L1c1")
    assert "closed together" in page.inner_text("#facts").lower()
    assert "−50.0" in page.inner_text("#facts")
    page = watched.open(scored, "#L1c0+L1c2")
    assert "was not computed" in page.inner_text("#facts")


def test_colour_can_mean_the_drop_or_the_class(report: Any) -> None:
    colours = "() => InnerSight.paint.dots(InnerSight.scene(), InnerSight.state, null, null).map(b => b.fill).join()"
    seen = {report.evaluate(colours)}
    for meaning in ("drop", "class"):
        report.select_option("#colour", meaning)
        seen.add(report.evaluate(colours))
    assert len(seen) == 3


def test_scale_of_maps_can_be_shared_or_own(report: Any) -> None:
    click_at(report, "L1n3")
    picture = report.locator("#facts .map").first
    shared = picture.screenshot()
    report.click("#facts .link:has-text('own scale')")
    assert report.locator("#facts .map").first.screenshot() != shared


def test_the_other_tabs_hold_scores_curves_findings_and_figures(report: Any) -> None:
    report.click("#tab-compare")
    assert "structure" in report.inner_text("#compare")
    report.click("#tab-search")
    assert "Density sweep" in report.inner_text("#search")
    report.click("#tab-findings")
    text = report.inner_text("#findings")
    assert text.index("Something was found.") < text.index("Something was not.") < text.index("Anything else.")
    assert "A warning." in text
    report.click("#findings .chip >> nth=0")
    assert fragment(report) == "#L1c0"
    report.click("#tab-figures")
    assert report.evaluate("document.querySelector('#figures img').naturalWidth") > 100


# ---------------------------------------------------------------------- hostile names


EVIL = [
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "javascript:window.hacked=1//href",
    "\u202etxet\u2066<b>",
    "y" * 10_000,
]


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
def test_hostile_names_run_nothing_anywhere(watched: Watched, tmp_path: Path, text: str) -> None:
    sizes = {text: 4, text + "2": 6, text + "3": 2}
    G, P = partitioned(sizes, blocks=2)
    labels = {text + "2": [0, 1, 0, 1, 0, 1]}
    P = Partition.from_labels(G, labels, method=text)
    classes = [text, text + "b"]
    path = tmp_path / "evil.html"
    to_html(
        G, P, path, reported(G, P, classes=classes, findings=[text]), title=text, label=text, class_names=classes,
        alternatives={text: reported(G, P, classes=classes)}, findings=[("yes", text)], images=(np.zeros((60, 4, 4)),
        np.arange(60) % 2),
        figures={text: figures.criterion_curves({text: {1: 0.0}})}, sweep={0.5: P},
    )  # fmt: skip
    page = watched.open(path)
    shown_text = text[:40]
    assert shown_text in page.inner_text("h1") or shown_text in page.evaluate(
        "document.querySelector('h1').textContent"
    )
    for node in ("L1n0", "L1n0", "L2n0"):
        click_at(page, node)
    page.fill("#find", text[:20])
    page.keyboard.press("Enter")
    for tab in ("compare", "search", "findings", "figures", "graph"):
        page.click(f"#tab-{tab}")
        page.wait_for_timeout(20)
    page.click("summary")
    with page.expect_download():
        page.click("#svg")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('body img').length") == 1
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


# ---------------------------------------------------------------------- awkward graphs


@pytest.mark.parametrize(
    ("sizes", "classes"),
    [
        ({"in": 1, "h": 1, "out": 1}, 0),
        ({f"l{i}": 3 for i in range(100)}, 0),
        ({"in": 8, "h": 12, "out": 1000}, 1000),
        ({"in": 30, "a": 1000, "b": 1000, "c": 1000, "out": 10}, 10),
        ({"in": 30, "a": 2000, "b": 2000, "c": 2000, "out": 10}, 10),
    ],
    ids=["one neuron each", "100 layers", "1000 classes", "3,000 neurons", "6,000 neurons"],
)
def test_awkward_sizes_work(watched: Watched, tmp_path: Path, sizes: dict[str, int], classes: int) -> None:
    G, P = partitioned(sizes, blocks=6)
    report = reported(G, P, classes=[f"kind {k}" for k in range(classes)]) if classes else None
    path = tmp_path / "page.html"
    to_html(G, P, path, report)
    page = watched.open(path)
    for _ in range(2):
        assert share_of_commonest_colour(page.locator("#mynetwork canvas").screenshot()) < 0.999
        page.keyboard.press("ArrowRight")
        assert page.locator("#facts h2").is_visible()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Escape")
        page.keyboard.press("v")
        page.evaluate(TWO_FRAMES)


def test_graphs_too_large_to_draw_show_their_communities_and_say_so(watched: Watched, tmp_path: Path) -> None:
    layers = [Layer("a", 0, 20_000, "input"), Layer("b", 1, 6_000, "linear"), Layer("c", 2, 10, "linear")]
    rng = np.random.default_rng(0)
    first = sparse.csr_array(
        (rng.normal(size=9000), (rng.integers(0, 20_000, 9000), rng.integers(0, 6000, 9000))), (20_000, 6000)
    )
    G = LayeredDiGraph.from_arrays(layers, {("a", "b"): first, ("b", "c"): rng.normal(size=(6000, 10))})
    P = Partition.from_labels(G, {"b": np.arange(6000) % 5}, method="planted")
    to_html(G, P, tmp_path / "page.html")
    page = watched.open(tmp_path / "page.html")
    assert page.is_disabled("#view-neurons")
    assert "26,010 neurons are too many to draw" in page.inner_text("#caption")
    page.click("#communities .link >> nth=0")
    assert "Excites" in page.inner_text("#facts")


# ---------------------------------------------------------------------- paper, phones, policy


def test_print_shows_panel_and_picture_without_tools(page: Any) -> None:
    page.emulate_media(media="print")
    assert page.locator("#tools").is_hidden()
    assert page.locator("#communities").is_visible()
    assert page.locator("#mynetwork canvas").is_visible()


def test_small_screens_put_the_panel_below(watched: Watched, file: Path) -> None:
    watched.page.set_viewport_size({"width": 420, "height": 800})
    page = watched.open(file)
    boxes = page.evaluate("['stage', 'panel'].map(id => document.getElementById(id).getBoundingClientRect().toJSON())")
    assert boxes[1]["top"] >= boxes[0]["bottom"] - 1
    assert boxes[0]["width"] <= 420


def test_the_policy_blocks_a_request(watched: Watched, file: Path) -> None:
    page = watched.open(file)
    blocked = page.evaluate("fetch('https://example.org/').then(() => false, () => true)")
    assert blocked
    assert any("Content Security Policy" in problem for problem in watched.problems)
    watched.problems.clear()


def test_without_javascript_the_table_is_there(browser: Any, file: Path) -> None:
    page = offline(browser, java_script_enabled=False).new_page()
    page.goto(file.as_uri())
    assert page.locator("#communities tbody tr").count() == 24
    assert "without JavaScript" in page.inner_text("#panel")
    assert page.locator("#tools").is_hidden()
    page.close()


def test_a_notebook_shows_a_working_page_in_a_frame(watched: Watched, tmp_path: Path) -> None:
    """The frame has no address of its own: selecting must work there without history."""
    G, P = partitioned({"a": 6, "b": 8, "c": 3}, blocks=2)
    path = tmp_path / "notebook.html"
    path.write_text(f"<!DOCTYPE html><title>x</title><body>{make_page(G, P)._repr_html_()}", encoding="utf-8")
    watched.page.goto(path.as_uri())
    inside = watched.page.frame_locator("iframe")
    inside.locator("body[data-ready=true]").wait_for()
    inside.locator("#communities .link").first.click()
    assert "b/c0" in inside.locator("#facts h2").inner_text()


def test_a_stock_pyvis_page_fails_the_same_watch(context: Any, tmp_path: Path) -> None:
    """The recipe has teeth: pyvis' own page asks the network and complains in the console."""
    G, P = partitioned({"a": 6, "b": 8, "c": 3}, blocks=2)
    net = to_pyvis(G, P)
    path = tmp_path / "stock.html"
    path.write_text(net.generate_html(), encoding="utf-8")
    opened = Watched(context)
    opened.page.goto(path.as_uri())
    opened.page.wait_for_timeout(300)
    assert opened.requests
    assert opened.problems
    opened.page.close()
