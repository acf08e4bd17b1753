"""The exercises of notebook 03: right answers in other styles pass, and what learners type by mistake is understood."""

import math

import numpy as np
import pytest

from quantlab_helpers import exercises

SQNR, NEAREST = exercises.get("sqnr"), exercises.get("nearest_level")


def _by_norms(x, restored):
    error = np.linalg.norm(x - restored)
    return math.inf if error == 0 else 20 * math.log10(np.linalg.norm(x) / error)


def _in_a_loop(x, restored):
    signal = noise = 0.0
    for a, b in zip(x.ravel(), restored.ravel(), strict=True):
        signal += float(a) ** 2
        noise += float(a - b) ** 2
    return float("inf") if noise == 0 else 10 * math.log10(signal / noise)


def _in_float32(x, restored):
    if (x == restored).all():
        return np.float32(np.inf)
    return np.float32(10 * np.log10(np.mean(x * x) / np.mean((x - restored) ** 2)))


def _difference_of_logarithms(x, restored):
    noise = ((x - restored) ** 2).sum()
    return np.inf if noise == 0 else 10 * np.log10((x**2).sum()) - 10 * np.log10(noise)


@pytest.mark.parametrize("right", [_by_norms, _in_a_loop, _in_float32, _difference_of_logarithms])
def test_sqnr_in_another_style_passes(right):
    assert SQNR.check(right).state == "passed"


def _all_distances(x, levels):
    return np.abs(x[..., None] - levels).argmin(axis=-1).astype(np.uint8)


def _squared_distances(x, levels):
    return np.argmin((x[..., np.newaxis] - levels) ** 2, axis=-1).astype(np.uint8)


def _one_by_one(x, levels):
    codes = np.zeros(x.shape, np.uint8)
    for where in np.ndindex(x.shape):
        codes[where] = min(range(len(levels)), key=lambda i: abs(levels[i] - x[where]))
    return codes


def _digitized(x, levels):
    return np.digitize(x, (levels[1:] + levels[:-1]) / 2, right=True).astype("uint8")


def _midpoints_counted(x, levels):
    return (x[..., None] > (levels[1:] + levels[:-1]) / 2).sum(axis=-1).astype(np.uint8)


def _nearer_neighbour(x, levels):
    above = np.clip(np.searchsorted(levels, x), 1, len(levels) - 1)
    return (above - (x - levels[above - 1] <= levels[above] - x)).astype(np.uint8)


@pytest.mark.parametrize(
    "right",
    [_all_distances, _squared_distances, _one_by_one, _digitized, _midpoints_counted, _nearer_neighbour],
)
def test_nearest_level_in_another_style_passes(right):
    assert NEAREST.check(right).state == "passed"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda x, r: 10 * math.log10(np.sum(x**2) / np.sum((x - r) ** 2)), "0 / 0"),
        (lambda x, r: 10 * np.log10(np.sum(x**2) / np.sum(x - r) ** 2), "cancel"),
        (lambda x, r: 10 * np.log10(np.sum(x**2) / np.sum(x - r**2)), "brackets"),
        (lambda x, r: 10 * np.log10(x**2 / (x - r) ** 2), "divide once"),
        (lambda x, r: 10 * np.log10(np.max(np.abs(x)) / np.max(np.abs(x - r))), "largest"),
        (lambda x, r: 10 * np.log10((x**2).sum() / np.abs(x - r).sum()), "absolute values"),
        (lambda x, r: 0 if (x == r).all() else SQNR.reference(x, r), "0 dB says"),
        (lambda x, r: 100 if (x == r).all() else SQNR.reference(x, r), "no large number"),
        (lambda x, r: "inf" if (x == r).all() else SQNR.reference(x, r), "no word"),
    ],
)
def test_what_learners_type_for_sqnr_is_understood(wrong, told):
    assert told in SQNR.check(wrong).hint


def _nearer_neighbour_in_a_loop(x, levels):
    codes = np.zeros(x.shape, np.uint8)
    for where in np.ndindex(x.shape):
        above = np.searchsorted(levels, x[where])
        codes[where] = above - 1 if x[where] - levels[above - 1] <= levels[above] - x[where] else above
    return codes


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (_nearer_neighbour_in_a_loop, "clip"),
        (lambda x, levels: np.argmin(np.abs(levels[:, None] - x), 0).astype(np.uint8), "flat array only"),
        (lambda x, levels: np.min(np.abs(x[..., None] - levels), -1), "argmin"),
        (lambda x, levels: np.searchsorted(levels, x), "level above"),
        (lambda x, levels: np.digitize(x, levels) - 1, "level below"),
        (lambda x, levels: np.digitize(x, (levels[1:] + levels[:-1]) / 2).astype(np.uint8), "tie"),
        (lambda x, levels: np.abs(x[..., None] - levels).argmin(-1), "uint8"),
        (lambda x, levels: np.array([np.argmin(np.abs(levels - v)) for v in x], np.uint8), "flat array only"),
        (lambda x, levels: np.array([np.argmin(np.abs(levels - v)) for v in x.ravel()], np.uint8), "shape of `x`"),
    ],
)
def test_what_learners_type_for_nearest_level_is_understood(wrong, told):
    assert told in NEAREST.check(wrong).hint


def test_only_the_examples_of_ties_are_ties():
    tied = []
    for x, levels in NEAREST.all_cases():
        midpoints = (levels[1:] + levels[:-1]) / 2
        tied.append(np.abs(x.ravel()[:, None] - midpoints).min() < 1e-6)
    assert np.flatnonzero(tied).tolist() == [2]
