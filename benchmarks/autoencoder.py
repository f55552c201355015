"""The tiny autoencoder of a latent-diffusion model, for forgeries that nobody trained on.

Its round trip of a photo looks the same and carries a diffusion decoder's traces.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

WIDTH, LATENT = 64, 32
FACTOR = 8  # sides of an image must be divisible by it


class _Block(nn.Module):
    """Three convolutions beside a shortcut; with `pool`, a wide pointwise stage before them."""

    def __init__(self, pool: bool = False):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU()]
        self.conv = nn.Sequential(*layers[:-1])
        if pool:
            wide = 4 * WIDTH
            self.pool = nn.Sequential(
                nn.Conv2d(WIDTH, wide, 1, bias=False),
                nn.GroupNorm(4, wide),
                nn.ReLU(),
                nn.Conv2d(wide, WIDTH, 1, bias=False),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if hasattr(self, "pool"):
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class _SoftClamp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(x / 3)


def _halved() -> nn.Module:
    return nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False)


def _doubled() -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]


def _encoder() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 3, padding=1), _Block()]
    for number in range(3):
        layers += [_halved(), *(_Block(pool=number == 2) for _ in range(3))]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, LATENT, 3, padding=1))


def _decoder() -> nn.Sequential:
    layers: list[nn.Module] = [_SoftClamp(), nn.Conv2d(LATENT, WIDTH, 3, padding=1), nn.ReLU()]
    for number in range(3):
        layers += [*(_Block(pool=number == 0) for _ in range(3)), *_doubled()]
    return nn.Sequential(*layers, _Block(), nn.Conv2d(WIDTH, 3, 3, padding=1))


def load_round_trip(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads encoder and decoder.

    Args:
        folder: Holds taef2_encoder.safetensors and taef2_decoder.safetensors.

    Returns:
        Maps an image, RGB uint8 H×W×3, to its round trip, of the same size.
    """
    parts = {"encoder": _encoder(), "decoder": _decoder()}
    for name, network in parts.items():
        state = load_file(folder / f"taef2_{name}.safetensors")
        network.load_state_dict({key: tensor.float() for key, tensor in state.items()})
        network.eval()

    @torch.inference_mode()
    def round_trip(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        pad = ((0, -height % FACTOR), (0, -width % FACTOR), (0, 0))
        padded = np.pad(image, pad, mode="edge")
        tensor = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
        decoded = parts["decoder"](parts["encoder"](tensor)).clamp(0, 1)
        pixels = (decoded[0].permute(1, 2, 0) * 255).round().byte().numpy()
        return pixels[:height, :width]

    return round_trip
