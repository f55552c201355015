"""The trained synthetic-image detector."""

from collections.abc import Sequence

import numpy as np
import torch

from kryptonite.core.crops import Crops
from kryptonite.nn.model import CropModel

LOG_ODDS = "log_odds"  # its output


class Detector(CropModel):
    """Aligned crops to log-odds."""

    def forward(self, images: torch.Tensor, names: Sequence[str]) -> list[torch.Tensor]:
        """Gives `log_odds`, N; there are no others to name."""
        return [self.network(images).float()[:, 0]]

    def log_odds(self, crops: Crops) -> np.ndarray:
        """Scores crops: float32, N, log-odds of 'synthetic' at the equal priors of training; positive means synthetic.

        Raises:
            InputContractError: The crops were cut for another model.
        """
        return self.outputs(crops, LOG_ODDS)[0]
