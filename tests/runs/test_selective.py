"""Decisions on assessed pairs with their certainty, refitted where the run has seen the images."""

from dataclasses import replace

import numpy as np
import pytest

from kryptonite.fusion.abstention import fit_abstention
from kryptonite.fusion.fusers import fit_fuser
from kryptonite.fusion.verifier import STORED, Verifier
from kryptonite.runs.assess import assess
from kryptonite.runs.run_dir import RunDir
from kryptonite.runs.selective import _Refit, decide_selectively
from tests.fusion.population import draw


@pytest.mark.slow
def test_decide_selectively_takes_the_stored_rule_when_images_are_new(pipeline, run, face_pairs):
    assessment = assess(pipeline, RunDir(run), face_pairs)
    decisions = decide_selectively(pipeline, RunDir(run), assessment)
    found = assessment.scored.pairs["acquired"].to_numpy()
    assert 0 < (~found).sum() < len(found)
    score = assessment.scored.scores["llr"][found]
    assert np.array_equal(decisions.accepted, score >= 0.1)
    assert np.array_equal(decisions.surplus, pipeline.verifier.surplus(score, STORED))
    assert decisions.share == 0.25
    older = replace(pipeline.verifier, abstention=None)
    pipeline = replace(pipeline, verifiers={**pipeline.verifiers, "llr": older})
    assert decide_selectively(pipeline, RunDir(run), assessment) is None


@pytest.mark.slow
def test_decide_selectively_refits_the_rule_when_run_has_seen_the_images(pipeline, run, face_pairs):
    seen = replace(assess(pipeline, RunDir(run), face_pairs), seen={"train": 0, "val": 1})
    decisions = decide_selectively(pipeline, RunDir(run), seen)
    score = seen.scored.scores["llr"][seen.scored.pairs["acquired"]]
    assert np.isfinite(decisions.surplus).all()
    assert not np.allclose(decisions.surplus, pipeline.verifier.surplus(score, STORED))


def test_refit_withholds_the_share_of_the_rule_of_other_people_and_keeps_the_guard():
    pairs, others = draw(), draw(seed=1)
    fuser = replace(fit_fuser("llr", pairs.evidence, pairs.kind), rho=0.01)
    score = fuser.score(pairs.evidence)
    rule = fit_abstention(pairs.kind, score, {STORED: 1.0}, 0.3)
    refitted = _Refit(Verifier(fuser, 1.0, abstention=rule))(pairs.evidence, pairs.kind)
    assert refitted.verifier.fuser == fuser and refitted.verifier.abstention == rule
    assert (refitted.score(others.evidence) < 0).mean() == pytest.approx(0.3, abs=0.02)
