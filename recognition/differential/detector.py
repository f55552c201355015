"""Differential forgery detection: score a pair from where its features disagree.

A forger changes the inner face and keeps the rest, or keeps the face and changes the rest. Either
way, beside a bona fide photo of the same person, some of a recogniser's intermediate features agree
and some do not. The detector passes these agreements (cosines of every stage's pooled features, and
of one map cell by cell) through small networks trained on pairs of the training identities. It
reads the features of the recogniser, or of a copy fine-tuned on such pairs
(`recognition.differential.train`).
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from kryptonite.core.chunks import map_chunks
from kryptonite.core.errors import MALFORMED, DataError, WeightsError
from kryptonite.core.files import atomic_path, read_json, refuse_unknown, write_json
from kryptonite.recognition.config import ComparisonConfig
from kryptonite.recognition.differential.features import (
    FeatureBatch,
    cosine_features,
    feature_count,
)
from kryptonite.recognition.differential.maps import CELLS, FeatureMaps
from kryptonite.recognition.recogniser import Recogniser

WEIGHTS_FILE, DESCRIPTION_FILE = "comparer.safetensors", "comparer.json"
BATCH = 256  # pairs per step of the small networks
CHUNK = 2048  # pairs, or photos, whose cells are in memory at once
DROPOUT = 0.2  # probability per hidden unit, in training mode
_MIN_SPREAD = {"pooled": 1e-3, "cells": 1e-3, "pairs": 1e-6}
_LIMIT = 30.0  # on the absolute score


def has_own_backbone(folder: Path) -> bool:
    """Whether a saved detector has a backbone of its own beside it."""
    described = read_json(folder / DESCRIPTION_FILE)
    return bool(described["own_network"])


class DifferentialDetector(nn.Module):
    """Maps both photos of a pair to the log-odds that both are bona fide.

    The pair must show one person, or be meant to. The result is the mean over K small networks.

    Args:
        channels: As in `FeatureMaps`.
        cell_channels: Channels of `FeatureMaps.cells`.
        networks: K, the number of small networks.
        hidden: Hidden units of each.
        backbone: Extracts the feature maps; None means the run's recogniser. Not a submodule: it is
            saved, and moved between devices, by itself.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        cell_channels: int,
        networks: int,
        hidden: int,
        backbone: Recogniser | None = None,
    ):
        super().__init__()
        self.channels = tuple(channels)
        self.backbone = backbone
        features = feature_count(self.channels)
        # Statistics of the training photos, then of the training pairs' features.
        for name, shape in (
            ("pooled", (2 * sum(self.channels),)),
            ("cells", (cell_channels, CELLS, CELLS)),
        ):
            self.register_buffer(f"{name}_centre", torch.zeros(shape))
            self.register_buffer(f"{name}_spread", torch.ones(shape))
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.weight_0 = nn.Parameter(torch.zeros(networks, features, hidden))
        self.bias_0 = nn.Parameter(torch.zeros(networks, 1, hidden))
        self.weight_1 = nn.Parameter(torch.zeros(networks, hidden, 1))
        self.bias_1 = nn.Parameter(torch.zeros(networks, 1, 1))

    @classmethod
    def fit(
        cls,
        config: ComparisonConfig,
        maps: FeatureMaps,
        a: np.ndarray,
        b: np.ndarray,
        bona_fide: np.ndarray,
    ) -> "DifferentialDetector":
        """Trains a detector, in eval mode and without a backbone of its own.

        Args:
            config: Settings.
            maps: Features of the training photos.
            a: N rows of `maps`, the first photo of each pair.
            b: The second.
            bona_fide: N bool, whether both photos are.

        Raises:
            DataError: The pairs are all of one class.
        """
        # Imported here because scoring, which trains nothing, starts a second sooner without it.
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        if bona_fide.all() or not bona_fide.any():
            raise DataError(
                "the differential detector cannot be trained: it needs pairs of genuine photos and "
                "pairs with a k_ image of the same person"
            )
        detector = cls(maps.channels, maps.cells.shape[1], config.networks, config.hidden).eval()
        for name in ("pooled", "cells"):
            values = getattr(maps, name)
            # In float64, because sums of half floats overflow.
            centre, spread = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
            detector._assign(f"{name}_centre", centre)
            detector._assign(f"{name}_spread", np.maximum(spread, _MIN_SPREAD[name]))
        features = map_chunks(lambda *rows: detector._pair_features(maps, *rows), CHUNK, a, b)
        centre, spread = features.mean(0), np.maximum(features.std(0), _MIN_SPREAD["pairs"])
        detector._assign("centre", centre)
        detector._assign("spread", spread)
        scaled = (features - centre) / spread
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
            # The number of epochs is a setting; convergence is not expected.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for network in networks:
                network.fit(scaled, bona_fide)
        for layer in range(2):
            detector._assign(f"weight_{layer}", [network.coefs_[layer] for network in networks])
            detector._assign(
                f"bias_{layer}", [network.intercepts_[layer][None] for network in networks]
            )
        return detector

    def features(self, one: FeatureBatch, other: FeatureBatch) -> torch.Tensor:
        """Measures how similar both photos of N pairs are, as `cosine_features` does."""
        return cosine_features(self._standardised(one), self._standardised(other), self.channels)

    def forward(self, one: FeatureBatch, other: FeatureBatch) -> torch.Tensor:
        """Returns the log-odds, float32, N, that both photos of each pair are bona fide.

        In training mode, hidden units are dropped at random.

        Args:
            one: The pairs' first photos.
            other: The second; the order within a pair does not matter.
        """
        scaled = (self.features(one, other) - self.centre) / self.spread
        hidden = torch.relu(scaled @ self.weight_0 + self.bias_0)
        hidden = nn.functional.dropout(hidden, DROPOUT, self.training)
        return (hidden @ self.weight_1 + self.bias_1).mean(0)[:, 0]

    @torch.inference_mode()
    def score(self, maps: FeatureMaps, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Scores pairs of rows: float32, N, log-odds limited to ±30; positive means bona fide.

        Args:
            maps: Features of the photos.
            a: N rows of `maps`, the first photo of each pair.
            b: The second; the order within a pair does not matter.

        Raises:
            DataError: The features come from another kind of recogniser.
        """
        if maps.channels != self.channels:
            raise DataError(
                "the differential detector was trained on stages of "
                f"{self.channels} channels, the recogniser has {maps.channels}"
            )

        def scored(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            logits = self(FeatureBatch.from_maps(maps, a), FeatureBatch.from_maps(maps, b))
            return logits.numpy().clip(-_LIMIT, _LIMIT)

        return map_chunks(scored, CHUNK, a, b)

    def backbone_or(self, recogniser: Recogniser) -> Recogniser:
        """Returns what extracts this detector's feature maps: its own backbone, or the run's."""
        return self.backbone or recogniser

    def save(self, folder: Path | str) -> None:
        """Writes comparer.safetensors, the backbone's files if it has one, and comparer.json.

        The latter comes last, so a folder that has it is complete.
        """
        folder = Path(folder)
        state = {name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}
        with atomic_path(folder / WEIGHTS_FILE) as temporary:
            save_file(state, temporary)
        if self.backbone is not None:
            self.backbone.save(folder)
        write_json(
            folder / DESCRIPTION_FILE,
            {"channels": list(self.channels), "own_network": self.backbone is not None},
        )

    @classmethod
    def load(
        cls, folder: Path | str, device: str = "auto", engine: str = "torch"
    ) -> "DifferentialDetector":
        """Reads what `save` wrote; the result is in eval mode.

        Args:
            folder: The detector's folder in a run.
            device: For the backbone, as for `nn.model.CropModel.load`.
            engine: Likewise.

        Raises:
            WeightsError: A file is missing, damaged, or does not fit.
            ConfigError: As `CropModel.load`.
        """
        folder = Path(folder)
        try:
            described = read_json(folder / DESCRIPTION_FILE)
            refuse_unknown(described, ("channels", "own_network"))
            own, channels = described["own_network"], tuple(described["channels"])
            state = load_file(folder / WEIGHTS_FILE)
            networks, _, hidden = state["weight_0"].shape
            detector = cls(channels, len(state["cells_centre"]), networks, hidden)
            detector.load_state_dict(state)
        except (*MALFORMED, SafetensorError) as error:
            raise WeightsError(
                f"{folder}: holds no differential detector ({DESCRIPTION_FILE}, {WEIGHTS_FILE}: "
                f"{error}); `python train.py` makes one"
            ) from error
        detector.backbone = Recogniser.load(folder, device, engine) if own else None
        return detector.eval()

    def _standardised(self, batch: FeatureBatch) -> FeatureBatch:
        return FeatureBatch(
            batch.embeddings,
            (batch.pooled - self.pooled_centre) / self.pooled_spread,
            (batch.cells - self.cells_centre) / self.cells_spread,
        )

    def _pair_features(self, maps: FeatureMaps, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        one, other = FeatureBatch.from_maps(maps, a), FeatureBatch.from_maps(maps, b)
        return self.features(one, other).numpy()

    @torch.no_grad()
    def _assign(self, name: str, values: np.ndarray | list[np.ndarray]) -> None:
        """Copies values into the buffer or parameter of this name, as float32."""
        getattr(self, name).copy_(torch.from_numpy(np.asarray(values, np.float32)))
