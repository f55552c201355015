"""White-box attacks on the branches of a run: what somebody can do who knows the networks (Madry et al. 2018)."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from kornia.geometry.transform import warp_affine

from kryptonite.core.crops import Crops, CropTemplate, to_unit_tensor
from kryptonite.detection.recrop import recrop_matrix
from kryptonite.nn.model import CropModel
from kryptonite.robustness.pgd import pgd

EPSILON = (1 / 255, 2 / 255, 4 / 255)  # by severity: largest change of a pixel
STEPS = 10
BATCH = 32
ATTACKS = {
    "pgd_detector": "PGD on synthetic images that lowers the detector's log-odds; genuine photos stay as they are",
    "pgd_recogniser": "PGD on the wrong image of each pair that raises its cosine to the other: a stranger's photo, or the synthetic image",
}


def evade_detector(
    detector: CropModel, crops: Crops, synthetic: np.ndarray, severity: int
) -> Crops:
    """Changes the synthetic crops so that the detector takes them for genuine.

    Args:
        detector: Whose log-odds fall.
        crops: As `detection.recrop.widest` of the run's templates.
        synthetic: N bool.
        severity: 1..3.
    """
    pixels = crops.pixels.copy()
    rows = np.flatnonzero(synthetic)
    outputs = _outputs(detector, crops.template)
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        pixels[part] = _attack(
            pixels[part], lambda images: -outputs(images)[:, 0], severity, detector.device
        )
    return Crops(pixels, crops.template)


def impersonate(recogniser: CropModel, crops: Crops, targets: np.ndarray, severity: int) -> Crops:
    """Changes crops so that each comes closer to its target's embedding.

    Args:
        recogniser: Whose embeddings move.
        crops: N, as for `evade_detector`.
        targets: float32, N×D, unit length.
        severity: 1..3.
    """
    pixels = crops.pixels.copy()
    outputs = _outputs(recogniser, crops.template)
    for start in range(0, len(pixels), BATCH):
        wanted = torch.from_numpy(targets[start : start + BATCH]).to(recogniser.device)

        def gain(images: torch.Tensor, wanted: torch.Tensor = wanted) -> torch.Tensor:
            return (torch.nn.functional.normalize(outputs(images), dim=1) * wanted).sum(1)

        pixels[start : start + BATCH] = _attack(
            pixels[start : start + BATCH], gain, severity, recogniser.device
        )
    return Crops(pixels, crops.template)


def impostor_pairs(pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pairs that an impostor would attack, and whether it is the second image of each that he changes."""
    rows = np.flatnonzero(pairs["kind"].to_numpy() != "same")
    return rows, pairs["synthetic_b"].to_numpy()[rows] == 1


def _outputs(model: CropModel, template: CropTemplate) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network's outputs as a differentiable function of crops of another template, float N×3×S×S in 0..1."""
    side = model.spec.template.size
    matrix = torch.from_numpy(recrop_matrix(template, model.spec.template)).float().to(model.device)

    def outputs(images: torch.Tensor) -> torch.Tensor:
        if template != model.spec.template:
            images = warp_affine(
                images, matrix.expand(len(images), 2, 3), (side, side), align_corners=True
            )
        return model.network(
            model.spec.normalise(images).contiguous(memory_format=torch.channels_last)
        ).float()

    return outputs


def _attack(
    pixels: np.ndarray,
    gain: Callable[[torch.Tensor], torch.Tensor],
    severity: int,
    device: torch.device,
) -> np.ndarray:
    attacked = pgd(to_unit_tensor(pixels, device), gain, EPSILON[severity - 1], STEPS)
    return (attacked * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
