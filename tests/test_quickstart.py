"""Tests which commands the bash scripts run; a stub replaces Python."""

import os

import pytest

from conftest import run_bash, stub_project


@pytest.fixture
def project(tmp_path):
    """A copy of the scripts beside a virtual environment whose programs are stubs."""
    stub_project(tmp_path)
    return tmp_path


def run_script(project, name, *arguments, **variables):
    """Runs a script from another folder; returns (exit status, the stubs' command lines)."""
    return run_bash(project, name, *arguments, **variables)[:2]


def test_the_quickstart_compresses_the_sample(project):
    status, lines = run_script(project, "quickstart.sh")
    assert status == 0
    assert lines[-1] == [str(project / "scripts" / "compress.py")]


def test_the_quickstart_ends_at_a_failure(project):
    assert run_script(project, "quickstart.sh", STUB_FAILS="compress.py")[0] == 1


def test_requirements_are_installed_once_and_again_after_they_change(project):
    install = ["-m", "pip", "install", "--quiet", "-r", "requirements-test.txt"]
    itself = ["-m", "pip", "install", "--quiet", "--quiet", "--no-deps", "-e", "."]
    test = ["-m", "pytest", "-q", "-n", "2", "tests/test_a.py"]
    _, lines = run_script(project, "test.sh", "tests/test_a.py")
    assert lines[-3:] == [install, itself, test]
    assert run_script(project, "test.sh", "tests/test_a.py")[1] == [test]
    later = os.stat(str(project / "requirements.txt")).st_mtime + 10**6
    os.utime(str(project / "requirements.txt"), (later, later))
    assert install in run_script(project, "test.sh", "tests/test_a.py")[1]


def test_the_long_tests_are_run_where_they_are_asked_for(project):
    _, lines = run_script(project, "test.sh", "--all", "tests/test_a.py")
    assert lines[-1] == ["-m", "pytest", "-q", "-n", "2", "-m", "tests/test_a.py"]  # And "".


def test_an_environment_that_could_not_be_filled_is_not_called_done(project):
    assert run_script(project, "test.sh", STUB_FAILS="requirements-test.txt")[0] == 1
    status, lines = run_script(project, "test.sh")
    assert (
        status == 0 and ["-m", "pip", "install", "--quiet", "-r", "requirements-test.txt"] in lines
    )
