"""Measures serve.py under load: requests per second and latencies by model and number of clients.

    python scripts/benchmarks/benchmark_server.py out_0 out_2 [--clients=1,8,64]

Each model, a stage's or an export's folder, is served by a process of its own. The clients run on
the same machine and share its processors. Each asks for one example at a time and sends the next
request as soon as it has the answer; the examples are drawn at random from --text_file. With
--transformers each huggingface export is also served by transformers' pipeline, behind the same
server and in the same batches.
"""

import asyncio
import io
import json
import os
import random
import subprocess
import sys
import time
import types

import numpy as np
from absl import app, flags

from theseus.runs import files

FLAGS = flags.FLAGS

HEADER = "%-44s  clients  requests/s   p50 ms   p95 ms   p99 ms  batch"


class PipelineModel(object):
    """A huggingface export in transformers' pipeline, with the methods that serve.py needs."""

    def __init__(self, path):
        """Loads it."""
        import transformers

        with io.open(os.path.join(path, "export.json"), encoding="utf-8") as reader:
            recorded = json.load(reader)
        self.labels = tuple(recorded["labels"])
        self.task = types.SimpleNamespace(num_texts=recorded["num_texts"], is_regression=False)
        self._length = recorded["max_seq_length"]
        self._pipeline = transformers.pipeline("text-classification", model=path, top_k=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def classify(self, rows, batch_size):
        """Works as Classifier.classify does."""
        if self.task.num_texts == 2:
            rows = [{"text": first, "text_pair": second} for first, second in rows]
        given = dict(batch_size=batch_size, truncation=True, max_length=self._length)
        found = []
        for scores in self._pipeline(rows, **given):
            by_label = {one["label"]: one["score"] for one in scores}
            probabilities = [by_label[label] for label in self.labels]
            found.append((max(by_label, key=by_label.get), probabilities))
        return found


def read_bodies(path):
    """Returns a request, a JSON object, for each line of a file, in random order."""
    bodies = []
    with io.open(path, encoding="utf-8") as reader:
        for line in reader:
            texts = line.rstrip("\n").split("\t")[:2]
            named = dict(zip(("text_a", "text_b"), texts))
            bodies.append(json.dumps(named, ensure_ascii=False).encode("utf-8"))
    random.Random(0).shuffle(bodies)
    return bodies


# --- The clients ---


async def ask(host, port, bodies, end, seconds):
    """Asks over one connection until `end`; adds the time of each answer to `seconds`.

    It implements only the HTTP that serve.py's answers need: a complete client would take much of
    the processors that it shares with the server.
    """
    reader, writer = await asyncio.open_connection(host, port)
    for body in bodies:
        head = "POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        begin = time.perf_counter()
        if begin > end:
            break
        writer.write(head.encode("ascii") + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(answer.split("content-length:")[1].split("\r\n")[0])
        await reader.readexactly(length)
        if " 200 " not in answer.split("\r\n")[0] + " ":
            raise RuntimeError(answer.split("\r\n")[0])
        seconds.append(time.perf_counter() - begin)
    writer.close()


async def load(host, port, bodies, clients, duration):
    """Returns the time of each request, list of float, of some clients during some seconds."""
    seconds, end = [], time.perf_counter() + duration
    many = bodies * (1 + 100000 // len(bodies))
    starts = [len(bodies) * number // clients for number in range(clients)]
    await asyncio.gather(*(ask(host, port, many[start:], end, seconds) for start in starts))
    return seconds


def batch_counts(host, port):
    """Returns the numbers of batches and of examples in them that a server has computed so far."""
    import urllib.request

    text = urllib.request.urlopen("http://%s:%d/metrics" % (host, port)).read().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return float(values["batch_size_count"]), float(values["batch_size_sum"])


def measure(host, port, bodies, clients):
    """Returns the figures of a row, a dict; the first second is not counted."""
    asyncio.run(load(host, port, bodies, clients, 1.0))
    before, begin = batch_counts(host, port), time.perf_counter()
    seconds = asyncio.run(load(host, port, bodies, clients, FLAGS.seconds))
    taken = time.perf_counter() - begin
    batches, examples = np.subtract(batch_counts(host, port), before)
    p50, p95, p99 = (1000 * float(np.percentile(seconds, share)) for share in (50, 95, 99))
    return dict(
        clients=clients,
        requests_per_second=len(seconds) / taken,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        batch_size=examples / batches,
    )


# --- The servers ---


def start(path, is_pipeline):
    """Returns (process, host, port) of a server of a model, once it answers."""
    here = os.path.abspath(__file__)
    scripts = os.path.dirname(os.path.dirname(here))
    script = here if is_pipeline else os.path.join(scripts, "serve.py")
    more = ["--serve_pipeline"] if is_pipeline else []
    command = [sys.executable, script, path, "--port=0"] + more
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True
    )
    for line in process.stdout:
        if line.startswith("serving "):
            host, port = line.split("//")[1].rsplit(":", 1)
            return process, host, int(port)
    raise RuntimeError("%s ended with status %d" % (" ".join(command), process.wait()))


def run(paths):
    """Measures all models, prints a row for each, and returns the rows."""
    served = [(path, False) for path in paths]
    if FLAGS.transformers:
        served += [(path, True) for path in paths if os.path.exists(path + "/model.safetensors")]
    rows, bodies = [], read_bodies(FLAGS.text_file)
    print(HEADER % "model", flush=True)
    for path, is_pipeline in served:
        name = "transformers: " + path if is_pipeline else path
        process, host, port = start(path, is_pipeline)
        try:
            for clients in map(int, FLAGS.clients):
                row = dict(model=name, **measure(host, port, bodies, clients))
                rows.append(row)
                print(format_row(row), flush=True)
        finally:
            process.terminate()
            process.wait()
    return rows


def format_row(row):
    """Returns a row of the table, str."""
    return "%-44s  %7d  %10.1f  %7.1f  %7.1f  %7.1f  %5.1f" % (
        row["model"],
        row["clients"],
        row["requests_per_second"],
        row["p50_ms"],
        row["p95_ms"],
        row["p99_ms"],
        row["batch_size"],
    )


def main(argv):
    """Prints the table; with --serve_pipeline it runs as one of the servers."""
    if len(argv) < 2:
        sys.exit("benchmark_server.py: give the folders of stages or exports, such as out_0 out_2")
    if FLAGS.serve_pipeline:
        serve.serve(argv[1], PipelineModel)
        return
    rows = run(argv[1:])
    if FLAGS.json:
        files.write_json(FLAGS.json, rows)


if __name__ == "__main__":
    import serve

    flags.DEFINE_string(
        "text_file", "data/sample/dev.txt", "File of examples, texts separated by tabs."
    )
    flags.DEFINE_list("clients", ["1", "8", "64"], "Numbers of clients that ask at the same time.")
    flags.DEFINE_float("seconds", 10.0, "Seconds of each measurement.", 0.1)
    flags.DEFINE_bool(
        "transformers", False, "Also serve huggingface exports with transformers' pipeline."
    )
    flags.DEFINE_bool("serve_pipeline", False, "Internal: run as the server of the pipeline.")
    flags.DEFINE_string("json", None, "JSON file for the rows.")
    app.run(main)
