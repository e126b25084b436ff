"""From a PyTorch model to its graph of neurons: trace who feeds whom, group neurons into layers, weigh the edges."""

from innersight_graph.neuronize.build import neuron_graph
from innersight_graph.neuronize.closing import Closing
from innersight_graph.neuronize.load import load_model
from innersight_graph.neuronize.summary import GraphSummary, summarize
from innersight_graph.neuronize.trace import trace_model

__all__ = ["Closing", "GraphSummary", "load_model", "neuron_graph", "summarize", "trace_model"]
