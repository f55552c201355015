"""A gate around a matcher: the fused ratio of its similarity and the run's evidence."""

import numpy as np
import pandas as pd
import pytest

from kryptonite.core.errors import ConfigError, DataError
from kryptonite.fusion.calibration import Calibration
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.matcher import CalibratedFuser
from kryptonite.inference.gate import MatcherGate


@pytest.fixture
def gate(pipeline):
    fuser = CalibratedFuser(pipeline.verifiers["multinomial"].fuser, Calibration(2.0, 0.5))
    return MatcherGate(pipeline, fuser, {"fmr=0.01": 5.0, "eer": -500.0})


@pytest.fixture
def photos(tmp_path, faces, save):
    return [str(save(tmp_path / f"{name}.png", faces[place])) for place, name in enumerate("ab")]


def test_score_is_the_fuser_s_ratio_with_the_matcher_s_similarity(gate, photos):
    answer = gate.score(0.7, *photos)
    own = gate.pipeline.verify(*photos)
    odds = [np.log(each / (1 - each)) for each in own.synthetic_probability]
    evidence = Evidence([0.7], odds[:1], odds[1:], [own.comparison])
    expected = 2 * gate.fuser.fuser.combine(evidence)[0] + 0.5
    assert answer.llr == pytest.approx(expected, abs=1e-4)
    assert gate.score(0.9, *photos).llr != answer.llr
    assert answer.similarity == 0.7 and answer.comparison == pytest.approx(own.comparison)
    assert answer.synthetic_probability == pytest.approx(own.synthetic_probability)


def test_score_decides_at_the_first_threshold_or_the_named_one(gate, photos):
    strict, loose = gate.score(0.5, *photos), gate.score(0.5, *photos, threshold="eer")
    assert (strict.threshold, loose.threshold) == (5.0, -500.0)
    assert strict.accepted == (strict.llr >= 5.0) and loose.accepted
    assert loose.reason == "accepted"
    with pytest.raises(ConfigError, match=r"'fmr=1'; choose from fmr=0\.01, eer"):
        gate.score(0.5, *photos, threshold="fmr=1")


def test_score_refuses_at_every_threshold_when_no_face_is_found(gate, photos, tmp_path, save):
    blank = str(save(tmp_path / "blank.png", np.full((90, 90, 3), 127, np.uint8)))
    answer = gate.score(9.0, photos[0], blank, threshold="eer")
    assert answer.llr is None and not answer.accepted
    assert answer.reason == "refused: no face found in the second photo"
    both = gate.score(9.0, blank, blank)
    assert both.reason == "refused: no face found in either photo"
    codes = [each.code for each in (answer, both)]
    assert codes == ["no_face_in_photo_b", "no_face_in_either_photo"]


def test_score_many_scores_as_each_pair_alone(gate, photos, faces):
    first, second, blank = faces[0], faces[1], np.full((90, 90, 3), 127, np.uint8)
    pairs, similarities = [(first, second), (first, blank), (second, first)], [0.7, 0.7, 0.2]
    answers = gate.score_many(similarities, pairs, ["fmr=0.01", "fmr=0.01", "eer"])
    alone = gate.score(0.7, *photos), gate.score(0.2, *photos[::-1], threshold="eer")
    assert answers[0].llr == pytest.approx(alone[0].llr, abs=1e-4)
    assert answers[2].llr == pytest.approx(alone[1].llr, abs=1e-4) and answers[2].accepted
    assert (answers[1].llr, answers[1].code) == (None, "no_face_in_photo_b")
    assert [each.threshold_name for each in answers] == ["fmr=0.01", "fmr=0.01", "eer"]
    assert gate.score_many([], [], []) == []


def test_score_raises_when_similarity_is_not_finite(gate, photos):
    with pytest.raises(DataError, match="similarity of pair 0 is not finite"):
        gate.score(float("nan"), *photos)


def test_score_pairs_gives_the_same_ratios_and_nan_without_a_face(gate, photos, tmp_path, save):
    blank = str(save(tmp_path / "blank.png", np.full((90, 90, 3), 127, np.uint8)))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"broken")
    pairs = pd.DataFrame(
        {
            "path_a": photos[:1] * 3,
            "path_b": [photos[1], blank, str(broken)],
            "similarity": [0.7, 0.7, 0.7],
        }
    )
    llrs = gate.score_pairs(pairs)
    assert llrs[0] == pytest.approx(gate.score(0.7, *photos).llr, abs=1e-3)
    assert np.isnan(llrs[1:]).all()
