"""Training of the recognition branch."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from kryptonite.core.crops import InputSpec
from kryptonite.core.files import fingerprint
from kryptonite.data.pairs import images_in_pairs
from kryptonite.nn.train.datasets import Batch, CropDataset, crop_loaders, number_identities
from kryptonite.nn.train.fingerprints import (
    images_fingerprint,
    pairs_fingerprint,
    result_settings,
    weights_fingerprint,
)
from kryptonite.nn.train.fit import fit
from kryptonite.nn.train.job import TrainingJob
from kryptonite.nn.train.module import EERModule
from kryptonite.nn.train.optim import build_optimiser
from kryptonite.recognition.config import RecognitionConfig
from kryptonite.recognition.losses import SpoofAwareMarginLoss
from kryptonite.recognition.pairs import ValidationPairs
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.recognition.sampler import IdentityBalanced

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecognitionInputs:
    """The images and pairs this branch reads.

    Args:
        images: Training images: columns key, label, identity, is_synthetic. `k_` images are left
            out unless the spoof term uses them.
        identities: Number of training identities, including those without a selected image.
        val_images: Images of the validation pairs: columns path, key, identity, is_synthetic.
        val_pairs: Mated and non-mated validation pairs, all bona fide.
    """

    images: pd.DataFrame
    identities: int
    val_images: pd.DataFrame
    val_pairs: pd.DataFrame

    @classmethod
    def select(
        cls,
        config: RecognitionConfig,
        train: pd.DataFrame,
        val: pd.DataFrame,
        val_pairs: pd.DataFrame,
    ) -> "RecognitionInputs":
        """Selects what the branch reads.

        Args:
            config: Settings.
            train: Columns label, key, is_synthetic.
            val: Columns path, label, key, is_synthetic.
            val_pairs: Columns path_a, path_b, label_a, label_b, kind.
        """
        images = number_identities(train)
        used = images if config.spoof_weight > 0 else images[~images["is_synthetic"]]
        pairs = val_pairs[val_pairs["kind"] != "synthetic"]
        return cls(
            used,
            images["identity"].nunique(),
            number_identities(images_in_pairs(pairs, val)),
            pairs,
        )

    def fingerprint(self, config: RecognitionConfig, faces: Any) -> str:
        """Identifies what decides the trained recogniser.

        Args:
            config: Settings.
            faces: Face-search settings of the aligner.
        """
        return fingerprint(
            {
                "config": result_settings(config),
                "faces": faces,
                "weights": weights_fingerprint(config.backbone.weights),
                "images": images_fingerprint(self.images),
                "pairs": pairs_fingerprint(self.val_pairs, self.val_images),
            }
        )


def train_recogniser(
    config: RecognitionConfig, inputs: RecognitionInputs, job: TrainingJob
) -> tuple[Recogniser, dict[str, Any]]:
    """Trains, or resumes, and keeps the weights with the lowest SV-EER on the validation pairs.

    Args:
        config: Settings.
        inputs: Images and pairs, selected with the same settings.
        job: Reads crops of `config.template`; holds the progress.

    Returns:
        The recogniser and its figures.
    """
    pl.seed_everything(config.seed, workers=True, verbose=False)
    start = Recogniser.pretrained(config, "cpu")
    _LOG.info("recognition: %s, %s", config.backbone.name, start.source)
    crops = CropDataset(inputs.images, job.read)
    batches = IdentityBalanced(
        crops.identity,
        crops.synthetic,
        config.people_per_batch,
        config.photos_per_person,
        int(config.spoof_weight > 0),
        config.seed,
    )
    module = RecognitionModule(
        config,
        start.network.train(),
        start.spec,
        inputs.identities,
        ValidationPairs.of(inputs.val_pairs, inputs.val_images),
    )
    val = CropDataset(inputs.val_images, job.read)
    result = fit(
        module,
        crop_loaders(crops, batches, val, config.fit.workers),
        config.fit,
        config.seed,
        job.folder,
        job.fingerprint,
    )
    trained = Recogniser(module.network, start.blueprint, start.spec, start.source)
    return trained, {"validation_sv_eer": asdict(result), "people": inputs.identities}


class RecognitionModule(EERModule):
    """Backbone and margin loss.

    Args:
        config: Settings.
        network: Maps normalised crops to embeddings.
        spec: The network's input contract.
        identities: Number of training identities.
        val_pairs: Mated and non-mated pairs of the validation loader's rows.
    """

    def __init__(
        self,
        config: RecognitionConfig,
        network: torch.nn.Module,
        spec: InputSpec,
        identities: int,
        val_pairs: ValidationPairs,
    ):
        super().__init__()
        self.network = network
        self.loss = SpoofAwareMarginLoss(config, identities)
        self._config, self._spec = config, spec
        self._val_pairs = val_pairs

    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """Maps uint8 N×3×S×S to unit embeddings."""
        images = self._spec.normalise(crops.float() / 255).contiguous(
            memory_format=torch.channels_last
        )
        return torch.nn.functional.normalize(self.network(images).float(), dim=1)

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """Mirrors half of the crops at random and computes the batch's loss."""
        mirrored = torch.rand(len(batch.crop), device=batch.crop.device) < 0.5
        crops = torch.where(mirrored[:, None, None, None], batch.crop.flip(3), batch.crop)
        terms = self.loss(self.embed(crops), batch.identity, batch.synthetic)
        self.log_dict(
            {f"train_{name}": value.detach() for name, value in terms.items()}, prog_bar=True
        )
        return terms["loss"]

    def validation_outputs(self, batch: Batch) -> tuple[torch.Tensor]:
        """Embeds the crops."""
        return (self.embed(batch.crop),)

    def validation_scores(self, embeddings: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Scores mated against non-mated pairs by cosine similarity."""
        rows, mated = self._val_pairs
        a, b = embeddings.cpu().numpy()[rows.T]
        return mated, (a * b).sum(1)

    def configure_optimizers(self) -> dict[str, Any]:
        """Builds AdamW with a separate learning rate for the backbone."""
        config = self._config
        groups = [
            {"params": self.network.parameters(), "lr": config.optim.lr * config.backbone_lr_scale},
            {"params": self.loss.parameters()},
        ]
        return build_optimiser(groups, config.optim, int(self.trainer.estimated_stepping_batches))
