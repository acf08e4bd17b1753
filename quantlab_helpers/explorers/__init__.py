"""The slider panels of the course: `ql.explorers.buckets(weights)` as the last line of a cell shows one."""

from .awq import awq
from .base import Control, Explorer
from .buckets import buckets
from .deployment import deployment
from .formats import formats
from .gptq_columns import gptq_columns
from .gptq_settings import gptq_settings
from .granularity import granularity
from .language_model import language_model
from .layer_output import layer_output
from .number_line import number_line
from .outliers import outliers
from .roofline import roofline
from .smoothquant import smoothquant
from .storage import storage

__all__ = [
    "Control",
    "Explorer",
    "awq",
    "buckets",
    "deployment",
    "formats",
    "gptq_columns",
    "gptq_settings",
    "granularity",
    "language_model",
    "layer_output",
    "number_line",
    "outliers",
    "roofline",
    "smoothquant",
    "storage",
]
