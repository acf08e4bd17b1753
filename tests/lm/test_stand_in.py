"""The model to measure speed on is SmolLM2 where it is there, and one of its size where it is not."""

from quantlab_helpers.lm import KNOWN_SHAPES, load, stand_in


def test_the_stand_in_has_the_size_and_writes_words(monkeypatch):
    monkeypatch.setattr(stand_in, "is_available", lambda name: False)
    model = stand_in.smollm2_or_stand_in()
    shape = KNOWN_SHAPES["SmolLM2-135M"]
    assert model.config == shape.config and model.num_parameters == shape.num_parameters
    text = model.generate("Once there was a girl.", 3)
    assert text.replace(" ", "").isalpha()
    every = [model.decode([token]) for token in range(model.config.vocab_size)]
    assert all(word.strip().isalpha() for word in every)
    assert not model.tokenizer.stop_tokens
    assert model.encode("Tom had a red ball") == load("tinytales").encode("Tom had a red ball")


def test_the_real_one_where_it_is_there(monkeypatch):
    monkeypatch.setattr(stand_in, "is_available", lambda name: True)
    monkeypatch.setattr(stand_in, "load", lambda name: name)
    assert stand_in.smollm2_or_stand_in() == "smollm2-135m"
