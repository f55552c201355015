"""Draws photos that cleaning moves, drops or only just keeps, for inspection by eye."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kryptonite.core.files import atomic_path
from kryptonite.core.images import read_rgb
from kryptonite.data.audit.cleaning import DROP, KEEP, MOVE

TYPICAL = 5  # photos shown per folder


def draw_cleaning_sheet(
    target: Path | str, images: pd.DataFrame, found: pd.DataFrame, each: int = 8
) -> None:
    """Draws the sheet.

    Each row shows a photo, typical photos of its folder and of the most similar other folder, and
    the reason.

    Args:
        target: File to write; its suffix sets the format.
        images: Columns label, path; N rows.
        found: Result of `data.audit.cleaning.find_mislabels` for these rows.
        each: Maximum rows of each group: moved and dropped photos, clearest and least clear, and
            kept photos that are more like another folder than like their own.
    """
    bands = _bands(found, each)
    height = sum(max(1, len(rows)) for _, rows in bands)
    columns = 2 * TYPICAL + 1
    figure = Figure(figsize=(columns * 1.1, height * 1.35 + 0.4), dpi=100)
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        top=1 - 0.35 / (height * 1.35 + 0.4),
        bottom=0.01,
        wspace=0.03,
        hspace=0.3,
    )
    grid = figure.subplots(height, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    line = 0
    for title, rows in bands:
        for row in rows:
            shown = [images.at[row, "path"], *_typical(images, found, images.at[row, "label"], row)]
            for column, path in enumerate(shown):
                grid[line, column].imshow(read_rgb(path))
            for column, path in enumerate(
                _typical(images, found, found.at[row, "best_label"], row)
            ):
                grid[line, TYPICAL + 1 + column].imshow(read_rgb(path))
            entry = found.loc[row]
            caption = (
                f"{title}: folder {images.at[row, 'label']}, likeness {entry['own']:.1f} (left); "
                f"most like {entry['best_label']}, likeness {entry['best']:.1f} (right); "
                f"{entry['reason']}; probability {entry['probability']:.3f}"
            )
            # A $ in a folder's name is a $, and no formula begins.
            grid[line, 0].set_title(caption, fontsize=6.5, loc="left", pad=3, parse_math=False)
            line += 1
        if not len(rows):
            grid[line, 0].set_title(f"{title}: none", fontsize=6.5, loc="left", pad=3)
            line += 1
    with atomic_path(target) as temporary:
        figure.savefig(temporary)


def _bands(found: pd.DataFrame, each: int) -> list[tuple[str, list[int]]]:
    """Titles and rows of the sheet's groups.

    Clear cases are ranked by how much more similar the photo is to others than to its folder,
    unclear ones by their probability.
    """
    gap = found["best"] - found["own"]
    bands = []
    for action, title in ((MOVE, "Moved"), (DROP, "Dropped")):
        chosen = found["action"] == action
        clear = list(gap[chosen].nlargest(each).index)
        doubtful = list(found.loc[chosen, "probability"].drop(clear).nsmallest(each).index)
        bands += [(f"{title}, clearest", clear), (f"{title}, least clear", doubtful)]
    kept = (found["action"] == KEEP) & (gap > 0)
    return [*bands, ("Kept nevertheless", list(gap[kept].nlargest(each).index))]


def _typical(images: pd.DataFrame, found: pd.DataFrame, label: str, excluded: int) -> list[str]:
    """Paths of up to TYPICAL photos that represent a folder, from the most to the least like it."""
    chosen = found[(images["label"] == label).to_numpy() & found["core"].to_numpy()].drop(
        excluded, errors="ignore"
    )
    ranked = chosen.sort_values("own", ascending=False, kind="stable").index
    picked = np.unique(
        np.linspace(0, len(ranked) - 1, min(TYPICAL, len(ranked))).round().astype(int)
    )
    return [images.at[ranked[position], "path"] for position in picked]
