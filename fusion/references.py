"""Several references of one person: pooled into the evidence on a pair, calibrated by their number.

The references are photos that somebody vouches for. One in five may be a forgery all the same:
those that agree least with the others are left out before anything is averaged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kryptonite.core.errors import ConfigError
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import fit_fuser
from kryptonite.fusion.guard import GenuinePairs, guarded_as, named_thresholds, threshold_at_fmr
from kryptonite.fusion.verifier import STORED, Verifier

MOST = 10  # references that a calibration is fitted for; more are calibrated like so many
ONE_IN = 5  # references of which one is left out


@dataclass(frozen=True)
class Trials:
    """N probes, each with the claim to be the person on several references.

    Args:
        evidence: Maps numbers of references, from 1, to the pooled evidence on those trials that
            have so many.
        chosen: Maps the same numbers to N bool: which trials these are. Who has more references
            has fewer, too.
        kind: N of 'same', 'different', 'synthetic'.
    """

    evidence: Mapping[int, Evidence]
    chosen: Mapping[int, np.ndarray]
    kind: np.ndarray


def kept(mutual: np.ndarray) -> np.ndarray:
    """Leaves out one reference in five: those that agree least with the others on average.

    Args:
        mutual: N×M×M, how well the references of each of N sets agree; the diagonal does not count.

    Returns:
        N×M bool, the references that remain.
    """
    count = mutual.shape[1]
    agreement = (mutual * ~np.eye(count, dtype=bool)).sum(2)
    keep = np.ones(agreement.shape, bool)
    worst = np.argsort(agreement, 1, kind="stable")[:, : count // ONE_IN]
    np.put_along_axis(keep, worst, False, 1)
    return keep


def mean_of(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Averages N×M values over the references that remain: N."""
    return (values * keep).sum(1) / keep.sum(1)


def mean_agreement(mutual: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Averages N×M×M values over the pairs of references that remain: N; 0 where there is none."""
    pairs = keep[:, :, None] & keep[:, None, :] & ~np.eye(mutual.shape[1], dtype=bool)
    return (mutual * pairs).sum((1, 2)) / np.maximum(pairs.sum((1, 2)), 1)


def fit_references(verifier: Verifier, trials: Trials, fmr: float) -> dict[int, Verifier]:
    """Calibrates a verifier for every number of references above one.

    Each fit keeps the weight that the guard gave to the spoof evidence. Thresholds are those of the
    verifier, or higher where the trials' false match rate asks for it. They do not fall: several
    references lower the score of non-mated trials so far that thresholds at the same false match
    rate would accept more forgeries than one reference does.

    Args:
        verifier: Fitted on pairs.
        trials: Of validation people.
        fmr: False match rate of the stored threshold, 0..1.
    """
    fitted = {}
    for count in sorted(trials.evidence.keys() - {1}):
        evidence, kind = trials.evidence[count], trials.kind[trials.chosen[count]]
        fuser = guarded_as(verifier.fuser, fit_fuser(verifier.fuser.name, evidence, kind))
        mated, non_mated = (
            evidence.rows(evidence.acquired & (kind == each)) for each in ("same", "different")
        )
        sources = [GenuinePairs(mated, non_mated)]
        asked = {
            STORED: threshold_at_fmr(fuser, sources, fmr),
            **named_thresholds(fuser, sources),
        }
        limits = {
            name: max(value, asked[name])
            for name, value in verifier.thresholds.items()
            if name in asked
        }
        fitted[count] = Verifier(fuser, limits.pop(STORED), limits)
    return fitted


def verifier_of(count: int, single: Verifier, several: Mapping[int, Verifier]) -> Verifier:
    """Looks up the verifier for a number of references.

    Args:
        count: At least 1.
        single: The verifier of pairs.
        several: What `fit_references` returned, or nothing.

    Raises:
        ConfigError: There is none for several references.
    """
    if count == 1:
        return single
    if not several:
        raise ConfigError(
            "this run is not calibrated for several references: it was trained by an older "
            "version, or too few validation people have three photos; `python train.py` with the "
            "run's settings fits its fusion again"
        )
    return several[max(min(count, max(several)), min(several))]
