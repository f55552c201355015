"""The pipeline: extracts each image once, scores every pair, and sees crops as training does."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kryptonite.core.errors import ConfigError, DataError, ImageReadError
from kryptonite.detection.faces import CENTRE_CROP, FOUND, FOUND_PADDED
from kryptonite.fusion.evidence import REFUSED
from kryptonite.fusion.verbal import degree_of, in_words
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


def test_verify_describes_both_photos(pipeline, photos, faces):
    answer = pipeline.verify(photos[0], photos[1])
    for photo, probability in zip(answer.photos, answer.synthetic_probability, strict=True):
        assert (photo.width, photo.height) == (160, 160)
        assert photo.synthetic_probability == probability
        assert probability == pytest.approx(1 / (1 + np.exp(-photo.log_odds)))
        x1, y1, x2, y2 = photo.box
        assert photo.quality.face_pixels == pytest.approx(np.sqrt((x2 - x1) * (y2 - y1)))
        assert 0 < photo.quality.brightness < 1 and 0 < photo.quality.contrast <= 0.5
        left, right, nose, *_ = photo.landmarks
        assert left[0] < nose[0] < right[0] and max(left[1], right[1]) < nose[1]
    template = pipeline.extractor.recogniser.spec.template
    aligned = pipeline.extractor.cache.aligner(faces[:2]).crops[template]
    assert np.array_equal([photo.crop for photo in answer.photos], aligned)
    assert "crop" not in json.dumps(answer.as_dict())


def test_verify_takes_bytes_and_open_files(pipeline, photos):
    expected = pipeline.verify(photos[0], photos[1])
    with open(photos[1], "rb") as file:
        answer = pipeline.verify(Path(photos[0]).read_bytes(), file)
    assert replace(answer, seconds=0) == replace(expected, seconds=0)


def test_verify_names_the_file_when_an_open_file_is_no_image(pipeline, photos, tmp_path):
    (tmp_path / "text.jpg").write_text("not an image, but words")
    with (
        open(tmp_path / "text.jpg", "rb") as file,
        pytest.raises(ImageReadError, match=r"text\.jpg: .*a text file"),
    ):
        pipeline.verify(photos[0], file)


def test_verify_decides_at_the_threshold_of_the_name(pipeline, photos):
    lax, strict = -1e6, 1e6
    named = replace(pipeline.verifier, at_fmr={"fmr=0.1": lax, "fmr=0.01": strict})
    pipeline = replace(pipeline, verifiers={pipeline.chosen: named})
    accepted = pipeline.verify(*photos[:2], threshold="fmr=0.1")
    assert (accepted.code, accepted.reason) == ("accepted", "accepted") and accepted.accepted
    assert (accepted.threshold, accepted.threshold_name) == (lax, "fmr=0.1")
    refused = pipeline.verify(*photos[:2], threshold="fmr=0.01")
    assert not refused.accepted and refused.reason.startswith("refused: ")
    assert refused.parts == accepted.parts is not None
    with pytest.raises(ConfigError, match=r"'fmr=1'; this run has stored, fmr=0\.1, fmr=0\.01"):
        pipeline.verify(*photos[:2], threshold="fmr=1")


def withholding(pipeline, least):
    """The pipeline with a rule that asks a certainty of every decision."""
    rule = replace(pipeline.verifier.abstention, least={"stored": least})
    verifier = replace(pipeline.verifier, abstention=rule)
    return replace(pipeline, verifiers={pipeline.chosen: verifier})


def test_verify_withholds_an_uncertain_decision_when_asked(pipeline, photos):
    expected = pipeline.verify(*photos[:2])
    rule = pipeline.verifier.abstention
    certainty = rule.certainty(np.array([expected.score]), expected.threshold)[0]
    sure, unsure = (withholding(pipeline, certainty + step) for step in (-0.1, 0.1))
    for system in (sure, unsure):  # off unless asked for
        assert replace(system.verify(*photos[:2]), seconds=0) == replace(expected, seconds=0)
    given = sure.verify(*photos[:2], cannot_say=True)
    assert replace(given, seconds=0) == replace(expected, seconds=0)
    withheld = unsure.verify(*photos[:2], cannot_say=True)
    assert (withheld.accepted, withheld.code) == (False, "cannot_say")
    assert withheld.reason == "cannot say: neither decision is certain enough"
    same = replace(withheld, **{n: getattr(expected, n) for n in ("accepted", "code", "reason")})
    assert replace(same, seconds=0) == replace(expected, seconds=0)


def test_verify_many_withholds_those_asked_and_never_a_pair_without_a_face(pipeline, faces):
    unsure = withholding(pipeline, 1e6)
    black = np.zeros((150, 90, 3), np.uint8)
    pairs = [(faces[0], faces[1]), (faces[0], faces[1]), (faces[2], black)]
    answers = unsure.verify_many(pairs, cannot_say=[True, False, True])
    codes = [answer.code for answer in answers]
    assert codes[0] == "cannot_say" != codes[1] and codes[2] == "no_face_in_photo_b"
    verifier = replace(unsure.verifier, at_fmr={"fmr=0.1": 0.0})
    named = replace(unsure, verifiers={unsure.chosen: verifier})
    with pytest.raises(ConfigError, match="trained by an older version"):
        named.verify_many(pairs[:1], ["fmr=0.1"], [True])


def test_verify_raises_when_run_has_no_rule_for_cannot_say(pipeline, photos):
    older = replace(pipeline.verifier, abstention=None)
    pipeline = replace(pipeline, verifiers={pipeline.chosen: older})
    assert pipeline.verify(*photos[:2]).score
    with pytest.raises(ConfigError, match="trained by an older version"):
        pipeline.verify(*photos[:2], cannot_say=True)


def test_score_pairs_never_withholds(pipeline, photos):
    pairs = listed(*zip(photos[:4], photos[4:], strict=True))
    expected, _ = pipeline.score_pairs(pairs)
    scored, _ = withholding(pipeline, 1e6).score_pairs(pairs)
    assert np.array_equal(scored["score"], expected["score"])


def test_verify_many_answers_each_pair_as_alone(pipeline, faces):
    black = np.zeros((150, 90, 3), np.uint8)
    pairs = [(faces[0], faces[1]), (faces[2], black), (faces[0][:, 20:], faces[3])]
    together = pipeline.verify_many(pairs)
    for pair, answer in zip(pairs, together, strict=True):
        (alone,) = pipeline.verify_many([pair])
        assert (answer.code, answer.status) == (alone.code, alone.status)
        assert answer.score == pytest.approx(alone.score, abs=1e-5)
        assert np.allclose(answer.boxes, alone.boxes, atol=1e-3)
    assert pipeline.verify_many([]) == []


def test_inspect_uses_the_detector_alone(pipeline, faces, monkeypatch):
    expected = pipeline.verify_many([(faces[0], faces[1])])[0].photos
    monkeypatch.setattr(pipeline.extractor.recogniser, "outputs", None)
    for photo, other in zip(pipeline.inspect(faces[:2]), expected, strict=True):
        assert photo.log_odds == pytest.approx(other.log_odds, abs=1e-5)
        assert replace(photo, log_odds=0, synthetic_probability=0) == replace(
            other, log_odds=0, synthetic_probability=0
        )
    assert pipeline.inspect([]) == []


def test_verify_agrees_with_score_pairs(pipeline, photos):
    scored, _ = pipeline.score_pairs(listed(photos[:2]))
    expected = pipeline.verify(photos[0], photos[1]).score
    assert scored["score"][0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "where"),
    [(1, 0, "the first photo"), (0, 1, "the second photo"), (1, 1, "either photo")],
)
def test_verify_refuses_at_any_threshold_when_a_face_is_missing(
    pipeline, photos, black, first, second, where
):
    paths = [[photos[0], black][first], [photos[0], black][second]]
    lowest = replace(pipeline.verifier, threshold=-1e6)
    tolerant = replace(pipeline, verifiers={**pipeline.verifiers, pipeline.chosen: lowest})
    answer = tolerant.verify(*paths)
    assert not answer.accepted and answer.score == REFUSED
    assert answer.reason == f"refused: no face found in {where}" and answer.parts is None
    assert (
        answer.code
        == {
            (1, 0): "no_face_in_photo_a",
            (0, 1): "no_face_in_photo_b",
            (1, 1): "no_face_in_either_photo",
        }[first, second]
    )
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


def test_verify_references_is_verify_to_the_bit_when_there_is_one(pipeline, photos):
    expected = pipeline.verify(photos[0], photos[1])
    answer = pipeline.verify_references(photos[0], [photos[1]])
    assert replace(answer, seconds=0) == replace(expected, seconds=0)


def test_verify_references_answers_whatever_their_order(pipeline, photos):
    answer = pipeline.verify_references(photos[0], photos[1:7])
    moved = pipeline.verify_references(photos[0], photos[6:0:-1])
    assert answer.score == pytest.approx(moved.score, abs=1e-4)
    assert answer.threshold == 0.2 and answer.seconds > 0
    assert answer.accepted == (answer.score >= 0.2) and len(answer.photos) == 7
    assert answer.status[1:] == moved.status[:0:-1] and len(answer.boxes) == 7
    assert answer.similarity == pytest.approx(moved.similarity, abs=1e-5)


def test_verify_references_leaves_out_references_without_a_face(pipeline, photos, black):
    expected = pipeline.verify_references(photos[0], photos[1:3])
    answer = pipeline.verify_references(photos[0], [photos[1], black, photos[2]])
    assert answer.score == pytest.approx(expected.score, abs=1e-5)
    assert [photo.status == CENTRE_CROP for photo in answer.photos] == [False, False, True, False]
    for probe, references, code, words in (
        (photos[0], [black, black], "no_face_in_photo_b", "no face found in any reference"),
        (black, photos[1:3], "no_face_in_photo_a", "no face found in the probe"),
    ):
        refused = pipeline.verify_references(probe, references)
        assert (refused.code, refused.reason) == (code, f"refused: {words}")
        assert refused.score == REFUSED and not refused.accepted and refused.parts is None


def test_verify_references_counts_a_reference_once_when_it_comes_twice(pipeline, photos):
    expected = pipeline.verify_references(photos[0], photos[1:3])
    answer = pipeline.verify_references(photos[0], [photos[1], photos[2], photos[1]])
    assert answer.score == pytest.approx(expected.score, abs=1e-4)
    assert answer.threshold == expected.threshold and len(answer.photos) == 4


def test_verify_references_raises_when_run_is_not_calibrated_for_several(pipeline, photos):
    older = replace(pipeline, several={})
    assert older.verify_references(photos[0], photos[1:2]).score
    with pytest.raises(ConfigError, match="not calibrated for several references"):
        older.verify_references(photos[0], photos[1:3])
    with pytest.raises(ConfigError, match="at least one reference"):
        pipeline.verify_references(photos[0], [])
    with pytest.raises(ConfigError, match="unknown threshold"):
        pipeline.verify_references(photos[0], photos[1:3], threshold="fmr=0.1")


def test_verify_enrolled_answers_each_claim_as_alone(pipeline, faces):
    enrolled = [pipeline.enrol(faces[1:4]), pipeline.enrol(faces[4:5])]
    assert [references.count for references in enrolled] == [3, 1]
    claims = [(faces[0], enrolled[0]), (faces[7], enrolled[1]), (faces[7], enrolled[0])]
    for claim, answer in zip(claims, pipeline.verify_enrolled(claims), strict=True):
        (alone,) = pipeline.verify_enrolled([claim])
        assert answer.code == alone.code and answer.threshold == alone.threshold
        assert answer.score == pytest.approx(alone.score, abs=1e-5)
    (single,) = pipeline.verify_many([(faces[7], faces[4])])
    assert pipeline.verify_enrolled(claims)[1].score == pytest.approx(single.score, abs=1e-5)
    assert pipeline.verify_enrolled([]) == []


def test_explain_agrees_with_verify_and_words_its_likelihood_ratio(pipeline, photos):
    explained, answer = pipeline.explain(*photos[:2]), pipeline.verify(*photos[:2])
    assert explained.answer == replace(answer, seconds=explained.answer.seconds)
    assert explained.llr == pytest.approx(answer.score)  # as the fusion `llr` defines its score
    assert explained.support == in_words(explained.llr)
    assert explained.degree == degree_of(explained.llr)


def test_explain_names_the_photo_of_the_higher_log_odds_when_a_forgery_is_refused(pipeline, photos):
    refusing = replace(pipeline.verifier, threshold=1e6)
    fuser = replace(refusing.fuser, identity_intercept=100.0)  # surely one person
    refusing = replace(refusing, fuser=fuser)
    strict = replace(pipeline, verifiers={pipeline.chosen: refusing})
    explained = strict.explain(*photos[:2])
    odds = [photo.log_odds for photo in explained.answer.photos]
    assert explained.photo == int(np.argmax(odds))
    assert explained.branch in ("detector", "similarity", "differential_detector")


def test_explain_states_no_likelihood_ratio_when_a_face_is_missing(pipeline, photos, black):
    explained = pipeline.explain(photos[0], black)
    assert (explained.photo, explained.branch) == (None, None)
    assert (explained.llr, explained.degree, explained.support) == (None, None, None)


def test_explain_states_no_likelihood_ratio_when_the_fusion_is_not_calibrated(pipeline, photos):
    plain = replace(pipeline, chosen="none").explain(*photos[:2])
    assert (plain.llr, plain.support, plain.branch) == (None, None, None)
