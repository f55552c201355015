"""Codes and words of an answer."""

import numpy as np
import pytest

from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import DetectorAlone, NonLinearLLR, RecognitionAlone
from kryptonite.inference.verdict import (
    ACCEPTED,
    DIFFERENT_PEOPLE,
    PHOTOS_DISAGREE,
    REASONS,
    branch_of_refusal,
    code_of_missing,
    code_of_refusal,
    photo_of_refusal,
)

FUSER = NonLinearLLR(10.0, -3.0, 1.0, 0.0, 1.0, 0.0, 0.5)


def evidence(similarity=0.9, log_odds_a=-2.0, log_odds_b=-2.0, comparison=0.0):
    return Evidence(
        *(np.array([each]) for each in (similarity, log_odds_a, log_odds_b, comparison))
    )


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ((False, False), None),
        ((True, False), "no_face_in_photo_a"),
        ((False, True), "no_face_in_photo_b"),
        ((True, True), "no_face_in_either_photo"),
    ],
)
def test_code_of_missing_names_the_photos_without_a_face(missing, code):
    assert code_of_missing(missing) == code
    assert code is None or code in REASONS


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (evidence(similarity=0.1), "different_people"),
        # Both: the less likely of the two explanations is not named.
        (evidence(similarity=0.1, log_odds_b=1.0), "different_people"),
        (evidence(similarity=0.1, log_odds_b=5.0), "photo_b_looks_generated"),
        (evidence(log_odds_a=4.0), "photo_a_looks_generated"),
        (evidence(log_odds_b=4.0), "photo_b_looks_generated"),
        (evidence(log_odds_a=4.0, log_odds_b=0.5), "both_photos_look_generated"),
        # Neither is above the point, but the higher one is why.
        (evidence(log_odds_a=-0.5), "photo_a_looks_generated"),
        (evidence(log_odds_a=-0.5, log_odds_b=-0.5), "both_photos_look_generated"),
        (evidence(comparison=-4.0), "photos_disagree"),
        (evidence(log_odds_b=1.0, comparison=-4.0), "photos_disagree"),
        (evidence(log_odds_b=4.0, comparison=-1.0), "photo_b_looks_generated"),
    ],
)
def test_code_of_refusal_gives_the_most_probable_reason(seen, code):
    assert code_of_refusal(FUSER, seen) == code and code in REASONS


def test_code_of_refusal_is_what_the_fusion_looks_at_when_it_has_no_parts():
    forged = evidence(similarity=0.9, log_odds_a=3.0)
    assert code_of_refusal(RecognitionAlone(), forged) == "different_people"
    assert code_of_refusal(DetectorAlone(), forged) == "photo_a_looks_generated"


def test_reasons_say_refused_unless_accepted():
    assert [code for code, text in REASONS.items() if not text.startswith("refused: ")] == [
        "accepted"
    ]


@pytest.mark.parametrize(
    ("code", "branch"),
    [
        (ACCEPTED, None),
        ("no_face_in_photo_a", None),
        (DIFFERENT_PEOPLE, "recognition"),
        ("photo_a_looks_generated", "detector"),
        (PHOTOS_DISAGREE, "detector"),
    ],
)
def test_branch_of_refusal_is_the_lowest_part_of_what_the_pair_was_refused_for(code, branch):
    parts = {"recognition": -9, "detector": -3, "similarity": 1, "differential_detector": -2}
    assert branch_of_refusal(code, parts) == branch
    assert branch_of_refusal(code, {}) is None


@pytest.mark.parametrize("code", [PHOTOS_DISAGREE, "both_photos_look_generated"])
def test_photo_of_refusal_is_the_one_that_looks_more_generated(code):
    assert photo_of_refusal(code, [2.0, 1.0]) == 0
    assert photo_of_refusal(code, [-2.0, -1.0]) == 1
    assert photo_of_refusal(code, [1.0, 1.0]) is None


@pytest.mark.parametrize("code", [ACCEPTED, DIFFERENT_PEOPLE, "no_face_in_either_photo"])
def test_photo_of_refusal_is_none_when_the_pair_is_not_refused_as_a_forgery(code):
    assert photo_of_refusal(code, [2.0, 1.0]) is None
