"""Decode images in one way everywhere: RGB, uint8, EXIF orientation applied."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kryptonite.core.errors import ImageReadError


def decode_rgb(content: bytes, name: str) -> np.ndarray:
    """Decodes an image file's bytes.

    Args:
        content: The file's bytes.
        name: Identifies the file in error messages.

    Returns:
        RGB uint8 array, H×W×3, turned upright by the EXIF orientation tag.

    Raises:
        ImageReadError: The bytes are not a complete image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            # Pillow raises on truncated files by default; half a photo must not get a score.
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except MemoryError:
        raise  # not the file's fault
    # Pillow raises OSError, SyntaxError, struct.error, … for broken files.
    except Exception as error:
        raise ImageReadError(f"{name}: cannot be decoded as an image ({error})") from error


def read_bytes(path: Path | str) -> bytes:
    """Reads a file.

    Raises:
        ImageReadError: The file cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_rgb(path: Path | str) -> np.ndarray:
    """Reads and decodes one image file; see `decode_rgb`."""
    return decode_rgb(read_bytes(path), str(path))
