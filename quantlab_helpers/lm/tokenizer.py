"""Text to tokens and back, with the `tokenizers` library.

    tokenizer = Tokenizer.from_json("model/tokenizer.json")
    tokenizer = Tokenizer.from_gguf(GgufFile("model.gguf").metadata)

A GGUF file holds vocabulary and merges, but of the rest of a tokenizer only a name, `pre`: how text is cut into words
before merging. What each name stands for: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp.
Byte-level byte-pair encoding: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ..validation import one_of, whole_number

# Special tokens with which models end a text or their turn in a chat; files often name only one of a model's two.
_ENDS = frozenset(
    ("<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "</s>")
)
# How Llama 3 cuts words; Qwen 2 does the same but for the digits, which it takes one by one.
_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PRE = ("smollm", "gpt-2", "llama-bpe", "qwen2")
# The types in tokenizer.ggml.token_type; control and user-defined tokens are found in text before it is cut.
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5


class Tokenizer:
    """A tokenizer whose `decode` gives back, to the letter, what `encode` was given (if it is a byte-level one).

    bos            the token with which the model wants every text to begin, or None
    eos            of the stop tokens the one that the model's files name first, or None
    stop_tokens    the tokens with which the model ends a text or its turn
    chat_template  how a conversation is written as one text, in Jinja: kept for those who export the model, or None
    """

    def __init__(
        self, tokenizer, bos: int | None, stop_tokens: Iterable[int], byte_level: bool, chat_template: str | None = None
    ):
        self._tokenizer = tokenizer
        self.chat_template = chat_template
        stop_tokens = list(stop_tokens)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.vocab_size: int = tokenizer.get_vocab_size()
        added = tokenizer.get_added_tokens_decoder()
        ends = {token for token, word in added.items() if word.content in _ENDS}
        self.bos = None if bos is None else whole_number(bos, "the start token", 0, self.vocab_size - 1)
        self.stop_tokens = frozenset(
            ends | {whole_number(token, "a stop token", 0, self.vocab_size - 1) for token in stop_tokens}
        )
        self.eos = int(stop_tokens[0]) if stop_tokens else min(ends, default=None)
        self._unknown = _unknown_bytes(tokenizer) if byte_level else b""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text. Special tokens that are written out in it are recognized; none is added.

        Raises ValueError for a character that the vocabulary has no bytes for: it would be lost without a trace.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, not {text!r}")
        try:
            stored = text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"text must be valid Unicode, without halves of surrogate pairs: {error}") from error
        if stored.translate(None, self._unknown) != stored:
            lost = next(c for c in text if any(byte in self._unknown for byte in c.encode()))
            raise ValueError(f"text must be within the vocabulary, which has no token for {lost!r}")
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_prompt(self, text: str) -> list[int]:
        """Return the tokens of a text for the model to go on from: the start token first, if the model wants one."""
        tokens = self.encode(text)
        if self.bos is not None and tokens[:1] != [self.bos]:
            tokens.insert(0, self.bos)
        if not tokens:
            raise ValueError("the prompt must not be empty: this model has no token to start from")
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens, special ones included. Bytes that are no whole character become U+FFFD."""
        tokens = [whole_number(token, "each token", 0, self.vocab_size - 1) for token in tokens]
        return self._tokenizer.decode(tokens, skip_special_tokens=False)

    @classmethod
    def from_json(cls, path) -> Tokenizer:
        """Read a `tokenizer.json`; start and stop tokens come from the other files of the model beside it.

        Raises FileNotFoundError, and ValueError that names the file for what the tokenizers library cannot read.
        """
        import tokenizers

        path = Path(path)
        content = path.read_bytes()
        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(content)
            byte_level = (json.loads(content)["decoder"] or {}).get("type") == "ByteLevel"
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"{path} must be a tokenizer of the tokenizers library: {error}") from error
        names = ("tokenizer_config.json", "config.json", "generation_config.json")
        settings = [read_json(path.with_name(name)) for name in names if path.with_name(name).exists()]
        bos = next(iter(_special_tokens(tokenizer, settings, "bos")), None)
        wanted = [s["add_bos_token"] for s in settings if s.get("add_bos_token") is not None]
        if not (wanted[0] if wanted else tokenizer.encode("a").ids[:1] == [bos]):
            bos = None
        try:
            stop_tokens, template = _special_tokens(tokenizer, settings, "eos"), _chat_template(path.parent, settings)
            return cls(tokenizer, bos, stop_tokens, byte_level, template)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the tokenizer {path} does not fit the files beside it: {error}") from error

    @classmethod
    def from_gguf(cls, metadata: dict) -> Tokenizer:
        """Build the tokenizer that the metadata of a GGUF file describes, of the kinds smollm, gpt-2, llama-bpe, qwen2.

        Raises ValueError for other kinds (SentencePiece, with which Llama 2 was made, is one), and for a vocabulary
        that does not fit together.
        """
        import tokenizers
        from tokenizers import decoders, models

        model = metadata.get("tokenizer.ggml.model")
        if model != "gpt2":
            raise ValueError(
                "tokenizer.ggml.model must be 'gpt2' (byte-level byte-pair encoding; 'llama' is SentencePiece, which "
                f"is read from the tokenizer.json of a Hugging Face folder only), not {model!r}"
            )
        pre = one_of(metadata.get("tokenizer.ggml.pre"), "tokenizer.ggml.pre", _PRE)
        words = _list(metadata, "tokenizer.ggml.tokens")
        kinds = _list(metadata, "tokenizer.ggml.token_type") if "tokenizer.ggml.token_type" in metadata else []
        vocabulary = {word: token for token, word in enumerate(words)}
        if len(vocabulary) < len(words) or (len(kinds) and len(kinds) != len(words)):
            raise ValueError(
                f"tokenizer.ggml.tokens must be different words with one token_type each, but of {len(words)} words "
                f"{len(vocabulary)} are different and {len(kinds)} have a type"
            )
        merges = [tuple(merge.split(" ", 1)) for merge in _list(metadata, "tokenizer.ggml.merges")]
        try:
            bpe = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre == "llama-bpe")
        except Exception as error:  # the library raises nothing more special
            raise ValueError(
                f"tokenizer.ggml.merges must be pairs of words in tokenizer.ggml.tokens: {error}"
            ) from error
        tokenizer = tokenizers.Tokenizer(bpe)
        tokenizer.pre_tokenizer, tokenizer.decoder = _pre_tokenizer(pre), decoders.ByteLevel()
        tokenizer.add_tokens(
            [
                tokenizers.AddedToken(word, special=kind == _CONTROL, normalized=False)
                for word, kind in zip(words, kinds, strict=False)
                if kind in (_CONTROL, _USER_DEFINED)
            ]
        )
        ids = {kind: metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("bos", "eos", "eot", "eom")}
        wants_bos = metadata.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe")
        stop_tokens = [token for kind, token in ids.items() if kind != "bos" and token is not None]
        bos, template = ids["bos"] if wants_bos else None, metadata.get("tokenizer.chat_template")
        return cls(tokenizer, bos, stop_tokens, byte_level=True, chat_template=template)

    def gguf_metadata(self, vocab_size: int) -> dict:
        """Return what a GGUF file says of this tokenizer, for a model with so many tokens: the inverse of `from_gguf`.

        That is "pre", "tokens", "token_type", "merges" and "add_bos_token". Raises ValueError for a tokenizer that cuts
        text into words in a way that GGUF has no name for here.
        """
        described = json.loads(self._tokenizer.to_str())
        cut = described["pre_tokenizer"]
        pre = next((name for name in _PRE if json.loads(_described(_pre_tokenizer(name))) == cut), None)
        if pre is None or described["model"]["type"] != "BPE":
            raise ValueError(f"the tokenizer must cut text as one of {', '.join(_PRE)} does, not by {cut}")
        words = {token: word for word, token in self._tokenizer.get_vocab().items()}
        special = {word["id"]: _CONTROL if word["special"] else _USER_DEFINED for word in described["added_tokens"]}
        special |= dict.fromkeys(range(len(words), vocab_size), _UNUSED)
        merges = described["model"]["merges"]
        return {
            "pre": pre,
            "tokens": [words.get(token, f"[unused {token}]") for token in range(vocab_size)],
            "token_type": [special.get(token, _NORMAL) for token in range(vocab_size)],
            "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
            "add_bos_token": self.bos is not None,
        }

    def folder_files(self) -> dict[str, dict]:
        """Return the files of this tokenizer in a Hugging Face folder, name -> JSON: what `from_json` reads."""
        from tokenizers import Tokenizer, processors

        tokenizer, wants_bos = Tokenizer.from_str(self._tokenizer.to_str()), self.bos is not None
        words = {
            f"{kind}_token": tokenizer.id_to_token(token)
            for kind, token in (("bos", self.bos), ("eos", self.eos))
            if token is not None
        }
        if wants_bos and tokenizer.post_processor is None:  # as from GGUF; transformers looks nowhere else
            bos = words["bos_token"]
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, self.bos)]
            )
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": wants_bos,
            "clean_up_tokenization_spaces": False,
            **words,
        }
        if self.chat_template is not None:
            settings["chat_template"] = self.chat_template
        ends = [self.eos, *sorted(self.stop_tokens - {self.eos})] if self.stop_tokens else None
        generation = {"bos_token_id": self.bos, "eos_token_id": ends}
        return {
            "tokenizer.json": json.loads(tokenizer.to_str()),
            "tokenizer_config.json": settings,
            "generation_config.json": {key: value for key, value in generation.items() if value is not None},
        }


def _described(pre_tokenizer) -> str:
    """The JSON of a pre-tokenizer, as it stands in a tokenizer.json."""
    return pre_tokenizer.__getstate__().decode()


def read_json(path: Path) -> dict:
    """Return the object in a JSON file; ValueError that names the file for anything else."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object, not {type(content).__name__}")
    return content


def _special_tokens(tokenizer, settings: list[dict], kind: str) -> list[int]:
    """Return the tokens that the files call `kind` ("bos" or "eos"), by number or by word."""
    found = []
    for setting in settings:
        numbers, word = setting.get(f"{kind}_token_id"), setting.get(f"{kind}_token")
        found += numbers if isinstance(numbers, list) else [numbers]
        word = word.get("content") if isinstance(word, dict) else word
        found.append(tokenizer.token_to_id(word) if isinstance(word, str) else None)
    return [token for token in found if token is not None]


def _chat_template(folder: Path, settings: list[dict]) -> str | None:
    """Return the template of a chat: of a file of its own, or in the settings, where it may be the default of several.

    Raises ValueError for one that is no text.
    """
    if (path := folder / "chat_template.jinja").exists():
        return path.read_text(encoding="utf-8")
    template = next((setting["chat_template"] for setting in settings if setting.get("chat_template")), None)
    if isinstance(template, list):
        template = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}.get(
            "default"
        )
    if template is not None and not isinstance(template, str):
        raise ValueError(f"chat_template must be a text, not {template!r}")
    return template


def _list(metadata: dict, key: str):
    if not hasattr(value := metadata.get(key), "__len__") or isinstance(value, str):
        raise ValueError(f"{key} must be a list, not {value!r}")
    return value


def _pre_tokenizer(pre: str):
    """Return what cuts text into words and writes each byte of them as one printable character."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

    if pre == "gpt-2":
        return ByteLevel(add_prefix_space=False)
    if pre == "smollm":
        return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    words = _LLAMA3_WORDS if pre == "llama-bpe" else _LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")
    return Sequence([Split(Regex(words), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def _unknown_bytes(tokenizer) -> bytes:
    """Return the bytes that a byte-level vocabulary has no token for: of SmolLM2's, some control characters."""
    # GPT-2 writes bytes that are printable in Latin-1 as themselves, and the others, in order, from U+0100 on.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}
    return bytes(byte for byte, letter in letters.items() if tokenizer.token_to_id(letter) is None)
