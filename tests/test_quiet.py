"""Tests of standard error while TensorFlow is imported: only its own lines are hidden."""

import os
import signal
import subprocess
import sys

import pytest

from conftest import ROOT, SCRIPT, write_stage

LINES = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795886819.097892    7548 port.cc:153] oneDNN custom operations are on.",
    "E0000 00:00:1795886821.331909    7548 cuda_platform.cc:52] failed call to cuInit: INTERNAL",
    "W0129 17:05:59.000001 12 gpu_device.cc:2256] Cannot dlopen some GPU libraries.",
]
OTHERS = [
    "E0000 00:00:1795886821.331909    7548 cuda_dnn.cc:52] no cuDNN",
    "F0000 00:00:1795886821.331909    7548 cpu_feature_guard.cc:9] compiled to use AVX",
    "module.py:3: FutureWarning: 手机",
    "Import of W0129 port.cc:153] I0000",
    "",
]
PROGRAM = """
import os, sys
from theseus.quiet import quiet_tensorflow
print("before", file=sys.stderr)
with quiet_tensorflow():
    os.write(2, %r)
    print("by Python", file=sys.stderr)
    %s
print("after", file=sys.stderr)
"""
WRITTEN = ("\n".join(line for pair in zip(OTHERS, LINES + LINES) for line in pair) + "\n").encode()


def errors_of(arguments, folder=ROOT, **environment):
    """Runs Python without a log level; returns (exit status, the lines of standard error)."""
    kept = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    process = subprocess.run(
        [sys.executable] + arguments,
        cwd=str(folder),
        env=dict(kept, PYTHONIOENCODING="utf-8", **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return process.returncode, process.stderr.decode("utf-8").split("\n")[:-1]


def test_tensorflows_own_lines_go_and_all_others_come_in_their_order():
    status, errors = errors_of(["-c", PROGRAM % (WRITTEN, "pass")])
    assert (status, errors) == (0, ["before"] + OTHERS + ["by Python", "after"])


def test_an_exception_keeps_its_traceback():
    status, errors = errors_of(["-c", PROGRAM % (WRITTEN, "raise ImportError('no such library')")])
    assert status == 1 and errors[: len(OTHERS) + 2] == ["before"] + OTHERS + ["by Python"]
    assert errors[-1] == "ImportError: no such library" and "Traceback" in "".join(errors)


def test_the_last_words_of_a_process_that_dies_come():
    line = "F0000 00:00:1.2 3 a.cc:1] no AVX"
    status, errors = errors_of(["-c", PROGRAM % ((line + "\n").encode(), "os.abort()")])
    assert (status, errors) == (-signal.SIGABRT, ["before", line, "by Python"])


@pytest.mark.parametrize("level", ["0", "1", "2", "3"])
def test_whose_log_level_asks_for_every_line_gets_it(level):
    program = PROGRAM % (WRITTEN, "print(os.environ['TF_CPP_MIN_LOG_LEVEL'], file=sys.stderr)")
    status, errors = errors_of(["-c", program], TF_CPP_MIN_LOG_LEVEL=level)
    every_line = WRITTEN.decode("utf-8").split("\n")[:-1]
    assert status == 0 and errors[1:-3] == (every_line if level < "2" else OTHERS)
    assert errors[-3:] == ["by Python", level, "after"]


@pytest.mark.skipif(sys.version_info < (3, 8), reason="Keras is a part of TensorFlow 1.15")
def test_keras_is_imported_when_it_is_used_and_not_before():
    program = "import os, sys\nfrom theseus.quiet import import_tensorflow\n"
    program += "tf = import_tensorflow()\nnames = {'keras', 'sklearn', 'pandas'}\n"
    program += "assert not names & set(sys.modules), names & set(sys.modules)\n"
    program += "assert 'TF_USE_LEGACY_KERAS' not in os.environ\n"
    program += "import tensorflow\nprint(tensorflow.keras.layers.Dense(3).units, file=sys.stderr)"
    status, errors = errors_of(["-c", program])
    assert (status, errors[-1:]) == (0, ["3"])


@pytest.mark.parametrize("path, before", [("/nowhere", "pass"), (os.defpath, "os.close(2)")])
def test_without_grep_or_standard_error_the_import_goes_on(path, before):
    program = "import os, sys\n%s\nfrom theseus.quiet import quiet_tensorflow\n" % before
    program += "with quiet_tensorflow():\n  print(1, file=sys.stdout)\nsys.exit(3)"
    assert errors_of(["-c", program], PATH=path) == (3, [])


def test_a_command_has_none_of_them(tmp_path):
    write_stage(tmp_path / "out_2", "successor")
    (tmp_path / "x.txt").write_text("手机\t电脑\n", encoding="utf-8")
    line = "--finetune_suc --do_predict --stage_2_outputdir=out_2 --predict_file=x.txt"
    status, errors = errors_of([SCRIPT] + line.split(), tmp_path)
    assert status == 0, errors
    assert [line for line in errors if "InitializeLog" in line or line.startswith("I0000")] == []
    assert errors[-1].startswith("x.txt: line 1: ")  # What the program itself says.


def test_threads_that_import_at_once_all_go_on():
    program = """
import os, threading, time
from theseus.quiet import quiet_tensorflow
def load():
    with quiet_tensorflow():
        time.sleep(0.2)
        with quiet_tensorflow():
            os.write(2, b"inside\\n")
threads = [threading.Thread(target=load) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join(20)
os.write(2, b"after\\n")
"""
    assert errors_of(["-c", program]) == (0, ["inside"] * 3 + ["after"])
