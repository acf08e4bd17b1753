"""The colours and the few words that every picture of the course shares.

The colours are those of Okabe and Ito, "Color Universal Design" (2008), chosen to stay apart for colour-blind
readers; two are darker here, so that words in them can be read on white. Always pair a colour with a label, a marker
or a line style: a colour alone says nothing in print.
"""

INK = "#1f2430"  # text, axes
FAINT = "#d9dde4"  # grid lines
PAPER = "#ffffff"
ORIGINAL = "#6b7280"  # float32 values, before quantization
QUANTIZED = "#0072b2"  # values after quantization (blue)
ERROR = "#c05400"  # what was lost (a darker vermillion)
GOOD = "#007a5a"  # (a darker bluish green)
HIGHLIGHT = "#e69f00"  # the thing to look at (orange)
SERIES = (QUANTIZED, ERROR, GOOD, "#cc79a7", HIGHLIGHT, "#56b4e9", INK)  # several lines in one picture
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def percent(fraction: float) -> str:
    """A fraction as text: 0.749 is '74.9 %'."""
    return f"{100 * fraction:.1f} %"


def decibels(value: float) -> str:
    """A level in dB as text; infinity is 'exact', because nothing was lost."""
    return "exact" if value == float("inf") else f"{value:.1f} dB"
