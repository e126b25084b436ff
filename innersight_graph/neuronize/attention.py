"""Attention: values pass with their sign, queries and keys only gate, by head."""

from __future__ import annotations

import torch

from innersight_graph.neuronize.passing import gates, keep
from innersight_graph.neuronize.planes import Score, group, union
from innersight_graph.neuronize.tracer import Op, Tracer, floats

__all__ = ["contract", "distances", "fused", "note_heads", "softmax"]


def fused(tracer: Tracer, op: Op) -> None:
    """Scaled dot-product attention in one operator; heads are the axis before the tokens."""
    query, key, value = (op.arg(name) for name in ("query", "key", "value"))
    mask = op.arg("attn_mask") if op.arg("attn_mask") is not None else op.arg("attn_bias")
    out = floats(op.outs)[0]
    n_heads = query.shape[-3]
    gate: torch.Tensor | None = None
    for role, tensor, axes in (("q", query, [-1]), ("k", key, [-1, -2])):
        labels = tracer.labels(tensor)
        if labels is not None:
            note_heads(tracer, role, labels)
            gate = _merged(tracer, gate, _per_head(group(tracer.sets, labels, axes), n_heads))
    bias = tracer.labels(mask)
    if bias is not None:
        gate = _merged(tracer, gate, group(tracer.sets, bias, [-1]))
    labels = None if gate is None else gates(tracer, gate)
    passed = tracer.labels(value)
    if passed is not None:
        note_heads(tracer, "v", passed)
        labels = _merged(tracer, labels, _per_head(group(tracer.sets, passed, [-2]), n_heads))
    tracer.memory.write(out, None if labels is None else labels.expand(out.shape))


def _merged(tracer: Tracer, first: torch.Tensor | None, second: torch.Tensor) -> torch.Tensor:
    return second if first is None else union(tracer.sets, first, second)


def _per_head(labels: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Repeat the heads of keys and values for grouped queries."""
    return labels.repeat_interleave(n_heads // labels.shape[-3], dim=-3)


def contract(tracer: Tracer, op: Op, left: torch.Tensor, right: torch.Tensor) -> None:
    """Product of two computed matrices: row i and column j meet in element (i, j)."""
    rows, columns = tracer.labels(left), tracer.labels(right)
    out = op.outs[0]
    soft_left, soft_right = _is_soft(tracer, left), _is_soft(tracer, right)
    if rows is not None:
        if soft_right:
            note_heads(tracer, "v", rows)
        rows = group(tracer.sets, rows, [-1])
    if columns is not None:
        if soft_left:
            note_heads(tracer, "v", columns)
        columns = group(tracer.sets, columns, [-2]) if columns.ndim > 1 else group(tracer.sets, columns, [0])
    if rows is not None and right.ndim == 1:
        rows = rows.squeeze(-1)
    parts = [part for part in (rows, columns) if part is not None]
    labels = union(tracer.sets, *parts) if len(parts) == 2 else parts[0] if parts else None
    if labels is not None and out.ndim == 0:
        labels = labels.reshape(())
    tracer.memory.write(out, None if labels is None else labels.expand(out.shape))
    if rows is not None and columns is not None and not (soft_left or soft_right):
        tracer.memory.cell(out).score = Score(rows, columns)


def _is_soft(tracer: Tracer, tensor: torch.Tensor) -> bool:
    score = tracer.score_of(tensor)
    return score is not None and score.soft


def softmax(tracer: Tracer, op: Op) -> None:
    """Turn the producers of scores into gates; a softmax of anything else passes neurons like a norm."""
    score, source, out = tracer.score_of(op.ins[0]), op.ins[0], op.outs[0]
    labels = tracer.labels(source)
    if score is None or score.soft or labels is None:
        keep(tracer, op)
        return
    last = op.arg("dim") % source.ndim == source.ndim - 1
    note_heads(tracer, "q" if last else "k", score.rows)
    note_heads(tracer, "k" if last else "q", score.columns)
    tracer.memory.write(out, gates(tracer, labels))
    tracer.memory.cell(out).score = Score(score.rows, score.columns, soft=True)


def distances(tracer: Tracer, op: Op) -> None:
    """Distances between the rows of two matrices: both sides meet in every element."""
    rows, columns = (tracer.labels(x) for x in op.ins[:2])
    parts = []
    if rows is not None:
        parts.append(group(tracer.sets, rows, [-1]))
    if columns is not None:
        parts.append(group(tracer.sets, columns, [-1]).transpose(-1, -2))
    if parts:
        labels = union(tracer.sets, *parts) if len(parts) == 2 else parts[0]
        tracer.memory.write(op.outs[0], labels.expand(op.outs[0].shape))


def note_heads(tracer: Tracer, role: str, labels: torch.Tensor) -> None:
    """Note the neurons of queries, keys or values; every different set among the leading axes is a head."""
    flat = labels.reshape(-1, *labels.shape[-2:]) if labels.ndim > 2 else labels.unsqueeze(0)
    heads: dict[int, int] = {}
    for set_id in group(tracer.sets, flat, [1, 2]).flatten().tolist():
        if set_id and set_id not in heads:
            heads[set_id] = len(heads)
            for neuron in tracer.sets.neurons(set_id):
                tracer.parts.setdefault(neuron, set()).add((role, heads[set_id]))
