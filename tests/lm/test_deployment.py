"""Devices, and the rule that chooses a format for them."""

import itertools

import pytest

from quantlab_helpers import lm
from quantlab_helpers.lm import deployment

PI = lm.DEVICES["Raspberry Pi 5"]
SHAPES = lm.KNOWN_SHAPES


def _choose(shape="SmolLM2-1.7B", device=PI, *, floor=0.15, has_calibration=True, **sizes):
    found = lm.candidates(SHAPES[shape], device, **{"tokens": 2048, **sizes})
    return lm.recommend(found, floor=floor, has_calibration=has_calibration)


def test_devices_are_facts_with_a_source():
    for device in lm.DEVICES.values():
        assert device.usable < device.memory
        assert device.bandwidth < device.peak
        assert "github.com/" in device.source


def test_bandwidths_are_what_their_sources_measured():
    phone, pi, laptop = lm.DEVICES.values()
    assert phone.bandwidth == pytest.approx(1.30 * 2**30 * 15.48, rel=0.01)
    files = {0.339: 30.39, 0.355: 28.39, 0.398: 25.77, 0.420: 23.23, 0.531: 19.87}  # GB: tokens/s
    assert pi.bandwidth == pytest.approx(1e9 * sum(gb * speed for gb, speed in files.items()) / 5, rel=0.01)
    assert (phone.peak, laptop.peak) == (8400e6 * 64 / 8, pytest.approx(4266e6 * 128 / 8, rel=0.001))
    assert pi.peak == pytest.approx(4267e6 * 32 / 8, rel=0.01)


def test_this_computer_is_measured():
    here = lm.this_computer()
    assert 0 < here.usable < here.memory
    assert here.bandwidth > 1e8 and here.peak is None


def test_candidates_have_the_numbers_of_the_footprint_and_of_the_measurements():
    measured = lm.methods_measured("smollm2-135m")
    found = lm.candidates(SHAPES["SmolLM2-360M"], PI, tokens=512, users=2, cache_format="int8")
    assert [candidate.name for candidate in found] == list(deployment.CHOICES)
    for candidate in found:
        size = lm.footprint(SHAPES["SmolLM2-360M"], candidate.name, tokens=512, users=2, cache_format="int8")
        assert candidate.footprint == size
        assert candidate.tokens_per_second == PI.bandwidth / size.read
        row = measured[lm.WEIGHT_FORMATS[candidate.name].measured]
        assert candidate.divergence == row["divergence"]
        assert candidate.fits is (size.total <= PI.usable)


def test_what_was_measured_is_what_is_held():
    """Options and bits of the rows are those of the formats."""
    measured = lm.methods_measured("smollm2-135m")
    for name in deployment.CHOICES:
        held = lm.WEIGHT_FORMATS[name]
        row = measured[held.measured]
        assert row["options"] == {**held.options, **({"calibration": "usual"} if held.needs_calibration else {})}
        size = lm.footprint(SHAPES["SmolLM2-135M"], name)
        linear = sum(rows * columns for rows, columns in SHAPES["SmolLM2-135M"].config.linear_shapes().values())
        bits = 8 * (size.codes + size.scales + size.zero_points) / linear
        assert bits == pytest.approx(row["bits_per_linear_weight"], abs=1e-9)


def test_the_rule():
    assert _choose().name == "AWQ"  # the most faithful of those that are as fast as the fastest
    assert _choose(has_calibration=False).name == "INT8"
    assert _choose(floor=0.3, has_calibration=False).name == "NF4"
    assert _choose(floor=0.01).name == "INT8"
    assert _choose(floor=0.001) is None  # what is good enough is too large
    assert _choose(floor=0.001, device=lm.DEVICES["laptop"]).name == "FP16"
    assert _choose(tokens=8192, users=4) is None
    # Where the caches are most of what is read, fewer bits of weights bring no speed.
    laptop = lm.DEVICES["laptop"]
    assert _choose(device=laptop, floor=0.01, users=1).name == "INT8"
    assert _choose(device=laptop, floor=0.01, users=16).name == "FP16"


def test_formats_differ_by_more_than_the_noise():
    measured = lm.methods_measured("smollm2-135m")
    rows = [measured[lm.WEIGHT_FORMATS[name].measured] for name in ("INT8", "AWQ", "GPTQ", "NF4", "INT4")]
    for better, worse in itertools.pairwise(rows):
        noise = better["divergence_standard_error"] + worse["divergence_standard_error"]
        assert better["divergence"] + 2 * noise < worse["divergence"]
