"""Every figure and table of the paper from one call, each with a verdict on the claim it stands for."""

from __future__ import annotations

from innersight_graph.paper.run import ARTEFACTS, PaperResult, run_paper

__all__ = ["ARTEFACTS", "PaperResult", "run_paper"]
