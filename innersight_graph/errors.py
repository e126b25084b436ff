"""The exception tree.

InnerSightError
├── GraphSchemaError        also networkx.NetworkXError: a graph lacks what a layered signed graph needs
├── InputError              also ValueError: an argument or a data set that cannot be used
│   └── WriteError          also OSError: a file that the system could not write
├── UnsupportedLayerError   also TypeError: a model part that cannot become neurons
├── TraceError              the model could not be followed from input to output
└── MissingExtraError       also ImportError: an optional dependency is not installed

Every message says what came, what was expected and what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "GraphSchemaError",
    "InnerSightError",
    "InputError",
    "MissingExtraError",
    "TraceError",
    "UnsupportedLayerError",
    "WriteError",
]  # fmt: skip


class InnerSightError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(InnerSightError, ValueError):
    """An argument, a data set or a file that cannot be used as given."""


class WriteError(InputError, OSError):
    """A file could not be written: disk full, write-protected, held open; what was there before is unchanged."""


class UnsupportedLayerError(InnerSightError, TypeError):
    """A part of the model that cannot be turned into neurons; the message names the module."""


class TraceError(InnerSightError):
    """The model could not be followed from its input to its output."""


class MissingExtraError(InnerSightError, ImportError):
    """An optional dependency is missing; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'innersight-graph[{extra}]'"
        )
        self.package = package
        self.extra = extra


if TYPE_CHECKING:

    class GraphSchemaError(InnerSightError):
        """A graph lacks what a layered signed graph needs; the message names node, edge or attribute."""


def __getattr__(name: str) -> Any:
    # GraphSchemaError is also a NetworkXError, but importing this package must not import NetworkX.
    if name != "GraphSchemaError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import networkx as nx

    error = type(
        "GraphSchemaError",
        (InnerSightError, nx.NetworkXError),
        {
            "__doc__": "A graph lacks what a layered signed graph needs; the message names node, edge or attribute.",
            "__module__": __name__,
        },
    )
    globals()["GraphSchemaError"] = error
    return error
