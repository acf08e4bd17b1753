"""Tokens as llama.cpp gives them, for every kind of word boundary; text that comes back to the letter; refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_llama
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from quantlab_helpers.lm import Tokenizer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokens.json").read_text(encoding="utf-8"))
PRE = ("smollm", "gpt-2", "llama-bpe", "qwen2")
END, START, STOP = (len(GOLDEN["words"]) - i for i in (3, 2, 1))  # <|endoftext|>, <|im_start|>, <|im_end|>


def metadata(pre="smollm", **changes):
    """What a GGUF file says of a tokenizer with all bytes and 300 merges; a change to None leaves a field out."""
    fields = {
        "model": "gpt2",
        "pre": pre,
        "tokens": GOLDEN["words"],
        "token_type": np.array([1] * (len(GOLDEN["words"]) - 3) + [3] * 3, np.int32),
        "merges": GOLDEN["merges"],
        "bos_token_id": START,
        "eos_token_id": END,
        **changes,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in fields.items() if value is not None}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_gguf(metadata())


# Against llama.cpp


@pytest.mark.parametrize("pre", PRE)
def test_every_kind_of_word_boundary(pre):
    tokenizer = Tokenizer.from_gguf(metadata(pre))
    for text, tokens in zip(GOLDEN["texts"], GOLDEN[pre], strict=True):
        assert tokenizer.encode(text) == tokens, text
        assert tokenizer.decode(tokens) == text


def test_the_golden_texts_tell_the_kinds_apart():
    for one in PRE:
        for other in PRE:
            assert one == other or GOLDEN[one] != GOLDEN[other]


def test_smollm2(smollm2):
    assert smollm2.tokenizer.vocab_size == 49152
    for text, tokens in zip(GOLDEN["texts"], GOLDEN["smollm2"], strict=True):
        assert smollm2.encode(text) == tokens, text
        assert smollm2.decode(tokens) == text


def test_smollm2_starts_with_no_token_and_ends_with_two(smollm2):
    assert smollm2.tokenizer.bos is None
    assert smollm2.tokenizer.stop_tokens == {0, 2}
    assert smollm2.decode([0, 2]) == "<|endoftext|><|im_end|>"
    assert smollm2.tokenizer.encode_prompt("Hello") == smollm2.encode("Hello")


@pytest.mark.parametrize("lost", ["\x04", "\x06", "\x13", "\x14", "\x16", "\x1d", "\U00040000", "\U000bffff"])
def test_smollm2_has_no_token_for_some_bytes(smollm2, lost):
    """Their letters are in no word of its vocabulary; the tokenizers library would drop them without a trace."""
    assert smollm2.tokenizer._tokenizer.encode("a" + lost).tokens[0] == "a"
    assert smollm2.tokenizer._tokenizer.decode(smollm2.tokenizer._tokenizer.encode("a" + lost).ids) != "a" + lost
    with pytest.raises(ValueError, match="must be within the vocabulary, which has no token for ") as caught:
        smollm2.encode("a" + lost + "b")
    assert repr(lost) in str(caught.value)


# There and back


@pytest.mark.parametrize("pre", PRE)
@given(text=st.text(alphabet=st.characters(codec="utf-8")))
def test_decoding_gives_back_any_text(pre, text):
    tokenizer = Tokenizer.from_gguf(metadata(pre))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(parts=st.lists(st.sampled_from([*"<|>_ \n1a", "im_start", "im_end", "endoftext", "<|", "|>"])))
def test_what_looks_like_special_tokens_comes_back_too(tokenizer, parts):
    text = "".join(parts)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_are_recognized_and_kept(tokenizer):
    assert tokenizer.encode("<|im_start|><|im_end|><|endoftext|>") == [START, STOP, END]
    assert START not in tokenizer.encode("<|im_start |>")


def test_part_of_a_character_is_a_replacement_character(tokenizer):
    tokens = tokenizer.encode("🎉")
    assert len(tokens) > 1
    assert tokenizer.decode(tokens[:1]) == "\ufffd"
    assert tokenizer.decode(np.array(tokens)) == "🎉"


def test_user_defined_tokens_are_found_in_text():
    types = np.array([1] * (len(GOLDEN["words"]) - 3) + [4, 1, 3])
    tokenizer = Tokenizer.from_gguf(metadata(token_type=types))
    assert tokenizer.encode("<|endoftext|>") == [END]
    assert START not in tokenizer.encode("<|im_start|>")  # a normal word, which no merge makes


# Start and stop tokens


def test_the_start_token_comes_first_where_the_model_wants_one():
    tokenizer = Tokenizer.from_gguf(metadata(add_bos_token=True))
    assert tokenizer.bos == START
    assert tokenizer.encode_prompt("A") == [START, *tokenizer.encode("A")]
    assert tokenizer.encode_prompt("<|im_start|>A") == [START, *tokenizer.encode("A")]  # once is enough
    assert tokenizer.encode_prompt("") == [START]
    assert tokenizer.encode("") == []


def test_llama_3_wants_its_start_token_unless_the_file_says_otherwise():
    assert Tokenizer.from_gguf(metadata("llama-bpe")).bos == START
    assert Tokenizer.from_gguf(metadata("llama-bpe", add_bos_token=False)).bos is None


def test_an_empty_prompt_needs_a_start_token(tokenizer):
    with pytest.raises(ValueError, match="the prompt must not be empty"):
        tokenizer.encode_prompt("")


def test_stop_tokens_are_those_named_and_those_known():
    assert Tokenizer.from_gguf(metadata()).stop_tokens == {END, STOP}
    assert Tokenizer.from_gguf(metadata(eos_token_id=5, eot_token_id=6, eom_token_id=None)).stop_tokens == {
        5,
        6,
        END,
        STOP,
    }
    none_special = metadata(token_type=np.ones(len(GOLDEN["words"]), np.int32), eos_token_id=None)
    assert Tokenizer.from_gguf(none_special).stop_tokens == set()


# tokenizer.json


def write(folder, **files):
    """Write tokenizer.json and, from a dict each, other files beside it."""
    (folder / "tokenizer.json").write_text(files.pop("tokenizer", tiny_llama.tokenizer_json()), encoding="utf-8")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return Tokenizer.from_json(folder / "tokenizer.json")


def test_a_json_file_gives_the_same_tokens_as_gguf(tmp_path, tokenizer):
    tokenizer._tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.from_json(tmp_path / "tokenizer.json")
    assert loaded.vocab_size == tokenizer.vocab_size == len(GOLDEN["words"])
    assert [loaded.encode(text) for text in GOLDEN["texts"]] == GOLDEN["smollm"]


def test_truncation_and_padding_in_the_file_are_left_out(tmp_path):
    library = tokenizers.Tokenizer.from_str(tiny_llama.tokenizer_json())
    library.enable_truncation(3)
    library.enable_padding(length=8)
    assert len(write(tmp_path, tokenizer=library.to_str()).encode("ABCDEFG")) == 6


@pytest.mark.parametrize(
    "files, bos, stop_tokens",
    [
        ({}, None, {0, 2}),
        ({"config": {"bos_token_id": 1, "eos_token_id": 7}}, None, {0, 2, 7}),
        ({"config": {"bos_token_id": 1}, "tokenizer_config": {"add_bos_token": True}}, 1, {0, 2}),
        ({"tokenizer_config": {"bos_token": "<|im_start|>", "add_bos_token": True}}, 1, {0, 2}),
        ({"tokenizer_config": {"bos_token": {"content": "<|im_start|>"}, "add_bos_token": True}}, 1, {0, 2}),
        ({"tokenizer_config": {"eos_token": "Z"}}, None, {0, 2, tiny_llama.WORDS.index("Z")}),
        ({"generation_config": {"eos_token_id": [8, 9]}, "config": {"eos_token_id": None}}, None, {0, 2, 8, 9}),
    ],
)
def test_start_and_stop_tokens_come_from_the_files_beside_it(tmp_path, files, bos, stop_tokens):
    tokenizer = write(tmp_path, **files)
    assert tokenizer.bos == bos
    assert tokenizer.stop_tokens == stop_tokens


@pytest.mark.parametrize("says_no", [False, True])
def test_a_template_that_adds_the_start_token_is_a_wish_for_it(tmp_path, says_no):
    library = tokenizers.Tokenizer.from_str(tiny_llama.tokenizer_json())
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    settings = {"bos_token": "<|im_start|>"} | ({"add_bos_token": False} if says_no else {})
    tokenizer = write(tmp_path, tokenizer=library.to_str(), tokenizer_config=settings)
    assert tokenizer.bos == (None if says_no else 1)
    assert tokenizer.encode("C") == [tiny_llama.WORDS.index("C")]


# Refusals


@pytest.mark.parametrize("text", [3, None, b"abc", ["a"]])
def test_text_must_be_a_string(tokenizer, text):
    with pytest.raises(TypeError, match="text must be a string"):
        tokenizer.encode(text)


def test_half_of_a_surrogate_pair(tokenizer):
    with pytest.raises(ValueError, match="text must be valid Unicode"):
        tokenizer.encode("a\ud800")


@pytest.mark.parametrize("token, error", [(-1, ValueError), (len(GOLDEN["words"]), ValueError), (1.5, TypeError)])
def test_tokens_must_be_of_the_vocabulary(tokenizer, token, error):
    with pytest.raises(error, match="each token must be "):
        tokenizer.decode([0, token])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": "llama"}, "must be 'gpt2' .* 'llama' is SentencePiece.*, not 'llama'"),
        ({"model": None}, "must be 'gpt2' .*, not None"),
        ({"pre": "deepseek-coder"}, "pre must be one of 'smollm', 'gpt-2', 'llama-bpe', 'qwen2', not 'deepseek-coder'"),
        ({"pre": None}, "pre must be one of .*, not None"),
        ({"tokens": None}, "tokens must be a list, not None"),
        ({"tokens": "abc"}, "tokens must be a list, not 'abc'"),
        ({"tokens": [*GOLDEN["words"][:-1], "a"]}, "of 559 words 558 are different"),
        ({"token_type": [1, 1]}, "2 have a type"),
        ({"merges": None}, "merges must be a list, not None"),
        ({"merges": ["Ġ unheard-of"]}, "merges must be pairs of words in tokenizer.ggml.tokens: .*unheard-of"),
        ({"merges": ["Ġ"]}, "merges must be pairs of words"),
        ({"eos_token_id": 559}, "a stop token must be from 0 to 558, not 559"),
        ({"bos_token_id": 559, "add_bos_token": True}, "the start token must be from 0 to 558, not 559"),
    ],
)
def test_metadata_that_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_gguf(metadata(**changes))


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"model": 3}', "\x00\x01"])
def test_a_json_file_of_another_kind_is_refused_by_name(tmp_path, content):
    with pytest.raises(ValueError, match=r"tokenizer\.json must be a tokenizer of the tokenizers library"):
        write(tmp_path, tokenizer=content)


def test_settings_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer\.json does not fit .* a stop token must be from 0 to 63, not 64"):
        write(tmp_path, config={"eos_token_id": 64})
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"config\.json must be a JSON object, not list"):
        Tokenizer.from_json(tmp_path / "tokenizer.json")
    (tmp_path / "config.json").write_text('{"a":')
    with pytest.raises(ValueError, match=r"config\.json must be JSON"):
        Tokenizer.from_json(tmp_path / "tokenizer.json")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Tokenizer.from_json(tmp_path / "tokenizer.json")


# Chats


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, None),
        ({"tokenizer_config.json": '{"chat_template": "mine"}'}, "mine"),
        ({"chat_template.jinja": "a file é", "tokenizer_config.json": '{"chat_template": "mine"}'}, "a file é"),
        (
            {
                "tokenizer_config.json": '{"chat_template": [{"name": "tool_use", "template": "t"}, '
                '{"name": "default", "template": "d"}]}'
            },
            "d",
        ),
    ],
)
def test_the_template_of_chats_is_kept(tmp_path, files, template):
    write(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert Tokenizer.from_json(tmp_path / "tokenizer.json").chat_template == template


def test_the_end_that_files_name_comes_first():
    tokenizer = Tokenizer.from_gguf(metadata(eos_token_id=6, eot_token_id=5))
    assert tokenizer.eos == 6
    assert {5, 6} <= tokenizer.stop_tokens
