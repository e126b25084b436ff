"""Models that cannot become a graph are refused before anything runs; the message names the module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from innersight_graph.errors import InputError, UnsupportedLayerError

__all__ = ["check_weights", "named_weights", "unwrap"]


def unwrap(model: Any) -> nn.Module:
    """Return the plain eager module behind torch.compile, DataParallel and DistributedDataParallel.

    Raises
    ------
    UnsupportedLayerError
        Scripted, exported, quantised or sharded models, and parameters that are not initialised.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedLayerError(
            f"model is a {type(model).__name__}. Expected a torch.nn.Module; wrap a function in a module that owns its "
            "parameters."
        )
    plain = _innermost(model)
    for name, module in plain.named_modules():
        for applies, reason in _REFUSED:
            if applies(module):
                raise UnsupportedLayerError(
                    f"Module {name or '(the model itself)'!r} ({type(module).__name__}) {reason}"
                )
    for name, parameter in named_weights(plain):
        _check_parameter(name, parameter)
    return plain


def _innermost(model: nn.Module) -> nn.Module:
    """Return the module inside compiled and parallel wrappers."""
    inner = model._modules.get("_orig_mod")
    if inner is None and isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inner = model.module
    return model if inner is None else _innermost(inner)


def _is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _is_compiled_inside(module: nn.Module) -> bool:
    return "_orig_mod" in module._modules


def _is_quantised(module: nn.Module) -> bool:
    home = type(module).__module__
    return (
        ".ao.nn.quantized" in home
        or ".nn.quantized" in home
        or "bitsandbytes" in home
        or hasattr(module, "_packed_params")
    )


def _is_sharded(module: nn.Module) -> bool:
    return any("FullyShardedDataParallel" in c.__name__ or "FSDP" in c.__name__ for c in type(module).__mro__)


_REFUSED: tuple[tuple[Callable[[nn.Module], bool], str], ...] = (
    (
        _is_scripted,
        "is scripted: hooks on it are ignored and its operators are fused, so the graph would be wrong. "
        "Pass the eager model that it was scripted from.",
    ),
    (
        _is_quantised,
        "is quantised: its weights are packed integers, not neurons' weights. Pass the float model it was converted "
        "from.",
    ),
    (
        _is_sharded,
        "is sharded (FSDP): each process holds only a part of every weight. Gather the full model on one process "
        "first.",
    ),
    (
        _is_compiled_inside,
        "is a compiled part of the model, which runs outside the trace. Pass the model before torch.compile was "
        "applied to it.",
    ),
)


def _check_parameter(name: str, parameter: torch.Tensor) -> None:
    module = name.rpartition(".")[0] or "(the model itself)"
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        raise UnsupportedLayerError(
            f"Module {module!r}: the parameter {name!r} is not initialised yet (a lazy layer). Run one batch "
            f"through the model first."
        )
    if any(word in type(parameter.data).__name__ + type(parameter).__name__ for word in ("DTensor", "ShardedTensor")):
        raise UnsupportedLayerError(
            f"Module {module!r}: the parameter {name!r} is sharded over devices ({type(parameter.data).__name__}). "
            "Gather the full model on one process first."
        )
    if parameter.is_quantized or not (parameter.is_floating_point() or parameter.is_complex()):
        raise UnsupportedLayerError(
            f"Module {module!r}: the parameter {name!r} is quantised ({parameter.dtype}). Pass the float model it "
            f"was converted from."
        )
    if parameter.layout != torch.strided:
        raise UnsupportedLayerError(
            f"Module {module!r}: the parameter {name!r} has layout {parameter.layout}. Convert it with to_dense() "
            f"first."
        )


def named_weights(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return every name of every parameter, those of tied weights all."""
    return list(model.named_parameters(remove_duplicate=False))


def check_weights(model: nn.Module) -> None:
    """Refuse a model without learnable layers, or with NaN or infinite weights.

    Raises
    ------
    UnsupportedLayerError, InputError
    """
    parameters = named_weights(model)
    if not any(p.ndim >= 2 for _, p in parameters):
        raise UnsupportedLayerError(
            f"The model ({type(model).__name__}) has no learnable layer: {len(parameters)} parameters, none with "
            f"two or more axes. "
            "Expected at least one linear, convolutional or embedding layer."
        )
    for name, parameter in parameters:
        # NaN and infinity survive a sum, which needs no copy of the weight.
        if not parameter.is_meta and not bool(torch.isfinite(parameter.detach().sum())):
            bad = int((~torch.isfinite(parameter.detach())).sum())
            if bad:
                raise InputError(
                    f"The parameter {name!r} holds {bad} NaN or infinite values. Train the model again or repair "
                    f"the weight: "
                    "a graph of such weights would be meaningless."
                )
