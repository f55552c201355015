"""A calibrated fusion of a foreign similarity: what it ranks, calibrates, refuses and stores."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from kryptonite.core.errors import DataError
from kryptonite.fusion.calibration import fit_calibration
from kryptonite.fusion.cross import cross_fit_by
from kryptonite.fusion.evidence import REFUSED
from kryptonite.fusion.matcher import CalibratedFuser
from kryptonite.metrics.error_rates import pair_metrics
from tests.fusion.population import draw


# Only `llr` is guarded against what the spoof evidence costs genuine pairs.
@pytest.mark.parametrize(("name", "cost"), [("multinomial", 0.03), ("llr", 0.01)])
def test_calibrated_fuser_resists_forgeries_and_is_calibrated_on_other_people(name, cost):
    pairs = draw(seed=1)
    columns = pairs.kind, pairs.identity_a, pairs.identity_b
    # A matcher whose scale is none of this project's.
    evidence = replace(pairs.evidence, similarity=40 * pairs.similarity + 7)
    llr = cross_fit_by(partial(CalibratedFuser.fit, name), evidence, *columns).score(evidence)
    figures = pair_metrics(pairs.kind, llr, llr=llr)
    alone = pair_metrics(pairs.kind, evidence.similarity)
    assert figures["spf_eer"] < 0.5 * alone["spf_eer"]
    assert figures["sv_eer"] <= alone["sv_eer"] + cost
    assert figures["cllr"] - figures["min_cllr"] < 0.03


def test_calibrated_fuser_maps_scores_as_a_calibration_fitted_on_them_says():
    pairs = draw(seed=2)
    fitted = CalibratedFuser.fit("llr", pairs.evidence, pairs.kind)
    raw = fitted.fuser.score(pairs.evidence)
    expected = fit_calibration(pairs.kind == "same", raw)(raw)
    assert fitted.score(pairs.evidence) == pytest.approx(np.maximum(expected, REFUSED + 1))


def test_calibrated_fuser_refuses_pairs_without_a_face_and_learns_nothing_from_them():
    pairs = draw(600, seed=3)
    acquired = np.arange(600) % 10 > 0
    spoilt = np.where(acquired, pairs.similarity, 99.0)
    evidence = replace(pairs.evidence, similarity=spoilt, acquired=acquired)
    fitted = CalibratedFuser.fit("multinomial", evidence, pairs.kind)
    alike = CalibratedFuser.fit("multinomial", pairs.evidence.rows(acquired), pairs.kind[acquired])
    assert fitted == alike
    assert (fitted.score(evidence)[~acquired] == REFUSED).all()
    assert (fitted.score(evidence)[acquired] > REFUSED).all()


def test_calibrated_fuser_scores_the_same_to_the_bit_when_stored_as_json():
    pairs = draw(600, seed=4)
    fitted = CalibratedFuser.fit("multinomial", pairs.evidence, pairs.kind)
    again = CalibratedFuser.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert np.array_equal(again.score(pairs.evidence), fitted.score(pairs.evidence))


@pytest.mark.parametrize("value", [{}, {"name": "x"}, [], {"name": "llr", "parameters": {"a": 1}}])
def test_from_dict_raises_when_the_form_is_another(value):
    with pytest.raises(DataError, match="not a calibrated fuser"):
        CalibratedFuser.from_dict(value)
