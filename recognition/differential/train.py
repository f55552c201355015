"""Training of the differential detector, with optional fine-tuning of its backbone.

First, small networks are fitted on the recogniser's features. Fine-tuning then continues from them
and trains all weights together with a copy of the recogniser, so that the copy's features separate
forgeries from bona fide photos of the same person. The copy's embeddings no longer identify people
well; the recogniser remains in use for that.
"""

import copy
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from kryptonite.core.chunks import chunked
from kryptonite.core.crops import Crops
from kryptonite.core.files import fingerprint
from kryptonite.data.pairs import PairConfig, images_in_pairs, make_pairs, pair_rows
from kryptonite.nn.train.augment import Augment
from kryptonite.nn.train.datasets import Batch, CropDataset, crop_loaders, number_identities
from kryptonite.nn.train.fingerprints import (
    images_fingerprint,
    model_fingerprint,
    pairs_fingerprint,
    result_settings,
)
from kryptonite.nn.train.fit import fit
from kryptonite.nn.train.job import TrainingJob
from kryptonite.nn.train.module import EERModule
from kryptonite.nn.train.optim import build_optimiser
from kryptonite.recognition.config import ComparisonConfig
from kryptonite.recognition.differential.comparer import CHUNK, Comparer
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.differential.features import (
    FeatureBatch,
    intermediates,
    pool_maps,
)
from kryptonite.recognition.differential.maps import FeatureMaps
from kryptonite.recognition.pairs import ValidationPairs
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.recognition.sampler import IdentityBalanced

_HEAD_LR_SCALE = 10

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DifferentialInputs:
    """The images and pairs this stage reads.

    Args:
        images: Training images: columns label, path, key, identity, is_synthetic, species.
        val_images: Images of the validation pairs: columns path, key, identity, is_synthetic.
        val_pairs: Mated validation pairs and those with a synthetic image, which choose the epoch
            of the fine-tuning; none without fine-tuning.
    """

    images: pd.DataFrame
    val_images: pd.DataFrame
    val_pairs: pd.DataFrame

    @classmethod
    def select(
        cls,
        config: ComparisonConfig,
        train: pd.DataFrame,
        val: pd.DataFrame,
        val_pairs: pd.DataFrame,
    ) -> "DifferentialInputs":
        """Selects what the stage reads.

        Args:
            config: Settings.
            train: Columns label, path, key, is_synthetic, species.
            val: Columns path, label, key, is_synthetic.
            val_pairs: Columns path_a, path_b, label_a, label_b, kind.
        """
        wanted = (val_pairs["kind"] != "different") & bool(config.fit.epochs)
        pairs = val_pairs[wanted]
        return cls(number_identities(train), number_identities(images_in_pairs(pairs, val)), pairs)

    def fingerprint(self, config: ComparisonConfig, faces: Any, recogniser: Path) -> str:
        """Identifies what decides the trained detector.

        Args:
            config: Settings.
            faces: Face-search settings of the aligner.
            recogniser: Folder of the trained recogniser.
        """
        return fingerprint(
            {
                "config": result_settings(config),
                "faces": faces,
                "recogniser": model_fingerprint(recogniser),
                "images": images_fingerprint(self.images),
                "pairs": pairs_fingerprint(self.val_pairs, self.val_images)
                if config.fit.epochs
                else "",
            }
        )


def train_differential(
    config: ComparisonConfig,
    recogniser: Recogniser,
    inputs: DifferentialInputs,
    job: TrainingJob,
) -> tuple[DifferentialDetector, dict[str, Any]]:
    """Draws pairs of the training identities, trains a detector on them, and may fine-tune it.

    Args:
        config: Settings.
        recogniser: Trained recogniser. Fine-tuning changes its network in place.
        inputs: Images and pairs, selected with the same settings.
        job: Reads crops of the recogniser's template; holds the progress of fine-tuning.

    Returns:
        The detector, with a backbone of its own if fine-tuning improved it; the number of training
        pairs and the result of fine-tuning.

    Raises:
        DataError: The identities give no pairs of both classes.
    """
    train = inputs.images
    template = recogniser.spec.template
    maps = FeatureMaps.joined(
        [
            recogniser.extract_maps(Crops(np.stack([job.read(key) for key in keys]), template))
            for keys in chunked(train["key"].tolist(), CHUNK)
        ]
    )
    pairs = make_pairs(
        train, PairConfig(config.pairs, same=0.5, different=0.0, synthetic=0.5, seed=config.seed)
    )
    mated = (pairs["kind"] == "same").to_numpy()
    comparer = Comparer.fit(config, maps, *pair_rows(pairs, train).T, mated)
    detector = DifferentialDetector(maps.channels, comparer)
    figures: dict[str, Any] = {
        "pairs": {"same": int(mated.sum()), "synthetic": int((~mated).sum())}
    }
    if not config.fit.epochs:
        return detector, figures
    pl.seed_everything(config.seed, workers=True, verbose=False)
    _LOG.info("comparison: tuning a copy of the recogniser, %s", recogniser.source)
    crops = CropDataset(train, job.read)
    photos = config.photos_per_person
    batches = IdentityBalanced(
        crops.identity, crops.synthetic, config.people_per_batch, photos, photos, config.seed
    )
    module = DifferentialModule(
        config, recogniser, comparer, ValidationPairs.of(inputs.val_pairs, inputs.val_images)
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
    figures["validation_eer"] = asdict(result)
    if not result.best_epoch:
        return detector, figures
    backbone = Recogniser(
        module.network,
        recogniser.blueprint,
        recogniser.spec,
        f"{recogniser.source}, tuned on pairs",
    )
    return DifferentialDetector(maps.channels, module.comparer, backbone), figures


class DifferentialModule(EERModule):
    """A recogniser's network and a comparer of its features, trained together.

    The loss is the binary cross-entropy over a batch's pairs of the same person.

    Args:
        config: Settings.
        recogniser: Its network is trained in place.
        comparer: Initial comparer; a copy of it is trained.
        val_pairs: Mated pairs and pairs with a synthetic image, of the validation loader's rows.
    """

    def __init__(
        self,
        config: ComparisonConfig,
        recogniser: Recogniser,
        comparer: Comparer,
        val_pairs: ValidationPairs,
    ):
        super().__init__()
        self.network = recogniser.network.train()
        self.comparer = copy.deepcopy(comparer).train()
        self._config, self._spec = config, recogniser.spec
        self._augment = Augment(config.augment)
        self._val_pairs = val_pairs

    def extract(self, images: torch.Tensor) -> FeatureBatch:
        """Extracts the features of float N×3×S×S in 0..1."""
        output, maps = intermediates(
            self.network, self._spec.normalise(images).contiguous(memory_format=torch.channels_last)
        )
        return FeatureBatch(
            normalize(output.float(), dim=1), *(part.float() for part in pool_maps(maps))
        )

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """Augments a batch and computes the loss over all its pairs of the same person.

        Pairs of two synthetic images are left out.
        """
        features = self.extract(self._augment(batch.crop.float() / 255))
        a, b = torch.triu_indices(len(batch.row), len(batch.row), 1, device=self.device)
        synthetic = batch.synthetic.int()
        used = (
            (batch.identity[a] == batch.identity[b])
            & (batch.row[a] != batch.row[b])
            & (synthetic[a] + synthetic[b] < 2)
        )
        a, b = a[used], b[used]
        mated = (synthetic[a] + synthetic[b] == 0).float()
        # Each class counts half, whatever its number of pairs; a batch that lacks one, or has no
        # pairs at all, has a smaller loss.
        weight = 0.5 / torch.where(mated > 0, mated.sum(), (1 - mated).sum())
        logits = self.comparer(features.select(a), features.select(b))
        loss = binary_cross_entropy_with_logits(logits, mated, weight, reduction="sum")
        self.log("train_loss", loss.detach(), prog_bar=True)
        return loss

    def validation_outputs(self, batch: Batch) -> FeatureBatch:
        """Extracts the crops' features."""
        return self.extract(batch.crop.float() / 255)

    def validation_scores(self, *outputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Scores mated pairs against pairs with a synthetic image of the same person."""
        features = FeatureBatch(*outputs)
        rows = torch.from_numpy(self._val_pairs.rows).to(self.device)
        logits = [
            self.comparer(*(features.select(side) for side in chunk.T))
            for chunk in rows.split(CHUNK)
        ]
        return self._val_pairs.mated, torch.cat(logits).cpu().numpy()

    def configure_optimizers(self) -> dict[str, Any]:
        """Builds AdamW; the small networks, already fitted, learn faster than the backbone."""
        groups = [
            {"params": self.network.parameters()},
            {"params": self.comparer.parameters(), "lr": self._config.optim.lr * _HEAD_LR_SCALE},
        ]
        return build_optimiser(
            groups, self._config.optim, int(self.trainer.estimated_stepping_batches)
        )
