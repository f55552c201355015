"""Decode images in one way everywhere: RGB, uint8, upright.

`docs/reliability.md` lists the formats and what is refused.
"""

import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from kryptonite.core import jpeg, png
from kryptonite.core.errors import ImageReadError, ImageTooLargeError, ImageTooLongError
from kryptonite.core.files import sha256_bytes, sha256_file
from kryptonite.core.memory import Budget

MAX_MEGAPIXELS = 100  # a decoded photo of this size takes 300 MB
MAX_SIDE = 100_000  # pixels
MAX_FILE_MEGABYTES = 512
# Scans of a JPEG; cameras and editors write a dozen. Each is a pass over the whole image, however
# few bytes it has, so a small file could keep a processor busy for hours.
MAX_SCANS = 100
GROUND = 128  # grey level behind transparent pixels

# Pillow also opens vector formats and hands some to other programs (Ghostscript). These are all
# raster formats, decoded in this process; the last has no signature, so it is tried last. QOI is
# left out: its decoder is Python, so a small file of many pixels keeps a core busy for minutes.
Image.init()
_FORMATS: list[str] = [
    name
    for name in (
        *("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "ICO"),
        *("PSD", "SGI", "PCX", "TGA"),
    )
    if name in Image.OPEN  # some came with later versions of Pillow
]
_STRIP = 2**20  # pixels brought to 8 bits at a time
_DECODED = 10  # bytes a pixel, with the copies that decoding and looking at it makes
_BUDGET = Budget(2**30)  # bytes of images that threads may decode at a time
# Largest values of the usual integer depths: 8, 12, 16, 24, 31 (signed) and 32 bits.
_FULL_SCALES = (2**8 - 1, 2**12 - 1, 2**16 - 1, 2**24 - 1, 2**31 - 1, 2**32 - 1)
_ORIENTATION, _PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 274, 262, 258, 339  # TIFF and EXIF tags
_HEAD = 2048  # bytes that tell what a file is
# What a file that cannot be decoded is, by these.
_KINDS = (
    (rb"\s*\Z", "the file is empty"),
    (rb"qoif", "QOI images are not supported"),
    (rb"....ftyp(hei[cxms]|hev[cmsx]|mif1|msf1)", "HEIC images are not supported"),
    (rb"....ftypavi[fs]", "damaged, or this Pillow cannot decode AVIF images"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml.{,900})?(<!--.{,400})?<(!doctype svg|svg)", "an SVG drawing"),
    (rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html|<head|<body)", "an HTML page"),
    (rb"%PDF|%!PS|\xc5\xd0\xd3\xc6", "a PDF or PostScript document"),
    (rb"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf", "an archive"),
    (
        rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8|RIFF....WEBP|II\*\x00|MM\x00\*|BM"
        rb"|\x00\x00\x00\x0cjP",
        "damaged",
    ),
    (rb"[\t\n\r\x20-\x7e]{16}", "a text file"),
)

# Photos larger than Pillow warns of are refused here, by `MAX_MEGAPIXELS`, and broken metadata is
# ignored.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def decode_rgb(content: bytes, name: str) -> np.ndarray:
    """Decodes an image file's bytes.

    Broken metadata is ignored, as is the missing end marker of a JPEG whose pixels are all there.
    Transparent pixels lie on grey; 16-bit, 32-bit and float images are brought to 8 bits by
    `to_grey8`; of several frames the first counts. Colour profiles are ignored.

    Args:
        content: The file's bytes.
        name: Identifies the file in error messages.

    Returns:
        RGB uint8 array, H×W×3, turned upright by the EXIF orientation tag.

    Raises:
        ImageTooLargeError: The image is too large; `ImageTooLongError` if one of its sides is.
        ImageReadError: The bytes are not a complete image.
    """
    if jpeg.count_scans(content, MAX_SCANS + 1) > MAX_SCANS:
        raise ImageReadError(
            f"{shown(name)}: cannot be decoded as an image (a JPEG of more than {MAX_SCANS} scans)"
        )
    try:
        if jpeg.is_open_ended(content):
            raise ValueError("the file ends within the image")
        return _decode(content)
    except MemoryError:
        raise  # not the file's fault
    except _RefusedError as error:
        raise error.kind(f"{shown(name)}: {error}") from error
    # Pillow raises OSError, SyntaxError, struct.error, … for broken files.
    except Exception as error:
        reason, cause = _reason(content, error), error
    try:
        return _decode_mended(content)
    except MemoryError:
        raise
    except Exception:
        # The first error is the better description of the file.
        raise ImageReadError(f"{shown(name)}: cannot be decoded as an image ({reason})") from cause


def count_pixels(content: bytes) -> int:
    """Number of pixels that an image file's header announces; 0 if `decode_rgb` will refuse it."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_size(image)
            return image.width * image.height
    except MemoryError:
        raise
    except Exception:  # as in `decode_rgb`
        return 0


def why_no_image(path: Path | str) -> str:
    """Says why a file is none that `decode_rgb` reads, by its header; empty if it may be one."""
    if not os.path.isfile(path):
        return "not a file"
    try:
        with Image.open(path, formats=_FORMATS):
            return ""
    except Image.DecompressionBombError:
        return ""
    except MemoryError:
        raise
    except Exception as error:  # as in `decode_rgb`
        try:
            with open(path, "rb") as file:
                return _reason(file.read(_HEAD), error)
        except OSError as unreadable:
            return f"cannot be read: {unreadable.strerror}"


def read_bytes(path: Path | str) -> bytes:
    """Reads a regular file, or one that a link leads to.

    Raises:
        ImageReadError: The file cannot be read, is too large, or is a folder, pipe or device.
    """
    with _named(path):
        _check_file(path)
        return Path(path).read_bytes()


def hash_file(path: Path | str, most: int) -> tuple[str, bytes]:
    """Gives a file's SHA-256, and its bytes unless there are more than `most`.

    Raises:
        ImageReadError: As `read_bytes`.
    """
    with _named(path):
        if _check_file(path) > most:
            return sha256_file(path), b""
        content = Path(path).read_bytes()
        return sha256_bytes(content), content


@contextmanager
def decoding(path: Path | str) -> Iterator[None]:
    """Waits until there is memory to read and decode a file beside those of other threads."""
    cost = 0
    with suppress(Exception):  # the file will be refused
        cost = _check_file(path)
        with Image.open(path, formats=_FORMATS) as image:
            cost += _DECODED * image.width * image.height
    with _BUDGET.hold(cost):
        yield


@contextmanager
def _named(path: Path | str) -> Iterator[None]:
    """Names the file in what reading it raises."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: the name holds a null character
        raise ImageReadError(
            f"{shown(path)}: cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from error


def _check_file(path: Path | str) -> int:
    """Gives a regular file's size in bytes; refuses what is no such file, or too large."""
    status = os.stat(path)
    # Opening a pipe would wait for a writer, and reading a device may never end.
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise ImageReadError(f"{shown(path)}: cannot be read (it is {kind}, not a file)")
    if status.st_size > MAX_FILE_MEGABYTES * 2**20:
        raise ImageReadError(
            f"{shown(path)}: {status.st_size / 2**20:.0f} MB exceed the limit of "
            f"{MAX_FILE_MEGABYTES} MB for an image file"
        )
    return status.st_size


def read_rgb(image: Path | str | bytes | BinaryIO) -> np.ndarray:
    """Reads and decodes one image; see `decode_rgb`.

    Args:
        image: A file's path, its bytes, or the file itself, open for reading bytes.

    Raises:
        ImageReadError: It cannot be read or decoded.
    """
    if isinstance(image, Path | str):
        return decode_rgb(read_bytes(image), str(image))
    if isinstance(image, bytes):
        return decode_rgb(image, "image")
    return decode_rgb(image.read(), str(getattr(image, "name", "image")))


def shown(name: Path | str) -> str:
    """A file name on one line, with what cannot be printed escaped."""
    text = str(name).encode("utf-8", "backslashreplace").decode()
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def to_grey8(values: np.ndarray) -> np.ndarray:
    """Brings grey values of more than 8 bits to 8 bits by the range they use.

    Integers from 0 are divided by the largest value of the smallest of 8, 12, 16, 24, 31 and 32
    bits that holds them all; floats from 0 to 1 count as fractions, floats from 0 to a maximum of
    16 or more like integers. All others, such as those with negative values, are stretched from
    their minimum to their maximum.

    Args:
        values: Integers or floats, H×W.

    Returns:
        uint8, H×W.

    Raises:
        ValueError: A value is infinite or not a number.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():  # a NaN anywhere makes both NaN
        raise ValueError("a pixel's value is infinite or not a number")
    is_float = np.issubdtype(values.dtype, np.floating)
    if low >= 0 and is_float and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and (not is_float or 16 <= high <= _FULL_SCALES[-1]):
        low, high = 0.0, float(next(scale for scale in _FULL_SCALES if scale >= high))
    grey = np.empty(values.shape, np.uint8)
    rows = max(1, _STRIP // max(1, values.shape[1]))
    for first in range(0, len(values), rows):
        part = values[first : first + rows].astype(np.float64)
        grey[first : first + rows] = np.rint((part - low) * (255 / ((high - low) or 1)))
    return grey


class _RefusedError(Exception):
    """Mending the file would not help.

    Args:
        reason: Why it is refused.
        kind: What `decode_rgb` raises of it.
    """

    def __init__(self, reason: str, kind: type[ImageTooLargeError] = ImageTooLargeError):
        super().__init__(reason)
        self.kind = kind


def _decode(content: bytes) -> np.ndarray:
    """Decodes bytes strictly; raises what Pillow raises."""
    try:
        # Pillow raises on truncated files by default; half a photo must not get a score.
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_size(image)
            image.load()
            _check_size(image)  # some formats hold another image than their header says
            if image.format == "PNG" and _ends_black(image) and not png.has_all_lines(content):
                raise ValueError("image data is missing")
            orientation = _orientation(image)
            pixels = _to_rgb(image)
    except Image.DecompressionBombError as error:
        raise _RefusedError(f"exceeds the limit of {MAX_MEGAPIXELS} megapixels") from error
    return _upright(pixels, orientation)


def _decode_mended(content: bytes) -> np.ndarray:
    """Decodes what is left without metadata; raises when that is no complete image."""
    if content.startswith(png.SIGNATURE):
        return _decode(png.without_metadata(content))
    first, *others = jpeg.without_metadata(content)
    pixels = _decode(first)
    if any(not np.array_equal(_decode(other), pixels) for other in others):
        raise ValueError("image data is missing")
    return pixels


def _ends_black(image: Image.Image) -> bool:
    """Whether one of the last two lines is zero, as lines are that were never decoded.

    In an interlaced image it is every second line.
    """
    last = np.asarray(image.crop((0, max(0, image.height - 2), image.width, image.height)))
    return not all(line.any() for line in last)


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_MEGAPIXELS * 10**6:
        raise _RefusedError(
            f"{image.width} × {image.height} pixels exceed the limit of {MAX_MEGAPIXELS} megapixels"
        )
    if max(image.size) > MAX_SIDE:
        raise _RefusedError(
            f"{image.width} × {image.height} pixels exceed the limit of {MAX_SIDE} pixels a side",
            ImageTooLongError,
        )


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels as RGB uint8, H×W×3, transparent ones on grey."""
    if image.mode[0] in "IF":
        return _deep_to_rgb(image)
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if np.asarray(alpha).min() < 255:
            ground = Image.new("RGB", image.size, (GROUND, GROUND, GROUND))
            ground.paste(image, mask=alpha)
            image = ground
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _deep_to_rgb(image: Image.Image) -> np.ndarray:
    """Grey pixels of 16 or 32 bits, or floats, as RGB uint8."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    # Pillow reads unsigned 32-bit TIFFs as signed.
    if values.dtype == np.int32 and (tags.get(_BITS), tags.get(_SAMPLE_FORMAT, (1,))) == (
        (32,),
        (1,),
    ):
        values = values.view(np.uint32)
    grey = to_grey8(values)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero; Pillow inverts only 8 bits
        grey = 255 - grey
    if isinstance(image.info.get("transparency"), int):
        grey[values == image.info["transparency"]] = GROUND
    return np.repeat(grey[:, :, None], 3, axis=2)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8; 1 if there is none or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as `decode_rgb`: whatever Pillow raises for broken metadata
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _reason(content: bytes, error: Exception) -> str:
    """Why bytes are no image, in words of the user's world."""
    kind = next(
        (text for start, text in _KINDS if re.match(start, content[:_HEAD], re.DOTALL | re.I)),
        "not an image in a known format",
    )
    known = kind.startswith("damaged")
    # The plug-in that recognised the file knows best what is wrong with it.
    return str(error) or kind if known and not isinstance(error, UnidentifiedImageError) else kind
