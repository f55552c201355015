"""Likelihood ratios in words, by the scale of forensic science."""

import math

SCALE = "ENFSI Guideline for Evaluative Reporting in Forensic Science, 2015"

# Lowest likelihood ratio of each degree of support, as the guideline's example has them.
_DEGREES = {
    "extremely_strong": 1e6,
    "very_strong": 1e4,
    "strong": 1e3,
    "moderately_strong": 1e2,
    "moderate": 1e1,
    "weak": 2.0,
}
NONE = "none"  # between 1/2 and 2 the scale knows no support either way
DEGREES = (*_DEGREES, NONE)
_GENUINE = "both photos are genuine and show one person"
_OTHERWISE = "the photos show different people or one of them is generated"


def degree_of(llr: float) -> str:
    """Gives the degree of support, one of `DEGREES`, of a natural-log likelihood ratio.

    Below 1 it is the degree of the ratio's inverse, as support for the other proposition.
    """
    for degree, least in _DEGREES.items():
        if abs(llr) >= math.log(least):
            return degree
    return NONE


def in_words(llr: float) -> str:
    """Words a natural-log likelihood ratio that a pair is to be accepted."""
    degree = degree_of(llr)
    if degree == NONE:
        return "no support for either proposition"
    return f"{degree.replace('_', ' ')} support for: {_GENUINE if llr > 0 else _OTHERWISE}"
