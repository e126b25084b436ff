"""Fig. 3c: how active communities are by class, and where misclassified images stand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.detection.random import random_communities
from innersight_graph.evaluation.activation import ActivationLevel
from innersight_graph.evaluation.members import Members
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.figures import activation_violins
from innersight_graph.paper.maps import key_communities
from innersight_graph.paper.networks import predictions
from innersight_graph.paper.record import LEVEL, Artefact, Verdict, described, verdict
from innersight_graph.paper.study import Network, Study
from innersight_graph.partition import Partition
from innersight_graph.statistics import wilson_interval

__all__ = ["fig3c"]

# Random partitions for the errors; each is a pass over the test images.
PARTITIONS = 39
# Misclassified images marked in the figure.
MARKED = 3


def fig3c(study: Study) -> Artefact:
    """Activation levels in the convolutional network by class, with misclassified test images."""
    network, P, settings = study.network("convolutional"), study.main("convolutional"), study.settings
    level = ActivationLevel(network.model, study.data.test).evaluate(
        network.graph, P, nulls=settings.nulls, seed=settings.seed
    )
    key = key_communities(study, network, P)["key"]
    pair = _confused(study, network)
    names = study.data.classes
    rows = [
        {
            **described(P, i),
            "key": i in key,
            "separation": level.per_community[i],
            "best_class": names[int(level.details["best_class"][i])],
            "random_separation": level.details["null_mean"][i],
            "p_random": level.p_values["null"][i],
            **{f"mean level {names[c]}": level.maps["class_level"][i, c] for c in pair},
        }
        for i in range(len(P))
    ]
    errors = _errors(study, network, P, level, key)
    numbers = {"classes_shown": [names[c] for c in pair], "errors": errors, "accuracy": level.details["accuracy"]}
    verdicts = [_separated(level, Members.of(network.graph, P)), _leaning(errors)]
    figures = {
        f"Fig. 3c: {layer}, {names[pair[0]]} and {names[pair[1]]}": _violins(P, level, layer, pair, names)
        for layer in P.layers
    }
    return Artefact(
        "fig3c", "Fig. 3c: activation levels of communities and misclassified images", rows, numbers, verdicts, figures
    )


def _confused(study: Study, network: Network) -> tuple[int, int]:
    """Return the two classes the network confuses most often on validation images; the first two if it never does."""
    validation, n = study.data.validation, len(study.data.classes)
    counts = np.zeros((n, n), dtype=int)
    np.add.at(counts, (validation.targets.numpy(), predictions(network.model, validation.inputs).numpy()), 1)
    counts += counts.T
    np.fill_diagonal(counts, 0)
    a, b = divmod(int(counts.argmax()), n) if counts.any() else (0, 1)
    return min(a, b), max(a, b)


def _violins(P: Partition, level: Evaluation, layer: str, pair: tuple[int, int], names: tuple[str, ...]) -> Any:
    own = [i for i in range(len(P)) if P.layer_of(i) == layer]
    targets = np.asarray(level.details["targets"])
    wrong = [e for e in level.details["errors"] if targets[e] in pair][:MARKED]
    return activation_violins(
        level.maps["level"][own],
        targets,
        names=[P.names[i].rpartition("/")[2] for i in own],
        classes=pair,
        class_names=names,
        errors=wrong or None,
    )


def _errors(study: Study, network: Network, P: Partition, level: Evaluation, key: list[int]) -> dict[str, Any]:
    """Share of misclassified images whose key communities lean to the predicted class, and that of random groups."""
    own = _leanings(level, key)
    random = []
    for draw in range(min(study.settings.nulls, PARTITIONS)):
        R = random_communities(network.graph, like=P, seed=study.settings.seed + draw)
        measured = ActivationLevel(network.model, study.data.test).evaluate(network.graph, R)
        leaning = _leanings(measured, key)
        random.append(float((leaning > 0).mean()) if leaning.size else float("nan"))
    share = float((own > 0).mean()) if own.size else float("nan")
    p = float((1 + sum(r >= share - 1e-12 for r in random)) / (1 + len(random))) if own.size else float("nan")
    return {
        "n": int(own.size),
        "leaning_to_prediction": int((own > 0).sum()),
        "share": share,
        "random_mean": float(np.mean(random)),
        "p_random": p,
    }


def _leanings(level: Evaluation, key: list[int]) -> NDArray[np.float64]:
    """Return how much closer to the predicted than to the true class each error is (mean over key communities)."""
    errors = np.asarray(level.details["errors"], dtype=int)
    if not len(errors) or not key:
        return np.zeros(0)
    percentile = level.maps["error_percentile"][key]
    column = np.arange(len(errors))
    true, predicted = (np.asarray(level.details[k])[errors] for k in ("targets", "predicted"))
    here, there = (np.abs(percentile[:, column, c] - 50) for c in (true, predicted))
    leaning: NDArray[np.float64] = np.nanmean(here - there, axis=0)
    return leaning


def _separated(level: Evaluation, members: Members) -> Verdict:
    tested = members.tested
    with np.errstate(invalid="ignore"):
        beyond = int((level.p_values["null"][tested] <= LEVEL).sum())
    m = int(tested.sum())
    low, high = wilson_interval(beyond, max(1, m))
    return verdict(
        "The activation level of a community differs between the classes (section 4.3, Fig. 3c).",
        holds=low > 0.5,
        fails=high < 0.5,
        number=beyond / max(1, m),
        unit="share of communities whose level separates a class better than random groups of their size",
        rule=(
            f"|2 AUC - 1| of the best class, max statistic, p <= {LEVEL}; supported: Wilson 95 % interval of the share"
            " above one half, not supported: below (random groups do as well)"
        ),
        says=(
            f"{beyond} of {m} levels separate a class beyond random groups (mean separation"
            f" {np.nanmean(level.per_community[tested]):.2f}, random"
            f" {np.nanmean(level.details['null_mean'][tested]):.2f})."
        ),
    )


def _leaning(errors: dict[str, Any]) -> Verdict:
    n, hits, p = errors["n"], errors["leaning_to_prediction"], errors["p_random"]
    low, high = wilson_interval(hits, n)
    return verdict(
        "In a misclassified image the key communities are active as for the wrong class (section 4.3, Fig. 3c).",
        holds=bool(n) and low > 0.5 and p <= LEVEL,
        fails=bool(n) and (high < 0.5 or (low > 0.5 and p > LEVEL)),
        number=errors["share"],
        unit="share of misclassified test images whose key communities lean to the predicted class",
        rule=(
            f"supported: Wilson 95 % interval above one half and beyond random groups of equal sizes, p <= {LEVEL}"
            " (late layers must lean to the prediction, whatever the groups); not supported: below one half, or random"
            " groups do as well; else too few errors"
        ),
        says=(
            f"{hits} of {n} errors lean to the predicted class (random groups {100 * errors['random_mean']:.0f} %, p ="
            f" {p:.3g})."
            if n
            else "the network misclassifies no test image."
        ),
    )
