"""What a model takes: calculated bytes are those that are held, to the byte, and those of a process, within 5 %."""

from dataclasses import replace

import numpy as np
import pytest

from quantlab_helpers import lm

SHAPES = lm.KNOWN_SHAPES
SIZES = dict(vocab_size=72, width=64, ffn_width=192, num_layers=2, num_heads=4, num_kv_heads=2, head_size=16)
CONFIG = lm.LlamaConfig(**SIZES, max_context=64)
WITHOUT_CALIBRATION = [name for name, held in lm.WEIGHT_FORMATS.items() if not held.needs_calibration]


@pytest.fixture(scope="module")
def tinytales():
    return lm.load("tinytales")


@pytest.mark.parametrize("embedding", ["FP32", "BF16", "INT8", "INT4"])
@pytest.mark.parametrize("format", lm.WEIGHT_FORMATS)
def test_weights_of_tinytales_to_the_byte(tinytales, format, embedding):
    tales = lm.joined(lm.calibration_tales()[:2])
    held = lm.hold_in(tinytales, format, embedding=embedding, calibration=tales)
    size = lm.footprint(lm.ModelShape.of(tinytales), format, embedding=embedding)
    assert size.weights == held.nbytes
    assert size.codes + size.scales + size.zero_points == sum(weight.nbytes for weight in held.linears.values())
    assert size.norms == sum(norm.nbytes for norm in held.norms.values())
    assert size.embedding == held.weights["embedding"].nbytes and size.head == 0


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("format", WITHOUT_CALIBRATION)
def test_weights_of_a_random_model_to_the_byte(format, tied):
    shape = lm.ModelShape(CONFIG, tied)
    held = lm.hold_in(lm.random_model(shape), format, embedding="INT8")
    size = lm.footprint(shape, format, embedding="INT8")
    assert size.weights == held.nbytes
    assert size.head == (0 if tied else size.embedding)


@pytest.mark.parametrize("format", ["INT8", "INT4"])
def test_kernels_hold_the_same_bytes(format):
    shape = lm.ModelShape(replace(CONFIG, num_kv_heads=4), True)  # rows are filled up to a multiple of 64
    held = lm.hold_in(lm.random_model(shape), format, embedding="INT8", kernel="numba")
    assert held.nbytes == lm.footprint(shape, format, embedding="INT8").weights
    assert np.isfinite(held.logits([1, 2, 3])).all()


def test_held_models_compute_what_their_format_says(tinytales):
    eight = lm.hold_in(tinytales, "INT8", embedding="INT8")
    same = lm.quantize_model(lm.quantize_model(tinytales), layers="embedding")
    assert np.array_equal(eight.logits([1, 2, 3]), same.logits([1, 2, 3]))
    assert lm.hold_in(tinytales, "FP32", embedding="FP32") is tinytales


@pytest.mark.parametrize("cache_format", lm.CACHE_FORMATS)
@pytest.mark.parametrize(("tokens", "users"), [(1, 1), (37, 1), (64, 5)])
def test_kv_cache_to_the_byte(cache_format, tokens, users):
    held = lm.KVCache(CONFIG, tokens, users, format=cache_format).nbytes
    assert lm.kv_cache_bytes(CONFIG, tokens, users, cache_format) == held
    size = lm.footprint(lm.ModelShape(CONFIG, True), "FP16", tokens=tokens, users=users, cache_format=cache_format)
    assert size.kv_cache == held


def test_items_add_up():
    shape = SHAPES["TinyLlama-1.1B"]
    size = lm.footprint(shape, "AWQ", tokens=2048, users=3)
    linear = shape.num_parameters - 2 * 32000 * 2048 - size.norms // 4
    assert (size.codes, size.scales, size.zero_points) == (linear // 2, linear // 16, linear // 64)
    assert size.embedding == size.head == 2 * 32000 * 2048
    assert size.total == size.weights + size.kv_cache + size.workspace
    assert size.read == size.weights - size.embedding + size.kv_cache  # of an embedding that is no head, some rows
    tied = lm.footprint(SHAPES["SmolLM2-135M"], "AWQ", tokens=2048)
    assert tied.read == tied.weights + tied.kv_cache


def test_scales_as_long_as_those_of_llama_cpp():
    short = replace(lm.WEIGHT_FORMATS["INT4"], scale_bytes=2, zero_point_bytes=0, group_size=32)
    assert 8 * sum(short.matrix_bytes(64, 64)) / 64**2 == 4.5  # Q4_0


def test_tokens_per_second():
    size = lm.footprint(SHAPES["SmolLM2-135M"], "INT8")
    assert size.tokens_per_second(10 * size.read) == 10
    several = lm.footprint(SHAPES["SmolLM2-135M"], "INT8", users=4)
    assert several.tokens_per_second(1e9) * several.read == pytest.approx(1e9)
    with pytest.raises(ValueError, match="bandwidth must be finite and above 0"):
        size.tokens_per_second(0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"format": "INT3"}, "format must be one of 'FP32'"),
        ({"embedding": "NF4"}, "embedding must be one of 'FP32'"),
        ({"tokens": 0}, "tokens must be from 1"),
        ({"users": -1}, "users must be from 1"),
        ({"cache_format": "int4"}, "cache_format must be one of 'float32'"),
    ],
)
def test_bad_arguments_are_named(options, told):
    with pytest.raises(ValueError, match=told):
        lm.footprint(SHAPES["SmolLM2-135M"], **{"format": "INT8", **options})


def test_a_format_that_needs_calibration_says_so(tinytales):
    with pytest.raises(ValueError, match="calibration must be a text"):
        lm.hold_in(tinytales, "AWQ")


@pytest.mark.parametrize(
    ("format", "options"),
    [("INT8", {}), ("INT4", {"embedding": "INT8", "tokens": 2048, "users": 2})],
)
def test_a_process_grows_by_what_was_predicted(format, options):
    config = replace(SHAPES["SmolLM2-135M"].config, num_layers=8)  # 57 million weights
    shape = lm.ModelShape(config, tied=True)
    size = lm.footprint(shape, format, **options)
    grown = lm.resident_growth(shape, format, **options)
    assert grown == pytest.approx(size.weights + size.kv_cache, rel=0.05)


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="format must be one of"):
        lm.resident_growth(lm.ModelShape(CONFIG, True), "INT3")
