"""Measuring side by side: who takes turns, what is averaged; never how long anything takes."""

import pytest

from quantlab_helpers import timing


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0)


def test_all_take_turns():
    order = []
    timing.medians({name: lambda name=name: order.append(name) or 0.0 for name in "ab"}, turns=3)
    assert order == ["a", "b"] * 3


def test_the_median_counts():
    values = iter([5.0, 1.0, 100.0])
    assert timing.medians({"it": lambda: next(values)}, turns=3) == {"it": 5.0}


def test_seconds_of_a_call_are_the_mean_of_calls_after_as_many_to_warm_up(monkeypatch):
    clock, durations = [0.0], iter([50.0, 50.0, 1.0, 3.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def call():
        clock[0] += next(durations)

    assert timing.side_by_side({"it": call}, turns=1, repeat=2) == {"it": 2.0}


@pytest.mark.parametrize("is_compiled", [True, False])
def test_bandwidth_is_bytes_over_seconds(monkeypatch, is_compiled):
    """Both readers add up every number of the array."""
    if not is_compiled:
        monkeypatch.setattr(timing, "compiled_loops", lambda: None)
    sums = []

    def side_by_side(calls, turns, repeat):
        sums.extend(int(call()) for call in calls.values())
        return dict.fromkeys(calls, 0.5)

    monkeypatch.setattr(timing, "side_by_side", side_by_side)
    assert timing.read_bandwidth() == timing.READ_BYTES / 0.5
    assert sums == [timing.READ_BYTES // 8]


@pytest.mark.parametrize("name", ["turns", "repeat"])
def test_bad_numbers_are_named(name):
    with pytest.raises(ValueError, match=name):
        timing.side_by_side({"it": int}, **{name: 0})
