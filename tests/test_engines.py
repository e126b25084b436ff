"""The engines against loops, against each other, and against what EM promises."""

from __future__ import annotations

import math
import sys
import types
import warnings

import numpy as np
import pytest

from innersight_graph.engines import BinaryTable, Group, Problem, resolve_engine
from innersight_graph.engines.base import EPSILON, Ledger, first_appearance
from innersight_graph.engines.numpy import ArrayEngine
from innersight_graph.engines.torch import TorchEngine
from innersight_graph.errors import InputError, MissingExtraError


def planted(n, M, c, seed, strength=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(c, size=n)
    logits = rng.normal(-1.0, 0.5, size=M)[None] + strength * rng.normal(size=(c, M))
    return rng.random((n, M)) < 1.0 / (1.0 + np.exp(-logits[truth])), truth


def dirichlet(n, r, seed):
    q = np.random.default_rng(seed).exponential(size=(r, n))
    return q / q.sum(axis=0)


def drawn(n, r, seed=0):
    return lambda restarts: np.stack([dirichlet(n, r, [seed, r, k]) for k in restarts]).astype(np.float32)


def naive_iteration(X, mask, q):
    """Eq. 5-8, then Eq. 4, entry by entry in Python floats."""
    r, n = len(q), len(X)
    joint = [[0.0] * n for _ in range(r)]
    for k in range(r):
        mass = sum(q[k])
        for i in range(n):
            value = math.log(mass / n)
            for j in range(len(X[0])):
                if mask is not None and not mask[i][j]:
                    continue
                seen = [t for t in range(n) if mask is None or mask[t][j]]
                weight = sum(q[k][t] for t in seen)
                hits = sum(q[k][t] for t in seen if X[t][j])
                share = hits if X[i][j] else weight - hits
                value += math.log(max(share, EPSILON * weight) / weight)
            joint[k][i] = value
    log_likelihood = 0.0
    new = [[0.0] * n for _ in range(r)]
    for i in range(n):
        peak = max(joint[k][i] for k in range(r))
        total = sum(math.exp(joint[k][i] - peak) for k in range(r))
        log_likelihood += peak + math.log(total)
        for k in range(r):
            new[k][i] = math.exp(joint[k][i] - peak) / total
    return new, log_likelihood


@pytest.mark.parametrize("masked", [False, True])
def test_equals_a_loop_over_equation_8(masked):
    X, _ = planted(9, 14, 2, 0)
    X[:, 3] = X[:, 5]
    X[:, 4] = ~X[:, 5]
    mask = np.random.default_rng(1).random(X.shape) < 0.8 if masked else None
    if masked:
        mask[0] = True
        X &= mask
    problem = Problem(BinaryTable.from_array(X, mask))
    q = dirichlet(9, 3, 2)
    naive, engine = q.tolist(), q[None]
    for _ in range(6):
        naive, expected = naive_iteration(X.tolist(), None if mask is None else mask.tolist(), naive)
        engine, value = ArrayEngine().step(problem, engine)
        assert value[0] == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(engine[0], naive, atol=1e-10)


def test_four_matrices_side_by_side_are_the_product_of_the_paper():
    rng = np.random.default_rng(3)
    parts = [rng.random((12, width)) < 0.4 for width in (5, 5, 7, 7)]
    q = dirichlet(12, 3, 4)
    side_by_side = Problem(BinaryTable.from_array(np.hstack(parts)))
    joint, _ = ArrayEngine().log_joint(side_by_side, q[None])
    log_weight = np.log(q.sum(axis=1) / 12)[:, None]
    product = log_weight.copy()
    for part in parts:
        alone, _ = ArrayEngine().log_joint(Problem(BinaryTable.from_array(part)), q[None])
        product = product + alone[0] - log_weight
    np.testing.assert_allclose(joint[0], product, atol=1e-10)


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
@pytest.mark.parametrize("prior", [0.0, 3.0])
@pytest.mark.parametrize("masked", [False, True])
def test_the_objective_never_falls(likelihood, prior, masked):
    X, _ = planted(30, 40, 3, 5)
    mask = np.random.default_rng(6).random(X.shape) < 0.7 if masked else None
    groups = np.arange(40) // 20
    problem = Problem(BinaryTable.from_array(X, mask, likelihood=likelihood, groups=groups), likelihood, prior)
    q = drawn(30, 4)((0, 1, 2)).astype(np.float64)
    last = np.full(3, -np.inf)
    for _ in range(60):
        q, value = ArrayEngine().step(problem, q)
        assert (value >= last - 1e-9 * np.abs(value)).all()
        last = value


def test_one_component_is_the_column_means():
    X, _ = planted(20, 10, 2, 7)
    problem = Problem(BinaryTable.from_array(X))
    _, value = ArrayEngine().step(problem, np.ones((1, 1, 20)))
    p = X.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(X, np.log(p), np.log(1 - p))
    assert value[0] == pytest.approx(np.where(np.isfinite(expected), expected, 0.0).sum())


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("prior", [0.0, 2.0])
def test_torch_walks_the_same_paths(likelihood, masked, prior):
    X, _ = planted(40, 90, 4, 8)
    mask = np.random.default_rng(9).random(X.shape) < 0.8 if masked else None
    table = BinaryTable.from_array(X, mask, likelihood=likelihood, groups=np.arange(90) // 30)
    problem = Problem(table, likelihood, prior)
    groups = [Group(r, tuple(range(20)), drawn(40, r)) for r in (2, 3, 6)]
    reference = ArrayEngine().fit(problem, groups, max_iter=200, tol=1e-7)
    fast = TorchEngine().fit(problem, groups, max_iter=200, tol=1e-7)
    for a, b in zip(reference, fast, strict=True):
        same = [np.array_equal(x, y) for x, y in zip(a.labels, b.labels, strict=True)]
        assert np.mean(same) >= 0.95
        np.testing.assert_allclose(a.objective[same], b.objective[same], rtol=1e-5)
        assert list(a.leaders) == list(b.leaders)


@pytest.mark.parametrize("columns", [1, 7, 64, 512])
@pytest.mark.parametrize("memory", [40_000, 1 << 29])
def test_pieces_and_refills_change_nothing(columns, memory):
    X, _ = planted(40, 90, 4, 10)
    problem = Problem(BinaryTable.from_array(X))
    groups = [Group(5, tuple(range(30)), drawn(40, 5))]
    plain = TorchEngine().fit(problem, groups, max_iter=200, tol=1e-7)[0]
    cut = TorchEngine(columns=columns, memory=memory).fit(problem, groups, max_iter=200, tol=1e-7)[0]
    np.testing.assert_array_equal(plain.labels, cut.labels)
    np.testing.assert_allclose(plain.objective, cut.objective, rtol=1e-6)


def test_padding_of_packed_groups_changes_nothing():
    X, _ = planted(40, 90, 4, 11)
    problem = Problem(BinaryTable.from_array(X))
    groups = [Group(r, tuple(range(10)), drawn(40, r)) for r in range(2, 9)]
    engine = TorchEngine()
    alone = [engine.fit(problem, [group], max_iter=200, tol=1e-7)[0] for group in groups]
    engine.pack = (1 << 30, 1e9)
    packed = engine.fit(problem, groups, max_iter=200, tol=1e-7)
    for a, b in zip(alone, packed, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)


def test_forced_iterations_are_all_run_and_change_no_label():
    X, _ = planted(48, 300, 4, 12)
    problem = Problem(BinaryTable.from_array(X))
    groups = [Group(r, tuple(range(50)), drawn(48, r)) for r in (2, 4, 8)]
    for stopped, forced in zip(
        TorchEngine().fit(problem, groups, max_iter=200, tol=1e-7),
        TorchEngine().fit(problem, groups, max_iter=200, tol=-1.0),
        strict=True,
    ):
        assert (forced.n_iter == 200).all()
        assert stopped.converged.all()
        assert np.mean([np.array_equal(a, b) for a, b in zip(stopped.labels, forced.labels, strict=True)]) >= 0.99


def test_merging_columns_is_exact():
    rng = np.random.default_rng(13)
    base = rng.random((25, 12)) < 0.4
    X = np.hstack([base, base[:, :5], ~base[:, 3:8], np.zeros((25, 2), bool), np.ones((25, 1), bool)])
    merged, plain = BinaryTable.from_array(X), BinaryTable.from_array(X, merge=False)
    assert merged.n_columns == 12
    assert merged.multiplicity.sum() == 22
    q = drawn(25, 3)((0, 1)).astype(np.float64)
    for _ in range(5):
        a, value = ArrayEngine().step(Problem(merged), q)
        b, expected = ArrayEngine().step(Problem(plain), q)
        np.testing.assert_allclose(a, b, atol=1e-10)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        q = a


def test_tables_unpack_block_by_block():
    X, _ = planted(13, 50, 2, 14)
    mask = np.random.default_rng(0).random(X.shape) < 0.9
    table = BinaryTable.from_array(X, mask, merge=False)
    for width in (8, 16, 64):
        blocks = list(table.blocks(width=width))
        np.testing.assert_array_equal(np.hstack([block.values for block in blocks]) > 0, X & mask)
        np.testing.assert_array_equal(np.hstack([block.observed for block in blocks]) > 0, mask)
    np.testing.assert_allclose(table.column_means(), (X & mask).sum(axis=0) / mask.sum(axis=0))


@pytest.mark.parametrize(
    ("X", "said"),
    [
        (np.array([[0.0, np.nan]]), r"X\[0, 1\] is nan"),
        (np.array([[0, 1], [2, 0]]), r"X\[1, 0\] is 2"),
        (np.zeros(3), "shape"),
        (np.zeros((0, 3)), "at least one row"),
        (np.array([["a"]]), "dtype"),
    ],
)
def test_tables_refuse_what_is_not_binary(X, said):
    with pytest.raises(InputError, match=said):
        BinaryTable.from_array(X)


def test_mask_and_groups_must_fit():
    with pytest.raises(InputError, match="mask has shape"):
        BinaryTable.from_array(np.eye(3), np.ones((3, 2)))
    with pytest.raises(InputError, match="groups has shape"):
        BinaryTable.from_array(np.eye(3), groups=[0, 1])


def test_the_ledger_keeps_the_best_and_the_lowest_of_equal_groupings():
    ledger = Ledger(Group(2, (0, 1, 2, 3), lambda restarts: None), 4)
    for restart, value, labels in (
        (2, -10.0, [0, 0, 1, 1]),
        (1, -10.0, [1, 1, 0, 0]),
        (0, -50.0, [0, 1, 0, 1]),
        (3, -10.00001, [0, 1, 1, 1]),
    ):
        if ledger.record(restart, value, 1, True, np.array(labels)):
            ledger.keep(restart, np.full((2, 4), restart))
    assert list(ledger.close().leaders) == [1, 3]
    assert first_appearance(np.array([1, 1, 0, 0])).tolist() == [0, 0, 1, 1]


def test_engine_names():
    assert resolve_engine("numpy").name == "numpy"
    assert resolve_engine("torch").name == "torch"
    engine = ArrayEngine()
    assert resolve_engine(engine) is engine
    for wrong in ("fortran", "numpy:cuda", "torch:nonsense"):
        with pytest.raises(InputError, match="engine"):
            resolve_engine(wrong)
    with pytest.raises(InputError, match="a name"):
        resolve_engine(3)


def test_missing_devices_are_named():
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="CUDA device"):
            resolve_engine("torch:cuda")
    try:
        import cupy  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match="cuda12"):
            resolve_engine("cupy")


def test_auto_does_not_load_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    assert resolve_engine("auto").name == "numpy"


def test_cupy_engine_is_the_reference_on_its_arrays(monkeypatch):
    """Without a device, a stand-in whose arrays are NumPy's shows that nothing but the array library is used."""
    stand_in = types.ModuleType("cupy")
    stand_in.__dict__.update({name: getattr(np, name) for name in dir(np) if not name.startswith("__")})
    stand_in.asnumpy = np.asarray
    freed = []
    stand_in.get_default_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: freed.append(True))
    stand_in.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=RuntimeError),
        memory=types.SimpleNamespace(OutOfMemoryError=NoMemoryError),
    )
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    X, _ = planted(20, 30, 3, 15)
    problem = Problem(BinaryTable.from_array(X))
    groups = [Group(3, (0, 1, 2), drawn(20, 3))]
    a = resolve_engine("cupy").fit(problem, groups, max_iter=50, tol=1e-7)[0]
    b = ArrayEngine().fit(problem, groups, max_iter=50, tol=1e-7)[0]
    np.testing.assert_array_equal(a.objective, b.objective)

    # A device that is full: three tries, each after freeing what the one before held, then the CPU.
    def full(array, dtype=None):
        raise NoMemoryError("out of memory allocating 1,024 bytes")

    stand_in.asarray = full
    with pytest.warns(RuntimeWarning, match="engine='cupy' ran out of memory") as said:
        c = resolve_engine("cupy").fit(problem, groups, max_iter=50, tol=1e-7)[0]
    assert ["on the CPU" in str(w.message) for w in said] == [False, False, True]
    assert len(freed) == 2
    np.testing.assert_array_equal(c.objective, b.objective)


class NoMemoryError(MemoryError):
    """What CuPy's error is a subclass of."""


class FakeDevice(TorchEngine):
    """The torch engine's way on a device, its tensors kept on the CPU, with so many bytes of memory free."""

    def __init__(self, monkeypatch, free, usable=math.inf):
        super().__init__()
        import innersight_graph.engines.torch as module

        monkeypatch.setattr(module, "_free_memory", lambda device: free)
        monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
        self.name, self.usable, self.budgets = "torch:cuda", usable, []
        self.host, self.device = self.device, types.SimpleNamespace(type="cuda")

    def _fit(self, problem, groups, max_iter, tol, share):
        import torch

        budget = self._budget(problem, share)
        self.budgets.append(budget)
        if budget.state > self.usable:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        device, self.device = self.device, self.host
        self._budget = lambda problem, share: budget
        try:
            return super()._fit(problem, groups, max_iter, tol, share)
        finally:
            self.device = device
            del self._budget


def test_a_full_device_gets_smaller_batches_and_then_the_cpu(monkeypatch):
    X, _ = planted(40, 90, 4, 17)
    problem = Problem(BinaryTable.from_array(X))
    groups = [Group(r, tuple(range(20)), drawn(40, r)) for r in (3, 5)]
    expected = TorchEngine().fit(problem, groups, max_iter=200, tol=1e-7)
    for free, usable, tries in ((1 << 30, math.inf, 1), (1 << 22, 1 << 19, 2), (1 << 22, 0, 3)):
        engine = FakeDevice(monkeypatch, free, usable)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = engine.fit(problem, groups, max_iter=200, tol=1e-7)
        assert len(engine.budgets) == tries
        assert len(said) == tries - (usable > 0)
        assert all("torch:cuda' ran out of memory" in str(w.message) for w in said)
        assert ("on the CPU" in str(said[-1].message)) == (usable == 0) if said else True
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a.labels, b.labels)
            np.testing.assert_allclose(a.objective, b.objective, rtol=1e-6)


def test_a_device_is_asked_for_its_memory(monkeypatch):
    X, _ = planted(64, 1000, 4, 18)
    problem = Problem(BinaryTable.from_array(X, merge=False))
    table = 4 * 64 * 1000
    for free in (1 << 18, 1 << 20, 1 << 24, 1 << 34):
        engine = FakeDevice(monkeypatch, free)
        budgets = [engine._budget(problem, share) for share in (1.0, 0.25)]
        for budget, share in zip(budgets, (1.0, 0.25), strict=True):
            assert budget.resident == (table <= free * share / 2)
            held = budget.state + (table if budget.resident else 0)
            pieces = 16 * budget.columns * 1000
            assert held + (pieces if budget.columns > 64 else 0) <= free * share
        assert budgets[1].columns <= budgets[0].columns <= 16_384


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["torch:cuda", "cupy"])
def test_devices_find_the_same_winner(name):
    if name == "cupy":
        pytest.importorskip("cupy")
    X, _ = planted(128, 400, 6, 16)
    problem = Problem(BinaryTable.from_array(X))
    groups = [Group(r, tuple(range(50)), drawn(128, r)) for r in (2, 6, 12)]
    for a, b in zip(
        ArrayEngine().fit(problem, groups, max_iter=200, tol=1e-7),
        resolve_engine(name).fit(problem, groups, max_iter=200, tol=1e-7),
        strict=True,
    ):
        assert list(a.leaders) == list(b.leaders)
        assert np.mean([np.array_equal(x, y) for x, y in zip(a.labels, b.labels, strict=True)]) >= 0.95


@pytest.mark.gpu
def test_a_real_device_that_is_full_says_so_and_finds_the_same():
    import torch

    X, _ = planted(512, 20_000, 6, 19)
    problem = Problem(BinaryTable.from_array(X))
    groups = [Group(6, tuple(range(20)), drawn(512, 6))]
    expected = TorchEngine().fit(problem, groups, max_iter=50, tol=1e-7)[0]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.0002)
    try:
        with pytest.warns(RuntimeWarning, match="ran out of memory"):
            found = TorchEngine("cuda").fit(problem, groups, max_iter=50, tol=1e-7)[0]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert list(found.leaders) == list(expected.leaders)


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize(
    "X",
    [np.zeros((6, 4)), np.ones((6, 4)), np.ones((1, 3)), np.repeat(np.eye(3), 2, axis=0), np.eye(6), np.zeros((4, 0))],
    ids=["zeros", "ones", "one-row", "equal-rows", "identity", "no-columns"],
)
def test_degenerate_tables_give_finite_results(engine, X):
    problem = Problem(BinaryTable.from_array(X))
    groups = [Group(r, (0, 1, 2), drawn(len(X), r)) for r in range(1, len(X) + 3)]
    for fits in resolve_engine(engine).fit(problem, groups, max_iter=100, tol=1e-7):
        assert np.isfinite(fits.objective).all()
        assert all(np.isfinite(state).all() for state in fits.leaders.values())
