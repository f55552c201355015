"""Settings of training runs; kept apart from the trainer so that scoring need not import it."""

from dataclasses import dataclass

from kryptonite.core.errors import ConfigError


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
        ConfigError: `soup` is below 1.
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
        if self.soup < 1:
            raise ConfigError(f"soup: at least one training, not {self.soup}")


@dataclass
class AugmentConfig:
    """Augmentation of training crops, the same for both classes; each step is drawn per crop.

    Args:
        colour: Probability of changing brightness, contrast, saturation and hue.
        blur: Probability of Gaussian blur.
        noise: Probability of Gaussian noise.
        rescale: Probability of shrinking the crop and enlarging it again.
        jpeg: Probability of JPEG compression at a quality of 50 to 95.
    """

    colour: float = 0.5
    blur: float = 0.1
    noise: float = 0.1
    rescale: float = 0.2
    jpeg: float = 0.3
