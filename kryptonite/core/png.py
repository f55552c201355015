"""Take the metadata out of a PNG file, and count its pixels' bytes (ISO/IEC 15948)."""

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ANCILLARY = 0x20  # bit 5 of a chunk's first byte: decoders may ignore it
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by colour type
# First column, first row, and the steps in both of the passes of an interlaced image.
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_STEP = 2**20  # bytes decompressed at a time
_KEPT = (b"tRNS", b"eXIf")  # they change what is seen: transparency and orientation


def without_metadata(content: bytes) -> bytes:
    """Drops the chunks that do not affect pixels, and those of transparency when damaged.

    Args:
        content: A file that begins with `SIGNATURE`. What follows its last whole chunk is kept, so
            that a truncated file stays one.
    """
    parts = [SIGNATURE]
    for kind, chunk in _chunks(content):
        length = int.from_bytes(chunk[:4], "big")
        needed = len(chunk) < 12 + length or not kind[0] & _ANCILLARY
        whole = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if needed or (kind in _KEPT and whole):
            parts.append(chunk)
    return b"".join(parts)


def has_all_lines(content: bytes) -> bool:
    """Whether the data hold as many bytes as the header announces.

    A decoder may leave the rest black when the compressed data end early.
    """
    chunks = list(_chunks(content))
    header = next(chunk for kind, chunk in chunks if kind == b"IHDR")[8:]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _SAMPLES[header[9]]
    announced = 0
    for left, top, across, down in _PASSES if header[12] else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            announced += max(0, rows) * (1 + -(-columns * bits // 8))
    stream, count = zlib.decompressobj(), 0
    for _, chunk in (each for each in chunks if each[0] == b"IDAT"):
        data = chunk[8:-4]
        while data and count < announced:
            count += len(stream.decompress(data, _STEP))
            data = stream.unconsumed_tail
    return count + len(stream.flush()) >= announced


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and bytes of each chunk, length and checksum included; the last may be cut."""
    position = len(SIGNATURE)
    while position < len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        yield content[position + 4 : position + 8], content[position:end]
        position = end
