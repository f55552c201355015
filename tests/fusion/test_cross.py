import numpy as np
import pytest

from kryptonite.core.errors import ConfigError, DataError, MetricError
from kryptonite.fusion.cross import cross_fit
from kryptonite.fusion.evidence import REFUSED, Evidence
from kryptonite.fusion.fusers import FUSERS
from tests.fusion.population import draw


def test_cross_fit_never_scores_by_a_fit_on_the_same_identities(monkeypatch):
    pairs = draw(1500)
    row = np.arange(1500.0)  # replaces the similarity, to tell which pairs were used
    scored = np.zeros(1500, int)

    class Spy:
        def __init__(self, fitted_on):
            self.fitted_on = fitted_on

        def score(self, evidence):
            held, fitted = evidence.similarity.astype(int), self.fitted_on.similarity.astype(int)
            held_out = {*pairs.identity_a[held], *pairs.identity_b[held]}
            assert not held_out & {*pairs.identity_a[fitted], *pairs.identity_b[fitted]}
            scored[held] += 1
            return np.zeros(len(held))

    monkeypatch.setattr("kryptonite.fusion.cross.fit_fuser", lambda name, rows, *_: Spy(rows))
    numbered = Evidence(row, pairs.log_odds_a, pairs.log_odds_b)
    crossed = cross_fit("llr", numbered, pairs.kind, pairs.identity_a, pairs.identity_b, folds=5)
    crossed.score(numbered)
    assert (scored == 1).all()


@pytest.mark.parametrize("name", FUSERS)
def test_cross_fit_refuses_pairs_when_no_face_was_found(name):
    pairs = draw(600)
    found = np.random.default_rng(3).random(600) < 0.8
    wild = [np.where(found, values, 1e6) for values in pairs[:3]]
    evidence = Evidence(*wild, acquired=found)
    crossed = cross_fit(name, evidence, pairs.kind, pairs.identity_a, pairs.identity_b, folds=5)
    score = crossed.score(evidence)
    assert (score[~found] == REFUSED).all() and (score[found] > REFUSED).all()


def test_cross_fit_raises_when_folds_are_too_few():
    pairs = draw(100)
    with pytest.raises(ConfigError, match="3 folds"):
        cross_fit("llr", pairs.evidence, pairs.kind, pairs.identity_a, pairs.identity_b, folds=2)


def test_cross_fit_raises_when_a_fit_lacks_a_kind_of_pair():
    pairs = draw(100)
    one, two = np.full(100, "a"), np.where(pairs.kind == "different", "b", "a")
    with pytest.raises(MetricError, match="more validation identities"):
        cross_fit("llr", pairs.evidence, pairs.kind, one, two, folds=3)


def test_cross_fitted_score_raises_when_number_of_pairs_differs():
    pairs = draw(600)
    crossed = cross_fit("none", pairs.evidence, pairs.kind, pairs.identity_a, pairs.identity_b)
    with pytest.raises(DataError, match="600 pairs, asked to score 599"):
        crossed.score(pairs.evidence.rows(np.arange(599)))
