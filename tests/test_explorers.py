"""Every position of every control of every explorer, as the notebooks show them."""

import dataclasses
import re
import xml.etree.ElementTree as ET
from html import escape

import course
import ipywidgets
import numpy as np
import pytest
from colours import LEAST_CONTRAST, contrast

from quantlab_helpers import explorers, style
from quantlab_helpers.explorers.base import MOST_PRECOMPUTED

LETTERS_IN_A_LINE = 95  # of the sentence under a picture, in JupyterLab
MOST_BYTES = 24_000  # of one frame: what the browser swaps at a move of the slider


@pytest.fixture(scope="module", params=course.NAMES)
def shown(request):
    return course.explorers_in(request.param)


def test_sweep(shown):
    """Every position is computed, says its numbers, and draws a small well-formed picture with a name."""
    for explorer in shown:
        sentences = set()
        for positions in explorer.positions():
            sentence = explorer.sentence(**positions)
            frame = explorer.frame(**positions)
            picture = ET.fromstring(frame).find("{http://www.w3.org/2000/svg}svg")
            assert picture.get("aria-label")
            assert ET.fromstring(frame).find("figcaption").text == sentence
            assert _no_numbers(frame) == [], (explorer.title, positions)
            assert _faint_words(picture) == []
            assert len(frame) <= MOST_BYTES, (explorer.title, positions, len(frame))
            assert len(sentence) <= LETTERS_IN_A_LINE * explorer.num_lines, sentence
            sentences.add(sentence)
        assert len(sentences) > 1, f"{explorer.title}: the sentence is the same at every position"


def _no_numbers(frame):
    """What stands for a number that could not be computed."""
    return [word for word in ("nan", "inf", "None") if word in frame]


def _faint_words(picture):
    """Words whose colour is too light to be read on white."""
    texts = picture.iter("{http://www.w3.org/2000/svg}text")
    words = [text for text in texts if any(map(str.isalnum, text.text or ""))]
    return [text.text for text in words if contrast(text.get("fill"), style.PAPER) < LEAST_CONTRAST]


def test_each_control_matters(shown):
    """Moving any one control from its start to some other position changes the picture."""
    for explorer in shown:
        start = explorer.frame(**explorer.at_start())
        for control in explorer.controls:
            others = [p for p in control.positions if p != control.start]
            drawn = {explorer.frame(**{**explorer.at_start(), control.name: p}) for p in others}
            assert drawn - {start}, f"{explorer.title}: {control.label} does nothing"


def test_panel_has_a_slider_and_a_named_list_for_each_control(shown):
    for explorer in shown:
        rows = explorer.panel.children[1:-1]
        assert len(rows) == len(explorer.controls)
        for row, control in zip(rows, explorer.controls, strict=True):
            twin, slider = row.children
            assert twin.description == control.label
            assert slider.value == control.start
            assert twin.index == slider.index


def test_without_a_kernel_the_start_is_shown(shown):
    for explorer in shown:
        bundle = explorer._repr_mimebundle_()
        assert explorer.sentence() in bundle["text/plain"]
        ET.fromstring(bundle["image/svg+xml"])


def _html(panel):
    """What is in the last widget of a panel, as one element."""
    return ET.fromstring(f"<div>{panel.children[-1].value}</div>")


def _frames(element, classes=()):
    """Every figure in the element, in order: the classes of what it stands in, and its position."""
    if element.tag == "figure":
        yield classes, element.get("data-position")
        return
    own = (element.get("class"),) if element.get("class") else ()
    for child in element:
        yield from _frames(child, (*classes, *own))


def test_precomputed_frames_stand_in_the_order_of_the_positions_each_in_the_classes_of_its_places(shown):
    for explorer in shown:
        if explorer.is_precomputed:
            html = explorer.panel.children[-1].value
            expected = []
            for position in explorer.positions():
                frame = explorer.frame(**position)
                assert frame in html
                classes = tuple(f"{c.name}-{c.positions.index(position[c.name])}" for c in explorer.controls)
                expected.append((classes, re.search(r'data-position="([^"]*)"', frame)[1]))
            found = [(classes, escape(where, quote=True)) for classes, where in _frames(_html(explorer.panel))]
            assert found == expected


def _counter(count):
    """An explorer of `count` positions."""
    control = explorers.Control("n", "n", tuple(range(count)), 3)
    return explorers.Explorer("count", (control,), lambda n: n, lambda n: f"<svg id='{n}'/>", "n is {}".format)


def test_explorers_of_many_positions_are_not_precomputed():
    assert _counter(MOST_PRECOMPUTED).is_precomputed
    assert not _counter(MOST_PRECOMPUTED + 1).is_precomputed


def test_each_slider_is_linked_in_the_browser_to_its_list(monkeypatch):
    links = []
    monkeypatch.setattr(ipywidgets, "jslink", lambda source, target: links.append((source, target)))
    two = explorers.Control("a", "a", (1, 2), 1), explorers.Control("b", "b", (1, 2, 3), 1)
    explorer = explorers.Explorer("two", two, lambda a, b: (a, b), lambda r: "<svg/>", str)
    rows = [row.children for row in explorer.panel.children[1:-1]]
    assert links == [((slider, "index"), (twin, "index")) for twin, slider in rows]


def test_each_place_of_each_slider_has_the_rule_that_hides_its_frames_elsewhere():
    """That browsers do as it says is for the browser tests."""
    two = explorers.Control("a", "a", (1, 2), 1), explorers.Control("b", "b", (1, 2, 3), 1)
    panel = explorers.Explorer("two", two, lambda a, b: (a, b), lambda r: "<svg/>", str).panel
    *_, rules = re.findall("<style>(.*?)</style>", panel.children[0].value)
    assert rules.replace("}", "}\n").splitlines() == [
        f".quantlab-explorer>.quantlab-{name}:not(:has([aria-valuenow='{index}'],[aria-valuenow^='{index}.']))"
        f"~* .{name}-{index}{{display:none}}"
        for name, index in (("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2))
    ]
    assert [row._dom_classes for row in panel.children[1:-1]] == [("quantlab-a",), ("quantlab-b",)]


def test_only_a_large_array_shows_a_progress_bar(capsys):
    for size, shows in ((explorers.base.MANY_VALUES // 9 - 1, False), (explorers.base.MANY_VALUES // 9 + 1, True)):
        large = dataclasses.replace(_counter(9), num_values=size)
        assert large.panel is not None
        assert ("count" in capsys.readouterr().err) is shows


def test_the_courses_own_explorers_show_none(shown):
    for explorer in shown:
        assert explorer.num_values * len(list(explorer.positions())) < explorers.base.MANY_VALUES / 4


def _many():
    """An explorer of 6 times 7 times 8 positions."""
    controls = [explorers.Control(name, name, tuple(range(n)), 2) for name, n in (("a", 6), ("b", 7), ("c", 8))]
    return explorers.Explorer("many", tuple(controls), lambda **at: at, lambda at: "<svg/>", str)


def _seen(panel, at):
    """The positions of the figures that the rules leave to be seen, where the sliders stand at these places."""
    return [
        where
        for classes, where in _frames(_html(panel))
        if all(at[name] == int(index) for name, index in (c.split("-") for c in " ".join(classes).split()))
    ]


def test_where_a_slider_leaves_a_place_of_many_the_browser_has_the_frame():
    """Wherever else the sliders stand, until the kernel has answered, one frame is seen and not none or two."""
    explorer = _many()
    for at in explorer.positions():  # the places are the positions
        seen = _seen(explorer.panel, at)
        assert len(seen) == 1
        if sum(place != 2 for place in at.values()) <= 1:
            assert seen == ["; ".join(f"{name}={place}" for name, place in at.items())]


def test_a_slider_asks_the_kernel_only_for_its_first_step():
    panel = _many().panel
    a, b = (row.children[1] for row in panel.children[1:3])
    sent = []
    panel.children[-1].observe(lambda change: sent.append(change.new), "value")
    for place in (3, 4, 5, 1):
        a.index = place
    assert sent == []
    b.index = 4  # both have left: first the frame alone, so that it is soon seen, then those around it
    assert [len(re.findall("<figure", html)) for html in sent] == [1, 6 + 7 + 8 - 2]
    assert all('data-position="a=1; b=4; c=2"' in html for html in sent)
    for place in (3, 5, 6, 0):
        b.index = place
    assert len(sent) == 2
    assert _seen(panel, {"a": 1, "b": 0, "c": 2}) == ["a=1; b=0; c=2"]


def test_where_one_slider_alone_has_many_places_the_kernel_draws_each():
    _, row, picture = _counter(MOST_PRECOMPUTED + 1).panel.children
    for place in (3, 5, 4):
        row.children[1].index = place
        assert re.findall("n=[0-9]+", picture.value) == [f"n={place}"]


LEARNERS_ARRAYS = {
    "one value": np.array([2.5]),
    "zeros": np.zeros(5),
    "constant": np.full((3, 4), -7.0),
    "positive": np.array([1, 2, 3]),
    "float16": np.linspace(-1, 1, 50).astype(np.float16),
    "tiny": np.array([1e-30, -2e-30, 3e-30]),
    "huge": np.array([1e30, -2e30]),
    "outlier": np.append(np.linspace(-1, 1, 200), 1000.0),
    "Fortran order": np.asfortranarray(np.random.default_rng(0).normal(size=(30, 20))),
}


def _layer_fed_with(x):
    """The explorer that takes two arrays: `x` are the inputs of a layer of ours."""
    *_, in_features = np.shape(x) or (1,)
    return explorers.layer_output(np.random.default_rng(0).normal(size=(3, in_features or 1)), x)


def _inputs_of(weight):
    *_, in_features = np.shape(weight) or (1,)
    return np.random.default_rng(0).normal(size=(3, in_features or 1))


def _scaled_by_awq(weight):
    return explorers.awq(weight, _inputs_of(weight))


def _scaled_by_smoothquant(weight):
    return explorers.smoothquant(weight, _inputs_of(weight))


ONE_ARRAY = [explorers.number_line, explorers.buckets, explorers.formats, explorers.storage, _layer_fed_with]
ONE_MATRIX = [explorers.granularity, _scaled_by_awq, _scaled_by_smoothquant]


@pytest.mark.parametrize("make", ONE_ARRAY)
@pytest.mark.parametrize("x", LEARNERS_ARRAYS.values(), ids=LEARNERS_ARRAYS)
def test_works_on_an_array_of_the_learners_own(make, x):
    explorer = make(x)
    for positions in explorer.positions():
        assert _no_numbers(explorer.frame(**positions)) == []


@pytest.mark.parametrize("make", ONE_ARRAY)
@pytest.mark.parametrize("x", [[], [np.nan], [np.inf, 1], "text", None])
def test_refuses_what_is_no_array_of_numbers(make, x):
    with pytest.raises((ValueError, TypeError), match="x must"):
        make(x)


@pytest.mark.parametrize("make", ONE_MATRIX)
@pytest.mark.parametrize("x", LEARNERS_ARRAYS.values(), ids=LEARNERS_ARRAYS)
def test_works_on_a_matrix_of_the_learners_own(make, x):
    explorer = make(np.atleast_2d(x))
    for positions in explorer.positions():
        assert _no_numbers(explorer.frame(**positions)) == []


@pytest.mark.parametrize("make", ONE_MATRIX)
@pytest.mark.parametrize("x", [[], [[np.nan, 1]], [[np.inf, 1]], "text", None, [1.0, 2.0]])
def test_refuses_what_is_no_matrix_of_numbers(make, x):
    with pytest.raises((ValueError, TypeError), match="weight must"):
        make(x)


def test_a_control_must_start_at_one_of_its_positions():
    with pytest.raises(ValueError, match="cannot start at 9"):
        explorers.Control("n", "n", (1, 2), 9)
    with pytest.raises(ValueError, match="cannot have None"):
        explorers.Control("n", "n", (None, 2), 2)


def test_number_line_places_a_float():
    line = explorers.number_line(np.array([-3.0, 3.0]))  # 3 bits: codes -3 .. 3, scale 1
    result = line.compute(value=1.4, num_bits=3)
    assert (result.code, result.scale, result.restored) == (1, 1.0, 1.0)
    assert result.error == pytest.approx(0.4)
    beyond = line.compute(value=3.4, num_bits=3)
    assert beyond.code == 3
    assert beyond.is_clipped and not result.is_clipped
    assert "clipped to code 3" in line.sentence(value=3.4, num_bits=3)


def test_buckets_count_and_measure():
    x = np.array([-3.0, -0.4, 0.4, 1.2, 3.0], dtype=np.float32)
    result = explorers.buckets(x).compute(num_bits=3, clip=1.0, mapping="symmetric")
    assert dict(zip(result.codes, result.counts, strict=True)) == {-3: 1, 0: 2, 1: 1, 3: 1}
    assert result.scale == 1.0
    assert result.num_clipped == 0
    assert result.mean_error == pytest.approx((0.4 + 0.4 + 0.2) / 5, rel=1e-6)
    clipped = explorers.buckets(x).compute(num_bits=3, clip=0.5, mapping="symmetric")
    assert clipped.num_clipped == 2
    assert clipped.scale == 0.5
    error = np.array([1.5, 0.1, 0.1, 0.2, 1.5])
    assert clipped.mean_error == pytest.approx(error.mean(), rel=1e-6)
    assert clipped.clipping_share == pytest.approx(3.0 / error.sum(), rel=1e-6)
