"""Fixtures shared by every test file: trained models and their graphs are made once per session."""

from __future__ import annotations

import os

# Each test process uses one thread: two cores are shared by the whole suite, and thread counts must not change results.
os.environ.setdefault("OMP_NUM_THREADS", "1")
