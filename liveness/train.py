"""Training of the synthetic-image detector."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from kryptonite.core.crops import InputSpec
from kryptonite.liveness.config import LivenessConfig
from kryptonite.liveness.detector import Detector
from kryptonite.liveness.forgeries import ForgedCrops, targets
from kryptonite.liveness.sampler import PairedBatches, UnpairedBatches
from kryptonite.metrics.error_rates import eer
from kryptonite.nn.train.augment import Augment
from kryptonite.nn.train.datasets import CropDataset, crop_loaders
from kryptonite.nn.train.fit import fit
from kryptonite.nn.train.optim import build_optimiser
from kryptonite.nn.weights import build_timm


def train_detector(
    config: LivenessConfig,
    train: pd.DataFrame,
    val: pd.DataFrame,
    read: Callable[[str], np.ndarray],
    folder: Path,
    version: str,
) -> tuple[Detector, dict[str, Any]]:
    """Trains, or resumes, and keeps the weights of the lowest EER of genuine against synthetic validation images.

    Args:
        config: Settings.
        train: Columns label, key, is_synthetic.
        val: Likewise.
        read: Gives the crop of a key.
        folder: For checkpoints and logs.
        version: Fingerprint of everything that decides the result.

    Returns:
        The detector and its figures.
    """
    pl.seed_everything(config.seed, workers=True, verbose=False)
    loaded = build_timm(config.backbone, 1)
    print(f"liveness: {config.backbone.name}, {loaded.source}", file=sys.stderr)
    spec = InputSpec(config.template, "RGB", loaded.mean, loaded.std)
    person, synthetic = train["label"].to_numpy(), train["is_synthetic"].to_numpy()
    dealing = (synthetic, config.pairs_per_batch, config.seed, config.forgeries)
    batches = PairedBatches(person, *dealing) if config.paired else UnpairedBatches(*dealing)
    crops = ForgedCrops(
        train["key"], read, person, synthetic, config.template, config.forgery_kinds
    )
    module = DetectorModule(
        config,
        loaded.network.to(memory_format=torch.channels_last),
        spec,
        synthetic,
        val["is_synthetic"].to_numpy(),
    )
    result = fit(
        module,
        *crop_loaders(crops, batches, CropDataset(val["key"], read), config.fit.workers),
        folder,
        config.fit,
        config.seed,
        version,
    )
    return Detector(module.network, loaded.blueprint, spec, loaded.source), {
        "validation_eer": asdict(result),
        "images_without_partner": batches.left_out,
    }


class DetectorModule(pl.LightningModule):
    """Backbone with one logit, binary cross-entropy.

    Args:
        config: Settings.
        network: Normalised crops to N×1 logits.
        spec: Input of the network.
        train_synthetic: Class of every training row.
        val_synthetic: Class of every validation row.
    """

    def __init__(
        self,
        config: LivenessConfig,
        network: torch.nn.Module,
        spec: InputSpec,
        train_synthetic: np.ndarray,
        val_synthetic: np.ndarray,
    ):
        super().__init__()
        self.network = network
        self._config, self._spec = config, spec
        self._augment = Augment(config.augment)
        self._synthetic = torch.tensor(train_synthetic, dtype=torch.float32)
        self._val_synthetic = np.asarray(val_synthetic, bool)
        self._log_odds: dict[int, float] = {}

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Maps float N×3×S×S in 0..1 to N logits."""
        return (
            self.network(self._spec.normalise(images).contiguous(memory_format=torch.channels_last))
            .float()
            .squeeze(1)
        )

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Augments a batch and takes its loss."""
        crops, numbers = batch
        logits = self.logits(self._augment(crops.float() / 255))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, targets(numbers.cpu(), self._synthetic).to(logits.device)
        )
        self.log("train_loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        """Collects log-odds."""
        crops, rows = batch
        self._log_odds.update(
            zip(rows.tolist(), self.logits(crops.float() / 255).tolist(), strict=True)
        )

    def on_validation_epoch_end(self) -> None:
        """Logs the EER over all validation images."""
        log_odds = np.array([self._log_odds[row] for row in range(len(self._log_odds))])
        self._log_odds.clear()
        self.log("val_eer", eer(self._val_synthetic, log_odds), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; the new head may learn faster than the rest."""
        head = list(self.network.get_classifier().parameters())
        chosen = {id(parameter) for parameter in head}
        groups = [
            {
                "params": [
                    parameter
                    for parameter in self.network.parameters()
                    if id(parameter) not in chosen
                ]
            },
            {"params": head, "lr": self._config.optim.lr * self._config.head_lr_scale},
        ]
        return build_optimiser(
            groups, self._config.optim, int(self.trainer.estimated_stepping_batches)
        )
