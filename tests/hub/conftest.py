"""A class of ten, and what JupyterHub runs for each of them."""

import os
import sys

import classroom
import pytest

sys.path.insert(0, str(classroom.COURSE / "tools" / "jupyterhub"))


@pytest.fixture(scope="module")
def lesson():
    """Ten students who have logged in and started their servers, all at the same time."""
    if missing := classroom.what_is_missing():
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with classroom.hold(num_students=10) as lesson:
        assert all(lesson.each(lambda student: student.log_in()))
        lesson.each(lambda student: student.start_server())
        yield lesson
