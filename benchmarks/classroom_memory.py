"""How much memory does a class need? A JupyterHub with real students, who run whole notebooks at the same time.

    sudo /opt/quantlab/env/bin/python benchmarks/classroom_memory.py               # two students
    sudo /opt/quantlab/env/bin/python benchmarks/classroom_memory.py 30 /opt/quantlab/models/SmolLM2*.gguf

It makes an account for each student and removes it at the end, hence the sudo. With SmolLM2's file, the students have
the model, and the notebooks run their cells that need it.

MB are 1,000,000 bytes. `resident` is all that a process has in memory: plan with it where each student has a container.
`proportional` divides what processes share by their number: plan with it where all work on one machine.
`peak` is the most that was resident at any time.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "hub"))

import classroom

NOTEBOOKS = ("01_float32_to_int8", "06_small_language_model", "09_awq_and_smoothquant")
BARE = "a bare kernel"


def measure(kernel):
    """Memory of a kernel's process in MB."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{kernel.process.pid}/status").read_text())
    return {**classroom.megabytes(kernel.process), "peak": int(peak[1]) * 1024 / 1e6}


def run(student, notebook, tell):
    """Run a notebook in a kernel of its own; `tell(step, memory)` at each step that has a name."""
    kernel = student.start_kernel()
    tell(BARE, measure(kernel))
    kernel.run("import quantlab_helpers as ql")
    tell("after import quantlab_helpers", measure(kernel))
    for source in classroom.code_cells(student.open(f"quantlab/{notebook}.ipynb")):
        kernel.run(source)
    tell(f"after notebook {notebook[:2]}", measure(kernel))
    kernel.close()


def main(num_students=2, model=None):
    rows = {}  # step -> what was measured of each student

    def tell(step, memory):
        rows.setdefault(step, []).append(memory)

    with classroom.hold(num_students, model) as lesson:
        assert all(lesson.each(lambda student: student.log_in())), "a student could not log in"
        lesson.each(lambda student: student.start_server())
        for notebook in NOTEBOOKS:
            lesson.each(lambda student, notebook=notebook: run(student, notebook, tell))
        for student in lesson.students:
            tell("the Jupyter server of a student", classroom.megabytes(student.server))
        hub = [classroom.megabytes(process) for process in lesson.processes() if process.username() == "root"]

    print(
        f"{num_students} students at the same time, {'with' if model else 'without'} SmolLM2; the most of any student"
    )
    print(f"{'MB':<34}" + "".join(f"{kind:>14}" for kind in ("resident", "proportional", "peak")))
    for step, memories in rows.items():
        print_row(step, {kind: max(memory[kind] for memory in memories) for kind in memories[0]})
    print_row("Hub, proxy and culler, once", {kind: sum(memory[kind] for memory in hub) for kind in hub[0]})


def print_row(title, memory):
    print(f"{title:<34}" + "".join(f"{value:>14.0f}" for value in memory.values()))


if __name__ == "__main__":
    main(*(int(argument) if argument.isdecimal() else Path(argument) for argument in sys.argv[1:]))
