"""Exercise: the longest context that both fits in memory and is fast enough (notebook 11)."""

import math

from .base import Exercise, WrongAnswer


def largest_context(memory, weights, cache_per_token, users, bandwidth, speed):
    """Return how many tokens each user's cache may hold, so that all fits and each user gets `speed` tokens/s."""
    most_bytes = min(memory, bandwidth // speed)  # that fit, and that can be read in time for each token
    return max(0, (most_bytes - weights) // (users * cache_per_token))


EXAMPLES = (
    (1000, 600, 10, 1, 100_000, 10),
    (1000, 600, 10, 1, 9_000, 10),
    (1000, 600, 10, 4, 100_000, 10),
    (1000, 1200, 10, 1, 100_000, 10),
    (1000, 600, 10, 1, 5_000, 10),
    (3_000_000_000, 1_132_000_000, 196_608, 1, 10_200_000_000, 5),
)


def cases(rng):
    for _ in range(10):
        weights, per_token = int(rng.integers(10**6, 10**9)), int(rng.integers(10**3, 10**5))
        users, speed = int(rng.integers(1, 20)), int(rng.integers(1, 60))
        memory = weights + int(rng.integers(10**6, 10**9))
        bandwidth = speed * (weights + int(rng.integers(10**6, 10**9)))
        yield memory, weights, per_token, users, bandwidth + int(rng.integers(speed)), speed
    yield 500, 400, 10, 2, 10_000, 7  # just 5 tokens each
    yield 499, 400, 10, 2, 10_000, 7
    yield 10**6, 400, 10, 2, 3500, 7  # the same by speed
    yield 10**6, 400, 10, 2, 3499, 7
    yield 400, 400, 10, 3, 10_000, 7  # the weights, and nothing else
    yield 300, 400, 10, 3, 10_000, 7
    yield 1000, 400, 10, 3, 2000, 7


# The wrong answers below change one step each.


def _steps(
    most=lambda memory, in_time: min(memory, in_time),
    in_time=lambda bandwidth, speed, users, weights: bandwidth // speed,
    left=lambda most, weights, users: most - weights,
    tokens=lambda left, users, per_token: left // (users * per_token),
    last=lambda tokens: max(0, tokens),
):
    def function(memory, weights, cache_per_token, users, bandwidth, speed):
        most_bytes = most(memory, in_time(bandwidth, speed, users, weights))
        return last(tokens(left(most_bytes, weights, users), users, cache_per_token))

    return function


def _weights_taken_from_memory_only(memory, weights, cache_per_token, users, bandwidth, speed):
    return max(0, min(memory - weights, bandwidth // speed) // (users * cache_per_token))


def _weights_taken_from_time_only(memory, weights, cache_per_token, users, bandwidth, speed):
    return max(0, min(memory, bandwidth // speed - weights) // (users * cache_per_token))


def _fast_enough_when_empty(memory, weights, cache_per_token, users, bandwidth, speed):
    if bandwidth / weights < speed:
        return 0
    return max(0, (memory - weights) // (users * cache_per_token))


def _users_share_the_speed(memory, weights, cache_per_token, users, bandwidth, speed):
    return max(0, (min(memory, bandwidth // (speed * users)) - weights) // (users * cache_per_token))


def _one_cache_is_read(memory, weights, cache_per_token, users, bandwidth, speed):
    fits, in_time = (memory - weights) // (users * cache_per_token), (bandwidth // speed - weights) // cache_per_token
    return max(0, min(fits, in_time))


def _one_cache_is_kept(memory, weights, cache_per_token, users, bandwidth, speed):
    fits, in_time = (memory - weights) // cache_per_token, (bandwidth // speed - weights) // (users * cache_per_token)
    return max(0, min(fits, in_time))


EXERCISE = Exercise(
    reference=largest_context,
    outputs=("tokens",),
    checked="whichever of memory and speed is the limit, 1 to 19 users, limits that are met to the byte, and weights "
    "that do not fit or are too slow by themselves",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "There are two limits. How many bytes may there be, weights and caches together, by each of them?",
        "Memory: at most `memory` bytes. Speed: all bytes are read for each token, so there may be at most "
        "`bandwidth // speed` of them. The smaller one counts.",
        "Take the weights off the smaller limit: what is left is for the caches of all users. Divide it by "
        "`users * cache_per_token` and round down; where it is below 0, the answer is 0.",
    ),
    wrong_answers=(
        WrongAnswer(
            "only memory",
            (_steps(most=lambda memory, in_time: memory),),
            "It fits, but is it fast enough? To write a token all bytes are read, the full caches, too: "
            "`bandwidth / (weights + caches)` must be at least `speed`.",
        ),
        WrongAnswer(
            "only speed",
            (_steps(most=lambda memory, in_time: in_time),),
            "It is fast enough, but does it fit? Weights and caches must be at most `memory`.",
        ),
        WrongAnswer(
            "the larger limit",
            (_steps(most=max),),
            "Both limits must be kept: the smaller one counts.",
        ),
        WrongAnswer(
            "speed of empty caches",
            (_fast_enough_when_empty,),
            "You ask whether it is fast enough while the caches are empty. They are read for each token as well, and "
            "when they are full that takes longest.",
        ),
        WrongAnswer(
            "forgot the weights",
            (_steps(left=lambda most, weights, users: most),),
            "The weights take their part first: only what is left is for the caches.",
        ),
        WrongAnswer(
            "weights in one limit only",
            (_weights_taken_from_memory_only, _weights_taken_from_time_only),
            "Take the weights off *both* limits: they need memory, and they are read for each token.",
        ),
        WrongAnswer(
            "weights for each user",
            (
                _steps(left=lambda most, weights, users: most - users * weights),
                _steps(
                    tokens=lambda left, users, per_token: left // users // per_token,
                    in_time=lambda b, s, u, w: b // s - (u - 1) * w,
                ),
            ),
            "You count the weights once for each user. All users share them: they are in memory once, and are read "
            "once for a token of each.",
        ),
        WrongAnswer(
            "one user",
            (_steps(tokens=lambda left, users, per_token: left // per_token),),
            "You count one cache. Each user has one, and all must fit and be read: divide by `users` as well.",
        ),
        WrongAnswer(
            "one cache is read",
            (_one_cache_is_read, _one_cache_is_kept),
            "All users' caches are kept, *and* all are read for each step: divide by `users` in both limits.",
        ),
        WrongAnswer(
            "users share the speed",
            (_users_share_the_speed,),
            "You divide the speed among the users. But one pass over the weights gives a token to *each* of them: what "
            "grows with the users is the caches.",
        ),
        WrongAnswer(
            "speed of all users together",
            (_steps(in_time=lambda bandwidth, speed, users, weights: bandwidth * users // speed),),
            "You add up the tokens of all users. `speed` is what each of them is to get.",
        ),
        WrongAnswer(
            "below 0",
            (_steps(last=lambda tokens: tokens), _steps(last=abs)),
            "Where the weights alone are too large or too slow, there is no context: return 0.",
        ),
        WrongAnswer(
            "rounded up",
            (
                _steps(tokens=lambda left, users, per_token: -(-left // (users * per_token))),
                _steps(tokens=lambda left, users, per_token: round(left / (users * per_token))),
                _steps(tokens=lambda left, users, per_token: left // (users * per_token) + 1),
            ),
            "A token more than fits does not fit: round down, as `//` does.",
        ),
        WrongAnswer(
            "tokens of all users together",
            (_steps(tokens=lambda left, users, per_token: left // (users * per_token) * users),),
            "You give the tokens of all users together: how many are there for each?",
        ),
        WrongAnswer(
            "one token too few",
            (_steps(tokens=lambda left, users, per_token: (left - 1) // (users * per_token)),),
            "Where the last token fits to the byte, it counts: the limits may be reached.",
        ),
        WrongAnswer(
            "speed the wrong way round",
            (
                _steps(in_time=lambda bandwidth, speed, users, weights: bandwidth * speed),
                _steps(in_time=lambda bandwidth, speed, users, weights: speed // bandwidth),
            ),
            "At `speed` tokens a second, a token has 1 / speed seconds: in that time `bandwidth / speed` bytes are "
            "read.",
        ),
        WrongAnswer(
            "a float",
            (
                _steps(last=lambda tokens: max(0.0, float(tokens))),
                _steps(tokens=lambda left, users, per_token: left / (users * per_token)),
                _steps(
                    in_time=lambda bandwidth, speed, users, weights: bandwidth / speed,
                    tokens=lambda left, users, per_token: max(0, left / (users * per_token)),
                    last=lambda tokens: float(math.floor(tokens)),
                ),
            ),
            "Tokens are whole: round down and return an int.",
        ),
    ),
)
