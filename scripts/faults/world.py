"""The setting of the trials: data, a BERT, a server for commands, and verdicts on their results."""

import collections
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

Disturbance = collections.namedtuple("Disturbance", "death event detail", defaults=("none", 0, 0))
"""The number of a command's file event, and what happens at it; see server.DEATHS."""

UNDISTURBED = Disturbance()

Result = collections.namedtuple("Result", "status output errors events")
"""The result of a command: its exit status, None if it was killed because it took too long; its two
streams, str; and its file events, list of (kind, path)."""

Command = collections.namedtuple("Command", "name argv is_tried", defaults=(True,))
"""A command of the chain: each starts from the result of the one before. A command that is not
tried only runs for the ones after it."""

FORMATS = ("bert", "huggingface", "saved_model", "onnx")

_PATIENCE_S = 120
_LINE = re.compile(r"^run_classifier\.py: .+$")

_CHARACTERS = "我你他的手机怎么办好不好呢吗电脑买卖多少钱天气热冷开关门水火山石"
_CONFIG = {
    "vocab_size": 5 + len(set(_CHARACTERS)),
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "initializer_range": 0.3,
}

_TRAIN = (
    "--do_train --data_dir=. --bert_pretrained_model=bert --suc_layers=1 --train_batch_size=8 "
    "--num_train_epochs=2 --save_checkpoints_steps=2 --max_seq_length=24 --log_steps=1 "
    "--learning_rate=1e-3 --cache_dir=cache --stage_0_outputdir=out_0 --stage_1_outputdir=out_1 "
    "--stage_2_outputdir=out_2"
)
_USE = "--finetune_suc --stage_2_outputdir=out_2 --suc_layers=1 --max_seq_length=24 --data_dir=."


def commands(formats):
    """Returns the Commands of the chain, with exports in a list of formats."""
    found = [
        Command("stage_0", _TRAIN + " --finetune_pre"),
        Command("stage_1", _TRAIN),
        Command("stage_2", _TRAIN + " --finetune_suc --distill_from=out_0"),
        Command("evaluate", _USE + " --do_eval --eval_files=test.txt"),
        Command("predict", _USE + " --do_predict"),
    ]
    for name in formats:
        argv = "%s --do_export --export_format=%s --export_dir=export_%s" % (_USE, name, name)
        found.append(Command("export_" + name, argv))
    return found


class Server(object):
    """A process of server.py."""

    def __init__(self, program, shim=None):
        """Starts it; `shim` is the path of the compiled shim.c, or None for none."""
        environment = dict(os.environ, PYTHONPATH=ROOT)
        if shim:
            environment["LD_PRELOAD"] = shim
        self.program = program
        self._process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            universal_newlines=True,
        )

    def start(self, folder, argv, disturbance=UNDISTURBED, suffix="", **others):
        """Begins a command in a folder; `others` are fields of a request, see server._child.

        Only `patience_s` is not a field: the seconds after which `finish` kills the command.
        """
        names = ("output", "errors", "log")
        self._files = {name: "%s%s.%s" % (folder, suffix, name) for name in names}
        for path in self._files.values():
            if os.path.exists(path):
                os.remove(path)
        request = {
            "argv": argv.split(),
            "folder": folder,
            "streams": [os.devnull, self._files["output"], self._files["errors"]],
            "log": self._files["log"],
            "limits": {},
            "clock_step_s": 0,
            "program": self.program,
            "environment": {},
        }
        request.update(disturbance._asdict())
        request.update(others)
        self._patience_s = request.pop("patience_s", _PATIENCE_S)
        self._child = self.ask(request)

    def ask(self, request):
        """Returns the reply to a request, see server.py."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def finish(self):
        """Waits for the started command; returns its Result."""
        status = self.ask({"process": self._child, "patience_s": self._patience_s})
        texts = []
        for name in ("output", "errors", "log"):
            try:
                with open(self._files[name], encoding="utf-8", errors="replace") as reader:
                    texts.append(reader.read())
            except FileNotFoundError:
                texts.append("")
        events = [tuple(line.split("\t")) for line in texts[2].splitlines()]
        return Result(status, texts[0], texts[1], events)

    def run(self, folder, argv, disturbance=UNDISTURBED, **others):
        """Runs a command in a folder to its end; returns its Result."""
        self.start(folder, argv, disturbance, **others)
        return self.finish()

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def compile_shim(folder):
    """Compiles shim.c into a folder; returns its path, or None if there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    path = os.path.join(folder, "shim.so")
    source = os.path.join(HERE, "shim.c")
    subprocess.check_call([compiler, "-O1", "-shared", "-fPIC", "-o", path, source, "-ldl"])
    return path


def make_data(folder, server):
    """Writes train, dev and test, and a BERT of random weights, which a Server makes."""
    os.makedirs(os.path.join(folder, "bert"))
    source = random.Random(1)
    for name, count in (("train", 40), ("dev", 16), ("test", 12)):
        with open(os.path.join(folder, name + ".txt"), "w", encoding="utf-8") as writer:
            for number in range(count):
                texts = ["".join(source.sample(_CHARACTERS, 6)) for _ in range(2)]
                if number % 2:
                    texts[1] = texts[0][::-1]
                writer.write("%s\t%s\t%d\n" % (texts[0], texts[1], number % 2))
    with open(os.path.join(folder, "bert", "bert_config.json"), "w") as writer:
        json.dump(_CONFIG, writer)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(set(_CHARACTERS))
    with open(os.path.join(folder, "bert", "vocab.txt"), "w", encoding="utf-8") as writer:
        writer.write("\n".join(tokens) + "\n")
    made = server.run(folder, "", program=os.path.join(HERE, "write_bert.py"))
    if made.status != 0:
        raise RuntimeError(made.errors)


# --- What is left of a command ---


def fingerprint(folder):
    """Returns a dict from each file's path in a folder to a hash of its content.

    Times, which differ from run to run, and the machine are left out. So are the curves, with
    times in every record, and the cards of exports, with times in their text.
    """
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if name.startswith("events.out.") or name in ("metrics.jsonl", "README.md"):
                continue
            with open(path, "rb") as reader:
                content = reader.read()
            if name.endswith(".json"):
                content = _without_times(content)
            found[os.path.relpath(path, folder)] = hashlib.sha256(content).hexdigest()
    return found


def _without_times(content):
    try:
        value = json.loads(content.decode("utf-8"))
    except ValueError:
        return content
    return json.dumps(_drop_times(value), sort_keys=True).encode("utf-8")


def _drop_times(value):
    if isinstance(value, list):
        return [_drop_times(member) for member in value]
    if not isinstance(value, dict):
        return value
    # A record's checksum of itself depends on its times, and was checked when it was read.
    dropped = ("environment", "sha256_of_the_rest", "README.md")
    kept = [key for key in value if "second" not in key and key not in dropped]
    return {key: _drop_times(value[key]) for key in kept}


def differences(found, expected):
    """Returns the paths at which two fingerprints differ, sorted list of str."""
    return sorted(
        path for path in set(found) | set(expected) if found.get(path) != expected.get(path)
    )


def verdict(result):
    """Returns the kind of a Result: "done", "line", "killed", or the name of a defect.

    "line" is a message that a user can act on: exit status 1, and no traceback.
    """
    if "Traceback (most recent" in result.errors:
        return "traceback"
    if result.status is None:
        return "hang"
    if result.status == 0:
        return "done"
    if result.status < 0:
        return "killed"
    return "line" if _LINE.match(last_line(result)) else "silent"


def last_line(result):
    """Returns the last line of a Result's standard error, str."""
    lines = [line for line in result.errors.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def steps_lost(killed, resumed):
    """Returns the number of steps that a resumed training repeats, int; None if not logged."""
    done = re.findall(r"step (\d+)/\d+,", killed.errors)
    start = re.findall(r"resuming from \S+ckpt-(\d+)", resumed.errors)
    goes_on = re.search(r"step \d+/\d+,|resuming from", resumed.errors)
    if not done or not goes_on:
        return 0 if done else None
    return max(0, int(done[-1]) - (int(start[0]) if start else 0))
