"""The trained recognition branch."""

from typing import Any

import numpy as np
import torch

from common.inputs import Crops, InputSpec
from common.model import CropModel
from recognition.backbones import build_backbone, rebuild
from recognition.config import RecognitionConfig
from recognition.perception import Perception, intermediates, summarise

_HALF_LIMIT = 6e4  # what half precision holds; features before a normalisation can be larger


class Recogniser(CropModel):
    """Aligned crops to embeddings."""

    @classmethod
    def pretrained(cls, config: RecognitionConfig, device: str = "auto") -> "Recogniser":
        """The configured network with the weights it starts from.

        Raises:
            ConfigError: No such network, or an embedding it cannot have.
            WeightsError: The weights cannot be had or do not fit.
        """
        loaded = build_backbone(config.backbone, config.embedding_dim)
        spec = InputSpec(config.template, config.colour, config.mean or loaded.mean, config.std or loaded.std)
        return cls(loaded.network, loaded.blueprint, spec, loaded.source, device)

    @staticmethod
    def rebuild(blueprint: dict[str, Any]) -> torch.nn.Module:
        """Builds the network of a blueprint without weights."""
        return rebuild(blueprint)

    def embed(self, crops: Crops) -> np.ndarray:
        """Embeds crops: float32, N×D, rows of unit length; similarity is their inner product (the cosine).

        Raises:
            InputContractError: The crops were cut for another model.
        """
        return torch.nn.functional.normalize(self.outputs(crops), dim=1).numpy()

    @torch.inference_mode()
    def perceive(self, crops: Crops) -> Perception:
        """Embeds crops and keeps what was seen on the way; the embeddings are those of `embed`, to rounding.

        Raises:
            InputContractError: The crops were cut for another model.
        """
        parts, channels = [], ()
        for images in self.batches(crops):
            output, maps = intermediates(self.network, images)
            pooled, cells = summarise(maps)
            embeddings = torch.nn.functional.normalize(output.float(), dim=1)
            channels = tuple(stage.shape[1] for stage in maps)
            cells = cells.clamp(-_HALF_LIMIT, _HALF_LIMIT).half()
            parts.append(Perception(embeddings.cpu().numpy(), pooled.float().cpu().numpy(), cells.cpu().numpy(), channels))
        return Perception.joined(parts)
