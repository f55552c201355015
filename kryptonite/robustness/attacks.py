"""Attack the branches of a run, knowing their networks (white box; Madry et al. 2018)."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from kornia.geometry.transform import warp_affine

from kryptonite.core.chunks import chunked
from kryptonite.core.crops import Crops, CropTemplate, to_unit_tensor
from kryptonite.detection.recrop import recrop_matrix
from kryptonite.nn.model import CropModel
from kryptonite.robustness.pgd import pgd

EPSILON = (1 / 255, 2 / 255, 4 / 255)  # largest change of a pixel, by severity
STEPS = 10
BATCH = 32  # crops attacked at once
ATTACKS = {
    "pgd_detector": (
        "PGD on synthetic images that lowers the detector's log-odds; bona fide photos stay "
        "unchanged"
    ),
    "pgd_recogniser": (
        "PGD on one image of each non-mated pair, and on the synthetic image of each synthetic "
        "pair, that raises its cosine to the other image"
    ),
}


def evade_detector(
    detector: CropModel, crops: Crops, synthetic: np.ndarray, severity: int
) -> Crops:
    """Changes the synthetic crops so that the detector takes them for bona fide.

    Args:
        detector: Detector whose log-odds the attack lowers.
        crops: N crops of the template that `detection.recrop.widest` picks from the run's.
        synthetic: N bool, the crops to change.
        severity: Index into `EPSILON`, from 1.
    """
    outputs = _outputs(detector, crops.template)

    def gain(images: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        return -outputs(images)[:, 0]

    return _attack(crops, np.flatnonzero(synthetic), gain, severity, detector.device)


def impersonate(recogniser: CropModel, crops: Crops, targets: np.ndarray, severity: int) -> Crops:
    """Changes every crop so that its embedding approaches its target.

    Args:
        recogniser: Recogniser whose embeddings the attack moves.
        crops: N crops, as for `evade_detector`.
        targets: float32, N×D, unit length.
        severity: Index into `EPSILON`, from 1.
    """
    outputs = _outputs(recogniser, crops.template)

    def gain(images: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        wanted = torch.from_numpy(targets[rows]).to(recogniser.device)
        return (torch.nn.functional.normalize(outputs(images), dim=1) * wanted).sum(1)

    return _attack(crops, np.arange(len(crops.pixels)), gain, severity, recogniser.device)


def impostor_pairs(pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pairs that an impostor would attack.

    Args:
        pairs: Columns kind, synthetic_b.

    Returns:
        The rows of all pairs that are not mated, and per row whether the impostor changes the
        second image: where that one is synthetic.
    """
    rows = np.flatnonzero(pairs["kind"].to_numpy() != "same")
    return rows, pairs["synthetic_b"].to_numpy()[rows] == 1


def _outputs(model: CropModel, template: CropTemplate) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns the network as a differentiable function of crops of another template, float
    N×3×S×S in 0..1."""
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
    crops: Crops,
    rows: np.ndarray,
    gain: Callable[[torch.Tensor, np.ndarray], torch.Tensor],
    severity: int,
    device: torch.device,
) -> Crops:
    """Changes some of the crops.

    Args:
        crops: N crops.
        rows: The crops to change.
        gain: Maps images, float N×3×S×S in 0..1, and their rows to the scores to raise.
        severity: Index into `EPSILON`, from 1.
        device: Device of the attacked network.
    """
    pixels = crops.pixels.copy()
    for part in chunked(rows, BATCH):

        def part_gain(images: torch.Tensor, part: np.ndarray = part) -> torch.Tensor:
            return gain(images, part)

        attacked = pgd(
            to_unit_tensor(pixels[part], device), part_gain, EPSILON[severity - 1], STEPS
        )
        pixels[part] = (attacked * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return Crops(pixels, crops.template)
