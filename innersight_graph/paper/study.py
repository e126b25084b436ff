"""The networks of a run and the partitions of each: made once, kept in files, taken over by a repeated run."""

from __future__ import annotations

import io
import os
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import torch
from torch import nn

from innersight_graph.data import ImageData, Split
from innersight_graph.detection.em import whole_results
from innersight_graph.errors import InputError
from innersight_graph.evaluation.score import PartitionScore
from innersight_graph.evaluation.sensitivity import normalised
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.neuronize import neuron_graph
from innersight_graph.neuronize.load import read_weights
from innersight_graph.paper.methods import FROM_WEIGHTS, METHODS, OURS, Material, find
from innersight_graph.paper.networks import NETWORKS, accuracy, train
from innersight_graph.paper.settings import Settings
from innersight_graph.paper.store import Store
from innersight_graph.partition import Partition
from innersight_graph.probe.tables import activations

__all__ = ["Network", "Study"]

# Layers whose communities the paper looks for, and the last of them (Table 2).
LAYERS = {"linear": ("fc1", "fc2", "fc3"), "convolutional": ("conv1", "conv2", "conv3")}
Say = Callable[[str], None]
T = TypeVar("T")


@dataclass
class Network:
    """A trained network with everything measured on it that methods need.

    Attributes
    ----------
    kind : {"linear", "convolutional"}
    number : int
        Which of the training seeds.
    model, untrained : torch.nn.Module
        ``untrained`` has the initial weights.
    data : ImageData
    """

    kind: str
    number: int
    model: nn.Sequential
    untrained: nn.Sequential
    data: ImageData
    settings: Settings

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that are partitioned."""
        return LAYERS[self.kind]

    @cached_property
    def tail(self) -> tuple[nn.Sequential, Split, Split]:
        """What follows the last of these layers, its activation and pooling, with its inputs (validation, test).

        Closing a neuron there equals closing it in the whole network: ReLU and pooling keep channels apart and zeros.
        The modules that have run are there by name only.
        """
        parts = list(self.model.named_children())
        start = next(i for i, (name, _) in enumerate(parts) if name == self.layers[-1])
        stop = start + 1
        while isinstance(parts[stop][1], nn.ReLU | nn.MaxPool2d):
            stop += 1
        tail = nn.Sequential(
            OrderedDict([(name, nn.Identity()) for name, _ in parts[start:stop]] + parts[stop:])
        ).eval()
        with torch.no_grad():
            splits = [
                Split(torch.cat([self.model[:stop](part) for part in split.inputs.split(64)]), split.targets)
                for split in (self.data.validation, self.data.test)
            ]
        return tail, splits[0], splits[1]

    @cached_property
    def graph(self) -> LayeredDiGraph:
        """Trained weights, silent neurons marked."""
        return neuron_graph(self.model, self.data.train)

    @cached_property
    def untrained_graph(self) -> LayeredDiGraph:
        """Initial weights."""
        return neuron_graph(self.untrained, self.data.train)

    @cached_property
    def few(self) -> Split:
        """Validation images for sensitivities and Q."""
        validation, few = self.data.validation, self.settings.scored
        return Split(validation.inputs[:few], validation.targets[:few])

    @cached_property
    def test_accuracy(self) -> float:
        """Share of test images classified correctly."""
        return accuracy(self.model, self.data.test)

    def material(self, numbers: Mapping[str, int], layers: tuple[str, ...], *, measured: bool = True) -> Material:
        """Return what the methods see, for these layers; not ``measured``: only the graph of trained weights."""
        unmeasured: dict[str, Any] = {
            "printed": self.graph, "absolute": self.graph, "features": {}, "similarities": {},
            "score": self._score(self.graph),
        }  # fmt: skip
        whole = self._whole if measured else unmeasured
        return Material(
            self.graph,
            whole["printed"],
            whole["absolute"],
            layers,
            {name: numbers[name] for name in layers},
            whole["features"],
            whole["similarities"],
            whole["score"],
            self.settings.numbers,
            self.settings.starts,
        )

    @cached_property
    def _whole(self) -> dict[str, Any]:
        few = Split(
            self.data.train.inputs[: 2 * self.settings.scored], self.data.train.targets[: 2 * self.settings.scored]
        )
        printed = self.graph if self.kind == "linear" else neuron_graph(self.model, few, edges="eq1", reading="literal")
        printed = with_silent(printed, self.graph)
        score = self._score(printed)
        # As printed a similarity is not normalised; Lange et al.'s is.
        similarities = {name: normalised(score.sensitivity.similarity(printed, name)) for name in self.layers}
        return {
            "printed": printed,
            "absolute": with_silent(neuron_graph(self.model, few, edges="l1", fold_batchnorm=True), self.graph),
            "features": activations(self.model, self.data.train, self.graph, at="unit"),
            "similarities": similarities,
            "score": score,
        }

    def _score(self, printed: LayeredDiGraph) -> PartitionScore:
        return PartitionScore(self.model, self.few, printed, literal=True)


def with_silent(G: LayeredDiGraph, like: LayeredDiGraph) -> LayeredDiGraph:
    """Mark the silent neurons of another graph of the same model, so that all methods set the same ones aside."""
    if G is like:
        return G
    attributes = {layer.name: dict(like.node_attributes.get(layer.name, {})) for layer in G.layers}
    return LayeredDiGraph.from_arrays(G.layers, G.connections, kinds=G.kinds, node_attributes=attributes)


class Study:
    """Networks and partitions of one run, made when first asked for.

    Parameters
    ----------
    data : ImageData
    settings : Settings
    store : Store
    n_jobs : int
        Worker processes for detections.
    say : callable
        Told what is going on.
    """

    def __init__(self, data: ImageData, settings: Settings, store: Store, *, n_jobs: int, say: Say) -> None:
        self.data, self.settings, self.store, self.n_jobs, self.say = data, settings, store, n_jobs, say
        self._networks: dict[tuple[str, int], Network] = {}
        self._known: dict[str, Any] = {}
        self.refusals: dict[str, str] = {}

    def network(self, kind: str, number: int = 0) -> Network:
        """Return a trained network; its weights are kept."""
        key = (kind, number)
        if key not in self._networks:
            seed = self.settings.seed + number
            model, untrained = (NETWORKS[kind](self.data, seed=seed) for _ in range(2))
            if not load_weights(model, self._weights(kind, number)):
                self.say(f"training the {kind} network")
                train(model, self.data.train, kind=kind, name=self.data.name, seed=seed, quick=self.settings.quick)
                self.save_weights(model, self._weights(kind, number))
            self._networks[key] = Network(kind, number, model, untrained, self.data, self.settings)
        return self._networks[key]

    def once(self, what: str, make: Callable[[], T]) -> T:
        """Return what several artefacts need, made by the first that asks."""
        if what not in self._known:
            self._known[what] = make()
        made: T = self._known[what]
        return made

    def save_weights(self, model: nn.Module, path: Path) -> None:
        """Keep a state_dict."""
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        self.store.write(path, buffer.getvalue())

    def main(self, kind: str, method: str = OURS, number: int = 0) -> Partition:
        """Return the partition of all layers that figures and Table 1 use."""
        network = self.network(kind, number)
        numbers = {} if method == OURS else self.numbers(kind, number)
        found = self._load(network, method, self.settings.seed, network.layers)
        if found is None:
            self.say(f"communities of the {kind} network: {METHODS[method].label}")
            material = network.material(
                numbers or dict.fromkeys(network.layers, 2), network.layers, measured=method not in FROM_WEIGHTS
            )
            found = self._keep(
                network, method, self.settings.seed, network.layers, find(method, material, self.settings.seed)
            )
        if found is None:
            raise InputError(
                f"{METHODS[method].label} refused the {kind} network ({self.refusals[method]}), and the figures rest "
                "on it. Use other data or another seed."
            )
        return found

    def numbers(self, kind: str, number: int = 0) -> dict[str, int]:
        """Communities per layer for methods that must be told: EM's, at least two, at most the live neurons."""
        network = self.network(kind, number)
        stats = self.main(kind, OURS, number).stats
        live = {name: int((~network.graph.node_attributes[name]["silent"]).sum()) for name in network.layers}
        return {name: max(1, min(max(2, int(stats[name]["n_communities"])), live[name])) for name in network.layers}

    def partitions(
        self, kind: str, layers: tuple[str, ...], number: int = 0, methods: Iterable[str] = tuple(METHODS)
    ) -> dict[str, dict[int, Partition]]:
        """Return method -> detection seed -> partition; a method that refuses is left out, its reason kept."""
        network = self.network(kind, number)
        wanted = [(method, seed) for method in methods for seed in self.settings.detection_seeds]
        found = {key: self._load(network, *key, layers) for key in wanted}
        missing = [key for key, partition in found.items() if partition is None]
        if missing:
            material = network.material(self.numbers(kind, number), layers)
            jobs = {key: (find, key[0], material, key[1]) for key in missing}
            for key, result in self.spread(jobs, f"communities of the {kind} network"):
                found[key] = self._keep(network, key[0], key[1], layers, result)
        table: dict[str, dict[int, Partition]] = {}
        for (method, seed), partition in found.items():
            if partition is not None:
                table.setdefault(method, {})[seed] = partition
        return table

    def spread(self, jobs: Mapping[Any, tuple[Any, ...]], what: str) -> Iterator[tuple[Any, Any]]:
        """Run ``function(*arguments)`` of every job in worker processes; yield key and result as they come."""
        from joblib import Parallel, delayed

        keys = list(jobs)
        work = (delayed(_numbered)(i, os.getpid(), *jobs[key]) for i, key in enumerate(keys))
        workers = Parallel(n_jobs=max(1, min(self.n_jobs, len(keys))), return_as="generator_unordered")
        with warnings.catch_warnings():
            # Idle workers are ended and started again on a busy machine; no result is lost by that.
            warnings.filterwarnings("ignore", message="A worker stopped", category=UserWarning)
            lost = dict(jobs)
            try:
                for done, (i, result) in enumerate(workers(work), start=1):
                    self.say(f"{what}: {done} of {len(keys)}")
                    del lost[keys[i]]
                    yield keys[i], result
            except BrokenProcessPool:
                warnings.warn(
                    f"A worker process died, perhaps for lack of memory: {len(lost)} of {len(jobs)} pieces of work "
                    "are done again, in this process. The result is the same; pass a smaller n_jobs if it happens "
                    "again.",
                    RuntimeWarning,
                    stacklevel=2,
                )
                for key, (function, *arguments) in lost.items():
                    yield key, function(*arguments)

    def _weights(self, kind: str, number: int) -> Path:
        return self.store.work / f"{kind}-{number}.pt"

    def _file(self, network: Network, method: str, seed: int, layers: tuple[str, ...]) -> Path:
        part = "" if layers == network.layers else "-" + "-".join(layers)
        return self.store.work / f"{network.kind}-{network.number}-{method.replace(' ', '-')}-{seed}{part}.json"

    def _load(self, network: Network, method: str, seed: int, layers: tuple[str, ...]) -> Partition | None:
        path = self._file(network, method, seed, layers)
        if not path.is_file():
            return None
        found = Partition.from_json(path)
        found.check(network.graph)
        return found

    def _keep(
        self, network: Network, method: str, seed: int, layers: tuple[str, ...], result: Partition | str
    ) -> Partition | None:
        if isinstance(result, str):
            self.refusals[method] = result
            return None
        self.store.write(self._file(network, method, seed, layers), result.to_json())
        return result


@whole_results()
def _numbered(position: int, owner: int, function: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    if owner != os.getpid():
        _end_with(owner)
    return position, function(*arguments)


@cache
def _end_with(owner: int) -> None:
    """End this worker process once its owner is gone: a killed run must not go on computing, nor write files."""

    def watch() -> None:
        # A process whose parent is gone gets another one, except on Windows.
        while os.getppid() == owner:
            time.sleep(0.5)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def load_weights(model: nn.Module, path: Path) -> bool:
    """Load a state_dict if there is one; nothing in the file is executed."""
    if not path.is_file():
        return False
    model.load_state_dict(read_weights(path))
    return True
