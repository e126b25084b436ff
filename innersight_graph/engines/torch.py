"""The fast engine: every restart a few columns of one matrix, float32, on CPU or CUDA.

Three things make it fast, none of which changes where a restart ends:

* **A community that stands still is not computed again.** Its responsibilities decide its parameters and its parameters
  decide its column of the E-step; while no entry has moved by more than `tol`, both are kept. With many features
  posteriors become one-hot after two or three iterations and most communities stand still long before their restart
  ends.
* **Columns of all restarts share one matrix product**, cut into pieces that stay in cache; restarts that end make room
  for the next ones.
* **Logarithms in NumPy** (AVX-512) and products in oneDNN on the CPU, both in true float32; plain torch elsewhere.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from innersight_graph.engines.base import EPSILON, Fits, Group, Ledger
from innersight_graph.engines.numpy import prior_means
from innersight_graph.engines.table import Problem
from innersight_graph.errors import InputError
from innersight_graph.memory import with_less_memory

__all__ = ["TorchEngine"]

_TINY = 1e-30
# Groups share a batch up to so many responsibilities, padding included; beyond the first number only if their numbers
# of components are within the ratio of one another.
_FREE_ENTRIES, _PACKED_ENTRIES, _PADDING = 1 << 15, 1 << 17, 1.7


# Rows between two communities never come to rest in float32: rounding of their densities moves them from state to state
# for ever. After so many iterations a change that such a rounding explains counts as none.
_PATIENCE, _ROUNDING = 25, 2.0**-21


class TorchEngine:
    """Batched EM in float32.

    Parameters
    ----------
    device : str
        "cpu", "cuda" or "cuda:N".
    columns : int, optional
        Columns (communities of all restarts) per matrix product. Default: 128 on the CPU; on CUDA what fits, at most
        16 384.
    memory : int, optional
        Bytes for the state of restarts that run together. Default: 512 MiB; on CUDA a third of what is free.

    Notes
    -----
    Cost: at most 4 n M r multiply-adds per restart and iteration. Memory: state (five arrays restarts x r x n), one
    table or block of it, and four pieces `columns` x M. A device that runs out of memory is tried again with smaller
    batches, then left for the CPU, with a warning.

    Raises
    ------
    InputError
        If the device does not exist.
    """

    def __init__(self, device: str = "cpu", *, columns: int | None = None, memory: int | None = None) -> None:
        try:
            self.device = torch.device(device)
        except RuntimeError as error:
            raise InputError(
                f"engine 'torch:{device}' names no torch device; use 'torch', 'torch:cuda' or 'torch:cuda:0'."
            ) from error
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "engine 'torch:cuda' needs a CUDA device, and torch finds none. Use engine='auto' or 'torch'."
            )
        on_gpu = self.device.type != "cpu"
        self.columns, self.memory = columns, memory
        # Batching different numbers of components saves calls and costs padding: on CUDA calls are what is dear.
        self.pack = (1 << 24, 1 << 24) if on_gpu else (_PACKED_ENTRIES, _PADDING)
        self.name = "torch" if self.device.type == "cpu" else f"torch:{device}"

    def fit(self, problem: Problem, groups: Sequence[Group], *, max_iter: int, tol: float) -> list[Fits]:
        """Run every group; see `innersight_graph.engines.base.Engine`."""

        def here(share: float = 1.0) -> list[Fits]:
            if share < 1.0:
                torch.cuda.empty_cache()
            return self._fit(problem, groups, max_iter, tol, share)

        if self.device.type == "cpu":
            return here()
        return with_less_memory(
            here,
            lambda: TorchEngine().fit(problem, groups, max_iter=max_iter, tol=tol),
            lambda error: isinstance(error, torch.OutOfMemoryError),
            said=f"engine='{self.name}' ran out of memory: the search is repeated",
            instead="free memory on the device, or pass engine='torch'",
            stacklevel=2,
        )

    def _fit(self, problem: Problem, groups: Sequence[Group], max_iter: int, tol: float, share: float) -> list[Fits]:
        budget = self._budget(problem, share)
        ledgers = [Ledger(group, problem.table.n_rows) for group in groups]
        with torch.inference_mode(), _true_float32():
            evaluate = _Columns(problem, self.device, budget)
            for together in _packs(ledgers, problem.table.n_rows, self.pack):
                self._search(evaluate, together, max_iter, tol, budget.state)
        return [ledger.close() for ledger in ledgers]

    def _budget(self, problem: Problem, share: float) -> _Budget:
        """Return what may be held at a time, with this share of the device's free memory."""
        table = problem.table
        if self.device.type == "cpu":
            return _Budget(self.columns or 128, self.memory or 1 << 29, table.kept(np.float32))
        free = _free_memory(self.device) * share
        whole = 4 * table.n_rows * table.n_columns * (1 if table.observed_bits is None else 2)
        resident = whole <= free / 2
        left = free - whole if resident else free / 2
        columns = int((self.columns or 16_384) * share)
        return _Budget(
            max(64, min(columns, int(left / 3 / (16 * max(table.n_columns, 1))))),
            int(self.memory * share) if self.memory else int(left / 3),
            resident,
        )

    def _search(self, evaluate: _Columns, ledgers: list[Ledger], max_iter: int, tol: float, state: int) -> None:
        width = max(ledger.group.n_components for ledger in ledgers)
        n = evaluate.n_rows
        capacity = max(1, state // (20 * width * n))
        queue = _pieces(ledgers, capacity)
        batch = _Batch.empty(width, n, self.device)
        waiting = True
        while waiting or len(batch):
            fresh: list[_Batch] = []
            while waiting and len(batch) + sum(map(len, fresh)) <= capacity // 2:
                piece = next(queue, None)
                waiting = piece is not None
                if piece is not None:
                    fresh.append(_Batch.drawn(*piece, width, self.device))
            batch = _Batch.joined([batch, *fresh])
            if len(batch):
                batch = self._iterate(evaluate, batch, max_iter, tol)

    def _iterate(self, evaluate: _Columns, batch: _Batch, max_iter: int, tol: float) -> _Batch:
        """One EM iteration of every restart of the batch; those that ended are recorded and leave it."""
        rows = batch.moved.view(-1).nonzero().squeeze(1)
        q = batch.q.view(-1, evaluate.n_rows).index_select(0, rows)
        batch.known.view(-1, evaluate.n_rows).index_copy_(0, rows, q)
        density, log_prior = evaluate(q)
        batch.density.view(-1, evaluate.n_rows).index_copy_(0, rows, density)
        batch.log_prior.view(-1).index_copy_(0, rows, log_prior)
        batch.weigh_in()
        batch.q = torch.softmax(batch.joint, dim=1)
        batch.iterations += 1
        change = (batch.q - batch.known).abs_()
        late = (batch.iterations > _PATIENCE).nonzero().squeeze(1).to(self.device)
        if len(late):
            q = batch.q[late]
            change[late] -= _ROUNDING * batch.density[late].abs_() * q * (1.0 - q)
        batch.moved = (change.amax(dim=2) > tol) & batch.valid
        still = ~batch.moved.any(dim=1)
        over = batch.iterations >= max_iter
        ended = (still.cpu() | over).nonzero().squeeze(1)
        if not len(ended):
            return batch
        self._record(batch, ended, still)
        return batch.selected((~still.cpu() & ~over).nonzero().squeeze(1))

    @staticmethod
    def _record(batch: _Batch, ended: Tensor, still: Tensor) -> None:
        on_device = ended.to(batch.q.device)
        joint = batch.joint.index_select(0, on_device)
        objective = torch.logsumexp(joint, dim=1).sum(dim=1, dtype=torch.float64)
        objective += batch.log_prior.index_select(0, on_device).sum(dim=1, dtype=torch.float64)
        labels = joint.argmax(dim=1).cpu().numpy()
        values = objective.tolist()
        steps, converged = batch.iterations[ended].tolist(), still.cpu()[ended].tolist()
        places = ended.tolist()
        owners = [batch.owners[place] for place in places]
        promising = [
            i
            for i, (ledger, restart) in enumerate(owners)
            if ledger.record(restart, values[i], steps[i], converged[i], labels[i])
        ]
        # One transfer for all of them: on a device each costs as much as several products.
        kept = batch.q[[places[i] for i in promising]].cpu().numpy()
        for i, q in zip(promising, kept, strict=True):
            ledger, restart = owners[i]
            ledger.keep(restart, q[: ledger.group.n_components].copy())


def _packs(ledgers: list[Ledger], n_rows: int, most: tuple[int, float]) -> Iterator[list[Ledger]]:
    """Return groups of starts, by number of components, that are worth one batch."""
    entries, padding = most
    pack: list[Ledger] = []
    for ledger in sorted(ledgers, key=lambda one: one.group.n_components):
        r = ledger.group.n_components
        restarts = sum(len(one.group.restarts) for one in pack) + len(ledger.group.restarts)
        size = restarts * r * n_rows
        if pack and (size > entries or (size > _FREE_ENTRIES and r > padding * pack[0].group.n_components)):
            yield pack
            pack = []
        pack.append(ledger)
    if pack:
        yield pack


def _pieces(ledgers: list[Ledger], capacity: int) -> Iterator[tuple[Ledger, tuple[int, ...]]]:
    """Blocks of restarts in order, none larger than fits."""
    for ledger in ledgers:
        restarts = ledger.group.restarts
        for start in range(0, len(restarts), capacity):
            yield ledger, restarts[start : start + capacity]


@dataclass
class _Batch:
    """Restarts that run together; arrays are (restarts, components, rows) unless said.

    `known` holds the responsibilities that `density` (log p(x_i | k)) was computed from.
    """

    q: Tensor
    known: Tensor
    density: Tensor
    joint: Tensor
    log_prior: Tensor  # (restarts, components)
    valid: Tensor  # (restarts, components), False where a smaller restart is padded
    moved: Tensor  # (restarts, components), True where the density is out of date
    iterations: Tensor  # (restarts,), on the host
    owners: list[tuple[Ledger, int]]

    @classmethod
    def drawn(cls, ledger: Ledger, restarts: tuple[int, ...], width: int, device: torch.device) -> _Batch:
        """Fresh restarts of one group."""
        r = ledger.group.n_components
        start = torch.from_numpy(np.ascontiguousarray(ledger.group.draw(restarts), dtype=np.float32)).to(device)
        if r == width:
            q = start
        else:
            q = torch.zeros((len(restarts), width, start.shape[2]), device=device)
            q[:, :r] = start
        valid = torch.zeros((len(restarts), width), dtype=torch.bool, device=device)
        valid[:, :r] = True
        flat = torch.zeros((len(restarts), width), device=device)
        counts = torch.zeros(len(restarts), dtype=torch.int64)
        owners = [(ledger, restart) for restart in restarts]
        return cls(q, torch.full_like(q, 2.0), torch.zeros_like(q), q, flat, valid, valid, counts, owners)

    @classmethod
    def joined(cls, batches: Sequence[_Batch]) -> _Batch:
        """Several batches as one; empty ones do not count."""
        batches = [batch for batch in batches if len(batch)] or list(batches[:1])
        if len(batches) == 1:
            return batches[0]
        parts = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in _STATE}
        return cls(owners=[owner for batch in batches for owner in batch.owners], **parts)

    @classmethod
    def empty(cls, width: int, n_rows: int, device: torch.device) -> _Batch:
        """No restarts."""
        state = torch.empty((0, width, n_rows), device=device)
        flat = torch.empty((0, width), device=device)
        return cls(state, state, state, state, flat, flat.bool(), flat.bool(), torch.empty(0, dtype=torch.int64), [])

    def __len__(self) -> int:
        return len(self.owners)

    def selected(self, places: Tensor) -> _Batch:
        """Only the restarts at these places (on the host)."""
        on_device = places.to(self.q.device)
        parts = {
            name: getattr(self, name).index_select(0, places if name == "iterations" else on_device) for name in _STATE
        }
        return _Batch(owners=[self.owners[i] for i in places.tolist()], **parts)

    def weigh_in(self) -> None:
        """Joint = density + log pi, with pi from the responsibilities of this iteration (Eq. 5)."""
        log_weight = (self.q.sum(dim=2) / self.q.shape[2]).log_().masked_fill_(~self.valid, -math.inf)
        self.joint = self.density + log_weight[:, :, None]


_STATE = ("q", "known", "density", "joint", "log_prior", "valid", "moved", "iterations")


class _Budget(NamedTuple):
    """What a search may hold at a time."""

    columns: int  # in one matrix product
    state: int  # bytes of restarts that run together
    resident: bool  # whether the whole unpacked table stays on the device


class _Operands(NamedTuple):
    """One block of the table on the device, and what the M-step needs to know about its columns."""

    values: Tensor
    observed: Tensor | None
    means: Tensor
    multiplicity: Tensor | None
    groups: Tensor


class _Columns:
    """log p(x_i | k) of many communities at once: M-step and E-step of each, piece by piece."""

    def __init__(self, problem: Problem, device: torch.device, budget: _Budget) -> None:
        table = problem.table
        self.n_rows = table.n_rows
        self.table, self.device, self.width = table, device, budget.columns
        self.prior = problem.prior
        self.means = torch.from_numpy(prior_means(problem).astype(np.float32)).to(device)
        self.density = {"bernoulli": self._bernoulli, "multinomial": self._multinomial}[problem.likelihood]
        self.degrees = None
        if problem.likelihood == "multinomial":
            self.degrees = torch.from_numpy(table.group_degrees().astype(np.float32)).to(device)
        self.product = _product(device)
        self.log_ = _log_ if device.type == "cpu" else torch.Tensor.log_
        self.operands = list(self._blocks()) if budget.resident else None

    def _blocks(self) -> Iterator[_Operands]:
        table = self.table
        for columns, host_values, host_observed in table.blocks(np.float32):
            values = torch.from_numpy(host_values).to(self.device)
            observed = None if host_observed is None else torch.from_numpy(host_observed).to(self.device)
            multiplicity = None
            if table.merged:
                multiplicity = torch.from_numpy(table.multiplicity[columns].astype(np.float32)).to(self.device)
            groups = torch.from_numpy(table.groups[columns]).to(self.device)
            yield _Operands(values, observed, self.means[columns], multiplicity, groups)

    def __call__(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Densities (columns, n_rows) and log-priors (columns,) of responsibilities (columns, n_rows)."""
        total = torch.zeros_like(q)
        log_prior = torch.zeros(len(q), device=self.device)
        mass = q.sum(dim=1, keepdim=True)
        shares = q / (mass + self.prior).clamp_min_(_TINY)
        for block in self.operands if self.operands is not None else self._blocks():
            for start in range(0, len(q), self.width):
                piece = slice(start, start + self.width)
                self.density(block, q[piece], shares[piece], mass[piece], total[piece], log_prior[piece])
        return total, log_prior

    def _bernoulli(
        self, block: _Operands, q: Tensor, shares: Tensor, mass: Tensor, total: Tensor, log_prior: Tensor
    ) -> None:
        product = self.product
        if block.observed is None:
            hit = product(shares, block.values.T)
            if self.prior:
                hit.addcmul_(self.prior / (mass + self.prior), block.means)
        else:
            weight = product(q, block.observed.T) + self.prior
            hit = product(q, block.values.T)
            if self.prior:
                hit += self.prior * block.means
            hit = torch.where(weight > _TINY, hit / weight.clamp_min(_TINY), 0.5)
        miss = torch.sub(1.0, hit)
        self.log_(hit.clamp_(min=EPSILON))
        self.log_(miss.clamp_(min=EPSILON))
        if block.multiplicity is not None:
            hit.mul_(block.multiplicity)
            miss.mul_(block.multiplicity)
        if self.prior:
            log_prior += self.prior * (hit @ block.means + miss @ (1.0 - block.means))
        total += miss.sum(dim=1, keepdim=True) if block.observed is None else product(miss, block.observed)
        total += product(hit.sub_(miss), block.values)

    def _multinomial(
        self, block: _Operands, q: Tensor, shares: Tensor, mass: Tensor, total: Tensor, log_prior: Tensor
    ) -> None:
        assert self.degrees is not None
        weight = (q @ self.degrees + self.prior).clamp_min_(_TINY)[:, block.groups]
        hit = self.product(q, block.values.T)
        if self.prior:
            hit += self.prior * block.means
        self.log_(hit.div_(weight).clamp_(min=EPSILON))
        if block.multiplicity is not None:
            hit.mul_(block.multiplicity)
        if self.prior:
            log_prior += self.prior * (hit @ block.means)
        total += self.product(hit, block.values)


def _free_memory(device: torch.device) -> int:
    """Bytes a device has free."""
    return int(torch.cuda.mem_get_info(device)[0])


@contextmanager
def _true_float32() -> Iterator[None]:
    """Switch off the shortened products a user may have allowed: early iterations do not survive them."""
    with warnings.catch_warnings():
        # torch 2.9 announces another way to say this, which it does not have for every device.
        warnings.filterwarnings("ignore", message="Please use the new API settings", category=UserWarning)
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Please use the new API settings", category=UserWarning)
            torch.set_float32_matmul_precision(before)


def _log_(values: Tensor) -> Tensor:
    """Logarithm in place, by NumPy: its float32 loop is about three times as fast as torch's on the CPU."""
    array = values.numpy()
    np.log(array, out=array)
    return values


def _product(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """`product(a, b) = a @ b.T` in true float32, by oneDNN where torch would take a slower library."""
    fused = getattr(getattr(torch.ops, "mkldnn", None), "_linear_pointwise", None)
    if device.type != "cpu" or fused is None or not torch.backends.mkldnn.is_available():
        return lambda a, b: torch.mm(a, b.T)

    def product(a: Tensor, b: Tensor) -> Tensor:
        if a.shape[0] < 32 or min(b.shape) < 48:
            return torch.mm(a, b.T)
        result: Tensor = fused(a, b, None, "none", [], "")
        return result

    return product
