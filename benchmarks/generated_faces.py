"""Whole generated faces, which show nobody, by the generator that makes the demo's people."""

import numpy as np

from kryptonite.data.demo import LATENT, load_generator, render_faces
from kryptonite.detection.aligner import Aligner
from kryptonite.detection.faces import CENTRE_CROP


def generate_faces(count: int, aligner: Aligner, seed: int) -> list[np.ndarray]:
    """Draws photos in which a face is found: RGB uint8, 160×160×3.

    Raises:
        WeightsError: The generator is not installed.
    """
    network = load_generator()
    draws = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    while len(found) < count:
        photos = render_faces(network, draws.standard_normal((count, LATENT)))
        status = aligner(photos).status
        found += [photo for photo, each in zip(photos, status, strict=True) if each != CENTRE_CROP]
    return found[:count]
