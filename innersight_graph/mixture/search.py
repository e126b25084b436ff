"""The search over the number of communities of one table: which numbers to fit, what each is worth, which one wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.engines.base import Engine, Fits, first_appearance, merged
from innersight_graph.engines.table import BinaryTable, Problem
from innersight_graph.mixture.criteria import exact_icl, stability
from innersight_graph.mixture.gate import Verdict, judge, shuffled_within_rows
from innersight_graph.mixture.held_out import held_out
from innersight_graph.mixture.polish import Solution, as_found, improved, winner
from innersight_graph.mixture.starts import DETERMINISTIC, Init, Starter
from innersight_graph.mixture.units import Unit

__all__ = ["Material", "Outcome", "Search", "Settings"]

# Restarts of a search that does not say how many.
_STRUCTURED_INITS, _SMALL_TABLE_INITS, _LARGE_TABLE_INITS = 12, 60, 4
_OTHER_INITS = 100
# In a small table clear optima are few and starts are cheap.
_SMALL_TABLE = 1 << 12
# In a large one they are dear, and Ward's and spectral cuts have much to go by.
_LARGE_TABLE = 1 << 26
# Restarts that make one unit of work: small enough to share among workers and to lose little when one is killed.
_UNIT_RESTARTS = 25
# Numbers of communities are tried coarsely first when fitting all of them would take more multiply-adds than this: few
# of them, from so many starts (Ward's and spectral), for so many iterations. The best number then gets the whole of it.
_FULL_SEARCH = 5e12
_USUAL_ITERATIONS = 5
_TRIAL_INITS, _TRIAL_ITERATIONS = 2, 20
# Held-out rows have no power below this, and cost as much as the search beyond.
_HELD_OUT_ROWS, _HELD_OUT_STEP = (30, 4096), 2.5
# Shuffles are searched first with fewer starts, at numbers that grow by this factor. Of structured ones Ward's and
# spectral cuts are enough: measured, ten more found the same gain in all but one of six kinds of shuffles.
_NULL_INITS, _STRUCTURED_NULL_INITS, _NULL_STEP = 4, 2, 1.6
# Where numbers are tried coarsely, so are shuffles, and those of so many rows: on noise EM creeps, and what it gains
# after a few iterations does not matter beside real structure.
_COARSE_NULL_STEP, _COARSE_NULL_ITERATIONS, _COARSE_NULL_ROWS = 8.0, 10, 2048
_BEST_STARTS = 5


@dataclass(frozen=True, eq=False)
class Material:
    """One table to search, before anything is merged: what shuffles are made from.

    Parameters
    ----------
    values : ndarray of bool, shape (n_rows, n_features)
    observed : ndarray of bool or None
    sides : sequence of sequences of slices
        For each side of a layer the columns of each sign.
    name : str
        The layer; keys the starts.
    blocks : ndarray of int, shape (n_features,), optional
        Block of each column, where there are no sides.
    """

    values: NDArray[np.bool_]
    observed: NDArray[np.bool_] | None
    sides: tuple[tuple[slice, ...], ...]
    name: str = ""
    blocks: NDArray[np.intp] | None = None

    def groups(self) -> NDArray[np.intp]:
        """Return the block each column belongs to: as given, else its side."""
        if self.blocks is not None:
            return self.blocks
        groups = np.zeros(self.values.shape[1], dtype=np.intp)
        for number, signs in enumerate(self.sides):
            for columns in signs:
                groups[columns] = number
        return groups

    def take(self, rows: NDArray[np.intp]) -> Material:
        """Return the same columns of some of the rows."""
        observed = None if self.observed is None else self.observed[rows]
        return replace(self, values=self.values[rows], observed=observed)

    def shuffled(self, generator: np.random.Generator) -> Material:
        """Return it with each row's connections permuted; see `shuffled_within_rows`."""
        values, observed = shuffled_within_rows(self.values, self.observed, self.sides, generator)
        return replace(self, values=values, observed=observed)


@dataclass(frozen=True)
class Settings:
    """What a search is asked to do; as the arguments of `em_communities`."""

    likelihood: Any = "bernoulli"
    init: Init = "structured"
    n_init: int | None = None
    max_iter: int = 200
    tol: float = 1e-7
    prior: float = 0.0
    seed: int = 0
    engine: str | Engine = "auto"

    def restarts(self, table: BinaryTable, choosing: bool) -> int:
        """How many starts are run for each number of communities."""
        if self.init in DETERMINISTIC:
            return 1
        if self.n_init is not None:
            return self.n_init
        if self.init != "structured":
            return _OTHER_INITS
        entries = table.n_rows * table.n_columns
        if entries <= _SMALL_TABLE and not choosing:
            return _SMALL_TABLE_INITS
        return _STRUCTURED_INITS if entries <= _LARGE_TABLE else _LARGE_TABLE_INITS


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Parameters
    ----------
    labels : ndarray of int, shape (n_rows,)
    responsibilities : ndarray of float64, shape (n_rows, n_communities)
    stats : dict
        Plain values only.
    disagreement : str or None
        What to warn about.
    """

    labels: NDArray[np.int64]
    responsibilities: NDArray[np.float64]
    stats: dict[str, Any]
    disagreement: str | None


@dataclass
class Search:
    """The state of one table's search.

    Parameters
    ----------
    material : Material
    settings : Settings
    candidates : sequence of int
        Ascending numbers of communities.
    criterion : "icl", "held-out" or callable
        A callable gets labels, shape (n_rows,), and returns a number, larger being better.
    choosing : bool
        Whether the candidates compete; with one given number, the likelihood alone decides.
    coarse : bool or None
        Try numbers coarsely first; None decides by cost.
    """

    material: Material
    settings: Settings
    candidates: Sequence[int]
    criterion: str | Callable[[Solution], float] = "icl"
    choosing: bool = True
    coarse: bool | None = None
    parts: dict[int, list[Fits]] = field(default_factory=dict)
    solutions: dict[int, Solution] = field(default_factory=dict)
    best_objective: dict[int, float] = field(default_factory=dict)
    curve: dict[int, float] = field(default_factory=dict)
    chosen: int | None = None  # of a coarse search: the number that gets all starts and iterations

    def __post_init__(self) -> None:
        settings = self.settings
        table = BinaryTable.from_array(
            self.material.values,
            self.material.observed,
            likelihood=settings.likelihood,
            groups=self.material.groups(),
            # The paper's start draws a probability for every column there is.
            merge=settings.init != "random",
        )
        self.problem = Problem(table, settings.likelihood, settings.prior)
        self.starter = Starter(self.problem, settings.seed, self.material.name, max(self.candidates))
        self.restarts = settings.restarts(table, self.choosing)
        work = 4.0 * table.n_rows * table.n_columns * sum(self.candidates) * self.restarts * _USUAL_ITERATIONS
        self.coarse = self.coarse if self.coarse is not None else work > _FULL_SEARCH and len(self.candidates) > 8

    # -------------------------------------------------------------- what to fit

    def pending(self) -> list[Unit]:
        """Return the units to run next; none when the search is over."""
        wanted = [r for r in self._next_candidates() if r not in self.parts]
        if not self.coarse:
            return self._units(wanted, self.restarts, self.settings.max_iter)
        if wanted:
            few = self.restarts if self.settings.init != "structured" else min(self.restarts, _TRIAL_INITS)
            return self._units(wanted, few, min(self.settings.max_iter, _TRIAL_ITERATIONS))
        if self.chosen is None:
            self.chosen = self.best
            return self._units([self.chosen], self.restarts, self.settings.max_iter)
        return []

    def _units(self, numbers: Sequence[int], restarts: int, max_iter: int) -> list[Unit]:
        settings = self.settings
        blocks = [
            tuple(range(start, min(start + _UNIT_RESTARTS, restarts))) for start in range(0, restarts, _UNIT_RESTARTS)
        ]
        # One community is known without restarts.
        return [
            Unit(self.starter, settings.init, r, block, max_iter, settings.tol, settings.engine)
            for r in numbers
            for block in (blocks if r > 1 else [(0,)])
        ]

    def _next_candidates(self) -> list[int]:
        if not self.coarse:
            return list(self.candidates)
        if not self.curve:
            return _spread(self.candidates, 2.0)
        return _around(self.candidates, self.curve)

    @property
    def best(self) -> int:
        """The number with the highest value so far; of equal ones the smallest."""
        return max(self.curve, key=lambda r: (self.curve[r], -r))

    def add(self, fits: Fits) -> None:
        """Take in the fits of a unit."""
        r = fits.n_components
        if r == self.chosen and r in self.solutions:
            # What the trial said of the chosen number gives way to the whole search.
            del self.solutions[r], self.parts[r]
        self.parts.setdefault(r, []).append(fits)

    def evaluate(self, engine: Engine, *, polish: bool = True) -> None:
        """Polish (or take the engine's word for) and value the numbers that were fitted since the last call."""
        fresh = [r for r in sorted(self.parts) if r not in self.solutions]
        by_icl = self.choosing and self.criterion == "icl"
        values: dict[int, float] = {}
        for r in fresh:
            fits = merged(self.parts[r])
            # While numbers are only being tried, what the search itself says is enough.
            settled = polish and (not self.coarse or r == self.chosen)
            solution = winner(self.problem, fits) if settled else as_found(fits)
            self.best_objective[r] = solution.objective
            if settled and r > 1:
                solution, values[r] = improved(self.problem, solution, by_icl=by_icl)
            else:
                values[r] = exact_icl(self.problem, solution.labels)
            self.solutions[r] = solution
            self.best_objective[r] = max(solution.objective, self.best_objective[r])
        if callable(self.criterion):
            values = {r: float(self.criterion(self.solutions[r])) for r in fresh}
        elif self.criterion == "held-out":
            # With too few rows to leave any out nothing speaks against the smallest number.
            values = self._held_out(fresh, engine) or ({} if self.curve else dict.fromkeys(fresh, 0.0))
        self.curve.update(values)

    def _held_out(self, numbers: Sequence[int], engine: Engine) -> dict[int, float]:
        return held_out(self.starter, numbers, engine, max_iter=self.settings.max_iter, tol=self.settings.tol)

    def _polish(self, r: int) -> None:
        """Run the chosen number, of which only the search's own word is known, to its fixed point in float64."""
        solution = winner(self.problem, merged(self.parts[r]))
        if r > 1:
            solution, _ = improved(self.problem, solution, by_icl=self.choosing and self.criterion == "icl")
        self.solutions[r] = solution
        self.best_objective[r] = solution.objective

    # -------------------------------------------------------------- what was found

    def conclude(self, engine: Engine) -> Outcome:
        """Choose, and describe the choice."""
        best = self.best
        verdict = self._verdict(best, engine)
        chosen = best if verdict is None or verdict.accepted else 1
        if self.coarse and chosen != self.chosen:
            self._polish(chosen)
        check = self._check(chosen, engine)
        solution = self.solutions[chosen]
        labels, responsibilities = _living(solution)
        stats: dict[str, Any] = {
            "log_likelihood": solution.objective
            if self.problem.prior == 0
            else _log_likelihood(self.problem, solution),
            "n_communities": int(labels.max()) + 1,
            "n_requested": chosen,
            "n_iter": solution.n_iter,
            "converged": solution.converged,
            "restart": solution.restart,
            "criterion": dict(sorted(self.curve.items())),
            "log_likelihood_curve": dict(sorted(self.best_objective.items())),
            "held_out": None if check is None else dict(sorted(check.items())),
            "stability": _stability(self.parts[chosen]),
        }
        if verdict is not None:
            stats |= {"null_gain": verdict.null_gain, "n_shuffles": verdict.n_shuffles}
            rows = self._gate_rows()
            if rows is not None:
                stats["null_rows"] = len(rows)
        return Outcome(labels, responsibilities, stats, self._disagreement(chosen, check))

    def _verdict(self, best: int, engine: Engine) -> Verdict | None:
        """Return the gate, where there is a choice between one community and several by ICL."""
        if not (self.choosing and self.criterion == "icl" and best > 1 and 1 in self.curve):
            return None
        rows = self._gate_rows()
        if rows is None:
            material, gain = self.material, self.curve[best] - self.curve[1]
        else:
            # The same question, asked of some of the rows: a gain that is not there on thousands of rows is not real.
            labels = self.solutions[best].labels[rows]
            part = replace(self.problem, table=self.problem.table.take(rows))
            material, gain = self.material.take(rows), exact_icl(part, labels) - exact_icl(part, np.zeros_like(labels))
        numbers = sorted({min(r, len(material.values)) for r in self._null_candidates(best)})
        return judge(gain, lambda k, thorough: self._null_gain(k, material, numbers, thorough, engine))

    def _gate_rows(self) -> NDArray[np.intp] | None:
        """Return the rows the gate looks at; None: all."""
        n = self.problem.table.n_rows
        if not self.coarse or n <= _COARSE_NULL_ROWS:
            return None
        generator = np.random.Generator(np.random.Philox(self.starter.sequence("gate", 0)))
        return np.sort(generator.permutation(n)[:_COARSE_NULL_ROWS])

    def _null_gain(
        self, number: int, material: Material, numbers: Sequence[int], thorough: bool, engine: Engine
    ) -> float:
        """Return the gain of a search on one shuffle."""
        generator = np.random.Generator(np.random.Philox(self.starter.sequence("null", 0, number)))
        settings = self.settings
        if not thorough:
            few = _STRUCTURED_NULL_INITS if settings.init == "structured" else _NULL_INITS
            settings = replace(settings, n_init=min(self.restarts, few))
        if self.coarse:
            settings = replace(settings, max_iter=min(settings.max_iter, _COARSE_NULL_ITERATIONS))
        shuffled = Search(material.shuffled(generator), settings, numbers, coarse=False)
        groups = [unit.group for unit in shuffled.pending()]
        for fits in engine.fit(shuffled.problem, groups, max_iter=settings.max_iter, tol=settings.tol):
            shuffled.add(fits)
        shuffled.evaluate(engine, polish=thorough)
        return max(value for r, value in shuffled.curve.items() if r > 1) - shuffled.curve[1]

    def _null_candidates(self, best: int) -> list[int]:
        """Return the numbers shuffles are searched at, spread over the candidates (where dear: up to the best)."""
        if self.coarse:
            return sorted({1, best, *(r for r in _spread(self.candidates, _COARSE_NULL_STEP) if r < best)})
        return sorted({1, best, *_spread(self.candidates, _NULL_STEP)})

    def _check(self, chosen: int, engine: Engine) -> Mapping[int, float] | None:
        """Held-out rows beside ICL, where they have power and are affordable."""
        least, most = _HELD_OUT_ROWS
        if not self.choosing or self.criterion != "icl" or not least <= self.problem.table.n_rows <= most:
            return None
        return self._held_out(sorted({1, chosen, *_spread(sorted(self.curve), _HELD_OUT_STEP)}), engine)

    def _disagreement(self, chosen: int, check: Mapping[int, float] | None) -> str | None:
        if check is None or 1 not in check or chosen not in check:
            return None
        favourite = max(check, key=lambda r: (check[r], -r))
        if chosen > 1 and check[chosen] < check[1]:
            return (
                f"layer {self.material.name!r}: ICL chose {chosen} communities, but rows left out of the fit are "
                f"better predicted by one ({check[1]:.2f} against {check[chosen]:.2f} nats a row). Take them as weak "
                "evidence: compare seeds and densities (density_sweep), or use criterion='held-out'."
            )
        if chosen == 1 and check[favourite] > check[1] + 1.0:
            return (
                f"layer {self.material.name!r}: ICL finds no communities beyond those of shuffled weights, but rows "
                f"left out of the fit are better predicted by {favourite} ({check[favourite]:.2f} against "
                f"{check[1]:.2f} nats a row). Groups may follow degree rather than shared partners; "
                "likelihood='multinomial' discounts degree."
            )
        return None


def _living(solution: Solution) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and responsibilities, shape (n_rows, n_communities), without components that no row prefers."""
    raw = solution.responsibilities.argmax(axis=0)
    labels = first_appearance(raw)
    order = [int(raw[labels == k][0]) for k in range(int(labels.max()) + 1)]
    shares = solution.responsibilities[order].T
    return labels, shares / shares.sum(axis=1, keepdims=True)


def _log_likelihood(problem: Problem, solution: Solution) -> float:
    """Log-likelihood alone, where the objective has a prior in it."""
    from innersight_graph.engines.numpy import ArrayEngine

    engine = ArrayEngine()
    _, log_prior = engine.log_joint(problem, solution.responsibilities[None])
    _, objective = engine.step(problem, solution.responsibilities[None])
    return float(objective[0] - log_prior[0])


def _stability(parts: Sequence[Fits]) -> float | None:
    """Agreement between the best restarts, deterministic starts included."""
    fits = merged(parts)
    order = np.argsort(-fits.objective, kind="stable")[:_BEST_STARTS]
    return stability([fits.labels[i] for i in order])


def _spread(candidates: Sequence[int], factor: float) -> list[int]:
    """Return the first, the last, and between them each that exceeds the one before by a factor."""
    chosen, last = [candidates[0]], candidates[0]
    for r in candidates[1:]:
        if r >= factor * last:
            chosen.append(r)
            last = r
    return sorted({*chosen, candidates[-1]})


def _around(candidates: Sequence[int], curve: Mapping[int, float]) -> list[int]:
    """Halfway between the best number and its neighbours among those tried, as long as there is something between."""
    tried = sorted(curve)
    best = max(curve, key=lambda r: (curve[r], -r))
    place = tried.index(best)
    result = []
    for other in tried[max(0, place - 1) : place + 2]:
        between = [r for r in candidates if min(best, other) < r < max(best, other)]
        if between:
            result.append(between[len(between) // 2])
    return result
