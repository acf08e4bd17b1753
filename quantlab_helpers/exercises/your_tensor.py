"""Exercise: what three granularities make of one tensor, real or your own (notebook 05)."""

import numpy as np

import quantlab_helpers as ql

from .base import Exercise, WrongAnswer


def your_tensor(weight, num_bits, group_size):
    """Return the SQNR in dB of symmetric quantization (per tensor, per channel, per group)."""
    one_scale = ql.fake_quantize(weight, num_bits)
    rows = ql.fake_quantize(weight, num_bits, per="channel")
    groups = ql.fake_quantize(weight, num_bits, per="group", group_size=group_size)
    return ql.sqnr_db(weight, one_scale), ql.sqnr_db(weight, rows), ql.sqnr_db(weight, groups)


EXAMPLES = (
    (np.array([[0.3, -1.4, 0.1, 0.6], [20.0, 7.0, -33.0, 2.0]]), 4, 2),
    (np.array([[1.0, 0.35, -0.8, 0.2, 3.0, -0.7], [0.1, 0.7, -0.6, 0.5, 2.0, 0.9]], dtype=np.float32), 3, 3),
    (np.zeros((2, 4)), 4, 2),
)


def cases(rng):
    for num_bits, group_size in ((2, 4), (4, 8), (5, 3), (8, 4)):
        out_features, num_groups = rng.integers(2, 7, size=2)
        sizes = rng.uniform(0.05, 5, size=(out_features, num_groups)).repeat(group_size, axis=1)
        yield (rng.normal(size=sizes.shape) * sizes).astype(np.float32), num_bits, group_size


_OPTIONS = ({}, {"per": "channel"}, {"per": "group"})


def _with(
    measure=ql.sqnr_db, options=_OPTIONS, width=lambda num_bits: num_bits, size=lambda group_size: group_size, **more
):
    """The reference with another measure, granularity, width, group size or mapping."""

    def function(weight, num_bits, group_size):
        results = []
        for option in options:
            grouped = {"group_size": size(group_size)} if option.get("per") == "group" else {}
            restored = ql.fake_quantize(weight, width(num_bits), **option, **grouped, **more)
            results.append(measure(weight, restored))
        return tuple(results)

    return function


def _relative_error(weight, restored):
    return np.linalg.norm(weight - restored) / (np.linalg.norm(weight) or 1.0)


def _in_db(factor, ratio):
    """dB made by hand, with one thing wrong."""

    def measure(weight, restored):
        return factor * np.log10(ratio(weight.astype(np.float64), restored.astype(np.float64)))

    return measure


def _power_ratio(weight, restored):
    return np.sum(weight**2) / np.sum((weight - restored) ** 2)


def _amplitude_ratio(weight, restored):
    return np.sqrt(_power_ratio(weight, restored))


def _codes_compared(weight, num_bits, group_size):
    quantized = [ql.quantize(weight, num_bits, **option) for option in _OPTIONS[:2]]
    quantized.append(ql.quantize(weight, num_bits, per="group", group_size=group_size))
    return tuple(ql.sqnr_db(weight, q.codes.astype(np.float32)) for q in quantized)


def _one_on_top_of_the_other(weight, num_bits, group_size):
    one_scale = ql.fake_quantize(weight, num_bits)
    rows = ql.fake_quantize(one_scale, num_bits, per="channel")
    groups = ql.fake_quantize(rows, num_bits, per="group", group_size=group_size)
    return tuple(ql.sqnr_db(weight, restored) for restored in (one_scale, rows, groups))


EXERCISE = Exercise(
    reference=your_tensor,
    outputs=("per tensor", "per channel", "per group"),
    checked="2 to 8 bits, three granularities, groups of 2 to 8, float32 and float64, all zeros",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Three times the same two steps: `ql.fake_quantize(...)`, then `ql.sqnr_db(weight, ...)`.",
        '`ql.fake_quantize(weight, num_bits)` has one scale; add `per="channel"`, or `per="group", '
        "group_size=group_size`.",
        "`ql.sqnr_db(weight, restored)` takes the original first. Return the three numbers, separated by commas.",
    ),
    wrong_answers=(
        WrongAnswer(
            "original and restored exchanged",
            (_with(lambda weight, restored: ql.sqnr_db(restored, weight)),),
            "The signal comes first: `ql.sqnr_db(weight, restored)`. The other way round, you measure the error "
            "against the quantized values.",
        ),
        WrongAnswer(
            "affine instead of symmetric",
            (_with(symmetric=False),),
            "You quantize with a zero point (`symmetric=False`). Here the mapping is symmetric, which is the default.",
        ),
        WrongAnswer(
            "num_bits not passed on",
            (_with(width=lambda num_bits: 8), _with(width=lambda num_bits: 4)),
            "The width is the same whatever `num_bits` is: pass it on, `ql.fake_quantize(weight, num_bits, ...)`.",
        ),
        WrongAnswer(
            "group_size not passed on",
            (_with(size=lambda group_size: 32), _with(size=lambda group_size: 64), _with(size=lambda group_size: 2)),
            "Your groups have a fixed size: pass yours on, `group_size=group_size`.",
        ),
        WrongAnswer(
            "the same granularity three times",
            (
                _with(options=({}, {}, {})),
                _with(options=({"per": "channel"},) * 3),
                _with(options=({"per": "group"},) * 3),
                _with(options=({}, {"per": "channel"}, {"per": "channel"})),
                _with(options=({}, {"per": "group"}, {"per": "group"})),
                _with(options=({"per": "channel"}, {"per": "channel"}, {"per": "group"})),
            ),
            'Two of your three numbers have the same granularity: the default, `per="channel"`, and `per="group"`.',
        ),
        WrongAnswer(
            "in another order",
            (
                _with(options=({"per": "channel"}, {}, {"per": "group"})),
                _with(options=({}, {"per": "group"}, {"per": "channel"})),
                _with(options=({"per": "group"}, {}, {"per": "channel"})),
                _with(options=({"per": "channel"}, {"per": "group"}, {})),
            ),
            "The values are right but in another order: return per tensor, per channel, per group.",
        ),
        WrongAnswer(
            "compared the codes with the weights",
            (_codes_compared,),
            "You compare codes with weights. Codes are only numbers of buckets: dequantize them first, or take "
            "`ql.fake_quantize`.",
        ),
        WrongAnswer(
            "quantized what was quantized already",
            (_one_on_top_of_the_other,),
            "Your second and third try start from values that were quantized before. Start from `weight` each time.",
        ),
        WrongAnswer(
            "text for printing",
            (
                _with(lambda weight, restored: f"{ql.sqnr_db(weight, restored):.1f}"),
                _with(lambda weight, restored: f"{ql.sqnr_db(weight, restored):.2f}"),
                _with(lambda weight, restored: f"{ql.sqnr_db(weight, restored):.1f} dB"),
                _with(lambda weight, restored: str(ql.sqnr_db(weight, restored))),
            ),
            "You return text. Return the numbers as they are: the cells below put them into words.",
        ),
        WrongAnswer(
            "rounded for printing",
            (
                _with(lambda weight, restored: round(ql.sqnr_db(weight, restored), 1)),
                _with(lambda weight, restored: round(ql.sqnr_db(weight, restored), 2)),
                _with(lambda weight, restored: np.round(ql.sqnr_db(weight, restored))),
            ),
            "Your numbers are rounded. Return them as they are: rounding is for printing, and the cells below do it.",
        ),
        WrongAnswer(
            "another measure",
            (
                _with(_relative_error),
                _with(ql.mean_abs_error),
                _with(ql.max_abs_error),
                _with(ql.cosine_similarity),
                _with(lambda weight, restored: np.mean((weight - restored) ** 2)),
            ),
            "That is another measure of the error. Asked for is the SQNR in dB: `ql.sqnr_db(weight, restored)`.",
        ),
        WrongAnswer(
            "decibels made by hand",
            (
                _with(_in_db(10, _amplitude_ratio)),
                _with(_in_db(20, _power_ratio)),
                _with(_in_db(-10, _power_ratio)),
            ),
            "Your decibels are off by a factor or a sign: it is 10 log10 of the ratio of squares, signal over error. "
            "`ql.sqnr_db` does it for you.",
        ),
    ),
)
