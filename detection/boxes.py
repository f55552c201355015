"""What both of MTCNN's cascades do to boxes in numpy."""

import numpy as np

CELL = 12  # side of the first network's receptive field, in pixels
SIDES = (CELL, 24, 48)  # of the networks' inputs in pixels; the first takes larger ones, too
# Log-odds that differ by less than this are taken for equal. The same face's differ by about 1e-5
# from batch to batch, by the order in which floats are summed.
_TIE = 1e-4


def suppress_contained(
    boxes: np.ndarray, log_odds: np.ndarray, rows: np.ndarray, threshold: float
) -> np.ndarray:
    """Picks boxes by falling log-odds; each removes those that lie mostly in it, or it in them.

    Each image is treated alone, and equal log-odds are ordered by position, so that neither the
    other images of a batch nor their number matters.

    Args:
        boxes: M×4, x1, y1, x2, y2 in pixels.
        log_odds: M, of a face.
        rows: M, the image of each box.
        threshold: Largest intersection, as a fraction of the smaller box, of two boxes that stay.

    Returns:
        int64, indices of the boxes that stay, best first within each image.
    """
    boxes = boxes.astype(np.float64)
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    # The last key counts most.
    order = np.lexsort([*boxes.T[::-1], -np.rint(log_odds / _TIE), rows])
    picked = []
    while len(order):
        best, others = order[0], order[1:]
        sides = (
            np.minimum(boxes[best, 2:], boxes[others, 2:])
            - np.maximum(boxes[best, :2], boxes[others, :2])
            + 1
        )
        shared = np.maximum(sides, 0).prod(1) / np.minimum(areas[best], areas[others])
        picked.append(best)
        order = others[(rows[others] != rows[best]) | (shared <= threshold)]
    return np.array(picked, np.int64)
