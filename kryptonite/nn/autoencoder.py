"""The tiny autoencoder of a latent-diffusion model.

Its round trip of a photo looks the same and carries a diffusion decoder's traces, which images that
were generated through such a decoder carry as well (Rajan et al. 2025, "Aligned datasets improve
detection of latent diffusion-generated images").
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from kryptonite.nn.weights import load_strict, read_state_dict

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


def build_networks() -> tuple[nn.Sequential, nn.Sequential]:
    """Builds encoder and decoder with random weights."""
    return _encoder(), _decoder()


def weight_files(folder: Path) -> list[Path]:
    """Names the files that `RoundTrip.load` reads: the encoder's, then the decoder's."""
    return [folder / f"taef2_{part}.safetensors" for part in ("encoder", "decoder")]


class RoundTrip:
    """Encodes and decodes images.

    Args:
        encoder: Maps float N×3×H×W in 0..1, sides divisible by `FACTOR`, to latents.
        decoder: Maps them back.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        self._encoder, self._decoder = encoder.eval(), decoder.eval()

    @classmethod
    def load(cls, folder: Path) -> "RoundTrip":
        """Reads both networks' weights from `weight_files(folder)`.

        Raises:
            WeightsError: A file is missing, damaged or does not fit.
        """
        networks = build_networks()
        for network, file in zip(networks, weight_files(folder), strict=True):
            state = {name: tensor.float() for name, tensor in read_state_dict(file).items()}
            load_strict(network, state, str(file))
        return cls(*networks)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Gives the round trip of an image, RGB uint8 H×W×3, in the same form."""
        height, width = image.shape[:2]
        pad = ((0, -height % FACTOR), (0, -width % FACTOR), (0, 0))
        padded = np.pad(image, pad, mode="edge")
        tensor = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
        decoded = self._decoder(self._encoder(tensor)).clamp(0, 1)
        pixels = (decoded[0].permute(1, 2, 0) * 255).round().byte().numpy()
        return pixels[:height, :width]
