"""Measures the processor time to the first answer and the memory after a thousand answers.

    python scripts/benchmarks/benchmark_start.py out_compressed/model [...] [--peer_python=PATH]

Each row is a process of its own: `Classifier` on each given folder, and if the Python at PATH has
them, transformers' pipeline on a Hugging Face export and optimum's ORTModel on an ONNX export.
It prints the seconds of processor time from the start to the first answer, the largest resident set
after 1,000 answers, and whether TensorFlow or torch was imported.
"""

import argparse
import json
import os
import subprocess
import sys

_OURS = """
from theseus import Classifier
model = Classifier(sys.argv[1])
ask = lambda text: model.classify([text if model.task.num_texts == 1 else (text, text)])
"""
_PIPELINE = """
from transformers import pipeline
model = pipeline("text-classification", model=sys.argv[1])
ask = lambda text: model({"text": text, "text_pair": text}, truncation=True)
"""
_OPTIMUM = """
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer, pipeline
model = ORTModelForSequenceClassification.from_pretrained(sys.argv[1])
model = pipeline("text-classification", model=model,
                 tokenizer=AutoTokenizer.from_pretrained(sys.argv[1]))
ask = lambda text: model({"text": text, "text_pair": text}, truncation=True)
"""
_MEASURED = """
import json, resource, sys
%s
ask("手机坏了怎么办")
used = resource.getrusage(resource.RUSAGE_SELF)
for number in range(1000):
    ask("手机坏了怎么办 %%d" %% number)
print(json.dumps({
    "first_answer_s": used.ru_utime + used.ru_stime,
    "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "imported": [name for name in ("tensorflow", "torch") if name in sys.modules],
}))
"""


def contenders(folder, peer_python):
    """Yields (name, Python, program) for each library that can open a folder."""
    yield "Classifier", sys.executable, _OURS
    is_onnx = os.path.exists(os.path.join(folder, "model.onnx"))
    package, program = ("optimum", _OPTIMUM) if is_onnx else ("transformers", _PIPELINE)
    if not subprocess.call([peer_python, "-c", "import " + package], stderr=subprocess.DEVNULL):
        yield package, peer_python, program


def measure(folder, python, program):
    """Runs a process that asks a folder's model; returns the figures that it prints, a dict."""
    output = subprocess.check_output([python, "-c", _MEASURED % program, folder])
    return json.loads(output.decode("utf-8").splitlines()[-1])


def main(arguments):
    """Prints a row for each contender and folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", help="exports, such as out_compressed/model")
    parser.add_argument("--peer_python", default=sys.executable, help="a Python with the peers")
    options = parser.parse_args(arguments)
    print("first answer   after 1,000   imported          model")
    for folder in options.folders:
        for name, python, program in contenders(folder, options.peer_python):
            row = measure(folder, python, program)
            imported = ", ".join(row["imported"]) or "-"
            print(
                "%10.2f s   %8.0f MB   %-16s  %s, %s"
                % (row["first_answer_s"], row["mb"], imported, name, folder)
            )


if __name__ == "__main__":
    main(sys.argv[1:])
