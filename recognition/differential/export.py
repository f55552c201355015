"""Export the network of a differential detector to ONNX, and check it against PyTorch."""

import numpy as np
import torch

from kryptonite.core.crops import Crops
from kryptonite.core.errors import ConfigError
from kryptonite.nn.onnx_export import noise_crops, write_graph
from kryptonite.recognition.differential.comparer import Comparer
from kryptonite.recognition.differential.detector import (
    EXPORT_FILE,
    LOG_ODDS,
    DifferentialDetector,
    origin,
    pair_inputs,
)
from kryptonite.recognition.differential.features import FeatureBatch
from kryptonite.recognition.recogniser import Recogniser


def write_comparer(detector: DifferentialDetector, recogniser: Recogniser) -> float:
    """Writes the network as `EXPORT_FILE` beside its weights; it takes any number of pairs.

    Args:
        detector: Loaded from a folder by PyTorch.
        recogniser: The run's.

    Returns:
        Largest difference from PyTorch, relative to values above one, on pairs of crops of noise.

    Raises:
        ConfigError: The detector was not loaded that way.
        WeightsError: As `nn.onnx_export.write_graph`.
    """
    if detector.folder is None or detector.comparer is None:
        raise ConfigError(
            "only a differential detector loaded from a run by PyTorch can be exported"
        )
    backbone = detector.backbone_or(recogniser)
    template = backbone.spec.template
    maps = backbone.extract_maps(Crops(noise_crops(template.size), template))
    a, b = np.triu_indices(len(maps.embeddings))
    return write_graph(
        detector.folder / EXPORT_FILE,
        _Graph(detector.comparer),
        pair_inputs(maps, a, b),
        [LOG_ODDS],
        origin(detector.weights_sha256, detector.channels),
    )


class _Graph(torch.nn.Module):
    """A comparer from features as they are cached."""

    def __init__(self, comparer: Comparer):
        super().__init__()
        self.comparer = comparer

    def forward(
        self,
        embeddings_a: torch.Tensor,
        pooled_a: torch.Tensor,
        cells_a: torch.Tensor,
        embeddings_b: torch.Tensor,
        pooled_b: torch.Tensor,
        cells_b: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        one = FeatureBatch(embeddings_a, pooled_a, cells_a.float())
        return (self.comparer(one, FeatureBatch(embeddings_b, pooled_b, cells_b.float())),)
