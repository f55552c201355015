"""A picture sheet: people, their forgeries, and the pairs a system got most wrong."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kryptonite.core.files import atomic_path
from kryptonite.core.images import read_rgb

ACROSS = 8  # pictures in a row


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
        images: Columns label, path, is_synthetic: whose first people are shown, photos left, forgeries right.
        pairs: Columns path_a, path_b, kind, species, similarity, log_odds_a, log_odds_b, acquired, score; those in which no face was
            found are not shown.
        threshold: At which pairs are accepted.
        people: Rows of people.
        worst: Pairs shown of each kind of error.
    """
    shown = list(images.groupby("label", sort=True))[:people]
    pairs = pairs[pairs["acquired"]]
    accepted = pairs[(pairs["kind"] != "same") & (pairs["score"] >= threshold)].nlargest(
        worst, "score"
    )
    rejected = pairs[(pairs["kind"] == "same") & (pairs["score"] < threshold)].nsmallest(
        worst, "score"
    )
    bands = [("False accepts", accepted), ("False rejects", rejected)]
    heights = [1.0] * len(shown) + [1.5] * sum(
        -(-max(1, len(band)) // (ACROSS // 2)) for _, band in bands
    )
    figure = Figure(figsize=(ACROSS * 1.2, sum(heights) * 1.2 + 0.4), dpi=110)
    figure.subplots_adjust(left=0.03, right=0.995, top=0.97, bottom=0.04, wspace=0.03, hspace=0.08)
    grid = figure.subplots(
        len(heights), ACROSS, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axes in grid.flat:
        axes.axis("off")

    for row, (label, part) in enumerate(shown):
        half = ACROSS // 2
        for side, (start, files) in enumerate(
            ((0, part[~part["is_synthetic"]]), (half, part[part["is_synthetic"]]))
        ):
            for column, path in enumerate(files["path"][:half]):
                axes = grid[row, start + column]
                axes.imshow(read_rgb(path))
                if row == 0 and column == 0:
                    axes.set_title(
                        "forgeries (k_)" if side else "genuine photos", fontsize=9, loc="left"
                    )
        grid[row, 0].text(
            -0.04,
            0.5,
            label,
            transform=grid[row, 0].transAxes,
            fontsize=7,
            rotation=90,
            ha="right",
            va="center",
        )
    row = len(shown)
    for title, band in bands:
        for position, pair in enumerate(band.itertuples()):
            line, column = row + position // (ACROSS // 2), 2 * (position % (ACROSS // 2))
            for offset, path in enumerate((pair.path_a, pair.path_b)):
                grid[line, column + offset].imshow(read_rgb(path))
            synthetic = 1 / (1 + np.exp(-max(pair.log_odds_a, pair.log_odds_b)))
            what = pair.species or pair.kind
            caption = f"{what}: score {pair.score:.2f}\ncosine {pair.similarity:.2f}, synthetic {synthetic:.0%}"
            grid[line, column].text(
                0, -0.05, caption, transform=grid[line, column].transAxes, fontsize=7.5, va="top"
            )
        note = f"{title} at threshold {threshold:.2f}, worst first" + (
            "" if len(band) else ": none"
        )
        grid[row, 0].set_title(note, fontsize=9, loc="left")
        row += -(-max(1, len(band)) // (ACROSS // 2))
    with atomic_path(target) as temporary:
        figure.savefig(temporary)
