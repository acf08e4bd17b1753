"""The exercises of notebook 11 agree with the package, and take right answers in any style."""

import math

import numpy as np
import pytest

from quantlab_helpers import exercises, lm

CACHE = exercises.get("kv_cache_bytes")
CONTEXT = exercises.get("largest_context")


@pytest.mark.parametrize("cache_format", lm.CACHE_FORMATS[:2])
def test_the_cache_holds_what_the_exercise_says(cache_format):
    config = lm.LlamaConfig(50, 32, 64, num_layers=3, num_heads=4, num_kv_heads=2, head_size=8, max_context=64)
    cache = lm.KVCache(config, capacity=20, batch=3, format=cache_format)
    size = {"float32": 4, "float16": 2}[cache_format]
    assert CACHE.reference(3, 4, 2, 8, 20, 3, size) == cache.nbytes == lm.kv_cache_bytes(config, 20, 3, cache_format)


def _by_shape(num_layers, num_heads, num_kv_heads, head_size, tokens, users, bytes_per_number):
    return math.prod((2, num_layers, users, tokens, num_kv_heads, head_size)) * bytes_per_number


def _each_part_apart(num_layers, num_heads, num_kv_heads, head_size, tokens, users, bytes_per_number):
    keys = values = np.int64(tokens) * users * num_kv_heads * head_size
    return sum(int(keys + values) for _ in range(num_layers)) * bytes_per_number


def _in_grouped_heads(num_layers, num_heads, num_kv_heads, head_size, tokens, users, bytes_per_number):
    heads_that_share = num_heads // num_kv_heads
    return 2 * num_layers * (num_heads // heads_that_share) * head_size * tokens * users * bytes_per_number


@pytest.mark.parametrize("another_style", [_by_shape, _each_part_apart, _in_grouped_heads])
def test_a_cache_in_another_style_passes(another_style):
    assert CACHE.check(another_style).state == "passed"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda L, H, K, size, t, u, b: 2 * L * H * size * t * u * b, "not `num_heads`"),
        (lambda L, H, K, size, t, u, b: L * K * size * t * u * b, "a key *and* a value"),
        (lambda L, H, K, size, t, u, b: 2 * L * K * size * t * b, "one user"),
        (lambda L, H, K, size, t, u, b: 2 * L * K * size * t * u * b / 1e9, "not kB, MB or GB"),
        (lambda L, H, K, size, t, u, b: 2 * L * K * size * t * u * 2, "2 bytes for each number"),
        (lambda L, H, K, size, t, u, b: 2.0 * L * K * size * t * u * b, "a float"),
    ],
)
def test_what_learners_type_for_the_cache_is_understood(wrong, told):
    assert told in CACHE.check(wrong).hint


def _in_two_limits(memory, weights, cache_per_token, users, bandwidth, speed):
    fits = (memory - weights) // (users * cache_per_token)
    in_time = int((bandwidth / speed - weights) / (users * cache_per_token))
    return max(0, min(fits, in_time))


def _with_if(memory, weights, cache_per_token, users, bandwidth, speed):
    room = memory - weights
    if bandwidth / speed < memory:
        room = bandwidth / speed - weights
    if room <= 0:
        return 0
    return math.floor(room / cache_per_token / users)


def _halving(memory, weights, cache_per_token, users, bandwidth, speed):
    low, high = 0, memory
    while low < high:
        tokens = (low + high + 1) // 2
        held = weights + users * cache_per_token * tokens
        low, high = (tokens, high) if held <= memory and held * speed <= bandwidth else (low, tokens - 1)
    return low


@pytest.mark.parametrize("another_style", [_in_two_limits, _with_if, _halving])
def test_a_context_in_another_style_passes(another_style):
    assert CONTEXT.check(another_style).state == "passed"


def test_a_token_more_would_break_a_limit():
    for memory, weights, per_token, users, bandwidth, speed in CONTEXT.all_cases():

        def allowed(tokens, memory=memory, weights=weights, each=per_token * users, bandwidth=bandwidth, speed=speed):
            held = weights + each * tokens
            return held <= memory and held * speed <= bandwidth

        tokens = CONTEXT.reference(memory, weights, per_token, users, bandwidth, speed)
        assert not allowed(tokens + 1)
        assert allowed(tokens) or tokens == 0


def _memory_only(memory, weights, cache_per_token, users, bandwidth, speed):
    return max((memory - weights) // cache_per_token // users, 0)


def _no_lower_end(memory, weights, cache_per_token, users, bandwidth, speed):
    return (min(memory, bandwidth // speed) - weights) // (users * cache_per_token)


def _all_users_get_the_speed_together(memory, weights, cache_per_token, users, bandwidth, speed):
    in_time = users * bandwidth // speed
    return max(0, (min(memory, in_time) - weights) // (users * cache_per_token))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (_memory_only, "is it fast enough?"),
        (_no_lower_end, "return 0"),
        (_all_users_get_the_speed_together, "what each of them is to get"),
        (lambda m, w, c, u, b, s: max(0, (min(m, b // s) - w) // c), "one cache"),
        (lambda m, w, c, u, b, s: max(0, min(m, b // s) // (c * u)), "weights take their part first"),
        (lambda m, w, c, u, b, s: max(0, (min(m, b * s) - w) // (c * u)), "1 / speed seconds"),
    ],
)
def test_what_learners_type_for_the_context_is_understood(wrong, told):
    assert told in CONTEXT.check(wrong).hint
