"""What a recogniser sees on its way to the embedding, in which two photos can be compared place by place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from facenet_pytorch import InceptionResnetV1
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity

from kryptonite.recognition.iresnet import IResNet

CELLS = 7  # the middle map is brought to CELLS×CELLS cells
_STAGES = {
    InceptionResnetV1: ("repeat_1", "repeat_2", "repeat_3", "block8"),
    IResNet: ("layer1", "layer2", "layer3", "layer4"),
}
_AT_MOST = 6  # stages; transformers give every block
_TINY = 1e-6
STANDARD = (
    "pooled_centre",
    "pooled_spread",
    "cells_centre",
    "cells_spread",
)  # by which `cosine_features` standardises


@dataclass(frozen=True)
class FeatureMaps:
    """N photos as a recogniser saw them.

    Args:
        embeddings: float32, N×D, unit length.
        pooled: float32, N×P: of every stage the mean of each channel over the map, then its spread.
        cells: float16, N×C×CELLS×CELLS: the last map that has at least CELLS×CELLS places.
        channels: Of every stage, the first nearest to the photo; P is twice their sum.
    """

    embeddings: np.ndarray
    pooled: np.ndarray
    cells: np.ndarray
    channels: tuple[int, ...]

    @classmethod
    def joined(cls, parts: "list[FeatureMaps]") -> "FeatureMaps":
        """One after the other."""
        arrays = [
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("embeddings", "pooled", "cells")
        ]
        return cls(*arrays, parts[0].channels)


class FeatureBatch(NamedTuple):
    """Some rows of a `FeatureMaps` as float32 tensors."""

    embeddings: torch.Tensor
    pooled: torch.Tensor
    cells: torch.Tensor

    @classmethod
    def of(cls, seen: FeatureMaps, rows: np.ndarray) -> "FeatureBatch":
        """These rows, laid out alike however the arrays are: the order of a sum decides its last bits."""
        parts = (seen.embeddings, seen.pooled, seen.cells)
        return cls(*(torch.from_numpy(np.ascontiguousarray(part[rows])).float() for part in parts))

    def rows(self, chosen: torch.Tensor) -> "FeatureBatch":
        """Some of them, in any order, repeated or not."""
        return FeatureBatch(*(part[chosen] for part in self))


def intermediates(
    network: torch.nn.Module, images: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Runs a network once for its output and its stages' maps, each N×C×H×W."""
    names = _STAGES.get(type(network))
    if names:
        maps: list[torch.Tensor] = []
        hooks = [
            network.get_submodule(name).register_forward_hook(lambda _, __, seen: maps.append(seen))
            for name in names
        ]
        try:
            return network(images), maps
        finally:
            for hook in hooks:
                hook.remove()
    last, maps = network.forward_intermediates(images, output_fmt="NCHW")  # of every timm model
    chosen = np.unique(np.linspace(0, len(maps) - 1, min(len(maps), _AT_MOST)).round().astype(int))
    return network.forward_head(last), [maps[stage] for stage in chosen]


def pool_maps(maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """`pooled` and `cells` of `FeatureMaps`."""
    # A channel that is the same everywhere has no slope at a spread of 0.
    spreads = [(stage.float().var((2, 3), correction=0) + _TINY).sqrt() for stage in maps]
    pooled = torch.cat(
        [
            torch.cat([stage.mean((2, 3)), spread], 1)
            for stage, spread in zip(maps, spreads, strict=True)
        ],
        1,
    )
    fine = [stage for stage in maps if min(stage.shape[2:]) >= CELLS]
    return pooled, adaptive_avg_pool2d((fine or maps[:1])[-1].float(), CELLS)


def cosine_features(
    one: FeatureBatch,
    other: FeatureBatch,
    standard: Mapping[str, torch.Tensor],
    channels: tuple[int, ...],
) -> torch.Tensor:
    """How far both photos of N pairs agree: float32, N×F cosines.

    They are of the embeddings; of every stage's means and spreads, standardised; and of the map cell by cell, standardised, a cell and its
    mirror image taken together, since a face has two like halves.

    Args:
        one: The first photos.
        other: The second.
        standard: Those named in `STANDARD`, of the shape of one row.
        channels: As `FeatureMaps`.
    """
    pooled, cells = (
        [
            (getattr(side, name) - standard[f"{name}_centre"]) / standard[f"{name}_spread"]
            for side in (one, other)
        ]
        for name in ("pooled", "cells")
    )
    widths = [width for width in channels for _ in range(2)]
    parts = zip(*(side.split(widths, 1) for side in pooled), strict=True)
    columns = [
        cosine_similarity(one.embeddings, other.embeddings),
        *(cosine_similarity(*part) for part in parts),
    ]
    grid = cosine_similarity(*cells)
    folded = ((grid + grid.flip(2)) / 2)[:, :, : (CELLS + 1) // 2]
    return torch.cat([torch.stack(columns, 1), folded.flatten(1)], 1)
