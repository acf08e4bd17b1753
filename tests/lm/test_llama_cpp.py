"""llama.cpp opens what `export_gguf` writes, and goes on with the same words as our model."""

import pytest
import xllamacpp

from quantlab_helpers import lm
from quantlab_helpers.lm.export import EXPORT_TYPES

PROMPTS = {"tinytales": "Once there was a girl named Rosa.", "smollm2-135m": "The cook looked at the empty shelf and"}
TOKENS = 32


def completion(path, prompt):
    """What llama.cpp answers, always the likeliest token, with its cache in float32, as ours."""
    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.warmup = 256, 1, False
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1  # the tests beside this one take the others
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    question = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "repeat_penalty": 1.0}
    return xllamacpp.Server(settings).handle_completions(question)


@pytest.fixture(params=PROMPTS)
def model(request):
    if request.param == "smollm2-135m":
        return request.getfixturevalue("smollm2")
    return lm.load(request.param)


def test_in_float32_it_writes_the_same_text(tmp_path, model):
    prompt = PROMPTS["tinytales" if model.name.startswith("Tiny") else "smollm2-135m"]
    answer = completion(lm.export_gguf(model, tmp_path / "m.gguf"), prompt)
    assert answer["usage"]["completion_tokens"] == TOKENS
    assert answer["usage"]["prompt_tokens"] == len(model.tokenizer.encode_prompt(prompt))
    assert answer["choices"][0]["text"] == model.generate(prompt, max_tokens=TOKENS)


@pytest.mark.parametrize("type", EXPORT_TYPES)
def test_it_opens_every_type(tmp_path, type):
    """It rounds activations, too, so that its words may differ from ours where two are nearly as likely."""
    model, prompt = lm.load("tinytales"), PROMPTS["tinytales"]
    answer = completion(lm.export_gguf(model, tmp_path / "m.gguf", type), prompt)
    assert answer["usage"]["completion_tokens"] == TOKENS
