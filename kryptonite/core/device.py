"""Choose where tensors are computed."""

import torch


def choose_device(device: str) -> torch.device:
    """Turns a configured device into a torch device.

    Args:
        device: `auto` (CUDA if available, else the CPU), `cpu` or `cuda`.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
