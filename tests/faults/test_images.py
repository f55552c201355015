"""Hostile and odd image files: each is read as a person would see it, or refused by name.

A few of each kind run in every suite, all of them as `slow`. What each kind of file gives is a
table in docs/reliability.md.
"""

import io
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, features

from kryptonite.core.errors import ImageReadError
from kryptonite.core.images import GROUND, read_rgb

READ, REFUSED, EITHER = "read", "refused", "either"
LOSSLESS = ("PNG", "TIFF", "BMP", "PPM", "TGA", "WEBP", "GIF")
FORMATS = (*LOSSLESS, "JPEG", *(["AVIF"] if features.check("avif") else []))
_MEMORY = 2**30  # address space for the worst files, beyond what is loaded


class Case(NamedTuple):
    """One file, and what reading it must give.

    Args:
        name: Of the file; its first word is the kind.
        content: Its bytes.
        outcome: `READ` as `pixels`, `REFUSED`, or `EITHER`: any complete picture or a refusal.
        pixels: What a person sees; None if that is not defined.
        tolerance: Largest mean difference in grey levels.
    """

    name: str
    content: bytes
    outcome: str
    pixels: np.ndarray | None = None
    tolerance: float = 0.0


def _photo() -> np.ndarray:
    """A smooth grey picture with all corners different: lossy formats keep it within 3 levels."""
    rows, columns = np.mgrid[0:48, 0:64]
    grey = 128 + 100 * np.sin(rows / 17) * np.cos(columns / 23) + columns / 3 - rows / 4
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, 2)


def _encode(image: Image.Image, form: str, **options) -> bytes:
    if form == "WEBP":
        options = {"lossless": True, "exact": True, **options}
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _ycck() -> tuple[bytes, np.ndarray]:
    """A JPEG whose inks are stored as YCbCr and black (Adobe transform 2), and its colours.

    Pillow writes CMYK alone (transform 0), inverted as Adobe does. So it is given the inverse of
    what a YCCK file stores, and the transform is set afterwards.
    """
    colours = [(200, 20, 30), (20, 180, 40), (30, 50, 190), (204, 120, 0), (90, 90, 90)]
    pixels = np.repeat(np.repeat([colours], 16, 0), 16, 1)  # a stripe of whole blocks each
    white = 204  # what black ink of 51 leaves
    inks = 255 - np.rint(pixels * 255 / white)
    red, green, blue = np.moveaxis(inks, 2, 0)  # the inks of an inverted file, inverted again
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    stored = [luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402]
    black = np.full(luma.shape, white)
    channels = np.stack([*(np.clip(np.rint(each), 0, 255) for each in stored), black], 2)
    image = Image.fromarray((255 - channels).astype(np.uint8), "CMYK")
    content = bytearray(_encode(image, "JPEG", quality=100, subsampling=0))
    transform = content.index(b"Adobe") + 11
    assert content[transform] == 0
    content[transform] = 2
    return bytes(content), pixels.astype(np.uint8)


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + crc


def _png(width: int, height: int, lines: bytes) -> bytes:
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    parts = _chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines, 9)), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def cases() -> Iterator[Case]:
    """All files, the same on every run."""
    generator = np.random.default_rng(0)
    photo = _photo()
    image, grey = Image.fromarray(photo), photo[:, :, 0]
    whole = {form: _encode(image, form) for form in FORMATS}
    lossy = {form: 0.0 if form in LOSSLESS else 3.0 for form in FORMATS}
    # Cut, extended and misnamed.
    for form, content in whole.items():
        for tenth in range(10):
            cut = content[: len(content) * tenth // 10]
            yield Case(f"cut-{form}-{tenth}.{form.lower()}", cut, REFUSED)
        yield Case(f"garbage-{form}.jpg", content + b"\0garbage" * 99, READ, photo, lossy[form])
        yield Case(f"suffix-{form}.txt", content, READ, photo, lossy[form])
    # Bits flipped: whatever comes is a picture or a refusal.
    for form, content in whole.items():
        for number in range(10):
            flipped = bytearray(content)
            for position in generator.integers(0, len(content), 1 + number):
                flipped[position] ^= 1 << int(generator.integers(8))
            yield Case(f"flip-{form}-{number}", bytes(flipped), EITHER)
    # Turned by EXIF; stored so that turning them shows the photo.
    stored = (
        *(photo, photo[:, ::-1], photo[::-1, ::-1], photo[::-1], photo.swapaxes(0, 1)),
        *(np.rot90(photo, 1), photo.swapaxes(0, 1)[::-1, ::-1], np.rot90(photo, -1)),
    )
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        for orientation, pixels in enumerate(stored, 1):
            exif = Image.Exif()
            exif[274] = orientation
            content = _encode(Image.fromarray(np.ascontiguousarray(pixels)), form, exif=exif)
            yield Case(f"exif-{form}-{orientation}", content, READ, photo, lossy[form])
    # Depths.
    for form in ("PNG", "TIFF"):
        for name, deep in {
            "16": grey.astype(np.uint16) * 257,
            "12": grey.astype(np.uint16) * 16,
            "8": grey.astype(np.uint16),
        }.items():
            yield Case(f"deep-{form}-{name}", _encode(Image.fromarray(deep), form), READ, photo, 1)
    for name, deep in {
        "int": grey.astype(np.int32) * 257,
        "unit": grey.astype(np.float32) / 255,
        "float": grey.astype(np.float32),
    }.items():
        yield Case(f"deep-TIFF-{name}", _encode(Image.fromarray(deep), "TIFF"), READ, photo, 1)
    for name, value in {"nan": np.nan, "inf": np.inf}.items():
        broken = grey.astype(np.float32)
        broken[7, 7] = value
        yield Case(f"deep-TIFF-{name}", _encode(Image.fromarray(broken), "TIFF"), REFUSED)
    # Modes.
    for form, mode in (
        *(("JPEG", "CMYK"), ("JPEG", "YCbCr"), ("JPEG", "L"), ("TIFF", "CMYK"), ("TIFF", "YCbCr")),
        *(("PNG", "L"), ("PNG", "P"), ("GIF", "L"), ("TIFF", "P"), ("BMP", "L"), ("TIFF", "L")),
    ):
        converted = image.convert("L").convert(mode) if mode == "P" else image.convert(mode)
        yield Case(f"mode-{form}-{mode}", _encode(converted, form), READ, photo, 3)
    content, colours = _ycck()
    yield Case("mode-JPEG-YCCK", content, READ, colours, 3)
    black = np.where(photo > 128, 255, 0)
    yield Case(
        "mode-PNG-1",
        _encode(image.point(lambda v: 255 * (v > 128)).convert("1"), "PNG"),
        READ,
        black,
    )
    # Transparency.
    for form in ("PNG", "WEBP", "TIFF"):
        for name, hidden in {"black": 0, "noise": generator.integers(0, 256, photo.shape)}.items():
            shown = np.where(grey[:, :, None] > 99, photo, GROUND)
            cut_out = np.where(grey[:, :, None] > 99, photo, hidden).astype(np.uint8)
            alpha = Image.fromarray(np.where(grey > 99, 255, 0).astype(np.uint8))
            layered = Image.fromarray(cut_out)
            layered.putalpha(alpha)
            yield Case(f"alpha-{form}-{name}", _encode(layered, form), READ, shown)
            layered.putalpha(0)
            yield Case(
                f"alpha0-{form}-{name}", _encode(layered, form), READ, np.full_like(photo, GROUND)
            )
    # Several frames.
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        frames = {"save_all": True, "append_images": [Image.fromarray(255 - photo)] * 3}
        yield Case(f"frames-{form}", _encode(image, form, **frames), READ, photo)
    # Metadata.
    for name, kind, data in (
        ("text", b"tEXt", b"prompt\0" + b"x" * 2_000_000),
        ("ztxt", b"zTXt", b"prompt\0\0" + zlib.compress(bytes(2_000_000))),
        ("ztxt-bomb", b"zTXt", b"prompt\0\0" + zlib.compress(bytes(200_000_000), 9)),
        ("itxt", b"iTXt", b"\xff\xfe"),
        ("exif", b"eXIf", b"MM\0*\xff\xff\xff\xff"),
        ("icc", b"iCCP", b"x\0\0" + zlib.compress(bytes(5_000_000))),
        ("unknown", b"abCd", b"\0" * 1000),
    ):
        content = whole["PNG"][:33] + _chunk(kind, data) + whole["PNG"][33:]
        yield Case(f"metadata-PNG-{name}", content, READ, photo)
    for cut in (1, 2):
        yield Case(f"end-JPEG-{cut}", whole["JPEG"][:-cut], READ, photo, lossy["JPEG"])
    # Sizes.
    for size in ((1, 1), (1, 5000), (5000, 1)):
        pixels = np.full((*size, 3), 77, np.uint8)
        for form in ("PNG", "JPEG"):
            content = _encode(Image.fromarray(pixels), form)
            yield Case(f"size-{form}-{size[0]}x{size[1]}", content, READ, pixels, 2)
    line = bytes(1 + 3 * 64)
    yield Case("header-PNG-more", _png(64, 4800, line * 48), REFUSED)
    yield Case("header-PNG-wide", _png(6400, 48, line * 48), REFUSED)
    yield Case("header-PNG-zero", _png(0, 48, line * 48), REFUSED)
    yield Case("bomb-PNG", _png(20_000, 20_000, bytes(60_001 * 16)), REFUSED)
    yield Case("bomb-PNG-huge", _png(2**31 - 1, 2**31 - 1, b""), REFUSED)
    position = whole["JPEG"].index(b"\xff\xc0") + 5
    lying = whole["JPEG"][:position] + b"\xff\xdc\xff\xdc" + whole["JPEG"][position + 4 :]
    yield Case("bomb-JPEG", lying, REFUSED)
    yield Case("bomb-GIF", whole["GIF"][:6] + b"\xff\xff\xff\xff" + whole["GIF"][10:], REFUSED)
    yield Case("bomb-BMP", whole["BMP"][:18] + b"\0\0\1\0\0\0\1\0" + whole["BMP"][26:], REFUSED)
    webp = b"VP8X" + bytes([10, 0, 0, 0, 0, 0, 0, 0]) + b"\xfe\x3f\0\xfe\x3f\0"
    yield Case(
        "bomb-WEBP", b"RIFF" + bytes([200, 0, 0, 0]) + b"WEBP" + webp + whole["WEBP"][12:], REFUSED
    )
    yield Case("bomb-PPM", b"P6 30000 30000 255\n" + bytes(100), REFUSED)
    # No images.
    for name, content in {
        "empty": b"",
        "space": b"\n\n",
        "text": b"This is not an image.\n" * 40,
        "html": b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>",
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n",
        "pdf": b"%PDF-1.7\n1 0 obj <<>> endobj\n",
        "zip": b"PK\3\4" + bytes(60),
        "csv": b"path,label\n0.jpg,1\n",
        "zeros": bytes(5000),
        "noise": generator.bytes(5000),
        "wmf": b"\xd7\xcd\xc6\x9a" + bytes(200),
    }.items():
        yield Case(f"none-{name}.jpg", content, REFUSED)


ALL = list(cases())


def check(case: Case, folder: Path) -> None:
    """Reads a file and compares; any exception but `ImageReadError` fails the test."""
    path = folder / case.name
    path.write_bytes(case.content)
    try:
        pixels = read_rgb(path)
    except ImageReadError as error:
        assert case.outcome != READ, f"{case.name}: {error}"
        assert str(path) in str(error)
        assert "\n" not in str(error) and " object at 0x" not in str(error)
        return
    assert case.outcome != REFUSED, f"{case.name}: was read"
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    if case.pixels is not None:
        assert pixels.shape == case.pixels.shape, case.name
        assert np.abs(pixels.astype(int) - case.pixels).mean() <= case.tolerance, case.name


def test_read_rgb_reads_or_refuses_one_file_of_each_kind(tmp_path):
    one_of_each = {case.name.split("-")[0]: case for case in ALL}
    assert len(one_of_each) >= 12
    for case in one_of_each.values():
        check(case, tmp_path)


@pytest.mark.slow
def test_there_are_at_least_three_hundred_files_of_different_names():
    assert len({case.name for case in ALL}) == len(ALL) >= 300


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_read_rgb_reads_or_refuses(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.slow
def test_read_rgb_reads_or_refuses_all_files_within_a_gigabyte(tmp_path):
    for case in ALL:
        (tmp_path / case.name).write_bytes(case.content)
    script = (
        "import json, pathlib, resource, sys\n"
        "from kryptonite.core.errors import ImageReadError\n"
        "from kryptonite.core.images import read_rgb\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {_MEMORY},) * 2)\n"
        "outcome = {}\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try:\n        read_rgb(path)\n        outcome[path.name] = 'read'\n"
        "    except ImageReadError:\n        outcome[path.name] = 'refused'\n"
        "print(json.dumps(outcome))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    outcome = json.loads(ended.stdout.splitlines()[-1])
    for case in ALL:
        assert case.outcome in (EITHER, outcome[case.name]), case.name
