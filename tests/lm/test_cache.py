"""The KV cache in fewer bits: what it holds, how far off it is, and that whole models are measured through it."""

import numpy as np
import pytest
from small_model import make_model

from quantlab_helpers.lm import CACHE_FORMATS, KVCache, cache, perplexity

pytestmark = pytest.mark.filterwarnings("error")

TOKENS = np.arange(60).reshape(3, 20)
TEXT = "The quick brown fox jumps over the lazy dog."


def held(format, x):
    """What a cache of that format gives back of keys and values (batch, time, kv_heads, head_size)."""
    config = make_model().config
    found = KVCache(config, x.shape[1], batch=len(x), format=format).extend(1, x, -x)
    np.testing.assert_array_equal(found[0], -found[1])
    return found[0]


def numbers(scale=1.0):
    x = np.random.default_rng(0).normal(size=(3, 9, 2, 8)).astype(np.float32) * np.float32(scale)
    x[0, 0, 0], x[1, 2, 1, :4] = 0, 0
    return x


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_float32_holds_what_it_is_given(scale):
    np.testing.assert_array_equal(held("float32", numbers(scale)), numbers(scale))


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_float16_is_off_by_half_a_step(scale):
    x = numbers(scale)
    error = np.abs(held("float16", x) - x)
    assert (error <= np.maximum(np.abs(x) * 2.0**-11, 2.0**-25)).all()  # 11 bits; below 2**-14 steps of 2**-24
    assert error.max() > np.abs(x).max() * 2.0**-14


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_int8_is_off_by_half_a_step_of_its_token_and_head(scale):
    x = numbers(scale)
    found = held("int8", x)
    step = np.abs(x).max(axis=-1, keepdims=True) / 127
    assert (np.abs(found - x) <= step / 2 * (1 + 2.0**-15)).all()
    assert (found[x == 0] == 0).all()
    assert (np.abs(found - x) > step / 4).any()


def test_what_float16_cannot_hold_saturates():
    x = numbers()
    x[0, 1, 0, :2] = 1e6, -1e6
    np.testing.assert_array_equal(held("float16", x)[0, 1, 0, :2], [65504, -65504])


def test_nbytes():
    config = make_model().config  # 2 layers, 2 heads of 8
    numbers = 2 * 2 * 3 * 10 * 2 * 8  # keys and values, layers, batch, capacity, heads, size
    for format, expected in (("float32", 4 * numbers), ("float16", 2 * numbers), ("int8", numbers + numbers // 8 * 4)):
        held = KVCache(config, 10, batch=3, format=format)
        assert held.nbytes == expected
        arrays = [a for part in (held.keys, held.values) for a in vars(part).values() if a is not None]
        assert sum(array.nbytes for array in arrays) == expected


@pytest.mark.parametrize("format", CACHE_FORMATS)
def test_in_pieces_or_at_once_the_same_numbers_are_held(format):
    model = make_model()
    at_once, in_pieces = (KVCache(model.config, 20, batch=3, format=format) for _ in range(2))
    expected = model.logits(TOKENS, at_once)
    found = [model.logits(TOKENS[:, i : i + 1], in_pieces) for i in range(20)]
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, atol=2e-2 if format == "int8" else 1e-3)


def test_the_coarser_the_cache_the_farther_the_logits():
    model = make_model()
    exact = model.logits(TOKENS)
    off = {f: np.abs(model.logits(TOKENS, KVCache(model.config, 20, 3, format=f)) - exact).max() for f in CACHE_FORMATS}
    assert off["float32"] == 0 < off["float16"] < off["int8"] < 0.2


@pytest.mark.parametrize("format", CACHE_FORMATS)
def test_perplexity_through_a_cache(format):
    model = make_model()
    found = perplexity(model, TEXT, window=16, cache_format=format)
    plain = perplexity(model, TEXT, window=16)
    assert found == pytest.approx(plain, rel=0.02)
    assert (found == plain) is (format == "float32")


@pytest.mark.parametrize("format", CACHE_FORMATS)
def test_text_is_written_through_the_cache(format):
    model = make_model()
    expected = model.tokenizer.encode_prompt("To be")
    for _ in range(10):
        held = KVCache(model.config, len(expected), format=format)
        expected.append(int(model.logits(expected, held)[-1].argmax()))
    assert model.generate("To be", 10, cache_format=format) == model.decode(expected[6:])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda model: KVCache(model.config, 0), ValueError, "capacity must be from 1 to"),
        (lambda model: KVCache(model.config, 4.0), TypeError, "capacity must be a whole number"),
        (lambda model: KVCache(model.config, 4, batch=0), ValueError, "batch must be from 1 to"),
        (lambda model: KVCache(model.config, 4, format="int4"), ValueError, "format must be one of 'float32', 'float1"),
        (lambda model: model.generate("To", 4, cache_format="FP8"), ValueError, "cache_format must be one of"),
        (
            lambda model: perplexity(model, TEXT, cache_format="FP8", window=8),
            ValueError,
            "cache_format must be one of",
        ),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call(make_model())


def test_examples():
    import doctest

    assert doctest.testmod(cache) == (0, 3)
