"""The race: whose turn it is, what each clock counts and what is shown; never how fast anybody is."""

import pytest
from small_model import make_model

import quantlab_helpers as ql
from quantlab_helpers import racing, timing
from quantlab_helpers.racing import Lane


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock on which each token takes a second, whoever writes it, and a pause ten minutes."""
    now = [0.0]
    add = Lane._add_one

    def add_one(lane):
        now[0] += 1.0
        add(lane)

    monkeypatch.setattr(Lane, "_add_one", add_one)
    monkeypatch.setattr(racing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(racing.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 600))
    return now


@pytest.fixture
def models():
    model = make_model(max_context=128)
    model.tokenizer.stop_tokens = frozenset()
    return {"float32": model, "<int8>": ql.lm.quantize_model(model)}


def test_speed_is_tokens_by_each_ones_own_clock(models, capsys):
    assert ql.race(models, "To be", seconds=20) == {"float32": 1.0, "<int8>": 1.0}


def test_texts_are_those_that_each_writes_alone(models, capsys):
    ql.race(models, "To be", seconds=20)
    shown = capsys.readouterr().out
    for model in models.values():
        assert f"To be{model.generate('To be', 21)}" in shown  # the first token is not timed
    assert "21 tokens, 1 a second" in shown


def test_all_take_turns(models, monkeypatch):
    order = []
    write = Lane.write
    monkeypatch.setattr(Lane, "write", lambda lane, seconds: (order.append(id(lane)), write(lane, seconds)))
    ql.race(models, "To be", seconds=3)
    assert len(order) == 6 and order[:2] * 3 == order


def test_a_text_that_ends_is_out_of_the_race(models):
    model = models["float32"]
    stop = list(model.stream("To be", 6))[5]
    model.tokenizer.stop_tokens = frozenset({stop})
    speeds = ql.race({"ends": model}, "To be", seconds=20)
    assert 0 < speeds["ends"] <= 1
    model.tokenizer.stop_tokens = frozenset(range(128))
    assert ql.race({"ends at once": model}, "To be") == {"ends at once": 0.0}


def test_a_context_that_is_full_is_no_error(models):
    assert ql.race(models, "A" * 120, seconds=1000)


def test_the_picture_is_escaped_and_told_when_all_is_done(models):
    lanes = {name: Lane(model, "a < b") for name, model in models.items()}
    assert "&lt;int8&gt;" in racing._drawn(lanes, "a < b") and "<em>a &lt; b</em>" in racing._drawn(lanes, "a < b")
    assert 'role="group"' in racing._drawn(lanes, "a < b")
    assert 'role="status"' in racing._drawn(lanes, "a < b", "status")


def test_refuses_a_race_of_no_time(models):
    with pytest.raises(ValueError, match="seconds must"):
        ql.race(models, "To be", seconds=0)


def test_slices_are_longer_than_the_pause_is_needed_for():
    assert 0.03 < timing.PAUSE < racing.SLICE
