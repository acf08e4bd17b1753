"""Ten students at once on one JupyterHub, set up as tools/jupyterhub/ is shipped. The tests are one story, in order."""

import json
import threading
from pathlib import Path

import classroom
import psutil
import pytest
from classroom import CellError, KernelDied, Student, code_cells, megabytes

LESSON = "quantlab/01_float32_to_int8.ipynb"
MAX_IMPORT = 120  # MB that the package may add to a kernel


def note(student):
    """What the student types into the lesson."""
    return f"The answer of {student.name}."


def folder_of(student):
    return Path("~" + student.name).expanduser() / "quantlab"


def files_of(student):
    return {path: path.read_bytes() for path in folder_of(student).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def kernels(lesson):
    return lesson.each(lambda student: student.start_kernel())


def test_only_the_class_gets_in(lesson):
    member = Student(lesson.address, lesson.students[0].name, "")
    assert not member.log_in("a wrong password")
    with classroom.accounts(1) as passwords:
        (stranger,) = (Student(lesson.address, *account) for account in passwords.items())
        assert not stranger.log_in()


def test_ten_run_a_notebook_each_at_the_same_time(lesson, kernels):
    def work(kernel):
        student, process = kernel.student, kernel.process
        memory = [megabytes(process)]
        notebook = student.open(LESSON)
        first, *others = code_cells(notebook)
        for sources in (["import quantlab_helpers as ql"], [first], others):
            for source in sources:
                kernel.run(source)
            memory.append(megabytes(process))
        answer = {"cell_type": "markdown", "id": "mine", "metadata": {}, "source": note(student)}
        student.save(LESSON, {**notebook, "cells": [*notebook["cells"], answer]})
        return memory

    memories = lesson.each(work, kernels)
    assert len(memories) == 10
    for step, title in enumerate(("a bare kernel", "after the import", "after the first cell", "after notebook 01")):
        resident, proportional = (max(m[step][which] for m in memories) for which in ("resident", "proportional"))
        print(f"{title:<22} {resident:6.1f} MB, or {proportional:6.1f} MB if what is shared is divided")
    for bare, imported, started, _ in memories:
        assert imported["resident"] - bare["resident"] <= MAX_IMPORT
        assert started["resident"] - bare["resident"] <= MAX_IMPORT


def test_everybody_saved_their_own_answer(lesson):
    for student in lesson.students:
        text = (folder_of(student) / "01_float32_to_int8.ipynb").read_text()
        assert [other.name for other in lesson.students if note(other) in text] == [student.name]


PRYING = """
import os, signal
from pathlib import Path
home, pid = Path({home!r}), {pid}
attempts = dict(
    look=lambda: list(home.iterdir()),
    look_deeper=lambda: list((home / "quantlab").iterdir()),
    read=lambda: (home / {lesson!r}).read_bytes(),
    write=lambda: (home / {lesson!r}).write_text("mine now"),
    connect=lambda: list((home / ".jupyter-run").iterdir()),
    token=lambda: Path(f"/proc/{{pid}}/environ").read_bytes(),
    kill=lambda: os.kill(pid, signal.SIGKILL),
    hub=lambda: Path({hub!r}).read_bytes(),
)
for name, attempt in attempts.items():
    try:
        attempt()
        print(name, "worked")
    except PermissionError:
        pass
print("tried", len(attempts))
if not os.path.lexists("peephole"):
    os.symlink(home / "quantlab", "peephole")
"""


def test_nobody_sees_the_files_of_anybody(lesson, kernels):
    def pry(pair):
        me, other = pair
        home, hub = folder_of(other.student).parent, lesson.folder / "hub" / "jupyterhub_cookie_secret"
        source = PRYING.format(home=str(home), lesson=LESSON, pid=other.student.server.pid, hub=str(hub))
        assert me.run(source) == "tried 8\n"
        # Through the other's server, through a link in one's own folder, and through the Hub.
        for path in (f"contents/{LESSON}", "contents/quantlab", "kernels", "sessions", "terminals"):
            assert me.student.api("GET", path).status_code == 200
            assert me.student.api("GET", path, of=other.student.name).status_code == 403
        for path in ("quantlab/peephole", "quantlab/peephole/01_float32_to_int8.ipynb"):
            assert me.student.api("GET", f"contents/{path}").is_error
        assert me.student.http.get(f"/hub/api/users/{other.student.name}").status_code == 404
        assert me.student.http.get("/hub/api/users").status_code == 403

    lesson.each(pry, list(zip(kernels, kernels[1:] + kernels[:1], strict=True)))


def test_nothing_listens_beyond_this_machine(lesson):
    connections = [connection for process in lesson.processes() for connection in process.net_connections("inet")]
    listening = {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_kernels_talk_through_files_in_the_home(kernels):
    """Kernels that listen on TCP would show what they print to everybody on the machine."""
    for kernel in kernels[:2]:
        (connection,) = (folder_of(kernel.student).parent / ".jupyter-run").glob(f"kernel-{kernel.key}.json")
        assert json.loads(connection.read_text())["transport"] == "ipc"
        with pytest.raises(CellError, match="ModuleNotFoundError"):
            kernel.run("import debugpy")


def test_a_killed_kernel_loses_nothing_that_was_saved(lesson, kernels):
    victim, bystander = kernels[:2]
    before = files_of(victim.student)
    process = victim.process
    victim.run("for i in range(3): print(i, file=open(f'result{i}.txt', 'w'))")

    killer = threading.Timer(2, process.kill)
    killer.start()
    with pytest.raises(KernelDied):
        victim.run("import time; time.sleep(600)")
    assert not process.is_running()

    victim.wait()  # for the one that Jupyter starts by itself
    assert victim.run("print('here again')") == "here again\n"
    results = {folder_of(victim.student) / f"result{i}.txt": f"{i}\n".encode() for i in range(3)}
    assert files_of(victim.student) == before | results
    assert note(victim.student) in json.dumps(victim.student.open(LESSON))
    assert bystander.run("print(ql.__name__)") == "quantlab_helpers\n"  # with all its variables


def test_two_saves_at_the_same_time_leave_one_of_both(lesson):
    """Jupyter's own way of writing leaves a mixture in every second round."""
    student = lesson.students[2]
    notebook = student.open(LESSON)
    texts = ["short", "long" * 100_000, "medium" * 1000]

    def save(text):
        answer = {"cell_type": "markdown", "id": "mine", "metadata": {}, "source": text}
        student.save(LESSON, {**notebook, "cells": [*notebook["cells"][:-1], answer]})

    for _ in range(10):
        lesson.each(save, texts)
        on_disk = json.loads((folder_of(student) / "01_float32_to_int8.ipynb").read_text())
        assert "".join(on_disk["cells"][-1]["source"]) in texts
    assert [path for path in folder_of(student).iterdir() if path.name.startswith(".~")] == []


def test_a_greedy_cell_gets_a_memory_error(kernels):
    greedy = kernels[3]
    with pytest.raises(CellError, match="MemoryError"):
        greedy.run("import numpy as np; everything = np.ones(3 * 10**9, np.int8)")
    assert greedy.run("print(ql.__name__)") == "quantlab_helpers\n"


def test_a_new_version_comes_beside_the_work(lesson):
    student = lesson.students[4]
    before = files_of(student)
    (lesson.folder / "course" / "notebooks" / "01_float32_to_int8.ipynb").write_text("a new version")
    student.stop_server()
    student.start_server()
    new = folder_of(student) / "01_float32_to_int8 (version 2).ipynb"
    after = files_of(student)
    record = folder_of(student) / ".handed_out.json"
    assert {path: content for path, content in after.items() if path != record} == {
        **{path: content for path, content in before.items() if path != record},
        new: b"a new version",
    }


def program(process):
    """The name of the program that an interpreter runs."""
    try:
        return Path(process.cmdline()[1]).name
    except (psutil.NoSuchProcess, IndexError):  # it has just ended
        return ""


def test_the_hub_leaves_no_process(lesson):
    running = lesson.processes()
    assert {"jupyterhub", "configurable-http-proxy", "start_server.py"} <= set(map(program, running))
    assert lesson.stop() == []
    assert lesson.processes() == []
