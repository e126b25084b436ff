"""Guests of a live model: everything a probe may disturb is put back, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["hooked", "math_attention", "undisturbed", "unwrap"]

Hook = Callable[..., Any]
_WRAPPERS = ("_orig_mod", "module")  # what torch.compile and the data-parallel wrappers call the model inside


def unwrap(model: nn.Module) -> nn.Module:
    """Return the eager, single-device module inside ``torch.compile``, ``DataParallel`` and their kin.

    A hook added to a compiled module after its first call is silently ignored, and replicas of a data-parallel model
    share one store across threads; the module inside has neither problem and the same parameters.
    """
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, parallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[nn.Module]:
    """Lend the bare model in evaluation mode and return it bit-identical.

    Restored on every exit, also after an exception or Ctrl-C: each module's own train/eval flag, ``requires_grad`` of
    each parameter, buffers (values and identity), gradients, the attention fast path, and torch's random state.
    """
    inner = unwrap(model)
    modules = list(inner.modules())
    modes = [module.training for module in modules]
    flags = [(parameter, parameter.requires_grad, parameter.grad) for parameter in inner.parameters()]
    buffers = [
        (module, name, buffer, _version(buffer), buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.device.type != "meta"
    ]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    random_state = torch.get_rng_state()
    device_states = {d: torch.cuda.get_rng_state(d) for d in _cuda_devices(inner)}
    try:
        for module in modules:
            module.training = False
        torch.backends.mha.set_fastpath_enabled(False)
        yield inner
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for parameter, needed, gradient in flags:
            parameter.requires_grad_(needed)
            parameter.grad = gradient
        for module, name, buffer, version, value in buffers:
            module._buffers[name] = buffer
            if version is None or _version(buffer) != version:
                with torch.no_grad():
                    buffer.copy_(value)
        torch.backends.mha.set_fastpath_enabled(fast_path)
        torch.set_rng_state(random_state)
        for device, state in device_states.items():
            torch.cuda.set_rng_state(state, device)


@contextmanager
def hooked(hooks: Iterable[tuple[nn.Module, Hook]], *, pre: bool = False, with_kwargs: bool = False) -> Iterator[None]:
    """Attach forward hooks (``pre``: pre-hooks with keyword arguments) and remove exactly these, never the user's.

    The search by identity in ``finally`` also finds a hook whose handle was lost to an interrupt during installation.
    """
    wanted = list(hooks)
    own = {id(hook) for _, hook in wanted}
    try:
        for module, hook in wanted:
            if pre:
                module.register_forward_pre_hook(hook, with_kwargs=True)
            else:
                module.register_forward_hook(hook, with_kwargs=with_kwargs)
        yield
    finally:
        for module, _ in wanted:
            table = module._forward_pre_hooks if pre else module._forward_hooks
            for key in [key for key, hook in table.items() if id(hook) in own]:
                del table[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
                module._forward_hooks_with_kwargs.pop(key, None)


def plain_name(name: str) -> str:
    """Qualified module name without the parts that compiling and data-parallel wrappers put in."""
    return ".".join(part for part in name.split(".") if part != _WRAPPERS[0])


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _cuda_devices(model: nn.Module) -> set[torch.device]:
    return {p.device for p in model.parameters() if p.device.type == "cuda"}


@contextmanager
def math_attention() -> Iterator[None]:
    """While this lasts, attention is computed by plain operations, which forward derivatives and vmap know."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield
