"""The static figures show the numbers that they are given, name their axes, and leave no figure behind."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from quantlab_helpers import plots


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figure that a plot showed, filled when it is shown."""
    axes = []
    monkeypatch.setattr(plt, "show", lambda: axes.extend(plt.gcf().axes))
    yield axes
    assert plt.get_fignums() == []


def _labels(axes):
    return axes.get_xlabel(), axes.get_ylabel()


def _legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_error_by_value(drawn):
    x, restored = np.array([-1.0, 0.3, 0.8]), np.array([-1.0, 0.0, 1.0])
    plots.error_by_value(x, restored, scale=1.0)
    points, *_ = drawn[0].collections
    np.testing.assert_allclose(points.get_offsets(), np.column_stack([x, restored - x]))
    assert sorted(line.get_ydata()[0] for line in drawn[0].lines) == [-0.5, 0.5]
    assert _labels(drawn[0]) == ("value", "restored - value")


def test_curves(drawn):
    x, ys = np.arange(3), {"a": np.array([1.0, 2, 3]), "b": np.array([3.0, 2, 1])}
    plots.curves(x, ys, x_label="bits", y_label="error", log_y=True)
    for line, y in zip(drawn[0].lines, ys.values(), strict=True):
        np.testing.assert_array_equal(line.get_data(), [x, y])
    assert _legend(drawn[0]) == ["a", "b"]
    assert _labels(drawn[0]) == ("bits", "error")
    assert drawn[0].get_yscale() == "log"
    assert len({(line.get_color(), line.get_marker()) for line in drawn[0].lines}) == 2


def test_row_errors_in_percent(drawn):
    plots.row_errors({"before": [0.5, 1.0], "after": [0.1, 0.0]})
    assert [bar.get_height() for bar in drawn[0].patches] == [50, 100, 10, 0]
    assert _legend(drawn[0]) == ["before", "after"]
    assert _labels(drawn[0]) == ("row", "relative error (%)")


def test_sqnr_by_bits(drawn):
    plots.sqnr_by_bits({4: 17.0, 8: 42.0}, {4: 18.0, 8: 42.0}, {"FP16": (16, 73.0)})
    rule, measured, single = drawn[0].lines
    np.testing.assert_array_equal(rule.get_data(), [[4, 8], [18, 42]])
    np.testing.assert_array_equal(measured.get_data(), [[4, 8], [17, 42]])
    np.testing.assert_array_equal(single.get_data(), [[16], [73]])
    assert [text.get_text() for text in drawn[0].texts] == ["FP16"]


@pytest.mark.parametrize("x", [None, np.linspace(-1, 1, 50)])
def test_levels(drawn, x):
    plots.levels({"two": [-1.0, 1.0], "three": [-1.0, 0.0, 1.0]}, x=x, x_label="level")
    marks = [[segment[0][0] for segment in lines.get_segments()] for lines in drawn[0].collections]
    assert marks == [[-1, 1], [-1, 0, 1]]
    assert [tick.get_text() for tick in drawn[0].get_yticklabels()] == ["two", "three"]
    assert len(drawn[0].patches) == (x is not None)


def test_decision_regions(drawn):
    axis = np.linspace(-1, 1, 5)
    scores = np.broadcast_to(axis, (5, 5))
    points, labels = np.array([[0.5, 0.1], [-0.5, 0.2], [0.7, 0.3]]), np.array([[1], [-1], [1]])
    plots.decision_regions(axis, {"float": scores, "int3": -scores}, points, labels)
    assert [panel.get_title() for panel in drawn] == ["float", "int3"]
    for panel in drawn:
        minus, plus = panel.collections[-2:]
        np.testing.assert_array_equal(minus.get_offsets(), points[[1]])
        np.testing.assert_array_equal(plus.get_offsets(), points[[0, 2]])
