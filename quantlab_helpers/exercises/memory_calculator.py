"""Exercise: how many bytes quantized weights hold, scales and zero points included (notebook 02)."""

import math

from .base import Exercise, WrongAnswer


def memory_calculator(num_weights, num_bits, group_size, scale_bytes, zero_points):
    """Return the bytes of the packed codes, of the scales and of the zero points, in all."""
    code_bytes = (num_weights * num_bits + 7) // 8  # rounded up
    num_scales = 1 if group_size is None else (num_weights + group_size - 1) // group_size  # rounded up
    zero_point_bytes = num_scales if zero_points else 0
    return code_bytes + num_scales * scale_bytes + zero_point_bytes


EXAMPLES = (
    (1000, 8, None, 4, False),
    (1000, 4, None, 4, False),
    (1000, 4, None, 4, True),
    (1024, 4, 64, 4, False),
    (1024, 4, 64, 2, True),
    (1001, 3, 100, 4, True),
    (5, 1, None, 4, False),
)


def cases(rng):
    for num_bits in range(1, 9):
        num_weights = int(rng.integers(100, 10_000)) * 2 + 1
        group_size = (None, 8, 32, 64, 128)[rng.integers(5)]
        yield num_weights, num_bits, group_size, (2, 4)[rng.integers(2)], bool(rng.integers(2))
    yield 7_000_000_000, 4, 64, 2, True


# The wrong answers below replace one part of the sum each.


def _codes(num_weights, num_bits):
    return -(-num_weights * num_bits // 8)


def _scales(num_weights, group_size):
    return 1 if group_size is None else -(-num_weights // group_size)


def _zero_points(num_scales, scale_bytes, num_bits):
    return num_scales


def _sum(codes=_codes, scales=_scales, zero_points=_zero_points):
    def function(num_weights, num_bits, group_size, scale_bytes, has_zero_points):
        count = scales(num_weights, group_size)
        total = codes(num_weights, num_bits) + count * scale_bytes
        return total + zero_points(count, scale_bytes, num_bits) if has_zero_points else total

    return function


def _no_scales(num_weights, num_bits, group_size, scale_bytes, zero_points):
    return _codes(num_weights, num_bits)


def _zero_points_but_no_scales(num_weights, num_bits, group_size, scale_bytes, zero_points):
    return _codes(num_weights, num_bits) + (_scales(num_weights, group_size) if zero_points else 0)


def _in_bits(num_weights, num_bits, group_size, scale_bytes, zero_points):
    num_scales = _scales(num_weights, group_size)
    return num_weights * num_bits + 8 * num_scales * scale_bytes + (8 * num_scales if zero_points else 0)


def _scales_in_bits(num_weights, num_bits, group_size, scale_bytes, zero_points):
    return _sum()(num_weights, num_bits, group_size, 8 * scale_bytes, zero_points)


def _as_float(num_weights, num_bits, group_size, scale_bytes, zero_points):
    return float(memory_calculator(num_weights, num_bits, group_size, scale_bytes, zero_points))


def _with_fractions(num_weights, num_bits, group_size, scale_bytes, zero_points):
    num_scales = 1 if group_size is None else num_weights / group_size
    return num_weights * num_bits / 8 + num_scales * (scale_bytes + (1 if zero_points else 0))


def _fractions_of_codes(num_weights, num_bits, group_size, scale_bytes, zero_points):
    num_scales = _scales(num_weights, group_size)
    return num_weights * num_bits / 8 + num_scales * (scale_bytes + (1 if zero_points else 0))


def _rounded_at_the_end(rounded):
    return lambda *arguments: rounded(_with_fractions(*arguments))


def _both(rounded):
    """The bytes of the codes and the number of groups, each made whole by `rounded(a, b)` of a / b."""
    return _sum(
        codes=lambda num_weights, num_bits: rounded(num_weights * num_bits, 8),
        scales=lambda num_weights, group_size: 1 if group_size is None else rounded(num_weights, group_size),
    )


def _whole_codes_in_a_byte(rounded):
    return lambda num_weights, num_bits: rounded(num_weights, 8 // num_bits)


def _no_scale_if_none(num_weights, group_size):
    return 0 if group_size is None else -(-num_weights // group_size)


EXERCISE = Exercise(
    reference=memory_calculator,
    outputs=("nbytes",),
    checked="1 to 8 bits, one scale or groups, last bytes and last groups that are not full, scales of 2 and 4 bytes, "
    "with and without zero points, up to 7 billion weights",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Three parts, each in bytes: codes, scales, zero points. How many scales are there?",
        "`num_weights * num_bits` is in bits: divide by 8 and round up. Likewise the number of groups, "
        "`num_weights / group_size`. With `group_size=None` there is one scale.",
        "`(a + b - 1) // b` divides whole numbers and rounds up. Then add `num_scales * scale_bytes`, and "
        "`num_scales` more if `zero_points`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "forgot the scales",
            (_no_scales, _zero_points_but_no_scales),
            "The scales are missing: without them nobody can turn the codes back into weights. Each takes "
            "`scale_bytes`.",
        ),
        WrongAnswer(
            "forgot the zero points",
            (_sum(zero_points=lambda num_scales, scale_bytes, num_bits: 0),),
            "With `zero_points=True` each scale has a zero point beside it, 1 byte each.",
        ),
        WrongAnswer(
            "one zero point in all",
            (_sum(zero_points=lambda num_scales, scale_bytes, num_bits: 1),),
            "You count one zero point. Every group has its own scale and its own zero point.",
        ),
        WrongAnswer(
            "zero points of the wrong size",
            (
                _sum(zero_points=lambda num_scales, scale_bytes, num_bits: num_scales * scale_bytes),
                _sum(zero_points=lambda num_scales, scale_bytes, num_bits: 4 * num_scales),
                _sum(zero_points=lambda num_scales, scale_bytes, num_bits: _codes(num_scales, num_bits)),
            ),
            "A zero point is stored in 1 byte here, whatever the scale or the code takes.",
        ),
        WrongAnswer(
            "bits counted as bytes",
            (_sum(codes=lambda num_weights, num_bits: num_weights * num_bits), _in_bits, _scales_in_bits),
            "You mix bits and bytes. Codes: `num_weights * num_bits` is a number of bits, so divide by 8. "
            "`scale_bytes` is in bytes already.",
        ),
        WrongAnswer(
            "one byte for each code",
            (_sum(codes=lambda num_weights, num_bits: num_weights),),
            "You give every code a whole byte, as an `int8` array does. Packed, a code takes `num_bits` bits.",
        ),
        WrongAnswer(
            "rounded down",
            (
                _sum(codes=lambda num_weights, num_bits: num_weights * num_bits // 8),
                _sum(codes=lambda num_weights, num_bits: round(num_weights * num_bits / 8)),
            ),
            "The last byte may be only partly full, but it is there: round the bytes of the codes up. "
            "`(bits + 7) // 8` does it.",
        ),
        WrongAnswer(
            "bytes and groups rounded down, or rounded once at the end",
            (
                *map(_both, (lambda a, b: a // b, lambda a, b: round(a / b))),
                *map(_rounded_at_the_end, (int, math.ceil, round)),
            ),
            "The last byte and the last group may be only partly full, but they are there: round both up, each by "
            "itself.",
        ),
        WrongAnswer(
            "one too many if all are full",
            (
                _sum(codes=lambda num_weights, num_bits: num_weights * num_bits // 8 + 1),
                _sum(scales=lambda num_weights, group_size: 1 if group_size is None else num_weights // group_size + 1),
                _both(lambda a, b: a // b + 1),
            ),
            "You always add one, even where the last byte or the last group is full. `(a + b - 1) // b` rounds up "
            "only if it must.",
        ),
        WrongAnswer(
            "no code across two bytes",
            (
                _sum(codes=_whole_codes_in_a_byte(lambda a, b: -(-a // b))),
                _sum(codes=_whole_codes_in_a_byte(lambda a, b: a // b)),
                _sum(
                    codes=_whole_codes_in_a_byte(lambda a, b: a // b),
                    scales=lambda num_weights, group_size: 1 if group_size is None else num_weights // group_size,
                ),
            ),
            "At 3 bits a code may begin in one byte and end in the next. Count the bits of all codes, "
            "`num_weights * num_bits`, and divide those by 8.",
        ),
        WrongAnswer(
            "the last, short group not counted",
            (
                _sum(scales=lambda num_weights, group_size: 1 if group_size is None else num_weights // group_size),
                _sum(scales=lambda num_weights, group_size: round(num_weights / (group_size or num_weights))),
            ),
            "The last group may be short, but it needs a scale too: round the number of groups up.",
        ),
        WrongAnswer(
            "a scale for each weight",
            (
                _sum(scales=lambda num_weights, group_size: num_weights),
                _sum(scales=lambda num_weights, group_size: 1 if group_size is None else num_weights),
            ),
            "You count a scale for each weight. `group_size` weights share one.",
        ),
        WrongAnswer(
            "as many scales as a group has weights",
            (_sum(scales=lambda num_weights, group_size: 1 if group_size is None else group_size),),
            "`group_size` is how many weights share a scale, not how many scales there are: that is "
            "`num_weights / group_size`, rounded up.",
        ),
        WrongAnswer(
            "one scale, whatever the groups",
            (_sum(scales=lambda num_weights, group_size: 1),),
            "You count one scale. That is right for `group_size=None`; otherwise there is one for each group.",
        ),
        WrongAnswer(
            "no scale if group_size is None",
            (_sum(scales=_no_scale_if_none),),
            "`group_size=None` means one scale for all the weights, not none.",
        ),
        WrongAnswer(
            "stops if group_size is None",
            (
                _sum(scales=lambda num_weights, group_size: -(-num_weights // group_size)),
                _sum(scales=lambda num_weights, group_size: math.ceil(num_weights / group_size)),
                _sum(
                    codes=lambda num_weights, num_bits: num_weights * num_bits // 8,
                    scales=lambda num_weights, group_size: num_weights // group_size,
                ),
            ),
            "`group_size` may be `None`, and then there is nothing to divide by: the number of scales is 1.",
        ),
        WrongAnswer(
            "not rounded at all",
            (_with_fractions, _fractions_of_codes),
            "Half a byte cannot be held: round the codes' bytes and the number of groups up to whole numbers.",
        ),
        WrongAnswer(
            "a float",
            (_as_float, lambda *arguments: math.ceil(_as_float(*arguments)) * 1.0),
            "The number is right but a float, as `/` and `np.ceil` give. Bytes are whole: use `//`, or `int(...)`.",
        ),
    ),
)
