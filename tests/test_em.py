"""em_communities on graphs: planted truth, the choice of r, determinism, interruption, checkpoints, workers."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import warnings

import networkx as nx
import numpy as np
import pytest

import innersight_graph as isg
from innersight_graph.detection.em import PartialResultWarning, SelectionWarning, em_communities
from innersight_graph.engines.torch import TorchEngine
from innersight_graph.errors import InputError
from innersight_graph.mixture.criteria import adjusted_rand
from innersight_graph.mixture.starts import INITS


def layered(widths, seed=0, weights=None, attributes=None):
    rng = np.random.default_rng(seed)
    names = ["input", *(f"fc{i}" for i in range(1, len(widths) - 1)), "output"]
    layers = [isg.Layer(name, i, width, "linear") for i, (name, width) in enumerate(zip(names, widths, strict=True))]
    if weights is None:
        weights = [rng.normal(size=(a, b)) for a, b in itertools.pairwise(widths)]
    connections = {pair: w.astype("f4") for pair, w in zip(itertools.pairwise(names), weights, strict=True)}
    return isg.LayeredDiGraph.from_arrays(layers, connections, node_attributes=attributes)


def planted(widths, c, seed, noise=0.6, attributes=None):
    """Weights whose signs follow the communities of both ends."""
    rng = np.random.default_rng(seed)
    truth = [rng.integers(c, size=width) for width in widths]
    weights = []
    for a, b in itertools.pairwise(truth):
        weights.append(rng.choice([-1.0, 1.0], size=(c, c))[np.ix_(a, b)] + noise * rng.normal(size=(len(a), len(b))))
    return layered(widths, seed, weights, attributes), dict(enumerate(truth))


@pytest.fixture(scope="module")
def graph():
    return planted([40, 36, 30, 10], 3, 0)[0]


def test_two_disjoint_networks_are_found_whole():
    rng = np.random.default_rng(1)
    widths = [20, 24, 16, 12, 10]
    halves = [rng.permutation(np.arange(width) % 2) for width in widths]
    weights = [rng.normal(size=(len(a), len(b))) * (a[:, None] == b[None, :]) for a, b in itertools.pairwise(halves)]
    G = layered(widths, weights=weights)
    for init in ("structured", "k-means++", "annealed"):
        P = em_communities(G, 2, init=init, seed=0)
        for depth, layer in enumerate(G.hidden_layers, start=1):
            assert adjusted_rand(P.labels(layer), halves[depth]) == 1.0


def test_the_karate_club():
    K = nx.karate_club_graph()
    for seed in range(3):
        P = em_communities(K, 2, density=1.0, init="structured", seed=seed)
        assert P.stats["graph"]["log_likelihood"] == pytest.approx(-333.171, abs=5e-4)
        assert P.stats["graph"]["n_communities"] == 2
    P = em_communities(K, 2, density=1.0, likelihood="multinomial", seed=0)
    assert P.stats["graph"]["log_likelihood"] == pytest.approx(-467.4234, abs=5e-5)
    officers = {node for node in K if K.nodes[node]["club"] == "Officer"}
    assert max(34 - len(officers ^ community) for community in P) == 33


def test_the_number_of_communities_is_found(graph):
    G, truth = planted([60, 64, 64, 24], 4, 2)
    P = em_communities(G, seed=0)
    for depth, layer in enumerate(G.hidden_layers, start=1):
        assert P.stats[layer]["n_communities"] == 4
        assert adjusted_rand(P.labels(layer), truth[depth]) > 0.95
        curve = P.stats[layer]["criterion"]
        assert list(curve) == list(range(1, 21))
        assert max(curve, key=curve.get) == 4
        assert P.stats[layer]["null_gain"] < curve[4] - curve[1]
        likelihoods = list(P.stats[layer]["log_likelihood_curve"].values())
        assert P.responsibilities[layer].shape == (G.layer(layer).width, 4)
        np.testing.assert_allclose(P.responsibilities[layer].sum(axis=1), 1.0)
        np.testing.assert_array_equal(P.responsibilities[layer].argmax(axis=1), P.labels(layer))
        assert likelihoods[-1] > likelihoods[0]


def test_random_weights_have_no_communities():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        P = em_communities(layered([30, 40, 24, 10], 3), seed=0)
    assert [P.stats[layer]["n_communities"] for layer in ("fc1", "fc2")] == [1, 1]
    assert len(P) == 2


def test_held_out_and_a_callable_choose_too():
    G, _ = planted([60, 48, 12], 4, 4)
    P = em_communities(G, range(1, 9), criterion="held-out", seed=0)
    assert P.stats["fc1"]["n_communities"] == 4
    seen = []

    def criterion(Q):
        assert isinstance(Q, isg.Partition)
        assert Q.layers == ("fc1",)
        seen.append(len(Q))
        return -abs(len(Q) - 3)

    P = em_communities(G, range(1, 6), criterion=criterion, seed=0)
    assert P.stats["fc1"]["n_communities"] == 3
    assert seen == [1, 2, 3, 4, 5]
    assert P.stats["fc1"]["criterion"] == {1: -2.0, 2: -1.0, 3: 0.0, 4: -1.0, 5: -2.0}
    for wrong in (float("nan"), None):
        with pytest.raises(InputError, match="criterion returned"):
            em_communities(G, [2], criterion=lambda Q, wrong=wrong: wrong)


def test_coarse_to_fine_finds_the_same_number():
    G, _ = planted([80, 90, 20], 7, 5)
    full = em_communities(G, range(1, 33), seed=0)
    coarse = em_communities(G, range(1, 33), coarse=True, seed=0)
    assert list(coarse) == list(full)
    assert 7 in coarse.stats["fc1"]["criterion"]
    assert len(coarse.stats["fc1"]["criterion"]) < 14
    assert "null_rows" not in coarse.stats["fc1"]


def test_the_gate_of_a_large_layer_asks_some_of_its_neurons(monkeypatch):
    import innersight_graph.mixture.search as search

    monkeypatch.setattr(search, "_COARSE_NULL_ROWS", 64)
    G, truth = planted([80, 300, 20], 7, 5)
    P = em_communities(G, range(1, 33), coarse=True, seed=0)
    stats = P.stats["fc1"]
    assert stats["null_rows"] == 64
    assert stats["n_shuffles"] == 3
    assert adjusted_rand(P.labels("fc1"), truth[1]) == 1.0
    # The gain of 64 neurons' true communities beats their shuffles', and is less than that of all 300.
    assert 2 * stats["null_gain"] < (stats["criterion"][7] - stats["criterion"][1]) * 64 / 300 * 1.5


@pytest.mark.parametrize("kind", ["untrained", "unequal", "shuffled"])
def test_a_coarse_search_says_one_where_there_is_nothing(kind, monkeypatch):
    import innersight_graph.mixture.search as search

    monkeypatch.setattr(search, "_COARSE_NULL_ROWS", 100)
    rng = np.random.default_rng(3)
    G, _ = planted([60, 300, 30], 6, 4)
    weights = [np.array(G.matrix(a, b)) for a, b in (("input", "fc1"), ("fc1", "output"))]
    if kind == "shuffled":
        # Each neuron's own weights, among other partners.
        weights = [rng.permuted(weights[0], axis=0), rng.permuted(weights[1], axis=1)]
    else:
        # Neurons of very unequal strength have unequal degrees, which ICL alone would call communities.
        spread = 1.5 if kind == "unequal" else 0.0
        weights = [rng.normal(size=w.shape) for w in weights]
        weights[0] *= np.exp(spread * rng.normal(size=300))
        weights[1] *= np.exp(spread * rng.normal(size=300))[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        P = em_communities(layered([60, 300, 30], weights=weights), coarse=True, gauge="none", density=0.3, seed=0)
    assert P.stats["fc1"]["n_communities"] == 1
    if kind == "unequal":
        assert max(P.stats["fc1"]["criterion"].values()) > P.stats["fc1"]["criterion"][1]
        assert P.stats["fc1"]["null_rows"] == 100


def test_a_choice_that_held_out_neurons_contradict_is_a_warning(monkeypatch):
    import innersight_graph.mixture.search as search

    G, _ = planted([60, 64, 24], 4, 2)
    for against, said in ((2.0, "Take them as weak evidence"), (-2.0, "likelihood='multinomial' discounts degree")):

        def check(starter, numbers, engine, against=against, **options):
            return {r: against * (r == 1) for r in numbers}

        monkeypatch.setattr(search, "held_out", check)
        if against < 0:
            monkeypatch.setattr(search.Search, "_verdict", lambda self, best, engine: search.Verdict(False, 1e9, 3))
        with pytest.warns(SelectionWarning, match=said) as caught:
            P = em_communities(G, seed=0)
        assert len(caught) == 1
        assert P.stats["fc1"]["held_out"][1] == against
    # Real held-out neurons of real communities agree with ICL: no warning (warnings are errors here).
    monkeypatch.undo()
    stats = em_communities(G, seed=0).stats["fc1"]
    assert stats["held_out"][4] > stats["held_out"][1]


def test_stability_tells_clear_communities_from_none():
    clear = em_communities(planted([60, 64, 24], 4, 2, noise=0.2)[0], 4, init="near-uniform", n_init=20, seed=0)
    none = em_communities(layered([60, 64, 24], 3), 4, init="near-uniform", n_init=20, seed=0)
    assert clear.stats["fc1"]["stability"] > 0.9
    assert none.stats["fc1"]["stability"] < 0.5
    assert em_communities(layered([60, 64, 24], 3), 4, init="ward", seed=0).stats["fc1"]["stability"] is None


def test_silent_neurons_are_set_aside():
    silent = np.zeros(36, bool)
    silent[[3, 7, 20]] = True
    G, _ = planted([40, 36, 10], 3, 6, attributes={"fc1": {"silent": silent}})
    P = em_communities(G, 3, seed=0)
    assert P.stats["fc1"]["n_communities"] == 3
    assert {node.index for node in P[P.stats["fc1"]["silent"]]} == {3, 7, 20}
    everyone = em_communities(planted([40, 36, 10], 3, 6, attributes={"fc1": {"silent": np.ones(36, bool)}})[0], seed=0)
    assert everyone.stats["fc1"]["n_communities"] == 0


def test_thresholds_leave_the_band_out():
    G, truth = planted([60, 48, 12], 3, 7)
    P = em_communities(G, 3, thresholds={"xi1": 0.5, "xi2": -0.5, "xi3": 0.2, "xi4": -0.2}, seed=0)
    assert adjusted_rand(P.labels("fc1"), truth[1]) == 1.0


def test_a_rescaled_network_has_the_same_communities():
    G, _ = planted([40, 36, 30, 10], 3, 8)
    scale = np.exp(np.random.default_rng(0).normal(size=36)).astype("f4")
    weights = [np.array(G.matrix(a, b)) for a, b in (("input", "fc1"), ("fc1", "fc2"), ("fc2", "output"))]
    H = layered([40, 36, 30, 10], weights=[weights[0] * scale, weights[1] / scale[:, None], weights[2]])
    assert list(em_communities(G, range(1, 6), seed=0)) == list(em_communities(H, range(1, 6), seed=0))


# ------------------------------------------------------------------ one result, whatever carries it


def same(P, Q):
    assert list(P) == list(Q)
    for layer in P.layers:
        assert P.stats[layer]["log_likelihood"] == pytest.approx(Q.stats[layer]["log_likelihood"], rel=1e-9)
        assert P.stats[layer]["restart"] == Q.stats[layer]["restart"]


@pytest.mark.parametrize("init", ["structured", "random", "dirichlet", "near-uniform"])
def test_engines_pieces_and_workers_find_the_same_winner(graph, init):
    options = {"n_communities": [2, 3, 5], "init": init, "n_init": 30, "seed": 1}
    P = em_communities(graph, engine="numpy", **options)
    for engine in ("torch", TorchEngine(columns=16), TorchEngine(columns=100, memory=200_000)):
        same(P, em_communities(graph, engine=engine, **options))


@pytest.mark.parametrize("n_jobs", [2, 4])
def test_workers_find_the_same_winner(graph, n_jobs):
    options = {"n_communities": [2, 3, 5], "init": "dirichlet", "n_init": 60, "seed": 1, "engine": "numpy"}
    P, Q = (em_communities(graph, n_jobs=jobs, **options) for jobs in (1, n_jobs))
    same(P, Q)
    assert P.to_json() == Q.to_json()


def test_joblib_configuration_is_obeyed(graph):
    import joblib

    options = {"n_communities": [2, 3], "seed": 1, "engine": "numpy"}
    with joblib.parallel_config("threading", n_jobs=2):
        P = em_communities(graph, **options)
    same(P, em_communities(graph, **options))


def test_seeds(graph):
    P = em_communities(graph, [2, 3], init="dirichlet", n_init=5, seed=3)
    assert P.to_json() == em_communities(graph, [2, 3], init="dirichlet", n_init=5, seed=3).to_json()
    assert P.seed == 3
    unseeded = em_communities(graph, [2, 3], init="dirichlet", n_init=5)
    assert unseeded.to_json() == em_communities(graph, [2, 3], init="dirichlet", n_init=5, seed=unseeded.seed).to_json()


def test_hash_seeds_do_not_matter():
    code = (
        "import networkx as nx, innersight_graph as isg;"
        "print(isg.em_communities(nx.karate_club_graph(), 2, density=1.0, seed=0).to_json())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
        )
        for seed in range(5)
    ]
    outputs = {process.communicate()[0] for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert len(outputs) == 1


def test_the_engine_used_is_recorded(graph):
    import torch

    assert em_communities(graph, 2, seed=0, engine="numpy").params["engine"] == "numpy"
    expected = "torch:cuda" if torch.cuda.is_available() else "torch"
    assert em_communities(graph, 2, seed=0).params["engine"] == expected
    assert em_communities(graph, 2, seed=0, engine=TorchEngine()).params["engine"] == "torch"


# ------------------------------------------------------------------ interruption


def test_a_checkpoint_is_read_back(graph, tmp_path, monkeypatch):
    options = {"n_communities": [1, 2, 3], "init": "dirichlet", "n_init": 60, "seed": 1, "engine": "numpy"}
    P = em_communities(graph, checkpoint=tmp_path / "run", **options)
    files = sorted((tmp_path / "run").glob("*.npz"))
    assert len(files) == 2 * (1 + 3 + 3)
    assert not list((tmp_path / "run").glob(".*"))
    files[0].unlink()
    files[1].write_bytes(b"damaged")
    assert em_communities(graph, checkpoint=tmp_path / "run", **options).to_json() == P.to_json()
    assert em_communities(graph, **options).to_json() == P.to_json()

    from innersight_graph.engines.numpy import ArrayEngine

    monkeypatch.setattr(ArrayEngine, "fit", lambda *args, **kwargs: pytest.fail("nothing was left to fit"))
    again = em_communities(graph, checkpoint=tmp_path / "run", **{**options, "criterion": lambda Q: len(Q)})
    assert again.stats["fc1"]["n_requested"] == 3
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="a folder was expected"):
        em_communities(graph, checkpoint=blocked, **options)


def units_in(folder):
    """Finished pieces; a killed run may leave the hidden beginning of another one behind."""
    return [path for path in folder.glob("*.npz") if not path.name.startswith(".")]


SEARCH = """
import sys
import numpy as np
import innersight_graph as isg
rng = np.random.default_rng(0)
layers = [isg.Layer(n, i, w, "linear") for i, (n, w) in enumerate([("input", 120), ("fc1", 90), ("output", 60)])]
weights = {
    ("input", "fc1"): rng.normal(size=(120, 90)).astype("f4"),
    ("fc1", "output"): rng.normal(size=(90, 60)).astype("f4"),
}
G = isg.LayeredDiGraph.from_arrays(layers, weights)
P = isg.em_communities(G, range(2, 8), init="dirichlet", n_init=100, seed=0, engine="numpy", checkpoint=sys.argv[1])
print(P.to_json())
"""


def test_a_killed_search_continues_and_gives_the_identical_result(tmp_path):
    command = [sys.executable, "-c", SEARCH]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    folder = tmp_path / "killed"
    with subprocess.Popen([*command, str(folder)], env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(units_in(folder)) < 3 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        process.kill()
    finished = len(units_in(folder))
    assert 3 <= finished < 24
    resumed = subprocess.run([*command, str(folder)], env=environment, capture_output=True, check=True).stdout
    assert len(units_in(folder)) == 24
    fresh = subprocess.run([*command, str(tmp_path / "fresh")], env=environment, capture_output=True, check=True).stdout
    assert resumed == fresh


def test_ctrl_c_returns_the_best_so_far(graph, monkeypatch):
    import innersight_graph.detection.em as em

    real = em.run_units

    def interrupted(units, **options):
        for count, item in enumerate(real(units, **options)):
            if count == 3:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(em, "run_units", interrupted)
    with pytest.warns(PartialResultWarning, match="1 of 2 layers"):
        P = em_communities(graph, [1, 2, 3, 4], seed=0)
    assert P.layers == ("fc1",)
    assert P.stats["fc1"]["partial"] is True
    assert list(P.stats["fc1"]["criterion"]) == [1, 2, 3]
    monkeypatch.setattr(em, "run_units", lambda units, **options: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        em_communities(graph, [1, 2], seed=0)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process")
def test_a_real_sigint_returns_the_best_so_far(tmp_path):
    code = SEARCH.replace("print(P.to_json())", "print('partial', P.stats['fc1'].get('partial'))")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    while len(units_in(tmp_path)) < 5 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert output.strip() == "partial True"


def test_progress_is_shown(graph, capsys):
    em_communities(graph, [2, 3], seed=0, progress=True)
    em_communities(graph, [2, 3], seed=0)
    assert "Traceback" not in capsys.readouterr().err


# ------------------------------------------------------------------ a cluster


def test_a_dask_worker_may_die(tmp_path):
    distributed = pytest.importorskip("distributed")
    import joblib

    G, _ = planted([200, 96, 40], 4, 9)
    options = {"n_communities": range(2, 10), "init": "dirichlet", "n_init": 100, "seed": 0, "engine": "numpy"}
    n_units = 8 * 4
    expected = em_communities(G, **options)
    finished_at_death = []

    def kill(workers):
        while not units_in(tmp_path / "units"):
            time.sleep(0.002)
        os.kill(workers[0], signal.SIGKILL)
        finished_at_death.append(len(units_in(tmp_path / "units")))

    with warnings.catch_warnings():
        # Dask says itself what it does when a worker is lost, and its event loop leaves sockets to the collector.
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50,
                local_directory=str(tmp_path / "dask"),
            ) as cluster,
            distributed.Client(cluster),
            joblib.parallel_config("dask", n_jobs=2),
        ):  # fmt: skip
            import threading

            workers = [worker.pid for worker in cluster.workers.values()]
            assert len(workers) == 2
            killer = threading.Thread(target=kill, args=(workers,))
            killer.start()
            P = em_communities(G, checkpoint=tmp_path / "units", **options)
            killer.join()
    assert 1 <= finished_at_death[0] < n_units
    assert len(units_in(tmp_path / "units")) == n_units
    assert P.to_json() == expected.to_json()


# ------------------------------------------------------------------ densities, refusals


def test_a_density_sweep_compares_its_partitions(graph):
    sweep = isg.density_sweep(graph, [0.25, 1.0, 0.5], n_communities=3, seed=0)
    assert sweep.densities == (0.25, 0.5, 1.0)
    assert [P.params["density"] for P in sweep.partitions] == [0.25, 0.5, 1.0]
    for layer in graph.hidden_layers:
        expected = isg.agreement(sweep.partitions[0], sweep.partitions[2], layer=layer).ari
        assert sweep.agreement[layer][0, 2] == pytest.approx(expected)
        np.testing.assert_allclose(np.diag(sweep.agreement[layer]), 1.0)
    assert sweep.recommended in sweep.plateau
    assert sweep.partition.params["density"] == sweep.recommended
    assert len(sweep.to_pandas()) == 2 * 9
    for wrong, said in (({"densities": [0.5]}, "at least two"), ({"density": 0.5}, "'density' was given")):
        with pytest.raises(InputError, match=said):
            isg.density_sweep(graph, **wrong)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_communities": 0}, "n_communities=0"),
        ({"n_communities": -2}, "n_communities=-2"),
        ({"n_communities": 31}, "'fc2', which has 30 neurons"),
        ({"n_communities": [40, 50]}, "'fc1', which has 36 neurons"),
        ({"n_communities": 2.5}, "n_communities=2.5"),
        ({"n_communities": float("nan")}, "n_communities=nan"),
        ({"n_communities": []}, "n_communities"),
        ({"likelihood": "poisson"}, "'poisson' is unknown"),
        ({"criterion": "bic"}, "'bic' is unknown"),
        ({"init": "magic"}, "'magic' is unknown"),
        ({"n_init": 0}, "n_init=0"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"tol": float("nan")}, "tol=nan"),
        ({"prior": float("inf")}, "prior=inf"),
        ({"density": 0.0}, "density=0.0"),
        ({"layers": "fc9"}, "fc9"),
        ({"seed": -1}, "seed=-1"),
        ({"engine": "abacus"}, "abacus"),
    ],
)
def test_bad_options_are_named(graph, options, said):
    with pytest.raises(InputError, match=said):
        em_communities(graph, **{"n_communities": 2, **options})


def test_candidates_beyond_a_layer_are_left_out(graph):
    P = em_communities(graph, [2, 3, 33], seed=0, n_init=2)
    assert list(P.stats["fc1"]["criterion"]) == [2, 3, 33]
    assert list(P.stats["fc2"]["criterion"]) == [2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_degenerate_graphs_have_defined_results(seed):
    rng = np.random.default_rng(seed)
    one = layered([4, 1, 3], seed)
    assert em_communities(one, seed=0).stats["fc1"]["n_communities"] == 1
    equal = layered([6, 5, 4], weights=[np.ones((6, 5)), -np.ones((5, 4))])
    assert em_communities(equal, seed=0).stats["fc1"]["n_communities"] == 1
    sparse = layered([6, 5, 4], weights=[np.zeros((6, 5)), rng.normal(size=(5, 4))])
    for count in (range(1, 21), 1, 3, 5):
        P = em_communities(sparse, count, seed=0)
        assert np.isfinite(P.stats["fc1"]["log_likelihood"])
        assert np.isfinite(P.responsibilities["fc1"]).all()


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
@pytest.mark.parametrize("init", list(INITS))
def test_every_start_survives_degenerate_layers(init, likelihood):
    rng = np.random.default_rng(0)
    options = {"init": init, "n_init": 3, "likelihood": likelihood, "seed": 0, "engine": "numpy"}
    one, equal, empty_side = (
        layered([4, 1, 3], 0),
        layered([6, 5, 4], weights=[np.ones((6, 5)), -np.ones((5, 4))]),
        layered([6, 5, 4], weights=[np.zeros((6, 5)), rng.normal(size=(5, 4))]),
    )
    silent = layered([6, 5, 4], weights=[np.zeros((6, 5)), np.zeros((5, 4))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        for G in (one, equal, empty_side, silent):
            for layer, criterion in (("fc1", "icl"), ("fc1", "held-out"), ("output", "icl")):
                P = em_communities(G, [1, 2, 3], criterion=criterion, layers=layer, **options)
                assert P.labels(layer).min() == 0
                assert np.isfinite(P.responsibilities[layer]).all()
                assert np.isfinite(P.stats[layer]["log_likelihood"])
                assert all(np.isfinite(value) for value in P.stats[layer]["criterion"].values())
        with pytest.raises(InputError, match="which has 1 neuron"):
            em_communities(one, 5, **options)
    assert em_communities(equal, [1, 2, 3], **options).stats["fc1"]["n_communities"] == 1


def test_weights_that_are_not_numbers_are_refused():
    weights = [np.ones((6, 5)), np.ones((5, 4))]
    weights[1][2, 3] = np.nan
    with pytest.raises(isg.GraphSchemaError, match=r"nan|NaN|finite"):
        layered([6, 5, 4], weights=weights)
    D = nx.DiGraph([(0, 1, {"weight": float("nan")}), (1, 2, {"weight": 1.0})])
    with pytest.raises(isg.InnerSightError, match=r"nan|NaN|finite"):
        em_communities(D, 2, seed=0)


def test_any_networkx_graph_is_one_layer():
    rng = np.random.default_rng(10)
    D = nx.stochastic_block_model(
        [20, 20, 20], [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], seed=1, directed=True
    )
    truth = [set(range(k, k + 20)) for k in (0, 20, 40)]
    P = em_communities(nx.DiGraph(D.edges), range(1, 7), density=1.0, seed=0)
    assert sorted(map(min, P)) == [0, 20, 40]
    assert {frozenset(t) for t in truth} == set(P)
    for a, b in D.edges:
        D[a][b]["weight"] = float(rng.normal())
    assert len(em_communities(nx.DiGraph(D), 3, seed=0)) == 3
