"""What a recogniser sees on its way to the embedding, in which two photos can be compared place by place."""

from dataclasses import dataclass

import numpy as np
import torch
from facenet_pytorch import InceptionResnetV1
from torch.nn.functional import adaptive_avg_pool2d

from recognition.iresnet import IResNet

CELLS = 7  # the middle map is brought to CELLS×CELLS cells
_STAGES = {
    InceptionResnetV1: ("repeat_1", "repeat_2", "repeat_3", "block8"),
    IResNet: ("layer1", "layer2", "layer3", "layer4"),
}
_AT_MOST = 6  # stages; transformers give every block


@dataclass(frozen=True)
class Perception:
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
    def joined(cls, parts: "list[Perception]") -> "Perception":
        """One after the other."""
        arrays = [np.concatenate([getattr(part, name) for part in parts]) for name in ("embeddings", "pooled", "cells")]
        return cls(*arrays, parts[0].channels)


def intermediates(network: torch.nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Runs a network once for its output and its stages' maps, each N×C×H×W."""
    names = _STAGES.get(type(network))
    if names:
        maps: list[torch.Tensor] = []
        hooks = [network.get_submodule(name).register_forward_hook(lambda _, __, seen: maps.append(seen)) for name in names]
        try:
            return network(images), maps
        finally:
            for hook in hooks:
                hook.remove()
    last, maps = network.forward_intermediates(images, output_fmt="NCHW")  # of every timm model
    chosen = np.unique(np.linspace(0, len(maps) - 1, min(len(maps), _AT_MOST)).round().astype(int))
    return network.forward_head(last), [maps[stage] for stage in chosen]


def summarise(maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """`pooled` and `cells` of `Perception`."""
    pooled = torch.cat([torch.cat([stage.mean((2, 3)), stage.std((2, 3), correction=0)], 1) for stage in maps], 1)
    fine = [stage for stage in maps if min(stage.shape[2:]) >= CELLS]
    return pooled, adaptive_avg_pool2d((fine or maps[:1])[-1].float(), CELLS)
