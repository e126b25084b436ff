"""Reading and closing neurons of a live model without hurting it; every hook of the package lives in this room.

Names are imported when first used: `probe.session`, which knows nothing but torch, also serves the tracer before this
room.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innersight_graph.probe.capturing import Capture, capture
    from innersight_graph.probe.closing import ablate
    from innersight_graph.probe.likeness import similarities
    from innersight_graph.probe.tables import activations

__all__ = ["Capture", "ablate", "activations", "capture", "similarities"]

_HOMES = {
    "Capture": "capturing",
    "ablate": "closing",
    "activations": "tables",
    "capture": "capturing",
    "similarities": "likeness",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
