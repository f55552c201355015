import json
from dataclasses import replace

import numpy as np
import pytest

from kryptonite.core.errors import ConfigError, DataError
from kryptonite.fusion.abstention import fit_abstention
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import FUSERS, fit_fuser
from kryptonite.fusion.verifier import Verifier, load_verifiers, save_verifiers
from tests.fusion.population import draw


@pytest.mark.parametrize("name", FUSERS)
def test_load_verifiers_gives_same_scores_to_the_bit(name, tmp_path):
    pairs = draw()
    fuser = fit_fuser(name, pairs.evidence, pairs.kind)
    score = fuser.score(pairs.evidence)
    assert score.dtype == np.float32 and np.isfinite(score).all()
    save_verifiers(tmp_path / "fusion.json", name, {name: Verifier(fuser, 0.25)})
    chosen, verifiers = load_verifiers(tmp_path / "fusion.json")
    assert chosen == name and list(verifiers) == [name]
    assert verifiers[name].threshold == 0.25
    assert np.array_equal(verifiers[name].fuser.score(pairs.evidence), score)
    swapped = Evidence(pairs.similarity, pairs.log_odds_b, pairs.log_odds_a)
    assert np.array_equal(fuser.score(swapped), score)  # the order of images does not matter


def test_load_verifiers_offers_the_named_thresholds(tmp_path):
    alone = fit_fuser("none", draw(100).evidence, draw(100).kind)
    verifier = Verifier(alone, 0.5, {"fmr=0.1": 0.4, "fmr=0.01": 0.6})
    save_verifiers(tmp_path / "fusion.json", "none", {"none": verifier})
    _, loaded = load_verifiers(tmp_path / "fusion.json")
    assert loaded["none"] == verifier
    assert verifier.thresholds == {"stored": 0.5, "fmr=0.1": 0.4, "fmr=0.01": 0.6}
    assert (verifier.named("stored"), verifier.named("fmr=0.01")) == (0.5, 0.6)
    with pytest.raises(ConfigError, match=r"'fmr=0\.2'; this run has stored, fmr=0\.1"):
        verifier.named("fmr=0.2")


def test_load_verifiers_keeps_which_decisions_are_withheld(tmp_path):
    pairs = draw(100)
    alone = fit_fuser("none", pairs.evidence, pairs.kind)
    verifier = Verifier(alone, 0.5, {"fmr=0.1": 0.4})
    rule = fit_abstention(pairs.kind, alone.score(pairs.evidence), verifier.thresholds, 0.2)
    verifier = replace(verifier, abstention=rule)
    save_verifiers(tmp_path / "fusion.json", "none", {"none": verifier})
    _, loaded = load_verifiers(tmp_path / "fusion.json")
    assert loaded["none"] == verifier and set(rule.least) == {"stored", "fmr=0.1"}


def test_load_verifiers_offers_the_stored_threshold_alone_when_file_is_older(tmp_path):
    fusers = {"none": {"parameters": {}, "threshold": 0.5}}
    (tmp_path / "fusion.json").write_text(json.dumps({"chosen": "none", "fusers": fusers}))
    _, loaded = load_verifiers(tmp_path / "fusion.json")
    assert loaded["none"].thresholds == {"stored": 0.5}
    assert loaded["none"].abstention is None


@pytest.mark.parametrize(
    "content",
    [
        "{",
        json.dumps({"chosen": "llr", "fusers": {}}),
        json.dumps({"chosen": "none", "fusers": {"magic": {"parameters": {}, "threshold": 0}}}),
        json.dumps({"chosen": "none", "fusers": {"none": {"parameters": {"x": 1}}}}),
        '{"chosen": "none", "fusers": {"none": {"parameters": {}, "threshold": NaN}}}',
        '{"chosen": "none", "fusers": {"none": {"parameters": {}, "threshold": 1%s}}}'
        % ("0" * 400),
        '{"chosen": "none", "fusers": {"none": {"parameters": {}, "threshold": [0.5]}}}',
        '{"chosen": "gate", "fusers": {"gate": {"parameters": {"identity_slope": 1, '
        '"identity_intercept": 0, "genuine_slope": 1, "genuine_intercept": Infinity}, '
        '"threshold": 0}}}',
        json.dumps(
            {
                "chosen": "none",
                "fusers": {"none": {"parameters": {}, "threshold": 0, "at_fmr": [0.1]}},
            }
        ),
        json.dumps(
            {
                "chosen": "none",
                "fusers": {"none": {"parameters": {}, "threshold": 0, "cannot_say": 0.2}},
            }
        ),
    ],
)
def test_load_verifiers_raises_when_file_is_malformed(content, tmp_path):
    (tmp_path / "fusion.json").write_text(content)
    with pytest.raises(DataError, match=r"fusion\.json: not a fusion file"):
        load_verifiers(tmp_path / "fusion.json")


def test_load_verifiers_raises_when_file_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"fusion\.json"):
        load_verifiers(tmp_path / "fusion.json")
