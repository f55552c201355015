"""The verbal scale: its borders, and both directions."""

import math

import pytest

from kryptonite.fusion.verbal import DEGREES, degree_of, in_words


@pytest.mark.parametrize(
    ("ratio", "degree"),
    [
        (2, "weak support"),
        (9.99, "weak support"),
        (10, "moderate support"),
        (100, "moderately strong support"),
        (1_000, "strong support"),
        (10_000, "very strong support"),
        (999_000, "very strong support"),
        (1_000_000, "extremely strong support"),
    ],
)
def test_in_words_takes_the_degree_of_the_ratio_or_of_its_inverse(ratio, degree):
    genuine, otherwise = in_words(math.log(ratio)), in_words(-math.log(ratio))
    assert genuine == f"{degree} for: both photos are genuine and show one person"
    assert otherwise.startswith(f"{degree} for: the photos show different people or")
    name = degree.removesuffix(" support").replace(" ", "_")
    assert degree_of(math.log(ratio)) == degree_of(-math.log(ratio)) == name in DEGREES


@pytest.mark.parametrize("ratio", [0.51, 1, 1.99])
def test_in_words_supports_neither_when_the_ratio_is_near_one(ratio):
    assert in_words(math.log(ratio)) == "no support for either proposition"
    assert degree_of(math.log(ratio)) == "none" in DEGREES
