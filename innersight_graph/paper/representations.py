"""Fig. 3a and 3b: whether representations cluster by community beyond what the picture's construction guarantees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.data import Split
from innersight_graph.evaluation.embedding import Embedding
from innersight_graph.evaluation.members import LayerGroups, Members
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.figures import embedding_scatter
from innersight_graph.paper.record import LEVEL, Artefact, Verdict, all_some_none, described, verdict
from innersight_graph.paper.settings import Settings
from innersight_graph.paper.study import Study
from innersight_graph.probe.tables import activations
from innersight_graph.statistics import holm, wilson_interval

__all__ = ["fig3a", "fig3b"]

FloatArray = NDArray[np.float64]
PERPLEXITY = 30.0
# Random partitions per layer; each needs all distances between the points anew.
PARTITIONS = 59


def fig3a(study: Study) -> Artefact:
    """Representations in the linear network."""
    return _artefact(study, "linear", "fig3a", "Fig. 3a: representations of communities, linear network")


def fig3b(study: Study) -> Artefact:
    """Representations in the convolutional network."""
    return _artefact(study, "convolutional", "fig3b", "Fig. 3b: representations of communities, convolutional network")


def _artefact(study: Study, kind: str, name: str, title: str) -> Artefact:
    network, P, settings = study.network(kind), study.main(kind), study.settings
    test = Split(study.data.test.inputs[: settings.scored], study.data.test.targets[: settings.scored])
    members = Members.of(network.graph, P)
    tables = {
        layer: table.astype(np.float64)
        for layer, table in activations(network.model, test, network.graph, layers=P.layers).items()
    }
    clusters = {g.layer: _clusters(tables[g.layer], g, settings) for g in members.layers if g.tested.sum() > 1}
    classes = Embedding(network.model, test, tsne=False, permutations=settings.nulls).evaluate(
        network.graph, P, nulls=min(settings.nulls, PARTITIONS), seed=settings.seed
    )
    rows = [
        {
            **described(P, i),
            "class_purity": classes.per_community[i],
            "class_purity_chance": classes.details["chance"][i],
            "class_purity_random_groups": classes.details["null_mean"][i],
            "p_random": classes.p_values["null"][i],
            "class_silhouette": classes.details["silhouette"][i],
        }
        for i in range(len(P))
    ]
    figures = {}
    for groups in members.layers:
        if groups.layer in clusters:
            names = [P.names[int(i)].rpartition("/")[2] for i in groups.communities]
            caption = f"{title.split(':')[0]}: {groups.layer}, one point per sample and community"
            figures[caption] = _drawn(tables[groups.layer], groups, names, settings)
    verdicts = [_clustered(title, clusters, min(settings.nulls, PARTITIONS)), _separates(title, classes, members)]
    return Artefact(name, title, rows, {"silhouette": clusters, "samples": len(test.targets)}, verdicts, figures)


def _clusters(table: FloatArray, groups: LayerGroups, settings: Settings) -> dict[str, float]:
    """Silhouette of the communities' representations, against random groups of equal sizes."""
    own = _silhouette(table, groups.labels, groups.tested, settings.points)
    draws = groups.draws(min(settings.nulls, PARTITIONS), settings.seed)
    random = [_silhouette(table, labels, groups.tested, settings.points) for labels in draws]
    p = (1 + sum(value >= own - 1e-12 for value in random)) / (1 + len(random))
    return {
        "silhouette": own,
        "random_mean": float(np.mean(random)),
        "random_high": float(np.quantile(random, 0.975)),
        "p": p,
    }


def _silhouette(table: FloatArray, labels: NDArray[np.intp], tested: NDArray[np.bool_], points_wanted: int) -> float:
    from sklearn.metrics import silhouette_score

    points, of = _representations(table, labels, tested, points_wanted)
    return float(silhouette_score(points, of)) if len(np.unique(of)) > 1 else 0.0


def _representations(
    table: FloatArray, labels: NDArray[np.intp], tested: NDArray[np.bool_], wanted: int
) -> tuple[FloatArray, NDArray[np.intp]]:
    """One point per sample and community: members' outputs, all other neurons at their average (section 4.2)."""
    kinds = np.flatnonzero(tested)
    samples = max(2, min(table.shape[1], wanted // max(1, len(kinds))))
    mean = table.mean(axis=1, keepdims=True)
    change = (table - mean)[:, :samples]
    points = np.concatenate([(mean + change * (labels == k)[:, None]).T for k in kinds])
    return points, np.repeat(kinds, samples)


def _drawn(table: FloatArray, groups: LayerGroups, names: list[str], settings: Settings) -> Any:
    from sklearn.manifold import TSNE

    points, of = _representations(table, groups.labels, groups.tested, settings.points)
    learner = TSNE(perplexity=min(PERPLEXITY, (len(points) - 1) / 3), init="pca", random_state=settings.seed, n_jobs=1)
    flat = learner.fit_transform(points.astype(np.float32))
    return embedding_scatter(flat, of, class_names=names, title=f"{groups.layer}: t-SNE by community")


def _clustered(title: str, clusters: Mapping[str, Mapping[str, float]], draws: int) -> Verdict:
    tests = holm([c["p"] for c in clusters.values()]) if clusters else np.zeros(0)
    hits = [bool(p <= LEVEL) for p in tests]
    holds, fails = all_some_none(hits, draws=draws)
    gap = float(np.mean([c["silhouette"] - c["random_mean"] for c in clusters.values()])) if clusters else float("nan")
    own = float(np.mean([c["silhouette"] for c in clusters.values()])) if clusters else float("nan")
    return verdict(
        f"Neurons of one community respond alike, so their representations cluster ({title.split(':')[0]}, section"
        " 4.2).",
        holds=holds,
        fails=fails,
        number=gap,
        unit="silhouette of the points by community, minus that of random groups of equal sizes",
        rule=(
            "all points of a community differ in its members' places alone, so any partition shows clusters: random"
            f" groups are the measure; supported: above them in every layer (rank test, Holm, p <= {LEVEL}), not"
            " supported: in none"
        ),
        says=f"silhouette {own:.2f}, random groups {own - gap:.2f}; {sum(hits)} of {len(hits)} layers beyond random.",
    )


def _separates(title: str, classes: Evaluation, members: Members) -> Verdict:
    tested = members.tested
    with np.errstate(invalid="ignore"):
        beyond = int((classes.p_values["null"][tested] <= LEVEL).sum())
    m = int(tested.sum())
    low, high = wilson_interval(beyond, max(1, m))
    return verdict(
        f"A community holds information about the classes of its own ({title.split(':')[0]}, section 4.2).",
        holds=low > 0.5,
        fails=high < 0.5,
        number=beyond / max(1, m),
        unit=(
            "share of communities whose representation tells the classes apart better than random groups of their size"
        ),
        rule=(
            f"five-nearest-neighbour purity, max statistic, p <= {LEVEL}; supported: Wilson 95 % interval of the share"
            " above one half, not supported: below"
        ),
        says=(
            f"{beyond} of {m} communities beyond random groups of equal size; mean purity"
            f" {np.nanmean(classes.per_community[tested]):.2f}, random groups"
            f" {np.nanmean(classes.details['null_mean'][tested]):.2f}."
        ),
    )
