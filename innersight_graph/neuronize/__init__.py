"""From a PyTorch model to its graph of neurons: trace, layers, weights."""
