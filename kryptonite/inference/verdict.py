"""Why a pair is accepted or refused: one code, and the same in words."""

from collections.abc import Mapping, Sequence

import numpy as np

from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import Fuser

ACCEPTED = "accepted"
DIFFERENT_PEOPLE = "different_people"
PHOTOS_DISAGREE = "photos_disagree"

REASONS = {
    ACCEPTED: "accepted",
    DIFFERENT_PEOPLE: "refused: different people",
    "photo_a_looks_generated": "refused: the first photo looks generated",
    "photo_b_looks_generated": "refused: the second photo looks generated",
    "both_photos_look_generated": "refused: both photos look generated",
    PHOTOS_DISAGREE: "refused: the photos disagree as a genuine photo and a forgery do",
    "no_face_in_photo_a": "refused: no face found in the first photo",
    "no_face_in_photo_b": "refused: no face found in the second photo",
    "no_face_in_either_photo": "refused: no face found in either photo",
}

# Neither: the decision is too uncertain, and was withheld as asked.
CANNOT_SAY = "cannot_say"
REASON_OF_CANNOT_SAY = "cannot say: neither decision is certain enough"

OF_FORGERIES = (
    "photo_a_looks_generated",
    "photo_b_looks_generated",
    "both_photos_look_generated",
    PHOTOS_DISAGREE,
)

# The reasons for a probe, which takes the place of the first photo, and its references.
REASONS_OF_REFERENCES = {
    **REASONS,
    "photo_a_looks_generated": "refused: the probe looks generated",
    "photo_b_looks_generated": "refused: all references look generated",
    "both_photos_look_generated": "refused: the probe and all references look generated",
    PHOTOS_DISAGREE: "refused: the probe disagrees with the references as a forgery does",
    "no_face_in_photo_a": "refused: no face found in the probe",
    "no_face_in_photo_b": "refused: no face found in any reference",
    "no_face_in_either_photo": "refused: no face found in the probe or any reference",
}

# The reasons of a gate, which weighs two genuine photos of one person against all else together.
BELOW_THRESHOLD = "below_threshold"
REASONS_OF_GATE = {
    ACCEPTED: REASONS[ACCEPTED],
    BELOW_THRESHOLD: "refused: the ratio is below the threshold",
    **{code: reason for code, reason in REASONS.items() if code.startswith("no_face_")},
}


def code_of_missing(missing: Sequence[bool]) -> str | None:
    """Gives the code of a pair that lacks a face; None if both photos show one.

    Args:
        missing: Whether no face was found in the first and in the second photo.
    """
    if not any(missing):
        return None
    first, second = missing
    return f"no_face_in_{_which(first, second, both='either_photo')}"


def code_of_refusal(fuser: Fuser, evidence: Evidence) -> str:
    """Explains the refusal of a pair whose faces were found.

    The more probable explanation by the fusion (`Fuser.forgery`) decides between different people
    and a forgery. A forgery is laid to the single photos unless the similarity and the differential
    detector together speak more clearly against the pair than the detector. Of the photos, the one
    with the higher log-odds of 'synthetic' looks generated; both do if both are more probably
    synthetic than not, or if none has the higher, as with one photo given twice.

    Args:
        fuser: Has refused the pair.
        evidence: One pair.

    Returns:
        A key of `REASONS`.
    """
    if fuser.forgery(evidence)[0] <= 0:
        return DIFFERENT_PEOPLE
    parts = fuser.parts(evidence)
    if parts and (parts.similarity + parts.differential_detector)[0] < min(parts.detector[0], 0):
        return PHOTOS_DISAGREE
    odds = np.array([evidence.log_odds_a[0], evidence.log_odds_b[0]])
    first, second = (odds > 0) if (odds > 0).all() else (odds == odds.max())
    which = _which(first, second, both="both_photos")
    return f"{which}_look_generated" if which == "both_photos" else f"{which}_looks_generated"


def branch_of_refusal(code: str, parts: Mapping[str, float]) -> str | None:
    """Names the branch that lowered a refused pair's score most.

    Args:
        code: A key of `REASONS`.
        parts: What each branch says, by the names of `fusers.Parts`; empty without parts.

    Returns:
        A name of `parts`; None for accepted pairs, without a face or without parts.
    """
    if code == DIFFERENT_PEOPLE and parts:
        return "recognition"
    if code not in OF_FORGERIES or not parts:
        return None
    return min((name for name in parts if name != "recognition"), key=parts.__getitem__)


def photo_of_refusal(code: str, log_odds: Sequence[float]) -> int | None:
    """Names the photo that lowered a refused pair's score: the one that looks more generated.

    Args:
        code: A key of `REASONS`.
        log_odds: Log-odds of 'synthetic' of both photos.

    Returns:
        0 or 1; None unless the pair is refused as a forgery, and where both look alike.
    """
    first, second = log_odds
    if code not in OF_FORGERIES or first == second:
        return None
    return int(second > first)


def _which(first: bool, second: bool, both: str) -> str:
    return both if first and second else "photo_a" if first else "photo_b"
