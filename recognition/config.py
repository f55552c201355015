"""Settings of the recognition branch."""

from dataclasses import dataclass, field
from typing import Literal

from kryptonite.core.crops import CropTemplate
from kryptonite.nn.train.config import AugmentConfig, FitConfig
from kryptonite.nn.train.optim import OptimConfig
from kryptonite.nn.weights import BackboneConfig


@dataclass
class RecognitionConfig:
    """The identity branch.

    Args:
        backbone: Network and initial weights.
        embedding_dim: Length of the embedding. If the weights file has a head of another length,
            the head is replaced by a new one, which must be trained.
        template: Crop the network reads.
        colour: Channel order the network was trained on; AdaFace's published weights use BGR.
        mean: Per-channel mean on the 0..1 scale, in the network's channel order; by default the
            one that comes with the weights.
        std: Per-channel standard deviation, likewise.
        loss: Margin loss over the training identities (pytorch-metric-learning).
        margin: Margin in degrees for `arcface` and `subcentre_arcface`, as a cosine for `cosface`.
        scale: Factor on the logits.
        spoof_weight: Weight of the loss term that pushes an identity's `k_` images away from its
            centre; 0 excludes `k_` images from training.
        spoof_margin: Cosine to the centre below which a `k_` image costs nothing.
        people_per_batch: Identities per batch.
        photos_per_person: Genuine photos of each identity; with `spoof_weight`, one `k_` image is
            added for each identity that has any.
        backbone_lr_scale: Learning rate of the backbone relative to that of the identity centres.
        optim: Optimiser.
        fit: Length, precision, devices.
        seed: Seeds initialisation, batches and augmentation.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    embedding_dim: int = 512
    template: CropTemplate = field(default_factory=CropTemplate)
    colour: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    loss: Literal["arcface", "cosface", "subcentre_arcface"] = "arcface"
    margin: float = 28.6
    scale: float = 32.0
    spoof_weight: float = 0.0
    spoof_margin: float = 0.2
    people_per_batch: int = 16
    photos_per_person: int = 4
    backbone_lr_scale: float = 1.0
    optim: OptimConfig = field(default_factory=OptimConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    seed: int = 0


@dataclass
class ComparisonConfig:
    """The differential detector, which scores both photos of a pair together.

    Args:
        pairs: Training pairs of the same person, half of them with a `k_` image; 0 trains no
            differential detector. It helps most with a pretrained recogniser: one trained on these
            identities overfits them and produces other features for strangers.
        networks: Number of small networks whose outputs are averaged.
        hidden: Hidden units of each.
        decay: Weight decay (L2 penalty).
        epochs: Passes over the pairs.
        people_per_batch: Identities per batch while fine-tuning; all pairs of the same person in a
            batch are compared.
        photos_per_person: Genuine photos of each identity, and as many `k_` images.
        augment: Augmentation while fine-tuning.
        optim: Optimiser of the fine-tuned backbone; the small networks learn ten times as fast.
        fit: Fine-tuning of a copy of the recogniser together with the small networks; with 0
            epochs the detector uses the recogniser itself.
        seed: Seeds pairs, initialisation, batches and augmentation.
    """

    pairs: int = 0
    networks: int = 5
    hidden: int = 32
    decay: float = 1.0
    epochs: int = 12
    people_per_batch: int = 8
    photos_per_person: int = 3
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-4))
    fit: FitConfig = field(default_factory=lambda: FitConfig(epochs=0))
    seed: int = 0
