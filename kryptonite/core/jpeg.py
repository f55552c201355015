"""Take the metadata out of a JPEG file, end one whose end marker is missing, and count its scans.

Markers and scans are those of ITU-T T.81.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

_SOF_SEQUENTIAL, _SOF_PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_EOI, _SOS, _DRI, _APP0, _COM = 0xD9, 0xDA, 0xDD, 0xE0, 0xFE
_ALONE = (0x00, 0x01, *range(0xD0, 0xD9))  # markers without a segment
# Segments without influence on what is seen. APP14 says how colours are encoded; so may APP0, when
# it is whole. APP1 holds the orientation.
_METADATA = (_COM, *(marker for marker in range(0xE2, 0xF0) if marker != 0xEE))
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
# Begins with one certain byte, which `re` looks for 18 times as fast as for a repeated one.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
# Bits of which a decoder would take some if image data were missing: zeros (which it adds itself
# before the end marker), two regular patterns, and random ones. No byte is 255, which would have to
# be escaped.
_TAILS = (b"", b"\xaa" * 256, b"\x55" * 256, bytes(random.Random(0).choices(range(255), k=256)))


@dataclass
class _Frame:
    """What the headers of the frame and of its scans say so far.

    Args:
        progressive: Coefficients come in several scans.
        width: Of the image in pixels.
        height: Of the image in pixels.
        sampling: Horizontal and vertical sampling factors, by component.
        interval: MCUs (minimum coded units) between two restart markers; 0 for none.
        missing: For each component the bits of each of the 64 coefficients still to come.
    """

    progressive: bool
    width: int
    height: int
    sampling: dict[int, tuple[int, int]]
    interval: int = 0
    missing: dict[int, list[int]] = field(default_factory=dict)


def is_open_ended(content: bytes) -> bool:
    """Whether this is a JPEG file without an end marker.

    A decoder may take zeros that a broken transfer left for image data, so such a file is worth a
    closer look even if it can be decoded.
    """
    if not content.startswith(_START) or content.endswith(_END):
        return False
    try:
        return len(without_metadata(content)) > 1
    except ValueError:
        return True


def without_metadata(content: bytes) -> list[bytes]:
    """Drops metadata, and completes a file without an end marker.

    Returns:
        The file without metadata. If its end marker is missing, several versions of it, with other
        bits between its data and an end marker: all its pixels are there exactly if all versions
        have the same pixels.

    Raises:
        ValueError: Not a JPEG file, or without a part of its image.
    """
    if not content.startswith(_START):
        raise ValueError("not a JPEG file")
    parts = [_START[:2]]
    frame, interval, end, whole = None, 0, 0, True
    for marker, body, data in _segments(content):
        if marker == _EOI:
            return [b"".join([*parts, _END])]
        if marker in _METADATA or (marker == _APP0 and len(body) < 14):
            continue
        parts.append(bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body)
        if marker in _SOF_SEQUENTIAL or marker in _SOF_PROGRESSIVE:
            frame = _read_frame(marker, body)
        elif marker == _DRI:
            interval = int.from_bytes(body[:2], "big")
        elif marker == _SOS:
            parts.append(data)
            end = len(parts)
            if frame is not None:
                whole &= _read_scan(frame, interval, body, data)
    if frame is None or not end or not whole or any(map(any, frame.missing.values())):
        raise ValueError("a part of the image is missing")
    # Half an end marker, and the zeros of a file that was extended but not filled.
    parts = [*parts[: end - 1], parts[end - 1].rstrip(b"\xff\x00")]
    return [b"".join([*parts, tail, _END]) for tail in _TAILS]


def count_scans(content: bytes, most: int) -> int:
    """Number of scans that the image of a JPEG file is coded in; 0 for other files.

    Args:
        content: The file's bytes.
        most: Where to stop counting.
    """
    if not content.startswith(_START):
        return 0
    scans = (marker for marker, _, _ in _segments(content) if marker == _SOS)
    return len(list(islice(scans, most)))


def _segments(content: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yields each segment's marker and body, and a scan's data, to the end marker or what is there.

    The end marker comes too, with an empty body.
    """
    position = 2
    while (position := content.find(b"\xff", position)) >= 0:
        while content[position : position + 1] == b"\xff":
            position += 1
        if position == len(content):
            return
        marker = content[position]
        position += 1
        if marker == _EOI:
            yield marker, b"", b""
            return
        if marker in _ALONE:
            continue
        length = int.from_bytes(content[position : position + 2], "big")
        body = content[position + 2 : position + length]
        if length < 2 or len(body) < length - 2:
            return
        position += length
        found = _NEXT_MARKER.search(content, position) if marker == _SOS else None
        after = found.start() if found else len(content)
        data = content[position:after] if marker == _SOS else b""
        position += len(data)
        yield marker, body, data


def _read_frame(marker: int, body: bytes) -> _Frame:
    height, width, number = body[1] << 8 | body[2], body[3] << 8 | body[4], body[5]
    if len(body) < 6 + 3 * number or not number or not width or not height:
        raise ValueError("damaged frame header")
    components = [body[6 + 3 * each : 9 + 3 * each] for each in range(number)]
    return _Frame(
        progressive=marker in _SOF_PROGRESSIVE,
        width=width,
        height=height,
        sampling={
            name: (max(1, factors >> 4), max(1, factors & 15)) for name, factors, _ in components
        },
        missing={name: [16] * 64 for name, _, _ in components},
    )


def _read_scan(frame: _Frame, interval: int, body: bytes, data: bytes) -> bool:
    """Notes which coefficients a scan brings, and says whether all its restart markers are there.

    After the last restart marker that is there a decoder reads nothing more, so the bits appended
    would not show that MCUs are missing.
    """
    number = body[0]
    names, (first, last, bits) = body[1 : 1 + 2 * number : 2], body[1 + 2 * number : 4 + 2 * number]
    for name in names:
        for coefficient in range(first, last + 1) if frame.progressive else range(64):
            frame.missing[name][coefficient] = bits & 15 if frame.progressive else 0
    if not interval:
        return True
    widest, tallest = (max(factors) for factors in zip(*frame.sampling.values(), strict=True))
    width, height = 8 * widest, 8 * tallest
    if number == 1:  # a scan of one component is not padded to whole MCUs of all
        across, down = frame.sampling[names[0]]
        width, height = 8 * widest // across, 8 * tallest // down
    units = -(-frame.width // width) * -(-frame.height // height)
    return len(_RESTART.findall(data)) == (units - 1) // interval
