"""Evidence on a probe and its references, against that on pairs."""

import numpy as np
import pytest

from kryptonite.data.references import ReferenceTrials
from kryptonite.fusion.evidence import EVIDENCE
from kryptonite.inference.evidence import pair_evidence
from kryptonite.inference.extractor import CropFeatures
from kryptonite.inference.references import compare, pool_trials
from kryptonite.recognition.differential.maps import FeatureMaps

COUNT = 14


class Cosines:
    """A differential detector whose score is ten times the cosine of two maps' embeddings."""

    def score(self, maps, a, b):
        return 10 * (maps.embeddings[a] * maps.embeddings[b]).sum(1)


@pytest.fixture
def features():
    """Photos 0..11 of one direction, 12 and 13 of others."""
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(COUNT, 8)).astype(np.float32)
    embeddings[:12] += 3 * np.eye(8, dtype=np.float32)[0]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    empty = np.zeros((COUNT, 1), np.float32)
    maps = FeatureMaps(embeddings[:, ::-1].copy(), empty, empty, (1,))
    return CropFeatures(embeddings, generator.normal(size=COUNT).astype(np.float32), maps)


@pytest.mark.parametrize("differential", [Cosines(), None], ids=["differential", "plain"])
def test_pooled_is_the_evidence_on_the_pair_when_there_is_one_reference(features, differential):
    probe, reference = np.arange(6), np.arange(6, 12)
    pooled = compare(features, differential, probe, reference[:, None]).pooled()
    pair = pair_evidence(features, differential, probe, reference)
    for name in EVIDENCE:
        assert np.array_equal(getattr(pooled, name), pair[name].astype(np.float64)), name
    assert not pooled.agreement.any() and pooled.acquired.all()


def test_pooled_follows_a_loop_over_references(features):
    rows = np.array([3, 5, 7, 9])
    pooled = compare(features, Cosines(), np.array([0]), rows[None]).pooled()
    e, m = features.embeddings, features.maps.embeddings
    centre = np.mean([e[row] for row in rows], 0)
    assert pooled.similarity[0] == pytest.approx(e[0] @ centre / np.linalg.norm(centre), abs=1e-6)
    assert pooled.comparison[0] == pytest.approx(np.mean([10 * m[0] @ m[row] for row in rows]))
    mutual = [10 * m[i] @ m[j] for i in rows for j in rows if i < j]
    assert pooled.agreement[0] == pytest.approx(np.mean(mutual), abs=1e-5)
    assert pooled.log_odds_b[0] == min(features.log_odds[rows])
    assert compare(features, None, np.array([0]), rows[None]).pooled().agreement[0] == 0


def test_pooled_does_not_depend_on_the_order_of_references(features):
    rows = np.arange(1, 12)
    orders = [rows, rows[::-1], np.random.default_rng(3).permutation(rows)]
    first, *others = (
        compare(features, Cosines(), np.array([0]), order[None]).pooled() for order in orders
    )
    for other in others:
        for name in (*EVIDENCE, "agreement"):
            assert getattr(other, name) == pytest.approx(getattr(first, name), abs=1e-5)


@pytest.mark.parametrize("differential", [Cosines(), None], ids=["differential", "plain"])
@pytest.mark.parametrize("place", range(5))
def test_pooled_ignores_one_reference_among_five_that_disagrees(features, differential, place):
    """What the odd one out says of the probe has no effect, even if it is the probe itself."""
    others = np.arange(1, 5)
    expected = compare(features, differential, np.array([12]), others[None]).pooled()
    for odd in (12, 13):
        rows = np.insert(others, place, odd)
        pooled = compare(features, differential, np.array([12]), rows[None]).pooled()
        for name in (*EVIDENCE, "agreement"):
            assert getattr(pooled, name) == pytest.approx(getattr(expected, name), abs=1e-5), name


def test_pool_trials_takes_the_first_references_of_those_that_have_so_many(features):
    references = np.array([[1, 2, 3], [4, 5, -1], [6, 7, 8]])
    drawn = ReferenceTrials(
        np.array([0, 0, 12]), references, np.full(3, -1), np.array(["same"] * 3)
    )
    trials = pool_trials(features, Cosines(), drawn, (1, 2, 3))
    assert [len(trials.evidence[count].similarity) for count in (1, 2, 3)] == [3, 3, 2]
    assert trials.chosen[3].tolist() == [True, False, True]
    for row, (probe, count) in enumerate([(0, 3), (12, 3)]):
        alone = compare(features, Cosines(), np.array([probe]), references[[2 * row]]).pooled()
        for name in (*EVIDENCE, "agreement"):
            value = getattr(trials.evidence[count], name)[row]
            assert value == pytest.approx(getattr(alone, name)[0], abs=1e-6)
