"""The static figures of the notebooks, in one style. Each function draws one figure and returns nothing.

Every figure is drawn from arrays that the notebook computed; no figure computes anything but a histogram.
"""

from __future__ import annotations

import html
import itertools
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.ticker import LogLocator, NullLocator

from . import style

LOOK = {
    "figure.figsize": (7.2, 3.2),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": style.INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": style.FAINT,
    "font.size": 10,
    "legend.frameon": False,
}


@contextmanager
def _drawing(rows=1, columns=1, *, kind="Chart", look=None, **options):
    """Yield the axes of a new figure in the course's look; show it afterwards, with its alt text, and let go of it."""
    with plt.rc_context(LOOK | (look or {})):
        figure, axes = plt.subplots(rows, columns, **options)
        yield axes
        _show(figure, f"{kind}: {_in_words(figure)}")
        plt.close(figure)


# JupyterLab leaves out the alt text that is stored with a picture. This output, which nobody sees, puts it there; and
# where scripts do not run, as in a notebook that was not run yet, a screen reader reads the words below the picture.
_PUT_ALT_TEXT = """
const here = this.closest('.jp-OutputArea-child'), picture = here?.previousElementSibling?.querySelector('img');
if (picture) { picture.alt = this.parentElement.innerText.trim(); here.style.display = 'none'; }
"""


def _show(figure, alt: str) -> None:
    display(figure, metadata={"image/png": {"alt": alt}})
    script = f'<style onload="{html.escape(_PUT_ALT_TEXT.strip())}"></style>'
    words = f'<div class="alt-text" style="height:1px;overflow:hidden">{html.escape(alt)}{script}</div>'
    display({"text/html": words, "text/plain": alt}, metadata={"is_alt_text": True}, raw=True)


def _in_words(figure) -> str:
    """What the figure shows, in the words that are written on it: for readers who cannot see it."""
    return "; ".join(map(_axes_in_words, figure.axes))


def _axes_in_words(axes) -> str:
    against = " against ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel())))
    if axes.get_legend():
        named = axes.get_legend().get_texts()
    else:
        named = axes.get_yticklabels() if axes.axison else axes.texts
    names = [text.get_text() for text in named if any(map(str.isalpha, text.get_text()))]
    return " ".join(": ".join(filter(None, (axes.get_title(), against, ", ".join(names)))).split())


def error_by_value(x, restored, scale: float) -> None:
    """The error of each value against the value, with the bounds of half a step."""
    with _drawing() as axes:
        axes.scatter(np.ravel(x), np.ravel(restored) - np.ravel(x), s=6, color=style.ERROR, label="error of one value")
        for sign, label in ((1, "half a step"), (-1, None)):
            axes.axhline(sign * scale / 2, color=style.INK, linestyle="--", label=label)
        axes.set(xlabel="value", ylabel="restored - value")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)  # above the points, which fill the plot


def curves(x, named_ys: dict, *, x_label: str, y_label: str, log_y=False, markers=True) -> None:
    """One line with its own colour (and marker) for each entry of `named_ys` (label -> values over `x`)."""
    with _drawing() as axes:
        for (label, y), colour, marker in zip(named_ys.items(), style.SERIES, style.MARKERS, strict=False):
            axes.plot(x, y, color=colour, marker=marker if markers else None, markersize=4, label=label)
        if log_y:
            axes.set_yscale("log")
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.legend()


def size_and_perplexity(named_points: dict) -> None:
    """A line for each entry of `named_points` (label -> pairs of kB and perplexity), up to 1.3 times the lowest."""
    lowest = min(perplexity for points in named_points.values() for _, perplexity in points)
    with _drawing() as axes:
        for (label, points), colour, marker in zip(named_points.items(), style.SERIES, style.MARKERS, strict=False):
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5, label=label)
        axes.set(xlabel="kB held", ylabel="perplexity", xscale="log", ylim=(0.97 * lowest, 1.3 * lowest))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(title="(ruined models lie above)")


def decision_regions(axis, named_scores: dict, points, labels) -> None:
    """A map for each entry of `named_scores`: where a classifier says + (score above 0) and where it says -.

    axis          (n,) the coordinate of both axes
    named_scores  label -> (n, n) scores, row i at height axis[i]
    points        (count, 2 or more): the first two columns are drawn; labels (count,) or (count, 1), +1 or -1
    """
    labels = np.ravel(labels)
    kind, look = "Maps of where a classifier says + and where -", {"axes.grid": False}
    with _drawing(1, len(named_scores), kind=kind, look=look, figsize=(7.2, 2.8), squeeze=False) as panels:
        for panel, (name, scores) in zip(panels[0], named_scores.items(), strict=True):
            panel.contourf(axis, axis, scores, [-np.inf, 0, np.inf], colors=[style.QUANTIZED, style.ERROR], alpha=0.25)
            for sign, marker, colour in ((-1, "o", style.QUANTIZED), (1, "^", style.ERROR)):
                panel.scatter(*np.asarray(points)[labels == sign, :2].T, s=5, marker=marker, color=colour)
            panel.set(title=name, aspect="equal", xticks=[], yticks=[])


def row_errors(named_errors: dict) -> None:
    """Bars side by side: the relative error of each row of a matrix, a colour and a hatch for each entry.

    named_errors  label -> (rows,) errors, 0 for an exact row and 1 for one as bad as zeros
    """
    with _drawing(look={"hatch.color": style.PAPER}) as axes:
        width = 0.8 / len(named_errors)
        for i, ((label, errors), hatch) in enumerate(zip(named_errors.items(), ("", "///", "..."), strict=False)):
            places = np.arange(len(errors)) + (i - (len(named_errors) - 1) / 2) * width
            axes.bar(places, 100 * np.asarray(errors), width, color=style.SERIES[i], hatch=hatch, label=label)
        axes.set(xlabel="row", ylabel="relative error (%)", ylim=(0, 112))
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)  # above the bars, which may fill the plot


def sqnr_by_bits(measured: dict, rule: dict, formats: dict) -> None:
    """SQNR against bits: points for `measured`, a dashed line for `rule` (both: bits -> dB), and single formats.

    formats  label -> (bits, dB)
    """
    with _drawing() as axes:
        for sqnrs, look, label in ((rule, "--", "6.02 dB a bit"), (measured, "o", "integers, measured")):
            bits = sorted(sqnrs)
            colour = style.INK if look == "--" else style.QUANTIZED
            axes.plot(bits, [sqnrs[b] for b in bits], look, color=colour, linewidth=1, markersize=5, label=label)
        for name, (bits, sqnr) in formats.items():
            axes.plot(bits, sqnr, "^", color=style.ERROR, markersize=7)
            axes.annotate(name, (bits, sqnr), (-8, 0), textcoords="offset points", ha="right", va="center")
        axes.set(xlabel="bits", ylabel="SQNR (dB)", xticks=sorted(measured))
        axes.legend()


def levels(named_levels: dict, *, x=None, x_label: str) -> None:
    """Number lines below each other: a mark for each level of each entry (label -> levels), over a histogram of `x`."""
    height = 0.5 + 0.38 * len(named_levels) + (0.9 if x is not None else 0)
    with _drawing(kind="Number lines", look={"axes.grid": False}, figsize=(7.2, height)) as axes:
        for row, values in enumerate(named_levels.values()):
            axes.axhline(-row, color=style.FAINT, linewidth=1, zorder=0)
            thickness = 2 if len(values) <= 20 else 0.6
            axes.vlines(values, -row - 0.28, -row + 0.28, color=style.QUANTIZED, linewidth=thickness)
        if x is not None:
            counts, edges = np.histogram(x, bins=60)
            axes.stairs(
                0.6 + 2.2 * counts / counts.max(), edges, baseline=0.6, fill=True, color=style.ORIGINAL, alpha=0.5
            )
        axes.set(xlabel=x_label, yticks=-np.arange(len(named_levels)), yticklabels=list(named_levels))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)


def heat_map(values, rows: list, columns: list, *, x_label: str, y_label: str, digits: int = 3) -> None:
    """A table in colours, on a logarithmic scale: dark cells hold large numbers. Every cell shows its number.

    values  (rows, columns) numbers above 0
    """
    values = np.asarray(values, dtype=float)
    shades = np.log10(values)
    lightest, darkest = shades.min(), max(shades.max(), shades.min() + 1e-9)
    height = 0.9 + 0.36 * len(rows)
    with _drawing(kind="Table in colours", look={"axes.grid": False}, figsize=(7.2, height)) as axes:
        axes.imshow(shades, cmap="Blues", aspect="auto", vmin=lightest, vmax=darkest + 0.3 * (darkest - lightest))
        for (row, column), value in np.ndenumerate(values):
            is_dark = shades[row, column] - lightest > 0.7 * (darkest - lightest)
            text = f"{value:.{digits}g}" if value < 1000 else f"{value:.0e}".replace("e+0", "e")
            axes.text(column, row, text, ha="center", va="center", color=style.PAPER if is_dark else style.INK)
        axes.set(xlabel=x_label, ylabel=y_label, xticks=range(len(columns)), yticks=range(len(rows)))
        axes.set_xticklabels(columns)
        axes.set_yticklabels(rows)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


def llama(config, num_parameters: dict) -> None:
    """What a token goes through in a Llama, and how many parameters each station holds.

    config          a LlamaConfig
    num_parameters  "embedding", "attention" and "feed-forward" -> parameters of the whole model
    """
    width, layers = config.width, config.num_layers
    stations = (
        ("tokens", "words by their numbers", style.PAPER),
        ("embedding", f"{config.vocab_size:,} x {width} = {num_parameters['embedding']:,}", style.SERIES[5]),
        ("attention", f"q, k, v, o of all layers: {num_parameters['attention']:,}", style.HIGHLIGHT),
        ("feed-forward", f"gate, up, down of all layers: {num_parameters['feed-forward']:,}", style.SERIES[3]),
        ("head", "the embedding again", style.SERIES[5]),
        ("logits", f"{config.vocab_size:,}, one for each next token", style.PAPER),
    )
    box = {"boxstyle": "round,pad=0.45", "edgecolor": style.INK}
    with _drawing(kind="Diagram", look={"axes.grid": False}, figsize=(7.2, 4.2)) as axes:
        for i, (name, detail, colour) in enumerate(stations):
            axes.text(0, -i, name, ha="center", va="center", bbox={**box, "facecolor": colour}, fontsize=11)
            axes.text(0.75, -i, detail, ha="left", va="center")
            if i:
                arrow = {"arrowstyle": "->", "color": style.INK, "shrinkA": 14, "shrinkB": 14}
                axes.annotate("", (0, -i), (0, 1 - i), arrowprops=arrow)
        frame = {"fill": False, "edgecolor": style.ORIGINAL, "linestyle": "--"}
        axes.add_patch(plt.Rectangle((-0.65, -3.45), 1.3, 1.9, **frame))
        words = f"{layers} layers of this,\none after another;\neach adds what it finds"
        axes.text(-0.75, -2.5, words, ha="right", va="center")
        axes.set(xlim=(-2.6, 3.6), ylim=(1 - len(stations) - 0.5, 0.5))
        axes.axis("off")


def loss_surface(hessian, weight, named_points: dict, path) -> None:
    """What two weights near `weight` cost in squared output error: contours, dark where it is small.

    hessian       (2, 2): the cost is d @ hessian @ d / 2, for d away from weight. Weights that can be represented are
                  whole numbers
    named_points  label -> (2,), each with its own marker
    path          (count, 2) points that arrows join, one after the other
    """
    path, steps = np.asarray(path, dtype=float), np.arange(-0.5, 1.51, 0.02)
    first, second = (np.floor(value) + steps for value in weight)
    d = np.stack(np.meshgrid(first - weight[0], second - weight[1]), axis=-1)
    cost = np.einsum("...i,ij,...j->...", d, hessian, d) / 2
    with _drawing(kind="Contours", look={"axes.grid": False}, figsize=(6.4, 4)) as axes:
        axes.contour(first, second, cost, levels=cost.max() * np.linspace(0.1, 1, 9) ** 2, cmap="Blues_r")
        corners = np.stack(np.meshgrid(*np.floor(weight)[:, None] + [0, 1]), axis=-1).reshape(-1, 2)
        axes.plot(*corners.T, "+", color=style.INK, markersize=14, label="representable")
        for start, end in itertools.pairwise(path):
            arrow = {"arrowstyle": "->", "color": style.INK, "shrinkA": 6, "shrinkB": 6}
            axes.annotate("", end, start, arrowprops=arrow)
        for (label, point), marker, colour in zip(named_points.items(), style.MARKERS, style.SERIES, strict=False):
            axes.plot(*point, marker, color=colour, markersize=9, linestyle="", label=label)
        axes.set(xlabel="first weight", ylabel="second weight", aspect="equal")
        axes.set(xticks=corners[:2, 0], yticks=corners[::2, 1])
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
