"""Which rule carries the labels through which operator; operators without one are counted as unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from innersight_graph.neuronize import attention, learnable, passing
from innersight_graph.neuronize.tracer import Op, Tracer

__all__ = ["NORMS", "is_norm", "is_odd", "is_pointwise", "rule_for"]

Rule = Callable[[Tracer, Op], None]

_LEARNABLE: dict[str, Rule] = {
    "convolution": learnable.convolution,
    "_convolution": learnable.convolution,
    "mm": learnable.matmul,
    "addmm": learnable.matmul,
    "bmm": learnable.matmul,
    "baddbmm": learnable.matmul,
    "addbmm": learnable.matmul,
    "mv": learnable.matmul,
    "addmv": learnable.matmul,
    "dot": learnable.matmul,
    "vdot": learnable.matmul,
    "linear": learnable.linear,
    "embedding": learnable.embedding,
    "_embedding_bag": learnable.embedding,
    "_embedding_bag_forward_only": learnable.embedding,
    "_trilinear": learnable.trilinear,
    "_grouped_mm": learnable.grouped_mm,
    "index": learnable.lookup,
    "index_select": learnable.lookup,
    "mkldnn_rnn_layer": learnable.recurrent,
}
_ATTENTION: dict[str, Rule] = {
    "_softmax": attention.softmax,
    "_safe_softmax": attention.softmax,
    "_log_softmax": attention.softmax,
    "softmax": attention.softmax,
    "_scaled_dot_product_flash_attention_for_cpu": attention.fused,
    "_scaled_dot_product_flash_attention": attention.fused,
    "_scaled_dot_product_efficient_attention": attention.fused,
    "_scaled_dot_product_cudnn_attention": attention.fused,
    "_scaled_dot_product_fused_attention_overrideable": attention.fused,
    "_scaled_dot_product_attention_math_for_mps": attention.fused,
}
NORMS = frozenset((
    "native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training", "_batch_norm_with_update", "_batch_norm_no_update", "cudnn_batch_norm",
    "miopen_batch_norm", "batch_norm", "layer_norm", "_fused_rms_norm", "rms_norm",
    "instance_norm",
))  # fmt: skip
# Of one neuron, f(−x) = −f(x); a batch-norm's mean and shift turn with the neuron.
_BATCH_NORMS = frozenset(name for name in NORMS if "batch_norm" in name)
_ODD = _BATCH_NORMS | frozenset((
    "tanh", "sin", "tan", "sinh", "asin", "asinh", "atan", "atanh", "erf", "erfinv", "sign", "sgn", "neg", "positive",
    "hardshrink", "softshrink", "clone", "_to_copy", "to", "contiguous", "alias", "alias_copy", "detach", "detach_copy",
    "native_dropout", "dropout",
))  # fmt: skip
_OVERWRITTEN = frozenset((
    "fill", "zero", "uniform", "normal", "bernoulli", "random", "exponential", "geometric", "zeros_like",
    "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like", "new_zeros", "new_ones",
    "new_full", "new_empty", "new_empty_strided", "empty_strided", "arange", "set",
))  # fmt: skip
# Elementwise operators that torch does not tag as such.
_POINTWISE = frozenset((
    "_to_copy", "hardswish", "hardsigmoid", "hardtanh", "_prelu_kernel", "prelu", "rrelu",
    # Torch 2.9 does not tag these as pointwise.
    "celu", "elu", "selu", "leaky_relu", "ldexp",
    "rrelu_with_noise", "native_dropout", "dropout", "threshold", "where", "masked_fill", "lerp", "addcmul",
    "addcdiv", "to", "contiguous", "positive", "relu6", "clamp", "clip",
    "log_sigmoid_forward", "softplus", "softshrink", "hardshrink", "nan_to_num", "polar", "complex",
    "view_as_real_copy", "_conj_physical", "conj_physical", "bucketize", "fmod", "remainder", "alpha_dropout",
    "feature_dropout", "lift_fresh_copy", "lift", "alias_copy", "detach_copy", "_unsafe_view",

))  # fmt: skip
_MOVES = frozenset((
    "cat", "stack", "index", "index_select", "_unsafe_index", "gather", "take", "take_along_dim", "flip", "roll",
    "rot90", "repeat", "repeat_interleave", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d",
    "reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d", "pad", "pixel_shuffle",
    "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "im2col", "tril", "triu", "slice_scatter",
    "select_scatter", "diagonal_scatter", "as_strided_scatter", "diag_embed", "block_diag", "tile", "reshape",
    "_reshape_copy", "view_copy", "expand_copy", "permute_copy", "transpose_copy", "t_copy", "squeeze_copy",
    "unsqueeze_copy", "select_copy", "slice_copy", "split_copy", "split_with_sizes_copy", "unbind_copy",
    "unfold_copy", "as_strided_copy", "diagonal_copy", "narrow_copy", "unsafe_split", "unsafe_split_with_sizes",
    "unsafe_chunk", "trace", "resize", "_reshape_alias", "_reshape_alias_copy",
))  # fmt: skip
_REDUCTIONS = frozenset((
    "sum", "mean", "amax", "amin", "max", "min", "median", "nanmedian", "prod", "logsumexp", "var", "std",
    "var_mean", "std_mean", "norm", "linalg_vector_norm", "nansum", "any", "all", "aminmax", "mode", "kthvalue",
    "nanmean", "argmax", "argmin", "count_nonzero",
))  # fmt: skip
_ALONG = frozenset(
    ["cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "sort", "topk", "argsort", "msort", "renorm"]
)
_WRITES = frozenset((
    "index_put", "_index_put_impl", "_unsafe_index_put", "index_add", "index_copy", "index_fill", "scatter",
    "scatter_add", "scatter_reduce", "masked_scatter", "put", "index_reduce",
))  # fmt: skip
_RESHAPED_IN_PLACE = frozenset(
    ("transpose", "t", "squeeze", "unsqueeze", "swapaxes", "swapdims", "detach", "as_strided")
)
_RESAMPLED = ("pool1d", "pool2d", "pool3d", "upsample_", "grid_sampler", "pool2d_with_indices", "pool3d_with_indices")

_RULES: dict[str, Rule] = {
    **dict.fromkeys(NORMS, passing.keep),
    **dict.fromkeys(_OVERWRITTEN, passing.overwrite),
    **dict.fromkeys(_POINTWISE, passing.pointwise),
    **dict.fromkeys(_MOVES, passing.move),
    **dict.fromkeys(_REDUCTIONS, passing.reduce),
    **dict.fromkeys(_ALONG, passing.along),
    **dict.fromkeys(_WRITES, passing.write_into),
    **_LEARNABLE,
    **_ATTENTION,
    "copy": passing.copy,
    "as_strided": passing.reinterpret,
    "col2im": passing.fold,
    "glu": passing.halves,
    "cdist": attention.distances,
    "_cdist_forward": attention.distances,
    "_euclidean_dist": attention.distances,
}


def rule_for(op: Op) -> Rule | None:
    """Return the rule of an operator, or None if it is unknown."""
    if op.in_place and op.name in _RESHAPED_IN_PLACE:
        return passing.reinterpret
    rule = _RULES.get(op.name)
    if rule is not None and not (op.name in ("max", "min") and len(op.ins) == 2):
        return rule
    if torch.Tag.pointwise in op.func.tags:
        return passing.pointwise
    if any(part in op.full_name for part in _RESAMPLED):
        return passing.resample
    return None


def is_norm(op: Op) -> bool:
    """Tell whether an operator normalises its first argument."""
    return op.name in NORMS


def is_pointwise(op: Op) -> bool:
    """Tell whether an operator works element by element."""
    return rule_for(op) is passing.pointwise


def is_odd(tracer: Tracer, op: Op, own: Sequence[torch.Tensor]) -> bool:
    """Tell whether an operator's result is an odd function of some of its arguments, the others held or turned along.

    A sum may have trained vectors as other terms, for they turn as a bias does; a number cannot.
    """
    if op.name in ("add", "sub"):
        return all(any(x is y for y in own) or (bool(tracer.weight_of(x)) and x.numel() > 1) for x in op.args[:2])
    if len(own) > 1:
        return False
    if op.name == "hardtanh":
        return bool(op.arg("min_val") == -op.arg("max_val"))
    return op.name in _ODD or op.name == "mul" or (op.name == "div" and op.args[0] is own[0])
