"""Say why one pair is accepted or refused: one HTML sheet that opens offline."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kryptonite.core.files import write_text
from kryptonite.report.page import environment

_BRANCHES = {
    "recognition": "recognition: do both photos show one person",
    "detector": "synthetic-image detector, on each photo",
    "similarity": "similarity, as evidence of a forgery",
    "differential_detector": "differential detector, on both photos",
}
# Values of a photo's status, see detection.faces.
_FACES = {
    "found": "found",
    "found_small": "found, small",
    "found_padded": "found after padding the photo",
    "centre_crop": "none found: the photo's central square",
}


def write_explanation(target: Path, explanation: Mapping[str, Any], names: tuple[str, str]) -> None:
    """Writes the sheet that `render_explanation` gives to a file."""
    write_text(target, render_explanation(explanation, names))


def render_explanation(explanation: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Gives the sheet as HTML.

    Args:
        explanation: The fields of `Explanation`, nested; crops are uint8 S×S×3, RGB.
        names: What to call both photos.
    """
    answer = explanation["answer"]
    photos = [
        {**photo, "name": name, "picture": picture(photo["crop"]), "face": _FACES[photo["status"]]}
        for photo, name in zip(answer["photos"], names, strict=True)
    ]
    return (
        environment()
        .get_template("explanation.html")
        .render(
            {**explanation, "answer": {**answer, "photos": photos}},
            title="Kryptonite: why a pair is accepted or refused",
            branches=_BRANCHES,
        )
    )


def picture(pixels: np.ndarray) -> str:
    """Encodes pixels, uint8 H×W×3, RGB, without loss as the address of an `<img>`."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
