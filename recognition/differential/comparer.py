"""The network of a differential detector: small networks on how far both photos agree."""

import warnings

import numpy as np
import torch
from torch import nn

from kryptonite.core.chunks import map_chunks
from kryptonite.core.errors import DataError
from kryptonite.recognition.config import ComparisonConfig
from kryptonite.recognition.differential.features import (
    FeatureBatch,
    cosine_features,
    feature_count,
)
from kryptonite.recognition.differential.maps import CELLS, FeatureMaps

BATCH = 256  # pairs per step of the small networks
CHUNK = 2048  # pairs, or photos, whose cells are in memory at once in training
DROPOUT = 0.2  # probability per hidden unit, in training mode
_MIN_SPREAD = {"pooled": 1e-3, "cells": 1e-3, "pairs": 1e-6}


class Comparer(nn.Module):
    """Maps both photos of a pair to the log-odds that both are bona fide.

    The pair must show one person, or be meant to. The result is the mean over K small networks.

    Args:
        channels: As in `FeatureMaps`.
        cell_channels: Channels of `FeatureMaps.cells`.
        networks: K, the number of small networks.
        hidden: Hidden units of each.
    """

    def __init__(self, channels: tuple[int, ...], cell_channels: int, networks: int, hidden: int):
        super().__init__()
        self.channels = tuple(channels)
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
    def rebuild(cls, channels: tuple[int, ...], state: dict[str, torch.Tensor]) -> "Comparer":
        """Builds the network that has this state, in eval mode.

        Raises:
            KeyError, ValueError, RuntimeError: The state is another network's.
        """
        networks, _, hidden = state["weight_0"].shape
        comparer = cls(channels, len(state["cells_centre"]), networks, hidden)
        comparer.load_state_dict(state)
        return comparer.eval()

    @classmethod
    def fit(
        cls,
        config: ComparisonConfig,
        maps: FeatureMaps,
        a: np.ndarray,
        b: np.ndarray,
        bona_fide: np.ndarray,
    ) -> "Comparer":
        """Trains a network, in eval mode.

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
        comparer = cls(maps.channels, maps.cells.shape[1], config.networks, config.hidden).eval()
        for name in ("pooled", "cells"):
            values = getattr(maps, name)
            # In float64, because sums of half floats overflow.
            centre, spread = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
            comparer._assign(f"{name}_centre", centre)
            comparer._assign(f"{name}_spread", np.maximum(spread, _MIN_SPREAD[name]))
        features = map_chunks(lambda *rows: comparer._pair_features(maps, *rows), CHUNK, a, b)
        centre, spread = features.mean(0), np.maximum(features.std(0), _MIN_SPREAD["pairs"])
        comparer._assign("centre", centre)
        comparer._assign("spread", spread)
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
            comparer._assign(f"weight_{layer}", [network.coefs_[layer] for network in networks])
            comparer._assign(
                f"bias_{layer}", [network.intercepts_[layer][None] for network in networks]
            )
        return comparer

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
    def compare(self, maps: FeatureMaps, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Gives what `forward` does for pairs of rows, float32, N."""
        return self(FeatureBatch.from_maps(maps, a), FeatureBatch.from_maps(maps, b)).numpy()

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
