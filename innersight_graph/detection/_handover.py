"""Handing a modularity objective to a NetworkX backend or to igraph; what each cannot do is refused by name."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.detection._modular import Objective
from innersight_graph.errors import InputError, MissingExtraError

__all__ = ["check_backend", "igraph_levels", "igraph_of", "others_labels", "single_part"]

Labels = npt.NDArray[np.intp]
# Backends that come with an extra of this package, and backends whose Louvain has no seed.
EXTRAS = {"cugraph": ("nx-cugraph", "cugraph13")}
UNSEEDED = {"louvain": {"cugraph"}, "leiden": set[str]()}


def check_backend(backend: str, method: str, sign: str, seed: Any) -> None:
    """Raise unless a NetworkX backend is installed and can do what is asked of it."""
    if sign == "signed":
        raise InputError(
            f"backend={backend!r} has no signed {method}: negative weights have no meaning for its objective. Choose "
            "sign='positive' or sign='absolute', or leave backend=None, which optimises signed modularity."
        )
    if seed is not None and backend in UNSEEDED[method]:
        raise InputError(
            f"backend={backend!r} ignores the seed in {method}, so seed={seed!r} would promise what it cannot keep. "
            "Pass seed=None, or leave backend=None."
        )
    installed = set(nx.utils.backends.backends) | {"networkx", "igraph"}
    if backend not in installed:
        if backend in EXTRAS:
            raise MissingExtraError(*EXTRAS[backend], f"backend={backend!r}")
        raise InputError(
            f"There is no backend {backend!r}. Installed are {', '.join(sorted(installed))}; or leave backend=None."
        )


def single_part(target: Objective, *, loops: bool = False) -> sparse.coo_array:
    """Return the one matrix of an unsigned objective as upper triangle, both directions added where it is directed."""
    A = target.parts[0][0]
    both = A + A.T if target.directed else A
    return sparse.coo_array(sparse.triu(both, k=0 if loops else 1))


def others_labels(target: Objective, method: str, backend: str, *, seeded: bool) -> Callable[[int], Labels]:
    """Return a start of somebody else's optimiser, which gets a seed only if the user gave one."""
    if backend == "igraph":
        return _igraph_start(target, method)
    start = _networkx_start(target, method, backend)
    return lambda seed: start(seed if seeded else None)


def _networkx_start(target: Objective, method: str, backend: str) -> Callable[[int | None], Labels]:
    """Return a start of ``networkx.community.<method>_communities`` of a backend, on integer nodes."""
    function = getattr(nx.community, f"{method}_communities", None)
    if function is None:
        raise InputError(
            f"networkx {nx.__version__} has no {method}, for any backend. Leave backend=None, or update it."
        )
    edges = single_part(target)
    H = nx.Graph()
    H.add_nodes_from(range(target.size))
    H.add_weighted_edges_from(zip(edges.row.tolist(), edges.col.tolist(), edges.data.tolist(), strict=True))
    # What a conversion is kept for is over when this call is; NetworkX would warn at every further start.
    H.__networkx_cache__ = None
    options: dict[str, Any] = {"weight": "weight", "resolution": target.resolution, "backend": backend}
    if "metric" in inspect.signature(function).parameters:
        # Newer releases default to another objective (CPM).
        options["metric"] = "modularity"

    def start(seed: int | None) -> Labels:
        try:
            return labels_of(function(H, **options, **({} if seed is None else {"seed": seed})), target.size)
        except NotImplementedError as error:
            raise InputError(
                f"backend={backend!r} has no {method} in this installation ({error}). Leave backend=None, or name "
                "another backend."
            ) from error

    return start


def labels_of(communities: Iterable[Iterable[int]], size: int) -> Labels:
    """Return labels numbered by least member: the order in which a backend lists its sets must not matter."""
    labels = np.full(size, -1, dtype=np.intp)
    for k, community in enumerate(sorted((sorted(c) for c in communities), key=lambda c: c[0])):
        labels[community] = k
    return labels


def igraph_of(A: sparse.csr_array, directed: bool) -> tuple[Any, list[float]]:
    """Return an igraph graph of a matrix and the weights of its edges."""
    try:
        import igraph
    except ImportError:
        raise MissingExtraError("igraph", "leiden", "backend='igraph'") from None
    edges = sparse.coo_array(A) if directed else sparse.coo_array(sparse.triu(A))
    # The diagonal of an undirected matrix holds loops twice; igraph wants them once.
    weights = edges.data if directed else np.where(edges.row == edges.col, edges.data / 2, edges.data)
    pairs = np.stack([edges.row, edges.col], axis=1)
    return igraph.Graph(n=A.shape[0], edges=pairs.tolist(), directed=directed), weights.tolist()


def igraph_levels(target: Objective, seed: int) -> Iterator[Labels]:
    """Return the labels of each level of igraph's multilevel (Louvain) optimiser."""
    graph, weights = igraph_of(target.parts[0][0], directed=False)
    with _seeded(seed):
        levels = graph.community_multilevel(weights=weights, resolution=target.resolution, return_levels=True)
    return iter([np.asarray(level.membership, dtype=np.intp) for level in levels])


def _igraph_start(target: Objective, method: str) -> Callable[[int], Labels]:
    """Return a start of igraph's own multilevel (Louvain) or Leiden optimiser of modularity on an undirected graph."""
    A = target.parts[0][0]
    graph, weights = igraph_of(sparse.csr_array(A + A.T) if target.directed else A, directed=False)
    options = {"weights": weights, "resolution": target.resolution}
    calls: dict[str, Callable[[], Any]] = {
        "louvain": lambda: graph.community_multilevel(**options),
        "leiden": lambda: graph.community_leiden(objective_function="modularity", n_iterations=-1, **options),
    }

    def start(seed: int) -> Labels:
        with _seeded(seed):
            return np.asarray(calls[method]().membership, dtype=np.intp)

    return start


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Lend igraph, which has one generator for the whole process, one of ours, then give back Python's, its default."""
    import igraph

    igraph.set_random_number_generator(random.Random(seed))
    try:
        yield
    finally:
        igraph.set_random_number_generator(random)
