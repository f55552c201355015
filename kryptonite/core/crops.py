"""The contract between aligned crops and the models that read them."""

from dataclasses import asdict, dataclass

import numpy as np
import torch

from kryptonite.core.errors import InputContractError


@dataclass(frozen=True)
class CropTemplate:
    """Where the five ArcFace landmarks lie in a square crop.

    The ArcFace five-point template on 112×112 (insightface, `arcface_dst`) is scaled to the crop and pulled in so that `margin` of
    the template's side is added on each side.

    Args:
        size: Side of the crop in pixels.
        margin: Added on each side, as a fraction of the template's own side; 0 is the plain ArcFace crop.
    """

    size: int = 112
    margin: float = 0.0

    @property
    def name(self) -> str:
        """For example `arcface5-112-m0`: part of cache keys and of every model's description."""
        return f"arcface5-{self.size}-m{self.margin:g}"


@dataclass(frozen=True)
class Crops:
    """A batch of aligned crops and what they are.

    Args:
        pixels: uint8, N×S×S×3.
        template: How they were cut.
        colour: Channel order, `RGB` or `BGR`. The aligner always gives `RGB`.
    """

    pixels: np.ndarray
    template: CropTemplate
    colour: str = "RGB"


@dataclass(frozen=True)
class InputSpec:
    """What a model wants to see; saved beside its weights.

    Args:
        template: The crop it was trained on.
        colour: Channel order the network itself expects. Crops are always handed over as RGB; the model turns them.
        mean: Per channel of the network's order, on the 0..1 scale.
        std: Likewise.
    """

    template: CropTemplate
    colour: str = "RGB"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def check(self, crops: Crops) -> None:
        """Refuses crops made for another model.

        Raises:
            InputContractError: Template, shape, dtype or colour order differ.
        """
        if crops.template != self.template:
            raise InputContractError(
                f"crops were cut to {crops.template.name}, the model expects {self.template.name}"
            )
        if crops.colour != "RGB":
            raise InputContractError(
                f"crops are {crops.colour}; models take RGB crops and reorder the channels themselves"
            )
        side = self.template.size
        if (
            crops.pixels.dtype != np.uint8
            or crops.pixels.ndim != 4
            or crops.pixels.shape[1:] != (side, side, 3)
        ):
            raise InputContractError(
                f"crops must be uint8 N×{side}×{side}×3, got {crops.pixels.dtype} {crops.pixels.shape}"
            )

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Maps RGB float images in 0..1, N×3×S×S, to what the network reads (channel order, mean, std)."""
        if self.colour == "BGR":
            images = images.flip(1)
        mean = torch.tensor(self.mean, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        return (images - mean) / std

    def to_dict(self) -> dict:
        """JSON-able form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict) -> "InputSpec":
        """Inverse of `to_dict`."""
        return cls(
            template=CropTemplate(**value["template"]),
            colour=value["colour"],
            mean=tuple(value["mean"]),
            std=tuple(value["std"]),
        )


def to_unit_tensor(
    pixels: np.ndarray | torch.Tensor, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """uint8 N×S×S×3 crops to float32 N×3×S×S in 0..1 on `device`."""
    if isinstance(pixels, np.ndarray):
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
    return pixels.to(device).permute(0, 3, 1, 2).float().div(255.0)
