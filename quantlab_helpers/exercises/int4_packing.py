"""Exercise: pack signed 4-bit codes, two to a byte (notebook 02)."""

import numpy as np

from .base import Exercise, WrongAnswer


def int4_packing(codes):
    """Return the 4-bit codes packed, two to a byte: the first in the low half, as uint8."""
    nibbles = codes.astype(np.uint8) & 0b1111  # the low four bits of each code
    if nibbles.size % 2:
        nibbles = np.append(nibbles, np.uint8(0))  # a partner for the last one
    return nibbles[0::2] | (nibbles[1::2] << 4)


EXAMPLES = (
    (np.array([1, 2], dtype=np.int8),),
    (np.array([7, 0, 5, 6], dtype=np.int8),),
    (np.array([5, -7], dtype=np.int8),),
    (np.array([-1, 2], dtype=np.int8),),
    (np.array([3, 4, 5, 6, 7], dtype=np.int8),),
    (np.array([-8], dtype=np.int8),),
    (np.zeros(4, dtype=np.int8),),
)


def cases(rng):
    for count in (*rng.integers(2, 40, size=4), 1001):
        yield (rng.integers(-8, 8, size=count).astype(np.int8),)


# The wrong answers below differ from the reference in one thing each; these are the parts that they share.


def _even(codes):
    """The codes with a 0 at the end if their number is odd."""
    return np.append(codes, np.zeros(codes.size % 2, codes.dtype))


def _nibbles(codes):
    return _even(codes).astype(np.uint8) & 0b1111


def _high_half_first(codes):
    nibbles = _nibbles(codes)
    return (nibbles[0::2] << 4) | nibbles[1::2]


def _high_half_first_by_arithmetic(codes):
    nibbles = _nibbles(codes)
    return (nibbles[0::2] * 16 + nibbles[1::2]).astype(np.uint8)


def _no_mask(codes):
    codes = _even(codes)
    return (codes[0::2] | (codes[1::2] << 4)).astype(np.uint8)


def _no_mask_on_bytes(codes):
    data = _even(codes).astype(np.uint8)
    return data[0::2] | (data[1::2] << 4)


def _mask_on_the_second_only(codes):
    codes = _even(codes)
    return (codes[0::2] | ((codes[1::2] & 0b1111) << 4)).astype(np.uint8)


def _added_with_sign(codes):
    codes = _even(codes).astype(np.int64)
    return (codes[0::2] + 16 * codes[1::2]).astype(np.uint8)


def _added_shifted_with_sign(codes):
    codes = _even(codes)
    return (codes[0::2] + (codes[1::2] << 4)).view(np.uint8)


def _last_code_dropped(codes):
    nibbles = _nibbles(codes[: codes.size // 2 * 2])
    return nibbles[0::2] | (nibbles[1::2] << 4)


def _last_code_dropped_by_a_loop(codes):
    pairs = [(codes[i], codes[i + 1]) for i in range(0, len(codes) - 1, 2)]
    return np.array([(int(a) & 15) | (int(b) & 15) << 4 for a, b in pairs], dtype=np.uint8)


def _no_partner_for_the_last(codes):
    nibbles = codes.astype(np.uint8) & 0b1111
    return nibbles[0::2] | (nibbles[1::2] << 4)


def _no_mask_and_no_partner(codes):
    data = codes.astype(np.uint8)
    return data[0::2] | (data[1::2] << 4)


def _no_partner_for_the_last_in_a_loop(codes):
    data = []
    for i in range(0, len(codes), 2):
        data.append((int(codes[i]) & 15) | (int(codes[i + 1]) & 15) << 4)
    return np.array(data, dtype=np.uint8)


def _of_dtype(dtype):
    return lambda codes: int4_packing(codes).astype(dtype)


def _halves(codes):
    nibbles = _nibbles(codes)
    half = nibbles.size // 2
    return nibbles[:half] | (nibbles[half:] << 4)


def _joined(join, halves=_nibbles):
    """Another way to join the two halves, with a partner for the last odd code and without one."""

    def with_partner(codes):
        return join(halves(_even(codes))[0::2], halves(_even(codes))[1::2])

    def without_partner(codes):
        return join(halves(codes)[0::2], halves(codes)[1::2])

    return with_partner, without_partner


def _as_bytes(codes):
    return codes.astype(np.uint8)


def _partner(append):
    """Another partner for the last odd code than a 0 at the end."""

    def function(codes):
        nibbles = codes.astype(np.uint8) & 0b1111
        if nibbles.size % 2:
            nibbles = append(nibbles)
        return nibbles[0::2] | (nibbles[1::2] << 4)

    return function


def _zero_appended_to_all(codes):
    nibbles = np.append(codes.astype(np.uint8) & 0b1111, np.uint8(0))
    return nibbles[0::2] | (nibbles[1::2] << 4)


def _not_packed(codes):
    return codes.astype(np.uint8) & 0b1111


def _eight_added(codes):
    nibbles = (_even(codes) + 8).astype(np.uint8)
    return nibbles[0::2] | (nibbles[1::2] << 4)


def _eight_added_then_a_partner(codes):
    nibbles = (codes + 8).astype(np.uint8)
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
    return nibbles[0::2] | (nibbles[1::2] << 4)


def _not_shifted(codes):
    nibbles = _nibbles(codes)
    return nibbles[0::2] | nibbles[1::2]


def _shifted_by(distance):
    def function(codes):
        nibbles = _nibbles(codes).astype(np.int64)
        return (nibbles[0::2] | (nibbles[1::2] << distance)).astype(np.uint8)

    return function


def _magnitudes(codes):
    return int4_packing(np.abs(codes))


EXERCISE = Exercise(
    reference=int4_packing,
    outputs=("data",),
    checked="codes from -8 to 7, even and odd numbers of them, one code, all zeros, order, dtype and number of bytes",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Keep the low four bits of every code. Then join neighbours: the second of each pair is shifted by 4.",
        "`nibbles = codes.astype(np.uint8) & 0b1111`. The first codes of the pairs are `nibbles[0::2]`, the second "
        "ones `nibbles[1::2]`.",
        "If the number is odd, append `np.uint8(0)` first (a plain 0 would make the array int64). Then "
        "`nibbles[0::2] | (nibbles[1::2] << 4)` is uint8 already, and all that you need.",
    ),
    wrong_answers=(
        WrongAnswer(
            "high half first",
            (_high_half_first, _high_half_first_by_arithmetic),
            "You put the first code into the upper half. Some programs do, but here it goes into the low half, and "
            "the second is shifted: `first | (second << 4)`.",
        ),
        WrongAnswer(
            "negative codes not masked",
            (_no_mask, _no_mask_on_bytes, _mask_on_the_second_only, _no_mask_and_no_partner),
            "A negative code has ones in all its upper bits, and they spill over its neighbour. Keep the low four "
            "bits of every code first: `& 0b1111`.",
        ),
        WrongAnswer(
            "joined as int8",
            (
                lambda codes: codes[0::2] | (codes[1::2] << 4),
                lambda codes: codes[0::2] + (codes[1::2] << 4),
                lambda codes: codes[0::2] + codes[1::2] * 16,
                lambda codes: _even(codes)[0::2] | (_even(codes)[1::2] << 4),
            ),
            "You join the codes as int8, so the result is int8 too, and a negative code spoils its neighbour. Make "
            "nibbles first, which cures both: `codes.astype(np.uint8) & 0b1111`.",
        ),
        WrongAnswer(
            "signed codes added",
            (_added_with_sign, _added_shifted_with_sign),
            "You add codes with their sign, so a negative first code takes 1 away from its neighbour. Mask both "
            "with `& 0b1111` first; then `+` and `|` give the same.",
        ),
        WrongAnswer(
            "last odd code dropped",
            (_last_code_dropped, _last_code_dropped_by_a_loop),
            "If the number of codes is odd, your last one is missing. It needs a byte of its own, with 0 in the "
            "upper half.",
        ),
        WrongAnswer(
            "no partner for the last odd code",
            (_no_partner_for_the_last, _no_partner_for_the_last_in_a_loop),
            "With an odd number of codes the last one has no partner, and your function stops. Append `np.uint8(0)` "
            "first (a plain 0 would make the array int64).",
        ),
        WrongAnswer(
            "padding not 0, not at the end or where none is needed",
            (
                _partner(lambda nibbles: np.append(np.uint8(0), nibbles)),
                _partner(lambda nibbles: np.append(nibbles, nibbles[-1])),
                _partner(lambda nibbles: np.append(nibbles, nibbles[0])),
                _partner(lambda nibbles: np.append(nibbles, np.uint8(1))),
                _partner(lambda nibbles: np.append(nibbles, np.uint8(15))),
                _zero_appended_to_all,
            ),
            "Only an odd number of codes needs a partner: one 0, and it comes last. `np.append(nibbles, np.uint8(0))`.",
        ),
        WrongAnswer(
            "brackets",
            (
                *_joined(lambda first, second: first + second << 4, lambda codes: _as_bytes(codes) & 0b1111),
                *_joined(lambda first, second: first & 0b1111 | second & 0b1111 << 4, _as_bytes),
                *_joined(lambda first, second: first & 0b1111 | second & 0b1111 << 4, lambda codes: codes),
                *_joined(lambda first, second: (first & 0b1111) + (second & 0b1111) << 4, lambda codes: codes),
            ),
            "`+` binds tighter than `<<`, and `<<` tighter than `&`: put brackets around each shifted half.",
        ),
        WrongAnswer(
            "mask of three bits",
            _joined(lambda first, second: first | (second << 4), lambda codes: _as_bytes(codes) & 0b111),
            "Your mask keeps three bits, so the sign is lost. A 4-bit code has four: `& 0b1111`.",
        ),
        WrongAnswer(
            "halves joined with &",
            _joined(lambda first, second: first & (second << 4), lambda codes: _as_bytes(codes) & 0b1111),
            "`&` keeps the bits that both halves have, and they have none in common. Join them with `|`.",
        ),
        WrongAnswer(
            "not uint8",
            (
                *map(_of_dtype, (np.int8, np.int64, np.uint16, np.int32, np.int16)),
                _partner(lambda nibbles: np.append(nibbles, 0)),
            ),
            "The bits are right, but the array is not uint8. A byte runs from 0 to 255; wider integers waste what you "
            "saved: finish with `.astype(np.uint8)`. (If you appended a plain 0, that made the array int64: append "
            "`np.uint8(0)`.)",
        ),
        WrongAnswer(
            "halves of the array instead of neighbours",
            (_halves,),
            "You join the first half of the array with the second half. Here neighbours share a byte: `[0::2]` and "
            "`[1::2]`.",
        ),
        WrongAnswer(
            "one code a byte",
            (_not_packed, lambda codes: codes.astype(np.uint8), lambda codes: codes, lambda codes: codes & 0b1111),
            "There is still one code in each byte. Take the codes in pairs, `[0::2]` and `[1::2]`, and join each pair.",
        ),
        WrongAnswer(
            "8 added to each code",
            (_eight_added, _eight_added_then_a_partner),
            "You add 8 to make the codes positive. Some formats do (GGUF's Q4_0), but here a code keeps its own low "
            "four bits, in two's complement: `& 0b1111`.",
        ),
        WrongAnswer(
            "the second code not shifted by 4",
            (_not_shifted, _shifted_by(8), _shifted_by(3)),
            "Both codes end up in the same bits. A half byte has four bits: shift the second code with `<< 4`.",
        ),
        WrongAnswer(
            "sign lost",
            (_magnitudes,),
            "You pack the magnitudes, and the sign is gone. The low four bits of the code itself, `& 0b1111`, hold it.",
        ),
    ),
)
