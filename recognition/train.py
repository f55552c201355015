"""Training of the recognition branch."""

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
from kryptonite.data.pairs import images_in_pairs, pair_rows
from kryptonite.metrics.error_rates import eer
from kryptonite.nn.train.datasets import CropDataset, crop_loaders
from kryptonite.nn.train.fit import fit
from kryptonite.nn.train.optim import build_optimiser
from kryptonite.recognition.config import RecognitionConfig
from kryptonite.recognition.losses import SpoofAwareMarginLoss
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.recognition.sampler import IdentityBalanced


def train_recogniser(
    config: RecognitionConfig,
    train: pd.DataFrame,
    val: pd.DataFrame,
    val_pairs: pd.DataFrame,
    read: Callable[[str], np.ndarray],
    folder: Path,
    version: str,
) -> tuple[Recogniser, dict[str, Any]]:
    """Trains, or resumes, and keeps the weights of the lowest SV-EER on the frozen validation pairs.

    Args:
        config: Settings.
        train: Columns label, key, is_synthetic.
        val: Columns path, key.
        val_pairs: Columns path_a, path_b, kind; those of kind `synthetic` are not this branch's to tell and are left out.
        read: Gives the crop of a key.
        folder: For checkpoints and logs.
        version: Fingerprint of everything that decides the result.

    Returns:
        The recogniser and its figures.
    """
    pl.seed_everything(config.seed, workers=True, verbose=False)
    start = Recogniser.pretrained(config, "cpu")
    print(f"recognition: {config.backbone.name}, {start.source}", file=sys.stderr)
    person, people = pd.factorize(train["label"], sort=True)
    synthetic = train["is_synthetic"].to_numpy()
    forged = int(config.spoof_weight > 0)
    batches = IdentityBalanced(
        person, synthetic, config.people_per_batch, config.photos_per_person, forged, config.seed
    )
    used = val_pairs[val_pairs["kind"] != "synthetic"]
    images = images_in_pairs(used, val)
    module = RecognitionModule(
        config,
        start.network.train(),
        start.spec,
        person,
        synthetic,
        len(people),
        pair_rows(used, images),
        (used["kind"] == "same").to_numpy(),
    )
    result = fit(
        module,
        *crop_loaders(
            CropDataset(train["key"], read),
            batches,
            CropDataset(images["key"], read),
            config.fit.workers,
        ),
        folder,
        config.fit,
        config.seed,
        version,
    )
    trained = Recogniser(module.network, start.blueprint, start.spec, start.source)
    return trained, {"validation_sv_eer": asdict(result), "people": len(people)}


class RecognitionModule(pl.LightningModule):
    """Backbone and margin loss.

    Args:
        config: Settings.
        network: Normalised crops to embeddings.
        spec: Input of the network.
        person: Identity of every training row.
        synthetic: Whether it is a `k_` image.
        people: Number of identities.
        pairs: M×2 rows of the validation loader.
        same: M, whether a pair shows one person.
    """

    def __init__(
        self,
        config: RecognitionConfig,
        network: torch.nn.Module,
        spec: InputSpec,
        person: np.ndarray,
        synthetic: np.ndarray,
        people: int,
        pairs: np.ndarray,
        same: np.ndarray,
    ):
        super().__init__()
        self.network = network
        self.loss = SpoofAwareMarginLoss(
            config.loss,
            people,
            config.embedding_dim,
            config.margin,
            config.scale,
            config.spoof_weight,
            config.spoof_margin,
        )
        self._config, self._spec = config, spec
        self._person, self._synthetic = (
            torch.tensor(person, dtype=torch.int64),
            torch.tensor(synthetic, dtype=torch.bool),
        )
        self._pairs, self._same = pairs, same
        self._embeddings: dict[int, np.ndarray] = {}

    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """Maps uint8 N×3×S×S to unit embeddings."""
        images = self._spec.normalise(crops.float() / 255).contiguous(
            memory_format=torch.channels_last
        )
        return torch.nn.functional.normalize(self.network(images).float(), dim=1)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Embeds a mirrored-at-random batch and takes its loss."""
        crops, rows = batch
        mirrored = torch.rand(len(crops), device=crops.device) < 0.5
        crops = torch.where(mirrored[:, None, None, None], crops.flip(3), crops)
        rows = rows.cpu()
        terms = self.loss(
            self.embed(crops),
            self._person[rows].to(crops.device),
            self._synthetic[rows].to(crops.device),
        )
        self.log_dict(
            {f"train_{name}": value.detach() for name, value in terms.items()}, prog_bar=True
        )
        return terms["loss"]

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        """Collects embeddings."""
        crops, rows = batch
        self._embeddings.update(zip(rows.tolist(), self.embed(crops).cpu().numpy(), strict=True))

    def on_validation_epoch_end(self) -> None:
        """Logs the EER of same against different people on the frozen pairs."""
        embeddings = np.stack([self._embeddings[row] for row in range(len(self._embeddings))])
        self._embeddings.clear()
        similarity = (embeddings[self._pairs[:, 0]] * embeddings[self._pairs[:, 1]]).sum(1)
        self.log("val_eer", eer(self._same, similarity), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; the backbone has its own learning rate."""
        config = self._config
        groups = [
            {"params": self.network.parameters(), "lr": config.optim.lr * config.backbone_lr_scale},
            {"params": self.loss.parameters()},
        ]
        return build_optimiser(groups, config.optim, int(self.trainer.estimated_stepping_batches))
