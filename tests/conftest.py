"""Settings for every test."""

import atexit
import os
import shutil
import tempfile

import matplotlib
from hypothesis import settings

# Tests and notebook kernels run side by side on all cores: one thread each, or they wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# No test, and no notebook that a test runs, reads or writes the files of whoever runs it.
os.environ["QUANTLAB_HOME"] = tempfile.mkdtemp(prefix="quantlab-tests-")
atexit.register(shutil.rmtree, os.environ["QUANTLAB_HOME"], ignore_errors=True)

# The same examples in every run, so that a failure in CI fails here too; no limit of time on a busy machine.
settings.register_profile("quantlab", derandomize=True, deadline=None)
settings.load_profile("quantlab")

# Figures that tests draw in this process stay off the screen. (Not by MPLBACKEND: notebook kernels would inherit it.)
matplotlib.use("Agg")
