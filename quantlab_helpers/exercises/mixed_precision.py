"""Exercise, a challenge: a width for each layer within a budget of bytes (notebook 06)."""

import numpy as np

from .base import Exercise, WrongAnswer


def mixed_precision(divergence, num_weights, budget):
    """Return the bits of each layer, by greed: the next bit goes where it gains most per byte, while one fits."""
    bits = np.full(len(divergence), 2)
    while True:
        left = 8 * budget - np.sum(num_weights * bits)  # bits that are not spent yet
        fits = (num_weights <= left) & (bits < 8)
        if not fits.any():
            return bits
        gain = 0.75 * divergence * 4.0 ** (4 - bits)  # one more bit leaves a quarter
        best = np.where(fits, gain / num_weights, -np.inf).argmax()
        bits[best] += 1


# How far above the reference's an answer's total may be. Whoever takes bits in the order of their gain per byte until
# no layer's next bit fits ends where the reference does, and a thorough search ends below. 2 % are worth
# log4(1.02) = 0.014 bits a weight: room for another way to spend the last bytes, too little for any known mistake.
_MARGIN = 1.02


def _total(divergence, bits):
    return np.sum(divergence * 4.0 ** (4 - bits))


def _objection(arguments, bits, expected):
    """Which rule an answer breaks, or "" if it is as good as the reference's."""
    divergence, num_weights, budget = arguments
    if not isinstance(bits, np.ndarray) or bits.shape != divergence.shape or bits.dtype.kind not in "iu":
        return "not an array of whole numbers, one for each layer"
    bits = bits.astype(np.int64)
    if bits.min() < 2 or bits.max() > 8:
        return "every layer gets from 2 to 8 bits"
    used = np.sum(num_weights * bits) / 8
    if used > budget:
        return f"that takes {used:,.10g} bytes, {used - budget:,.10g} over the budget"
    total, best = _total(divergence, bits), _total(divergence, expected)
    if total > _MARGIN * best:
        return f"a predicted total of {total:.3g} from {used:,.10g} bytes, where {best:.3g} is possible"
    return ""


# Eight weights are as many bytes as they have bits, so these can be checked in the head.
EXAMPLES = (
    (np.array([0.3, 0.1, 0.02]), np.array([8, 8, 8]), 12),
    (np.array([0.02, 0.3, 0.1]), np.array([8, 64, 8]), 40),
    (np.array([0.2, 0.02, 0.05]), np.array([64, 32, 8]), 55),  # where one layer no longer fits, another does
    (np.array([0.5, 0.04, 0.01, 0.2]), np.array([8, 16, 8, 32]), 32),  # as much as 4 bits everywhere
    (np.array([0.9, 0.3, 0.001]), np.array([8, 16, 8]), 9),
    (np.array([0.1, 0.3, 0.2]), np.array([16, 8, 8]), 32),  # 8 bits everywhere, to the byte
    (np.array([0.1, 0.3]), np.array([8, 16]), 40),  # more than 8 bits everywhere
    (np.array([0.01, 0.5]), np.array([8, 16]), 6),  # just 2 bits everywhere
)


def cases(rng):
    for num_layers, width in ((4, 2.4), (7, 4.4), (10, 3.3), (14, 5.2)):
        divergence, num_weights = _random(rng, num_layers)
        yield divergence, num_weights, int(num_weights.sum() * width / 8)
    divergence, num_weights = _random(rng, 8)
    yield divergence, num_weights, num_weights.sum() * 3 / 8


def _random(rng, num_layers):
    return rng.lognormal(-3, 1.2, num_layers), rng.choice([64, 128, 192, 512], num_layers)


def _gain_per_weight(divergence, num_weights, bits):
    return divergence * 4.0 ** (4 - bits) / num_weights


def _greedy(
    gain=_gain_per_weight,
    *,
    counted=lambda num_weights: num_weights,
    limit=lambda budget: 8 * budget,
    lowest=2,
    highest=8,
    fits=np.less_equal,
    dtype=np.int64,
):
    """The reference with another gain, another count of what is spent, or other bounds."""

    def function(divergence, num_weights, budget):
        bits, sizes = np.full(len(divergence), lowest, dtype=dtype), counted(num_weights)
        while True:
            possible = fits(sizes, limit(budget) - np.sum(sizes * bits)) & (bits < highest)
            if not possible.any():
                return bits
            bits[np.where(possible, gain(divergence, num_weights, bits), -np.inf).argmax()] += 1

    return function


def _stops_early(divergence, num_weights, budget):
    bits = np.full(len(divergence), 2)
    while bits.min() < 8:
        best = np.where(bits < 8, _gain_per_weight(divergence, num_weights, bits), -np.inf).argmax()
        if np.sum(num_weights * bits) + num_weights[best] > 8 * budget:
            break
        bits[best] += 1
    return bits


def _checked_too_late(gain=_gain_per_weight, within=np.less):
    def function(divergence, num_weights, budget):
        bits = np.full(len(divergence), 2)
        while bits.min() < 8 and within(np.sum(num_weights * bits), 8 * budget):
            bits[np.where(bits < 8, gain(divergence, num_weights, bits), -np.inf).argmax()] += 1
        return bits

    return function


def _removed(loss):
    """From 8 bits down: take a bit where `loss` is smallest, until all fits."""

    def function(divergence, num_weights, budget):
        bits = np.full(len(divergence), 8)
        while np.sum(num_weights * bits) > 8 * budget:
            bits[np.where(bits > 2, loss(divergence, num_weights, bits), np.inf).argmin()] -= 1
        return bits

    return function


def _one_width(rounded):
    def function(divergence, num_weights, budget):
        return np.full(len(divergence), int(np.clip(rounded(8 * budget / num_weights.sum()), 2, 8)))

    return function


def _first_come(key, *, stop=False, step=1):
    """In the order of `key`, largest first: as many bits as fit for one layer, then for the next."""

    def function(divergence, num_weights, budget):
        bits = np.full(len(divergence), 2)
        for layer in np.argsort(-key(divergence, num_weights)):
            while bits[layer] < 8 and np.sum(num_weights * bits) + step * num_weights[layer] <= 8 * budget:
                bits[layer] += step
            if stop and bits[layer] < 8:
                break
        return bits

    return function


def _rounds(key, rounds):
    """In the order of `key`, largest first: one bit for each layer that fits, again and again."""

    def function(divergence, num_weights, budget):
        bits = np.full(len(divergence), 2)
        for _ in range(rounds):
            for layer in np.argsort(-key(divergence, num_weights)):
                if np.sum(num_weights * bits) + num_weights[layer] <= 8 * budget and bits[layer] < 8:
                    bits[layer] += 1
        return bits

    return function


def _only_powers_of_two(divergence, num_weights, budget):
    bits = np.full(len(divergence), 2)
    while True:
        possible = (bits * num_weights <= 8 * budget - np.sum(num_weights * bits)) & (bits < 8)
        if not possible.any():
            return bits
        gain = divergence * (4.0 ** (4 - bits) - 4.0 ** (4 - 2 * bits)) / (num_weights * bits)
        bits[np.where(possible, gain, -np.inf).argmax()] *= 2


def _by_formula(finish):
    """The mean width, half a bit more or less for each factor 2 in divergence per weight."""

    def function(divergence, num_weights, budget):
        half_bits = np.log2(divergence / num_weights) / 2
        mean = np.average(half_bits, weights=num_weights)
        return finish(np.clip(8 * budget / num_weights.sum() + half_bits - mean, 2, 8))

    return function


def _in_proportion(share):
    """Widths in proportion to the divergence, without and with a look at the budget."""

    def function(divergence, num_weights, budget):
        return np.clip(share(divergence, num_weights, 8 * budget), 2, 8).astype(np.int64)

    return function


def _finished(finish):
    """The right bits, but returned as something else."""

    def function(divergence, num_weights, budget):
        return finish(mixed_precision(divergence, num_weights, budget), divergence, num_weights)

    return function


def _by_divergence(divergence, num_weights):
    return divergence


def _by_divergence_per_weight(divergence, num_weights):
    return divergence / num_weights


EXERCISE = Exercise(
    reference=mixed_precision,
    outputs=("bits",),
    checked="2 to 14 layers of like and unlike sizes, budgets from 2 to more than 8 bits a weight; whole bits from 2 "
    "to 8, within the budget, a predicted total at most 2 % above the reference's",
    examples=EXAMPLES,
    cases=cases,
    objection=_objection,
    hints=(
        "Be greedy. Start with 2 bits everywhere. Then again and again: which layer gains most from one more bit, for "
        "what that bit costs?",
        "One more bit takes a layer's part, `divergence * 4.0 ** (4 - bits)`, down to a quarter: it gains three "
        "quarters of it, and costs `num_weights` bits. Compare gain / cost. The budget is in bytes: `8 * budget` bits.",
        "In a loop: `left = 8 * budget - np.sum(num_weights * bits)`, and `fits = (num_weights <= left) & (bits < 8)`. "
        "If none fits, return. Else `bits[np.where(fits, gain / num_weights, -np.inf).argmax()] += 1`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "bits counted as bytes",
            (
                _greedy(limit=lambda budget: budget),
                _greedy(limit=lambda budget: budget / 8),
                lambda divergence, num_weights, budget: np.full(len(divergence), 2),
            ),
            "Your layers stay at 2 bits, and most of the budget is left. `num_weights * bits` is a number of bits; the "
            "budget is in bytes, so `8 * budget` bits may be spent.",
        ),
        WrongAnswer(
            "the budget not looked at",
            (
                lambda divergence, num_weights, budget: np.full(len(divergence), 8),
                _greedy(limit=lambda budget: np.inf),
                _greedy(limit=lambda budget: 64 * budget),
            ),
            "You give 8 bits to every layer, whatever the budget. All codes together may take `8 * budget` bits: "
            "`np.sum(num_weights * bits)` must not be more.",
        ),
        WrongAnswer(
            "checked before the bit instead of after",
            (
                _checked_too_late(),
                _checked_too_late(within=np.less_equal),
                _checked_too_late(lambda divergence, num_weights, bits: divergence * 4.0 ** (4 - bits)),
            ),
            "You ask whether something is left, then give a bit that may take more than that. Ask whether *this* bit "
            "still fits: `num_weights <= left`.",
        ),
        WrongAnswer(
            "every layer counted the same",
            (
                _greedy(counted=lambda num_weights: np.full(len(num_weights), num_weights.mean())),
                _greedy(
                    lambda divergence, num_weights, bits: divergence * 4.0 ** (4 - bits),
                    counted=lambda num_weights: np.full(len(num_weights), num_weights.mean()),
                ),
            ),
            "You count bits as if all layers were of one size. A bit for layer i takes `num_weights[i]` bits of the "
            "budget.",
        ),
        WrongAnswer(
            "one width for all",
            (_one_width(np.floor), _one_width(np.round), _one_width(np.ceil)),
            "That is one width for all layers. Where a bit gains little, take it away; give it where it gains much.",
        ),
        WrongAnswer(
            "the least sensitive layer first",
            (
                _greedy(lambda divergence, num_weights, bits: -_gain_per_weight(divergence, num_weights, bits)),
                _greedy(lambda divergence, num_weights, bits: -divergence * 4.0 ** (4 - bits)),
                _greedy(lambda divergence, num_weights, bits: 4.0 ** (4 - bits) / divergence),
                _greedy(lambda divergence, num_weights, bits: 4.0 ** (4 - bits) / divergence / num_weights),
                _first_come(lambda divergence, num_weights: -divergence),
                _first_come(lambda divergence, num_weights: -divergence / num_weights),
            ),
            "The layers that suffer least get your bits. The next bit belongs where it gains *most*: `argmax`, or the "
            "largest first.",
        ),
        WrongAnswer(
            "gain not per byte",
            (
                _greedy(lambda divergence, num_weights, bits: divergence * 4.0 ** (4 - bits)),
                _removed(lambda divergence, num_weights, bits: divergence * 4.0 ** (4 - bits)),
            ),
            "You look at the gain only, not at its price. A bit for a layer of twice the size costs twice as much: "
            "compare gain / `num_weights`.",
        ),
        WrongAnswer(
            "gain times size, or size alone",
            (
                _greedy(lambda divergence, num_weights, bits: divergence * 4.0 ** (4 - bits) * num_weights),
                _greedy(lambda divergence, num_weights, bits: 4.0 ** (4 - bits) * num_weights),
                _greedy(lambda divergence, num_weights, bits: 4.0 ** (4 - bits) / num_weights),
            ),
            "A large layer makes a bit dear, not valuable: *divide* the gain by `num_weights`. (`divergence` is that "
            "of the whole layer already.)",
        ),
        WrongAnswer(
            "the same gain for every bit of a layer",
            (
                _greedy(lambda divergence, num_weights, bits: divergence / num_weights),
                _greedy(lambda divergence, num_weights, bits: divergence),
                _greedy(lambda divergence, num_weights, bits: divergence * 4.0 ** (bits - 4) / num_weights),
                _greedy(lambda divergence, num_weights, bits: divergence * 4.0 ** (bits - 4)),
                _first_come(_by_divergence, stop=True),
                _first_come(_by_divergence_per_weight, stop=True),
            ),
            "One layer gets bit after bit up to 8 before the next gets any. Each bit gains a quarter of the one "
            "before: compare `divergence * 4.0 ** (4 - bits)` anew after every bit.",
        ),
        WrongAnswer(
            "8 bits or 2, nothing between",
            (
                _first_come(_by_divergence, step=6),
                _first_come(_by_divergence_per_weight, step=6),
                _first_come(_by_divergence, step=6, stop=True),
                _first_come(_by_divergence_per_weight, step=6, stop=True),
            ),
            "Your layers get 8 bits or 2. The first bits gain far more than the last: six bits do more good spread "
            "over six layers than in one. Give one at a time.",
        ),
        WrongAnswer(
            "only 2, 4 and 8 bits",
            (_only_powers_of_two,),
            "You use 2, 4 and 8 bits only. Here every whole number from 2 to 8 is allowed, and the widths between are "
            "worth having.",
        ),
        WrongAnswer(
            "halved, not quartered",
            (
                _greedy(lambda divergence, num_weights, bits: divergence * 2.0 ** (4 - bits) / num_weights),
                _greedy(lambda divergence, num_weights, bits: divergence * 2.0 ** (4 - bits)),
            ),
            "Your gain halves with each bit. The step halves, but the squared error, and with it the divergence, goes "
            "down to a quarter: `4.0 ** (4 - bits)`.",
        ),
        WrongAnswer(
            "a round for everyone",
            (
                *(_rounds(_by_divergence, rounds) for rounds in (1, 2, 6)),
                *(_rounds(_by_divergence_per_weight, rounds) for rounds in (1, 2, 6)),
            ),
            "You go round and give each layer a bit in turn. After each bit, look again which layer gains most: it may "
            "be the same one.",
        ),
        WrongAnswer(
            "stops while something still fits",
            (
                _stops_early,
                _removed(_gain_per_weight),
            ),
            "You stop while a bit for a smaller layer would still fit. Go on with those that fit, until none does.",
        ),
        WrongAnswer(
            "takes away the wrong bit",
            (
                _removed(lambda divergence, num_weights, bits: -_gain_per_weight(divergence, num_weights, bits)),
                _removed(lambda divergence, num_weights, bits: -divergence * 4.0 ** (4 - bits)),
                _removed(lambda divergence, num_weights, bits: -num_weights * bits),
                _removed(lambda divergence, num_weights, bits: -num_weights),
            ),
            "You start from 8 bits and take away where it hurts, or where there is most. Take the bit whose loss per "
            "byte is smallest: `argmin` of `divergence * 4.0 ** (4 - bits) / num_weights`.",
        ),
        WrongAnswer(
            "not the last byte",
            (_greedy(fits=np.less),),
            "You leave the last bytes unspent: what takes exactly the budget is allowed. `<=`, not `<`.",
        ),
        WrongAnswer(
            "no cap at 8 bits",
            (_greedy(highest=10**9), _greedy(highest=9), _greedy(highest=16)),
            "A layer gets more than 8 bits. Leave those out that have 8 already: `bits < 8`.",
        ),
        WrongAnswer(
            "capped too early",
            (_greedy(highest=7), _greedy(highest=6), _greedy(highest=4)),
            "No layer of yours gets 8 bits, even where there is room. Let each grow while it has less than 8: "
            "`bits < 8`.",
        ),
        WrongAnswer(
            "less than 2 bits",
            (_greedy(lowest=0), _greedy(lowest=1)),
            "A layer is left with less than 2 bits. Start with 2 everywhere: `np.full(len(divergence), 2)`.",
        ),
        WrongAnswer(
            "starts above 2 bits",
            (_greedy(lowest=4), _greedy(lowest=3)),
            "No layer of yours gets 2 bits. The divergence was measured at 4, but a layer may go below: start with 2 "
            "everywhere.",
        ),
        WrongAnswer(
            "in proportion to the divergence",
            (
                _in_proportion(lambda d, n, limit: limit * d / d.sum() / n),
                _in_proportion(lambda d, n, limit: limit / n.sum() * d / d.mean()),
                _in_proportion(lambda d, n, limit: np.round(2 + 6 * d / d.max())),
                _in_proportion(lambda d, n, limit: np.round(2 + 6 * (d - d.min()) / (d.max() - d.min()))),
            ),
            "You share bits out in proportion to the divergence. A layer with four times the divergence needs only "
            "*one* bit more, because each bit quarters it.",
        ),
        WrongAnswer(
            "a formula, rounded",
            (
                _by_formula(lambda bits: np.round(bits).astype(np.int64)),
                _by_formula(lambda bits: np.floor(bits).astype(np.int64)),
                _by_formula(lambda bits: np.ceil(bits).astype(np.int64)),
            ),
            "Your formula is right for widths with fractions and without bounds. Rounded up they go over the budget, "
            "rounded down they leave some: give whole bits one at a time.",
        ),
        WrongAnswer(
            "floats",
            (
                _finished(lambda bits, divergence, num_weights: bits.astype(np.float64)),
                _finished(lambda bits, divergence, num_weights: bits.astype(np.float32)),
                _by_formula(lambda bits: bits),
            ),
            "Your bits are floats. A code has a whole number of them: start with `np.full(len(divergence), 2)`, which "
            "is an int array.",
        ),
        WrongAnswer(
            "something else than the bits",
            (
                _finished(lambda bits, divergence, num_weights: _total(divergence, bits)),
                _finished(lambda bits, divergence, num_weights: (bits, _total(divergence, bits))),
                _finished(lambda bits, divergence, num_weights: np.sum(num_weights * bits) / 8),
                _finished(lambda bits, divergence, num_weights: num_weights * bits),
                _finished(lambda bits, divergence, num_weights: bits - 2),
                _finished(lambda bits, divergence, num_weights: bits.sum()),
                _finished(lambda bits, divergence, num_weights: divergence * 4.0 ** (4 - bits)),
            ),
            "Return the bits of each layer, one array of whole numbers from 2 to 8, and nothing else: no total, no "
            "bytes, no extra bits.",
        ),
        WrongAnswer(
            "a whole number to a negative power",
            (_greedy(lambda divergence, num_weights, bits: divergence * 4 ** (4 - bits) / num_weights),),
            "`4 ** (4 - bits)` stops beyond 4 bits: NumPy raises no whole number to a negative power. Write "
            "`4.0 ** (4 - bits)`.",
        ),
        WrongAnswer(
            "bits without a sign",
            (_greedy(dtype=np.uint8),),
            "Your bits are `uint8`, which has no negative numbers: at 5 bits, `4 - bits` is 255. Leave the dtype out: "
            "`np.full(len(divergence), 2)`.",
        ),
    ),
)
