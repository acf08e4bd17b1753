"""The storage explorer counts the bytes that are really there: those of the file that `save` writes."""

import re

import course
import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers.explorers import storage
from quantlab_helpers.storage import HEADER_BYTES

WEIGHT = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
# How a position of the control reads -> (how many scales, the options of quantize)
LAYOUTS = {
    "one for all": (1, {}),
    "one per row": (6, {"per": "channel"}),
    "one per 32": (12, {"per": "group", "group_size": 32}),
    "one per 16": (24, {"per": "group", "group_size": 16}),
    "one per 8": (48, {"per": "group", "group_size": 8}),
}


def test_offers_the_layouts_that_fit():
    layout = storage(WEIGHT).controls[0]
    assert layout.positions == tuple(LAYOUTS)
    assert storage(np.ones((2, 3, 256))).controls[0].positions[2:] == tuple(
        f"one per {g}" for g in (128, 64, 32, 16, 8)
    )
    assert storage(np.ones(24)).controls[0].positions == ("one for all", "one per 8")
    assert storage(np.ones((3, 5))).controls[0].positions == ("one for all", "one per row")


@pytest.mark.parametrize("x", [np.ones(7), np.ones(8), np.float32(3.0)], ids=["odd", "one group", "0-d"])
def test_without_a_choice_of_layouts_there_is_no_slider_for_it(x):
    explorer = storage(x)
    assert [control.name for control in explorer.controls] == ["mapping", "num_bits"]
    assert "scales one for all" in explorer.sentence()


@pytest.mark.parametrize("num_bits", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("mapping", ["symmetric", "affine"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bytes(layout, mapping, num_bits, tmp_path):
    num_scales, options = LAYOUTS[layout]
    result = storage(WEIGHT).compute(num_bits=num_bits, mapping=mapping, layout=layout)
    assert result.float_bytes == 6 * 64 * 4
    assert result.unpacked_bytes == 6 * 64
    assert result.packed_bytes == 6 * 64 * num_bits // 8
    assert result.scale_bytes == 4 * num_scales
    assert result.zero_point_bytes == (num_scales if mapping == "affine" else 0)
    ql.quantize(WEIGHT, num_bits, symmetric=mapping == "symmetric", **options).save(tmp_path / "weight")
    assert result.total == (tmp_path / "weight").stat().st_size - HEADER_BYTES


def test_a_last_byte_that_is_not_full_counts():
    result = storage(np.arange(5.0)).compute(num_bits=3, mapping="symmetric")
    assert result.packed_bytes == 2  # 15 bits


def test_sqnr_of_values_worked_out_by_hand():
    # 2 bits: codes -1, 0, 1. One scale of 4: 1 and -1 become 0. A scale for each row: nothing is lost.
    x = np.array([[4.0, -4.0, 0.0, 4.0], [1.0, -1.0, 0.0, 1.0]])
    explorer = storage(x)
    lossy = explorer.compute(num_bits=2, mapping="symmetric", layout="one for all")
    assert lossy.sqnr == pytest.approx(10 * np.log10(51 / 3), abs=1e-5)
    assert explorer.compute(num_bits=2, mapping="symmetric", layout="one per row").sqnr == np.inf
    assert "SQNR exact" in explorer.sentence(num_bits=2, layout="one per row")


def test_the_sentence_has_the_numbers():
    sentence = storage(WEIGHT).sentence(num_bits=4, mapping="affine", layout="one per 32")
    # 192 bytes of codes, 12 scales, 12 zero points: 252 bytes = 5.25 bits for each of 384 weights
    for words in ("192 bytes", "48 of scales", "12 of zero points", "252", "5.25 bits", "83.6 % less", "23.8 % of it"):
        assert words in sentence, words


def test_a_tiny_array_grows_and_the_sentence_says_so():
    explorer = storage(np.array([2.5]))
    assert "25.0 % more than in float32" in explorer.sentence(num_bits=8)  # 1 byte and a scale of 4
    result = explorer.compute(num_bits=8, mapping="affine")
    assert result.reach >= 8 * result.total  # the longest bar stays in the picture


def test_bars_are_as_long_as_the_bytes():
    explorer = storage(WEIGHT)
    frame = explorer.frame(num_bits=4, mapping="affine", layout="one per 8")
    bars = re.findall(r'd="M([\d.]+) ([\d.]+)V[\d.]+H([\d.]+)V[\d.]+z" fill="(#\w+)"', frame)
    lengths = np.array([float(right) - float(left) for left, _, right, _ in bars])
    expected = np.array([32, 8, 4, 1, 4, 4, 1])  # bits per weight: float32, then codes, scales, zero points twice
    # Each end of a bar is rounded to 0.1 pixel, so a length is off by 0.1 at most, and so is the float32 bar's.
    np.testing.assert_allclose(lengths, expected / 32 * lengths[0], rtol=0, atol=0.2)


@pytest.mark.parametrize(
    ("num_bits", "layout", "bits_per_weight", "sqnr", "share_of_scales"),
    [
        (8, "one per row", "8.06", "42", None),
        (4, "one per 8", "8.00", "23", 1 / 2),
        (5, "one per row", "5.06", "23.5", None),
        (4, "one per 32", "5.00", "19.9", 1 / 5),
    ],
)
def test_notebook_02_tells_what_its_explorer_shows(num_bits, layout, bits_per_weight, sqnr, share_of_scales):
    (explorer,) = course.explorers_in("02_memory_savings")
    result = explorer.compute(num_bits=num_bits, mapping="symmetric", layout=layout)
    assert f"{8 * result.total / result.size:.2f}" == bits_per_weight
    assert f"{result.sqnr:.{len(sqnr.partition('.')[2])}f}" == sqnr
    if share_of_scales:
        assert result.scale_bytes == share_of_scales * result.total
    (told,) = [c.source for c in course.read("02_memory_savings").cells if c.source.startswith("**What to notice.**")]
    assert re.search(rf"\b{bits_per_weight}\b.* {sqnr} dB", told)
