"""The pipeline: extracts each image once, scores every pair, and sees crops as training does."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kryptonite.core.errors import DataError, ImageReadError
from kryptonite.detection.faces import CENTRE_CROP, FOUND, FOUND_PADDED
from kryptonite.fusion.evidence import REFUSED
from kryptonite.runs.load import load
from tests.tiny import write_run

COLUMNS = ["pair_id", "path_a", "path_b"]


@pytest.fixture
def photos(tmp_path, faces, save):
    return [str(save(tmp_path / "photos" / f"{n}.png", face)) for n, face in enumerate(faces)]


@pytest.fixture
def black(tmp_path, save):
    return str(save(tmp_path / "photos/black.png", np.zeros((160, 160, 3), np.uint8)))


def listed(*pairs):
    """A list of pairs as `score_pairs` takes it."""
    return pd.DataFrame([(f"{n:08d}", *pair) for n, pair in enumerate(pairs)], columns=COLUMNS)


def test_verify_answers_whichever_image_comes_first(pipeline, photos):
    answer = pipeline.verify(photos[0], photos[1])
    assert answer.accepted == (answer.score >= answer.threshold) and answer.threshold == 0.1
    assert -1 <= answer.similarity <= 1
    assert all(0 <= probability <= 1 for probability in answer.synthetic_probability)
    assert all(status in (FOUND, FOUND_PADDED) for status in answer.status)
    x1, y1, x2, y2 = answer.boxes[0]
    assert 0 <= x1 < x2 <= 170 and -10 <= y1 < y2 <= 180 and answer.seconds > 0
    assert pipeline.verify(photos[1], photos[0]).score == pytest.approx(answer.score, abs=1e-5)
    assert pipeline.verify(photos[0], photos[0]).similarity == pytest.approx(1, abs=1e-5)


def test_verify_agrees_with_score_pairs(pipeline, photos):
    scored, _ = pipeline.score_pairs(listed(photos[:2]))
    expected = pipeline.verify(photos[0], photos[1]).score
    assert scored["score"][0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "where"),
    [(1, 0, "the first image"), (0, 1, "the second image"), (1, 1, "either image")],
)
def test_verify_refuses_at_any_threshold_when_a_face_is_missing(
    pipeline, photos, black, first, second, where
):
    paths = [[photos[0], black][first], [photos[0], black][second]]
    lowest = replace(pipeline.verifier, threshold=-1e6)
    tolerant = replace(pipeline, verifiers={**pipeline.verifiers, pipeline.chosen: lowest})
    answer = tolerant.verify(*paths)
    assert not answer.accepted and answer.score == REFUSED
    assert answer.reason == f"refused: no face found in {where}"
    assert [status == CENTRE_CROP for status in answer.status] == [bool(first), bool(second)]
    assert tolerant.verify(photos[0], photos[1]).accepted
    scored, _ = tolerant.score_pairs(listed(paths))
    assert scored["score"].tolist() == [REFUSED]
    assert scored["readable"].all() and not scored["acquired"].any()


def test_score_pairs_refuses_unreadable_pairs_whatever_the_others_score(pipeline, photos, tmp_path):
    scored, _ = pipeline.score_pairs(listed(photos[:2], (photos[0], str(tmp_path / "gone.jpg"))))
    assert scored["score"][1] == REFUSED < scored["score"][0]
    assert scored["readable"].tolist() == [True, False] == scored["acquired"].tolist()


def test_verify_names_the_image_when_it_cannot_be_read(pipeline, photos, tmp_path):
    with pytest.raises(ImageReadError, match=r"gone\.jpg"):
        pipeline.verify(photos[0], tmp_path / "gone.jpg")


def test_score_pairs_extracts_every_distinct_image_once(pipeline, photos, monkeypatch):
    extracted = {"extract_maps": 0, "log_odds": 0}

    def count(part, name):
        call = getattr(part, name)

        def counting(crops):
            extracted[name] += len(crops.pixels)
            return call(crops)

        monkeypatch.setattr(part, name, counting)

    count(pipeline.extractor.recogniser, "extract_maps")
    count(pipeline.extractor.detector, "log_odds")
    pairs = listed(*((a, b) for a in photos[:4] for b in photos[:4]))
    scored, table = pipeline.score_pairs(pairs)
    assert extracted == {"extract_maps": 4, "log_odds": 4}
    assert len(table.paths) == 4 and len(scored) == 16


def test_score_pairs_does_not_depend_on_the_order_of_pairs(pipeline, photos):
    pairs = listed(*((photos[n], photos[7 - n]) for n in range(8)))
    first, _ = pipeline.score_pairs(pairs)
    second, _ = pipeline.score_pairs(pairs.sample(frac=1, random_state=0, ignore_index=True))
    merged = first.merge(second, on="pair_id")
    assert merged["score_x"].to_numpy() == pytest.approx(merged["score_y"].to_numpy(), abs=1e-5)


def test_load_names_what_is_missing_when_a_run_is_unfinished(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "fusion.json").unlink()
    with pytest.raises(DataError, match=r"fusion\.json missing"):
        load(run)
