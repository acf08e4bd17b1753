"""The slider panels of the course: `ql.explorers.buckets(weights)` as the last line of a cell shows one."""

from .base import Control, Explorer
from .buckets import buckets
from .number_line import number_line

__all__ = ["Control", "Explorer", "buckets", "number_line"]
