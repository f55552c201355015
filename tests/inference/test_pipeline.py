"""The pipeline object: looks once, scores every pair, reports what could not be read, sees what training saw."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.core.errors import DataError, ImageReadError
from kryptonite.data.submission import read_submission
from kryptonite.detection.faces import CENTRE_CROP, FOUND, FOUND_PADDED
from kryptonite.fusion.fuse import REFUSED
from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.config import LivenessConfig
from kryptonite.liveness.train import DetectorModule
from kryptonite.recognition.config import RecognitionConfig
from kryptonite.recognition.train import RecognitionModule
from tests.tiny import write_run


@pytest.fixture
def photos(tmp_path, faces, save):
    return [str(save(tmp_path / "photos" / f"{n}.png", face)) for n, face in enumerate(faces)]


def test_verify_answers_with_all_it_knows(pipeline, photos):
    answer = pipeline.verify(photos[0], photos[1])
    assert answer.accepted == (answer.score >= answer.threshold) and answer.threshold == 0.1
    assert -1 <= answer.similarity <= 1 and all(0 <= p <= 1 for p in answer.synthetic_probability)
    assert all(status in (FOUND, FOUND_PADDED, CENTRE_CROP) for status in answer.status)
    x1, y1, x2, y2 = answer.boxes[0]
    assert 0 <= x1 < x2 <= 170 and -10 <= y1 < y2 <= 180 and answer.seconds > 0
    assert pipeline.verify(photos[1], photos[0]).score == pytest.approx(answer.score, abs=1e-5)
    assert pipeline.verify(photos[0], photos[0]).similarity == pytest.approx(1, abs=1e-5)


def test_verify_and_the_pair_list_agree(pipeline, photos):
    pairs = pd.DataFrame({"pair_id": ["00000000"], "path_a": [photos[0]], "path_b": [photos[1]]})
    scored, _ = pipeline.score_pairs(pairs)
    assert scored["score"][0] == pytest.approx(
        pipeline.verify(photos[0], photos[1]).score, abs=1e-5
    )


@pytest.fixture
def black(tmp_path, save):
    return str(save(tmp_path / "photos/black.png", np.zeros((160, 160, 3), np.uint8)))


@pytest.mark.parametrize(
    ("first", "second", "where"),
    [(1, 0, "the first image"), (0, 1, "the second image"), (1, 1, "either image")],
)
def test_a_pair_without_a_face_in_both_is_never_accepted(
    pipeline, photos, black, first, second, where
):
    paths = [[photos[0], black][first], [photos[0], black][second]]
    pipeline.verifiers[pipeline.chosen] = replace(
        pipeline.verifier, threshold=-1e6
    )  # any threshold at all
    answer = pipeline.verify(*paths)
    assert (
        not answer.accepted
        and answer.score == REFUSED
        and answer.reason == f"refused: no face found in {where}"
    )
    assert pipeline.verify(photos[0], photos[1]).accepted
    scored, _ = pipeline.score_pairs(
        pd.DataFrame({"pair_id": ["00000000"], "path_a": paths[:1], "path_b": paths[1:]})
    )
    assert (
        scored["score"].tolist() == [REFUSED]
        and scored["readable"].all()
        and not scored["acquired"].any()
    )


def test_verify_names_the_image_that_cannot_be_read(pipeline, photos, tmp_path):
    with pytest.raises(ImageReadError, match=r"gone\.jpg"):
        pipeline.verify(photos[0], tmp_path / "gone.jpg")


def test_every_distinct_image_is_looked_at_once(pipeline, photos, monkeypatch):
    seen = {"extract_maps": 0, "log_odds": 0}

    def count(part, name):
        call = getattr(part, name)

        def counting(crops):
            seen[name] += len(crops.pixels)
            return call(crops)

        monkeypatch.setattr(part, name, counting)

    count(pipeline.recogniser, "extract_maps")
    count(pipeline.detector, "log_odds")
    combinations = [(a, b) for a in photos[:4] for b in photos[:4]]
    pairs = pd.DataFrame(
        [(f"{n:08d}", a, b) for n, (a, b) in enumerate(combinations)],
        columns=["pair_id", "path_a", "path_b"],
    )
    scored, looks = pipeline.score_pairs(pairs)
    assert (
        seen == {"extract_maps": 4, "log_odds": 4} and len(looks.paths) == 4 and len(scored) == 16
    )


def test_scores_do_not_depend_on_the_order_of_pairs(pipeline, photos):
    pairs = pd.DataFrame(
        [(f"{n:08d}", photos[n], photos[7 - n]) for n in range(8)],
        columns=["pair_id", "path_a", "path_b"],
    )
    first, _ = pipeline.score_pairs(pairs)
    second, _ = pipeline.score_pairs(pairs.sample(frac=1, random_state=0))
    merged = first.merge(second, on="pair_id")
    assert merged["score_x"].to_numpy() == pytest.approx(merged["score_y"].to_numpy(), abs=1e-5)


def test_a_pair_with_an_unreadable_image_or_without_a_face_is_refused_and_listed(
    pipeline, tmp_path, faces, save
):
    for pair in range(4):
        for name in (0, 1):
            save(
                tmp_path / f"data/test_public/images/{pair:08d}/{name}.jpg",
                faces[(2 * pair + name) % 8],
            )
    (tmp_path / "data/test_public/images/00000001/1.jpg").write_bytes(b"broken")
    (tmp_path / "data/test_public/images/00000003/0.jpg").unlink()
    save(tmp_path / "data/test_public/images/00000002/1.jpg", np.zeros((160, 160, 3), np.uint8))
    report = pipeline.submit(tmp_path, tmp_path / "submission.csv")
    table = read_submission(tmp_path / "submission.csv")
    assert table["pair_id"].tolist() == [f"{n:08d}" for n in range(4)]
    assert report.unreadable["pair_id"].tolist() == ["00000001", "00000003"]
    scores = table.set_index("pair_id")["similarity"]
    assert (scores[["00000001", "00000002", "00000003"]] == REFUSED).all() and scores[
        "00000000"
    ] > REFUSED
    assert report.no_face["pair_id"].tolist() == ["00000002"] and report.failures_to_acquire == 1
    assert np.isfinite(scores).all() and report.pairs == 4 and report.images == 8


def test_all_images_unreadable_is_still_a_whole_submission(pipeline, tmp_path):
    for name in (0, 1):
        path = tmp_path / f"data/test_public/images/00000000/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert len(pipeline.submit(tmp_path, tmp_path / "s.csv").unreadable) == 1
    assert len(read_submission(tmp_path / "s.csv")) == 1


def test_an_unfinished_run_names_what_is_missing(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "fusion.json").unlink()
    with pytest.raises(DataError, match=r"fusion\.json missing"):
        Pipeline.load(run)


def test_training_and_scoring_see_a_crop_alike(pipeline):
    """RGB in training and BGR in inference, or two normalisations, would show here."""
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    recogniser, detector = pipeline.recogniser, pipeline.detector
    nobody, no_pairs = np.zeros(4), np.zeros((1, 2), int)
    config = RecognitionConfig(embedding_dim=16)
    embedding = RecognitionModule(
        config, recogniser.network, recogniser.spec, nobody, nobody, 1, no_pairs, np.ones(1)
    ).eval()
    judging = DetectorModule(
        LivenessConfig(), detector.network, detector.spec, nobody, nobody
    ).eval()
    with torch.inference_mode():
        trained, logits = embedding.embed(tensor).numpy(), judging.logits(tensor.float() / 255)
    assert recogniser.embed(Crops(pixels, CropTemplate(32))) == pytest.approx(trained, abs=1e-5)
    assert detector.log_odds(Crops(pixels, CropTemplate(32, 0.2))) == pytest.approx(
        logits.numpy(), abs=1e-5
    )
