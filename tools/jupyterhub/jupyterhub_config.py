"""JupyterHub for a class on one Linux machine. README.md, beside this file, says how to set it up.

Safe as it stands: it listens on this machine alone, and lets in nobody but the accounts of one group, with their
passwords. Each student works as a Unix user of their own, and the system keeps them apart.
"""

import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
COURSE = HERE.parent.parent  # for everybody to read, for nobody but root to write
MODELS = COURSE.parent / "models"  # SmolLM2, downloaded once for all

c = get_config()  # noqa: F821 (JupyterHub defines it)
os.umask(0o077)  # the Hub's own files, too, are nobody else's

# With a debugger, a kernel opens a port through which anybody on the machine may run code as that student.
if importlib.util.find_spec("debugpy"):
    raise SystemExit(f"Students could get at each other's kernels; run: {sys.executable} -m pip uninstall debugpy")

# Who: a password that Linux knows, and the group. There are no administrators.
c.JupyterHub.authenticator_class = "pam"
c.LocalAuthenticator.allowed_groups = {"quantlab"}

# Where: this machine only. For a class, put a web server with HTTPS in front.
c.JupyterHub.bind_url = "http://127.0.0.1:8000"

# What each student gets: a server that runs as that student, in their own home.
c.JupyterHub.spawner_class = "jupyterhub.spawner.LocalProcessSpawner"
c.Spawner.cmd = [sys.executable, str(HERE / "start_server.py")]
c.Spawner.args = [
    "--KernelManager.transport=ipc",  # kernels talk through files in the student's home: on TCP, others could listen
    "--ServerApp.contents_manager_class=whole_files.WholeFiles",
]
c.Spawner.notebook_dir = "~"
c.Spawner.default_url = "/lab/tree/quantlab/00_start_here.ipynb"
c.Spawner.start_timeout = c.Spawner.http_timeout = 180  # seconds, for when the whole class logs in at once

# How much: memory for each kernel (a cell that asks for more gets a MemoryError), one core for each.
c.Spawner.mem_limit = "2G"
c.Spawner.environment = {
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "QUANTLAB_NOTEBOOKS": os.environ.get("QUANTLAB_NOTEBOOKS", str(COURSE / "notebooks")),
    # Compiled kernels (notebook 10) are kept in each student's ~/.cache/numba. One cache for all would let each
    # student run code as every other: numba unpickles what it finds there.
}
if model := next(MODELS.glob("SmolLM2*.gguf"), None):
    c.Spawner.environment["QUANTLAB_SMOLLM2"] = str(model)

# How long: a kernel whose notebook is closed stops after an hour, and so does the server of a student who left. What
# was saved is there at the next log-in.
c.Spawner.args.append("--MappingKernelManager.cull_idle_timeout=3600")
c.JupyterHub.services = [
    {"name": "idle-culler", "command": [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=3600"]}
]
c.JupyterHub.load_roles = [
    {
        "name": "idle-culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["idle-culler"],
    }
]
