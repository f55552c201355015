"""Settings of training runs; kept apart from the trainer so that scoring need not import it."""

from dataclasses import dataclass

from kryptonite.core.errors import ConfigError

# The first three are Lightning's names; the others are those it has kept from older versions.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


@dataclass
class FitConfig:
    """Length and hardware of a training run.

    Args:
        epochs: Passes over the sampler; 0 keeps the initial weights.
        precision: Lightning's name for the number format: `32-true`, `bf16-mixed`, `16-mixed`.
        ema_decay: Decay per step of the exponential moving average of the weights; 0 disables it.
        soup: Number of trainings from the same initial weights on different batches. Their best
            weights are averaged into one network (model soup, Wortsman et al. 2022); training
            time grows by the same factor.
        patience: Epochs without a lower validation EER before training stops.
        devices: Processes on this machine: GPUs, or CPU processes connected by gloo.
        nodes: Machines; start the run with torchrun on each.
        accelerator: `auto`, `cpu` or `gpu`.
        gradient_clip: Largest gradient norm; longer gradients are scaled down to it.
        workers: Processes that read crops.

    Raises:
        ConfigError: A number is out of range, or Lightning has no such precision or accelerator.
    """

    epochs: int = 10
    precision: str = "32-true"
    ema_decay: float = 0.0
    soup: int = 1
    patience: int = 5
    devices: int = 1
    nodes: int = 1
    accelerator: str = "auto"
    gradient_clip: float = 5.0
    workers: int = 2

    def __post_init__(self):
        for name, least in (
            ("epochs", 0),
            ("soup", 1),
            ("patience", 0),
            ("devices", 1),
            ("nodes", 1),
            ("workers", 0),
            ("gradient_clip", 0),
        ):
            if not getattr(self, name) >= least:  # NaN is at least nothing
                raise ConfigError(f"fit.{name}: at least {least}, not {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"fit.ema_decay: from 0 to below 1, not {self.ema_decay}")
        for name, known in (("precision", PRECISIONS), ("accelerator", ACCELERATORS)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"fit.{name}: {getattr(self, name)!r} is none of {', '.join(known)}"
                )


@dataclass
class AugmentConfig:
    """Augmentation of training crops, the same for both classes; each step is drawn per crop.

    Args:
        colour: Probability of changing brightness, contrast, saturation and hue.
        blur: Probability of Gaussian blur.
        noise: Probability of Gaussian noise.
        rescale: Probability of shrinking the crop and enlarging it again.
        jpeg: Probability of JPEG compression.
        jitter: Probability of turning, shifting and scaling the crop a little, as if its landmarks
            had been found elsewhere.
        gamma: Probability of a gamma curve.
        motion: Probability of motion blur.
        webp: Probability of WebP compression.
        blur_sigma: Largest standard deviation of the Gaussian blur in pixels.
        noise_std: Standard deviation of the noise on the 0..1 scale.
        lowest_quality: Lowest quality of JPEG and WebP, 1..95.

    Raises:
        ConfigError: A probability lies outside 0..1, or another number out of its range.
    """

    colour: float = 0.5
    blur: float = 0.1
    noise: float = 0.1
    rescale: float = 0.2
    jpeg: float = 0.3
    jitter: float = 0.0
    gamma: float = 0.0
    motion: float = 0.0
    webp: float = 0.0
    blur_sigma: float = 1.5
    noise_std: float = 0.03
    lowest_quality: int = 50

    def __post_init__(self):
        steps = ("colour", "blur", "noise", "rescale", "jpeg", "jitter", "gamma", "motion", "webp")
        ranges = [
            *((name, 0, 1) for name in steps),
            ("blur_sigma", 0.1, 10),
            ("noise_std", 0, 1),
            ("lowest_quality", 1, 95),
        ]
        for name, low, high in ranges:
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"augment.{name}: from {low} to {high}, not {getattr(self, name)}"
                )
