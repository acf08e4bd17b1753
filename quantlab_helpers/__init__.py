"""QuantLab: an interactive course on neural-network quantization.

    import quantlab_helpers as ql

Each public name is imported from its module when it is first used, so that the import itself stays fast.
"""

import importlib
import sys

# public name -> the module that defines it
_HOME = {
    name: module
    for module, names in {
        "affine": "quantize_per_tensor choose_qparams quantize dequantize fake_quantize QuantizedTensor",
        "packing": "pack unpack",
        "metrics": "mean_abs_error max_abs_error sqnr_db cosine_similarity",
        "number_formats": "FORMATS cast scaled_cast representable_values format_table",
        "linear": "linear_forward int8_matmul QuantizedLinear",
        "kernel_linear": "KernelLinear",
        "methods.gptq": "gptq",
        "methods.awq": "awq",
        "methods.smoothquant": "smoothquant_scales",
        "methods.llm_int8": "llm_int8_matmul",
        "methods.nf4": "nf4_quantize",
        "tensors": "load_tensor sample_tensors layer_inputs",
        "tables": "Table",
        "predictions": "predict",
        "racing": "race",
        "compiling": "compiled_or",
        "exercises": "exercise hint show_solution grade",
        "summary_page": "summary_page",
        "record": "progress export_progress",
        "setup_check": "check_setup",
    }.items()
    for name in names.split()
}
_MODULES = ("capstone", "explorers", "kernels", "lm", "plots", "timing")

__all__ = [*_HOME, *_MODULES]


def __getattr__(name):
    if name in _HOME:
        value = getattr(_load(_HOME[name]), name)
    elif name in _MODULES:
        value = _load(name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _load(module):
    try:
        return importlib.import_module(f".{module}", __name__)
    except ModuleNotFoundError as error:
        fix = f"In the course's folder, run: {sys.executable} -m pip install -r requirements.txt"
        raise ModuleNotFoundError(f"QuantLab needs {error.name}. {fix}", name=error.name) from error


def __dir__():
    return sorted({*globals(), *__all__})
