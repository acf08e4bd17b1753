"""Exercise: the signal-to-quantization-noise ratio (notebook 03)."""

import numpy as np

from .base import Exercise, WrongAnswer


def sqnr(x, restored):
    """Return the signal-to-quantization-noise ratio in dB: inf where nothing was lost."""
    noise = np.sum((x - restored) ** 2)
    if noise == 0:
        return np.inf
    return 10 * np.log10(np.sum(x**2) / noise)


EXAMPLES = (
    (np.array([3.0, 4.0]), np.array([3.0, 4.5])),
    (np.array([1.0, -2.0, 3.0]), np.array([1.1, -1.7, 2.8])),
    (np.array([[0.5, 2.0], [-1.0, 0.25]], dtype=np.float32), np.array([[0.6, 1.8], [-1.2, 0.3]], dtype=np.float32)),
    (np.array([1.0, -2.0]), np.array([1.0, -2.0])),
    (np.zeros(3), np.zeros(3)),
)


def cases(rng):
    for noise in (0.3, 0.01):  # the mean is not 0, so that power and variance differ
        shape = tuple(rng.integers(2, 6, size=rng.integers(1, 3)))
        size = rng.uniform(0.1, 10)
        x = rng.normal(2 * size, size, size=shape).astype(np.float32)
        yield x, x + rng.normal(-noise * size / 2, noise * size, size=shape).astype(np.float32)


def _ratio(to_db, power=lambda v: np.sum(v**2)):
    """The reference with another measure of size or another way to dB, without and with a guard for no noise."""

    def unguarded(x, restored):
        return to_db(power(x), power(x - restored))

    def guarded(x, restored):
        return np.inf if np.array_equal(x, restored) else to_db(power(x), power(x - restored))

    return unguarded, guarded


def _decibels(signal, noise):
    return 10 * np.log10(signal / noise)


def _mean_abs(v):
    return np.mean(np.abs(v))


def _with_noise(noise_of, signal_of=lambda x, restored: np.sum(x**2)):
    """The reference with another noise or signal, without and with a guard for no noise."""

    def unguarded(x, restored):
        return _decibels(signal_of(x, restored), noise_of(x, restored))

    def guarded(x, restored):
        return np.inf if np.array_equal(x, restored) else unguarded(x, restored)

    return unguarded, guarded


def _noise(x, restored):
    return np.sum((x - restored) ** 2)


def _with_epsilon(epsilon):
    return lambda x, restored: _decibels(np.sum(x**2), _noise(x, restored) + epsilon)


def _exact_is(value):
    return lambda x, restored: value if np.array_equal(x, restored) else sqnr(x, restored)


EXERCISE = Exercise(
    reference=sqnr,
    outputs=("sqnr",),
    checked="arrays of one and two axes, small and large errors, exact copies, all zeros",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Two powers and their ratio: `np.sum(x**2)` for the signal, the same of the error for the noise.",
        "The noise is `np.sum((x - restored) ** 2)`. If it is 0, nothing was lost: return `np.inf`.",
        "`10 * np.log10(signal / noise)`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "noise over signal",
            _ratio(lambda signal, noise: _decibels(noise, signal)),
            "Your ratio is upside down: a better copy must give more dB. Divide the signal by the noise.",
        ),
        WrongAnswer(
            "10 log10 of a ratio of amplitudes",
            (*_ratio(_decibels, np.linalg.norm), *_ratio(_decibels, lambda v: np.sqrt(np.mean(v**2)))),
            "You get half of the right number. The 10 goes with powers, sums of squares; leave the square root out.",
        ),
        WrongAnswer(
            "20 log10 of a ratio of powers",
            _ratio(lambda signal, noise: 20 * np.log10(signal / noise)),
            "You get twice the right number: the 20 goes with amplitudes. For sums of squares it is 10.",
        ),
        WrongAnswer(
            "absolute values instead of squares",
            (
                *_ratio(_decibels, _mean_abs),
                *_ratio(lambda s, n: 20 * np.log10(s / n), _mean_abs),
                *_with_noise(lambda x, restored: np.sum(np.abs(x - restored))),
                *_with_noise(lambda x, restored: _mean_abs(x - restored), lambda x, restored: np.mean(x**2)),
                *_with_noise(_noise, lambda x, restored: np.sum(np.abs(x))),
            ),
            "You take absolute values where squares belong. Power is the sum of squares, in which large errors count "
            "for more.",
        ),
        WrongAnswer(
            "forgot to square, or squared the sum",
            (
                *_ratio(_decibels, np.sum),
                *_ratio(_decibels, lambda v: np.abs(np.sum(v))),
                *_ratio(_decibels, lambda v: np.sum(v) ** 2),
                *_with_noise(lambda x, restored: np.sum(x - restored) ** 2),
            ),
            "In your sum, errors of opposite signs cancel. Square each value first, then sum: `np.sum(v**2)`.",
        ),
        WrongAnswer(
            "logarithm of another base",
            (
                *_ratio(lambda signal, noise: 10 * np.log(signal / noise)),
                *_ratio(lambda signal, noise: 10 * np.log2(signal / noise)),
            ),
            "`np.log` is the natural logarithm. Decibels take the one of base 10: `np.log10`.",
        ),
        WrongAnswer(
            "no logarithm",
            (*_ratio(lambda s, n: s / n), *_ratio(lambda s, n: 10 * s / n)),
            "That is the ratio itself. Decibels are its logarithm: `10 * np.log10(...)`.",
        ),
        WrongAnswer(
            "forgot the factor 10",
            (
                *_ratio(lambda signal, noise: np.log10(signal / noise)),
                *_ratio(lambda signal, noise: np.log10(10 * signal / noise)),
            ),
            "The logarithm of the ratio is in bel. A decibel is a tenth of that: multiply the logarithm by 10.",
        ),
        WrongAnswer(
            "variance instead of power",
            _ratio(_decibels, np.var),
            "`np.var` takes the mean off first, so an error that shifts every value would not count. Square the "
            "values themselves.",
        ),
        WrongAnswer(
            "power of the restored values",
            _with_noise(_noise, lambda x, restored: np.sum(restored**2)),
            "Your signal is `restored`. The signal is what we started with, `x`.",
        ),
        WrongAnswer(
            "no error in the noise",
            (
                *_with_noise(lambda x, restored: np.sum(restored**2)),
                *_with_noise(lambda x, restored: np.sum(x - restored**2)),
                *_with_noise(lambda x, restored: np.sum(x**2 - restored**2)),
                *_with_noise(lambda x, restored: np.sum(np.abs(x**2 - restored**2))),
            ),
            "The noise is the power of the error: subtract first, then square. Mind the brackets: "
            "`(x - restored) ** 2`.",
        ),
        WrongAnswer(
            "a ratio for each value",
            (
                lambda x, restored: _decibels(x**2, (x - restored) ** 2),
                lambda x, restored: np.sum(_decibels(x**2, (x - restored) ** 2)),
                lambda x, restored: np.mean(_decibels(x**2, (x - restored) ** 2)),
                lambda x, restored: 10 * np.log10(np.sum(x**2 / (x - restored) ** 2)),
                lambda x, restored: 10 * np.log10(np.mean(x**2 / (x - restored) ** 2)),
            ),
            "You take a ratio for each value. Sum the squares of x and those of the error first, then divide once.",
        ),
        WrongAnswer(
            "peak instead of power",
            (
                *_with_noise(
                    lambda x, restored: np.mean((x - restored) ** 2), lambda x, restored: np.max(np.abs(x)) ** 2
                ),
                *_ratio(_decibels, lambda v: np.max(np.abs(v))),
            ),
            "You compare largest values. Power is about all of them: sum the squares.",
        ),
        WrongAnswer(
            "no guard for no noise",
            (lambda x, restored: _decibels(np.sum(x**2), _noise(x, restored)),),
            "Where x and restored are all zero you compute 0 / 0. Test first whether the noise is 0: then `np.inf`.",
        ),
        WrongAnswer(
            "a small number added to the noise",
            tuple(map(_with_epsilon, (1e-8, 1e-10, 1e-12, np.finfo(float).eps))),
            "A small number under the line avoids the division by zero, but then an exact copy gets some finite "
            "number of dB. Test whether the noise is 0, and return `np.inf`.",
        ),
        WrongAnswer(
            "0 dB where nothing was lost",
            (_exact_is(0.0), _exact_is(0)),
            "0 dB says that the noise is as strong as the signal. Where there is no noise, the ratio has no limit: "
            "return `np.inf`.",
        ),
        WrongAnswer(
            "another value where nothing was lost",
            (
                *map(_exact_is, (99, 100, 120, 999, 1000, 99.0, 100.0, 120.0, 999.0, 1000.0)),
                *map(_exact_is, (np.nan, -np.inf, "inf", "infinity")),
            ),
            "Where nothing was lost, the ratio has no limit: no large number stands for that, and no word. Return the "
            "float `np.inf`.",
        ),
    ),
)
