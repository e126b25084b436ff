"""How much work a run does: one place for every size, so that quick and full runs differ in nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np

from innersight_graph.data import ImageData
from innersight_graph.errors import InputError
from innersight_graph.provenance import environment

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes of one run.

    Attributes
    ----------
    seed : int
        Of the splits, the training, the random groups; detection seeds are ``seed``, ``seed + 1``, …
    seeds, train_seeds : int
        Detection seeds per network, networks trained.
    literal : bool
        Whether the printed readings stand beside the corrected ones.
    quick : bool
    """

    seed: int = 0
    seeds: int = 10
    train_seeds: int = 1
    literal: bool = True
    quick: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0 or self.seeds < 2 or self.train_seeds < 1:
            raise InputError(
                f"seed={self.seed}, seeds={self.seeds}, train_seeds={self.train_seeds} came; a seed of 0 or more, at "
                "least two detection seeds (Table 4 compares groups of runs) and one training seed were expected."
            )

    @property
    def detection_seeds(self) -> range:
        """Seeds of the detectors."""
        return range(self.seed, self.seed + (2 if self.quick else self.seeds))

    @property
    def nulls(self) -> int:
        """Random groups per community: enough for five layers at once; a quick run decides only single tests."""
        return 19 if self.quick else 99

    @property
    def starts(self) -> int:
        """Random starts of the paper's protocol, of its 100."""
        return 2 if self.quick else 20

    @property
    def numbers(self) -> range:
        """Numbers of communities tried; the paper's are 1 to 20."""
        return range(1, 9) if self.quick else range(1, 21)

    @property
    def images(self) -> int:
        """Images averaged in perturbation maps."""
        return 12 if self.quick else 100

    @property
    def scored(self) -> int:
        """Images for sensitivities and embeddings."""
        return 60 if self.quick else 300

    @property
    def points(self) -> int:
        """Points of a t-SNE: representations of all communities of a layer."""
        return 200 if self.quick else 500

    @property
    def held_out(self) -> int | None:
        """Most validation and test images used; None: all."""
        return 120 if self.quick else None

    def fingerprint(self, data: ImageData, version: str) -> str:
        """Digest of everything a result depends on: finished artefacts of another digest are not taken over."""
        made_with = {**asdict(self), **environment(), "version": version, "data": data.name}
        digest = hashlib.sha256(json.dumps(made_with).encode())
        for split in (data.train, data.validation, data.test):
            for tensor in split:
                digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
        return digest.hexdigest()[:16]
