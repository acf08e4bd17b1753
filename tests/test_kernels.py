"""The kernels compute what their NumPy definitions say, compiled or not, for every shape and for extreme codes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantlab_helpers as ql
from quantlab_helpers import kernels
from quantlab_helpers.kernel_linear import FEW_TOKENS, Int8Rows, KernelLinear
from quantlab_helpers.kernels import Int4Blocks
from quantlab_helpers.packed import pack_format, pack_integers

pytestmark = pytest.mark.filterwarnings("error")

SHAPES = [(1, 1), (1, 130), (7, 1), (3, 5), (17, 33), (64, 64), (65, 127), (129, 257), (192, 576), (300, 1000)]
INT4_SHAPES = [
    (1, 16, 16),
    (1, 64, 32),
    (3, 32, 32),
    (63, 48, 16),
    (64, 64, 64),
    (65, 96, 32),
    (130, 192, 64),
    (77, 576, 576),
]
FLOAT_STEP = 2.0**-24


@pytest.fixture(params=["compiled", "threads", "NumPy"], autouse=True)
def way(request, monkeypatch):
    """How the products are computed: each test sees all three ways."""
    if request.param == "NumPy":
        monkeypatch.setattr(kernels, "compiled_loops", lambda: None)
    elif kernels.compiled_loops() is None:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(kernels, "MANY_BYTES", 0 if request.param == "threads" else 1 << 60)
    return request.param


def close_to(found, weight, x):
    """Whether found is weight @ x but for float32's rounding, whatever the order of the sum."""
    exact = weight.astype(np.float64) @ x.astype(np.float64)
    size = np.abs(weight).astype(np.float64) @ np.abs(x).astype(np.float64)
    assert found.dtype == np.float32
    assert found.shape == exact.shape
    return (np.abs(found - exact) <= (x.size + 4) * FLOAT_STEP * size).all()


def random_int4(rng, rows, columns, group_size, symmetric):
    """Random codes of the whole range in the layout of a PackedTensor, extreme ones first."""
    weight = rng.normal(size=(rows, columns))
    packed = pack_integers(ql.quantize(weight, 4, symmetric=symmetric, per="group", group_size=group_size))
    packed.data[:] = rng.integers(0, 256, packed.data.shape)  # -8, which quantize never gives, is a code too
    packed.data.reshape(-1)[:2] = 0x80, 0xFF
    if not symmetric:
        packed.zero_point[:] = rng.integers(0, 16, packed.zero_point.shape)
        packed.zero_point.reshape(-1)[0] = 15
    return packed


# --- the products -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32(shape):
    rng = np.random.default_rng(0)
    weight, x = (rng.normal(size=s).astype(np.float32) for s in (shape, shape[1]))
    assert close_to(kernels.float32_matvec(weight, x), weight, x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_int8_with_float_activations(shape):
    rng = np.random.default_rng(1)
    codes = rng.integers(-128, 128, shape, dtype=np.int8)
    scale, x = rng.random(shape[0], dtype=np.float32), rng.normal(size=shape[1]).astype(np.float32)
    found = kernels.int8_matvec(codes, scale, x)
    assert close_to(found, codes * scale[:, None].astype(np.float64), x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_int8_with_int8_activations_is_exact_up_to_the_scales(shape):
    rng = np.random.default_rng(2)
    codes, x = rng.integers(-128, 128, shape, dtype=np.int8), rng.integers(-128, 128, shape[1], dtype=np.int8)
    scale, x_scale = rng.random(shape[0], dtype=np.float32), np.float32(0.3)
    sums = codes.astype(np.int64) @ x.astype(np.int64)
    expected = sums.astype(np.float32) * scale * x_scale
    np.testing.assert_allclose(kernels.int8_int8_matvec(codes, scale, x, x_scale), expected, rtol=3 * FLOAT_STEP)


@pytest.mark.parametrize("code", [-128, -127, 127])
def test_int32_holds_the_largest_sums(code):
    columns = 131_071
    codes, x = np.full((2, columns), code, np.int8), np.full(columns, code, np.int8)
    found = kernels.int8_int8_matvec(codes, np.ones(2, np.float32), x, 1.0)
    np.testing.assert_array_equal(found, np.float32(code**2 * columns))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shape", INT4_SHAPES, ids=str)
def test_int4_with_float_activations(shape, symmetric):
    rng = np.random.default_rng(3)
    packed = random_int4(rng, *shape, symmetric)
    x = rng.normal(size=shape[1]).astype(np.float32)
    found = kernels.int4_matvec(Int4Blocks.from_packed(packed), x)
    exact = packed.dequantize().astype(np.float64) @ x
    # The zero point comes out after the sum: what is rounded are sums of codes, not of codes less the zero point.
    size = np.repeat(packed.scale, shape[2], axis=1) * 30 @ np.abs(x)
    assert found.shape == (shape[0],)
    assert (np.abs(found - exact) <= (shape[1] + 4) * FLOAT_STEP * size).all()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shape", INT4_SHAPES, ids=str)
def test_int4_with_int8_activations_adds_integers(shape, symmetric):
    rng = np.random.default_rng(4)
    packed = random_int4(rng, *shape, symmetric)
    packed.scale[:] = 2.0 ** rng.integers(-3, 3, packed.scale.shape)  # exact in float32, and so is all that follows
    x = rng.integers(-127, 128, shape[1], dtype=np.int8)
    found = kernels.int4_int8_matvec(Int4Blocks.from_packed(packed), x, 0.5)
    exact = packed.dequantize().astype(np.float64) @ x * 0.5
    np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("x_code", [-128, -127, 127])
@pytest.mark.parametrize("codes", [0x00, 0xFF, 0x0F])
@pytest.mark.parametrize("zero_point", [0, 15])
def test_int16_holds_the_largest_sums_of_a_tile(x_code, codes, zero_point):
    packed = random_int4(np.random.default_rng(5), 5, 128, 128, symmetric=False)
    packed.data[:], packed.scale[:], packed.zero_point[:] = codes, 1, zero_point
    x = np.full(128, x_code, np.int8)
    found = kernels.int4_int8_matvec(Int4Blocks.from_packed(packed), x, 1.0)
    np.testing.assert_array_equal(found, packed.dequantize() @ x.astype(np.float32))


@given(st.integers(1, 200), st.integers(1, 8), st.sampled_from([16, 32, 48]), st.booleans(), st.integers(0, 2**32))
def test_blocks_hold_the_same_matrix(rows, groups, group_size, symmetric, seed):
    packed = random_int4(np.random.default_rng(seed), rows, groups * group_size, group_size, symmetric)
    layer = KernelLinear.from_packed(packed)
    np.testing.assert_array_equal(layer.dequantize(), packed.dequantize())
    np.testing.assert_array_equal(layer.rows([[rows - 1, 0]]), packed.rows([[rows - 1, 0]]))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=70))
def test_a_vector_is_quantized_as_by_quantize(values):
    x = np.array(values, np.float32)
    codes, scale = kernels.quantize_vector(x)
    expected = ql.quantize(x, 8)
    np.testing.assert_array_equal(codes, expected.codes)
    assert scale == expected.scale
    assert scale.dtype == np.float32
    assert codes.dtype == np.int8


# --- the layer --------------------------------------------------------------------------------------------

KINDS = {
    "int8": {"num_bits": 8, "per": "channel"},
    "int4": {"num_bits": 4, "per": "group", "group_size": 32},
    "uint4": {"num_bits": 4, "symmetric": False, "per": "group", "group_size": 32},
}


@pytest.mark.parametrize("quantizes_inputs", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_token_and_a_few_and_many_give_the_same(kind, quantizes_inputs):
    rng = np.random.default_rng(6)
    packed = pack_integers(ql.quantize(rng.normal(size=(70, 96)), **KINDS[kind]))
    layer = KernelLinear.from_packed(packed, quantizes_inputs=quantizes_inputs)
    x = rng.normal(size=(2, FEW_TOKENS, 96)).astype(np.float32)
    seen = ql.fake_quantize(x.reshape(-1, 96), 8, per="channel").reshape(x.shape) if quantizes_inputs else x
    expected = seen @ packed.dequantize().T
    for which in (slice(None), slice(1), (1, 2), (slice(1), slice(1)), slice(0)):  # many, a few, one, one, none
        np.testing.assert_allclose(layer(x[which]), expected[which], atol=1e-4)


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8 + 32 / 96), ("int4", 5), ("uint4", 5.25)])
def test_only_packed_bytes_and_scales_are_held(kind, bits):
    packed = pack_integers(ql.quantize(np.random.default_rng(7).normal(size=(128, 96)), **KINDS[kind]))
    layer = KernelLinear.from_packed(packed)
    assert layer.nbytes == packed.nbytes == sum(array.nbytes for array in layer.matrix.arrays)
    assert layer.bits_per_weight == bits
    held = [field for field in vars(layer.matrix).values() if isinstance(field, np.ndarray)]
    assert sum(array.nbytes for array in held) == layer.nbytes
    assert f"{kind[-4:]} weights, float32 activations" in repr(layer)


def test_unsigned_codes_around_128_are_signed_ones():
    packed = pack_integers(ql.quantize(np.random.default_rng(8).normal(size=(5, 6)), 8, symmetric=False, per="channel"))
    packed.zero_point[:], packed.data[0, :2] = 128, (0, 255)
    np.testing.assert_array_equal(KernelLinear.from_packed(packed).dequantize(), packed.dequantize())


def test_a_block_is_filled_up_and_that_counts():
    packed = pack_integers(ql.quantize(np.ones((65, 32)), 4, per="group", group_size=32))
    assert KernelLinear.from_packed(packed).nbytes == 128 * (16 + 4)


@pytest.mark.parametrize(
    "packed",
    [
        pack_integers(ql.quantize(np.eye(32), 8, symmetric=False, per="channel")),
        pack_integers(ql.quantize(np.eye(32), 8, per="group", group_size=16)),
        pack_integers(ql.quantize(np.eye(32), 3, per="channel")),
        pack_integers(ql.quantize(np.eye(32), 4, per="group", group_size=8)),
        pack_integers(ql.quantize(np.eye(32), 4)),
        pack_format(np.eye(32), "FP16"),
        pack_format(np.eye(32), "NF4"),
    ],
    ids=str,
)
def test_no_kernel_for(packed):
    with pytest.raises(ValueError, match="packed must"):
        KernelLinear.from_packed(packed)


# --- what is refused --------------------------------------------------------------------------------------

CODES, SCALE, X = np.ones((4, 3), np.int8), np.ones(4, np.float32), np.ones(3, np.float32)
MATRIX = Int4Blocks.from_packed(pack_integers(ql.quantize(np.ones((2, 16)), 4, per="group", group_size=16)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.int8_matvec(CODES, SCALE, X[:2]), ValueError, r"x must have shape \(3\), not \(2,\)"),
        (lambda: kernels.int8_matvec(CODES, SCALE[:3], X), ValueError, r"scale must have shape \(4\), not \(3,\)"),
        (lambda: kernels.int8_matvec(CODES, SCALE, X.astype(float)), TypeError, "x must be an array of float32, not f"),
        (lambda: kernels.int8_matvec(CODES.tolist(), SCALE, X), TypeError, "codes must be an array of int8, not list"),
        (lambda: kernels.int8_matvec(CODES[:, ::2], SCALE, X[:2]), ValueError, "codes must be contiguous"),
        (
            lambda: kernels.int8_matvec(CODES[:0], SCALE[:0], X),
            ValueError,
            r"codes must have shape \(1 or more, 1 or m",
        ),
        (lambda: kernels.int8_int8_matvec(CODES, SCALE, X, 1.0), TypeError, "x_codes must be an array of int8, not f"),
        (
            lambda: kernels.int8_int8_matvec(np.ones((1, 2**17), np.int8), SCALE[:1], np.ones(2**17, np.int8), 1.0),
            ValueError,
            "codes must have at most 131071 columns",
        ),
        (lambda: kernels.float32_matvec(CODES, X), TypeError, "weight must be an array of float32, not int8"),
        (lambda: kernels.int4_matvec(MATRIX, X), ValueError, r"x must have shape \(16\), not \(3,\)"),
        (lambda: kernels.int4_int8_matvec(MATRIX, X, 1.0), TypeError, "x_codes must be an array of int8, not float32"),
        (lambda: kernels.quantize_vector(CODES), TypeError, "x must be an array of float32, not int8"),
        (lambda: KernelLinear.from_packed(CODES), TypeError, "packed must be a PackedTensor, .*not ndarray"),
        (lambda: Int4Blocks.from_packed(CODES), TypeError, "packed must be a PackedTensor, not ndarray"),
        (lambda: KernelLinear(Int8Rows(CODES, SCALE))(X[:2]), ValueError, "x must have 3 values along its last axis"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- compiling --------------------------------------------------------------------------------------------


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True
    )


PRODUCT = (
    "import numpy as np\nfrom quantlab_helpers import kernels\n"
    "print(kernels.int8_matvec(np.ones((1, 2), np.int8), np.ones(1, np.float32), np.ones(2, np.float32)))"
)


def test_numba_is_imported_by_the_first_product(way):
    if way == "compiled":
        program = (
            "import sys\nimport quantlab_helpers.lm, quantlab_helpers.kernel_linear\nprint('numba' in sys.modules)"
        )
        result = run(program)
        assert result.stdout.split() == ["False"], result.stderr


def test_without_numba_numpy_computes(way):
    if way == "NumPy":
        result = run("import sys\nsys.modules['numba'] = None\n" + PRODUCT)
        assert result.stdout == "[2.]\n", result.stderr


def test_where_nothing_can_be_kept_on_disk_it_is_compiled_anyway(way, monkeypatch):
    if way == "NumPy":
        return
    compiled = kernels.compiled_loops()
    real = compiled.njit

    def njit(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(function, **options)

    monkeypatch.setattr(compiled, "njit", njit)
    assert compiled.compiled(lambda x: x + 1)(1) == 2
