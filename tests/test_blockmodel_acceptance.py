"""The flagship against the figures its research note promised: minutes each, so most are marked slow.

The other promises of that note have tests of their own: exact evidence, margins, messages and label costs in
`test_blockmodel_numerics.py`; order, signs and scale in `test_blockmodel.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaln

from innersight_graph import agreement, blockmodel_communities
from innersight_graph.detection._blockmodel.poisson import STRENGTHS
from innersight_graph.detection._blockmodel.profile import sign_codes, signed_profile
from innersight_graph.detection._blockmodel.search import Search
from innersight_graph.detection._blockmodel.variational import State, assess
from innersight_graph.planted import null_layers, planted_blocks, planted_hubs, planted_layers, planted_roles
from innersight_graph.planted.nulls import KINDS

SEEDS = range(500, 508)  # neither those of development nor the leaderboard's


def test_one_group_is_the_baseline() -> None:
    W = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (20, 30), p=[0.2, 0.6, 0.2])
    profile = signed_profile([sign_codes(W), sign_codes(W[:, ::-1])])
    search = Search(profile, 4, n_init=2, seed=np.random.SeedSequence(0))
    expected = 0.0
    for block in profile.blocks:
        E = block.expectation.dense().sum(axis=(1, 2))  # type: ignore[attr-defined]
        m = np.array([(W > 0).sum(), (W < 0).sum()])
        evidence = [sum(gammaln(m + κ) - gammaln(κ) + κ * np.log(κ) - (m + κ) * np.log(E + κ)) for κ in STRENGTHS]
        expected += max(evidence) - np.log(STRENGTHS.size)
    assert search.one.bound == pytest.approx(expected, abs=1e-9)
    assert search.best([1]).size == 1


def test_a_fit_that_decides_nothing_has_no_groups() -> None:
    # Its bound is high, for it claims nothing. It once won over fits that knew the communities: ARI 0.38 for 0.62.
    W = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (20, 30), p=[0.2, 0.6, 0.2])
    blocks = signed_profile([sign_codes(W)]).blocks
    flat = np.full((20, 2), 0.5) + np.where(np.arange(20) % 2, 1e-6, -1e-6)[:, None] * [1, -1]
    undecided = assess(blocks, flat, [np.full((30, 2), 0.5)])
    assert undecided.n_groups == 1
    assert assess(blocks, np.eye(2)[np.arange(20) % 2], [np.full((30, 2), 0.5)]).n_groups == 2
    assert isinstance(undecided, State)
    G, truth = planted_layers(2, snr=2.0, seed=501)
    assert agreement(truth, blockmodel_communities(G, 2, seed=0)).ari > 0.4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "known", "estimated"),
    [
        (lambda s: planted_layers(4, snr=2.0, seed=s), 0.85, 0.85),
        (lambda s: planted_layers(4, snr=2.5, seed=s), 0.95, 0.95),
        (lambda s: planted_layers(4, snr=4.0, seed=s), 1.00, 1.00),
        (lambda s: planted_roles(0.05, seed=s), 0.88, 0.70),
        (lambda s: planted_roles(0.1, seed=s), 1.00, 1.00),
        (lambda s: planted_roles(0.05, flip=True, seed=s), 0.92, 0.92),
        (lambda s: planted_hubs(0.5, seed=s), 1.00, 1.00),
        (lambda s: planted_hubs(1.0, seed=s), 0.96, 0.94),
        (lambda s: planted_hubs(1.5, seed=s), 0.78, 0.73),
        (lambda s: planted_blocks(1.0, keep=0.2, seed=s), 0.98, 0.98),
        (lambda s: planted_blocks(1.2, seed=s), 0.91, 0.85),
    ],
    ids=[
        "layers 2", "layers 2.5", "layers 4", "roles 0.05", "roles 0.1", "flip 0.05", "hubs 0.5", "hubs 1", "hubs 1.5",
        "signs of blocks 1", "blocks 1.2",
    ],
)  # fmt: skip
def test_no_worse_than_the_prototype(make, known: float, estimated: float) -> None:  # type: ignore[no-untyped-def]
    graphs = [make(seed) for seed in SEEDS]
    told = [agreement(truth, blockmodel_communities(G, 4, seed=0)).ari for G, truth in graphs]
    found = [agreement(truth, blockmodel_communities(G, seed=0)).ari for G, truth in graphs]
    # The prototype's figures were means over eight graphs too: both have an error.
    for ours, prototypes in ((told, known), (found, estimated)):
        assert np.mean(ours) >= prototypes - 0.05 - np.std(ours) / np.sqrt(len(ours))


@pytest.mark.slow
@pytest.mark.parametrize(("snr", "least"), [(1.75, 0.60), (1.5, 0.25)])
def test_the_sensitive_mode_sees_weak_structure(snr: float, least: float) -> None:
    graphs = [planted_layers(4, snr=snr, seed=seed) for seed in SEEDS]
    found = [blockmodel_communities(G, sensitive=True, seed=0) for G, _ in graphs]
    assert sum(len(P) > 1 for P in found) >= 7  # a power of .95 misses two of eight once in eighteen
    assert np.mean([agreement(truth, P).ari for (_, truth), P in zip(graphs, found, strict=True)]) >= least


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sixty_nulls_of_each_kind_stay_whole(kind: str) -> None:
    weak = cut = 0
    for seed in range(600, 660):
        G, _ = null_layers(kind, widths=(120, 120, 120), seed=seed)
        P = blockmodel_communities(G, sensitive=True, seed=0)
        assert P.stats["hidden1"]["mode"] in ("none", "weak evidence", "continuum", "bound")
        weak += P.stats["hidden1"]["mode"] == "weak evidence"
        cut += P.stats["hidden1"]["mode"] == "bound"
    assert weak <= 8  # 60 draws at 5 % exceed this once in a hundred
    assert cut <= 2  # and 60 at 1 % this
