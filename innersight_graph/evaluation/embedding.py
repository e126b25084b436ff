"""`Embedding`: the data as one community sees them, in two dimensions and in numbers (the paper's Fig. 3a and b)."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from innersight_graph.errors import InputError
from innersight_graph.evaluation.closings import classified
from innersight_graph.evaluation.members import BLOCKS, LayerGroups, Members, random_groups
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.probe.batches import held
from innersight_graph.statistics import holm, jackknife_interval

__all__ = ["Embedding"]

FloatArray = NDArray[np.float64]
NEIGHBOURS = 5


@final
class Embedding:
    """Representation of each community, the layer's other neurons at their average, as a picture and in numbers.

    Neurons at a constant do not change distances, so the representation is that of the members alone.

    Parameters
    ----------
    model : Module
        The model that the graph was made from.
    data
        Batches of ``(inputs, targets)`` or a pair of tensors, targets being classes.
    permutations : int, default 999
        Random permutations of the targets that purity is compared with.
    tsne : bool, default True
        Compute the two-dimensional pictures (the slow part); the numbers do not need them.
    max_samples : int, default 1000
        Samples taken (evenly spaced) if there are more.
    perplexity : float, default 30
        t-SNE's; lowered where there are few samples.
    name : str, default "embedding"

    Notes
    -----
    `evaluate` returns an `Evaluation` with

    - ``per_community`` (m,): 5-nearest-neighbour purity, the mean share of a sample's five nearest neighbours in its
      own class; ``value``: mean;
    - ``intervals["per_community"]`` (m, 2): over the samples, a tenth of which is left out in turn;
    - ``maps["points"]`` (m, n, 2): t-SNE; ``details["targets"]`` (n,), ``["samples"]`` (n,) positions in the data;
    - ``details["silhouette"]`` (m,): mean silhouette of the classes, -1 to 1; ``details["chance"]``: purity of permuted
      targets;
    - ``p_values["purity"]`` (m,): against permuted targets, Holm; ``p_values["null"]``: against random groups of equal
      size (with ``nulls``), ``details["null_mean"]``, ``["null_low"]``, ``["null_high"]``.

    References
    ----------
    van der Maaten & Hinton 2008, https://www.jmlr.org/papers/v9/vandermaaten08a.html.
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        *,
        permutations: int = 999,
        tsne: bool = True,
        max_samples: int = 1000,
        perplexity: float = 30.0,
        name: str = "embedding",
    ) -> None:
        if max_samples < NEIGHBOURS + 2:
            raise InputError(
                f"max_samples={max_samples} came; five nearest neighbours need at least {NEIGHBOURS + 2} samples."
            )
        self.model = model
        self.data = held(data)
        self.permutations = permutations
        self.tsne = tsne
        self.max_samples = max_samples
        self.perplexity = perplexity
        self.name = name

    def evaluate(
        self,
        G: Any,
        partition: Any,
        *,
        nulls: int = 0,
        seed: int | None = None,
        max_memory: int | None = None,
        **options: Any,
    ) -> Evaluation:
        """Embed a partition of G; see the class for what is returned."""
        from sklearn.metrics import silhouette_score

        members = Members.of(G, partition)
        scores, _, outputs = classified(self.model, self.data, members, max_memory=max_memory)
        targets = np.asarray(scores.classes)
        if len(targets) < NEIGHBOURS + 2:
            raise InputError(f"{len(targets)} samples came; five nearest neighbours need at least {NEIGHBOURS + 2}.")
        samples = np.unique(np.linspace(0, len(targets) - 1, min(len(targets), self.max_samples)).round().astype(int))
        targets = targets[samples].astype(np.int32)
        tables = {layer: table[:, samples].astype(np.float64) for layer, table in outputs.items()}
        m = len(members.partition)
        purity, silhouette, p = (np.full(m, np.nan) for _ in range(3))
        points = np.full((m, len(samples), 2), np.nan)
        chance, limits = np.full(m, np.nan), np.full((m, 2), np.nan)
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(0 if seed is None else seed)))
        for groups in members.layers:
            if groups.layer not in tables:
                continue
            for k, i in enumerate(groups.communities.tolist()):
                own = tables[groups.layer][groups.labels == k].T
                near = neighbours(own)
                limits[i] = purity_interval(own, targets)
                purity[i] = (targets[near] == targets[:, None]).mean()
                shuffled = rng.permuted(np.repeat(targets[None], self.permutations, axis=0), axis=1)
                random = (shuffled[:, near] == shuffled[:, :, None]).mean(axis=(1, 2))
                p[i] = (1 + (random >= purity[i] - 1e-12).sum()) / (1 + len(random))
                chance[i] = random.mean() if len(random) else np.nan
                spread = own.std() > 0 and 1 < len(np.unique(targets)) < len(targets)
                silhouette[i] = silhouette_score(own, targets) if spread else 0.0
                if self.tsne and own.std() > 0:
                    points[i] = self._points(own, seed)

        def under(groups: LayerGroups, labels: NDArray[np.intp]) -> FloatArray:
            values = [
                neighbours(tables[groups.layer][labels == k].T) for k in range(len(groups.sizes)) if (labels == k).any()
            ]
            found = iter([(targets[near] == targets[:, None]).mean() for near in values])
            return np.array([next(found) if (labels == k).any() else np.nan for k in range(len(groups.sizes))])

        observed = {g.layer: purity[g.communities] for g in members.layers if g.layer in tables}
        p_values, band = random_groups(members, observed, under, nulls=nulls, seed=seed)
        details: dict[str, Any] = {
            "silhouette": silhouette, "chance": chance, "targets": targets, "samples": samples, "n": len(samples),
        }  # fmt: skip
        details |= band
        p_values = {"purity": holm(np.where(members.tested, p, np.nan)), **p_values}
        chosen = purity[members.tested]
        value = float(np.nanmean(chosen)) if np.isfinite(chosen).any() else float("nan")
        return Evaluation(
            self.name, value, purity, {"points": points}, {"per_community": limits}, p_values, details=details
        )

    def _points(self, own: FloatArray, seed: int | None) -> FloatArray:
        from sklearn.manifold import TSNE

        perplexity = min(self.perplexity, (len(own) - 1) / 3)
        learner = TSNE(perplexity=perplexity, init="random" if own.shape[1] < 2 else "pca", random_state=seed or 0)
        return np.asarray(learner.fit_transform(own.astype(np.float32)), dtype=np.float64)


def neighbours(own: FloatArray) -> NDArray[np.intp]:
    """Find the five nearest other samples of each sample: (n, 5)."""
    return np.argpartition(_distances(own), NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]


def purity_interval(own: FloatArray, targets: NDArray[Any]) -> FloatArray:
    """Interval of the purity over samples, a block of which is left out in turn, as neighbours too."""
    distance = _distances(own)
    n = len(own)
    if n < 2 * (NEIGHBOURS + 2):
        return np.full(2, np.nan)

    def purity(kept: NDArray[np.intp]) -> float:
        near = np.argpartition(distance[np.ix_(kept, kept)], NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        return float((targets[kept][near] == targets[kept][:, None]).mean())

    blocks = [np.flatnonzero(np.arange(n) % BLOCKS != block) for block in range(BLOCKS)]
    return jackknife_interval(purity(np.arange(n)), [purity(kept) for kept in blocks])


def _distances(own: FloatArray) -> FloatArray:
    square = (own**2).sum(axis=1)
    distance: FloatArray = square[:, None] + square[None, :] - 2 * own @ own.T
    np.fill_diagonal(distance, np.inf)
    return distance
