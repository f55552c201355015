"""Intermediate feature maps of a recogniser, by which two photos can be compared place by place."""

from typing import NamedTuple

import numpy as np
import torch
from facenet_pytorch import InceptionResnetV1
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity

from kryptonite.recognition.differential.maps import CELLS, FeatureMaps
from kryptonite.recognition.iresnet import IResNet

_STAGES = {
    InceptionResnetV1: ("repeat_1", "repeat_2", "repeat_3", "block8"),
    IResNet: ("layer1", "layer2", "layer3", "layer4"),
}
_MAX_STAGES = 6  # transformers return every block
_EPS = 1e-6


class FeatureBatch(NamedTuple):
    """Some rows of `FeatureMaps` as float32 tensors."""

    embeddings: torch.Tensor
    pooled: torch.Tensor
    cells: torch.Tensor

    @classmethod
    def from_maps(cls, maps: FeatureMaps, rows: np.ndarray) -> "FeatureBatch":
        """Takes rows of feature maps.

        The memory layout is always the same, because the order of a sum decides its last bits.
        """
        parts = maps.rows(rows).arrays.values()
        return cls(*(torch.from_numpy(np.ascontiguousarray(part)).float() for part in parts))

    def select(self, rows: torch.Tensor) -> "FeatureBatch":
        """Takes rows in any order; a row may repeat."""
        return FeatureBatch(*(part[rows] for part in self))


def intermediates(
    network: torch.nn.Module, images: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Runs a network once and returns its output and its stages' maps, each N×C×H×W."""
    names = _STAGES.get(type(network))
    if names:
        maps: list[torch.Tensor] = []
        hooks = [
            network.get_submodule(name).register_forward_hook(lambda _, __, out: maps.append(out))
            for name in names
        ]
        try:
            return network(images), maps
        finally:
            for hook in hooks:
                hook.remove()
    last, maps = network.forward_intermediates(images, output_fmt="NCHW")  # any timm model
    count = min(len(maps), _MAX_STAGES)
    chosen = np.unique(np.linspace(0, len(maps) - 1, count).round().astype(int))
    return network.forward_head(last), [maps[stage] for stage in chosen]


def pool_maps(maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes `pooled` and `cells` of `FeatureMaps` from all stages' maps."""
    # Without _EPS, a channel that is constant over the map would have an infinite gradient.
    spreads = [(stage.float().var((2, 3), correction=0) + _EPS).sqrt() for stage in maps]
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
    one: FeatureBatch, other: FeatureBatch, channels: tuple[int, ...]
) -> torch.Tensor:
    """Measures how similar both photos of N pairs are: float32, N×`feature_count`, cosines.

    They compare the embeddings, every stage's means and standard deviations, and the map cell by
    cell. A cell and its mirror image are averaged, since both halves of a face are alike.

    Args:
        one: The pairs' first photos; `pooled` and `cells` are standardised.
        other: The second ones, likewise.
        channels: As in `FeatureMaps`.
    """
    widths = [width for width in channels for _ in range(2)]
    parts = zip(one.pooled.split(widths, 1), other.pooled.split(widths, 1), strict=True)
    columns = [
        cosine_similarity(one.embeddings, other.embeddings),
        *(cosine_similarity(*part) for part in parts),
    ]
    grid = cosine_similarity(one.cells, other.cells)
    folded = ((grid + grid.flip(2)) / 2)[:, :, : (CELLS + 1) // 2]
    return torch.cat([torch.stack(columns, 1), folded.flatten(1)], 1)


def feature_count(channels: tuple[int, ...]) -> int:
    """Returns the number of cosines `cosine_features` computes."""
    return 1 + 2 * len(channels) + CELLS * ((CELLS + 1) // 2)
