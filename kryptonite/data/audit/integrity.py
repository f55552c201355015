"""Finds unreadable files, duplicates and identities in two splits."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pandas as pd

from kryptonite.core.errors import ImageReadError
from kryptonite.core.files import sha256_bytes
from kryptonite.core.images import decode_rgb, decoding, read_bytes

NEAR = 4  # bits of 64 in which the difference hashes of near-duplicates may differ
SHOWN = 50  # examples listed per finding; counts cover all


def difference_hash(image: np.ndarray) -> int:
    """64-bit difference hash (Krawetz 2013): signs of horizontal steps on an 8×9 thumbnail.

    Args:
        image: RGB uint8, H×W×3.
    """
    thumbnail = cv2.resize(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA
    ).astype(int)
    bits = (thumbnail[:, 1:] > thumbnail[:, :-1]).ravel()
    return int(np.packbits(bits).view(">u8")[0])


def near_pairs(hashes: np.ndarray, near: int = NEAR) -> list[tuple[int, int]]:
    """Finds all pairs of rows whose hashes differ in at most `near` bits.

    By the pigeonhole principle, two hashes that differ in k bits agree on one of k+1 bands, so only
    rows that share a band are compared.

    Args:
        hashes: N uint64.
        near: Maximum number of differing bits, 0..7.
    """
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)
    found: set[tuple[int, int]] = set()
    for band in np.array_split(np.arange(64), near + 1):
        buckets = defaultdict(list)
        for row, value in enumerate(bits[:, band]):
            buckets[value.tobytes()].append(row)
        for rows in buckets.values():
            if len(rows) > 1:
                members = np.array(rows)
                for position, row in enumerate(rows[:-1]):
                    others = members[position + 1 :]
                    close = others[(bits[others] != bits[row]).sum(1) <= near]
                    found.update((row, int(other)) for other in close)
    return sorted(found)


def audit_integrity(images: pd.DataFrame) -> dict[str, Any]:
    """Counts the images and looks for faults over all splits.

    Args:
        images: Columns label, path, split, is_synthetic, of all splits together.

    Returns:
        JSON-able: `counts` per split; `unreadable`, `duplicates` (equal bytes),
        `identities_in_two_splits`, `near_duplicates_across_splits` (difference hashes within 4 bits
        of
        64), each with its count and up to 50 examples.
    """
    images = images.reset_index(drop=True)

    def inspect(path: str) -> tuple[str, int, str]:
        try:
            with decoding(path):
                content = read_bytes(path)
                return sha256_bytes(content), difference_hash(decode_rgb(content, path)), ""
        except ImageReadError as error:
            return "", 0, str(error)

    with ThreadPoolExecutor() as threads:
        inspected = list(threads.map(inspect, images["path"]))
    digest = pd.Series([digest for digest, _, _ in inspected])
    readable = digest != ""
    splits = images.groupby("label")["split"].nunique()
    rows = np.flatnonzero(readable)
    near = near_pairs(np.array([inspected[row][1] for row in rows], dtype=np.uint64))
    crossing = [
        (rows[a], rows[b])
        for a, b in near
        if images.at[rows[a], "split"] != images.at[rows[b], "split"]
    ]
    copies = digest[readable & digest.duplicated(keep=False)]
    groups = [
        images.loc[members, "path"].tolist() for members in copies.groupby(copies).groups.values()
    ]
    counts = {
        split: {
            "images": len(part),
            "identities": int(part["label"].nunique()),
            "genuine": int((~part["is_synthetic"]).sum()),
            "synthetic": int(part["is_synthetic"].sum()),
            "unreadable": int((~readable[part.index]).sum()),
        }
        for split, part in images.groupby("split")
    }

    def finding(examples: list) -> dict[str, Any]:
        return {"count": len(examples), "examples": examples[:SHOWN]}

    return {
        "counts": counts,
        "unreadable": finding([error for _, _, error in inspected if error]),
        "duplicates": finding(groups),
        "identities_in_two_splits": finding(sorted(splits.index[splits > 1])),
        "near_duplicates_across_splits": finding(
            [[images.at[a, "path"], images.at[b, "path"]] for a, b in crossing]
        ),
    }
