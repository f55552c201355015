"""Are both photos genuine? Asked of a pair: beside a genuine photo of the same person a forgery gives itself away where it differs from it.

A forger changes the inner face and keeps the rest, or keeps the face and changes the rest; either way some of what a recogniser sees on its
way to the embedding agrees between the two photos and some does not. The comparer takes these cosine_features (cosines of every stage's pooled
features, and of one map cell by cell) through a small network, trained on pairs of the training people. The recogniser stays as it is; the
comparer may have a copy of it for itself, tuned on such pairs (`recognition.differential.train`).
"""

import json
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kryptonite.core.errors import DataError, WeightsError
from kryptonite.core.files import atomic_path, write_json
from kryptonite.recognition.config import ComparisonConfig
from kryptonite.recognition.differential.features import (
    STANDARD,
    FeatureBatch,
    FeatureMaps,
    cosine_features,
)
from kryptonite.recognition.recogniser import Recogniser

BATCH = 256  # pairs
CHUNK = 2048  # pairs, or photos, whose cells are in memory at once
_LIMIT = 30.0  # of the log-odds, either way


class DifferentialDetector:
    """Pairs of perceived photos to log-odds that both are genuine, given that they are of one person or meant to be.

    Args:
        tensors: float32: `pooled_centre`, `pooled_spread`, `cells_centre`, `cells_spread` of the training photos; `centre`, `spread` of the
            training pairs' features; of all K networks `weight_0` K×F×H, `bias_0` K×1×H, `weight_1` K×H×1, `bias_1` K×1×1.
        channels: As `FeatureMaps`.
        network: Through which the photos are to be perceived; None is the recogniser itself.
    """

    def __init__(
        self,
        tensors: dict[str, np.ndarray],
        channels: tuple[int, ...],
        network: Recogniser | None = None,
    ):
        self.tensors = tensors
        self.channels = tuple(channels)
        self.network = network

    @classmethod
    def fit(
        cls,
        config: ComparisonConfig,
        seen: FeatureMaps,
        a: np.ndarray,
        b: np.ndarray,
        genuine: np.ndarray,
    ) -> "DifferentialDetector":
        """Trains.

        Args:
            config: Settings.
            seen: The training photos.
            a: N rows of `seen`, the first photo of each pair.
            b: The second.
            genuine: N bool, whether both are.

        Raises:
            DataError: The pairs are all of one class.
        """
        from sklearn.exceptions import (
            ConvergenceWarning,
        )  # scoring, which fits nothing, starts a second sooner without it
        from sklearn.neural_network import MLPClassifier

        if genuine.all() or not genuine.any():
            raise DataError(
                "the comparer cannot be trained: it needs pairs of genuine photos and pairs with a k_ image of the same person"
            )
        tensors = {}
        for name in ("pooled", "cells"):
            values = getattr(seen, name)
            centre, spread = (
                figure(0, dtype=np.float64) for figure in (values.mean, values.std)
            )  # sums of half floats overflow
            tensors |= {
                f"{name}_centre": centre.astype(np.float32),
                f"{name}_spread": np.maximum(spread, 1e-3).astype(np.float32),
            }
        unfitted = cls(tensors, seen.channels)
        features = map_chunks(partial(unfitted.features, seen), a, b)
        tensors |= {"centre": features.mean(0), "spread": np.maximum(features.std(0), 1e-6)}
        scaled = (features - tensors["centre"]) / tensors["spread"]
        networks = [
            MLPClassifier(
                (config.hidden,),
                alpha=config.decay,
                max_iter=config.epochs,
                batch_size=min(BATCH, len(scaled)),
                random_state=config.seed + number,
            )
            for number in range(config.networks)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # the epochs are chosen, not awaited
            for network in networks:
                network.fit(scaled, genuine)
        for layer in range(2):
            tensors[f"weight_{layer}"] = np.stack(
                [network.coefs_[layer] for network in networks]
            ).astype(np.float32)
            tensors[f"bias_{layer}"] = np.stack(
                [network.intercepts_[layer][None] for network in networks]
            ).astype(np.float32)
        return cls(tensors, seen.channels)

    def __call__(self, seen: FeatureMaps, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Judges pairs of rows: float32, N, positive speaks for two genuine photos; the same whichever comes first.

        Raises:
            DataError: Another recogniser saw these photos.
        """
        if seen.channels != self.channels:
            raise DataError(
                f"the comparer was trained on stages of {self.channels} channels, the recogniser has {seen.channels}"
            )
        return map_chunks(partial(self._judge, seen), a, b)

    def _judge(self, seen: FeatureMaps, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        tensors = {name: torch.from_numpy(tensor) for name, tensor in self.tensors.items()}
        return (
            differential_logits(
                FeatureBatch.of(seen, a), FeatureBatch.of(seen, b), tensors, self.channels
            )
            .numpy()
            .clip(-_LIMIT, _LIMIT)
        )

    def features(self, seen: FeatureMaps, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """How far both photos of each pair agree: float32, N×F, as `recognition.differential.features.cosine_features`."""
        standard = {name: torch.from_numpy(self.tensors[name]) for name in STANDARD}
        return cosine_features(
            FeatureBatch.of(seen, a), FeatureBatch.of(seen, b), standard, seen.channels
        ).numpy()

    def save(self, folder: Path | str) -> None:
        """Writes comparer.safetensors, the network's files where it has one of its own, then comparer.json; a folder with it is whole."""
        folder = Path(folder)
        with atomic_path(folder / "comparer.safetensors") as temporary:
            save_file(
                {name: np.ascontiguousarray(tensor) for name, tensor in self.tensors.items()},
                temporary,
            )
        if self.network is not None:
            self.network.save(folder)
        write_json(
            folder / "comparer.json",
            {"channels": list(self.channels), "own_network": self.network is not None},
        )

    @classmethod
    def load(
        cls, folder: Path | str, device: str = "auto", engine: str = "torch"
    ) -> "DifferentialDetector":
        """Reads what `save` wrote; device and engine are for a network of its own, as `nn.model.CropModel.load`.

        Raises:
            WeightsError: A file is missing or damaged.
            ConfigError: As `CropModel.load`.
        """
        folder = Path(folder)
        try:
            described: dict[str, Any] = json.loads(
                (folder / "comparer.json").read_text(encoding="utf-8")
            )
            own, channels = described["own_network"], tuple(described["channels"])
            tensors = load_file(folder / "comparer.safetensors")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise WeightsError(
                f"{folder}: holds no comparer ({error}); `python train.py` makes one"
            ) from error
        return cls(tensors, channels, Recogniser.load(folder, device, engine) if own else None)


def differential_logits(
    one: FeatureBatch,
    other: FeatureBatch,
    tensors: Mapping[str, torch.Tensor],
    channels: tuple[int, ...],
    dropout: float = 0.0,
) -> torch.Tensor:
    """Log-odds that both photos of N pairs are genuine, unbounded: the mean of all networks.

    Args:
        one: The first photos.
        other: The second.
        tensors: As `DifferentialDetector`.
        channels: As `FeatureMaps`.
        dropout: Shard of the hidden units that are left out at random, while training.
    """
    scaled = (cosine_features(one, other, tensors, channels) - tensors["centre"]) / tensors[
        "spread"
    ]
    hidden = torch.relu(scaled @ tensors["weight_0"] + tensors["bias_0"])
    hidden = torch.nn.functional.dropout(hidden, dropout)
    return (hidden @ tensors["weight_1"] + tensors["bias_1"]).mean(0)[:, 0]


def map_chunks(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """What a function gives for pairs of rows, `CHUNK` pairs at a time."""
    return np.concatenate(
        [
            function(a[start : start + CHUNK], b[start : start + CHUNK])
            for start in range(0, max(len(a), 1), CHUNK)
        ]
    )
