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
        backbone: Network and weights.
        embedding_dim: Length of the embedding. A weights file whose head has another length gets a fresh head, which has to be trained.
        template: The crop the network reads.
        colour: Channel order the network was trained on; AdaFace's published weights are BGR.
        mean: Per channel on the 0..1 scale, in the network's order; nothing takes what the weights' own description says.
        std: Likewise.
        loss: Margin loss over the training identities (pytorch-metric-learning).
        margin: In degrees for `arcface` and `subcentre_arcface`, a cosine for `cosface`.
        scale: Of the logits.
        spoof_weight: Weight of the term that pushes an identity's `k_` images from its centre; 0 leaves them out of training.
        spoof_margin: Cosine to the centre that a `k_` image may keep.
        people_per_batch: Identities in a batch.
        photos_per_person: Genuine photos of each; with `spoof_weight` one `k_` image of each that has one comes on top.
        backbone_lr_scale: Learning rate of the backbone relative to that of the identity centres.
        optim: Optimiser.
        fit: Length, precision, devices.
        seed: Of initialisation, batches and augmentation.
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
    """The comparer, which looks at both photos of a pair together; see `recognition.differential.detector`.

    Args:
        pairs: Training pairs of one person, half of them with a `k_` image; 0 does without a comparer. Worth it where the recogniser is
            taken as it comes: one that was trained on these very people sees them otherwise than it will see strangers.
        networks: Small networks whose answers are averaged.
        hidden: Units of each.
        decay: Weight decay (L2 penalty).
        epochs: Passes over the pairs.
        people_per_batch: Identities in a batch when tuning; every pair of one of them in it is compared.
        photos_per_person: Genuine photos of each, and as many `k_` images.
        augment: How these crops are changed.
        optim: Optimiser of the tuned network; the small networks on top learn ten times as fast.
        fit: How long a copy of the recogniser is tuned together with the small networks; 0 epochs look through the recogniser itself.
        seed: Of pairs, initialisation, batches and augmentation.
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
