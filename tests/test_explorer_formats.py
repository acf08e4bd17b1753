"""The numbers behind the explorer of notebook 03."""

import re

import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import explorers, style

WEIGHTS = np.random.default_rng(4).normal(0, 0.8, size=1000).astype(np.float32)


def test_a_small_array_by_hand():
    x = np.array([-3.0, -0.4, 0.4, 1.2, 2.0])
    result = explorers.formats(x).compute(format="INT3", outlier=0)  # scale 1: levels -3 .. 3
    np.testing.assert_array_equal(result.levels, np.arange(-3, 4))
    np.testing.assert_array_equal(result.in_use, [-3, 0, 1, 2])
    error = np.array([0, 0.4, 0.4, 0.2, 0])
    assert result.mean_error == pytest.approx(error.mean())
    assert result.sqnr == pytest.approx(10 * np.log10((x**2).sum() / (error**2).sum()))


def test_a_float_format_by_hand():
    x = np.array([-12.0, 0.9, 5.2, 12.0])  # FP4 E2M1 reaches 6, so the scale is 2
    result = explorers.formats(x).compute(format="FP4_E2M1", outlier=0)
    positive = [0, 1, 2, 3, 4, 6, 8, 12]
    np.testing.assert_allclose(result.levels, [*(-v for v in positive[:0:-1]), *positive])
    np.testing.assert_allclose(result.in_use, [-12, 1, 6, 12])
    assert result.mean_error == pytest.approx((0.1 + 0.8) / 4)


@pytest.mark.parametrize("format", ["INT8", "INT4", "FP8_E4M3", "NF4"])
def test_the_outlier_sets_the_scale_and_is_left_out_of_the_error(format):
    result = explorers.formats(WEIGHTS).compute(format=format, outlier=20)
    outlier = 20 * WEIGHTS.astype(np.float64).std()
    assert result.outlier == pytest.approx(outlier)
    assert result.absmax == pytest.approx(outlier)
    assert result.levels[-1] == pytest.approx(outlier)
    nearest = np.abs(result.levels - np.sort(WEIGHTS.astype(np.float64))[:, None]).min(axis=1)
    assert result.mean_error == pytest.approx(nearest.mean())


def test_without_an_outlier_an_integer_format_is_symmetric_quantization():
    for bits in range(2, 9):
        result = explorers.formats(WEIGHTS).compute(format=f"INT{bits}", outlier=0)
        codes, scale = ql.quantize_per_tensor(WEIGHTS, bits)
        assert result.in_use.size == np.unique(codes).size
        assert result.mean_error == pytest.approx(np.abs(WEIGHTS - codes * scale).mean(), rel=1e-5)


def test_an_outlier_ruins_int8_and_not_fp8():
    explorer = explorers.formats(WEIGHTS)
    int8 = [explorer.compute(format="INT8", outlier=size).sqnr for size in (0, 10, 100)]
    fp8 = [explorer.compute(format="FP8_E4M3", outlier=size).sqnr for size in (0, 10, 100)]
    assert int8[0] > fp8[0] + 6 and int8[2] < fp8[2] - 6
    # A normal number of 3 mantissa bits is off by 2**-4 of itself at most: 20 log10(2**4) = 24.1 dB at the worst.
    assert min(fp8) > 24


def test_a_tick_stands_under_each_level_longer_where_values_fell():
    x = np.array([-3.0, -0.4, 0.4, 1.2, 2.0])  # as INT3: levels -3 .. 3, of which -3, 0, 1 and 2 are in use
    frame = explorers.formats(x).frame(format="INT3", outlier=0)
    axis = re.search(r'<polyline points="([\d.]+),([\d.]+) ([\d.]+),', frame)
    left, zero, right = map(float, axis.groups())  # the axis runs from -3.3 to 3.3

    def ticks(colour):
        path = re.search(rf'<path d="([^"]+)" stroke="{colour}"', frame).group(1)
        return np.array(re.findall(r"M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)", path), dtype=float)

    long, short = ticks(style.QUANTIZED), ticks(style.ORIGINAL)
    for drawn, levels in ((long, [-3, 0, 1, 2]), (short, [-2, -1, 3])):
        expected = left + (np.array(levels) + 3.3) / 6.6 * (right - left)
        np.testing.assert_allclose(drawn[:, 0], expected, rtol=0, atol=0.15)  # three coordinates of one decimal
        np.testing.assert_array_equal(drawn[:, 2], drawn[:, 0])
        np.testing.assert_array_equal(drawn[:, 1], zero)
    assert long[:, 3].min() > short[:, 3].max() > zero  # y grows downwards


def test_every_value_in_use_is_a_level():
    explorer = explorers.formats(WEIGHTS)
    for positions in explorer.positions():
        result = explorer.compute(**positions)
        assert np.isin(result.in_use, result.levels).all()
        assert result.levels.size == result.format.num_values


def test_a_large_array_is_represented_by_some_of_its_values_with_both_ends():
    x = np.random.default_rng(0).normal(size=(500, 100))
    explorer = explorers.formats(x)
    assert re.search(r"\(16,384 of 50,000 values\)", explorer.title)
    result = explorer.compute(format="INT4", outlier=0)
    assert result.absmax == np.abs(x).max()
    assert result.ordinary.size == 16384
    # The sample is a fine quantile grid of x, so the SQNR of all values differs by little.
    assert result.sqnr == pytest.approx(ql.sqnr_db(x, ql.fake_quantize(x, 4)), abs=0.1)


def test_all_zero_values_are_exact_beside_an_outlier():
    result = explorers.formats(np.zeros(4)).compute(format="INT4", outlier=5)
    assert result.absmax == 5
    assert result.mean_error == 0
    assert "exact" in explorers.formats(np.zeros(4)).sentence(format="INT4", outlier=5)


def test_the_sentence_names_the_outlier_only_where_there_is_one():
    explorer = explorers.formats(WEIGHTS)
    assert "outlier" not in explorer.sentence(outlier=0)
    assert "outlier at 8.12 left out" in explorer.sentence(outlier=10)
