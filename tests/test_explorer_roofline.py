"""The roofline explorer: its numbers are those of a machine that was made up, straight from the definition."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from quantlab_helpers import exercises
from quantlab_helpers.explorers import roofline
from quantlab_helpers.explorers.roofline import _ticks

SIZES = {"float32": 4_000, "int8": 1_000, "int4": 500}
WEIGHTS, BANDWIDTH, PEAK = 1_000, 1e5, 1e6  # 10 operations in the time of one byte
MEASURED = {"float32": {1: 20.0, 64: 400.0}, "int4": {1: 90.0}}
SPEED = exercises.get("tokens_per_second").reference


def explorer(measured=MEASURED, **changed):
    machine = {"bandwidth": BANDWIDTH, "peak": PEAK} | changed
    return roofline(SIZES, WEIGHTS, **machine, tokens_per_second=SPEED, measured=measured)


@pytest.mark.parametrize("format", SIZES)
@pytest.mark.parametrize("batch", [1, 2, 16, 1024])
def test_speed_and_bound(format, batch):
    result = explorer().compute(format=format, batch=batch)
    seconds_of_reading, seconds_of_computing = SIZES[format] / 1e5, batch * 2_000 / 1e6
    assert result.speed == pytest.approx(batch / max(seconds_of_reading, seconds_of_computing))
    assert result.is_memory_bound == (seconds_of_reading > seconds_of_computing)
    assert result.intensity == pytest.approx(2 * batch * WEIGHTS / SIZES[format])


def test_fewer_bytes_bend_earlier():
    bends = {format: explorer().compute(format=format, batch=1).bend for format in SIZES}
    assert bends == {"float32": 20, "int8": 5, "int4": 2.5}


def test_every_position_is_drawn_and_told():
    shown = explorer()
    for positions in shown.positions():
        frame = shown.frame(**positions)
        ET.fromstring(frame)
        assert "nan" not in frame and "inf" not in frame
        result = shown.compute(**positions)
        sentence = shown.sentence(**positions)
        assert ("memory-bound" if result.is_memory_bound else "compute-bound") in sentence
        speed = MEASURED.get(positions["format"], {}).get(positions["batch"])
        assert ("Reached" in sentence) == (speed is not None)


def test_the_sentence_has_the_numbers():
    assert explorer().sentence(format="float32", batch=1) == (
        "float32, 1 token at a time: 0.5 operations for each byte that is read. In the time of one byte this machine "
        "does 10: memory-bound. At most 25 tokens per second. Reached: 20, 80.0 % of that."
    )


@pytest.mark.parametrize(("low", "high", "words"), [(0.9, 2.1, "10 20 50 100"), (-1.2, 3.1, "0.1 1 10 100 1,000")])
def test_ticks_are_round_numbers(low, high, words):
    assert " ".join(_ticks(low, high).values()) == words


def test_the_learners_function_drives_it():
    doubled = roofline(SIZES, WEIGHTS, BANDWIDTH, PEAK, lambda *arguments: 2 * SPEED(*arguments))
    result = doubled.compute(format="int8", batch=4)
    assert result.speed == 2 * explorer().compute(format="int8", batch=4).speed
    np.testing.assert_allclose(result.roofs["int8"], 2 * explorer().compute(format="int8", batch=4).roofs["int8"])


@pytest.mark.parametrize(("bandwidth", "peak"), [(1e12, 1e5), (1.0, 1e15), (1e9, 1e9)])
def test_machines_of_any_balance(bandwidth, peak):
    """Also those that are bound by one of the two throughout: the bend is then outside of the picture."""
    shown = explorer(bandwidth=bandwidth, peak=peak, measured=None)
    for positions in shown.positions():
        ET.fromstring(shown.frame(**positions))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"bandwidth": 0}, "bandwidth must"),
        ({"peak": -1}, "peak must"),
        ({"measured": {"int3": {1: 2.0}}}, "not of 'int3'"),
    ],
)
def test_refuses_what_cannot_be(changed, named):
    with pytest.raises(ValueError, match=named):
        explorer(**changed)


@pytest.mark.parametrize("sizes", [{}, dict.fromkeys("abcde", 10)])
def test_refuses_no_formats_and_too_many(sizes):
    with pytest.raises(ValueError, match="one to 4 formats"):
        roofline(sizes, WEIGHTS, BANDWIDTH, PEAK, SPEED)
