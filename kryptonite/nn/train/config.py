"""How long a branch trains, on what, and how its crops are changed; apart from the trainer, so that scoring need not load it."""

from dataclasses import dataclass

from kryptonite.core.errors import ConfigError


@dataclass
class FitConfig:
    """How long and on what a branch trains.

    Args:
        epochs: Passes over the sampler; 0 keeps the start weights.
        precision: Lightning's name: `32-true`, `bf16-mixed`, `16-mixed`.
        ema_decay: Exponential moving average of the weights, per step; 0 switches it off.
        soup: Trainings from the same start weights, each on batches of its own, whose best weights are averaged into one network (model
            soup, Wortsman et al. 2022); takes as many times as long.
        patience: Epochs without a better validation EER before training stops.
        devices: Processes on this machine: GPUs, or CPU processes talking over gloo.
        nodes: Machines, when started by torchrun on each.
        accelerator: `auto`, `cpu` or `gpu`.
        gradient_clip: Largest gradient norm.
        workers: Processes that read crops.

    Raises:
        ConfigError: A soup of no training.
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
