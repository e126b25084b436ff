"""What a trace finds: units of neurons, how they are fed, and how much of the model was understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from innersight_graph.neuronize.closing import Closing
from innersight_graph.neuronize.sets import NeuronSets

__all__ = ["Coverage", "Feed", "InputNeurons", "Trace", "Unit"]


@dataclass
class Feed:
    """One learnable map from input channels to the neurons of a unit.

    Attributes
    ----------
    weight : torch.Tensor, shape (width, n_channels / groups, *kernel)
        A view of the trained weight (or what the model computed from it), neurons first.
    groups : int
        Neuron q reads the channels ``q // (width / groups) * (n_channels / groups) + i``.
    sources : torch.Tensor, shape (n_channels,), int32
        For each input channel, the id of the set of neurons that feed it.
    """

    weight: torch.Tensor
    groups: int
    sources: torch.Tensor


@dataclass
class Unit:
    """One learnable layer as the trace met it: all neurons that one weight makes.

    Attributes
    ----------
    name : str
        Qualified module name; a suffix ``@2`` tells a second use of the same weight in another role (tied weights).
    kind : str
        ``"linear"``, ``"conv"``, ``"embedding"``, ``"bilinear"`` or ``"experts"``.
    width : int
    first_id, first : int
        Set id and number of the first neuron; the others follow.
    parameters : tuple of str
        Names of all parameters the weight was computed from, aliases included.
    aliases : tuple of str
        Other names of the same weight.
    calls : int
        How often it was applied in one forward pass.
    positions : tuple of int
        Shape of one neuron's output in the traced sample: (height, width) of a map, (tokens,), () for one number.
    superset : bool
        Its edges may include some that only other inputs use (experts chosen by a router).
    norm_scale : torch.Tensor, shape (width,), or None
        Factor that a batch-norm right after the unit applies to each neuron.
    """

    name: str
    kind: str
    width: int
    first_id: int
    first: int
    parameters: tuple[str, ...]
    aliases: tuple[str, ...]
    weight_name: str
    weight_axis: int
    weight_start: int
    bias_name: str
    feeds: list[Feed] = field(default_factory=list)
    calls: int = 0
    positions: tuple[int, ...] = ()
    chains: list[int] = field(default_factory=list)
    superset: bool = False
    norm_scale: torch.Tensor | None = None


@dataclass(frozen=True)
class InputNeurons:
    """The elements of one input tensor: neuron ``first + i`` is its i-th element (or its i-th token, if ``tokens``)."""

    name: str
    first: int
    shape: tuple[int, ...]
    tokens: bool = False

    @property
    def count(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class Coverage:
    """How much of the model the trace understood; nothing is guessed in silence.

    Attributes
    ----------
    unknown_ops : mapping from operator to int
        Operators without a rule that met neurons, with counts. Same shape in and out: neurons pass through; otherwise
        every
        output element depends on all neurons of the inputs (a superset).
    approximated : mapping from operator to int
        Operators whose rule gave a superset (a pooling window over several producers).
    unreached : tuple of str
        Weights (parameters with two or more axes) that the forward pass never read.
    unused : tuple of str
        Weights that were read but make no neurons: position embeddings, class tokens, bias tables.
    data_dependent : tuple of str
        Modules that read a value of the data in Python: the graph holds for the branch this sample took.
    supersets : tuple of str
        Layers whose edges may include some that only other inputs use.
    recurrent : tuple of (str, str)
        Pairs of layers whose connection goes back to an earlier layer (recurrence, shared layers).
    calls : mapping from layer to int
        How often each layer was applied.
    outputs : tuple of str
        Layers whose neurons reach the model's output with no other layer between.
    folded : tuple of (str, str)
        Layers with nothing non-linear between them, whose neurons are not identifiable.
    n_ops, n_sets, label_bytes : int
        Size of the trace; ``label_bytes`` is written label memory, most of it released again on the way.
    seconds : float
        CPU time of the traced forward pass.
    method : str
        ``"labels"`` or ``"autograd"``.
    """

    unknown_ops: Mapping[str, int]
    approximated: Mapping[str, int]
    unreached: tuple[str, ...]
    unused: tuple[str, ...]
    data_dependent: tuple[str, ...]
    supersets: tuple[str, ...]
    recurrent: tuple[tuple[str, str], ...]
    calls: Mapping[str, int]
    outputs: tuple[str, ...]
    folded: tuple[tuple[str, str], ...]
    n_ops: int
    n_sets: int
    label_bytes: int
    seconds: float
    method: str = "labels"


@dataclass(frozen=True)
class Trace:
    """One forward pass, read as neurons.

    Attributes
    ----------
    units : tuple of Unit
        In order of first execution.
    inputs : tuple of InputNeurons
    sets : NeuronSets
        Meaning of the ids in ``Feed.sources``.
    points : mapping from unit name to {"unit", "post_norm", "post_act": Closing}
        Where a unit's own output, its normed output and its closing point can be read.
    roles, heads : mapping from neuron number to its part in attention ("q", "k", "v") and its head
    coverage : Coverage
    odd : frozenset of unit names
        Units that other units read through odd functions only (tanh, nothing): the sign of their neurons is free.
    """

    units: tuple[Unit, ...]
    inputs: tuple[InputNeurons, ...]
    sets: NeuronSets
    points: Mapping[str, Mapping[str, Closing]]
    roles: Mapping[int, str]
    heads: Mapping[int, int]
    coverage: Coverage
    odd: frozenset[str] = frozenset()
