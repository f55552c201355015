"""The trained recognition branch."""

from typing import Any

import numpy as np
import torch

from common.inputs import Crops
from common.model import CropModel
from recognition.backbones import rebuild


class Recogniser(CropModel):
    """Aligned crops to embeddings."""

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
