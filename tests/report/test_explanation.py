"""The sheet of one pair: what it shows and what it leaves out."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from kryptonite.report.explanation import picture, write_explanation

QUALITY = {"face_pixels": 90.0, "sharpness": 80.0, "brightness": 0.5, "contrast": 0.2, "yaw": 0.1}
PARTS = {"recognition": 3.0, "detector": -4.0, "similarity": 0.5, "differential_detector": -1.0}


def photo(seed):
    return {
        "width": 640,
        "height": 480,
        "status": "found",
        "synthetic_probability": 0.25,
        "quality": QUALITY,
        "crop": np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8),
    }


@pytest.fixture
def explanation():
    answer = {
        "code": "photo_b_looks_generated",
        "reason": "refused: the second photo looks generated",
        "score": -4.5,
        "threshold": 0.5,
        "threshold_name": "stored",
        "parts": PARTS,
        "similarity": 0.4,
        "photos": [photo(0), photo(1)],
    }
    words = {"llr": -4.5, "support": "moderate support for: forgery", "scale": "the scale"}
    return {"answer": answer, "photo": 1, "branch": "detector", **words}


def write(folder, explanation, names=("a.jpg", "b.jpg")):
    write_explanation(folder / "sheet.html", explanation, names)
    return (folder / "sheet.html").read_text(encoding="utf-8")


def test_sheet_names_photo_branch_and_scale_and_loads_nothing(tmp_path, explanation):
    html = write(tmp_path, explanation)
    marked = re.search(r"<code>([^<]*)</code> <strong>lowered the score", html)
    assert marked[1] == "b.jpg" and html.count("lowered the score</strong>") == 1
    (chosen,) = re.findall(r'<tr class="chosen"><td>([^<]*)</td>\s*<td>([^<]*)', html)
    assert chosen[0].startswith("synthetic-image detector") and chosen[1] == "-4.00"
    assert "moderate support for: forgery" in html and "the scale" in html
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(sources) == 2 and all(each.startswith("data:image/png;") for each in sources)


def test_sheet_names_nothing_when_the_pair_is_accepted_by_an_uncalibrated_fusion(
    tmp_path, explanation
):
    explanation["answer"] |= {"reason": "accepted", "parts": None}
    html = write(tmp_path, explanation | dict.fromkeys(("photo", "branch", "llr", "support")))
    assert "lowered" not in html and "Likelihood" not in html and "each branch" not in html


def test_sheet_shows_no_score_when_a_face_is_missing(tmp_path, explanation):
    explanation["answer"] |= {"code": "no_face_in_photo_a", "score": -1000.0, "parts": None}
    html = write(tmp_path, explanation | dict.fromkeys(("photo", "branch", "llr", "support")))
    assert "no score without a face" in html and "1000" not in html


def test_sheet_escapes_the_names_of_files(tmp_path, explanation):
    html = write(tmp_path, explanation, ("<script>.jpg", '"b&.jpg'))
    assert "<script>" not in html and "&lt;script&gt;.jpg" in html and "&#34;b&amp;.jpg" in html


def test_picture_keeps_every_pixel():
    pixels = photo(2)["crop"]
    content = base64.b64decode(picture(pixels).partition(",")[2])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)
