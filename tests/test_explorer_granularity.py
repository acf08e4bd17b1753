"""The explorer of notebook 05 against arithmetic of its own."""

import itertools
import re

import course
import numpy as np
import pytest

from quantlab_helpers import explorers

NOTEBOOK = "05_per_channel"
RNG = np.random.default_rng(12)
WEIGHT = RNG.normal(size=(12, 96)).astype(np.float32)


def _restored(original, num_bits, run):
    """Symmetric quantization, written out: every `run` values in C order share a scale."""
    values = original.reshape(-1, run).astype(np.float64)
    scale = np.abs(values).max(axis=1, keepdims=True) / (2 ** (num_bits - 1) - 1)
    return (np.rint(values / scale) * scale).reshape(original.shape)


@pytest.fixture(scope="module")
def explorer():
    return explorers.granularity(WEIGHT)


def test_offers_the_group_sizes_that_divide_a_row(explorer):
    scales = explorer.controls[1].positions
    assert scales == ("one", "one per row", "groups of 32", "groups of 16", "groups of 8", "groups of 4", "groups of 2")
    assert explorers.granularity(np.ones((3, 7))).controls[1].positions == ("one", "one per row")
    assert explorers.granularity(np.ones((3, 2))).controls[1].positions == ("one", "one per row")


@pytest.mark.parametrize(("scales", "run"), [("one", 12 * 96), ("one per row", 96), ("groups of 16", 16)])
@pytest.mark.parametrize("num_bits", [2, 4, 8])
@pytest.mark.parametrize("times", [1, 20])
def test_compute(explorer, scales, run, num_bits, times):
    result = explorer.compute(times=times, scales=scales, num_bits=num_bits)
    typical = np.argsort(np.abs(WEIGHT).max(axis=1))[6]
    original = WEIGHT.copy()
    original[typical] *= times
    restored = _restored(original, num_bits, run)
    # float32 scales and values against float64: some units in the last place of 24 bits
    errors = np.linalg.norm(restored - original, axis=1) / np.linalg.norm(original, axis=1)
    np.testing.assert_allclose(result.row_errors, errors, atol=1e-6)
    assert result.sqnr == pytest.approx(
        10 * np.log10(np.sum(original**2) / np.sum((restored - original) ** 2)), abs=1e-3
    )
    assert result.share_lost == np.mean(restored == 0)
    assert result.bits_per_weight == num_bits + 32 / run
    assert list(np.flatnonzero(result.multiplied)) == ([typical] if times > 1 else [])


def test_an_outlier_row_spoils_the_others_only_where_they_share_its_scale(explorer):
    def others(scales, times):
        result = explorer.compute(times=times, scales=scales, num_bits=4)
        return np.delete(result.row_errors, np.flatnonzero(explorer.compute(20, "one", 4).multiplied))

    np.testing.assert_array_equal(others("one per row", 50), others("one per row", 1))
    assert others("one", 50).min() > others("one", 1).max()


def test_no_row_is_worse_than_zeros(explorer):
    """Rounding to nearest never errs by more than the value itself, so 100 % is the end of the axis."""
    worst = max(explorer.compute(**positions).row_errors.max() for positions in explorer.positions())
    assert worst <= 1 + 1e-6


def test_a_large_matrix_is_sampled_with_its_largest_row():
    tall = RNG.normal(size=(1000, 8))
    tall[333] *= 100
    explorer = explorers.granularity(tall)
    rows = explorer.compute(times=1, scales="one", num_bits=4).rows
    assert len(rows) == 64 and rows[0] == 0 and rows[-1] == 999
    assert 333 in rows
    assert (np.diff(rows) > 0).all()
    assert "64 of 1000 rows" in explorer.title
    wide = explorers.granularity(RNG.normal(size=(100, 1 << 14)))
    assert len(wide.compute(times=1, scales="one", num_bits=4).rows) == 4


def test_the_sentence_says_the_numbers(explorer):
    result = explorer.compute(times=50, scales="groups of 16", num_bits=4)
    sentence = explorer.sentence(times=50, scales="groups of 16", num_bits=4)
    ordinary = result.row_errors[~result.multiplied]
    for number in (np.median(ordinary), ordinary.max(), result.row_errors[result.multiplied][0], result.share_lost):
        assert f"{100 * number:.1f} %" in sentence
    assert "6.00 bits per weight" in sentence and f"{result.sqnr:.1f} dB" in sentence
    assert "outlier" not in explorer.sentence(times=1)


@pytest.mark.parametrize("weight", [np.ones(5), np.ones((2, 3, 4)), np.float32(1)])
def test_refuses_what_is_no_matrix(weight):
    with pytest.raises(ValueError, match="weight must have 2 axes"):
        explorers.granularity(weight)


def _bars(svg):
    """The left and right edges of all bars of a picture, in order."""
    edges = re.findall(r"M([\d.]+) [\d.]+V[\d.]+H([\d.]+)V", svg)
    return np.array(sorted((float(left), float(right)) for left, right in edges))


def test_rows_of_a_sample_stand_side_by_side():
    """A gap between two bars would look like a row without an error."""
    tall = explorers.granularity(RNG.normal(size=(1000, 8)))
    picture = tall.draw(tall.compute(times=1, scales="one", num_bits=2))
    bars = _bars(picture)
    assert len(bars) == 64
    gaps, widths = bars[1:, 0] - bars[:-1, 1], bars[:, 1] - bars[:, 0]
    assert gaps.max() < widths.min()
    assert ">rows of the sample, in order<" in picture
    assert ">row<" in explorers.granularity(WEIGHT).frame(times=1, scales="one", num_bits=4)


def test_what_the_notebook_says_to_notice():
    (explorer,) = course.explorers_in(NOTEBOOK)
    noticed = next(cell.source for cell in course.read(NOTEBOOK).cells if cell.source.startswith("**What to notice.**"))

    def others(times, scales, num_bits):
        result = explorer.compute(times=times, scales=scales, num_bits=num_bits)
        return result.row_errors[~explorer.compute(50, scales, num_bits).multiplied]

    assert 0.6 < np.median(others(5, "one", 4)) < 0.7 and others(5, "one", 4).min() < 1
    assert "off by about two thirds when the outlier is 5 times as large" in noticed
    assert others(20, "one", 4).min() == 1
    assert "at 20 times all are lost" in noticed
    assert others(50, "one", 8).max() < 1
    assert f"at 50 times, off by {100 * np.median(others(50, 'one', 8)):.0f} %" in noticed
    np.testing.assert_array_equal(others(50, "one per row", 4), others(1, "one per row", 4))

    finer = [others(1, scales, 4) for scales in explorer.controls[1].positions[1:]]
    lower = [np.mean(b < a) for a, b in itertools.pairwise(finer)]
    assert 0.9 < min(lower) < 1
    assert "lower nearly every bar" in noticed
    sqnrs = [explorer.compute(times, "one", 4).sqnr for times in (5, 20, 50)]
    assert sqnrs == sorted(sqnrs)
    assert f"from {sqnrs[0]:.1f} to {sqnrs[-1]:.1f} dB" in noticed
