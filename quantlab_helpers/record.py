"""What a learner has passed: noted as an exercise passes, shown by `ql.progress()`, exported for an instructor.

All of it is one small file on the learner's computer, `progress.json` in the folder that local_files.py names.
"""

from __future__ import annotations

import csv
import getpass
import json
import os
from datetime import datetime
from pathlib import Path

from IPython.display import display

from . import local_files
from .messages import Message
from .tables import Table
from .validation import new_file

# Which exercise is in which notebook, in the order of the course.
NOTEBOOKS = {
    "01_float32_to_int8": ("quantize_symmetric", "affine_qparams"),
    "02_memory_savings": ("int4_packing", "memory_calculator"),
    "03_bit_width_sweep": ("sqnr", "nearest_level"),
    "04_quantized_linear_layer": ("int8_linear", "straight_through"),
    "05_per_channel": ("per_channel", "per_group", "cosine_similarity", "your_tensor"),
    "06_small_language_model": ("perplexity", "kl_divergence", "mixed_precision"),
    "07_bitsandbytes": ("mixed_int8", "normal_levels", "nf4_bits"),
    "08_gptq": ("gptq_column", "gptq_in_order"),
    "09_awq_and_smoothquant": ("choose_alpha", "fold_scales"),
    "10_speed": ("tokens_per_second", "int8_kernel"),
    "11_deploy": ("kv_cache_bytes", "largest_context"),
}
_FILE = "progress.json"  # the name of each exercise that was passed, and when it was for the first time
_problems_told: set[str] = set()


def note_pass(name: str) -> None:
    """Note that the exercise `name` was passed, if it never was before.

    Nothing that happens here stops a notebook: a file that cannot be written is mentioned once.
    """
    try:
        if name not in _passed():
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            local_files.update_json(_FILE, lambda passed: {**passed, name: passed.get(name, now)}, _is_valid)
    except Exception as error:
        if str(error) not in _problems_told:
            _problems_told.add(str(error))
            display(Message("note", "Passed, but not noted for `ql.progress()`.", (f"{error}.",)))


def progress() -> Table:
    """Return a table of the notebooks: how many exercises are passed, when the last one was, and which are left."""
    passed, rows = _passed(), []
    for notebook, exercises in NOTEBOOKS.items():
        times = [passed[name] for name in exercises if name in passed]
        left = ", ".join(name for name in exercises if name not in passed)
        last = max(map(datetime.fromisoformat, times)).strftime("%Y-%m-%d %H:%M") if times else ""
        rows.append([notebook, f"{len(times)} of {len(exercises)}", last, left])
    everything = [name for exercises in NOTEBOOKS.values() for name in exercises]
    caption = f"{len(passed.keys() & set(everything))} of {len(everything)} exercises passed"
    return Table(["notebook", "passed", "last passed", "to do"], rows, caption)


def export_progress(path, *, learner: str | None = None) -> Path:
    """Write a row for each exercise (learner, notebook, exercise, when it was passed) to a new .csv or .json file.

    learner  whose progress it is; if not given, the name of the account on this computer, or "" where it has none

    >>> ql.export_progress("progress.csv", learner="Ada")
    """
    path = new_file(path, "path", (".csv", ".json"))
    if learner is None:
        learner = _account()
    passed = _passed()
    rows = [
        {"learner": learner, "notebook": notebook, "exercise": name, "passed": passed.get(name, "")}
        for notebook, exercises in NOTEBOOKS.items()
        for name in exercises
    ]
    with open(path, "x", encoding="utf-8", newline="") as file:
        if path.suffix == ".json":
            json.dump(rows, file, indent=1, ensure_ascii=False)
        else:
            writer = csv.DictWriter(file, rows[0], lineterminator=os.linesep)
            writer.writeheader()
            writer.writerows(rows)
    return path


def _account() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # it has none; Python 3.13 and newer raise the last, older ones the others
        return ""


def _passed() -> dict[str, str]:
    return local_files.read_json(_FILE, _is_valid)


def _is_valid(passed: dict) -> bool:
    """Whether each value is a time with its zone, so that any two can be compared."""
    return all(isinstance(time, str) and datetime.fromisoformat(time).tzinfo for time in passed.values())
