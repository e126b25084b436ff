"""The study of real trained networks in pieces: networks, methods, scores, table; run by `real_networks.py`."""
