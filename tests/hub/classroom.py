"""A class on trial: JupyterHub with tools/jupyterhub/jupyterhub_config.py, and students who work through HTTP.

The students are real accounts of this machine, made for the occasion and removed after it; so it takes root and Linux.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import websocket

COURSE = Path(__file__).resolve().parent.parent.parent
_PARTS = ("notebooks", "quantlab_helpers", "tools/jupyterhub")  # what a class needs of the course
_GROUP = "quantlab"  # as in jupyterhub_config.py
_PATIENCE = 240  # seconds that a busy machine may take for anything

# The configuration as it is shipped, but for the ports, which a Hub on the same machine may have already, and for the
# place of the package, which an instructor installs.
_CONFIG = """
load_subconfig({shipped!r})
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub_port}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.Spawner.environment["PYTHONPATH"] = {course!r}
"""


def what_is_missing() -> str:
    """Why a class cannot be held here; empty if it can."""
    if sys.platform != "linux" or os.geteuid():
        return "students are real accounts, which only root can make, on Linux"
    missing = [program for program in ("jupyterhub", "configurable-http-proxy") if not _find(program)]
    where = "install it as tools/jupyterhub/README.md says and name its environment's folder in QUANTLAB_HUB"
    return f"no {' and no '.join(missing)} found: {where}" if missing else ""


def _find(program: str) -> str | None:
    return shutil.which(program, path=_search_path())


def _search_path() -> str:
    """$QUANTLAB_HUB, the environment that this runs in, then the PATH."""
    environments = [os.environ.get("QUANTLAB_HUB"), sys.prefix]
    return os.pathsep.join([*(f"{folder}/bin" for folder in environments if folder), os.environ["PATH"]])


@contextlib.contextmanager
def hold(num_students: int, model: Path | None = None) -> Iterator[Class]:
    """Make accounts, start the Hub and wait until it answers; at the end, stop it and remove the accounts.

    `model` is SmolLM2's file, if the students shall have it.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quantlab-class-")))
        folder.chmod(0o755)
        for part in _PARTS:
            ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(COURSE / part, folder / "course" / part, ignore=ignored)
        if model:
            (folder / "models").mkdir()
            shutil.copy(model, folder / "models" / "SmolLM2.gguf")
        passwords = stack.enter_context(accounts(num_students, [_GROUP]))
        stack.enter_context(_umask(0o022))
        lesson = Class(folder, passwords)
        stack.callback(lesson.stop)
        try:
            wait_until(lesson.answers, "JupyterHub answers")
            yield lesson
        except BaseException:
            print(lesson.log())
            raise


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def accounts(number: int, groups: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """New accounts in some groups, as the instructor makes them: name -> password."""
    tag = secrets.token_hex(2)
    passwords = {f"student-{tag}-{i:02}": secrets.token_urlsafe() for i in range(1, number + 1)}
    new_groups = [group for group in groups if subprocess.run(["groupadd", group], capture_output=True).returncode == 0]
    made = []
    try:
        for name, password in passwords.items():
            subprocess.run(["useradd", "--create-home", "--groups", ",".join(groups), name], check=True)
            made.append(name)
            subprocess.run(["chpasswd"], input=f"{name}:{password}", text=True, check=True)
        yield passwords
    finally:
        for name in made:
            subprocess.run(["userdel", "--remove", name], check=True, stderr=subprocess.DEVNULL)
        for group in new_groups:
            subprocess.run(["groupdel", group], check=True)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Class:
    """A running Hub and its students."""

    def __init__(self, folder: Path, passwords: dict[str, str]):
        self.folder = folder
        port, hub_port, proxy_port = _free_ports(3)
        course = folder / "course"
        config = _CONFIG.format(
            shipped=str(course / "tools" / "jupyterhub" / "jupyterhub_config.py"),
            port=port,
            hub_port=hub_port,
            proxy_port=proxy_port,
            course=str(course),
        )
        self.address = f"http://127.0.0.1:{port}"
        self.students = [Student(self.address, name, password) for name, password in passwords.items()]
        state = folder / "hub"
        state.mkdir(mode=0o700)
        (state / "config.py").write_text(config)
        with (state / "log").open("w") as log:
            command = [_find("jupyterhub"), "-f", state / "config.py"]
            environment = {**os.environ, "PATH": _search_path()}
            self._hub = psutil.Popen(command, cwd=state, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def answers(self) -> bool:
        if not self._hub.is_running() or self._hub.poll() is not None:
            raise RuntimeError("JupyterHub stopped")
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.address}/hub/health").status_code == 200
        return False

    def log(self) -> str:
        return (self.folder / "hub" / "log").read_text()

    def processes(self) -> list[psutil.Process]:
        """The Hub, its proxy, and all that the students run."""
        names = {student.name for student in self.students}
        hub = [self._hub, *self._hub.children(recursive=True)] if self._hub.is_running() else []
        return list({*hub, *(process for process in psutil.process_iter() if _owner(process) in names)})

    def stop(self) -> list[psutil.Process]:
        """Stop the Hub as `systemctl stop` does; return what it left running, which is killed."""
        running = self.processes()
        if self._hub.is_running():
            self._hub.terminate()
        left = psutil.wait_procs(running, timeout=60)[1]
        for process in left:
            process.kill()
        psutil.wait_procs(left)
        return left

    def each(self, work, students=None) -> list:
        """Let all students do `work(student)` at the same time; return what each got."""
        students = students or self.students
        with ThreadPoolExecutor(len(students)) as pool:
            return list(pool.map(work, students))


def _owner(process: psutil.Process) -> str | None:
    try:
        return process.username()
    except psutil.NoSuchProcess:
        return None


def wait_until(condition, what: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {_PATIENCE} s until {what}")
        time.sleep(0.2)


class Student:
    """Somebody with a name and a password, who logs in and works."""

    def __init__(self, address: str, name: str, password: str):
        self.address, self.name, self._password = address, name, password
        self.http = httpx.Client(base_url=address, timeout=_PATIENCE)

    def log_in(self, password: str | None = None) -> bool:
        """Fill in the form as in a browser. From then on, `http` carries a token of this student."""
        form = self.http.get("/hub/login")
        fields = {"username": self.name, "password": password or self._password, "_xsrf": form.cookies["_xsrf"]}
        if self.http.post("/hub/login", data=fields, params={"next": "/hub/home"}).status_code != 302:
            return False
        xsrf = {"X-XSRFToken": self.http.get("/hub/home").cookies.get("_xsrf") or self.http.cookies["_xsrf"]}
        answer = self.http.post(f"/hub/api/users/{self.name}/tokens", headers=xsrf).raise_for_status()
        self.http.cookies.clear()
        self.http.headers["Authorization"] = f"token {answer.json()['token']}"
        return True

    def start_server(self) -> None:
        self.http.post(f"/hub/api/users/{self.name}/server").raise_for_status()
        wait_until(self._server_is_ready, f"the server of {self.name} is ready")

    def stop_server(self) -> None:
        self.http.delete(f"/hub/api/users/{self.name}/server").raise_for_status()
        wait_until(lambda: not self._server_is_ready(), f"the server of {self.name} has stopped")

    def _server_is_ready(self) -> bool:
        user = self.http.get(f"/hub/api/users/{self.name}").raise_for_status().json()
        return bool(user["servers"].get("", {}).get("ready"))

    @property
    def server(self) -> psutil.Process:
        """The process of the student's Jupyter server."""
        theirs = [process for process in psutil.process_iter() if _owner(process) == self.name]
        return next(process for process in theirs if "start_server.py" in " ".join(process.cmdline()))

    def api(self, method: str, path: str, *, of: str | None = None, **options) -> httpx.Response:
        """Ask the Jupyter server (of another student, if `of` is a name)."""
        return self.http.request(method, f"/user/{of or self.name}/api/{path}", **options)

    def open(self, path: str) -> dict:
        """The content of the notebook at `path`."""
        return self.api("GET", f"contents/{path}").raise_for_status().json()["content"]

    def save(self, path: str, notebook: dict) -> None:
        body = {"type": "notebook", "format": "json", "content": notebook}
        self.api("PUT", f"contents/{path}", json=body).raise_for_status()

    def start_kernel(self, folder: str = "quantlab") -> Kernel:
        answer = self.api("POST", "kernels", json={"name": "python3", "path": f"{folder}/x.ipynb"}).raise_for_status()
        return Kernel(self, answer.json()["id"])


class CellError(Exception):
    """What a cell raised: name, message and traceback."""


class KernelDied(Exception):
    pass


class Kernel:
    """A running kernel, spoken to as JupyterLab does."""

    def __init__(self, student: Student, key: str):
        self.student, self.key, self.session = student, key, uuid.uuid4().hex
        address = f"{student.address.replace('http', 'ws', 1)}/user/{student.name}/api/kernels/{key}/channels"
        header = {"Authorization": student.http.headers["Authorization"]}
        self._socket = websocket.create_connection(address, timeout=_PATIENCE, header=header, suppress_origin=True)
        self._socket.settimeout(1)  # for each look; the server's pings would keep a longer one from ever ending

    def close(self) -> None:
        self._socket.close()
        self.student.api("DELETE", f"kernels/{self.key}").raise_for_status()

    def run(self, source: str) -> str:
        """Run a cell; return what it printed. Raises CellError, or KernelDied."""
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}}
        key = self._send("execute_request", {**content, "allow_stdin": False, "stop_on_error": True})
        printed, error, waiting_for = [], None, {"idle", "reply"}
        for message in self._messages(_PATIENCE):
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] in ("restarting", "autorestarting", "dead"):
                raise KernelDied(self.key)
            if not _answers(message, key):
                continue
            if kind == "stream":
                printed.append(content["text"])
            elif kind == "error":
                error = CellError(f"{content['ename']}: {content['evalue']}\n" + "\n".join(content["traceback"]))
            elif kind == "execute_reply":
                waiting_for.discard("reply")
            elif _is_idle(message):
                waiting_for.discard("idle")
            if not waiting_for:
                break
        if error:
            raise error
        return "".join(printed)

    def wait(self) -> None:
        """Wait until the kernel answers and is heard. After a restart, what either side says before that is lost."""
        wait_until(self._is_heard, "the kernel is heard")

    def _is_heard(self) -> bool:
        key = self._send("kernel_info_request", {})
        with contextlib.suppress(TimeoutError):
            return any(_is_idle(message) and _answers(message, key) for message in self._messages(2))
        return False

    def _send(self, kind: str, content: dict) -> str:
        key = uuid.uuid4().hex
        header = {"msg_id": key, "msg_type": kind, "username": "", "session": self.session, "version": "5.3"}
        message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
        self._socket.send(json.dumps(message))
        return key

    def _messages(self, seconds: float) -> Iterator[dict]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                message = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                continue
            yield json.loads(message)
        raise TimeoutError(f"waited {seconds} s for the kernel of {self.student.name}")

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(int(self.run("import os; print(os.getpid())")))


def _is_idle(message: dict) -> bool:
    return message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"


def _answers(message: dict, key: str) -> bool:
    return message["parent_header"].get("msg_id") == key


def code_cells(notebook: dict) -> list[str]:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"]) for cell in cells]


def megabytes(process: psutil.Process) -> dict[str, float]:
    """Memory of a process, in MB (1,000,000 bytes).

    resident       all that it has in memory
    proportional   the same, but what n processes share counts 1/n: over a whole class, these add up to what is taken
    """
    memory = process.memory_full_info()
    return {"resident": memory.rss / 1e6, "proportional": memory.pss / 1e6}
