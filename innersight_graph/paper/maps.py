"""Fig. 1b, 2a and 2b: where in the image communities look, and which of them are key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.evaluation import Ablation, Evaluation, Occlusion
from innersight_graph.evaluation.members import Members
from innersight_graph.figures import sensitivity_maps
from innersight_graph.figures.style import ACTIVATION, canvas
from innersight_graph.paper.narrow import Narrow
from innersight_graph.paper.record import LEVEL, Artefact, Verdict, described, verdict
from innersight_graph.paper.study import Network, Study
from innersight_graph.partition import Partition
from innersight_graph.statistics import auc, wilson_interval

__all__ = ["fig1b", "fig2a", "fig2b", "key_communities"]

# The paper's window is 5 pixels of MNIST's 28: the same share of the picture here, at least 3 and odd.
WINDOW_SHARE = 5 / 28
# Parts of the generated faces that differ between the two classes; head and eyes are the same in both.
EVIDENCE = ("ears", "muzzle")
# Of its 224 kernels the paper keeps the 70 in key communities.
KEPT = 70 / 224


def fig1b(study: Study) -> Artefact:
    """Perturbation maps of the linear network's communities; more focused than those of random groups, or not."""
    network, P = study.network("linear"), study.main("linear")
    seen, printed = _maps(study, network, P)
    tested = _tested(P)
    beyond = sum(seen.p_values["focus"][i] <= LEVEL for i in tested)
    low, high = wilson_interval(int(beyond), max(1, len(tested)))
    share = beyond / max(1, len(tested))
    claim = verdict(
        "Each community attends to a place of its own in the image (section 4.1.1, Fig. 1b).",
        holds=low > 0.5,
        fails=high < 0.5,
        number=share,
        unit="share of communities whose map is more focused than random groups' of their size",
        rule=(
            f"focus against random groups, max statistic over communities, p <= {LEVEL}; supported: Wilson 95 %"
            " interval of the share above one half, not supported: below"
        ),
        says=(
            f"{beyond} of {len(tested)} maps are more focused than random groups of equal size (95 % interval {low:.2f}"
            f" to {high:.2f})."
        ),
    )
    title = "Fig. 1b: perturbation maps, linear network"
    return _map_artefact(study, P, seen, printed, "fig1b", title, [claim])


def fig2a(study: Study) -> Artefact:
    """Perturbation maps of the convolutional network, and whether key communities look at what matters."""
    network, P = study.network("convolutional"), study.main("convolutional")
    seen, printed = _maps(study, network, P)
    key = key_communities(study, network, P)["key"]
    title = "Fig. 2a: perturbation maps, convolutional network"
    return _map_artefact(study, P, seen, printed, "fig2a", title, [_looks_at_evidence(study, P, seen, key)])


def _looks_at_evidence(study: Study, P: Partition, seen: Evaluation, key: list[int]) -> Verdict:
    others = [i for i in _tested(P) if i not in key]
    known = "inside" in seen.details
    measure = seen.details["inside" if known else "focus"]
    enough = len(key) > 1 and len(others) > 1
    area = auc(measure[key], measure[others]) if enough else None
    value = area.value if area is not None else float("nan")
    low, high = (area.low, area.high) if area is not None else (0.0, 1.0)
    what = "share of heat on ears and muzzle" if known else "focus of the map"
    reason = (
        "" if known else " These images have no mask of what tells the classes apart, so this cannot decide the claim."
    )
    return verdict(
        "Key communities look at the features that tell the classes apart, the others do not (section 4.1.2, Fig. 2a).",
        holds=known and low > 0.5,
        fails=known and high < 0.5,
        number=value,
        unit=f"AUC of the {what}, key against other communities",
        rule=(
            "supported: DeLong 95 % interval above 0.5; not supported: below; needs part masks and two communities of"
            " each kind"
        ),
        says=(
            f"{len(key)} key and {len(others)} other communities; AUC of the {what} {value:.2f} ({low:.2f} to"
            f" {high:.2f}).{reason}"
        ),
    )


def _maps(study: Study, network: Network, P: Partition) -> tuple[Evaluation, Evaluation | None]:
    """Return the maps as they should be, against random groups, and as printed; the images are covered once."""
    settings, test = study.settings, study.data.test
    side = min(test.inputs.shape[2:])
    window = max(3, 2 * round((WINDOW_SHARE * side - 1) / 2) + 1)
    mask = None
    if "test" in study.data.masks:
        parts = [study.data.parts.index(part) for part in EVIDENCE if part in study.data.parts]
        mask = study.data.masks["test"][: settings.images, parts].any(dim=1).numpy()
    evaluator = Occlusion(
        network.model,
        test.inputs[: settings.images],
        window=window,
        stride=max(1, side // 16),
        mask=mask,
        literal=settings.literal,
    )
    printed = evaluator.evaluate(network.graph, P) if settings.literal else None
    evaluator.literal = False
    return evaluator.evaluate(network.graph, P, nulls=settings.nulls, seed=settings.seed), printed


def _map_artefact(
    study: Study,
    P: Partition,
    seen: Evaluation,
    printed: Evaluation | None,
    name: str,
    title: str,
    verdicts: list[Verdict],
) -> Artefact:
    heat = seen.maps["heat"]
    likeness = np.full(len(P), np.nan) if printed is None else _row_correlation(heat, printed.maps["heat"])
    inside = seen.details.get("inside")
    rows = [
        {
            **described(P, i),
            "mean_response": seen.per_community[i],
            "focus": seen.details["focus"][i],
            "random_focus": seen.details["null_mean"][i],
            "p_random": seen.p_values["focus"][i],
            "share_on_evidence": None if inside is None else inside[i],
            "correlation_with_printed": likeness[i],
        }
        for i in range(len(P))
    ]
    numbers = {
        "window": seen.details["window"],
        "stride": seen.details["stride"],
        "images": seen.details["n"],
        "evidence_area": seen.details.get("mask_share"),
        "maps": dict(zip(P.names, np.round(heat, 5), strict=True)),
    }
    background = study.data.test.inputs[: study.settings.images].mean(dim=(0, 1)).numpy()
    figures = {}
    for layer in P.layers:
        own = [i for i in range(len(P)) if P.layer_of(i) == layer]
        drawn = sensitivity_maps(
            heat[own], names=[P.names[i] for i in own], background=background, columns=8, title=f"{title}, {layer}"
        )
        figures[f"{title}, {layer}"] = drawn
    return Artefact(name, title, rows, numbers, verdicts, figures)


def _row_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation of each pair of maps; nan where one is constant."""
    x, y = (maps.reshape(len(maps), -1) for maps in (a, b))
    x, y = (table - table.mean(axis=1, keepdims=True) for table in (x, y))
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    correlation: NDArray[np.float64] = np.divide((x * y).sum(axis=1), size, out=np.full(len(x), np.nan), where=size > 0)
    return correlation


# ---------------------------------------------------------------------- Fig. 2b


def key_communities(study: Study, network: Network, P: Partition) -> dict[str, Any]:
    """Choose the key communities of each layer on validation images.

    Those whose closing raises the loss most, until they hold the share of the layer's live neurons that the paper
    keeps. The loss orders also the many communities without which no single image changes its class.
    """
    return study.once(f"key communities of {network.kind}", lambda: _choose_key(study, network, P))


def _choose_key(study: Study, network: Network, P: Partition) -> dict[str, Any]:
    closed = Ablation(network.model, study.data.validation, split="validation").evaluate(
        network.graph, P, seed=study.settings.seed
    )
    loss = closed.maps["loss"]
    key: list[int] = []
    for groups in Members.of(network.graph, P).layers:
        own = groups.communities[groups.tested]
        wanted = KEPT * groups.sizes[groups.tested].sum()
        held = 0
        for i in own[np.argsort(-loss[own], kind="stable")]:
            if held >= wanted:
                break
            key.append(int(i))
            held += len(P[int(i)])
    return {"key": sorted(key), "drop": closed.per_community, "loss": loss}


def fig2b(study: Study) -> Artefact:
    """Key communities, chosen on validation images: whether they hold on test images, and whether they suffice."""
    network, P = study.network("convolutional"), study.main("convolutional")
    chosen = key_communities(study, network, P)
    key: list[int] = chosen["key"]
    test = Ablation(network.model, study.data.test, split="test").evaluate(network.graph, P, seed=study.settings.seed)
    rows = [
        {
            **described(P, i),
            "key": i in key,
            "validation_loss": chosen["loss"][i],
            "validation_drop": chosen["drop"][i],
            "test_loss": test.maps["loss"][i],
            "test_drop": test.per_community[i],
            "test_p_mcnemar_holm": test.p_values["per_community"][i],
        }
        for i in range(len(P))
    ]
    kept = _only(study, network, P, key)
    numbers = {"key": [P.names[i] for i in key], **kept, "accuracy": test.details["baseline"]}
    verdicts = [_replicates(P, test, key), _suffices(kept, test.details["baseline"])]
    figure = _sizes(P, key)
    return Artefact(
        "fig2b",
        "Fig. 2b: key communities",
        rows,
        numbers,
        verdicts,
        {"Fig. 2b: neurons per community; blue: key": figure},
    )


def _replicates(P: Partition, test: Evaluation, key: list[int]) -> Verdict:
    others = [i for i in _tested(P) if i not in key]
    loss = test.maps["loss"]
    enough = len(key) > 1 and len(others) > 1
    area = auc(loss[key], loss[others]) if enough else None
    value, low, high = (area.value, area.low, area.high) if area is not None else (float("nan"), 0.0, 1.0)
    single = sum(test.p_values["per_community"][i] <= LEVEL and test.per_community[i] > 0 for i in key)
    return verdict(
        "Some communities are key and others are not: what their closing costs is a property of the community "
        "(section 4.1.2, Fig. 2b).",
        holds=low > 0.5,
        fails=high < 0.5,
        number=value,
        unit="AUC of the loss on test images when closed, key against other communities",
        rule=(
            "key: largest rise of the loss on validation images; supported: DeLong 95 % interval on test images above"
            " 0.5, not supported: below; needs two communities of each kind"
        ),
        says=(
            f"{len(key)} key communities of the validation images cost more than the others on test images too, AUC"
            f" {value:.2f} ({low:.2f} to {high:.2f}); {single} of them alone cost accuracy there (exact McNemar, Holm)."
        ),
    )


def _only(study: Study, network: Network, P: Partition, key: list[int]) -> dict[str, Any]:
    """Test accuracy with the key communities of each layer alone open, against random neurons of equal number."""
    rng = np.random.Generator(np.random.Philox(study.settings.seed))
    narrow = Narrow(network.model, study.data.test)
    closed = [{name: np.zeros(network.graph.layer(name).width, dtype=bool) for name in narrow.layers}]
    closed += [{name: mask.copy() for name, mask in closed[0].items()} for _ in range(study.settings.nulls)]
    count = {"kept": 0, "of": 0}
    for groups in Members.of(network.graph, P).layers:
        open_ = np.isin(groups.labels, [k for k, i in enumerate(groups.communities) if i in key])
        if not open_.any():
            continue
        live = (groups.labels >= 0) & groups.tested[groups.labels]
        closed[0][groups.layer] = ~open_
        for masks in closed[1:]:
            masks[groups.layer][:] = True
            masks[groups.layer][rng.permutation(np.flatnonzero(live))[: open_.sum()]] = False
        count["kept"] += int(open_.sum())
        count["of"] += open_.size
    if not count["of"]:
        nothing = dict.fromkeys(("kept_accuracy", "p_random", "p_worse"), float("nan"))
        return {"neurons": count, "random_accuracy": [], **nothing}
    own, *drawn = (float(narrow.correct(masks).mean()) for masks in closed)
    random = np.array(drawn)
    p = float((1 + (random >= own - 1e-12).sum()) / (1 + len(random)))
    p_worse = float((1 + (random <= own + 1e-12).sum()) / (1 + len(random)))
    return {"neurons": count, "kept_accuracy": own, "random_accuracy": random, "p_random": p, "p_worse": p_worse}


def _suffices(kept: Mapping[str, Any], baseline: float) -> Verdict:
    random, p = np.asarray(kept["random_accuracy"]), kept["p_random"]
    mean = float(random.mean()) if random.size else float("nan")
    neurons = kept["neurons"]
    return verdict(
        "The key communities carry the network: with all others closed accuracy stays high (section 4.1.2: 98.7 to "
        "93.6 % with 31 % of kernels).",
        holds=p <= LEVEL,
        fails=kept["p_worse"] <= LEVEL,
        number=kept["kept_accuracy"] - mean,
        unit="test accuracy with the key communities alone, minus random live neurons of equal number per layer",
        rule=(
            f"supported: better than random neurons, p <= {LEVEL}; not supported: worse than {100 * (1 - LEVEL):.0f} %"
            " of them; else open"
        ),
        says=(
            f"{neurons['kept']} of {neurons['of']} neurons kept: accuracy {baseline:.3f} to {kept['kept_accuracy']:.3f}"
            f" (random neurons of equal number: {mean:.3f}, p = {p:.3g})."
        ),
    )


def _sizes(P: Partition, key: list[int]) -> Any:
    layers = P.layers
    with canvas(3.2 * len(layers), 2.3, 1, len(layers), squeeze=False) as (figure, grid):
        for axes, layer in zip(grid[0], layers, strict=True):
            own = [i for i in range(len(P)) if P.layer_of(i) == layer]
            colours = [ACTIVATION if i in key else "#c3c8cf" for i in own]
            axes.bar(range(len(own)), [len(P[i]) for i in own], color=colours)
            axes.set_xticks(range(len(own)), [P.names[i].rpartition("/")[2] for i in own], rotation=90, fontsize=7)
            axes.set_title(layer)
            axes.set_ylabel("neurons")
    return figure


def _tested(P: Partition) -> list[int]:
    """Communities that were found: all but the silent neurons."""
    silent = {P.stats[layer].get("silent") for layer in P.layers}
    return [i for i in range(len(P)) if i not in silent]
