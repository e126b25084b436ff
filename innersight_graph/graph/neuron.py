"""The two records a layered graph is made of: the id of a neuron and the description of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Layer", "Neuron"]


class Neuron(NamedTuple):
    """The id of one neuron, and a node of the graph.

    Parameters
    ----------
    layer : str
        The qualified module name; ``"input"`` for the input of the model.
    index : int
        The position within the layer, from 0.

    Examples
    --------
    >>> str(Neuron("fc1", 3))
    'fc1:3'
    >>> Neuron("fc1", 3) == ("fc1", 3)
    True
    """

    layer: str
    index: int  # type: ignore[assignment]  # shadows tuple.index, as any field of that name does

    def __str__(self) -> str:
        return f"{self.layer}:{self.index}"


@dataclass(frozen=True)
class Layer:
    """One layer of neurons.

    Parameters
    ----------
    name : str
        The qualified module name; ``"input"`` for the input of the model.
    depth : int
        The column of the layer, 0 for the input; layers side by side share a depth.
    width : int
        The number of neurons.
    kind : str
        What the neurons are: ``"input"``, ``"linear"``, ``"conv"``, ``"attention"``, ``"embedding"``, …
    shape : tuple of int, optional
        The positions of one neuron: ``()`` or ``(1,)`` for a linear unit, ``(height, width)`` for a channel.
    closing : str, optional
        The point of the model where the neurons of this layer are closed.
    odd : bool, default False
        Whether all that reads these neurons reads an odd function of them, such as tanh or nothing: then the sign of
        a neuron is a convention, which `balance` settles.

    Examples
    --------
    >>> Layer("fc1", 1, 128, "linear").width
    128
    """

    name: str
    depth: int
    width: int
    kind: str
    shape: tuple[int, ...] | None = None
    closing: str | None = None
    odd: bool = False
