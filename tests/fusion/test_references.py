"""Several references: which are left out, and what their number changes."""

from dataclasses import replace

import numpy as np
import pytest

from kryptonite.core.errors import ConfigError
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import fit_fuser
from kryptonite.fusion.references import (
    Trials,
    fit_references,
    kept,
    mean_agreement,
    mean_of,
    verifier_of,
)
from kryptonite.fusion.verifier import Verifier, load_origin, load_several, save_verifiers
from kryptonite.metrics.error_rates import pair_metrics


def symmetric(count, sets=20, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(sets, count, count))
    return drawn + drawn.transpose(0, 2, 1)


def test_kept_keeps_every_reference_when_there_are_fewer_than_five():
    for count in range(1, 5):
        assert kept(symmetric(count)).all()


@pytest.mark.parametrize("count", [5, 9, 10])
def test_kept_leaves_out_those_that_agree_least(count):
    mutual = symmetric(count)
    keep = kept(mutual)
    for one, chosen in zip(mutual, keep, strict=True):
        agreement = [sum(one[j, i] for i in range(count) if i != j) for j in range(count)]
        assert set(np.flatnonzero(~chosen)) == set(np.argsort(agreement)[: count // 5])


def test_kept_and_means_do_not_depend_on_the_order_of_references():
    mutual, values = symmetric(7), np.random.default_rng(1).normal(size=(20, 7))
    order = np.random.default_rng(2).permutation(7)
    moved, keep = mutual[:, order][:, :, order], kept(mutual)
    assert np.array_equal(kept(moved), keep[:, order])
    assert np.allclose(mean_of(values[:, order], keep[:, order]), mean_of(values, keep))
    assert np.allclose(mean_agreement(moved, keep[:, order]), mean_agreement(mutual, keep))


def test_mean_agreement_averages_pairs_of_kept_references():
    mutual, keep = symmetric(3, sets=1), np.array([[True, False, True]])
    assert mean_agreement(mutual, keep) == pytest.approx([mutual[0, 0, 2]])
    assert mean_agreement(symmetric(1), np.ones((20, 1), bool)).tolist() == [0] * 20


def trials(counts=(1, 3, 10), number=3000, seed=0):
    """Trials of a known population: the mean of n references has noise of 1/√n."""
    generator = np.random.default_rng(seed)
    kind = generator.choice(["same", "different", "synthetic"], number, p=[0.4, 0.4, 0.2])
    person = generator.normal(0, 2, number)  # how easily this person's photos agree
    evidence = {}
    for count in counts:
        noise = generator.normal(0, 1 / np.sqrt(count), (2, number))
        evidence[count] = Evidence(
            0.2 * ((kind != "different") + noise[0] / 2),
            generator.normal(np.where(kind == "synthetic", 1, -1), 1.5),
            np.full(number, -9.0),
            person + np.where(kind == "same", 1, -1) + noise[1],
            agreement=person if count > 1 else None,
        )
    return Trials(evidence, dict.fromkeys(counts, np.ones(number, bool)), kind)


@pytest.fixture(scope="module")
def fitted():
    drawn = trials()
    fuser = replace(fit_fuser("llr", drawn.evidence[1], drawn.kind), rho=0.1)
    single = Verifier(fuser, 0.7, {"fmr=0.1": -0.5, "fmr=0.01": 5.0})
    return drawn, single, fit_references(single, drawn, 0.01)


def test_fit_references_calibrates_each_number_of_references(fitted):
    """On other trials of the same population."""
    _, single, several = fitted
    assert list(several) == [3, 10]
    slopes = [single.fuser.identity_slope, *(several[n].fuser.identity_slope for n in (3, 10))]
    assert slopes == sorted(slopes) and slopes[-1] > 1.5 * slopes[0]
    for count, verifier in several.items():
        fresh = trials(number=6000, seed=1)
        evidence = fresh.evidence[count]
        bona_fide = fresh.kind != "synthetic"
        llr = verifier.fuser.parts(evidence).recognition
        figures = pair_metrics(fresh.kind[bona_fide], llr[bona_fide], llr=llr[bona_fide])
        assert figures["cllr"] - figures["min_cllr"] < 0.02
        # The scale of one reference is no scale for several.
        other = single.fuser.parts(evidence).recognition[bona_fide]
        assert pair_metrics(fresh.kind[bona_fide], other, llr=other)["cllr"] > figures["cllr"]


def test_fit_references_judges_the_comparison_by_the_references_agreement(fitted):
    drawn, _, several = fitted
    for count, verifier in several.items():
        evidence, fuser = drawn.evidence[count], verifier.fuser
        assert 0 < fuser.genuine_agreement_slope <= 1.2 * fuser.genuine_comparison_slope
        higher = replace(evidence, agreement=evidence.agreement + 1)
        assert (fuser.score(higher) <= fuser.score(evidence)).all()
        own = pair_metrics(drawn.kind, fuser.score(evidence))["spf_eer"]
        blind = replace(evidence, agreement=None)
        without = fit_fuser("llr", blind, drawn.kind).score(blind)
        assert own < 0.8 * pair_metrics(drawn.kind, without)["spf_eer"]


def test_fit_references_keeps_the_guard_and_never_lowers_a_threshold(fitted):
    drawn, single, several = fitted
    for count, verifier in several.items():
        assert verifier.fuser.rho == 0.1
        assert verifier.thresholds.keys() == {"stored", "fmr=0.1", "fmr=0.01"}
        for name, value in verifier.thresholds.items():
            assert value >= single.thresholds[name]
        assert verifier.at_fmr["fmr=0.01"] == 5.0
        different = drawn.evidence[count].rows(drawn.kind == "different")
        scores = verifier.fuser.score(different)
        assert (scores >= verifier.threshold).mean() <= 0.01
        assert (scores >= verifier.at_fmr["fmr=0.1"]).mean() <= 0.1


def test_verifier_of_takes_the_nearest_number_that_is_calibrated():
    single, few, many = (Verifier(None, threshold) for threshold in (1.0, 2.0, 3.0))
    several = {2: few, 3: many}
    found = [verifier_of(count, single, several) for count in (1, 2, 3, 9)]
    assert found == [single, few, many, many]
    assert verifier_of(1, single, {}) == single
    with pytest.raises(ConfigError, match="not calibrated for several references"):
        verifier_of(2, single, {})


def test_load_several_gives_back_what_was_saved(fitted, tmp_path):
    _, single, several = fitted
    path = tmp_path / "fusion.json"
    save_verifiers(path, "llr", {"llr": single}, {"fingerprint": "x"}, several)
    assert load_several(path) == several and load_origin(path) == {"fingerprint": "x"}
    save_verifiers(path, "llr", {"llr": single})
    assert load_several(path) == {}
