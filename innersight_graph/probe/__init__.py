"""Reading and closing neurons of a live model without hurting it; every hook of the package lives in this room."""

from __future__ import annotations

from innersight_graph.probe.capturing import Capture, capture
from innersight_graph.probe.closing import ablate
from innersight_graph.probe.likeness import similarities
from innersight_graph.probe.tables import activations

__all__ = ["Capture", "ablate", "activations", "capture", "similarities"]
