"""Trains the three stages on two TensorFlows, and resumes each one's checkpoints in the other.

  python scripts/dev/compare_tensorflows.py --other_python=.venv-tf1/bin/python

The trainings have no dropout, since each version draws it differently. For each stage it prints the
largest difference between the losses of all steps, and the number of dev examples that get another
label: once for a training on the other TensorFlow alone, once for a training that the other
TensorFlow resumed half-way. The exit status is 1 if a loss differs by more than
--largest_difference, or if any label differs.
"""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from absl import app, flags

from theseus.training import curves

FLAGS = flags.FLAGS

flags.DEFINE_string("python", ".venv/bin/python", "Python with the first TensorFlow.")
flags.DEFINE_string("other_python", ".venv-tf1/bin/python", "Python with the other TensorFlow.")
flags.DEFINE_string("data_dir", "data/sample", "Folder with train and dev.")
flags.DEFINE_string(
    "bert_pretrained_model", "data/tiny_bert", "BERT folder as Google publishes it."
)
flags.DEFINE_string("learning_rate", "2e-5", "Learning rate of all stages.")
flags.DEFINE_float("largest_difference", 1e-4, "Largest difference of a loss that is accepted.")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STEPS, BATCH = 200, 8
STAGES = (["--finetune_pre"], [], ["--finetune_suc"])


def copy_without_dropout(source, target):
    """Copies a BERT's folder and sets the dropout in the copy's config to 0."""
    shutil.copytree(source, target)
    path = os.path.join(target, "bert_config.json")
    with io.open(path, encoding="utf-8") as reader:
        config = json.load(reader)
    config.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    with io.open(path, "w", encoding="utf-8") as writer:
        writer.write(json.dumps(config))


class Runs(object):
    """The trainings in one folder; each has a folder with its stages."""

    def __init__(self, folder):
        """Takes the folder, which already contains the BERT."""
        self._folder = folder
        self._bert = os.path.join(folder, "bert")

    def output(self, name, stage):
        """Returns the path of a stage's folder."""
        return os.path.join(self._folder, name, "out_%d" % stage)

    def command(self, name, stage, actions):
        """Returns the arguments of run_classifier.py."""
        outputs = ["--stage_%d_outputdir=%s" % (n, self.output(name, n)) for n in range(3)]
        return (
            actions
            + STAGES[stage]
            + outputs
            + [
                "--data_dir=" + FLAGS.data_dir,
                "--bert_pretrained_model=" + self._bert,
                "--suc_layers=2",
                "--learning_rate=" + FLAGS.learning_rate,
                "--train_batch_size=%d" % BATCH,
                "--max_train_examples=%d" % (STEPS * BATCH),
                "--num_train_epochs=1",
                "--max_seq_length=32",
                "--log_steps=10",
            ]
        )

    def run(self, python, name, stage, until=None):
        """Trains a stage and predicts dev; with `until`, stops the training after that step."""
        dev = os.path.join(FLAGS.data_dir, "dev.txt")
        predict = [] if until else ["--do_predict", "--predict_file=" + dev]
        arguments = self.command(name, stage, ["--do_train"] + predict)
        process = subprocess.Popen(
            [python, os.path.join(ROOT, "run_classifier.py")] + arguments,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            encoding="utf-8",
        )
        said = []
        for line in process.stderr:
            said.append(line)
            if until and "step %d/" % until in line:
                process.send_signal(signal.SIGTERM)
        if process.wait() != (1 if until else 0) or (until and "stopped" not in said[-1]):
            sys.exit("compare_tensorflows.py: %s: %s" % (name, "".join(said[-5:])))

    def losses(self, name, stage):
        """Returns the losses of a stage's steps, a dict from step to float."""
        return dict(curves.read_scalars(self.output(name, stage))["loss"])

    def labels(self, name, stage):
        """Returns the labels that are predicted for dev, list of str."""
        path = os.path.join(self.output(name, stage), "predictions.tsv")
        with io.open(path, encoding="utf-8", newline="") as reader:
            return [row["predicted_label"] for row in csv.DictReader(reader, delimiter="\t")]


def compare(runs, name, other, stage):
    """Returns (largest difference of the losses, number of different labels) of two trainings."""
    losses, others = runs.losses(name, stage), runs.losses(other, stage)
    if sorted(losses) != sorted(others) or len(losses) != STEPS:
        sys.exit("compare_tensorflows.py: %s and %s have different steps" % (name, other))
    difference = max(abs(losses[step] - others[step]) for step in losses)
    pairs = zip(runs.labels(name, stage), runs.labels(other, stage))
    return difference, sum(first != second for first, second in pairs)


def main(_):
    """Trains, compares and prints; exits with status 1 if there is a difference."""
    pythons = {"a": FLAGS.python, "b": FLAGS.other_python}
    is_close = True
    with tempfile.TemporaryDirectory() as folder:
        copy_without_dropout(FLAGS.bert_pretrained_model, os.path.join(folder, "bert"))
        runs = Runs(folder)
        for name, python in sorted(pythons.items()):
            version = "import tensorflow.compat.v1 as tf; print(tf.__version__)"
            found = subprocess.check_output([python, "-c", version], stderr=subprocess.DEVNULL)
            print("%s: TensorFlow %s" % (name, found.decode("utf-8").strip()), flush=True)
        for stage in range(3):
            for name, python in sorted(pythons.items()):
                runs.run(python, name, stage)
            for first, second in (("a", "b"), ("b", "a")):
                name = "%s then %s" % (first, second)
                before = os.path.join(folder, first, "out_%d" % (stage - 1))
                if stage:
                    shutil.rmtree(runs.output(name, stage - 1), ignore_errors=True)
                    shutil.copytree(before, runs.output(name, stage - 1))
                runs.run(pythons[first], name, stage, until=STEPS // 2)
                runs.run(pythons[second], name, stage)
            for name, other in (("a", "b"), ("a", "a then b"), ("b", "b then a")):
                difference, labels = compare(runs, name, other, stage)
                is_close = is_close and difference <= FLAGS.largest_difference and not labels
                row = (stage, name, other, difference, labels)
                print("stage %d, %s and %s: losses %.2g, labels %d" % row, flush=True)
    sys.exit(0 if is_close else 1)


if __name__ == "__main__":
    app.run(main)
