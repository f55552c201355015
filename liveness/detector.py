"""The trained synthetic-image detector."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kryptonite.core.crops import Crops
from kryptonite.nn.model import CropModel

if TYPE_CHECKING:  # torch takes seconds to import, and exported networks do without it
    import torch

LOG_ODDS = "log_odds"  # the only output


class Detector(CropModel):
    """Maps aligned crops to log-odds."""

    @staticmethod
    def rebuild(blueprint: dict[str, Any]) -> "torch.nn.Module":
        """Builds the network of a blueprint without weights."""
        if "encoder" in blueprint:
            from kryptonite.liveness.probe import rebuild_probe

            return rebuild_probe(blueprint)
        return CropModel.rebuild(blueprint)

    def forward(self, images: "torch.Tensor", names: Sequence[str]) -> "list[torch.Tensor]":
        """Returns `log_odds`, N, for normalised images, N×3×S×S."""
        return [self.network(images).float()[:, 0]]

    def log_odds(self, crops: Crops) -> np.ndarray:
        """Scores crops: float32, N, log-odds of 'synthetic'; positive means synthetic.

        Those of a network trained as a whole assume equal priors, as in training; a probe's are
        shifted, so that few bona fide validation photos lie above 0.

        Raises:
            InputContractError: The crops were made for another model.
        """
        return self.outputs(crops, LOG_ODDS)[0]
