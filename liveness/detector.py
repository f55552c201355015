"""The trained synthetic-image detector."""

import numpy as np

from common.inputs import Crops
from common.model import CropModel


class Detector(CropModel):
    """Aligned crops to log-odds."""

    def log_odds(self, crops: Crops) -> np.ndarray:
        """Scores crops: float32, N, log-odds of 'synthetic' at the equal priors of training; positive means synthetic.

        Raises:
            InputContractError: The crops were cut for another model.
        """
        return self.outputs(crops)[:, 0].numpy()
