"""Training of the comparer: its small networks on what the recogniser sees; then, where wanted, together with a copy of the recogniser.

Tuning goes on from the small networks as they are and moves all weights at once, so that the copy comes to see what sets a forgery apart
from a genuine photo of its person. Embeddings of that copy are no longer good for telling people apart: the recogniser does that.
"""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from kryptonite.core.crops import Crops
from kryptonite.data.pairs import PairConfig, images_in_pairs, make_pairs, pair_rows
from kryptonite.metrics.error_rates import eer
from kryptonite.nn.train.augment import Augment
from kryptonite.nn.train.datasets import CropDataset, crop_loaders
from kryptonite.nn.train.fit import fit
from kryptonite.nn.train.optim import build_optimiser
from kryptonite.recognition.config import ComparisonConfig
from kryptonite.recognition.differential.detector import (
    CHUNK,
    DifferentialDetector,
    differential_logits,
)
from kryptonite.recognition.differential.features import (
    FeatureBatch,
    FeatureMaps,
    intermediates,
    pool_maps,
)
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.recognition.sampler import IdentityBalanced

_HEAD_LR_SCALE, _DROPOUT = 10, 0.2
_LAYERS = ("weight_0", "bias_0", "weight_1", "bias_1")


def train_differential(
    config: ComparisonConfig,
    recogniser: Recogniser,
    train: pd.DataFrame,
    val: pd.DataFrame,
    val_pairs: pd.DataFrame,
    read: Callable[[str], np.ndarray],
    folder: Path,
    version: str,
) -> tuple[DifferentialDetector, dict[str, Any]]:
    """Draws pairs of the training people and trains a comparer on what the recogniser sees in them; tunes a copy of it where wanted.

    Args:
        config: Settings.
        recogniser: Trained already; where tuning is wanted its network is the copy that is tuned.
        train: Columns label, path, key, is_synthetic, species.
        val: Likewise.
        val_pairs: Columns path_a, path_b, kind; tuning keeps the epoch that tells `same` from `synthetic` best, others are left out.
        read: Gives the recogniser's crop of a key.
        folder: For checkpoints and logs of the tuning.
        version: Fingerprint of everything that decides the result.

    Returns:
        The comparer, with a network of its own where tuning made it better; how many pairs it saw and what tuning came to.

    Raises:
        DataError: The people give no pairs of both kinds.
    """
    keys = train["key"].tolist()
    chunks = [keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK)]
    template = recogniser.spec.template
    seen = FeatureMaps.joined(
        [
            recogniser.extract_maps(Crops(np.stack([read(key) for key in chunk]), template))
            for chunk in chunks
        ]
    )
    pairs = make_pairs(
        train, PairConfig(config.pairs, same=0.5, different=0.0, synthetic=0.5, seed=config.seed)
    )
    genuine = (pairs["kind"] == "same").to_numpy()
    comparer = DifferentialDetector.fit(config, seen, *pair_rows(pairs, train).T, genuine)
    figures: dict[str, Any] = {
        "pairs": {"same": int(genuine.sum()), "synthetic": int((~genuine).sum())}
    }
    if not config.fit.epochs:
        return comparer, figures
    pl.seed_everything(config.seed, workers=True, verbose=False)
    print(f"comparison: tuning a copy of the recogniser, {recogniser.source}", file=sys.stderr)
    person, synthetic = pd.factorize(train["label"], sort=True)[0], train["is_synthetic"].to_numpy()
    photos = config.photos_per_person
    batches = IdentityBalanced(
        person, synthetic, config.people_per_batch, photos, photos, config.seed
    )
    judged = val_pairs[val_pairs["kind"] != "different"]
    images = images_in_pairs(judged, val)
    module = DifferentialModule(
        config,
        recogniser,
        comparer,
        person,
        synthetic,
        pair_rows(judged, images),
        (judged["kind"] == "same").to_numpy(),
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
    figures["validation_eer"] = asdict(result)
    if not result.best_epoch:
        return comparer, figures
    tuned = Recogniser(
        module.network,
        recogniser.blueprint,
        recogniser.spec,
        f"{recogniser.source}, tuned on pairs",
    )
    layers = {name: parameter.detach().numpy() for name, parameter in module.layers.items()}
    return DifferentialDetector({**comparer.tensors, **layers}, comparer.channels, tuned), figures


class DifferentialModule(pl.LightningModule):
    """A recogniser's copy and the comparer's small networks, binary cross-entropy over a batch's pairs of one person.

    Args:
        config: Settings.
        recogniser: Whose network is tuned.
        comparer: Where its small networks start.
        person: Identity of every training row.
        synthetic: Whether it is a `k_` image.
        pairs: M×2 rows of the validation loader.
        genuine: M, whether both images of a pair are.
    """

    def __init__(
        self,
        config: ComparisonConfig,
        recogniser: Recogniser,
        comparer: DifferentialDetector,
        person: np.ndarray,
        synthetic: np.ndarray,
        pairs: np.ndarray,
        genuine: np.ndarray,
    ):
        super().__init__()
        self.network = recogniser.network.train()
        self.layers = torch.nn.ParameterDict(
            {name: torch.from_numpy(comparer.tensors[name].copy()) for name in _LAYERS}
        )
        self._fixed = [name for name in comparer.tensors if name not in _LAYERS]
        for name in self._fixed:
            self.register_buffer(name, torch.from_numpy(comparer.tensors[name]))
        self._config, self._spec, self._channels = config, recogniser.spec, comparer.channels
        self._augment = Augment(config.augment)
        self._person, self._synthetic = (
            torch.tensor(person),
            torch.tensor(synthetic, dtype=torch.bool),
        )
        self._pairs, self._genuine = torch.from_numpy(pairs), genuine
        self._seen: dict[int, tuple[torch.Tensor, ...]] = {}

    def view(self, images: torch.Tensor) -> FeatureBatch:
        """Perceives float N×3×S×S in 0..1."""
        output, maps = intermediates(
            self.network, self._spec.normalise(images).contiguous(memory_format=torch.channels_last)
        )
        return FeatureBatch(
            torch.nn.functional.normalize(output.float(), dim=1),
            *(part.float() for part in pool_maps(maps)),
        )

    def logits(self, one: FeatureBatch, other: FeatureBatch) -> torch.Tensor:
        """Log-odds that both photos of N pairs are genuine, hidden units dropped out while training."""
        tensors = {**{name: getattr(self, name) for name in self._fixed}, **self.layers}
        return differential_logits(
            one, other, tensors, self._channels, _DROPOUT if self.training else 0.0
        )

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Augments a batch and takes the loss of all its pairs of one person with a genuine photo, both classes alike in weight."""
        crops, rows = batch
        seen, rows = self.view(self._augment(crops.float() / 255)), rows.cpu()
        a, b = torch.triu_indices(len(rows), len(rows), 1)
        forged = self._synthetic[rows].int()
        of_one = (
            (self._person[rows[a]] == self._person[rows[b]])
            & (rows[a] != rows[b])
            & (forged[a] + forged[b] < 2)
        )
        a, b = a[of_one], b[of_one]
        genuine = (forged[a] + forged[b] == 0).float()
        # Each class counts half, however many pairs of it there are; a batch without one, or without pairs, has less to say.
        weight = 0.5 / torch.where(genuine > 0, genuine.sum(), (1 - genuine).sum())
        logits = self.logits(seen.rows(a.to(self.device)), seen.rows(b.to(self.device)))
        cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
        loss = cross_entropy(
            logits, genuine.to(self.device), weight.to(self.device), reduction="sum"
        )
        self.log("train_loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        """Collects what is seen."""
        crops, rows = batch
        self._seen.update(
            zip(rows.tolist(), zip(*self.view(crops.float() / 255), strict=True), strict=True)
        )

    def on_validation_epoch_end(self) -> None:
        """Logs the EER of genuine pairs against those with a `k_` image of the same person."""
        seen = FeatureBatch(
            *(
                torch.stack(part)
                for part in zip(*(self._seen[row] for row in range(len(self._seen))), strict=True)
            )
        )
        self._seen.clear()
        parts = [
            self.logits(seen.rows(part[:, 0]), seen.rows(part[:, 1]))
            for part in self._pairs.to(self.device).split(CHUNK)
        ]
        self.log("val_eer", eer(self._genuine, torch.cat(parts).cpu().numpy()), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; the small networks, which are trained on what has been seen before, may follow faster."""
        groups = [
            {"params": self.network.parameters()},
            {"params": self.layers.parameters(), "lr": self._config.optim.lr * _HEAD_LR_SCALE},
        ]
        return build_optimiser(
            groups, self._config.optim, int(self.trainer.estimated_stepping_batches)
        )
