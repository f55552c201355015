"""Training of the synthetic-image detector."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from kryptonite.core.crops import InputSpec
from kryptonite.core.files import fingerprint, sha256_file
from kryptonite.liveness.config import LivenessConfig
from kryptonite.liveness.detector import Detector
from kryptonite.liveness.forgeries import ForgedCrops
from kryptonite.liveness.probe_training import train_probe
from kryptonite.liveness.sampler import PairedBatches, UnpairedBatches
from kryptonite.nn.train.augment import Augment
from kryptonite.nn.train.datasets import Batch, CropDataset, crop_loaders, number_identities
from kryptonite.nn.train.fingerprints import (
    images_fingerprint,
    result_settings,
    weights_fingerprint,
)
from kryptonite.nn.train.fit import fit
from kryptonite.nn.train.job import TrainingJob
from kryptonite.nn.train.module import EERModule
from kryptonite.nn.train.optim import build_optimiser
from kryptonite.nn.weights import build_timm

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LivenessInputs:
    """The images this branch reads: columns key, label, identity, is_synthetic, source.

    Args:
        images: Training images.
        val_images: Validation images.
    """

    images: pd.DataFrame
    val_images: pd.DataFrame

    @classmethod
    def select(
        cls, config: LivenessConfig, train: pd.DataFrame, val: pd.DataFrame
    ) -> "LivenessInputs":
        """Selects what the branch reads: a probe all sources, a trained network the first alone.

        Args:
            config: Settings.
            train: Columns label, key, is_synthetic, source; 0 is the first source.
            val: Likewise.
        """
        if not config.probe.passes:
            train, val = train[train["source"] == 0], val[val["source"] == 0]
        return cls(number_identities(train), number_identities(val))

    def fingerprint(self, config: LivenessConfig, faces: Any) -> str:
        """Identifies what decides the trained detector.

        Args:
            config: Settings.
            faces: Face-search settings of the aligner.
        """
        return fingerprint(
            {
                "config": result_settings(config),
                "faces": faces,
                "weights": weights_fingerprint(config.backbone.weights),
                "autoencoder": [sha256_file(file) for file in config.autoencoder_files],
                "images": images_fingerprint(self.images),
                "val_images": images_fingerprint(self.val_images),
            }
        )


def train_detector(
    config: LivenessConfig, inputs: LivenessInputs, job: TrainingJob
) -> tuple[Detector, dict[str, Any]]:
    """Trains a detector, or resumes: a probe, or a network whose weights with the lowest EER on
    the validation images are kept.

    Args:
        config: Settings.
        inputs: Training and validation images.
        job: Reads crops of `config.template`; holds the progress.

    Returns:
        The detector and its figures.
    """
    if config.probe.passes:
        return train_probe(config, inputs.images, inputs.val_images, job)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    loaded = build_timm(config.backbone, 1)
    _LOG.info("liveness: %s, %s", config.backbone.name, loaded.source)
    spec = InputSpec(config.template, "RGB", loaded.mean, loaded.std)
    crops = CropDataset(inputs.images, job.read)
    settings = (crops.synthetic, config.pairs_per_batch, config.seed, config.forgeries)
    batches = (
        PairedBatches(crops.identity, *settings) if config.paired else UnpairedBatches(*settings)
    )
    module = DetectorModule(config, loaded.network.to(memory_format=torch.channels_last), spec)
    result = fit(
        module,
        crop_loaders(
            ForgedCrops(crops, config),
            batches,
            CropDataset(inputs.val_images, job.read),
            config.fit.workers,
        ),
        config.fit,
        config.seed,
        job.folder,
        job.fingerprint,
    )
    return Detector(module.network, loaded.blueprint, spec, loaded.source), {
        "validation_eer": asdict(result),
        "images_without_partner": batches.left_out,
    }


class DetectorModule(EERModule):
    """Backbone with one logit and binary cross-entropy.

    Args:
        config: Settings.
        network: Maps normalised crops to N×1 logits.
        spec: The network's input contract.
    """

    def __init__(self, config: LivenessConfig, network: torch.nn.Module, spec: InputSpec):
        super().__init__()
        self.network = network
        self._config, self._spec = config, spec
        self._augment = Augment(config.augment)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Maps float N×3×S×S in 0..1 to N logits."""
        return (
            self.network(self._spec.normalise(images).contiguous(memory_format=torch.channels_last))
            .float()
            .squeeze(1)
        )

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """Augments a batch and computes its loss."""
        logits = self.logits(self._augment(batch.crop.float() / 255))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.synthetic.float())
        self.log("train_loss", loss.detach(), prog_bar=True)
        return loss

    def validation_outputs(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes the logits and passes the classes on."""
        return self.logits(batch.crop.float() / 255), batch.synthetic

    def validation_scores(
        self, logits: torch.Tensor, synthetic: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores synthetic against bona fide images."""
        return synthetic.cpu().numpy(), logits.cpu().numpy()

    def configure_optimizers(self) -> dict[str, Any]:
        """Builds AdamW with a separate learning rate for the new head."""
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
