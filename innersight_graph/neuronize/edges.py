"""All connections of a plan with their weights, by the rule the user chose, within a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from torch import nn

from innersight_graph.errors import InputError, TraceError
from innersight_graph.graph.layered import Layer
from innersight_graph.neuronize.eq1 import READINGS
from innersight_graph.neuronize.layers import Connection, Plan
from innersight_graph.neuronize.measured import MEASURES, Measurement
from innersight_graph.neuronize.record import Trace
from innersight_graph.neuronize.weights import REDUCTIONS, WeightReducer, dense_bytes

__all__ = ["EdgeMaker"]

Pair = tuple[int, int]
_POINTS = ("unit", "post_norm", "post_act")


class EdgeMaker:
    """Make the weight matrices of all connections.

    Parameters
    ----------
    edges : str or callable
        See `neuron_graph`.
    reading, at, size, eps
        Options of Eq. 1.
    fold_batchnorm : bool
    max_memory : float
        Bytes the arrays may take.

    Raises
    ------
    InputError
        An unknown name.
    """

    def __init__(
        self,
        edges: str | Callable[..., Any],
        *,
        reading: str,
        at: str,
        size: int | None,
        eps: float | None,
        fold_batchnorm: bool,
        max_memory: float,
    ) -> None:
        known = ["auto", *REDUCTIONS, *MEASURES]
        if isinstance(edges, str) and edges not in known:
            raise InputError(
                f"edges={edges!r} is unknown. Use one of {known}, or a callable of (source, target, weights)."
            )
        if not isinstance(edges, str) and not callable(edges):
            raise InputError(
                f"edges is a {type(edges).__name__}. Use one of {known}, or a callable of (source, target, weights)."
            )
        if reading not in READINGS:
            raise InputError(f"reading={reading!r} is unknown. Use one of {sorted(READINGS)}.")
        if at not in _POINTS:
            raise InputError(f"at={at!r} is unknown. Use one of {_POINTS}.")
        if (size is not None and size < 1) or (eps is not None and not 0 < eps < 1):
            raise InputError(
                f"size={size!r}, eps={eps!r}: expected a positive number of positions per axis and 0 < eps < 1."
            )
        self._edges = edges
        self._options = {"reading": reading, "at": at, "size": size, "eps": eps}
        self._fold = fold_batchnorm
        self._max_memory = max_memory

    @property
    def turn_with_neurons(self) -> bool:
        """Whether all edges of a neuron change their sign when its weights, and those that read it, change theirs.

        Of a mean contribution the outgoing ones do not, of Eq. 1 as printed all change size, of a callable who knows.
        """
        literal = self._edges == "eq1" and self._options["reading"] == "literal"
        return isinstance(self._edges, str) and self._edges != "contribution" and not literal

    def check_data(self, data: Any) -> None:
        """Refuse edges that are measured on data when there are none."""
        if data is None and isinstance(self._edges, str) and self._edges in MEASURES:
            raise InputError(f"edges={self._edges!r} is measured on data, but only an example was given. Pass data=.")

    def make(
        self, plan: Plan, records: Sequence[Layer], model: nn.Module, trace: Trace, data: Any, progress: bool
    ) -> tuple[dict[tuple[str, str], Any], dict[tuple[str, str], str]]:
        """Return {(source, target): weights} and {(source, target): kind} by layer name."""
        meta = next((name for name, p in model.named_parameters() if p.is_meta), None)
        if meta is not None:
            raise TraceError(
                f"The parameter {meta!r} is on the meta device and has no values, so edges have no weights. "
                "trace_model works on meta tensors; give neuron_graph the model with its weights."
            )
        grouped = _grouped(plan)
        self._check_memory(plan, grouped)
        reducers: dict[str, WeightReducer] = {}

        def weights(pair: Pair, how: str) -> Any:
            reduction = "l2" if how == "auto" else how
            reducer = reducers.setdefault(reduction, WeightReducer(reduction, fold_batchnorm=self._fold))
            return reducer.matrix(grouped[pair], plan.layers[pair[0]], plan.layers[pair[1]])

        measured: Mapping[Pair, Any] = {}
        base = self._edges if isinstance(self._edges, str) and self._edges in REDUCTIONS else "auto"
        if isinstance(self._edges, str) and self._edges in MEASURES:
            values = [pair for pair, parts in grouped.items() if not parts[0].gate]
            task = Measurement(plan, trace, model, data, values, weights, self._options, progress)
            measured = MEASURES[self._edges](task)
        connections, kinds = {}, {}
        for pair, parts in grouped.items():
            name = (plan.layers[pair[0]].name, plan.layers[pair[1]].name)
            matrix = measured[pair] if pair in measured else weights(pair, base)
            if callable(self._edges) and not parts[0].gate:
                matrix = _called(self._edges, records[pair[0]], records[pair[1]], matrix)
            connections[name] = matrix
            kinds[name] = "gate" if parts[0].gate else "value"
        return connections, kinds

    def _check_memory(self, plan: Plan, grouped: Mapping[Pair, Sequence[Connection]]) -> None:
        sizes = {}
        for (s, t), parts in grouped.items():
            key, size = dense_bytes(parts, plan.layers[s], plan.layers[t])
            sizes[key] = size
        total = sum(sizes.values())
        if total > self._max_memory:
            raise TraceError(
                f"The weights of {len(grouped)} pairs of layers would take {total / 2**30:.1f} GiB, and max_memory is "
                f"{self._max_memory / 2**30:.1f} GiB. Keep only the nearest producer of each residual stream with "
                f"residual='nearest' "
                "or only consecutive layers with residual='off', name some layers=, or raise max_memory."
            )


def _grouped(plan: Plan) -> dict[Pair, list[Connection]]:
    """Collect the connections by pair of layers; where values pass, gates between the same layers add nothing."""
    values: dict[Pair, list[Connection]] = {}
    gates: dict[Pair, list[Connection]] = {}
    for connection in plan.connections:
        (gates if connection.gate else values).setdefault((connection.source, connection.target), []).append(connection)
    return {**{pair: parts for pair, parts in gates.items() if pair not in values}, **values}


def _called(function: Callable[..., Any], source: Layer, target: Layer, weights: Any) -> Any:
    """Ask the user's rule for the weights of one pair and keep them where the trace has a pair."""
    result = function(source, target, weights.copy())
    dense = result.toarray() if sparse.issparse(result) else np.asarray(result)
    if dense.shape != weights.shape or not np.issubdtype(dense.dtype, np.number):
        raise InputError(
            f"The edges callable returned {dense.dtype} of shape {dense.shape} for {source.name!r} → {target.name!r}; "
            f"expected numbers of shape {weights.shape}."
        )
    present = weights.toarray() != 0 if sparse.issparse(weights) else np.asarray(weights != 0)
    kept = np.where(present, dense, 0.0).astype(np.float32)
    return sparse.csr_array(kept) if sparse.issparse(weights) else kept
