"""Exercise: the levels of NF4, and of the same with other numbers of bits, from a bell (notebook 07)."""

from statistics import NormalDist

import numpy as np

from .base import Exercise, WrongAnswer


def normal_levels(num_bits, end):
    """Return the 2**num_bits levels, sorted: quantiles of a bell on either side of an exact 0, from -1 to 1."""
    from statistics import NormalDist

    above = np.linspace(0.5, end, 2 ** (num_bits - 1) + 1)[1:]  # where 0.5 is the middle of the bell
    below = np.linspace(0.5, end, 2 ** (num_bits - 1))[1:]  # one fewer
    positive = np.array([NormalDist().inv_cdf(p) for p in above])
    negative = -np.array([NormalDist().inv_cdf(p) for p in below])[::-1]
    return np.concatenate([negative, [0], positive]) / positive[-1]


# What bitsandbytes takes for `end`: see the notebook.
NF4_END = 1 - (1 / 32 + 1 / 30) / 2
EXAMPLES = ((2, 0.9), (4, NF4_END), (3, 0.95))


def cases(rng):
    for num_bits in (2, 3, 4, 5, 8):
        yield num_bits, float(rng.uniform(0.8, 0.999))


def _quantile(shares):
    return np.array([NormalDist().inv_cdf(p) for p in np.ravel(shares)]).reshape(np.shape(shares))


def _density(x):
    return np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi)


def _variant(
    *,
    above=lambda count, end: np.linspace(0.5, end, count + 1)[1:],
    below=lambda count, end: np.linspace(0.5, end, count)[1:],
    level=_quantile,
    negated=lambda levels: -levels[::-1],
    zeros=(0.0,),
    scaled=lambda levels, end: levels / levels.max(),
    finished=lambda levels: levels,
):
    """The reference with one step done in another way."""

    def function(num_bits, end):
        count = 2 ** (num_bits - 1)
        positive, negative = level(above(count, end)), level(below(count, end))
        return finished(scaled(np.concatenate([negated(negative), zeros, positive]), end))

    return function


def _mirrored(num_bits, end):
    return -normal_levels(num_bits, end)[::-1]


def _straight_across(num_bits, end):
    levels = _quantile(np.linspace(1 - end, end, 2**num_bits))
    return levels / levels.max()


def _middles_of_slices(num_bits, end):
    levels = _quantile((np.arange(2**num_bits) + 0.5) / 2**num_bits)
    return levels / levels.max()


def _each_side_cut_evenly(count, end):
    return np.linspace(0.5, end, count + 2)[1:-1]


EXERCISE = Exercise(
    reference=normal_levels,
    outputs=("levels",),
    checked="2 to 8 bits and other ends: how many levels on either side, an exact 0, ends on -1 and 1, sorted",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Make the sides apart. For each: shares of the bell at even distances, their quantiles, and a minus on the "
        "negative side. Then put the 0 between them and divide by the largest.",
        "`np.linspace(0.5, end, count + 1)` gives `count` shares after 0.5, which is the place of the 0 itself: drop "
        "it with `[1:]`. The positive side has `2 ** (num_bits - 1)` levels, the negative one fewer.",
        "`NormalDist().inv_cdf(share)` takes one share at a time. At the end, `np.concatenate` puts the negative "
        "side, `[0]` and the positive side together; sort, and divide by the maximum.",
    ),
    wrong_answers=(
        WrongAnswer(
            "not divided by the largest",
            (_variant(scaled=lambda levels, end: levels),),
            "Your levels are quantiles in standard deviations. Blocks are scaled to -1 .. 1, so divide by the largest "
            "level.",
        ),
        WrongAnswer(
            "divided by the share at the end",
            (_variant(scaled=lambda levels, end: levels / end),),
            "`end` is a share of the bell, not a level. Divide by the largest *level*, so that the ends are -1 and 1.",
        ),
        WrongAnswer(
            "the sides the wrong way round",
            (_mirrored,),
            "Your longer side is the negative one. NF4 gives the additional level to the positive side.",
        ),
        WrongAnswer(
            "one row of quantiles from end to end",
            (_straight_across,),
            "Your quantiles go from one end to the other in one go, and none of them is 0. A weight of 0 has to stay "
            "0: make the two sides apart, each from 0.5 on.",
        ),
        WrongAnswer(
            "the middles of equal slices",
            (_middles_of_slices,),
            "You cut the whole bell into equal slices and take their middles. That is the idea, but it has no level at "
            "0. Make the two sides apart, each with even shares from 0.5 to `end`.",
        ),
        WrongAnswer(
            "no 0",
            (_variant(zeros=()), _variant(zeros=(), below=lambda count, end: np.linspace(0.5, end, count + 1)[1:])),
            "There is no 0 among your levels. Put one between the sides.",
        ),
        WrongAnswer(
            "0 more than once",
            (
                _variant(below=lambda count, end: np.linspace(0.5, end, count)),
                _variant(above=lambda count, end: np.linspace(0.5, end, count + 1)),
                _variant(
                    above=lambda count, end: np.linspace(0.5, end, count + 1),
                    below=lambda count, end: np.linspace(0.5, end, count),
                ),
                _variant(
                    below=lambda count, end: np.linspace(0.5, end, count),
                    above=lambda count, end: np.linspace(0.5, end, count),
                ),
            ),
            "Your levels hold 0 more than once, because the quantile of 0.5 is 0. Drop the first share of each side.",
        ),
        WrongAnswer(
            "as many levels on either side",
            (
                _variant(below=lambda count, end: np.linspace(0.5, end, count + 1)[1:]),
                _variant(above=lambda count, end: np.linspace(0.5, end, count)[1:]),
            ),
            "Your sides have the same number of levels, which with the 0 makes an odd number. Of `2**num_bits`, the "
            "positive side gets half, the negative side one fewer.",
        ),
        WrongAnswer(
            "the sides in the same steps",
            (
                _variant(below=lambda count, end: np.linspace(0.5, end, count + 1)[1:-1]),
                _variant(below=lambda count, end: np.linspace(0.5, end, count + 1)[2:]),
            ),
            "Your negative side is the positive one with a level left out. It has shares of its own, one fewer, and "
            "reaches to `end` as well: `np.linspace(0.5, end, 2 ** (num_bits - 1))[1:]`.",
        ),
        WrongAnswer(
            "the last share is missing",
            (
                _variant(
                    above=lambda count, end: np.linspace(0.5, end, count + 1, endpoint=False)[1:],
                    below=lambda count, end: np.linspace(0.5, end, count, endpoint=False)[1:],
                ),
                _variant(above=_each_side_cut_evenly, below=lambda count, end: _each_side_cut_evenly(count - 1, end)),
            ),
            "Your shares stop before `end`. The last one of each side is `end` itself.",
        ),
        WrongAnswer(
            "many shares at a time",
            (_variant(level=NormalDist().inv_cdf),),
            "`inv_cdf` takes one share at a time, not an array: `np.array([quantile(p) for p in shares])`.",
        ),
        WrongAnswer(
            "shares up to 1",
            (
                lambda num_bits, end: normal_levels(num_bits, 1),
                lambda num_bits, end: _variant()(num_bits, 1.0),
            ),
            "The quantile of 1 is infinite: a bell has no end. So the shares go to `end` only.",
        ),
        WrongAnswer(
            "the end of NF4 whatever is asked for",
            (lambda num_bits, end: normal_levels(num_bits, NF4_END),),
            "Right for NF4, but the end is an argument: use it.",
        ),
        WrongAnswer(
            "four bits whatever is asked for",
            (lambda num_bits, end: normal_levels(4, end),),
            "You return 16 levels whatever `num_bits` is: there are `2**num_bits`.",
        ),
        WrongAnswer(
            "evenly spaced levels",
            (
                _variant(level=lambda shares: shares - 0.5),
                _variant(level=np.asarray, negated=lambda levels: -levels[::-1]),
                lambda num_bits, end: np.linspace(-1, 1, 2**num_bits),
            ),
            "These levels take no notice of the bell. Shares are at even distances; the levels are their *quantiles*.",
        ),
        WrongAnswer(
            "the distribution function, not its inverse",
            (_variant(level=lambda shares: np.array([NormalDist().cdf(p) for p in shares])),),
            "`cdf` gives the share below a value. You have shares and want values: `inv_cdf`.",
        ),
        WrongAnswer(
            "the height of the bell",
            (_variant(level=_density),),
            "`pdf` is the height of the bell. You have shares of its area and want values: `inv_cdf`.",
        ),
        WrongAnswer(
            "forgot the minus",
            (
                _variant(negated=lambda levels: levels),
                _variant(negated=lambda levels: levels[::-1]),
                _variant(negated=lambda levels: levels, finished=np.sort),
            ),
            "Your negative side is positive: it needs a minus.",
        ),
        WrongAnswer(
            "not sorted",
            (
                _variant(negated=lambda levels: -levels),
                _variant(finished=lambda levels: levels[::-1]),
                lambda num_bits, end: np.concatenate(
                    [
                        normal_levels(num_bits, end)[2 ** (num_bits - 1) :],
                        normal_levels(num_bits, end)[: 2 ** (num_bits - 1)],
                    ]
                ),
            ),
            "The levels are right, but not in order: sort them, from -1 to 1.",
        ),
        WrongAnswer(
            "divided by the standard deviation",
            (_variant(scaled=lambda levels, end: levels / levels.std()),),
            "Divide by the largest level, not by a spread: the ends have to lie on -1 and 1.",
        ),
    ),
)
