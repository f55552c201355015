"""The trained recognition branch."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kryptonite.core.crops import Crops, InputSpec
from kryptonite.nn.model import CropModel
from kryptonite.recognition.differential.maps import FeatureMaps

if TYPE_CHECKING:  # these import torch, and exported networks do without it
    import torch

    from kryptonite.recognition.config import RecognitionConfig

EMBEDDING = ("embedding",)
FEATURE_MAPS = ("embedding", "pooled", "cells")
_HALF_LIMIT = 6e4  # of half precision; features before a normalisation can exceed it


class Recogniser(CropModel):
    """Maps aligned crops to embeddings."""

    @classmethod
    def pretrained(cls, config: "RecognitionConfig", device: str = "auto") -> "Recogniser":
        """Builds the configured network with its initial weights.

        Raises:
            ConfigError: The network is unknown or does not support this embedding length.
            WeightsError: The weights are unavailable or do not fit.
        """
        from kryptonite.recognition.backbones import build_backbone

        loaded = build_backbone(config.backbone, config.embedding_dim)
        spec = InputSpec(
            config.template, config.colour, config.mean or loaded.mean, config.std or loaded.std
        )
        return cls(loaded.network, loaded.blueprint, spec, loaded.source, device)

    @staticmethod
    def rebuild(blueprint: dict[str, Any]) -> "torch.nn.Module":
        """Builds the network of a blueprint without weights."""
        from kryptonite.recognition.backbones import rebuild

        return rebuild(blueprint)

    def forward(self, images: "torch.Tensor", names: Sequence[str]) -> "list[torch.Tensor]":
        """Returns the outputs of `EMBEDDING` or `FEATURE_MAPS` for normalised N×3×S×S images."""
        from torch.nn.functional import normalize

        from kryptonite.recognition.differential.features import intermediates, pool_maps

        if tuple(names) == EMBEDDING:
            return [normalize(self.network(images).float(), dim=1)]
        output, maps = intermediates(self.network, images)
        pooled, cells = pool_maps(maps)
        return [
            normalize(output.float(), dim=1),
            pooled.float(),
            cells.clamp(-_HALF_LIMIT, _HALF_LIMIT).half(),
        ]

    @cached_property
    def channels(self) -> tuple[int, ...]:
        """Channels of every stage, as in `FeatureMaps`."""
        if self.export:
            return tuple(self.export.facts["channels"])
        import torch

        from kryptonite.recognition.differential.features import intermediates

        with torch.inference_mode():
            _, maps = intermediates(
                self.network,
                torch.zeros((1, 3, *[self.spec.template.size] * 2), device=self.device),
            )
        return tuple(stage.shape[1] for stage in maps)

    def embed(self, crops: Crops) -> np.ndarray:
        """Embeds crops: float32, N×D, unit length, so that inner products are cosine similarities.

        Raises:
            InputContractError: The crops were made for another model.
        """
        return self.outputs(crops, *EMBEDDING)[0]

    def extract_maps(self, crops: Crops) -> FeatureMaps:
        """Embeds crops and keeps intermediate features.

        The embeddings equal those of `embed`, to rounding.

        Raises:
            InputContractError: The crops were made for another model.
        """
        return FeatureMaps(*self.outputs(crops, *FEATURE_MAPS), self.channels)
