"""Draw one picture that shows people, their forgeries, and a system's worst errors."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kryptonite.core.files import atomic_path
from kryptonite.core.images import read_rgb
from kryptonite.report.page import KIND_TITLES

COLUMNS = 8  # pictures in a row
HALF = COLUMNS // 2  # photos, and forgeries, of a person; also pairs in a row


def draw_sheet(
    target: Path,
    images: pd.DataFrame,
    pairs: pd.DataFrame,
    threshold: float,
    people: int = 5,
    worst: int = 8,
) -> None:
    """Draws the sheet as PNG.

    Args:
        target: File to write.
        images: Columns label, path, is_synthetic. The first people are shown, genuine photos on
            the left and forgeries on the right.
        pairs: Columns path_a, path_b, kind, species, similarity, log_odds_a, log_odds_b, acquired,
            score. Pairs refused because no face was found are left out.
        threshold: Pairs with at least this score are accepted.
        people: Number of people to show.
        worst: Number of pairs to show per kind of error.
    """
    shown = list(images.groupby("label", sort=True))[:people]
    pairs = pairs[pairs["acquired"]]
    mated, accepted = pairs["kind"] == "same", pairs["score"] >= threshold
    bands = {
        "False accepts": pairs[~mated & accepted].nlargest(worst, "score"),
        "False rejects": pairs[mated & ~accepted].nsmallest(worst, "score"),
    }
    heights = [1.0] * len(shown) + [1.5] * sum(_rows(len(band)) for band in bands.values())
    figure = Figure(figsize=(COLUMNS * 1.2, sum(heights) * 1.2 + 0.4), dpi=110)
    figure.subplots_adjust(left=0.03, right=0.995, top=0.97, bottom=0.04, wspace=0.03, hspace=0.08)
    grid = figure.subplots(
        len(heights), COLUMNS, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axes in grid.flat:
        axes.axis("off")

    for row, (label, part) in enumerate(shown):
        _draw_person(grid[row], label, part, titled=row == 0)
    row = len(shown)
    for title, band in bands.items():
        for position, pair in enumerate(band.itertuples()):
            line, column = divmod(position, HALF)
            _draw_pair(grid[row + line, 2 * column : 2 * column + 2], pair)
        note = f"{title} at threshold {threshold:.2f}, worst first"
        grid[row, 0].set_title(note if len(band) else f"{note}: none", fontsize=9, loc="left")
        row += _rows(len(band))
    with atomic_path(target) as temporary:
        figure.savefig(temporary)


def _rows(pairs: int) -> int:
    """Rows that a band of pairs takes; one for its title where it is empty."""
    return -(-max(1, pairs) // HALF)


def _draw_person(row: np.ndarray, label: str, images: pd.DataFrame, titled: bool) -> None:
    """Draws a person's photos and forgeries into a row of axes."""
    synthetic = images["is_synthetic"]
    for start, title, part in (
        (0, "genuine photos", images[~synthetic]),
        (HALF, "forgeries (k_)", images[synthetic]),
    ):
        for column, path in enumerate(part["path"][:HALF]):
            axes = row[start + column]
            axes.imshow(read_rgb(path))
            if titled and column == 0:
                axes.set_title(title, fontsize=9, loc="left")
    _write(row[0], -0.04, 0.5, label, fontsize=7, rotation=90, ha="right", va="center")


def _draw_pair(row: np.ndarray, pair: tuple) -> None:
    """Draws both photos of a pair into two axes, with what the system scored below."""
    for axes, path in zip(row, (pair.path_a, pair.path_b), strict=True):
        axes.imshow(read_rgb(path))
    synthetic = 1 / (1 + np.exp(-max(pair.log_odds_a, pair.log_odds_b)))
    caption = (
        f"{pair.species or KIND_TITLES[pair.kind]}: score {pair.score:.2f}\n"
        f"cosine {pair.similarity:.2f}, synthetic {synthetic:.0%}"
    )
    _write(row[0], 0, -0.05, caption, fontsize=7.5, va="top")


def _write(axes: Axes, x: float, y: float, text: str, **style: float | str) -> None:
    # A $ in a name is a $, and no formula begins.
    axes.text(x, y, text, transform=axes.transAxes, parse_math=False, **style)
