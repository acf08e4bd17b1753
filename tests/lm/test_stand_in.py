"""The model to measure speed on is SmolLM2 where it is there, and one of its size where it is not."""

from quantlab_helpers.lm import KNOWN_SHAPES, stand_in


def test_the_stand_in_has_the_size_and_writes_words(monkeypatch):
    monkeypatch.setattr(stand_in, "is_available", lambda name: False)
    model = stand_in.smollm2_or_stand_in()
    shape = KNOWN_SHAPES["SmolLM2-135M"]
    assert model.config == shape.config and model.num_parameters == shape.num_parameters
    assert all(word.isalpha() for word in model.generate("Ten facts about the Moon:\n1.", 3).split())
    every = {model.decode([token]) for token in range(model.config.vocab_size)}
    assert len(every) > 100 and all(word[0] == " " and word[1:].isalpha() for word in every)
    assert len(set(model.decode([5] * 50).split())) > 10  # though one token is repeated
    assert not model.tokenizer.stop_tokens


def test_the_real_one_where_it_is_there(monkeypatch):
    monkeypatch.setattr(stand_in, "is_available", lambda name: True)
    monkeypatch.setattr(stand_in, "load", lambda name: name)
    assert stand_in.smollm2_or_stand_in() == "smollm2-135m"
