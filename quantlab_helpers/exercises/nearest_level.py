"""Exercise: round to the nearest entry of a codebook, as NF4 does (notebook 03)."""

import numpy as np

from .base import Exercise, WrongAnswer


def nearest_level(x, levels):
    """Return the codes of x as uint8: for each value the index of the nearest level, the lower one on a tie."""
    midpoints = (levels[1:] + levels[:-1]) / 2
    return np.searchsorted(midpoints, x, side="left").astype(np.uint8)


EXAMPLES = (
    (np.array([-0.9, 0.1, 0.4, 1.5]), np.array([-1.0, 0.0, 0.5, 2.0])),
    (np.array([-7.0, 0.6, 9.0]), np.array([-1.0, 0.0, 0.5, 2.0])),
    (np.array([-0.5, 0.25, 1.25]), np.array([-1.0, 0.0, 0.5, 2.0])),  # ties
    (np.array([[0.3, -0.8, 0.1], [1.9, 0.7, -0.2]], dtype=np.float32), np.array([-1.0, 0.0, 0.5, 2.0])),
    (np.zeros(2), np.array([-1.5, 0.0, 1.5])),
)


def cases(rng):
    yield rng.normal(scale=1.5, size=rng.integers(1, 30)), np.sort(rng.normal(size=16))
    levels = np.sort(rng.normal(size=rng.integers(2, 9))).astype(np.float32)
    yield rng.normal(scale=1.5, size=rng.integers(2, 6, size=2)).astype(np.float32), levels
    yield rng.normal(size=(2, 3, 4)), np.arange(-7.0, 8.0)


def _distances(x, levels):
    return np.abs(x[..., None] - levels)


def _spelled(codes_of):
    """One mistake in three spellings: as int64, as uint8 that wraps around, and clipped."""
    return (
        codes_of,
        lambda x, levels: codes_of(x, levels).astype(np.uint8),
        lambda x, levels: np.clip(codes_of(x, levels), 0, levels.size - 1).astype(np.uint8),
    )


def _uint8(codes_of):
    return (lambda x, levels: codes_of(x, levels).astype(np.uint8),)


def _tie_goes_up(x, levels):
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, x, side="right").astype(np.uint8)


def _tie_goes_up_in_reverse(x, levels):
    return (levels.size - 1 - _distances(x, levels[::-1]).argmin(axis=-1)).astype(np.uint8)


def _as_dtype(dtype):
    return lambda x, levels: nearest_level(x, levels).astype(dtype)


def _nearer_of_two_unclipped(x, levels):
    above = np.searchsorted(levels, x)
    nearer_below = x - levels[above - 1] <= levels[above] - x
    return np.where(nearer_below, above - 1, above).astype(np.uint8)


def _nearer_of_two_unclipped_from_below(x, levels):
    below = np.searchsorted(levels, x, side="right") - 1
    nearer_above = levels[below + 1] - x < x - levels[below]
    return np.where(nearer_above, below + 1, below).astype(np.uint8)


def _evenly_spaced(step_of):
    def function(x, levels):
        return np.round((x - levels[0]) / step_of(levels)).astype(np.int64)

    return _spelled(function)


EXERCISE = Exercise(
    reference=nearest_level,
    outputs=("codes",),
    checked="2 to 16 levels at any distances; uint8 codes; one to three axes; values beyond the ends; ties go down",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Two ways. Either measure the distance from each value to each level and take the smallest. Or note that the "
        "nearest level changes at the midpoint between two neighbours, and count the midpoints below each value.",
        "Distances: `np.abs(x[..., None] - levels)` has one more axis than `x`, for the levels. Midpoints: "
        "`(levels[1:] + levels[:-1]) / 2`, one fewer than there are levels.",
        "`distances.argmin(axis=-1)` or `np.searchsorted(midpoints, x)`, then `.astype(np.uint8)`. Both send a tie "
        "down.",
    ),
    wrong_answers=(
        WrongAnswer(
            "the next level above",
            _spelled(lambda x, levels: np.searchsorted(levels, x)),
            "`np.searchsorted(levels, x)` finds the next level above, not the nearest. The nearest one changes at "
            "the midpoints between neighbours: search in those.",
        ),
        WrongAnswer(
            "the next level below",
            _spelled(lambda x, levels: np.searchsorted(levels, x, side="right") - 1),
            "You take the next level below each value, not the nearest. The nearest one changes at the midpoints "
            "between neighbours: search in those.",
        ),
        WrongAnswer(
            "ties go up",
            (_tie_goes_up, _tie_goes_up_in_reverse),
            "Right except on a tie: exactly halfway, the lower level wins. In `np.searchsorted` that is "
            '`side="left"`, in `np.digitize` `right=True`.',
        ),
        WrongAnswer(
            "midpoints miscalculated",
            (
                *_uint8(lambda x, levels: np.searchsorted((levels[1:] - levels[:-1]) / 2, x)),
                *_uint8(lambda x, levels: np.searchsorted(levels[:-1] + levels[1:] / 2, x)),
            ),
            "You do not search in the midpoints. The midpoint of two neighbours is their mean, brackets and all: "
            "`(levels[1:] + levels[:-1]) / 2`.",
        ),
        WrongAnswer(
            "returned the levels themselves",
            (lambda x, levels: levels[nearest_level(x, levels)],),
            "You return the values of the nearest levels. Return their codes, the positions in `levels`; "
            "`levels[codes]` gives the values back.",
        ),
        WrongAnswer(
            "codes of another dtype",
            tuple(map(_as_dtype, (np.int64, np.int32, np.int8, np.float64))),
            "The numbers are codes, but of another dtype. Store them in 1 byte each: finish with `.astype(np.uint8)`.",
        ),
        WrongAnswer(
            "no absolute value",
            (
                *_uint8(lambda x, levels: (x[..., None] - levels).argmin(axis=-1)),
                *_uint8(lambda x, levels: (levels - x[..., None]).argmin(axis=-1)),
            ),
            "Without the absolute value the smallest difference is the most negative one, so every value gets the "
            "same level: `np.abs(x[..., None] - levels)`.",
        ),
        WrongAnswer(
            "argmin over everything or over the values",
            (
                *_uint8(lambda x, levels: _distances(x, levels).argmin()),
                *_uint8(lambda x, levels: _distances(x, levels).argmin(axis=0)),
            ),
            "`argmin` must run over the levels only, the last axis of the distances: `.argmin(axis=-1)`.",
        ),
        WrongAnswer(
            "one axis only",
            (
                lambda x, levels: np.abs(x[:, None] - levels).argmin(axis=1).astype(np.uint8),
                lambda x, levels: np.abs(x[:, None] - levels).argmin(axis=-1).astype(np.uint8),
                lambda x, levels: np.array([np.abs(levels - v).argmin() for v in x]).astype(np.uint8),
                lambda x, levels: np.abs(levels[:, None] - x).argmin(axis=0).astype(np.uint8),
                lambda x, levels: np.abs(x - levels[:, None]).argmin(axis=0).astype(np.uint8),
            ),
            "That works for a flat array only. `x[..., None]` adds an axis after all others, whatever the shape.",
        ),
        WrongAnswer(
            "a neighbour beyond the last level",
            (_nearer_of_two_unclipped, _nearer_of_two_unclipped_from_below),
            "Beyond the last level `np.searchsorted` gives `len(levels)`, and there is no such level: clip, so that "
            "both neighbours are there.",
        ),
        WrongAnswer(
            "the distance instead of its place",
            (
                lambda x, levels: _distances(x, levels).min(axis=-1),
                *_uint8(lambda x, levels: _distances(x, levels).min(axis=-1)),
                lambda x, levels: np.abs(x[:, None] - levels).min(axis=1),
            ),
            "`min` gives the distance to the nearest level. You want where it is: `argmin`.",
        ),
        WrongAnswer(
            "no axis for the levels",
            _uint8(lambda x, levels: np.abs(x - levels).argmin()),
            "`x - levels` pairs the first value with the first level and so on. Each value must meet each level: "
            "`x[..., None] - levels`.",
        ),
        WrongAnswer(
            "levels taken as evenly spaced",
            (
                *_evenly_spaced(lambda levels: levels[1] - levels[0]),
                *_evenly_spaced(lambda levels: (levels[-1] - levels[0]) / (levels.size - 1)),
            ),
            "You divide by one step, but these levels are not evenly spaced. Compare with the levels themselves.",
        ),
        WrongAnswer(
            "shape lost",
            (lambda x, levels: nearest_level(x, levels).ravel(),),
            "The codes are right but in one row: give them the shape of `x`.",
        ),
    ),
)
