"""The static figures show the numbers that they are given, name their axes, and leave no figure behind."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from quantlab_helpers import plots
from quantlab_helpers.lm import LlamaConfig


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figure that a plot showed, filled when it is shown."""
    axes = []

    def show(figure, alt):
        assert len(alt.split()) >= 3, alt
        axes.extend(figure.axes)

    monkeypatch.setattr(plots, "_show", show)
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


def test_alt_text_says_in_words_what_is_drawn(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "_show", lambda figure, alt: shown.append(alt))
    plots.curves([2, 4], {"per row": [9.0, 20.0], "one scale": [5.0, 16.0]}, x_label="bits", y_label="SQNR (dB)")
    plots.levels({"INT4": [-1.0, 1.0], "NF4": [-1.0, 0.0]}, x_label="level")
    plots.decision_regions([0, 1], {"float": np.eye(2), "int3": np.eye(2)}, [[0.5, 0.5]], [1])
    assert shown == [
        "Chart: SQNR (dB) against bits: per row, one scale",
        "Number lines: level: INT4, NF4",
        "Maps of where a classifier says + and where -: float; int3",
    ]


def test_the_alt_text_is_stored_with_the_picture_and_shown_as_text_where_no_script_runs(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", lambda *things, **options: shown.append((things, options)))
    plots._show("figure", 'Chart: "a" < b')
    picture, (outputs, options) = shown
    assert picture == (("figure",), {"metadata": {"image/png": {"alt": 'Chart: "a" < b'}}})
    assert options == {"metadata": {"is_alt_text": True}, "raw": True}  # the website leaves it out by this mark
    assert outputs[0]["text/plain"] == 'Chart: "a" < b'
    assert ">Chart: &quot;a&quot; &lt; b<style " in outputs[0]["text/html"]


def test_size_and_perplexity(drawn):
    plots.size_and_perplexity({"large": [(1000.0, 1.5), (500.0, 3.0)], "small": [(300.0, 2.0)]})
    axes = drawn[0]
    assert {line.get_label(): line.get_xydata().tolist() for line in axes.lines} == {
        "large": [[1000.0, 1.5], [500.0, 3.0]],
        "small": [[300.0, 2.0]],
    }
    assert axes.get_xscale() == "log"
    assert axes.get_ylim() == pytest.approx((0.97 * 1.5, 1.3 * 1.5))  # so that small differences are seen


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


def test_heat_map_shows_every_number_where_it_belongs(drawn):
    plots.heat_map([[0.5, 2500.0], [0.001234, 12.0]], [8, 4], ["one", "groups"], x_label="scales", y_label="bits")
    texts = {text.get_position(): text.get_text() for text in drawn[0].texts}
    assert texts == {(0, 0): "0.5", (1, 0): "2e3", (0, 1): "0.00123", (1, 1): "12"}
    assert [tick.get_text() for tick in drawn[0].get_xticklabels()] == ["one", "groups"]
    assert [tick.get_text() for tick in drawn[0].get_yticklabels()] == ["8", "4"]
    assert _labels(drawn[0]) == ("scales", "bits")


def test_heat_map_is_darker_for_larger_numbers(drawn):
    plots.heat_map([[1.0, 10.0, 100.0]], ["row"], ["a", "b", "c"], x_label="scales", y_label="bits")
    image = drawn[0].images[0]
    darkness = [sum(image.cmap(image.norm(value))[:3]) for value in image.get_array()[0]]
    assert darkness == sorted(darkness, reverse=True)


def test_llama_names_its_stations_and_their_sizes(drawn):
    config = LlamaConfig(
        vocab_size=1000, width=64, ffn_width=96, num_layers=3, num_heads=2, num_kv_heads=1, head_size=32, max_context=8
    )
    plots.llama(config, {"embedding": 64000, "attention": 36864, "feed-forward": 55296})
    words = [text.get_text() for text in drawn[0].texts]
    for station in ("tokens", "embedding", "attention", "feed-forward", "head", "logits"):
        assert station in words
    for size in ("1,000 x 64 = 64,000", "36,864", "55,296", "3 layers"):
        assert any(size in text for text in words), size


def test_loss_surface_shows_the_grid_the_points_and_where_the_cost_is_small(drawn):
    hessian, weight = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([0.4, -1.3])
    plots.loss_surface(hessian, weight, {"float": weight, "nearest": (0, -1)}, path=[weight, (0, -1.3), (0, -1)])
    axes = drawn[0]
    grid, first, second = axes.lines
    assert {tuple(point) for point in grid.get_xydata()} == {(0, -2), (1, -2), (0, -1), (1, -1)}
    np.testing.assert_allclose(np.squeeze(first.get_xydata()), weight)
    np.testing.assert_allclose(np.squeeze(second.get_xydata()), (0, -1))
    assert _legend(axes) == ["representable", "float", "nearest"]
    assert len(axes.texts) == 2  # arrows
    contours = next(c for c in axes.collections if len(c.get_paths()) > 1)
    for level, path in zip(contours.levels, contours.get_paths(), strict=True):
        d = path.vertices - weight
        np.testing.assert_allclose(np.einsum("ni,ij,nj->n", d, hessian, d) / 2, level, atol=0.01)
    assert sum(contours.cmap(contours.norm(contours.levels[0]))[:3]) < 1.5  # dark where the cost is small
