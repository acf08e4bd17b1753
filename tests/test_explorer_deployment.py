"""The explorer of notebook 11 shows what the calculation says, and says what would change it."""

import re

import course
import pytest

from quantlab_helpers import lm
from quantlab_helpers.explorers import deployment

NOTEBOOK = "11_deploy"


@pytest.fixture(scope="module")
def explorer():
    return deployment()


def test_shows_the_candidates_and_the_choice(explorer):
    for floor in (0.01, 0.15):
        result = explorer.compute(**{**explorer.at_start(), "model": "SmolLM2-1.7B", "floor": floor})
        shape, pi = lm.KNOWN_SHAPES["SmolLM2-1.7B"], lm.DEVICES["Raspberry Pi 5"]
        assert result.candidates == lm.candidates(shape, pi, tokens=2048)
        assert result.chosen == lm.recommend(result.candidates, floor=floor)


def test_the_context_is_at_most_that_of_the_model(explorer):
    result = explorer.compute(**{**explorer.at_start(), "model": "TinyLlama-1.1B", "tokens": 131072})
    assert result.tokens == 2048
    assert result.candidates == lm.candidates(
        lm.KNOWN_SHAPES["TinyLlama-1.1B"], lm.DEVICES["Raspberry Pi 5"], tokens=2048
    )


def test_the_sentence_says_the_numbers(explorer):
    where = {**explorer.at_start(), "model": "SmolLM2-1.7B"}
    size = lm.footprint(lm.KNOWN_SHAPES["SmolLM2-1.7B"], "AWQ", tokens=2048)
    sentence = explorer.sentence(**where)
    for words in (
        "take AWQ",
        f"Codes {size.codes / 1e6:.0f} MB",
        f"scales and zero points {(size.scales + size.zero_points) / 1e6:.0f} MB",
        f"embedding and head {size.embedding / 1e6:.0f} MB",
        f"KV cache {size.kv_cache / 1e6:.0f} MB",
        f"{size.total / 1e9:.2f} GB of 3.00 GB",
        f"At most {10.2e9 / size.read:.1f} tokens/s",
    ):
        assert words in sentence, words


def test_what_would_change_the_choice_does(explorer):
    """Each change that the sentence tells of is tried."""
    readers = {
        r"KL at most (\S+) \((\w+)": ("floor", float),
        r"users: (\d+) \((\w+)": ("users", int),
        r"context of ([\d,]+) tokens \((\w+)": ("tokens", lambda text: int(text.replace(",", ""))),
        r"cache in (\w+) \((\w+)": ("cache_format", str),
    }
    told = 0
    for position in list(explorer.positions())[::7]:
        result = explorer.compute(**position)
        for change in result.changes:
            for pattern, (control, read) in readers.items():
                if found := re.match(f".*{pattern}", change):
                    then = explorer.compute(**{**position, control: read(found[1])}).chosen
                    assert (then.name if then else "nothing").split()[0] == found[2]
                    assert then is None or result.chosen is None or then.name != result.chosen.name
                    told += 1
    assert told > 300


def test_what_is_missing_is_named(explorer):
    start = {"model": "SmolLM2-1.7B"}
    assert "what is good enough is too large" in explorer.sentence(**start, floor=0.001)
    assert "nothing fits. Even NF4 dq takes 7.58 GB, of which 6.44 GB are KV cache" in explorer.sentence(
        **start, users=4, tokens=8192
    )


def test_bars_are_as_long_as_the_bytes(explorer):
    where = {**explorer.at_start(), "model": "SmolLM2-1.7B"}
    frame, result = explorer.frame(**where), explorer.compute(**where)
    bars = re.findall(r'd="M([\d.]+) ([\d.]+)V[\d.]+H([\d.]+)V', frame)
    ends: dict = {}
    for left, height, right in bars:
        start, end = ends.get(height, (float(left), 0.0))
        ends[height] = (min(start, float(left)), max(end, float(right)))
    lengths = [end - start for start, end in ends.values()]
    totals = [candidate.footprint.total for candidate in result.candidates]
    assert len(lengths) == len(totals)
    for length, total in zip(lengths, totals, strict=True):
        assert length / lengths[0] == pytest.approx(total / totals[0], abs=0.01)


def test_a_device_and_a_model_of_the_learners_own():
    mine = lm.Device("mine", 2e9, 1e9, None, 5e9, "measured")
    shape = lm.ModelShape.of(lm.load("tinytales"))
    explorer = deployment({"mine": mine}, {"TinyTales": shape})
    assert "TinyTales on mine" in explorer.sentence()
    assert all("nan" not in explorer.frame(**position) for position in explorer.positions())


def test_what_the_notebook_says_to_notice(explorer):
    (noticed,) = [c.source for c in course.read(NOTEBOOK).cells if "What to notice.**\n- **Context.**" in c.source]

    def at(**position):
        return explorer.compute(**{**explorer.at_start(), **position})

    def speed(result, name):
        return next(c.tokens_per_second for c in result.candidates if c.name == name)

    assert (at().model, at().device.name) == ("Llama-3.2-1B", "Raspberry Pi 5")
    assert [at(tokens=t).chosen.name for t in (512, 2048, 8192, 32768)] == ["AWQ"] * 3 + ["INT8"]
    long = at(tokens=32768)
    assert f"{long.chosen.footprint.kv_cache / 1e9:.2f} GB" == "1.07 GB" and "1.07 GB" in noticed
    assert 1 < speed(long, "AWQ") / speed(long, "INT8") < 1.2
    assert at(tokens=131072).chosen is None and at(tokens=131072, cache_format="int8").chosen is None
    back = at(tokens=32768, cache_format="int8").chosen
    assert back.name == "AWQ" and f"{back.tokens_per_second:.1f} tokens/s" in noticed
    users = [at(device="laptop", floor=0.01, users=n).chosen.name for n in (1, 4, 16, 64)]
    assert users == ["INT8"] * 3 + ["FP16"]
    many = at(device="laptop", floor=0.01, users=64).chosen.footprint
    assert f"({many.kv_cache / 1e9:.2f} GB) outweigh even FP16's weights ({many.weights / 1e9:.2f} GB)" in noticed
    assert at(device="laptop", floor=0.01, users=64, cache_format="int8").chosen.name == "INT8"
    size = at().chosen.footprint
    assert size.embedding == pytest.approx(size.weights / 2, rel=0.05)
    assert f"{size.workspace / 1e6:.0f} MB" in noticed
    assert f"{lm.KNOWN_SHAPES['Llama-3.2-1B'].config.vocab_size:,} words" in noticed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"devices": {}}, "devices must be a dict of at least one name with its Device"),
        ({"devices": lm.DEVICES["phone"]}, "devices must be"),
        ({"models": {"mine": lm.load("tinytales")}}, "models must be a dict of at least one name with its ModelShape"),
    ],
)
def test_refuses_what_is_no_device_or_shape(arguments, told):
    with pytest.raises(TypeError, match=told):
        deployment(**arguments)
