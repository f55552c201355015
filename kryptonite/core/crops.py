"""The contract between aligned crops and the models that take them."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from kryptonite.core.errors import InputContractError

if TYPE_CHECKING:  # torch takes seconds to import, and exported networks do without it
    import torch

COLOURS = ("RGB", "BGR")  # channel orders of networks


@dataclass(frozen=True)
class CropTemplate:
    """Where the five ArcFace landmarks lie in a square crop.

    The ArcFace five-point template on 112×112 (insightface, `arcface_dst`) is scaled to the crop
    after `margin` of its side is added on each side.

    Args:
        size: Side of the crop in pixels.
        margin: Border on each side, as a fraction of the template's own side; 0 gives the plain
            ArcFace crop.
    """

    size: int = 112
    margin: float = 0.0

    @property
    def name(self) -> str:
        """For example `arcface5-112-m0`; part of cache keys and of model descriptions."""
        return f"arcface5-{self.size}-m{self.margin:g}"


@dataclass(frozen=True)
class Crops:
    """A batch of aligned crops.

    Args:
        pixels: uint8, N×S×S×3, RGB.
        template: The template they were cut to.
    """

    pixels: np.ndarray
    template: CropTemplate


@dataclass(frozen=True)
class InputSpec:
    """The input a model requires; saved beside its weights.

    Args:
        template: The template of its training crops.
        colour: Channel order of the network, `RGB` or `BGR`. Crops are always RGB; the model
            reorders them.
        mean: Mean per channel, in the network's order, on the 0..1 scale.
        std: Standard deviation per channel, likewise.
    """

    template: CropTemplate
    colour: str = "RGB"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def check(self, crops: Crops) -> None:
        """Refuses crops made for another model.

        Raises:
            InputContractError: Template, shape or dtype differ.
        """
        if crops.template != self.template:
            raise InputContractError(
                f"crops were cut to {crops.template.name}, the model expects {self.template.name}"
            )
        side = self.template.size
        if (
            crops.pixels.dtype != np.uint8
            or crops.pixels.ndim != 4
            or crops.pixels.shape[1:] != (side, side, 3)
        ):
            raise InputContractError(
                f"crops must be uint8 N×{side}×{side}×3, "
                f"got {crops.pixels.dtype} {crops.pixels.shape}"
            )

    def normalise(self, images: "torch.Tensor") -> "torch.Tensor":
        """Maps RGB float images in 0..1, N×3×S×S, to the network's channel order and statistics."""
        import torch

        if self.colour == "BGR":
            images = images.flip(1)
        mean = torch.tensor(self.mean, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        return (images - mean) / std

    def to_dict(self) -> dict:
        """JSON-able form, for `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict) -> "InputSpec":
        """Inverse of `to_dict`.

        Raises:
            ValueError: The colour is unknown.
            TypeError: An entry is, or has a value of the wrong kind.
            KeyError: An entry is missing.
        """
        template, colour = CropTemplate(**value["template"]), value["colour"]
        if colour not in COLOURS:
            raise ValueError(f"colour must be one of {', '.join(COLOURS)}, got {colour!r}")
        means = {name: tuple(value[name]) for name in ("mean", "std")}
        return cls(**{**value, "template": template, **means})


def to_unit_tensor(
    pixels: "np.ndarray | torch.Tensor", device: "torch.device | str" = "cpu"
) -> "torch.Tensor":
    """Converts crops, uint8 N×S×S×3, to float32 N×3×S×S in 0..1 on `device`."""
    import torch

    if isinstance(pixels, np.ndarray):
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
    return pixels.to(device).permute(0, 3, 1, 2).float().div(255.0)
