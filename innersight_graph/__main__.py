"""`python -m innersight_graph` is the command `innersight`."""

from __future__ import annotations

from innersight_graph.cli import main

if __name__ == "__main__":
    main()
