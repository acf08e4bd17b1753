"""The package as a whole: a light import, every public name, and examples that do what they say."""

import doctest
import importlib
import subprocess
import sys

import pytest

import quantlab_helpers as ql

HEAVY = ["matplotlib", "ipywidgets", "IPython", "gguf", "numba", "safetensors", "tokenizers", "tqdm", "ml_dtypes"]
WITH_EXAMPLES = [
    *("affine", "kernel_linear", "kernels", "linear", "metrics", "number_formats", "packed", "packing", "predictions"),
    *("summary_page", "tables", "tensors", "lm.deployment", "lm.footprint", "lm.shapes"),
    *("methods.awq", "methods.gptq", "methods.gguf_blocks", "methods.llm_int8", "methods.nf4", "methods.smoothquant"),
]


def test_import_is_light():
    program = f"import sys, quantlab_helpers; print(*(name for name in {HEAVY} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


@pytest.mark.parametrize("name", ql.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(ql, name) is not None
    assert name in dir(ql)
    if callable(getattr(ql, name)):
        assert getattr(ql, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'quantlab_helpers' has no attribute 'quantise'"):
        _ = ql.quantise


def test_a_missing_package_is_named_with_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # as if it were not installed
    for module in [m for m in sys.modules if m.startswith("quantlab_helpers.explorers")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(vars(ql), "explorers", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"QuantLab needs ipywidgets.* -m pip install -r requirements.txt"):
        _ = ql.explorers


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings(module):
    failures, attempted = doctest.testmod(importlib.import_module(f"quantlab_helpers.{module}"))
    assert attempted > 0
    assert failures == 0
