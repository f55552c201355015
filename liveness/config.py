"""Settings of the synthetic-image branch."""

from dataclasses import dataclass, field
from pathlib import Path

from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import ConfigError
from kryptonite.data.forgery import FORGERIES
from kryptonite.nn.autoencoder import weight_files
from kryptonite.nn.train.config import AugmentConfig, FitConfig
from kryptonite.nn.train.optim import OptimConfig
from kryptonite.nn.weights import BackboneConfig

AUTOENCODER = "autoencoder"  # the kind of forgery that `autoencoder` adds


@dataclass
class ProbeConfig:
    """A linear classifier on a frozen encoder, instead of training the whole network.

    Args:
        passes: Passes over the training images, each augmented anew; 0 trains the whole network.
        forgeries: Forgeries made of each genuine photo in a pass.
        decay: Weight decay of the classifier.
        alarms: Fraction of genuine validation photos, 0..1, that are called synthetic at log-odds
            0, in the data source with most of them.

    Raises:
        ConfigError: A number is out of range.
    """

    passes: int = 0
    forgeries: int = 1
    decay: float = 1e-5
    alarms: float = 0.05

    def __post_init__(self):
        for name in ("passes", "forgeries"):
            if getattr(self, name) < 0:
                raise ConfigError(f"probe.{name}: at least 0, not {getattr(self, name)}")
        if not self.decay > 0:
            raise ConfigError(f"probe.decay: above 0, not {self.decay}")
        if not 0 < self.alarms < 1:
            raise ConfigError(f"probe.alarms: a fraction between 0 and 1, not {self.alarms}")


@dataclass
class LivenessConfig:
    """The synthetic-image detector.

    Args:
        backbone: Network and initial weights; it gets a new head with one logit.
        template: Crop the network reads; wider than the recogniser's, because blending seams lie
            at the edge of the face.
        augment: Augmentation of training crops.
        pairs_per_batch: Pairs of a genuine and a `k_` image per batch, which has twice as many
            crops.
        paired: Whether both images of a pair show the same person; if not, batches are balanced by
            class alone.
        forgeries: Fraction of the pairs, 0..1, whose `k_` image is replaced by a forgery of a
            genuine crop made on the fly.
        forgery_kinds: Kinds of these forgeries, drawn evenly: names from
            `data.forgery.FORGERIES`.
        autoencoder: Folder with the weights of `nn.autoencoder`; adds the kind `autoencoder`, whose
            forgeries are round trips of genuine crops. Empty does without.
        head_lr_scale: Learning rate of the new head relative to that of the pretrained layers.
        optim: Optimiser.
        fit: Length, precision, devices.
        probe: Fits a classifier on the frozen backbone, a vision transformer, in the place of
            training it; `pairs_per_batch` and `augment` hold for it too.
        seed: Seeds initialisation, batches, forgeries and augmentation.

    Raises:
        ConfigError: `forgeries` is outside 0..1, or a kind of forgery is unknown.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    template: CropTemplate = field(default_factory=lambda: CropTemplate(224, 0.2))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    pairs_per_batch: int = 16
    paired: bool = True
    forgeries: float = 0.0
    forgery_kinds: list[str] = field(default_factory=lambda: ["self_blend"])
    autoencoder: str = ""
    head_lr_scale: float = 1.0
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-4))
    fit: FitConfig = field(default_factory=lambda: FitConfig(ema_decay=0.99))
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.forgeries <= 1:
            raise ConfigError(f"forgeries: must be a fraction in 0..1, not {self.forgeries}")
        for kind in self.forgery_kinds:
            if kind not in FORGERIES:
                raise ConfigError(
                    f"forgery_kinds: no forgery is called {kind!r}; there are "
                    f"{', '.join(FORGERIES)}"
                )
        if not self.forgery_kinds:
            raise ConfigError(f"forgery_kinds: name at least one of {', '.join(FORGERIES)}")

    @property
    def made_kinds(self) -> list[str]:
        """Every kind of forgery made on the fly."""
        return [*self.forgery_kinds, *([AUTOENCODER] if self.autoencoder else [])]

    @property
    def autoencoder_files(self) -> list[Path]:
        """The autoencoder's weights; none without one."""
        return weight_files(Path(self.autoencoder)) if self.autoencoder else []
