"""The charts behind the sliders: every mark stands where its numbers say, and every word can be read."""

import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.textpath import TextPath

from quantlab_helpers.explorers.svg import Chart, tiled

SVG = "{http://www.w3.org/2000/svg}"
RED = "#ff0000"
ROUNDED = 0.051  # places are written with one decimal


def _chart(**options):
    """A chart whose plot is 100 pixels wide and high: x = 0 at pixel 58, y = 0 at pixel 114."""
    return Chart((0, 10), (0, 50), width=172, height=158, **options)


def _drawn(chart):
    return ET.fromstring(chart.image(""))


def _all_red(chart):
    """The red elements of a chart."""
    return [element for element in _drawn(chart).iter() if RED in (element.get("fill"), element.get("stroke"))]


def _red(chart):
    (element,) = _all_red(chart)
    return element


def _place(element, x="x", y="y"):
    return float(element.get(x)), float(element.get(y))


def _corners(path):
    """The points of an outline of M, L, H and V."""
    x = y = None
    for command, written in re.findall(r"([MLHV])([\d. ]+)", path.get("d")):
        numbers = [float(number) for number in written.split()]
        x = x if command == "V" else numbers[0]
        y = y if command == "H" else numbers[-1]
        yield x, y


def test_what_is_drawn_in_the_plot_is_not_moved():
    plot = _drawn(_chart()).find(f"{SVG}svg")
    assert plot.get("viewBox") == " ".join(plot.get(name) for name in ("x", "y", "width", "height")) == "58 14 100 100"


def test_each_point_is_a_circle_at_its_place():
    chart = _chart()
    chart.points([[0, 2], [5, 10]], [[0, 10], [25, 50]], RED)
    circles = _red(chart).findall(f"{SVG}circle")
    assert [_place(circle, "cx", "cy") for circle in circles] == [(58, 114), (78, 94), (108, 64), (158, 14)]
    assert all(float(circle.get("r")) > 0 for circle in circles)


def test_a_line_goes_through_its_points():
    chart = _chart()
    chart.line([0, 5, 10], [10, 10, 40], RED)
    assert _red(chart).get("points") == "58.0,94.0 108.0,94.0 158.0,34.0"


def test_a_bar_stands_on_its_base_and_reaches_its_height():
    chart = _chart()
    chart.bars([5], [25], 2, RED)
    chart.bars([8], [40], 1, RED, base=10)
    first, second = map(set, map(_corners, _all_red(chart)))
    assert first == {(98, 114), (98, 64), (118, 64), (118, 114)}
    assert second == {(133, 94), (133, 34), (143, 34), (143, 94)}


def test_a_thin_bar_can_be_seen():
    chart = _chart()
    chart.bars([5], [25], 1e-6, RED)
    left, right = sorted({x for x, _ in _corners(_red(chart))})
    assert right - left >= 1 and left < 108 < right


def test_segments_join_their_ends():
    chart = _chart()
    chart.segments([0, 5], [0, 50], [10, 5], [25, 0], RED)
    assert list(_corners(_red(chart))) == [(58, 114), (158, 64), (108, 14), (108, 114)]


def test_steps_are_level_between_their_edges():
    chart = _chart()
    chart.steps([0, 5, 10], [10, 40], RED)
    assert _red(chart).get("points") == "58.0,94.0 108.0,94.0 108.0,34.0 158.0,34.0"


def test_a_band_is_as_high_as_the_plot_and_ends_at_its_edges():
    chart = _chart()
    for ends in ((2, 4), (8, 99), (11, 12)):
        chart.band(*ends, RED)
    shapes = [[float(band.get(name)) for name in ("x", "y", "width", "height")] for band in _all_red(chart)]
    assert shapes == [[78, 14, 20, 100], [138, 14, 20, 100]]


def test_what_is_larger_lies_higher_and_further_right():
    chart = _chart()
    chart.points([1, 2], [10, 20], RED)
    (x, y), (larger_x, larger_y) = (_place(c, "cx", "cy") for c in _red(chart))
    assert larger_x > x and larger_y < y  # pixels are counted from the top


def _ticks(chart, anchor):
    """Number -> place of each label of an axis."""
    labels = [text for text in _drawn(chart).iter(f"{SVG}text") if text.text and text.get("text-anchor") == anchor]
    return {float(label.text.replace("\N{MINUS SIGN}", "-")): _place(label) for label in labels}


def test_a_tick_label_stands_at_the_number_that_it_says():
    chart = Chart((-1, 1), (0, 50), width=172, height=158)
    x_ticks, y_ticks = _ticks(chart, "middle"), _ticks(chart, "end")
    assert {-1, 0, 1} <= x_ticks.keys() and {0, 50} <= y_ticks.keys()
    for number, (x, y) in x_ticks.items():
        assert x == pytest.approx(108 + 50 * number, abs=ROUNDED)
        assert 114 < y < 158
    lines = {float(y) for y in re.findall(r"M58 ([\d.]+)H158", chart.image(""))}
    for number, (x, y) in y_ticks.items():
        at = 114 - 2 * number
        assert 0 < x < 58 and at < y < at + 11 / 2  # letters of 11 pixels, whose middle is at the line
        assert min(abs(line - at) for line in lines) <= ROUNDED


def test_ticks_can_be_named():
    chart = Chart((0, 1), (0, 1), x_ticks={0.5: "a < b"}, y_ticks=False)
    assert [text.text for text in _drawn(chart).iter(f"{SVG}text") if text.text] == ["a < b"]


def test_words_stand_at_their_place():
    chart = _chart()
    chart.text(5, 25, "a < b", colour=RED)
    chart.text(5, 25, "moved", colour=RED, dx=3, dy=-8)
    assert [(text.text, _place(text)) for text in _all_red(chart)] == [("a < b", (108, 64)), ("moved", (111, 56))]


@pytest.mark.parametrize("x", [-2, 0, 5, 10, 12])
@pytest.mark.parametrize("anchor", ["start", "middle", "end"])
def test_words_stay_within_the_chart(x, anchor):
    words = "a rounding error"
    chart = _chart()
    chart.text(x, 25, words, colour=RED, anchor=anchor)
    text = _red(chart)
    length = TextPath((0, 0), words, size=float(text.get("font-size"))).get_extents().width  # in a wide font
    left = float(text.get("x")) - length * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")]
    assert left >= 0 and left + length <= chart.width


def _tiles(rows):
    """Where each chart is in the picture of all (left, top, right, bottom), and the size of the picture."""
    picture = ET.fromstring(tiled(rows, ""))
    moves = [re.findall(r"[\d.]+", tile.get("transform")) for tile in picture.findall(f"{SVG}g")]
    charts = itertools.chain(*rows)
    places = [(x, y, x + c.width, y + c.height) for c, (x, y) in zip(charts, np.float64(moves), strict=True)]
    return np.array(places), np.float64(picture.get("viewBox").split()[2:])


def test_tiles_stand_beside_and_below_each_other():
    a, b, c, d = (Chart((0, 1), (0, 1), width=100 + i, height=90 - i) for i in range(4))
    places, size = _tiles([[a, b, c], [d]])
    left, top = places.T[:2]
    assert left[0] < left[1] < left[2] and top[0] == top[1] == top[2] < top[3]
    for one, other in itertools.combinations(places, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]  # no overlap
    assert places.min() >= 0 and (places[:, 2:] <= size).all()


def test_a_picture_says_what_it_shows():
    for picture in (_chart().image('what "it" shows'), tiled([[_chart()]], 'what "it" shows')):
        assert ET.fromstring(picture).get("aria-label") == 'what "it" shows'
