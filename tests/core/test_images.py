import io
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, features

from kryptonite.core import images, jpeg, png
from kryptonite.core.errors import ImageReadError
from kryptonite.core.images import GROUND, count_pixels, decode_rgb, read_rgb, to_grey8

ORIENTATION, PHOTOMETRIC, SAMPLE_FORMAT = 274, 262, 339


def encode(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _png(mode="RGB", size=(4, 2)):
    return encode(Image.new(mode, size))


def chunk(kind, data, crc=None):
    crc = zlib.crc32(kind + data) if crc is None else crc
    return len(data).to_bytes(4, "big") + kind + data + crc.to_bytes(4, "big")


def tiff_tag(number, value):
    """A short in a little-endian TIFF."""
    return b"".join(
        part.to_bytes(size, "little") for part, size in ((number, 2), (3, 2), (1, 4), (value, 2))
    )


def with_chunk(content, added):
    """Puts a chunk behind the header."""
    return content[:33] + added + content[33:]


@pytest.fixture(scope="module")
def photo():
    """A grey gradient with noise that uses all 256 levels, and a coloured one: uint8, 60×90."""
    generator = np.random.default_rng(0)
    grey = np.linspace(0, 255, 5400).reshape(60, 90) + generator.integers(-9, 10, (60, 90))
    grey = np.clip(grey, 0, 255).astype(np.uint8)
    return grey, np.stack([grey, grey.T.reshape(60, 90), 255 - grey], 2)


def test_read_rgb_turns_image_upright_when_orientation_tag_is_set(tmp_path):
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0] = 255, 0, 0
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # rotate by 270° counter-clockwise to display
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = read_rgb(tmp_path / "turned.png")
    assert upright.shape == (4, 2, 3)
    assert upright[0, 1].tolist() == [255, 0, 0]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_rgb_undoes_every_orientation_as_pillow_does(photo, form, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encode(Image.fromarray(photo[1]), form, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert expected.shape == ((60, 90, 3) if orientation < 5 else (90, 60, 3))
    assert np.array_equal(decode_rgb(content, "x"), expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_decode_rgb_gives_rgb_uint8_for_every_mode(mode):
    content = encode(Image.new(mode, (4, 2)), "JPEG" if mode == "CMYK" else "PNG")
    image = decode_rgb(content, "x")
    assert image.shape == (2, 4, 3) and image.dtype == np.uint8


@pytest.mark.parametrize("content", [b"", b"not an image", _png(size=(300, 300))[:200]])
def test_decode_rgb_raises_error_with_file_name_when_bytes_are_broken(content):
    with pytest.raises(ImageReadError, match=r"photo\.jpg"):
        decode_rgb(content, "photo.jpg")


def test_read_rgb_raises_error_with_file_name_when_file_is_missing(tmp_path):
    with pytest.raises(ImageReadError, match=r"gone\.jpg"):
        read_rgb(tmp_path / "gone.jpg")


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    "deepen",
    [
        lambda grey: grey.astype(np.uint16) * 257,
        lambda grey: grey.astype(np.uint16) * 16,  # 12 bits in 16
        lambda grey: np.rint(grey * (4095 / 255)).astype(np.uint16),
        lambda grey: grey.astype(np.uint16),
    ],
    ids=["16", "12", "12 full", "8"],
)
def test_decode_rgb_gives_the_8_bit_photo_when_grey_has_16_bits(photo, form, deepen):
    grey = photo[0]
    pixels = decode_rgb(encode(Image.fromarray(deepen(grey)), form), "x")
    assert pixels.shape == (60, 90, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - grey[:, :, None]).max() <= 1


@pytest.mark.parametrize(
    "values",
    [
        lambda grey: grey.astype(np.int32),
        lambda grey: grey.astype(np.int32) * 257,
        lambda grey: grey.astype(np.int32) * 8_421_504,  # 31 bits
        lambda grey: grey.astype(np.int32) * 1000 - 70_000,
        lambda grey: (grey / 255).astype(np.float32),
        lambda grey: grey.astype(np.float32),
        lambda grey: grey.astype(np.float32) * 257,
        lambda grey: (grey / 100 - 1).astype(np.float32),
    ],
    ids=["8", "16", "31", "signed", "0..1", "0..255", "0..65535", "-1..1.55"],
)
def test_decode_rgb_gives_the_8_bit_photo_when_tiff_has_32_bits_or_floats(photo, values):
    grey = photo[0]
    assert (grey.min(), grey.max()) == (0, 255)
    pixels = decode_rgb(encode(Image.fromarray(values(grey)), "TIFF"), "x")
    assert np.abs(pixels.astype(int) - grey[:, :, None]).max() <= 1


def test_decode_rgb_reads_unsigned_32_bit_tiffs(photo):
    values = photo[0].astype(np.uint32) * 16_843_009  # the upper half is negative as signed
    content = encode(Image.fromarray(values.view(np.int32)), "TIFF")
    content = content.replace(tiff_tag(SAMPLE_FORMAT, 2), tiff_tag(SAMPLE_FORMAT, 1))
    assert np.abs(decode_rgb(content, "x").astype(int) - photo[0][:, :, None]).max() <= 1


def test_decode_rgb_inverts_16_bit_tiffs_in_which_white_is_zero(photo):
    content = encode(Image.fromarray(photo[0].astype(np.uint16) * 257), "TIFF")
    content = content.replace(tiff_tag(PHOTOMETRIC, 1), tiff_tag(PHOTOMETRIC, 0))
    inverted = decode_rgb(content, "x")
    assert np.abs(255 - inverted.astype(int) - photo[0][:, :, None]).max() <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_decode_rgb_refuses_floats_that_are_no_numbers(photo, value):
    values = (photo[0] / 255).astype(np.float32)
    values[3, 5] = value
    with pytest.raises(ImageReadError, match=r"x\.tif: .*infinite or not a number"):
        decode_rgb(encode(Image.fromarray(values), "TIFF"), "x.tif")


def test_to_grey8_keeps_constant_images_and_works_in_strips(monkeypatch):
    assert to_grey8(np.full((2, 3), 4096, np.uint16)).tolist() == [[16] * 3] * 2
    assert to_grey8(np.full((2, 3), -5, np.int32)).tolist() == [[0] * 3] * 2
    values = np.random.default_rng(0).uniform(-3, 7, (50, 11)).astype(np.float32)
    whole = to_grey8(values)
    assert (whole.min(), whole.max()) == (0, 255)
    monkeypatch.setattr(images, "_STRIP", 20)
    assert np.array_equal(to_grey8(values), whole)


def cut_out(colours, hidden, alpha, mode):
    """A photo whose pixels under an alpha of 0 are replaced by `hidden`."""
    seen = np.where(alpha[:, :, None] > 0, colours, hidden)
    image = Image.fromarray(seen.astype(np.uint8)).convert("L" if mode == "LA" else "RGB")
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize(
    ("form", "mode"),
    [("PNG", "RGBA"), ("PNG", "LA"), ("TIFF", "RGBA"), ("TIFF", "LA"), ("WEBP", "RGBA")],
)
def test_decode_rgb_shows_grey_in_place_of_hidden_pixels(photo, form, mode):
    alpha = np.zeros((60, 90), np.uint8)
    alpha[10:50, 20:70] = 255
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    noise = np.random.default_rng(1).integers(0, 256, (60, 90, 3))
    decoded = [
        decode_rgb(encode(cut_out(photo[1], hidden, alpha, mode), form, **options), "x")
        for hidden in (0, 255, noise)
    ]
    assert all(np.array_equal(pixels, decoded[0]) for pixels in decoded)
    assert (decoded[0][alpha == 0] == GROUND).all()
    expected = np.asarray(Image.fromarray(photo[1]).convert("L" if mode == "LA" else "RGB"))
    expected = expected.reshape(60, 90, -1)
    assert np.array_equal(decoded[0][alpha > 0], np.broadcast_to(expected, (60, 90, 3))[alpha > 0])


def test_decode_rgb_blends_half_transparent_pixels_with_grey():
    pixels = np.full((2, 3, 4), (200, 0, 128, 128), np.uint8)
    decoded = decode_rgb(encode(Image.fromarray(pixels)), "x")
    assert np.abs(decoded.astype(int) - [164, 64, 128]).max() <= 1


def test_decode_rgb_gives_plain_grey_when_all_is_transparent(photo):
    image = Image.fromarray(photo[1])
    image.putalpha(0)
    assert (decode_rgb(encode(image), "x") == GROUND).all()


def test_decode_rgb_keeps_pixels_when_alpha_is_full(photo):
    image = Image.fromarray(photo[1])
    image.putalpha(255)
    assert np.array_equal(decode_rgb(encode(image), "x"), photo[1])


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_decode_rgb_shows_grey_in_place_of_a_transparent_palette_entry(form):
    image = Image.fromarray(np.array([[0, 1, 2]] * 2, np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    decoded = decode_rgb(encode(image, form, transparency=1), "x")
    assert decoded[0].tolist() == [[255, 0, 0], [GROUND] * 3, [0, 0, 255]]


@pytest.mark.parametrize(
    ("pixels", "colour"),
    [
        (np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), (4, 5, 6)),
        (np.array([[7, 40]], np.uint8), 40),
        (np.array([[300, 40_000]], np.uint16), 40_000),
    ],
)
def test_decode_rgb_shows_grey_in_place_of_the_transparent_colour(pixels, colour):
    content = encode(Image.fromarray(pixels))
    numbers = np.atleast_1d(np.array(colour, ">u2")).tobytes()
    decoded = decode_rgb(with_chunk(content, chunk(b"tRNS", numbers)), "x")
    assert decoded[0, 1].tolist() == [GROUND] * 3 and decoded[0, 0].tolist() != [GROUND] * 3


@pytest.mark.parametrize(
    "added",
    [
        chunk(b"tEXt", b"prompt\0" + b"a cat, " * 300_000),
        chunk(b"zTXt", b"prompt\0\0" + zlib.compress(b"workflow" * 300_000)),
        chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(b"workflow" * 300_000)),
        chunk(b"tEXt", b"prompt\0a cat", crc=1),
        chunk(b"zTXt", b"prompt\0\7not compressed"),
        chunk(b"iTXt", b"\xff" * 9),
        chunk(b"eXIf", b"II*\0\xff\xff\xff\x7f"),
        chunk(b"eXIf", b"no exif at all"),
        chunk(b"eXIf", b"", crc=5),
        chunk(b"iCCP", b"name\0\7"),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(b"p" * 3_000_000)),
        chunk(b"pHYs", b"1"),
        chunk(b"acTL", b"1"),
    ],
    ids=lambda value: f"{value[4:8].decode()}-{len(value)}",
)
def test_decode_rgb_ignores_long_and_broken_metadata_of_png(photo, added):
    content = with_chunk(encode(Image.fromarray(photo[1])), added)
    assert np.array_equal(decode_rgb(content, "x"), photo[1])
    late = content[:-12].replace(added, b"") + added + content[-12:]  # behind the pixels
    assert np.array_equal(decode_rgb(late, "x"), photo[1])
    with pytest.raises(ImageReadError):  # a truncated one stays refused
        decode_rgb(content[: len(content) - len(content.replace(added, b"")) // 2], "x")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (13, 6)])
def test_decode_rgb_reads_black_png_and_refuses_one_whose_data_end_early(mode, size):
    image = Image.new(mode, size)
    shape = (size[1], size[0], 3)
    assert decode_rgb(encode(image), "x").shape == shape
    content = encode(image)
    start = content.index(b"IDAT")
    length = int.from_bytes(content[start - 4 : start], "big")
    lines = zlib.decompress(content[start + 4 : start + 4 + length])
    assert len(lines) % size[1] == 0
    early = chunk(b"IDAT", zlib.compress(lines[: -len(lines) // size[1]]))
    with pytest.raises(
        ImageReadError, match=r"x\.png: .*image (data is missing|file is truncated)"
    ):
        decode_rgb(content[: start - 4] + early + content[-12:], "x.png")


def test_has_all_lines_counts_the_passes_of_interlaced_images():
    # The seven passes of 5×3 pixels hold 1, 1, 0, 1, 3, 2·2 and 5; each line has a byte more.
    lines = 3 * (1 + 1) + (1 + 3) + 2 * (1 + 2) + (1 + 5)
    header = (5).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes([8, 0, 0, 0, 1])
    for length, whole in ((lines, True), (lines - 1, False)):
        data = zlib.compress(bytes(length))
        content = (
            png.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
        )
        assert png.has_all_lines(content) is whole
        if whole:
            assert decode_rgb(content, "x").shape == (3, 5, 3)
        else:
            with pytest.raises(ImageReadError):
                decode_rgb(content, "x")


def test_decode_rgb_reads_a_hundred_megabytes_of_png_text(photo):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * (PngImagePlugin.MAX_TEXT_MEMORY + 1))
    content = encode(Image.fromarray(photo[1]), pnginfo=text)
    assert np.array_equal(decode_rgb(content, "x"), photo[1])


def test_decode_rgb_honours_orientation_and_transparency_beside_broken_metadata(photo):
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    image = Image.fromarray(photo[1])
    image.putalpha(Image.fromarray(np.where(photo[0] < 99, 0, 255).astype(np.uint8)))
    whole = encode(image, exif=exif)
    broken = with_chunk(whole, chunk(b"tEXt", b"a\0b", crc=1))
    assert np.array_equal(decode_rgb(broken, "x"), decode_rgb(whole, "x"))
    assert (decode_rgb(broken, "x")[::-1, ::-1][photo[0] < 99] == GROUND).all()


@pytest.mark.parametrize(
    "added",
    [
        b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff",
        b"\xff\xe0\x00\x08JFIF\0\x01",
        b"\xff\xed\x00\x18Photoshop 3.0\0" + b"8BIM" + b"\xff" * 4,
        b"\xff\xe2\x00\x12ICC_PROFILE\0\1\2\0\0",
        b"\xff\xe2\x00\x08MPF\0\1\1",
        b"\xff\xfe\x00\x06\xff\xd9\xff\xd8",
    ],
    ids=["exif", "jfif", "photoshop", "icc", "mpf", "comment"],
)
def test_decode_rgb_ignores_broken_metadata_of_jpeg(photo, added):
    content = encode(Image.fromarray(photo[1]), "JPEG")
    expected = decode_rgb(content, "x")
    broken = content[:2] + added + content[2:]
    assert np.array_equal(decode_rgb(broken, "x"), expected)
    assert np.array_equal(decode_rgb(broken[:-2], "x"), expected)


JPEGS = [
    (mode, options)
    for mode in ("RGB", "L", "CMYK")
    for options in (
        {},
        {"quality": 100, "subsampling": 0},
        {"progressive": True},
        {"progressive": True, "quality": 100},
        {"restart_marker_blocks": 3},
        {"progressive": True, "restart_marker_blocks": 4},
    )
]


@pytest.mark.parametrize(("mode", "options"), JPEGS)
def test_decode_rgb_reads_jpeg_without_end_marker_only_when_its_pixels_are_whole(
    photo, mode, options
):
    content = encode(Image.fromarray(photo[1]).convert(mode), "JPEG", **options)
    expected = decode_rgb(content, "x")
    assert content.endswith(b"\xff\xd9")
    for whole in (content[:-2], content[:-1], content[:-2] + bytes(999), content + b"garbage"):
        assert np.array_equal(decode_rgb(whole, "x"), expected)
    for tenth in range(10):
        for tail in (b"", bytes(5000), b"\xff"):
            with pytest.raises(ImageReadError, match=r"x\.jpg: cannot be decoded"):
                decode_rgb(content[: len(content) * tenth // 10] + tail, "x.jpg")
    # At every byte of the end, and around every marker: between scans, and between the intervals of
    # restart markers.
    markers = [found.start() for found in re.finditer(rb"\xff[^\0]", content[:-2])]
    cuts = {marker + step for marker in markers for step in range(3)}
    for cut in sorted(cuts | set(range(len(content) - 60, len(content) - 2))):
        try:
            assert np.array_equal(decode_rgb(content[:cut], "x"), expected), cut
        except ImageReadError:
            assert cut < len(content) - 2


def test_decode_rgb_honours_orientation_when_jpeg_has_no_end_marker(photo):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encode(Image.fromarray(photo[1]), "JPEG", exif=exif, comment=b"x")
    assert decode_rgb(content, "x").shape == (90, 60, 3)
    assert np.array_equal(decode_rgb(content[:-2], "x"), decode_rgb(content, "x"))


def test_decode_rgb_refuses_large_images_before_decoding_them():
    header = b"".join(
        [(20_000).to_bytes(4, "big"), (20_000).to_bytes(4, "big"), bytes([8, 2, 0, 0, 0])]
    )
    bomb = png.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ImageReadError, match=r"bomb\.png: .*limit of 100 megapixels") as error:
        decode_rgb(bomb, "bomb.png")
    assert "\n" not in str(error.value)
    gif = encode(Image.new("P", (10_001, 10_000)), "GIF")
    with pytest.raises(ImageReadError, match=r"10001 × 10000 pixels .*limit of 100 megapixels"):
        decode_rgb(gif, "x")
    with pytest.raises(ImageReadError, match=r"limit of 100000 pixels a side"):
        decode_rgb(encode(Image.new("1", (100_001, 1))), "x")
    assert count_pixels(gif) == count_pixels(bomb) == count_pixels(b"") == 0


@pytest.mark.parametrize("ended", [True, False])
def test_decode_rgb_refuses_jpeg_of_endless_scans(photo, ended):
    """A thousand scans of a few bytes each would take a thousand passes over the image."""
    # Its comment and the bytes after its end look like scans, and are none.
    options = {"progressive": True, "comment": b"\xff\xda" * 500}
    content = encode(Image.fromarray(photo[0]), "JPEG", **options)
    head, last = content[:-2], content[content.rindex(b"\xff\xda") : -2]
    scans = jpeg.count_scans(content, 50)
    end = b"\xff\xd9" + 500 * b"\xff\xda" if ended else b""
    allowed = head + last * (images.MAX_SCANS - scans) + b"\xff\xd9" + end
    assert decode_rgb(allowed, "x").shape == (60, 90, 3)
    with pytest.raises(ImageReadError, match="slow: .* more than 100 scans"):
        decode_rgb(head + last * (images.MAX_SCANS - scans + 1) + end, "slow")
    assert 2 < scans < 20 and jpeg.count_scans(b"GIF8", 50) == 0


def test_decode_rgb_takes_jpeg_whose_markers_follow_fill_bytes(photo):
    """Any number of FF bytes may come before a marker (ITU-T T.81, B.1.1.2)."""
    content = encode(Image.fromarray(photo[0]), "JPEG", progressive=True)
    filled = content[:-2].replace(b"\xff\xda", b"\xff\xff\xff\xff\xda") + b"\xff\xff\xff\xd9"
    assert len(filled) > len(content) + 9
    assert jpeg.count_scans(filled, 50) == jpeg.count_scans(content, 50)
    assert np.array_equal(decode_rgb(filled, "x"), decode_rgb(content, "x"))
    (mended,) = jpeg.without_metadata(filled)
    assert np.array_equal(decode_rgb(mended, "x"), decode_rgb(content, "x"))


def test_count_pixels_reads_the_header(photo):
    assert count_pixels(encode(Image.fromarray(photo[1]), "JPEG")[:700]) == 5400


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_decode_rgb_takes_the_first_of_several_frames(photo, form):
    frames = [Image.fromarray(photo[1]), Image.fromarray(255 - photo[1])]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encode(frames[0], form, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 2
    alone = decode_rgb(encode(frames[0], form, **options), "x")
    assert np.array_equal(decode_rgb(content, "x"), alone)


def test_decode_rgb_converts_lab(photo):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    smooth = np.stack(np.broadcast_arrays(*np.ogrid[60:120, 90:180], np.uint8(120)), 2)
    image = Image.fromarray(smooth.astype(np.uint8))
    content = encode(ImageCms.applyTransform(image, transform), "TIFF")
    assert np.abs(decode_rgb(content, "x").astype(int) - smooth).mean() <= 1


def test_decode_rgb_ignores_colour_profiles(photo):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    for form in ("JPEG", "PNG", "TIFF"):
        image = Image.fromarray(photo[1])
        with_profile = encode(image, form, icc_profile=profile)
        assert np.array_equal(decode_rgb(with_profile, "x"), decode_rgb(encode(image, form), "x"))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"dear reader, this is no image", "a text file"),
        (b"<!DOCTYPE html><html><body>404</body>", "an HTML page"),
        (b"\xef\xbb\xbf\n<HTML>", "an HTML page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<svg/>', "an SVG drawing"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC images are not supported"),
        # A whole image of one black pixel.
        (
            b"qoif" + b"\0\0\0\1" * 2 + b"\3\0\xfe\0\0\0" + bytes(7) + b"\1",
            "QOI images are not supported",
        ),
        (b"%PDF-1.7\n", "a PDF or PostScript document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PDF or PostScript document"),
        (b"PK\3\4" + bytes(40), "an archive"),
        (bytes(range(1, 90)), "not an image in a known format"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\xff\xd8\xff", "the file ends within the image"),
    ],
)
def test_decode_rgb_says_what_the_file_is_when_it_is_no_image(content, kind):
    with pytest.raises(ImageReadError) as error:
        decode_rgb(content, "a.jpg")
    assert str(error.value) == f"a.jpg: cannot be decoded as an image ({kind})"


def test_decode_rgb_reads_avif_when_pillow_does_and_else_says_so(photo, monkeypatch):
    if features.check("avif"):
        content = encode(Image.fromarray(photo[1]), "AVIF", quality=100, subsampling="4:4:4")
        assert np.abs(decode_rgb(content, "x").astype(int) - photo[1]).max() <= 12
    monkeypatch.setattr(images, "_FORMATS", ["PNG"])
    with pytest.raises(ImageReadError, match="cannot decode AVIF images"):
        decode_rgb(b"\0\0\0\x1cftypavif" + bytes(40), "x")


def test_read_rgb_refuses_what_is_no_regular_file_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "circle", "nowhere", "device"):
        with pytest.raises(ImageReadError, match=rf"{name}\.jpg: cannot be read"):
            read_rgb(tmp_path / f"{name}.jpg")
    for name in ("x" * 300, "null\0"):
        with pytest.raises(ImageReadError, match="cannot be read"):
            read_rgb(f"{tmp_path}/{name}")


def test_read_rgb_refuses_large_files_before_reading_them(tmp_path):
    with open(tmp_path / "large.png", "wb") as stream:
        stream.truncate(513 * 2**20)  # takes no room on the disk
    with pytest.raises(ImageReadError, match=r"large\.png: 513 MB exceed the limit of 512 MB"):
        read_rgb(tmp_path / "large.png")


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.png",
        "\N{GRINNING FACE} é 顔.png",
        "x" * 251 + ".png",
        "a b'\"<i>.png",
        b"\xff\xfe.png",
    ],
)
def test_read_rgb_reads_files_of_any_name_and_names_them_on_one_line(tmp_path, photo, name):
    path = tmp_path / (os.fsdecode(name) if isinstance(name, bytes) else name)
    path.write_bytes(encode(Image.fromarray(photo[1])))
    assert np.array_equal(read_rgb(path), photo[1])
    path.write_bytes(b"broken")
    with pytest.raises(ImageReadError) as error:
        read_rgb(path)
    assert "\n" not in str(error.value) and str(error.value).encode()


def test_decode_rgb_leaves_bombs_undecoded_in_little_memory(tmp_path):
    """20,000 × 20,000 pixels, whole, within 600 MB of address space above what is loaded."""
    side = 20_000
    pixels = zlib.compress(bytes((3 * side + 1) * 16), 9)  # a few lines suffice
    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    (tmp_path / "bomb.png").write_bytes(content + chunk(b"IEND", b""))
    script = (
        "import resource, sys\n"
        "from kryptonite.core.errors import ImageReadError\n"
        "from kryptonite.core.images import read_rgb\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 2**20,) * 2)\n"
        "try:\n    read_rgb(sys.argv[1])\n"
        "except ImageReadError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "bomb.png")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "limit of 100 megapixels" in ended.stdout and not ended.stderr
