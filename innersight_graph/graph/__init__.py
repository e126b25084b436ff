"""The graph of neurons: a layered, signed NetworkX DiGraph over arrays, its profiles, its gauge, and its formats."""
