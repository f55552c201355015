"""Choose where tensors are computed."""

import torch

from kryptonite.core.errors import ConfigError


def choose_device(device: str) -> torch.device:
    """Turns a configured device into a torch device.

    Args:
        device: `auto` (CUDA if available, else the CPU), `cpu` or `cuda`.

    Raises:
        ConfigError: There is no such device, or not on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r}: must be auto, cpu or cuda") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device}: torch finds no CUDA GPU here; use cpu or auto")
    return chosen
