"""Likelihood ratios in words, by the scale of forensic science."""

import math

SCALE = "ENFSI Guideline for Evaluative Reporting in Forensic Science, 2015"

# Lowest likelihood ratio of each degree of support, as the guideline's example has them.
_DEGREES = (
    (1e6, "extremely strong support"),
    (1e4, "very strong support"),
    (1e3, "strong support"),
    (1e2, "moderately strong support"),
    (1e1, "moderate support"),
    (2.0, "weak support"),
)
_GENUINE = "both photos are genuine and show one person"
_OTHERWISE = "the photos show different people or one of them is generated"


def in_words(llr: float) -> str:
    """Words a natural-log likelihood ratio that a pair is to be accepted.

    Below 1 the ratio's inverse is worded, as support for the other proposition. Between 1/2 and 2
    the scale knows no support either way.
    """
    for least, degree in _DEGREES:
        if abs(llr) >= math.log(least):
            return f"{degree} for: {_GENUINE if llr > 0 else _OTHERWISE}"
    return "no support for either proposition"
