"""What NetworkX reads about the backend ``innersight`` while it is imported: nothing heavy is loaded here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

__all__ = ["detector_names", "get_info"]

SIGN = {
    "sign : {'signed', 'positive', 'absolute'}, optional": (
        "What to do with negative weights: subtract the modularity of the negative part (``'signed'``), leave them out "
        "(``'positive'``) or ignore their signs (``'absolute'``). Without it, negative weights are an error."
    )
}
LEIDEN = {
    **SIGN,
    "metric : {'modularity', 'cpm'}, default 'modularity'": "The objective; ``'cpm'`` is the constant Potts model.",
}
LOUVAIN = {
    "docs": "The signed Louvain of this package, or igraph's for undirected graphs where igraph is installed.",
    "options": SIGN,
}
ARRAYS = {"docs": "Read from the arrays of a LayeredDiGraph at once, not edge by edge.", "options": {}}
FUNCTIONS: dict[str, dict[str, Any]] = {
    "leiden_communities": {"docs": "By leidenalg (extra ``leiden``).", "options": LEIDEN},
    "leiden_partitions": {"docs": "By leidenalg (extra ``leiden``), one partition per level.", "options": LEIDEN},
    "louvain_communities": LOUVAIN,
    "louvain_partitions": LOUVAIN,
    "modularity": {"docs": "Also of signed graphs.", "options": SIGN},
    "pagerank": {"docs": "Negative weights are an error that names the choices.", "options": {}},
    "to_scipy_sparse_array": ARRAYS,
    "to_numpy_array": ARRAYS,
    "degree_centrality": ARRAYS,
    "in_degree_centrality": ARRAYS,
    "out_degree_centrality": ARRAYS,
    "reciprocity": ARRAYS,
    "overall_reciprocity": ARRAYS,
    "number_of_selfloops": ARRAYS,
    "is_negatively_weighted": ARRAYS,
}
DETECTOR = {"docs": "A detector of innersight-graph; returns a list of sets of nodes.", "options": {}}


def detector_names() -> tuple[str, ...]:
    """Return the names of the detection methods that take a graph, read from their files without importing them."""
    names = []
    for path in sorted((Path(__file__).parent / "detection").glob("[!_]*.py")):
        pattern = rf"^def {path.stem}_communities\(\s*G\b"
        if re.search(pattern, path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            names.append(path.stem)
    return tuple(names)


def get_info() -> dict[str, Any]:
    """Return the description of the backend, the value of the entry point ``networkx.backend_info``.

    Returns
    -------
    dict
        ``functions`` maps each dispatch name this backend implements to what NetworkX adds to its documentation.

    Examples
    --------
    >>> sorted(get_info())
    ['backend_name', 'functions', 'package', 'project', 'short_summary', 'url']
    """
    own = {f"innersight_{name}_communities": DETECTOR for name in detector_names()}
    return {
        "backend_name": "innersight",
        "project": "innersight-graph",
        "package": "innersight_graph",
        "url": "https://pypi.org/project/innersight-graph/",
        "short_summary": "Layered signed graphs of neurons; Leiden, signed modularity, communities of neurons.",
        "functions": {
            name: {"additional_docs": about["docs"], "additional_parameters": about["options"]}
            for name, about in {**FUNCTIONS, **own}.items()
        },
    }
