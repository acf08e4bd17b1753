"""The texts that ship with the course: clean, apart from each other, and in the form that the model was trained on."""

import json
import re
import unicodedata

import pytest

from quantlab_helpers.lm import texts
from quantlab_helpers.lm.texts import (
    END_OF_TALE,
    Question,
    Tale,
    calibration_text,
    evaluation_text,
    heldout_tales,
    joined,
)

PROSE = {"evaluation": evaluation_text, "calibration": calibration_text}
RED, ANN = Question("colour", "what colour is the hat?", "red"), Question("who", "who has the hat?", "Ann")
TALE = Tale("Ann had a red hat. The end.", (RED, ANN))


def sentences(text):
    """Sentences as lists of words, headings among them."""
    return [
        re.findall(r"\w+", sentence.lower()) for sentence in re.split(r"[.!?:;]\W|\n\s*\n", text) if sentence.strip()
    ]


def runs_of_words(text, length):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


@pytest.mark.parametrize("name", PROSE)
def test_prose_is_clean(name):
    text = PROSE[name]()
    assert text == text.strip() + "\n" == unicodedata.normalize("NFC", text)
    assert "\ufffd" not in text
    assert {c for c in text if not c.isprintable()} == {"\n"}
    for slip in (r"  ", r" \n", r"\n{4}", r" [,.;:!?]", r"(?<!\.)\.\.(?!\.)", r"TODO|FIXME|XXX", r"[<>{}|\\]"):
        assert not re.search(slip, text), slip


@pytest.mark.parametrize("name", PROSE)
def test_no_sentence_comes_twice(name):
    long = [tuple(words) for words in sentences(PROSE[name]()) if len(words) > 4]
    assert len(long) == len(set(long)) > 50


def test_evaluation_and_calibration_share_nothing():
    # Eight words in a row are never the same by chance.
    assert not runs_of_words(evaluation_text(), 8) & runs_of_words(calibration_text(), 8)
    short = [{" ".join(words) for words in sentences(text())} for text in PROSE.values()]
    assert not short[0] & short[1]


def test_the_evaluation_text_is_five_essays():
    paragraphs = evaluation_text().strip().split("\n\n")
    headings = [p for p in paragraphs if not p.rstrip('"').endswith((".", "!", "?"))]
    assert len(headings) == 5
    assert paragraphs[0] == headings[0]
    assert all(len(heading.split()) < 10 for heading in headings)


def test_a_tale_is_read_with_its_questions_and_answers():
    assert RED.asked == "\nQuestion: what colour is the hat? Answer:"
    assert TALE.text == (
        "Ann had a red hat. The end.\n"
        "Question: what colour is the hat? Answer: red.\n"
        "Question: who has the hat? Answer: Ann."
    )
    assert Tale("The end.", ()).text == "The end."


def test_tales_are_lines_between_special_tokens():
    assert END_OF_TALE == "<|endoftext|>"
    other = Tale("It rained.", ())
    assert joined([TALE]) == f"{TALE.text}\n"
    assert joined(iter([TALE, other])) == f"{TALE.text}\n<|endoftext|>It rained.\n"
    assert joined([]) == ""


def test_tales_are_read_from_their_file(tmp_path, monkeypatch):
    (tmp_path / "tinytales").mkdir()
    question = {"kind": "who", "question": "who is Zoë?", "answer": "she"}
    stored = [{"story": "Zoë sang.", "questions": [question]}, {"story": "The end.", "questions": []}]
    content = json.dumps(stored, ensure_ascii=False).encode()
    (tmp_path / "tinytales" / "heldout.json").write_bytes(content)
    monkeypatch.setattr(texts, "DATA", tmp_path)
    assert heldout_tales() == [Tale("Zoë sang.", (Question(**question),)), Tale("The end.", ())]


@pytest.fixture(scope="module")
def heldout():
    return heldout_tales()


def test_heldout_tales_are_all_different(heldout):
    assert len({tale.story for tale in heldout}) == len(heldout) >= 20
    assert heldout == heldout_tales()


def test_answers_are_one_word_that_the_story_holds(heldout):
    for tale in heldout:
        assert tale.questions
        for question in tale.questions:
            assert re.fullmatch(r"[A-Za-z]+", question.answer), question
            assert question.answer in re.findall(r"\w+", tale.story), (question, tale.story)


def test_no_question_is_asked_twice_of_a_tale(heldout):
    for tale in heldout:
        asked = [question.question for question in tale.questions]
        assert len(asked) == len(set(asked))
        assert all(question.endswith("?") for question in asked)


def test_answers_of_a_kind_differ(heldout):
    """Otherwise a model that always gives the same answer would seem to understand."""
    kinds = {question.kind for tale in heldout for question in tale.questions}
    assert len(kinds) > 1
    for kind in kinds:
        answers = [q.answer for tale in heldout for q in tale.questions if q.kind == kind]
        assert max(map(answers.count, answers)) <= len(answers) / 2, kind


def test_tales_are_clean(heldout):
    for tale in heldout:
        assert tale.text.isascii()
        assert END_OF_TALE not in tale.text
        assert "\n" not in tale.story
        assert "  " not in tale.text
        assert tale.story[0].isupper()
        assert tale.story[-1] in '.!?"'
