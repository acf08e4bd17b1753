"""Exercise: the roofline, how many tokens per second a machine can do at most (notebook 10)."""

from .base import Exercise, WrongAnswer


def tokens_per_second(nbytes, num_weights, batch, bandwidth, peak):
    """Return the speed that reading or computing allows, whichever takes longer."""
    reading = nbytes / bandwidth  # seconds, once for all tokens of the batch
    computing = 2 * num_weights * batch / peak
    return batch / max(reading, computing)


# Bytes and weights in round numbers, read at 10 GB/s, computed at 100 billion operations per second.
EXAMPLES = (
    (400_000_000, 100_000_000, 1, 1e10, 1e11),
    (100_000_000, 100_000_000, 1, 1e10, 1e11),
    (400_000_000, 100_000_000, 100, 1e10, 1e11),
    (400_000_000, 100_000_000, 8, 1e10, 1e11),
    (50_000_000, 100_000_000, 1, 1e10, 1e10),
)


def cases(rng):
    for batch in (1, 2, 3, 16, 64, 1000):
        for bytes_per_weight in (4, 1.06, 0.56):
            num_weights = int(rng.integers(10**6, 10**10))
            bandwidth, balance = rng.uniform(5e9, 3e12), 10 ** rng.uniform(-0.7, 2.5)
            yield int(bytes_per_weight * num_weights), num_weights, batch, bandwidth, bandwidth * balance


def _variant(
    *, reading=lambda n, batch: n, operations=lambda w, batch: 2 * w * batch, of=max, speed=lambda b, s: b / s
):
    """The reference with other parts in it."""

    def function(nbytes, num_weights, batch, bandwidth, peak):
        seconds = of(reading(nbytes, batch) / bandwidth, operations(num_weights, batch) / peak)
        return speed(batch, seconds)

    return function


def _reading_only(nbytes, num_weights, batch, bandwidth, peak):
    return batch * bandwidth / nbytes


def _reading_one(nbytes, num_weights, batch, bandwidth, peak):
    return bandwidth / nbytes


def _computing_only(nbytes, num_weights, batch, bandwidth, peak):
    return peak / (2 * num_weights)


def _float32_always(nbytes, num_weights, batch, bandwidth, peak):
    return tokens_per_second(4 * num_weights, num_weights, batch, bandwidth, peak)


def _bits(nbytes, num_weights, batch, bandwidth, peak):
    return tokens_per_second(nbytes / 8, num_weights, batch, bandwidth, peak)


def _swapped(nbytes, num_weights, batch, bandwidth, peak):
    return tokens_per_second(nbytes, num_weights, batch, peak, bandwidth)


EXERCISE = Exercise(
    reference=tokens_per_second,
    outputs=("speed",),
    checked="one token and batches of up to 1,000, float32, 8-bit and 4-bit sizes, machines of every balance",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "First two times for the whole batch: how long does reading take, how long does computing?",
        "Reading: `nbytes / bandwidth`, whatever the batch. Computing: `2 * num_weights * batch / peak`. Both go on at "
        "once, so the longer one counts.",
        "`batch` tokens are done in `max(reading, computing)` seconds: divide.",
    ),
    wrong_answers=(
        WrongAnswer(
            "one after the other",
            (_variant(of=lambda a, b: a + b),),
            "You add the two times. A core computes with what has come while the next bytes are under way: the longer "
            "time counts, not the sum.",
        ),
        WrongAnswer(
            "the shorter time",
            (_variant(of=min), lambda n, w, batch, b, p: max(batch * b / n, p / (2 * w))),
            "You let the *faster* of the two decide. Both must be done: the slower one, with the longer time, is the "
            "bound.",
        ),
        WrongAnswer(
            "one operation for each weight",
            (_variant(operations=lambda w, batch: w * batch),),
            "Each weight takes two operations for each token: a multiplication and an addition.",
        ),
        WrongAnswer(
            "computed for one token only",
            (_variant(operations=lambda w, batch: 2 * w),),
            "Your computing time does not grow with the batch. The bytes are read once for all tokens, but each token "
            "has its own 2 operations for each weight.",
        ),
        WrongAnswer(
            "read for each token",
            (_variant(reading=lambda n, batch: n * batch), lambda n, w, batch, b, p: min(b / n, p / (2 * w))),
            "You read all weights once for each token. That is what a batch saves: they are read once, and used for "
            "all its tokens.",
        ),
        WrongAnswer(
            "batches per second",
            (_variant(speed=lambda batch, seconds: 1 / seconds),),
            "That is how many *batches* are done per second. Each holds `batch` tokens.",
        ),
        WrongAnswer(
            "the time",
            (
                _variant(speed=lambda batch, seconds: seconds),
                _variant(speed=lambda batch, seconds: seconds / batch),
            ),
            "These are seconds. Asked is the speed: tokens divided by seconds.",
        ),
        WrongAnswer(
            "the memory only",
            (_reading_only, _reading_one),
            "You only count reading. With many tokens at a time there is more to compute than to read.",
        ),
        WrongAnswer(
            "the arithmetic only",
            (_computing_only,),
            "You only count computing. With few tokens at a time the weights come too slowly to keep it busy.",
        ),
        WrongAnswer(
            "4 bytes for each weight",
            (_float32_always,),
            "You count 4 bytes for each weight, as in float32. How many there really are is `nbytes`.",
        ),
        WrongAnswer(
            "bits and bytes mixed up",
            (_bits,),
            "`nbytes` counts bytes, and so does the bandwidth: there is no 8 between them.",
        ),
        WrongAnswer(
            "the two limits swapped",
            (_swapped,),
            "Bytes are divided by `bandwidth` (bytes per second), operations by `peak` (operations per second).",
        ),
    ),
)
