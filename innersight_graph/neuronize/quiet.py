"""Look at a live model and leave no trace: modes, hooks, buffers and global switches come back as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from innersight_graph.probe.session import hooked

__all__ = ["module_hooks", "undisturbed"]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run a model quietly: eval mode, no gradients, no fused fast paths; all is restored, also after an error.

    Buffers are compared with copies at the end and written back if the forward pass changed them.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers() if not buffer.is_meta]
    places = [(module, dict(module._buffers)) for module in model.modules() if module._buffers]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        stack.callback(_restore_buffers, buffers, places)
        stack.callback(_restore_modes, modes)
        stack.enter_context(torch.no_grad())
        torch.backends.mha.set_fastpath_enabled(False)
        if any(isinstance(module, nn.RNNBase) for module, _ in modes):
            # cuDNN packs the weights of recurrent layers into one buffer, where they cannot be told apart.
            stack.callback(setattr, torch.backends.cudnn, "enabled", torch.backends.cudnn.enabled)
            torch.backends.cudnn.enabled = False
        for module, _ in modes:
            module.training = False
        yield


def _restore_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training


def _restore_buffers(
    buffers: list[tuple[torch.Tensor, torch.Tensor]], places: list[tuple[nn.Module, dict[str, torch.Tensor | None]]]
) -> None:
    for module, own in places:
        if any(module._buffers.get(name) is not tensor for name, tensor in own.items()) or len(module._buffers) != len(
            own
        ):
            module._buffers.clear()
            module._buffers.update(own)
    with torch.no_grad():
        for buffer, copy in buffers:
            if buffer.shape != copy.shape or not torch.equal(buffer, copy):
                buffer.data = copy


@contextmanager
def module_hooks(
    model: nn.Module, enter: Callable[[str, nn.Module], None], leave: Callable[[str, Any], None]
) -> Iterator[None]:
    """Report the start and the end of every module's forward; only these hooks are removed again."""
    named = list(model.named_modules())
    entering = [(module, _entering(enter, name)) for name, module in named]
    leaving = [(module, _leaving(leave, name)) for name, module in named]
    with hooked(entering, pre=True), hooked(leaving):
        yield


def _entering(enter: Callable[[str, nn.Module], None], name: str) -> Callable[..., None]:
    return lambda module, _args, _kwargs: enter(name, module)


def _leaving(leave: Callable[[str, Any], None], name: str) -> Callable[..., None]:
    return lambda _module, _args, output: leave(name, output)
