import io

import numpy as np
import pytest
from PIL import Image

from kryptonite.core.errors import ImageReadError
from kryptonite.core.images import decode_rgb, read_rgb


def _png(mode="RGB", size=(4, 2)):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


def test_read_rgb_turns_image_upright_when_orientation_tag_is_set(tmp_path):
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0] = 255, 0, 0
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 270° counter-clockwise to display
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = read_rgb(tmp_path / "turned.png")
    assert upright.shape == (4, 2, 3)
    assert upright[0, 1].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_decode_rgb_gives_rgb_uint8_for_every_mode(mode):
    if mode == "CMYK":
        buffer = io.BytesIO()
        Image.new(mode, (4, 2)).save(buffer, "JPEG")
        content = buffer.getvalue()
    else:
        content = _png(mode)
    image = decode_rgb(content, "x")
    assert image.shape == (2, 4, 3) and image.dtype == np.uint8


@pytest.mark.parametrize("content", [b"", b"not an image", _png(size=(300, 300))[:200]])
def test_decode_rgb_raises_error_with_file_name_when_bytes_are_broken(content):
    with pytest.raises(ImageReadError, match=r"photo\.jpg"):
        decode_rgb(content, "photo.jpg")


def test_read_rgb_raises_error_with_file_name_when_file_is_missing(tmp_path):
    with pytest.raises(ImageReadError, match=r"gone\.jpg"):
        read_rgb(tmp_path / "gone.jpg")
