"""The colours of the course: apart for every reader's eyes, and readable where they are words."""

import itertools

import numpy as np
import pytest
from colours import LEAST_CONTRAST, SEEN_BY, contrast, lab

from quantlab_helpers import style

LEAST_DISTANCE = 10  # in CIELAB


@pytest.mark.parametrize("readers", SEEN_BY)
def test_colours_stay_apart(readers):
    for first, second in itertools.combinations((*style.SERIES, style.ORIGINAL, style.FAINT, style.PAPER), 2):
        distance = np.linalg.norm(lab(first, readers) - lab(second, readers))
        assert distance >= LEAST_DISTANCE, (first, second, distance)


@pytest.mark.parametrize("name", ["INK", "ORIGINAL", "QUANTIZED", "ERROR", "GOOD"])
def test_colours_of_words_are_readable_on_our_paper(name):
    assert contrast(getattr(style, name), style.PAPER) >= LEAST_CONTRAST


def test_distances_and_contrasts_are_those_of_the_standards():
    np.testing.assert_allclose(lab("#ff0000", "everyone else"), (53.24, 80.09, 67.20), atol=0.05)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
    # Red and green of one lightness: the same to a deuteranope, as far as the model goes, and not to others.
    apart = {who: np.linalg.norm(lab("#c04000", who) - lab("#708000", who)) for who in SEEN_BY}
    assert apart["deuteranopes"] < apart["everyone else"] / 3
