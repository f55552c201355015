"""The base of the branches' LightningModules: scores the validation set once per epoch."""

from abc import ABC, abstractmethod

import numpy as np
import pytorch_lightning as pl
import torch

from kryptonite.metrics.error_rates import eer
from kryptonite.nn.train.datasets import Batch

MONITOR = "val_eer"  # the metric that selects weights; lower is better


class EERModule(pl.LightningModule, ABC):
    """Collects outputs for every validation row and logs the epoch's EER as `val_eer`."""

    def __init__(self):
        super().__init__()
        self._outputs: dict[int, tuple[torch.Tensor, ...]] = {}

    @abstractmethod
    def validation_outputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Computes what `validation_scores` needs: tensors of N rows each."""

    @abstractmethod
    def validation_scores(self, *outputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Returns the classes (bool) and the scores, higher for True, that the EER compares.

        Args:
            outputs: Those of `validation_outputs` for the whole validation set, in row order.
        """

    def validation_step(self, batch: Batch, _: int) -> None:
        """Collects a batch's outputs by row."""
        outputs = zip(*self.validation_outputs(batch), strict=True)
        self._outputs.update(zip(batch.row.tolist(), outputs, strict=True))

    def on_validation_epoch_end(self) -> None:
        """Logs the EER over the whole validation set."""
        rows = [self._outputs[row] for row in range(len(self._outputs))]
        self._outputs.clear()
        classes, scores = self.validation_scores(
            *(torch.stack(output) for output in zip(*rows, strict=True))
        )
        self.log(MONITOR, eer(classes, scores), prog_bar=True)
