"""`blockmodel_communities`: a degree-corrected, signed latent block model of every layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._blockmodel.aligned import Alignment, alignment_test
from innersight_graph.detection._blockmodel.joint import assess_chain, improve_chain, survives
from innersight_graph.detection._blockmodel.profile import Profile
from innersight_graph.detection._blockmodel.reading import Reading
from innersight_graph.detection._blockmodel.search import Outcome, Search
from innersight_graph.detection._blockmodel.sensitive import NullTest, null_test
from innersight_graph.detection._blockmodel.variational import State, soften
from innersight_graph.detection._layers import (
    assemble,
    check_n_communities,
    check_starts,
    live_layers,
    resolve_seed,
    seed_sequence,
)
from innersight_graph.errors import InputError
from innersight_graph.graph.gauge import orient
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.streams import distinct_sources
from innersight_graph.partition import Partition

__all__ = ["blockmodel_communities"]

Floats = npt.NDArray[np.floating]
_READINGS = ("auto", "signed", "levels", "scores")
_CRITERIA = ("bound", "icl")


def blockmodel_communities(
    G: Any,
    n_communities: int | Iterable[int] | Mapping[str, int] | None = None,
    *,
    layers: str | Iterable[str] | None = None,
    joint: bool = False,
    sensitive: bool = False,
    weights: str = "auto",
    keep: float = 0.3,
    levels: int = 6,
    degree: str = "auto",
    criterion: str = "bound",
    max_communities: int = 20,
    replicates: int = 199,
    alpha: float = 0.05,
    rotations: int = 39,
    n_init: int = 10,
    seed: int | None = None,
) -> Partition:
    """Group neurons that connect alike, beyond what their degrees explain, by a signed latent block model.

    Neurons have communities, the neurons of each adjacent layer have groups of their own, and every (community, group,
    sign) has one ratio θ to chance. Chance keeps the degrees of both ends and saturates, so that hubs do not form
    communities. The number of communities is estimated, and one, "no communities found", is an answer.

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
        A graph without layers is one layer.
    n_communities : int, iterable of int, mapping from layer to int, or None
        Number in each layer, candidates among which the criterion chooses, or None: estimated, one possible.
    layers : str, iterable of str, or None
        Layers to partition; None is every hidden layer.
    joint : bool
        Refine all layers together: the groups of a layer's features are then the communities of its neighbour.
        Separate fits are kept, and ``stats`` says so, where the joint model loses a community. Useful above λ ≈ 2.
    sensitive : bool
        Where the bound sees one community, test the strongest spectral direction against copies of the null. If it
        stands out, return 1 + (significant directions) communities, marked ``"weak evidence"``.
    weights : {"auto", "signed", "levels", "scores"}
        How weights are read. ``"signed"``: their signs (of the share `keep` that is largest after equalising rows and
        columns, unless all are of one size). ``"levels"``: six levels of size times sign. ``"scores"``: signed normal
        scores, for dense weights. ``"auto"`` takes signs for weights of one size and where few weights are much larger
        than most (equalised kurtosis above 4), scores where more than nine in ten are not zero, else levels.
    keep : float
        Share of the connections kept by ``weights="signed"`` on weights of several sizes; of dense weights no more than
        count, by their participation ratio (Σ|w|)² / (n Σ w²).
    levels : int
        Levels of size, each half of what is above the one below.
    degree : {"auto", "total", "sign"}
        Whether a row keeps its number of connections, or that of each sign, under chance. ``"auto"`` keeps the signs'
        where their balance varies continuously from neuron to neuron, for then it is a nuisance and no role.
    criterion : {"bound", "icl"}
        What chooses the number: the integrated bound, or the exact integrated complete likelihood of the hard labels,
        which needs stronger structure.
    max_communities : int
        Largest number considered.
    replicates, alpha
        Most null copies, and level of the sensitive test; it ends sooner where the outcome is clear.
    rotations : int
        For an estimated number on dense weights read as scores: random rotations of the neurons with which the
        communities must compare favourably, by four standard deviations. Otherwise the rows are a continuum, no neuron
        is special, and one community is returned with the mode ``"continuum"``. 0 skips the comparison. Weights read as
        signs need none: a rotation brings the kurtosis of any weights to about 3.
    n_init : int
        K-means starts for every embedding, and restarts of the chosen size.
    seed : int, optional
        Seed of every start; None draws a new one.

    Returns
    -------
    Partition
        With responsibilities. ``stats[layer]`` holds ``mode`` (``"none"``, ``"bound"``, ``"weak evidence"``,
        ``"continuum"``, ``"given"``), ``gain`` (nats over one community), ``criterion`` (the gain by number),
        ``stability`` (mean ARI of the best start's labels with those of the others, which stop where they fall behind),
        ``p_value`` and ``n_significant`` of the sensitive test, ``rotation_p_values`` (tightness of the rows, gain),
        ``ratios`` (θ by adjacent layer), ``feature_groups``, ``unassigned`` (neurons without connections) and
        ``low_degree`` (fewer than three).

    Raises
    ------
    InputError
        If an option is unknown or a number does not fit a layer.

    Notes
    -----
    A fit costs about 12 · n_neurons · n_features · n_communities operations an iteration, for at most 60 iterations,
    three starts and as many sizes as are tried; under a second for 240 neurons with 480 features. Layers beyond 16
    million connections are read in blocks of rows at about 10 bytes a connection. The sensitive test costs about 20 ms
    a copy at 240 neurons. Its p-value is a rank; where none of 39 copies is beyond the layer it is 1/40, and drawing
    ends.

    Multiplying the weights into or out of any neuron by a positive factor leaves the result unchanged wherever weights
    are not of one size; so does turning neurons of layers marked `odd`, whose sign is a convention (see `orient`).

    References
    ----------
    Govaert and Nadif, Latent block model for contingency table, 2010, doi:10.1080/03610920903140197.
    Karrer and Newman, Stochastic blockmodels and community structure in networks, 2011, doi:10.1103/PhysRevE.83.016107.

    Examples
    --------
    >>> from innersight_graph.planted import planted_layers, null_layers
    >>> G, truth = planted_layers(3, snr=6, widths=(60, 60, 60), density=0.2, seed=1)
    >>> blockmodel_communities(G, seed=0) == truth
    True
    >>> nothing, _ = null_layers("hubs", widths=(60, 60, 60), seed=1)
    >>> len(blockmodel_communities(nothing, seed=0))
    1
    """
    _check(weights, _READINGS, "weights")
    _check(criterion, _CRITERIA, "criterion")
    _check(degree, ("auto", "total", "sign"), "degree")
    check_starts(n_init)
    _check_fraction(keep, "keep")
    _check_fraction(alpha, "alpha")
    _check_count(levels, "levels", least=1)
    _check_count(max_communities, "max_communities", least=1)
    _check_count(replicates, "replicates", least=1)
    _check_count(rotations, "rotations", least=0)
    graph = orient(G)
    entropy = resolve_seed(seed)
    reading = Reading(weights, keep, levels, degree)
    fits: dict[str, _Fit] = {}
    for name, live, _ in live_layers(graph, layers):
        wanted = n_communities.get(name) if isinstance(n_communities, Mapping) else n_communities
        sizes = None if wanted is None else check_n_communities(wanted, max(live.size, 1), name)
        fit = _Fit(graph, name, live, reading)
        if fit.rows.size > 1 and fit.profile is not None:
            fit.search(sizes, max_communities, n_init, seed_sequence(entropy, name), criterion)
            if fit.mode == "bound":
                fit.compare_with_rotations(rotations, seed_sequence(entropy, name, "rotations"))
            if sensitive and fit.mode == "none":
                fit.look_closer(replicates, alpha, seed_sequence(entropy, name, "null"))
        fits[name] = fit
    joined = _join(graph, fits, reading) if joint else None
    params: dict[str, Any] = {
        "n_communities": n_communities, "joint": joint, "sensitive": sensitive, "weights": weights, "keep": keep,
        "levels": levels, "degree": degree, "criterion": criterion, "max_communities": max_communities,
        "replicates": replicates,
        "alpha": alpha, "rotations": rotations, "n_init": n_init,
    }  # fmt: skip
    return assemble(
        graph,
        {name: fit.labels() for name, fit in fits.items()},
        method="blockmodel",
        params=params,
        seed=entropy,
        stats={name: {**fit.stats(), **({} if joined is None else {"joint": joined})} for name, fit in fits.items()},
        responsibilities={name: fit.responsibilities() for name, fit in fits.items()},
    )


@dataclass
class _Fit:
    """One layer: its data, the search and what came of it."""

    graph: LayeredDiGraph
    name: str
    live: npt.NDArray[np.intp]
    reading: Reading
    mode: str = "none"
    test: NullTest | None = None
    alignment: Alignment | None = None
    outcome: Outcome | None = None
    state: State | None = None
    rivals: list[npt.NDArray[np.intp]] = field(default_factory=list)

    def __post_init__(self) -> None:
        matrices = [W[self.live] for W in _sides(self.graph, self.name)]
        degree = np.sum([_degrees(W) for W in matrices], axis=0) if matrices else np.zeros(self.live.size)
        self.degree = np.asarray(degree)
        self.rows = np.flatnonzero(self.degree > 0)
        self.profile: Profile | None = None
        self.used = "none"
        self.columns = []
        kept = []
        for W in matrices:
            columns = np.flatnonzero(_degrees(W[self.rows].T))
            self.columns.append(columns)
            if columns.size:
                kept.append(W[self.rows][:, columns])
        if kept and self.rows.size > 1:
            self.used, self.profile = self.reading.of(kept)

    def search(
        self,
        sizes: tuple[int, ...] | None,
        largest: int,
        n_init: int,
        seed: np.random.SeedSequence,
        criterion: str,
    ) -> None:
        """Fit the layer with the number given, or estimate it."""
        assert self.profile is not None
        self._search = Search(self.profile, max(sizes) if sizes else largest, n_init=n_init, seed=seed)
        self.outcome = self._search.best(sizes, criterion=criterion)
        given = sizes is not None and len(sizes) == 1
        self._settle(self.outcome.size, asked=given)
        self.mode = "given" if given else ("bound" if self.outcome.size > 1 else "none")

    def look_closer(self, replicates: int, alpha: float, seed: np.random.SeedSequence) -> None:
        """Test against the null, and fit as many communities as directions stand out."""
        assert self.profile is not None
        most = min(self._search.largest - 1, self.rows.size - 2)
        if most < 1:
            return
        self.test = null_test(
            self.profile,
            self._search.directions,
            replicates=replicates,
            alpha=alpha,
            largest=most,
            rng=np.random.default_rng(seed),
        )
        if self.test.significant:
            # As many as directions stand out, or more if the bound likes more: it refuses any, but ranks them.
            curve = self.outcome.curve if self.outcome is not None else {}
            least = 1 + self.test.n_significant
            whole = [size for size in curve if size >= least and self._search.fits(size)[0].n_groups == size]
            self._settle(max(whole, key=curve.__getitem__, default=least), asked=True)
            self.mode = "weak evidence"

    def compare_with_rotations(self, rotations: int, seed: np.random.SeedSequence) -> None:
        """Give the communities up where rotated neurons would show as many."""
        assert self.outcome is not None
        self.alignment = alignment_test(
            self._search,
            self.outcome.size,
            rotations=rotations,
            rng=np.random.default_rng(seed),
            seed=seed,
        )
        if self.alignment is not None and not self.alignment.holds:
            self._settle(1)
            self.mode = "continuum"

    def _settle(self, size: int, *, asked: bool = False) -> None:
        fits = self._search.with_all_groups(size) if asked else self._search.restarts(size)
        self.state, self.rivals = fits[0], [other.labels for other in fits[1:]]
        self.gain = self.state.bound - self._search.one.bound

    def labels(self) -> npt.NDArray[np.intp]:
        """Community of every live neuron; -1 for one without connections, unless none has any."""
        full = np.full(self.live.size, -1 if self.rows.size else 0, dtype=np.intp)
        full[self.rows] = 0 if self.state is None else self.state.rows.argmax(axis=1)
        return full

    def responsibilities(self) -> Floats:
        """Soft labels; zero rows for neurons without connections."""
        groups = 1 if self.state is None else self.state.rows.shape[1]
        full = np.zeros((self.live.size, groups))
        full[self.rows if self.rows.size else slice(None)] = 1.0 if self.state is None else self.state.rows
        return full

    def stats(self) -> dict[str, Any]:
        """Everything worth knowing about the fit."""
        from sklearn.metrics import adjusted_rand_score

        known: dict[str, Any] = {
            "mode": self.mode,
            "weights": self.used,
            "unassigned": int(self.live.size - self.rows.size),
            "low_degree": self.live[(self.degree > 0) & (self.degree < 3)].tolist(),
        }
        if self.state is None or self.outcome is None or self.profile is None:
            return known
        own = self.state.labels
        known |= {
            "gain": self.gain,
            "bound": self.state.bound,
            "criterion": {size: value - self.outcome.baseline for size, value in self.outcome.curve.items()},
            "icl": {size: value - self.outcome.baseline for size, value in self.outcome.icl.items()},
            "n_iter": self.state.n_iter,
            "converged": self.state.converged,
            "stability": float(np.mean([adjusted_rand_score(own, other) for other in self.rivals]))
            if self.rivals
            else 1.0,
            "row_degrees": list(self.profile.rows),
            "dropped": self._search.dropped,
            "feature_groups": self._feature_groups(),
            "ratios": self._ratios(),
        }
        if self.alignment is not None:
            known["rotation_p_values"] = [self.alignment.tightness_p, self.alignment.gain_p]
        if self.test is not None:
            known |= {
                "p_value": self.test.p_value,
                "n_significant": self.test.n_significant,
                "direction": self.test.direction,
                "replicates": self.test.replicates,
            }
        return known

    def _feature_groups(self) -> list[list[int]]:
        assert self.state is not None
        groups = iter(self.state.features)
        out = []
        for side, columns in zip(_sides(self.graph, self.name), self.columns, strict=True):
            full = np.full(side.shape[1], -1)
            if columns.size:
                full[columns] = next(groups).argmax(axis=1)
            out.append(full.tolist())
        return out

    def _ratios(self) -> list[list[Any]]:
        assert self.state is not None
        assert self.profile is not None
        blocks = zip(self.profile.blocks, self.state.tables, self.state.strengths, strict=True)
        return [np.round(block.parameters(table, strength), 4).tolist() for block, table, strength in blocks]


def _sides(G: LayeredDiGraph, name: str) -> list[Any]:
    """Distinct weights of the adjacent layers with the layer's own neurons as rows; without directions, its rows."""
    undirected = G.graph.get("directed") is False
    before = [] if undirected else [G.matrix(source, name).T for source in distinct_sources(G, name)]
    return [
        W.tocsr() if hasattr(W, "tocsr") else W
        for W in (*before, *(G.matrix(name, target) for target in G.outgoing(name)))
    ]


def _join(G: LayeredDiGraph, fits: Mapping[str, _Fit], reading: Reading) -> str:
    """Refine all fitted layers together, change the fits' states if the joint model holds, and say what was kept."""
    fitted = {name: fit for name, fit in fits.items() if fit.state is not None and fit.outcome is not None}
    pairs = [(s, t) for s in fitted for t in fitted if t in G.outgoing(s) and s != t]
    if not pairs:
        return "separate: no two partitioned layers are connected"
    layers = {name: np.asarray(fit.state.rows, dtype=float) for name, fit in fitted.items() if fit.state is not None}
    blocks = {}
    for s, t in pairs:
        W = G.matrix(s, t)[fitted[s].live[fitted[s].rows]][:, fitted[t].live[fitted[t].rows]]
        if _degrees(W).sum() > 0:
            blocks[s, t] = reading.of([W])[1].blocks[0]
    # Layers that are not partitioned themselves take part with the groups the neighbouring fit gave them.
    for name, fit in fitted.items():
        assert fit.state is not None
        assert fit.profile is not None
        present = [(n, c) for n, c in zip(_neighbours(G, name), fit.columns, strict=True) if c.size]
        for (other, _), block, soft in zip(present, fit.profile.blocks, fit.state.features, strict=True):
            if other not in fitted:
                blocks[name, f"{name}:{other}"] = block
                layers[f"{name}:{other}"] = np.asarray(soft, dtype=float)
    start = assess_chain(blocks, {n: soften(Q.argmax(axis=1), Q.shape[1]) for n, Q in layers.items()})
    chain = improve_chain(blocks, start)
    if not survives(chain, start):
        return "separate: the joint model lost a community"
    for name, fit in fitted.items():
        assert fit.state is not None
        fit.state = State(
            chain.layers[name], fit.state.features, fit.state.tables, fit.state.strengths, fit.state.bound
        )
    return "joint"


def _neighbours(G: LayeredDiGraph, name: str) -> list[str]:
    before = () if G.graph.get("directed") is False else distinct_sources(G, name)
    return [*before, *G.outgoing(name)]


def _degrees(W: Any) -> Floats:
    """Non-zero entries of each row."""
    counts: Floats = np.bincount(W.nonzero()[0], minlength=W.shape[0]).astype(float)
    return counts


def _check(value: str, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise InputError(f"{name}={value!r} came; one of {', '.join(map(repr, allowed))} was expected.")


def _check_fraction(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= 1:
        raise InputError(f"{name}={value!r} came; a number in (0, 1] was expected.")


def _check_count(value: Any, name: str, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name}={value!r} came; a whole number of at least {least} was expected.")
