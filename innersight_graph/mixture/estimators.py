"""Mixtures of binary features in the manner of scikit-learn's `sklearn.mixture`."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The estimators are scikit-learn estimators; nothing else in the package imports this module.
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from innersight_graph.engines.base import EPSILON, Engine, merged
from innersight_graph.engines.numpy import ArrayEngine
from innersight_graph.engines.table import BinaryTable, Likelihood, Problem, as_binary
from innersight_graph.errors import InputError
from innersight_graph.mixture.criteria import exact_icl
from innersight_graph.mixture.polish import Solution, improved, winner
from innersight_graph.mixture.search import Material, Search, Settings
from innersight_graph.mixture.starts import INITS, Init
from innersight_graph.mixture.units import run_units

__all__ = ["BernoulliMixture", "MultinomialMixture"]

Floats = NDArray[np.float64]


class _BinaryMixture(BaseEstimator, ABC):  # type: ignore[misc]
    """What both mixtures share: restarts, float64 winner, prediction, information criteria."""

    _likelihood: ClassVar[Likelihood]

    def __init__(
        self,
        n_components: int = 1,
        *,
        n_init: int | None = None,
        init: Init = "structured",
        max_iter: int = 200,
        tol: float = 1e-7,
        prior: float = 0.0,
        random_state: Any = None,
        engine: str | Engine = "auto",
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_init = n_init
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.prior = prior
        self.random_state = random_state
        self.engine = engine
        self.n_jobs = n_jobs

    def fit(
        self, X: ArrayLike, y: Any = None, *, mask: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Fit by EM from several starts; the best is kept.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
            0/1 or bool.
        y : ignored
        mask : array_like of bool, shape (n_samples, n_features), optional
            True where an entry counts.
        groups : array_like of int, shape (n_features,), optional
            Block of each feature; the multinomial normalises within blocks, the Bernoulli ignores it.

        Returns
        -------
        self

        Raises
        ------
        InputError
            Entries that are not 0 or 1, shapes that do not fit, parameters out of range.
        """
        self._check()
        values = as_binary(X, "X")
        if values.shape[1] == 0:
            raise InputError(f"X has shape {values.shape}, without features; at least one column was expected.")
        if self.n_components > len(values):
            raise InputError(
                f"n_components={self.n_components} came for {len(values)} rows; at most one component for each row "
                f"was expected."
            )
        blocks = np.zeros(values.shape[1], dtype=np.intp) if groups is None else np.asarray(groups, dtype=np.intp)
        observed = None if mask is None else as_binary(mask, "mask")
        search = self._searched(Material(values, observed, (), blocks=blocks))
        best = winner(search.problem, merged(search.parts[self.n_components]))
        solution, _ = improved(search.problem, best, by_icl=False)
        self.n_features_in_ = values.shape[1]
        self._groups = blocks
        self._set_parameters(BinaryTable.from_array(values, observed, merge=False), solution)
        self.lower_bounds_ = _history(search, solution, self.max_iter, self.tol) / len(values)
        self.lower_bound_ = solution.objective / len(values)
        self.n_iter_ = solution.n_iter
        self.converged_ = solution.converged
        if not self.converged_ and self.tol >= 0:
            warnings.warn(
                f"The best of the starts had not converged after max_iter={self.max_iter} iterations. Raise "
                f"max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _check(self) -> None:
        whole = [("n_components", self.n_components), ("max_iter", self.max_iter)]
        if self.n_init is not None:
            whole.append(("n_init", self.n_init))
        for name, value in whole:
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name}={value!r} came; a whole number from 1 was expected.")
        if not callable(self.init) and self.init not in INITS:
            raise InputError(
                f"init={self.init!r} is unknown. Use one of {', '.join(map(repr, INITS))}, or pass a function."
            )
        if not (self.tol == self.tol and 0 <= self.prior < float("inf")):
            raise InputError(
                f"tol={self.tol!r} and prior={self.prior!r} came; a number, and a non-negative number, were expected."
            )

    def _searched(self, material: Material) -> Search:
        settings = Settings(
            self._likelihood,
            self.init,
            self.n_init,
            self.max_iter,
            self.tol,
            float(self.prior),
            _seed(self.random_state),
            self.engine,
        )
        search = Search(material, settings, [int(self.n_components)], choosing=False, coarse=False)
        for _, fits in run_units(search.pending(), n_jobs=self.n_jobs):
            search.add(fits)
        return search

    def _set_parameters(self, table: BinaryTable, solution: Solution) -> None:
        mass = solution.responsibilities.sum(axis=1)
        self.weights_ = mass / mass.sum()
        ones, observed = _sums(table, solution.responsibilities)
        self.probabilities_ = self._probabilities(ones, observed, float(self.prior), table.column_means())

    @abstractmethod
    def _probabilities(self, ones: Floats, observed: Floats, prior: float, means: Floats) -> Floats:
        """M-step from sums of ones and of observed entries."""

    @abstractmethod
    def _log_terms(self) -> tuple[Floats, Floats]:
        """Return what a 1 and a 0 add to the log-density, each (n_components, n_features)."""

    def _log_joint(self, X: ArrayLike, mask: ArrayLike | None) -> Floats:
        if not hasattr(self, "probabilities_"):
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet. Call fit first.")
        values = as_binary(X, "X")
        if values.shape[1] != self.n_features_in_:
            raise InputError(f"X has {values.shape[1]} features; the {self.n_features_in_} that fit saw were expected.")
        seen = np.ones(values.shape) if mask is None else as_binary(mask, "mask").astype(np.float64)
        hits = values * seen
        log_hit, log_miss = self._log_terms()
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.weights_)
        joint: Floats = hits @ log_hit.T + (seen - hits) @ log_miss.T + log_weights
        return joint

    def score_samples(self, X: ArrayLike, *, mask: ArrayLike | None = None) -> Floats:
        """Log-likelihood of each row in nats, shape (n_samples,)."""
        joint = self._log_joint(X, mask)
        peak = joint.max(axis=1, keepdims=True)
        return np.asarray((np.log(np.exp(joint - peak).sum(axis=1, keepdims=True)) + peak)[:, 0])

    def score(self, X: ArrayLike, y: Any = None, *, mask: ArrayLike | None = None) -> float:
        """Mean log-likelihood of a row, in nats."""
        return float(self.score_samples(X, mask=mask).mean())

    def predict_proba(self, X: ArrayLike, *, mask: ArrayLike | None = None) -> Floats:
        """Responsibilities, shape (n_samples, n_components); rows sum to 1."""
        joint = self._log_joint(X, mask)
        shares = np.exp(joint - joint.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def predict(self, X: ArrayLike, *, mask: ArrayLike | None = None) -> NDArray[np.int64]:
        """Most probable component of each row, shape (n_samples,)."""
        return np.asarray(self._log_joint(X, mask).argmax(axis=1), dtype=np.int64)

    def fit_predict(self, X: ArrayLike, y: Any = None, *, mask: ArrayLike | None = None) -> NDArray[np.int64]:
        """Fit, and return the component of each row."""
        return self.fit(X, mask=mask).predict(X, mask=mask)

    def bic(self, X: ArrayLike, *, mask: ArrayLike | None = None) -> float:
        """Bayesian information criterion; smaller is better. Where features outnumber rows, use `icl`."""
        rows = self.score_samples(X, mask=mask)
        return float(-2.0 * rows.sum() + self._n_parameters() * np.log(len(rows)))

    def aic(self, X: ArrayLike, *, mask: ArrayLike | None = None) -> float:
        """Akaike information criterion; smaller is better."""
        return float(-2.0 * self.score_samples(X, mask=mask).sum() + 2.0 * self._n_parameters())

    def icl(self, X: ArrayLike, *, mask: ArrayLike | None = None) -> float:
        """Exact integrated complete-data likelihood of the predicted grouping, in nats; larger is better."""
        labels = self.predict(X, mask=mask)
        table = BinaryTable.from_array(X, mask, likelihood=self._likelihood, groups=self._groups)
        return exact_icl(Problem(table, self._likelihood), labels)

    def _n_parameters(self) -> int:
        free = self.n_features_in_ - (len(np.unique(self._groups)) if self._likelihood == "multinomial" else 0)
        return int(self.n_components * free + self.n_components - 1)


class BernoulliMixture(_BinaryMixture):
    """A mixture of independent Bernoulli features, fitted by EM from many starts (paper, Eq. 2-8).

    Parameters
    ----------
    n_components : int, default 1
    n_init : int, optional
        Starts. Default: 12 structured (60 for small tables), one Ward or spectral, else 100.
    init : str or callable, default "structured"
        As in `em_communities`.
    max_iter : int, default 200
    tol : float, default 1e-7
        Stop when no responsibility changes by more; negative: never.
    prior : float, default 0.0
        Pseudo-observations of each component at the column means.
    random_state : int, generator or None
    engine : str or Engine, default "auto"
    n_jobs : int, optional

    Attributes
    ----------
    weights_ : ndarray of float64, shape (n_components,)
    probabilities_ : ndarray of float64, shape (n_components, n_features)
    lower_bound_ : float
        Log-likelihood (with log-prior) of the best fit, in nats per row.
    lower_bounds_ : ndarray of float64, shape (n_iter,)
        The same after each iteration of the best start, leave-one-out moves not included; it never falls.
    n_iter_ : int
    converged_ : bool
    n_features_in_ : int

    Notes
    -----
    An iteration of one start takes 4 n M r multiply-adds. Shares are clipped at 1e-6 inside logarithms only.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.repeat([[1, 1, 0, 0], [0, 0, 1, 1]], 5, axis=0)
    >>> model = BernoulliMixture(2, random_state=0).fit(X)
    >>> model.weights_
    array([0.5, 0.5])
    >>> len(set(model.predict(X)[:5])), len(set(model.predict(X)))
    (1, 2)
    """

    _likelihood = "bernoulli"

    def _probabilities(self, ones: Floats, observed: Floats, prior: float, means: Floats) -> Floats:
        weight = observed + prior
        # A component that saw nothing of a column knows nothing about it. Rounded sums can exceed the weight.
        share = np.divide(ones + prior * means, weight, out=np.full_like(ones, 0.5), where=weight > 1e-300)
        return np.minimum(share, 1.0)

    def _log_terms(self) -> tuple[Floats, Floats]:
        return np.log(np.maximum(self.probabilities_, EPSILON)), np.log(np.maximum(1.0 - self.probabilities_, EPSILON))


class MultinomialMixture(_BinaryMixture):
    """Newman and Leicht's mixture: a component is a distribution of links over the features, whatever their number.

    Parameters are those of `BernoulliMixture`; rows of ``probabilities_`` sum to 1 within each block of features.

    References
    ----------
    Newman & Leicht 2007, doi:10.1073/pnas.0610537104.

    Examples
    --------
    >>> import networkx as nx
    >>> A = nx.to_numpy_array(nx.karate_club_graph(), weight=None)
    >>> model = MultinomialMixture(2, random_state=0).fit(A)
    >>> round(model.score(A) * 34, 4)
    -467.4234
    """

    _likelihood = "multinomial"

    def _probabilities(self, ones: Floats, observed: Floats, prior: float, means: Floats) -> Floats:
        result = np.empty_like(ones)
        for group in np.unique(self._groups):
            members = self._groups == group
            hits = ones[:, members] + prior * means[members] / max(float(means[members].sum()), 1e-300)
            volume = hits.sum(axis=1, keepdims=True)
            result[:, members] = np.divide(
                hits, volume, out=np.full_like(hits, 1.0 / members.sum()), where=volume > 1e-300
            )
        return result

    def _log_terms(self) -> tuple[Floats, Floats]:
        return np.log(np.maximum(self.probabilities_, EPSILON)), np.zeros_like(self.probabilities_)


def _sums(table: BinaryTable, q: Floats) -> tuple[Floats, Floats]:
    ones = np.empty((len(q), table.n_columns))
    observed = np.empty_like(ones)
    for columns, values, seen in table.blocks(np.float64):
        ones[:, columns] = q @ values
        observed[:, columns] = q.sum(axis=1, keepdims=True) if seen is None else q @ seen
    return ones, observed


def _history(search: Search, solution: Solution, max_iter: int, tol: float) -> Floats:
    """Objective after each iteration of the winning start, in float64."""
    engine = ArrayEngine()
    q: Any = search.starter.group(search.settings.init, solution.n_components, [solution.restart]).draw(
        (solution.restart,)
    )
    values = []
    for _ in range(max_iter):
        new, objective = engine.step(search.problem, np.asarray(q, dtype=np.float64))
        values.append(float(objective[0]))
        if np.abs(new - q).max() <= tol:
            break
        q = new
    return np.array(values)


def _seed(random_state: Any) -> int:
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool) and random_state >= 0:
        return int(random_state)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**32))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**32, dtype=np.uint32))
    raise InputError(
        f"random_state={random_state!r} came; a non-negative whole number, a generator or None was expected."
    )
