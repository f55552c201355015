"""The picture sheet: which people and pairs it shows, and what it writes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kryptonite.report import sheet
from kryptonite.report.sheet import draw_sheet
from tests.report.population import refuse, scored_pairs


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws a sheet; returns its figure, and the paths of the photos in drawing order."""
    shown, drawn = [], []
    save = Figure.savefig

    def read(path):
        shown.append(path)
        return np.zeros((8, 8, 3), np.uint8)

    def keep(figure, *arguments, **options):
        drawn.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(sheet, "read_rgb", read)
    monkeypatch.setattr(Figure, "savefig", keep)

    def call(scored, images=None, **options):
        shown.clear()
        pairs = scored.pairs.assign(
            score=scored.scores["llr"],
            path_a=scored.pairs["pair_id"] + "/a",
            path_b=scored.pairs["pair_id"] + "/b",
        )
        images = people() if images is None else images
        draw_sheet(tmp_path / "sheet.png", images, pairs, 1.0, **options)
        return drawn[-1], list(shown)

    return call


def people(number=7, photos=5, forgeries=3):
    """A table of images: more photos per person than the sheet has room for."""
    rows = [
        (f"p{person}", f"p{person}/{'k_' * synthetic}{image}", bool(synthetic))
        for person in range(number)
        for synthetic, count in ((0, photos), (1, forgeries))
        for image in range(count)
    ]
    return pd.DataFrame(rows, columns=["label", "path", "is_synthetic"])


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def titles(figure):
    return [title for axes in figure.axes if (title := axes.get_title(loc="left"))]


def test_draw_sheet_shows_photos_and_forgeries_of_the_first_people(draw):
    figure, shown = draw(scored_pairs(), people=2, worst=0)
    assert shown == [
        f"p{person}/{name}"
        for person in (0, 1)
        for name in ("0", "1", "2", "3", "k_0", "k_1", "k_2")
    ]
    assert texts(figure) == ["p0", "p1"]
    assert titles(figure) == [
        "genuine photos",
        "forgeries (k_)",
        "False accepts at threshold 1.00, worst first: none",
        "False rejects at threshold 1.00, worst first: none",
    ]


def test_draw_sheet_shows_the_worst_errors_worst_first(draw):
    scored = scored_pairs()
    score, kind = scored.scores["llr"], scored.kind
    _, shown = draw(scored, people=0, worst=6)
    accepts = [row for row in np.argsort(-score) if kind[row] != "same"][:6]
    rejects = [row for row in np.argsort(score) if kind[row] == "same"][:6]
    assert score[accepts].min() >= 1.0 > score[rejects].max()
    assert shown == [f"{row:08d}/{side}" for row in (*accepts, *rejects) for side in "ab"]


def test_draw_sheet_captions_pairs_with_kind_and_scores(draw):
    scored = scored_pairs()
    figure, shown = draw(scored, people=0, worst=8)
    captions = texts(figure)
    assert len(captions) == len(shown) // 2 == 15  # the population has seven false rejects
    for path, caption in zip(shown[::2], captions, strict=True):
        row = int(path.split("/")[0])
        pair = scored.pairs.loc[row]
        name = pair["species"] or {"same": "mated", "different": "non-mated"}[pair["kind"]]
        assert caption.startswith(f"{name}: score {scored.scores['llr'][row]:.2f}\n")
        assert f"cosine {pair['similarity']:.2f}" in caption


def test_draw_sheet_leaves_pairs_out_when_not_acquired(draw):
    scored = scored_pairs()
    _, before = draw(scored, people=0)
    worst = {int(path.split("/")[0]) for path in before}
    refused = np.isin(np.arange(600), list(worst))
    _, after = draw(refuse(scored, refused), people=0)
    assert after and not worst & {int(path.split("/")[0]) for path in after}


def test_draw_sheet_writes_the_same_png_when_inputs_are_the_same(draw, tmp_path):
    draw(scored_pairs())
    first = (tmp_path / "sheet.png").read_bytes()
    draw(scored_pairs())
    assert (tmp_path / "sheet.png").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG" and image.width > 900
