"""What notebook 11 says in words is what its cells show."""

import re

import course

NOTEBOOK = "11_deploy"


def _cells():
    return course.read(NOTEBOOK).cells


def _table(header):
    """The rows of the stored table under the line that begins like this, each as a list of its texts."""
    for cell in _cells():
        lines = course.text_of(cell).splitlines()
        for i, line in enumerate(lines):
            if line.startswith(header):
                return [re.split(r"\s{2,}", row.strip()) for row in lines[i + 2 :] if row.strip()]
    raise AssertionError(f"no table begins with {header!r}")


def _prose_with(words):
    (found,) = [c.source for c in _cells() if c.cell_type == "markdown" and words in c.source]
    return found


def test_memory_and_speed_are_the_limits_that_the_text_names():
    rows = {(name, users): texts for name, users, *texts in _table("weights  users  at 1 token/s")}
    for (name, _), (at_one, at_three, _) in rows.items():
        assert at_one == at_three and (at_one == "0") == (name == "FP16")
    prose = _prose_with("memory is the limit")
    assert f"{rows['INT8', '1'][2]} tokens left with INT8, and {rows['INT4', '1'][2]} with 4 bits" in prose


def test_of_16_users_weights_are_less_than_a_fifth():
    rows = {(name, users): texts for name, users, *texts in _table("weights  users  GB in all")}
    total = float(rows["INT4", "16"][0])
    (weights,) = [float(row[-1]) for row in _table("GB    codes") if row[0] == "INT4"]
    assert weights < total / 5
    assert float(rows["INT4", "16"][3]) > 3 * float(rows["INT4", "1"][3])


def test_calculated_and_held_bytes_are_equal():
    rows = _table("bytes       codes")
    assert len(rows) == 7
    assert all(calculated == held for *_, calculated, held in rows)


def test_what_becomes_of_a_method_in_a_file():
    rows = {}
    for label, size, held, file in _table("TinyTales, 4 bits"):
        rows[label] = (float(size), float(held), *map(float, file.split(" ± ")))
    rounded = rows["rounded, written as Q4_1"]
    kept, again, ruined = (rows[f"GPTQ, written as {type}"] for type in ("Q8_0", "Q4_1", "Q4_0"))
    assert rounded[1] == rounded[2]
    assert kept[2] <= 1.05 * kept[1] and 1.4 < kept[0] / again[0] < 1.6
    assert again[0] == rounded[0]
    assert kept[2] + kept[3] < again[2] and again[2] + 2 * (again[3] + rounded[3]) < rounded[2]
    assert ruined[2] > rounded[2]
    awq = rows["AWQ, written as Q4_1"]
    assert abs(awq[2] - awq[1]) < awq[3] and abs(awq[2] - rounded[2]) < awq[3] + rounded[3]


def test_prediction_and_shares_of_the_caches():
    rows = {name: texts for name, *texts in _table("                heads : of keys")}
    assert float(rows["SmolLM2-1.7B"][3]) > float(rows["SmolLM2-1.7B"][4])
    assert 5.5 < float(rows["SmolLM2-1.7B"][1]) / float(rows["Llama-3.2-1B"][1]) < 6.5
