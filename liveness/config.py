"""Settings of the synthetic-image branch."""

from dataclasses import dataclass, field

from common.inputs import CropTemplate
from common.weights import BackboneConfig
from training.fit import FitConfig
from training.optim import OptimConfig


@dataclass
class AugmentConfig:
    """How training crops are changed; genuine and synthetic ones alike, each step with its own probability per crop.

    Args:
        colour: Probability of a change of brightness, contrast, saturation and hue.
        blur: Of a Gaussian blur.
        noise: Of Gaussian noise.
        rescale: Of being shrunk and enlarged again.
        jpeg: Of JPEG compression at a quality of 50 to 95.
    """

    colour: float = 0.5
    blur: float = 0.1
    noise: float = 0.1
    rescale: float = 0.2
    jpeg: float = 0.3


@dataclass
class LivenessConfig:
    """The synthetic-image detector.

    Args:
        backbone: Network and weights; it gets a head of one logit.
        template: The crop it reads, wider than the recogniser's: blending seams lie at the rim of the face.
        augment: Augmentation.
        pairs_per_batch: Pairs of a genuine and a `k_` image of one person in a batch; the batch has twice as many crops.
        head_lr_scale: Learning rate of the new head relative to that of the pretrained rest.
        optim: Optimiser.
        fit: Length, precision, devices.
        seed: Of initialisation, batches and augmentation.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    template: CropTemplate = field(default_factory=lambda: CropTemplate(224, 0.2))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    pairs_per_batch: int = 16
    head_lr_scale: float = 1.0
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-4))
    fit: FitConfig = field(default_factory=lambda: FitConfig(ema_decay=0.99))
    seed: int = 0
